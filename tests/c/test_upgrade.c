/* The masters before and after one, with real children. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "harness.h"
#include "proc/signals.h"
#include "proc/upgrade.h"

static pws_master master;
static char said[1024];
static pid_t told; /* of the last new master */
static unsigned promotions;
static bool fork_fails;

static void
keep_log(void *context, pws_log_level level, const char *text)
{
    size_t len = strlen(said);

    (void)context;
    (void)level;
    snprintf(said + len, sizeof(said) - len, "%s\n", text);
}

static pid_t
plain_fork(void *context)
{
    (void)context;
    if (fork_fails) {
        errno = EAGAIN;
        return -1;
    }
    return fork();
}

static void
note_successor(void *context, pid_t pid)
{
    (void)context;
    told = pid;
}

static void
count_promotion(void *context)
{
    (void)context;
    promotions++;
}

static const pws_master_calls calls = {
    .log = keep_log,
    .fork = plain_fork,
    .successor = note_successor,
    .promoted = count_promotion,
};

static void
begin(void)
{
    said[0] = '\0';
    told = -1;
    promotions = 0;
    fork_fails = false;
    CHECK_EQ(pws_master_init(&master, &calls, NULL), 0);
    CHECK(pws_signals_open() >= 0);
}

static void
end(void)
{
    pws_signals_close();
    pws_master_close(&master);
}

/* Start a new master that ends as it is told. Returns its process. */
static pid_t
start(int exit_code, int signum)
{
    int code = pws_upgrade_start(&master);

    if (code == PWS_IS_SUCCESSOR) {
        sigset_t held;

        (void)pthread_sigmask(SIG_SETMASK, NULL, &held);
        if (!sigisemptyset(&held) || master.news[0] != -1) {
            _exit(99);
        }
        if (signum != 0) {
            (void)raise(signum);
            (void)pause();
        }
        _exit(exit_code);
    }
    CHECK_EQ(code, 0);
    return master.kin.successor;
}

/* Until it has been found dead. */
static void
look_until_it_is_gone(void)
{
    siginfo_t info;

    CHECK_EQ(waitid(P_PID, (id_t)master.kin.successor, &info, WEXITED | WNOWAIT), 0);
    pws_upgrade_turn(&master);
    CHECK_EQ(master.kin.successor, 0);
    CHECK_EQ(told, 0);
}

TEST(a_new_master_that_fails_is_forgotten)
{
    pid_t pid;

    begin();
    pid = start(3, 0);
    CHECK_EQ(told, pid);
    look_until_it_is_gone();
    CHECK(strstr(said, "exited with code 3; this one goes on.") != NULL);
    CHECK(start(0, 0) > 0); /* there may be another one */
    look_until_it_is_gone();
    CHECK(start(0, SIGKILL) > 0);
    look_until_it_is_gone();
    CHECK(strstr(said, "was sent SIGKILL (9); this one goes on.") != NULL);
    end();
}

TEST(there_are_never_three)
{
    pid_t pid;

    begin();
    pid = start(0, SIGSTOP);
    CHECK_EQ(pws_upgrade_start(&master), 0);
    CHECK(strstr(said, "USR2 signal ignored. Child exists.\n") != NULL);
    CHECK_EQ(master.kin.successor, pid);
    CHECK_EQ(kill(pid, SIGKILL), 0);
    look_until_it_is_gone();
    master.kin.predecessor = getppid();
    CHECK_EQ(pws_upgrade_start(&master), 0);
    CHECK(strstr(said, "USR2 signal ignored. Parent exists.\n") != NULL);
    master.kin.predecessor = 0;
    master.phase = PWS_MASTER_STOPPING;
    CHECK_EQ(pws_upgrade_start(&master), 0);
    CHECK_EQ(master.kin.successor, 0);
    end();
}

TEST(a_fork_that_fails_is_said)
{
    begin();
    fork_fails = true;
    CHECK_EQ(pws_upgrade_start(&master), 0);
    CHECK_EQ(master.kin.successor, 0);
    CHECK(strstr(said, "USR2: fork: ") != NULL);
    end();
}

TEST(who_else_is_reaped_is_no_new_master)
{
    begin();
    pws_upgrade_bury(&master, 0, 0);
    pws_upgrade_bury(&master, 17, 0);
    CHECK_EQ(told, -1);
    end();
}

/* In a child of the test: watch it. Returns what to exit with. */
static int
succeed(pid_t parent, int go, int watching)
{
    char byte;

    begin();
    pws_upgrade_succeed(&master, parent);
    pws_upgrade_turn(&master);
    if (promotions != 0 || !master.systemd.silent ||
        (master.kin.predecessor_fd < 0) !=
            (pws_upgrade_due_ms(&master, 0) != PWS_NEVER)) {
        return 1;
    }
    (void)!write(watching, "", 1);
    (void)!read(go, &byte, 1); /* its end */
    while (getppid() == parent) {
    }
    pws_upgrade_turn(&master);
    pws_upgrade_turn(&master);
    return promotions == 1 && master.kin.predecessor_fd == -1 &&
                   master.kin.predecessor == 0 && !master.systemd.silent
               ? 0
               : 2;
}

TEST(the_new_master_is_promoted_when_the_old_one_has_gone)
{
    int life[2], watching[2], outcome[2];
    pid_t parent;
    char byte = 9;

    CHECK(pipe(life) == 0 && pipe(watching) == 0 && pipe(outcome) == 0);
    parent = fork();
    if (parent == 0) {
        pid_t me = getpid();

        close(life[1]);
        if (fork() == 0) {
            byte = (char)succeed(me, life[0], watching[1]);
            (void)!write(outcome[1], &byte, 1);
            _exit(0);
        }
        (void)!read(life[0], &byte, 1);
        _exit(0);
    }
    close(watching[1]);
    close(outcome[1]);
    CHECK_EQ(read(watching[0], &byte, 1), 1);
    close(life[1]);
    CHECK_EQ(waitpid(parent, NULL, 0), parent);
    CHECK_EQ(read(outcome[0], &byte, 1), 1);
    CHECK_EQ(byte, 0);
    close(life[0]);
    close(watching[0]);
    close(outcome[0]);
}
