#include "proc/daemon.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdbool.h>
#include <sys/stat.h>
#include <unistd.h>

/* What is left when the daemon has died without a word. */
#define DIED 1

#define UMASK 022

static void
close_both(const int ends[2])
{
    if (ends[0] >= 0) {
        close(ends[0]);
        close(ends[1]);
    }
}

/* The daemon's side of stdio. */
static int
take_stdio(int report_fd)
{
    int null = open("/dev/null", O_RDWR | O_CLOEXEC);

    if (null < 0 || dup2(null, 0) < 0 || dup2(null, 1) < 0 || dup2(report_fd, 2) < 0) {
        return -1;
    }
    if (null > 2) {
        close(null);
    }
    if (report_fd > 2) {
        close(report_fd);
    }
    return 0;
}

/* In the first child. Returns in the second one. */
static void
detach(pid_t (*fork_process)(void))
{
    pid_t pid;

    (void)setsid();
    /* No leader of a session: it cannot get a terminal by opening one. */
    pid = fork_process();
    if (pid != 0) {
        _exit(pid > 0 ? 0 : DIED);
    }
}

int
pws_daemon_begin(pws_daemon *daemon, pid_t (*fork_process)(void))
{
    int report[2] = {-1, -1}, status[2] = {-1, -1};
    pid_t pid = -1;

    *daemon = (pws_daemon){-1, -1, -1};
    if (pipe2(report, O_CLOEXEC) == 0 && pipe2(status, O_CLOEXEC) == 0) {
        pid = fork_process();
    }
    if (pid < 0) {
        int saved = errno;

        close_both(report);
        close_both(status);
        errno = saved;
        return -1;
    }
    if (pid == 0) {
        detach(fork_process);
        close(report[0]);
        close(status[0]);
        (void)umask(UMASK);
        daemon->status_fd = status[1];
        return take_stdio(report[1]);
    }
    close(report[1]);
    close(status[1]);
    (void)fcntl(report[0], F_SETFL, O_NONBLOCK);
    daemon->report_fd = report[0];
    daemon->answer_fd = status[0];
    return 1;
}

/* Pass on what is there. Returns whether more may come. */
static bool
pass_on(int from)
{
    char bytes[4096];
    ssize_t n;

    while ((n = read(from, bytes, sizeof(bytes))) > 0) {
        for (ssize_t at = 0, done; at < n; at += done) {
            done = write(2, bytes + at, (size_t)(n - at));
            if (done < 0) {
                break; /* nobody reads it: the daemon is not to wait for that */
            }
        }
    }
    return n < 0 && (errno == EAGAIN || errno == EINTR);
}

int
pws_daemon_watch(pws_daemon *daemon)
{
    for (;;) {
        struct pollfd fds[2] = {{.fd = daemon->answer_fd, .events = POLLIN},
                                {.fd = daemon->report_fd, .events = POLLIN}};
        unsigned char code = DIED;

        if (poll(fds, 2, -1) < 0) {
            return -1;
        }
        if (fds[0].revents == 0) {
            if (fds[1].revents != 0 && !pass_on(daemon->report_fd)) {
                close(daemon->report_fd);
                daemon->report_fd = -1; /* poll() leaves it out */
            }
            continue;
        }
        if (read(daemon->answer_fd, &code, 1) < 0) {
            return -1;
        }
        if (daemon->report_fd >= 0) {
            (void)pass_on(daemon->report_fd); /* it was written before the answer */
            close(daemon->report_fd);
        }
        close(daemon->answer_fd);
        *daemon = (pws_daemon){-1, -1, -1};
        return code;
    }
}
