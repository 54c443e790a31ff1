/* How many workers may be there at a time (proc/balance.h). */
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "harness.h"
#include "proc/balance.h"
#include "proc/signals.h"
#include "proc/spawn.h"

static pws_master master;
static unsigned settled, started;

static void
no_log(void *context, pws_log_level level, const char *text)
{
    (void)context;
    (void)level;
    (void)text;
}

static void
count_settled(void *context, bool kept)
{
    (void)context;
    settled += kept;
}

static void
count_started(void *context)
{
    (void)context;
    started++;
}

static unsigned
no_sockets(void *context, unsigned slot, bool own, int *fds)
{
    (void)context;
    (void)slot;
    (void)own;
    (void)fds;
    return 0;
}

static const pws_master_calls calls = {.log = no_log,
                                       .settled = count_settled,
                                       .started = count_started,
                                       .sockets = no_sockets};

static void
open_master(unsigned workers, unsigned surge)
{
    CHECK_EQ(pws_master_init(&master, &calls, NULL), 0);
    CHECK(pws_signals_open() >= 0); /* orders may find nobody */
    master.phase = PWS_MASTER_SERVING;
    master.settings.workers = workers;
    master.settings.surge = surge;
    master.workers.generation = 1;
    settled = started = 0;
}

static void
close_master(void)
{
    pws_signals_close();
    pws_master_close(&master);
}

static pws_worker *
add(pws_worker_state state)
{
    int fd;
    pws_worker *w = pws_workers_take(&master.workers, PWS_KIND_WORKER, &fd);

    CHECK(w != NULL);
    close(fd);
    w->number = ++master.last_number;
    w->pid = 1000000000; /* nobody's */
    w->state = state;
    return w;
}

static void
add_serving(unsigned n)
{
    for (unsigned i = 0; i < n; i++) {
        (void)add(PWS_WORKER_SERVING);
    }
}

static unsigned
in_state(pws_worker_state state)
{
    unsigned n = 0;

    for (unsigned i = 0; i < master.workers.top; i++) {
        n += master.workers.all[i].state == state;
    }
    return n;
}

/* Those that are told to end have ended. */
static void
end_retiring(void)
{
    for (unsigned i = 0; i < master.workers.top; i++) {
        if (master.workers.all[i].state == PWS_WORKER_RETIRING) {
            pws_workers_give(&master.workers.all[i]);
        }
    }
}

static void
try_generation(unsigned workers)
{
    master.phase = PWS_MASTER_TRYING;
    master.proven = master.settings;
    master.proven_generation = 1;
    master.settings.workers = workers;
    master.workers.generation = 2;
}

TEST(gaps_are_filled_whatever_the_limit)
{
    open_master(4, 1);
    CHECK_EQ(pws_balance_missing(&master), 4);
    add_serving(1);
    (void)add(PWS_WORKER_BOOTING);
    CHECK_EQ(pws_balance_missing(&master), 2);
    add_serving(2);
    CHECK_EQ(pws_balance_missing(&master), 0);
    master.workers.all[0].last_signal = 9; /* it is as good as dead */
    CHECK_EQ(pws_balance_missing(&master), 1);
    master.workers.all[2].state = PWS_WORKER_RETIRING;
    CHECK_EQ(pws_balance_missing(&master), 2);
    close_master();
}

TEST(successors_come_within_the_limit)
{
    open_master(4, 1);
    add_serving(4);
    for (int i = 0; i < 4; i++) {
        master.workers.all[i].cause = PWS_CAUSE_RECYCLED;
    }
    CHECK_EQ(pws_balance_missing(&master), 1);
    (void)add(PWS_WORKER_BOOTING);
    CHECK_EQ(pws_balance_missing(&master), 0);
    pws_balance(&master);
    CHECK_EQ(in_state(PWS_WORKER_RETIRING), 0); /* nobody serves in their place */
    master.workers.all[4].state = PWS_WORKER_SERVING;
    pws_balance(&master);
    CHECK_EQ(master.workers.all[0].state, PWS_WORKER_RETIRING); /* the oldest */
    CHECK_EQ(in_state(PWS_WORKER_RETIRING), 1);
    CHECK_EQ(pws_balance_missing(&master), 0); /* it is still there */
    end_retiring();
    CHECK_EQ(pws_balance_missing(&master), 1);
    master.settings.surge = 0;
    CHECK_EQ(pws_balance_missing(&master), 3);
    close_master();
}

TEST(who_has_closed_its_sockets_is_a_gap)
{
    pws_cell *cell;

    open_master(2, 1);
    add_serving(2);
    for (int i = 0; i < 2; i++) {
        cell = pws_worker_cell(&master.workers, &master.workers.all[i]);
        atomic_store(&cell->leaving, true);
        atomic_store(&cell->closed, true);
    }
    CHECK_EQ(pws_balance_missing(&master), 2);
    pws_balance(&master);
    CHECK_EQ(in_state(PWS_WORKER_RETIRING), 2);
    CHECK_EQ(master.workers.all[0].cause, PWS_CAUSE_OWN);
    close_master();
}

TEST(a_generation_is_kept_when_as_many_serve_as_fit)
{
    open_master(4, 2);
    add_serving(4);
    try_generation(4);
    CHECK_EQ(pws_balance_proof(&master), 2);
    CHECK_EQ(pws_balance_missing(&master), 2);
    (void)add(PWS_WORKER_SERVING);
    (void)add(PWS_WORKER_BOOTING);
    pws_balance(&master);
    CHECK_EQ(settled, 0);
    CHECK_EQ(in_state(PWS_WORKER_RETIRING), 0);
    master.workers.all[5].state = PWS_WORKER_SERVING;
    pws_balance(&master);
    CHECK_EQ(settled, 1);
    CHECK_EQ(in_state(PWS_WORKER_RETIRING), 2);
    CHECK(master.rolling);
    close_master();
}

TEST(one_of_a_new_generation_that_leaves_again_has_proven_it_too)
{
    open_master(2, 0);
    add_serving(2);
    try_generation(2);
    add_serving(2);
    atomic_store(&pws_worker_cell(&master.workers, &master.workers.all[2])->leaving,
                 true);
    pws_balance(&master);
    CHECK_EQ(settled, 1);
    close_master();
}

TEST(fewer_than_before_are_tried_beside_all_of_before)
{
    open_master(8, 1);
    add_serving(8);
    try_generation(2);
    CHECK_EQ(pws_balance_missing(&master), 1);
    (void)add(PWS_WORKER_SERVING);
    pws_balance(&master);
    CHECK_EQ(settled, 1);
    CHECK_EQ(in_state(PWS_WORKER_RETIRING), 7);
    close_master();
}

TEST(those_that_are_too_many_do_not_hold_up_a_trial)
{
    open_master(2, 1);
    add_serving(3); /* SIGTTOU has come right before SIGHUP */
    try_generation(2);
    CHECK_EQ(pws_balance_missing(&master), 1);
    close_master();
}

TEST(a_start_waits_for_all_and_is_not_limited)
{
    open_master(4, 1);
    master.phase = PWS_MASTER_STARTING;
    add_serving(2);
    master.workers.generation = 2; /* SIGHUP has come */
    CHECK_EQ(pws_balance_missing(&master), 4);
    add_serving(4);
    atomic_store(&pws_worker_cell(&master.workers, &master.workers.all[4])->leaving,
                 true);
    pws_balance(&master);
    CHECK_EQ(started, 1);
    close_master();
}

TEST(while_all_drain_only_gaps_are_filled)
{
    open_master(2, 0);
    add_serving(2);
    master.phase = PWS_MASTER_DRAINING;
    master.workers.all[0].cause = PWS_CAUSE_RECYCLED;
    CHECK_EQ(pws_balance_missing(&master), 0);
    master.workers.all[0].last_signal = 9;
    CHECK_EQ(pws_balance_missing(&master), 1);
    close_master();
}

TEST(none_are_wanted_where_all_were_sent_home)
{
    open_master(0, 1);
    add_serving(3);
    CHECK_EQ(pws_balance_missing(&master), 0);
    pws_balance(&master);
    CHECK_EQ(in_state(PWS_WORKER_RETIRING), 3);
    CHECK_EQ(master.workers.all[0].cause, PWS_CAUSE_SURPLUS);
    close_master();
}

/* Returns its end of the socket that it is asked by. */
static int
add_mold(void)
{
    int fd;
    pws_worker *w = pws_workers_take(&master.workers, PWS_KIND_MOLD, &fd);

    CHECK(w != NULL);
    w->pid = 1000000000; /* nobody's */
    w->state = PWS_WORKER_SERVING;
    return fd;
}

/* They have said that they are there. */
static void
fork_asked(void)
{
    for (unsigned i = 0; i < master.workers.top; i++) {
        if (master.workers.all[i].state != PWS_WORKER_NONE) {
            master.workers.all[i].pid = 1000000000;
        }
    }
}

TEST(a_mold_is_not_asked_for_more_than_its_socket_holds)
{
    int fd, turns = 0;

    open_master(PWS_WORKERS_MAX, 0);
    master.settings.preload = true;
    fd = add_mold();
    while (pws_balance_missing(&master) > 0 && turns++ < PWS_WORKERS_MAX) {
        char letter[64];

        CHECK_EQ(pws_spawn_all(&master), 0);
        CHECK_EQ(master.failures, 0);
        CHECK_EQ(pws_spawn_missing(&master), 0);
        while (recv(fd, letter, sizeof(letter), MSG_DONTWAIT) > 0) {
        }
        fork_asked();
    }
    CHECK_EQ(in_state(PWS_WORKER_BOOTING), PWS_WORKERS_MAX);
    CHECK(turns > 1);
    close(fd);
    close_master();
}

TEST(two_whole_sets_fit_with_a_mold_each)
{
    int first, second;

    open_master(PWS_WORKERS_MAX, 0);
    master.settings.preload = true;
    first = add_mold();
    add_serving(PWS_WORKERS_MAX);
    try_generation(PWS_WORKERS_MAX);
    second = add_mold();
    while (pws_spawn_missing(&master) > 0) {
        (void)add(PWS_WORKER_SERVING);
    }
    pws_balance(&master);
    CHECK_EQ(settled, 1);
    close(first);
    close(second);
    close_master();
}
