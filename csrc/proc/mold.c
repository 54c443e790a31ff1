#include "proc/mold.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/passing.h"

/* What travels beside the descriptors. */
typedef struct {
    uint32_t cell, nonce, number;
} letter;

int
pws_mold_connect(int ends[2])
{
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) < 0) {
        return -1;
    }
    return fcntl(ends[1], F_SETFL, O_NONBLOCK);
}

int
pws_mold_ask(int fd, const pws_mold_request *request)
{
    letter text = {request->cell, request->nonce, request->number};
    int fds[PWS_MOLD_FDS_MAX];
    const pws_parcel parcel = {
        .text = &text, .size = sizeof(text), .fds = fds, .count = request->fd_count};

    memcpy(fds, request->fds, request->fd_count * sizeof(int));
    return pws_pass_send(fd, &parcel);
}

int
pws_mold_hear(int fd, pws_mold_request *request)
{
    letter text = {0, 0, 0};
    pws_parcel parcel = {.text = &text, .size = sizeof(text), .fds = request->fds};
    ssize_t n = pws_pass_receive(fd, &parcel);
    unsigned char order;

    if (n <= 0) {
        return (int)n;
    }
    request->fd_count = parcel.count;
    memcpy(&order, &text, 1);
    request->order = n == 1 ? order : 0;
    request->cell = text.cell;
    request->nonce = text.nonce;
    request->number = text.number;
    return 1;
}

/* In the first child, which has done its part when it has forked the second. Returns in
 * that one, once it has its new parent. */
static void
fork_again(const pws_mold_fork_calls *calls, const struct sigaction *on_child)
{
    pid_t between = getpid(), pid = fork();

    if (pid != 0) {
        _exit(pid < 0);
    }
    while (getppid() == between) {
        sched_yield();
    }
    (void)sigaction(SIGCHLD, on_child, NULL);
    calls->in_child();
}

int
pws_mold_fork(const pws_mold_fork_calls *calls)
{
    const struct sigaction plain = {.sa_handler = SIG_DFL};
    struct sigaction on_child;
    int status = 0;
    pid_t pid;

    calls->before();
    (void)sigaction(SIGCHLD, &plain, &on_child); /* ignored, it would leave no status */
    pid = fork();
    if (pid == 0) {
        fork_again(calls, &on_child);
        return 0;
    }
    calls->in_parent();
    /* A thread of the app may take the status: the worker itself says that it is there.
     */
    while (pid > 0 && waitpid(pid, &status, 0) < 0 && errno == EINTR) {
    }
    (void)sigaction(SIGCHLD, &on_child, NULL);
    if (pid < 0) {
        return -1;
    }
    if (status != 0) {
        errno = EAGAIN;
        return -1;
    }
    return 1;
}
