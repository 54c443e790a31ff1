/* A master with real children, which do what the test says instead of serving. */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "engine/lent.h"
#include "engine/poller.h"
#include "harness.h"
#include "proc/master.h"
#include "proc/signals.h"
#include "proc/spawn.h"

/* What a child does: see behave(). */
enum {
    SERVE,  /* until it is told to end */
    EXIT_3, /* before it is ready */
    EXIT_4,
    SEGFAULT,     /* the same */
    LEAVE,        /* serve, and ask for a successor at once */
    STAY,         /* serve, and heed nothing but SIGKILL */
    HANG,         /* be busy for ever, once it is ready */
    EXIT_3_LATER, /* serve, and then do that */
    LOOK,         /* serve, and exit with 5 when told to look */
};

static pws_master master;
static int behaviour[64]; /* of worker n, from 1 */
static unsigned forks, ends, starts, kept, refused, reloads, reopened;
static int statuses[64];
static int on_start; /* signal that the master sends itself then */
static int reload_rc;
static unsigned counted;
static int on_count;             /* the same when the number has changed */
static pws_master_settings more; /* what run() does not say */
static char log_text[4096];

static void
nothing(void *context)
{
    (void)context;
}

static void
keep_log(void *context, pws_log_level level, const char *text)
{
    size_t len = strlen(log_text);

    (void)context;
    (void)level;
    (void)snprintf(log_text + len, sizeof(log_text) - len, "%s\n", text);
}

static void
no_record(void *context, pws_log_level level, pws_slice text)
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
count_workers(void *context, unsigned workers)
{
    (void)context;
    counted = workers;
    if (on_count != 0) {
        (void)raise(on_count);
    }
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
    .log = keep_log,
    .record = no_record,
    .before_fork = allow_fork,
    .fork = plain_fork,
    .forked = count_fork,
    .reaped = count_end,
    .reload = count_reload,
    .settled = count_settled,
    .counted = count_workers,
    .reopen = count_reopen,
    .started = count_start,
    .stopping = nothing,
};

/* Signals of an end, one after the other. */
static int script[4];
static unsigned played;

static void
play(void *context)
{
    (void)context;
    if (played < 4 && script[played] != 0) {
        (void)raise(script[played]);
        played++;
    }
}

static void
perform(int first, int second, int third)
{
    script[0] = first;
    script[1] = second;
    script[2] = third;
    script[3] = 0;
    played = 0;
}

static pws_master_calls scripted; /* `calls`, and what a test changes */

static void
play_when_draining(void *context)
{
    if (master.phase == PWS_MASTER_DRAINING) {
        play(context);
    }
}

static void
count_and_end(void *context, unsigned workers)
{
    count_workers(context, workers);
    (void)raise(SIGTERM);
}

static void
end_when_ignored(void *context)
{
    (void)context;
    if (strstr(log_text, "SIGWINCH ignored. Not daemonized") != NULL) {
        (void)raise(SIGTERM);
    }
}

static void
count_and_stop(void *context, const pws_worker_end *worker_end)
{
    count_end(context, worker_end);
    (void)raise(SIGTERM);
}

static void
ask_for_all(void *context)
{
    count_start(context);
    pws_master_resize(&master, 3);
    pws_master_ask_reload(&master);
    pws_master_hurry(&master);
}

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
        if (order == PWS_LETTER_SIGN) {
            atomic_fetch_add(&master.cell->signs, 1);
        }
    } while (order == PWS_LETTER_SIGN || order == PWS_ORDER_REOPEN ||
             order == PWS_ORDER_DRAIN || (unsigned char)order == PWS_LETTER_LOOK);
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
    if (what == EXIT_3_LATER) {
        _exit(3);
    }
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
    on_count = 0;
    memset(&more, 0, sizeof(more));
    log_text[0] = '\0';
    scripted = calls;
    counted = 99;
}

/* Run it to its end. Returns the exit code; no child may be left. */
static int
run_with(const pws_master_calls *with, unsigned workers, int64_t timeout_ms)
{
    pws_master_settings settings = more;
    int code;

    settings.workers = workers;
    settings.timeout_ms = timeout_ms;
    settings.graceful_ms = settings.graceful_ms > 0 ? settings.graceful_ms : 100;

    CHECK_EQ(pws_master_init(&master, with, NULL), 0);
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

static int
run(unsigned workers, int64_t timeout_ms)
{
    return run_with(&calls, workers, timeout_ms);
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
    CHECK_EQ(run(1, 1000), 0);
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
    CHECK_EQ(run(2, 1000), 0);
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

TEST(a_second_sigterm_ends_it_quickly)
{
    reset();
    behaviour[1] = STAY; /* only SIGKILL ends it, and graceful_ms is long */
    more.graceful_ms = 600000;
    perform(SIGTERM, 0, 0);
    scripted.stopping = play;
    CHECK_EQ(run_with(&scripted, 1, 0), 0);
    CHECK(strstr(log_text, "Quick shutdown requested") != NULL);
    CHECK(WIFSIGNALED(statuses[1]));
    end();
}

TEST(sigterm_may_leave_time_to_go_elsewhere)
{
    reset();
    more.drain_ms = 200;
    CHECK_EQ(run(2, 0), 0);
    CHECK(strstr(log_text, "Draining: connections are accepted for 0.2 s more") !=
          NULL);
    CHECK(strstr(log_text, "Quick") == NULL);
    end();
}

TEST(a_second_sigterm_ends_the_delay)
{
    reset();
    more.drain_ms = 600000;
    perform(SIGTERM, 0, 0);
    scripted.let_go = play_when_draining;
    CHECK_EQ(run_with(&scripted, 2, 0), 0);
    CHECK(strstr(log_text, "Quick") == NULL);
    end();
}

TEST(sigint_ends_the_delay_and_all_waiting)
{
    reset();
    more.drain_ms = more.graceful_ms = 600000;
    behaviour[1] = STAY;
    perform(SIGINT, 0, 0);
    scripted.let_go = play_when_draining;
    CHECK_EQ(run_with(&scripted, 1, 0), 0);
    CHECK(WIFSIGNALED(statuses[1]));
    end();
}

TEST(sigwinch_sends_the_workers_of_a_daemon_home)
{
    reset();
    more.daemon = true;
    on_start = SIGWINCH;
    on_count = 0;
    scripted.counted = count_and_end;
    CHECK_EQ(run_with(&scripted, 2, 0), 0);
    CHECK_EQ(counted, 0);
    CHECK_EQ(forks, 2);
    end();
}

TEST(sigwinch_means_nothing_to_others)
{
    reset();
    on_start = SIGWINCH;
    scripted.let_go = end_when_ignored;
    CHECK_EQ(run_with(&scripted, 2, 0), 0);
    CHECK_EQ(counted, 99);
    end();
}

TEST(a_code_of_one_that_has_served_ends_nothing)
{
    reset();
    on_start = 0;
    behaviour[1] = EXIT_3_LATER;
    scripted.reaped = count_and_stop;
    CHECK_EQ(run_with(&scripted, 1, 0), 0);
    CHECK(master.reason == NULL);
    end();
}

TEST(hooks_ask_and_the_loop_obeys)
{
    reset();
    on_start = 0;
    scripted.started = ask_for_all;
    CHECK_EQ(run_with(&scripted, 1, 0), 0);
    CHECK_EQ(reloads, 1);
    CHECK_EQ(kept, 1);
    CHECK(forks >= 4); /* one, and a new generation of three */
    end();
}

TEST(a_worker_that_comes_late_has_no_cell)
{
    pws_mold_request request = {.fd_count = 1};
    pws_worker *w;
    int fd, rest;

    reset();
    CHECK_EQ(pws_master_init(&master, &calls, NULL), 0);
    w = pws_workers_take(&master.workers, PWS_KIND_WORKER, &fd);
    CHECK(w != NULL);
    request.cell = (uint32_t)(w - master.workers.all);
    request.nonce = pws_cell_nonce(pws_worker_cell(&master.workers, w));
    pws_workers_give(w);
    CHECK(pws_workers_take(&master.workers, PWS_KIND_WORKER, &rest) == w);
    request.fds[0] = fd;
    CHECK_EQ(pws_master_be_worker(&master, &request), -1);
    CHECK_EQ(pws_cell_claimed(pws_worker_cell(&master.workers, w)), 0);
    request.nonce = pws_cell_nonce(pws_worker_cell(&master.workers, w));
    request.fds[0] = rest;
    CHECK_EQ(pws_master_be_worker(&master, &request), 0);
    CHECK_EQ(pws_cell_claimed(pws_worker_cell(&master.workers, w)), getpid());
    end();
}

TEST(what_is_missing_is_what_the_settings_say_until_the_end)
{
    reset();
    on_start = 0;
    CHECK_EQ(pws_master_init(&master, &calls, NULL), 0);
    master.settings = (pws_master_settings){.workers = 2, .graceful_ms = 100};
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
