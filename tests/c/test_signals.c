/* The flags of a master's signals, and the pipe that ends its sleep. */
#include <errno.h>
#include <poll.h>
#include <string.h>
#include <unistd.h>

#include "harness.h"
#include "proc/signals.h"

static bool
readable(int fd)
{
    struct pollfd p = {.fd = fd, .events = POLLIN};

    return poll(&p, 1, 0) == 1;
}

TEST(a_signal_sets_its_flag_once_and_makes_the_pipe_readable)
{
    int fd = pws_signals_open();

    CHECK(fd >= 0);
    CHECK(!readable(fd));
    CHECK(raise(SIGHUP) == 0 && raise(SIGHUP) == 0);
    CHECK(readable(fd));
    CHECK(!pws_signals_take(SIGTERM));
    CHECK(pws_signals_take(SIGHUP));
    CHECK(!pws_signals_take(SIGHUP));
    pws_signals_swallow();
    CHECK(!readable(fd));
    pws_signals_close();
}

TEST(a_crowd_of_signals_does_not_block)
{
    int fd = pws_signals_open();

    for (int i = 0; i < 70000; i++) { /* more than a pipe holds */
        CHECK(raise(SIGUSR1) == 0);
    }
    errno = 0;
    CHECK(raise(SIGUSR1) == 0);
    CHECK_EQ(errno, 0);
    pws_signals_swallow();
    CHECK(!readable(fd));
    CHECK(pws_signals_take(SIGUSR1));
    pws_signals_close();
}

static volatile sig_atomic_t theirs;

static void
their_handler(int signum)
{
    theirs = signum;
}

TEST(what_was_there_before_is_put_back)
{
    struct sigaction action = {.sa_handler = their_handler};

    CHECK(sigaction(SIGUSR2, &action, NULL) == 0);
    CHECK(pws_signals_open() >= 0);
    CHECK(raise(SIGUSR2) == 0);
    CHECK_EQ(theirs, 0);
    pws_signals_close();
    CHECK(raise(SIGUSR2) == 0);
    CHECK_EQ(theirs, SIGUSR2);
    pws_signals_close(); /* once more is harmless */
    (void)signal(SIGUSR2, SIG_DFL);
}

TEST(a_process_has_one_set_of_signals)
{
    CHECK(pws_signals_open() >= 0);
    CHECK_EQ(pws_signals_open(), -1);
    CHECK_EQ(errno, EBUSY);
    pws_signals_close();
    CHECK(pws_signals_open() >= 0);
    pws_signals_close();
}

TEST(held_signals_come_when_they_are_released)
{
    sigset_t before;

    CHECK(pws_signals_open() >= 0);
    pws_signals_hold(&before);
    CHECK(raise(SIGTERM) == 0);
    CHECK(!pws_signals_take(SIGTERM));
    pws_signals_release(&before);
    CHECK(pws_signals_take(SIGTERM));
    pws_signals_close();
}

TEST(signals_have_the_names_of_the_shell)
{
    CHECK(strcmp(pws_signals_name(SIGKILL), "KILL") == 0);
    CHECK(strcmp(pws_signals_name(SIGSEGV), "SEGV") == 0);
    CHECK(pws_signals_name(SIGRTMIN) == NULL);
}

TEST(before_another_program_all_is_as_by_default)
{
    struct sigaction now;
    sigset_t held, before;

    CHECK(pws_signals_open() >= 0);
    CHECK(signal(SIGCHLD, SIG_IGN) != SIG_ERR);
    CHECK(signal(SIGRTMIN, SIG_IGN) != SIG_ERR);
    pws_signals_hold(&before);
    pws_signals_default();
    for (int signum = 1; signum <= SIGRTMAX; signum++) {
        CHECK(sigaction(signum, NULL, &now) < 0 || now.sa_handler == SIG_DFL);
    }
    CHECK_EQ(pthread_sigmask(SIG_SETMASK, NULL, &held), 0);
    CHECK(sigisemptyset(&held));
    pws_signals_release(&before);
}
