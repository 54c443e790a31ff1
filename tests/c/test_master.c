/* A master with real children, which do what the test says instead of serving. */
#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "engine/lent.h"
#include "harness.h"
#include "proc/master.h"
#include "proc/signals.h"
#include "proc/spawn.h"

/* What a child does: see behave(). */
enum {
    SERVE,  /* until it is told to end */
    EXIT_3, /* before it is ready */
    EXIT_4,
    SEGFAULT, /* the same */
    LEAVE,    /* serve, and ask for a successor at once */
    STAY,     /* serve, and heed nothing but SIGKILL */
    HANG,     /* be busy for ever, once it is ready */
    LOOK,     /* serve, and exit with 5 when told to look */
};

static pws_master master;
static int behaviour[64]; /* of worker n, from 1 */
static unsigned forks, ends, starts, kept, refused, reloads, reopened;
static int statuses[64];
static int on_start; /* signal that the master sends itself then */
static int reload_rc;

static void
nothing(void *context)
{
    (void)context;
}

static void
no_log(void *context, pws_log_level level, const char *text)
{
    (void)context;
    (void)level;
    (void)text;
}

static int
allow_fork(void *context, unsigned number)
{
    (void)context;
    return number < 60 ? 0 : -1;
}

static pid_t
plain_fork(void *context)
{
    (void)context;
    return fork();
}

static void
count_fork(void *context, pid_t pid, unsigned number)
{
    (void)context;
    (void)pid;
    (void)number;
    forks++;
}

static void
count_end(void *context, const pws_worker_end *end)
{
    (void)context;
    statuses[end->number] = end->status;
    ends++;
    /* In these tests a worker that leaves or is killed ends the test. */
    if (behaviour[end->number] == LEAVE || behaviour[end->number] == HANG) {
        (void)raise(SIGTERM);
    }
}

static int
count_reload(void *context, pws_master_settings *settings)
{
    (void)context;
    (void)settings;
    reloads++;
    if (reload_rc < 0) {
        (void)raise(SIGTERM);
    }
    return reload_rc;
}

static void
count_settled(void *context, bool keep)
{
    (void)context;
    kept += keep;
    refused += !keep;
    (void)raise(SIGTERM);
}

static void
count_reopen(void *context)
{
    (void)context;
    reopened++;
    (void)raise(SIGTERM);
}

static void
count_start(void *context)
{
    (void)context;
    starts++;
    if (on_start != 0) {
        (void)raise(on_start);
    }
}

static const pws_master_calls calls = {
    .let_go = nothing,
    .take_back = nothing,
    .log = no_log,
    .before_fork = allow_fork,
    .fork = plain_fork,
    .forked = count_fork,
    .reaped = count_end,
    .reload = count_reload,
    .settled = count_settled,
    .reopen = count_reopen,
    .started = count_start,
    .stopping = nothing,
};

static void
wait_for_order(int what)
{
    struct pollfd p = {.fd = master.order_fd, .events = POLLIN};
    bool looks = false;
    char order;

    do {
        (void)poll(&p, 1, -1);
        if (read(master.order_fd, &order, 1) != 1) {
            order = PWS_ORDER_RETIRE;
        }
        looks = looks || (unsigned char)order == PWS_LETTER_LOOK;
    } while (order == PWS_ORDER_REOPEN || (unsigned char)order == PWS_LETTER_LOOK);
    _exit(what == LOOK && looks ? 5 : 0);
}

static void
behave(int what)
{
    if (what == EXIT_3 || what == EXIT_4) {
        _exit(what == EXIT_3 ? 3 : 4);
    }
    if (what == SEGFAULT) {
        (void)signal(SIGSEGV, SIG_DFL);
        (void)raise(SIGSEGV);
    }
    pws_cell_ready(master.cell);
    if (what == LEAVE) {
        atomic_store(&master.cell->leaving, true);
    }
    if (what == HANG) {
        pws_cell_begin(master.cell);
    }
    pws_master_tell(&master);
    while (what == STAY || what == HANG) {
        if (what == HANG) {
            (void)signal(SIGABRT, SIG_IGN);
        }
        (void)pause();
    }
    wait_for_order(what);
}

static void
reset(void)
{
    memset(behaviour, 0, sizeof(behaviour));
    memset(statuses, 0, sizeof(statuses));
    forks = ends = starts = kept = refused = reloads = reopened = 0;
    on_start = SIGTERM;
    reload_rc = 0;
}

/* Run it to its end. Returns the exit code; no child may be left. */
static int
run(unsigned workers, int64_t timeout_ms)
{
    const pws_master_settings settings = {workers, timeout_ms, 100, false};
    int code;

    CHECK_EQ(pws_master_init(&master, &calls, NULL), 0);
    code = pws_master_run(&master, &settings);
    if (code == PWS_IS_WORKER) {
        int what = behaviour[master.last_number];

        if (what != STAY && what != HANG) {
            pws_signals_release(&master.before);
        }
        behave(what);
    }
    CHECK(waitpid(-1, NULL, WNOHANG) < 0 && errno == ECHILD);
    CHECK_EQ(ends, forks);
    return code;
}

static void
end(void)
{
    pws_master_close(&master);
}

TEST(all_workers_start_and_end_with_the_master)
{
    reset();
    CHECK_EQ(run(5, 0), 0);
    CHECK_EQ(starts, 1);
    CHECK_EQ(forks, 5);
    for (int i = 1; i <= 5; i++) {
        CHECK_EQ(statuses[i], 0);
    }
    CHECK(master.reason == NULL);
    end();
}

TEST(a_failing_first_boot_ends_the_master_with_its_code)
{
    for (int what = EXIT_3; what <= EXIT_4; what++) {
        reset();
        behaviour[2] = what;
        CHECK_EQ(run(3, 0), what == EXIT_3 ? 3 : 4);
        CHECK_EQ(starts, 0);
        CHECK(master.reason != NULL);
        end();
    }
}

TEST(workers_that_die_at_the_start_are_tried_a_few_times)
{
    reset();
    for (int i = 0; i < 64; i++) {
        behaviour[i] = SEGFAULT;
    }
    CHECK_EQ(run(1, 0), 3);
    CHECK(forks > 3 && forks < 10);
    end();
}

TEST(one_that_dies_at_the_start_is_replaced)
{
    reset();
    behaviour[1] = SEGFAULT;
    CHECK_EQ(run(2, 0), 0);
    CHECK_EQ(starts, 1);
    CHECK_EQ(forks, 3);
    end();
}

TEST(a_new_generation_replaces_the_old_one_when_it_is_ready)
{
    reset();
    on_start = SIGHUP;
    CHECK_EQ(run(2, 0), 0);
    CHECK_EQ(reloads, 1);
    CHECK_EQ(kept, 1);
    CHECK_EQ(forks, 4);
    end();
}

TEST(a_new_generation_that_cannot_start_leaves_the_old_one)
{
    reset();
    on_start = SIGHUP;
    behaviour[3] = behaviour[4] = EXIT_4;
    CHECK_EQ(run(2, 0), 0);
    CHECK_EQ(refused, 1);
    CHECK_EQ(kept, 0);
    CHECK_EQ(master.workers.generation, 1);
    CHECK_EQ(statuses[1], 0);
    end();
}

TEST(settings_that_cannot_be_read_change_nothing)
{
    reset();
    on_start = SIGHUP;
    reload_rc = -1;
    CHECK_EQ(run(2, 0), 0);
    CHECK_EQ(reloads, 1);
    CHECK_EQ(forks, 2);
    end();
}

TEST(who_wants_to_leave_goes_when_its_successor_is_there)
{
    reset();
    on_start = 0;
    behaviour[1] = LEAVE;
    CHECK_EQ(run(1, 0), 0);
    CHECK_EQ(forks, 2);
    CHECK_EQ(statuses[1], 0);
    end();
}

TEST(who_does_not_end_is_killed)
{
    reset();
    behaviour[1] = STAY;
    CHECK_EQ(run(1, 0), 0);
    CHECK(WIFSIGNALED(statuses[1]) && WTERMSIG(statuses[1]) == SIGKILL);
    end();
}

TEST(who_is_busy_for_too_long_is_killed_and_replaced)
{
    reset();
    on_start = 0;
    behaviour[1] = HANG;
    CHECK_EQ(run(1, 200), 0);
    CHECK(WIFSIGNALED(statuses[1]) && WTERMSIG(statuses[1]) == SIGKILL);
    CHECK_EQ(forks, 2);
    CHECK_EQ(statuses[2], 0);
    end();
}

/* The kernel may have woken it for a connection that nobody has accepted. */
TEST(siblings_of_one_that_was_killed_are_told_to_look)
{
    reset();
    on_start = 0;
    behaviour[1] = HANG;
    behaviour[2] = LOOK;
    CHECK_EQ(run(2, 200), 0);
    CHECK(WIFSIGNALED(statuses[1]));
    CHECK(WIFEXITED(statuses[2]) && WEXITSTATUS(statuses[2]) == 5);
    end();
}

TEST(logs_are_reopened_and_every_worker_is_told)
{
    reset();
    on_start = SIGUSR1;
    CHECK_EQ(run(3, 0), 0);
    CHECK_EQ(reopened, 1);
    CHECK_EQ(forks, 3);
    end();
}

TEST(what_is_missing_is_what_the_settings_say_until_the_end)
{
    reset();
    on_start = 0;
    CHECK_EQ(pws_master_init(&master, &calls, NULL), 0);
    master.settings = (pws_master_settings){2, 0, 100, false};
    CHECK_EQ(pws_spawn_missing(&master), 2);
    master.settings.workers = 1;
    CHECK_EQ(pws_spawn_missing(&master), 1);
    master.phase = PWS_MASTER_STOPPING;
    CHECK_EQ(pws_spawn_missing(&master), 0);
    end();
}

TEST(pauses_grow_while_workers_fail)
{
    int64_t last_ms = 0;

    reset();
    CHECK_EQ(pws_master_init(&master, &calls, NULL), 0);
    for (int i = 0; i < 20; i++) {
        int64_t pause_ms;

        pws_spawn_failed(&master);
        pause_ms = master.spawn_ms - master.failed_ms;
        CHECK(i > 0 ? pause_ms > 0 : pause_ms == 0);
        CHECK(pause_ms >= last_ms && pause_ms <= 10000);
        last_ms = pause_ms;
    }
    end();
}
