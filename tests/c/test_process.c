/* Title, user, and life in the background, each tried in a child. */
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "harness.h"
#include "proc/daemon.h"
#include "proc/privileges.h"
#include "proc/title.h"

static size_t
read_file(const char *path, char *text, size_t room)
{
    int fd = open(path, O_RDONLY);
    ssize_t n = read(fd, text, room - 1);

    close(fd);
    CHECK(n >= 0);
    text[n] = '\0';
    return (size_t)n;
}

/* Returns the exit code of a child that runs `check`. */
static int
in_child(int (*check)(void))
{
    int status;
    pid_t pid = fork();

    if (pid == 0) {
        _exit(check());
    }
    CHECK(pid > 0 && waitpid(pid, &status, 0) == pid);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 256 + status;
}

static int
take_title(void)
{
    char before[4096], after[4096], text[8192], name[16];
    size_t room = read_file("/proc/self/cmdline", before, sizeof(before)), end;

    pws_title_set("short", "one: two [three]");
    (void)prctl(PR_GET_NAME, name);
    end = read_file("/proc/self/cmdline", after, sizeof(after));
    if (strcmp(name, "short") != 0 || end > room ||
        strncmp(after, "one: two [three]", room - 1) != 0) {
        return 1;
    }
    memset(text, 'x', sizeof(text) - 1);
    text[sizeof(text) - 1] = '\0';
    pws_title_set("a name that is much too long", text);
    end = read_file("/proc/self/cmdline", after, sizeof(after));
    return end != room || strspn(after, "x") != room - 1;
}

TEST(a_title_replaces_the_words_of_the_command_and_nothing_behind_them)
{
    CHECK_EQ(in_child(take_title), 0);
}

static int
drop_all(void)
{
    const gid_t many[] = {1, 2, 3};
    const pws_privileges wanted = {65534, 65534, NULL};
    char why[256];

    if (setgroups(3, many) < 0 || pws_privileges_drop(&wanted, why, sizeof(why)) < 0) {
        return 1;
    }
    return getuid() != 65534 || geteuid() != 65534 || getgid() != 65534 ||
           getgroups(0, NULL) != 1 || setuid(0) == 0 || setgid(0) == 0;
}

static int
forbid_new(void)
{
    char why[256];

    if (prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) != 0 ||
        pws_privileges_forbid_new(why, sizeof(why)) < 0) {
        return 1;
    }
    return prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) != 1;
}

static int
drop_with_groups(void)
{
    const pws_privileges wanted = {65534, 7, "nobody"};
    char why[256];
    gid_t groups[64];
    int n, had = 0;

    if (pws_privileges_drop(&wanted, why, sizeof(why)) < 0) {
        return 1;
    }
    n = getgroups(64, groups);
    for (int i = 0; i < n; i++) {
        had += groups[i] == 7;
        if (groups[i] == 0) {
            return 2;
        }
    }
    return had != 1 || getegid() != 7;
}

static int
drop_again(void)
{
    const pws_privileges mine = {65534, 65534, NULL}, other = {65533, 65534, NULL};
    char why[256];

    if (pws_privileges_drop(&mine, why, sizeof(why)) < 0 ||
        pws_privileges_drop(&mine, why, sizeof(why)) < 0) {
        return 1;
    }
    return pws_privileges_drop(&other, why, sizeof(why)) == 0 ||
           strstr(why, "only root") == NULL;
}

TEST(root_becomes_another_user_for_good)
{
    if (geteuid() == 0) { /* else there is nothing to drop */
        CHECK_EQ(in_child(drop_all), 0);
        CHECK_EQ(in_child(drop_with_groups), 0);
        CHECK_EQ(in_child(drop_again), 0);
    }
}

TEST(new_rights_are_forbidden_for_good)
{
    CHECK_EQ(in_child(forbid_new), 0);
}

static pid_t
plain_fork(void)
{
    return fork();
}

static pid_t
no_fork(void)
{
    errno = EAGAIN;
    return -1;
}

static const char *report;
static int answer;

/* A caller and its daemon, which reports and answers; 100 when it is no daemon. */
static int
run_daemon(void)
{
    pws_daemon daemon;
    unsigned char code = (unsigned char)answer;
    int rc = pws_daemon_begin(&daemon, plain_fork), end;

    if (rc == 0) {
        if (getsid(0) == getpid() || isatty(0) || getppid() == getpid()) {
            code = 100;
        }
        (void)!write(2, report, strlen(report));
        if (answer >= 0) {
            (void)!write(daemon.status_fd, &code, 1);
        }
        _exit(0);
    }
    do {
        end = rc < 0 ? 101 : pws_daemon_watch(&daemon);
    } while (end < 0 && errno == EINTR);
    return end;
}

/* What the caller writes to its stderr goes to `text`. */
static int
watched(const char *what, int code, char *text, size_t room)
{
    int ends[2], saved = dup(2), end;
    ssize_t n;

    report = what;
    answer = code;
    CHECK_EQ(pipe(ends), 0);
    CHECK(dup2(ends[1], 2) == 2);
    close(ends[1]);
    end = in_child(run_daemon);
    CHECK(dup2(saved, 2) == 2);
    close(saved);
    n = read(ends[0], text, room - 1);
    close(ends[0]);
    text[n > 0 ? n : 0] = '\0';
    return end;
}

TEST(the_caller_of_a_daemon_gets_its_words_and_its_code)
{
    char text[256];

    CHECK_EQ(watched("it is up\n", 0, text, sizeof(text)), 0);
    CHECK(strcmp(text, "it is up\n") == 0);
    CHECK_EQ(watched("no such app\n", 4, text, sizeof(text)), 4);
    CHECK(strcmp(text, "no such app\n") == 0);
}

TEST(a_daemon_that_dies_is_a_failure)
{
    char text[256];

    CHECK_EQ(watched("oh\n", -1, text, sizeof(text)), 1);
    CHECK(strcmp(text, "oh\n") == 0);
}

TEST(a_daemon_that_cannot_be_forked_is_an_error)
{
    pws_daemon daemon;

    CHECK_EQ(pws_daemon_begin(&daemon, no_fork), -1);
    CHECK_EQ(errno, EAGAIN);
}
