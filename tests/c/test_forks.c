/* base/forks.c: a descriptor is closed alone only while no child has a copy of it. */
#include "harness.h"

#include <fcntl.h>
#include <pthread.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/forks.h"

static int
open_one(void)
{
    int fd = open("/dev/null", O_RDONLY | O_CLOEXEC);

    CHECK(fd >= 0);
    return fd;
}

/* Returns whether it was closed. */
static bool
closes_alone(void)
{
    int fd = open_one();
    bool alone = pws_forks_close(fd);

    if (!alone) {
        CHECK_EQ(close(fd), 0); /* it is open still */
    }
    return alone;
}

TEST(until_somebody_looks_out_there_may_be_children)
{
    CHECK(!closes_alone());
}

TEST(without_a_fork_a_descriptor_is_closed)
{
    int fd;

    pws_forks_watch();
    fd = open_one();
    CHECK(pws_forks_close(fd));
    CHECK_EQ(fcntl(fd, F_GETFD), -1);
}

TEST(a_child_begins_without_copies_and_its_parent_has_given_some)
{
    int status;
    pid_t child;

    pws_forks_watch();
    child = fork();
    if (child == 0) {
        bool alone = closes_alone();
        pid_t grandchild = fork();

        if (grandchild == 0) {
            _exit(closes_alone() ? 0 : 1);
        }
        CHECK_EQ(waitpid(grandchild, &status, 0), grandchild);
        _exit(alone && status == 0 && !closes_alone() ? 0 : 1);
    }
    CHECK_EQ(waitpid(child, &status, 0), child);
    CHECK_EQ(status, 0);
    CHECK(!closes_alone());
    pws_forks_watch(); /* again: what was seen stays */
    CHECK(!closes_alone());
}

static int gate[2]; /* as long as it is open, the forked one stays */

static void *
fork_once(void *report)
{
    int *status = report;
    pid_t child = fork();

    if (child == 0) {
        char byte;

        close(gate[1]);
        _exit(read(gate[0], &byte, 1) == 0 ? 0 : 1);
    }
    CHECK_EQ(waitpid(child, status, 0), child);
    return NULL;
}

/* In a child, where nobody has forked yet: a thread forks while another one opens and
 * closes. What was closed alone has ended for who is at its other end. */
TEST(no_fork_comes_between_the_look_and_the_close)
{
    pws_forks_watch();
    for (int i = 0; i < 50; i++) {
        int status;
        pid_t child = fork();

        if (child == 0) {
            pthread_t thread;
            bool alone;

            CHECK_EQ(pipe(gate), 0);
            CHECK_EQ(pthread_create(&thread, NULL, fork_once, &status), 0);
            do {
                int pair[2];
                char byte;

                CHECK_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
                alone = pws_forks_close(pair[0]);
                if (alone) {
                    CHECK_EQ(recv(pair[1], &byte, 1, MSG_DONTWAIT), 0);
                }
                else {
                    close(pair[0]);
                }
                close(pair[1]);
            } while (alone);
            close(gate[1]);
            pthread_join(thread, NULL);
            _exit(status == 0 ? 0 : 1);
        }
        CHECK_EQ(waitpid(child, &status, 0), child);
        CHECK_EQ(status, 0);
    }
}
