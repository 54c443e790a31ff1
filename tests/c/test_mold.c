/* What a master and its mold say to each other, and forks past one's own children. */
#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "harness.h"
#include "proc/mold.h"

TEST(a_request_arrives_with_its_descriptors)
{
    pws_mold_request asked = {.cell = 7, .nonce = 9, .number = 70000, .fd_count = 3},
                     heard;
    int ends[2], pipes[2];
    char byte;

    CHECK_EQ(pws_mold_connect(ends), 0);
    CHECK_EQ(pipe(pipes), 0);
    asked.fds[0] = pipes[0];
    asked.fds[1] = 1;
    asked.fds[2] = pipes[1];
    CHECK_EQ(pws_mold_ask(ends[1], &asked), 0);
    CHECK_EQ(pws_mold_hear(ends[0], &heard), 1);
    CHECK_EQ(heard.cell, 7);
    CHECK_EQ(heard.nonce, 9);
    CHECK_EQ(heard.number, 70000);
    CHECK_EQ(heard.order, 0);
    CHECK_EQ(heard.fd_count, 3);
    CHECK_EQ(write(heard.fds[2], "x", 1), 1);
    CHECK(read(pipes[0], &byte, 1) == 1 && byte == 'x');
    for (int i = 0; i < 3; i++) {
        CHECK(heard.fds[i] > 2 && heard.fds[i] != asked.fds[i]);
        close(heard.fds[i]);
    }
    close(pipes[0]);
    close(pipes[1]);
    close(ends[0]);
    close(ends[1]);
}

TEST(orders_and_requests_come_one_by_one)
{
    pws_mold_request asked = {.number = 5, .fd_count = 1}, heard;
    int ends[2];

    CHECK_EQ(pws_mold_connect(ends), 0);
    CHECK_EQ(write(ends[1], "\4", 1), 1);
    CHECK_EQ(pws_mold_ask(ends[1], &asked), 0);
    CHECK_EQ(write(ends[1], "\1", 1), 1);
    CHECK_EQ(pws_mold_hear(ends[0], &heard), 1);
    CHECK_EQ(heard.order, 4);
    CHECK_EQ(heard.fd_count, 0);
    CHECK_EQ(pws_mold_hear(ends[0], &heard), 1);
    CHECK_EQ(heard.order, 0);
    CHECK_EQ(heard.number, 5);
    close(heard.fds[0]);
    CHECK_EQ(pws_mold_hear(ends[0], &heard), 1);
    CHECK_EQ(heard.order, 1);
    close(ends[1]);
    CHECK_EQ(pws_mold_hear(ends[0], &heard), 0);
    close(ends[0]);
}

TEST(who_asks_never_waits)
{
    pws_mold_request asked = {.fd_count = 1};
    int ends[2], rc = 0;

    CHECK_EQ(pws_mold_connect(ends), 0);
    for (int i = 0; i < 100000 && rc == 0; i++) {
        rc = pws_mold_ask(ends[1], &asked);
    }
    CHECK_EQ(rc, -1);
    CHECK(errno == EAGAIN || errno == ETOOMANYREFS);
    close(ends[0]);
    CHECK_EQ(pws_mold_ask(ends[1], &asked), -1); /* and no SIGPIPE */
    close(ends[1]);
}

static void
nothing(void)
{
}

static const pws_mold_fork_calls calls = {nothing, nothing, nothing};

TEST(what_a_mold_forks_is_a_child_of_its_master)
{
    int told[2], status, rc;
    pid_t mold, worker = 0;

    CHECK_EQ(pipe(told), 0);
    CHECK_EQ(prctl(PR_SET_CHILD_SUBREAPER, 1), 0);
    mold = fork();
    if (mold == 0) {
        pid_t master = getppid();

        rc = pws_mold_fork(&calls);
        if (rc == 0) {
            worker = getpid();
            (void)!write(told[1], &worker, sizeof(worker));
            _exit(getppid() == master ? 42 : 1);
        }
        /* Nobody is left for the mold to wait for. */
        _exit(rc == 1 && waitpid(-1, &status, WNOHANG) < 0 && errno == ECHILD ? 0 : 1);
    }
    CHECK(waitpid(mold, &status, 0) == mold && status == 0);
    CHECK_EQ(read(told[0], &worker, sizeof(worker)), (long)sizeof(worker));
    CHECK(waitpid(worker, &status, 0) == worker);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 42);
    CHECK_EQ(prctl(PR_SET_CHILD_SUBREAPER, 0), 0);
    close(told[0]);
    close(told[1]);
}
