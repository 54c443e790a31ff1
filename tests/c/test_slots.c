/* Which slot a new worker gets, and who is lent the sockets of one that has none. */
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "engine/lent.h"
#include "harness.h"
#include "proc/slots.h"

#define MOST 6

static pws_master master;
static int order_fds[MOST], sockets[MOST];
static unsigned can_open; /* slots that can be had */

static void
no_log(void *context, pws_log_level level, const char *text)
{
    (void)context;
    (void)level;
    (void)text;
}

static unsigned
give_sockets(void *context, unsigned slot, bool own, int *fds)
{
    (void)context;
    CHECK(own);
    fds[0] = sockets[slot];
    return 1;
}

static unsigned
open_slots(void *context, unsigned wanted)
{
    (void)context;
    return wanted < can_open ? wanted : can_open;
}

static const pws_master_calls calls = {
    .log = no_log, .sockets = give_sockets, .open_slots = open_slots};

/* Workers 0 to n - 1 serve, each in a slot of its own. */
static void
open_master(unsigned n)
{
    CHECK_EQ(pws_master_init(&master, &calls, NULL), 0);
    master.settings.workers = n;
    master.slots = n;
    master.slots_grow = true;
    master.phase = PWS_MASTER_SERVING;
    can_open = MOST;
    for (unsigned i = 0; i < n; i++) {
        unsigned slot = pws_slots_choose(&master);
        pws_worker *w =
            pws_workers_take(&master.workers, PWS_KIND_WORKER, &order_fds[i]);

        CHECK_EQ(slot, i);
        pws_slots_assign(w, slot);
        w->number = i + 1;
        w->state = PWS_WORKER_SERVING;
        pws_cell_ready(pws_worker_cell(&master.workers, w));
    }
    for (unsigned i = 0; i < MOST; i++) {
        sockets[i] = socket(AF_INET, SOCK_STREAM, 0);
    }
}

static void
close_master(unsigned n)
{
    for (unsigned i = 0; i < n; i++) {
        close(order_fds[i]);
    }
    for (unsigned i = 0; i < MOST; i++) {
        close(sockets[i]);
    }
    pws_master_close(&master);
}

static pws_worker *
worker(unsigned i)
{
    return &master.workers.all[i];
}

/* What worker i was told since: letters, and how many descriptors came. */
static unsigned
told(unsigned i, unsigned *letters)
{
    unsigned count = 0;
    char bytes[16];
    int fds[PWS_PASS_MAX];
    pws_parcel parcel = {.text = bytes, .size = sizeof(bytes), .fds = fds};
    ssize_t n;

    *letters = 0;
    while ((n = pws_pass_receive(order_fds[i], &parcel)) > 0) {
        for (ssize_t j = 0; j < n; j++) {
            *letters |= (unsigned char)bytes[j];
        }
        for (unsigned j = 0; j < parcel.count; j++) {
            close(fds[j]);
        }
        count += parcel.count;
    }
    return count;
}

static void
check_told(unsigned i, unsigned count, unsigned letters)
{
    unsigned heard;

    CHECK_EQ(told(i, &heard), count);
    CHECK_EQ(heard, letters);
}

TEST(a_successor_gets_the_slot_of_who_is_not_wanted_any_more)
{
    open_master(3);
    CHECK_EQ(pws_slots_choose(&master), 0); /* all have one: any will do */
    worker(2)->last_signal = 9;
    CHECK_EQ(pws_slots_choose(&master), 2);
    atomic_store(&master.workers.board->cells[1].leaving, true);
    CHECK_EQ(pws_slots_choose(&master), 1);
    master.workers.generation++;
    CHECK_EQ(pws_slots_choose(&master), 0);
    close_master(3);
}

TEST(there_are_more_slots_when_more_workers_are_wanted)
{
    open_master(2);
    master.settings.workers = 3;
    CHECK_EQ(pws_slots_choose(&master), 2);
    CHECK_EQ(master.slots, 3);
    master.settings.workers = 2;
    worker(1)->state = PWS_WORKER_NONE;
    CHECK_EQ(pws_slots_choose(&master), 1); /* none beyond those that are wanted */
    close_master(2);
}

TEST(without_a_socket_for_one_more_a_slot_is_shared)
{
    open_master(2);
    can_open = 2;
    master.settings.workers = 4;
    CHECK_EQ(pws_slots_choose(&master), 0);
    CHECK_EQ(master.slots, 2);
    close_master(2);
}

TEST(where_all_share_everything_there_is_one_slot)
{
    open_master(1);
    master.slots_grow = false;
    master.settings.workers = 4;
    CHECK_EQ(pws_slots_choose(&master), 0);
    worker(0)->state = PWS_WORKER_RETIRING;
    pws_slots_tend(&master);
    check_told(0, 0, 0);
    close_master(1);
}

TEST(the_sockets_of_a_slot_without_a_worker_are_lent_once)
{
    open_master(3);
    pws_slots_tend(&master);
    check_told(0, 0, 0);
    worker(0)->state = PWS_WORKER_RETIRING;
    pws_slots_tend(&master);
    pws_slots_tend(&master);
    check_told(0, 0, 0);
    check_told(1, 1, 0);
    check_told(2, 0, 0);
    close_master(3);
}

TEST(nothing_is_lent_to_a_foreign_worker)
{
    open_master(3);
    atomic_store(&master.workers.board->cells[1].foreign, true);
    worker(0)->state = PWS_WORKER_RETIRING;
    pws_slots_tend(&master);
    check_told(1, 0, 0);
    check_told(2, 1, 0);
    worker(2)->state = PWS_WORKER_RETIRING;
    pws_slots_tend(&master);
    check_told(1, 0, 0);
    close_master(3);
}

TEST(who_closed_its_sockets_or_was_killed_polls_none)
{
    open_master(3);
    atomic_store(&master.workers.board->cells[0].closed, true);
    worker(1)->last_signal = 9;
    pws_slots_tend(&master);
    check_told(2, 2, 0);
    check_told(0, 0, 0);
    check_told(1, 0, 0);
    close_master(3);
}

TEST(rather_one_that_is_idle_and_stays_and_has_few_is_lent_to)
{
    open_master(5);
    pws_cell_begin(&master.workers.board->cells[0]);
    atomic_store(&master.workers.board->cells[1].leaving, true);
    worker(4)->state = worker(3)->state = PWS_WORKER_BOOTING;
    /* A busy worker counts since a moment ago, so that its time is more than nothing.
     */
    atomic_store(&master.workers.board->cells[0].busy_since_ms, 1);
    pws_slots_tend(&master);
    check_told(2, 2, 0);
    worker(3)->state = PWS_WORKER_SERVING;
    pws_slots_tend(&master); /* it is back: all is let go of, and the rest lent anew */
    check_told(2, 1, PWS_LETTER_LET_GO);
    check_told(3, 0, 0);
    close_master(5);
}

TEST(nobody_is_lent_to_at_the_start_and_at_the_end)
{
    open_master(2);
    worker(0)->state = PWS_WORKER_NONE;
    master.phase = PWS_MASTER_STARTING;
    pws_slots_tend(&master);
    master.phase = PWS_MASTER_STOPPING;
    pws_slots_tend(&master);
    check_told(1, 0, 0);
    close_master(2);
}

TEST(who_serves_gets_what_is_queued_for_one_that_boots_when_all_are_to_end)
{
    open_master(2);
    worker(0)->state = PWS_WORKER_BOOTING;
    master.phase = PWS_MASTER_STARTING;
    pws_slots_settle(&master);
    check_told(1, 1, 0);
    close_master(2);
}

TEST(what_cannot_be_sent_is_tried_again)
{
    open_master(2);
    while (pws_worker_order(worker(1), PWS_LETTER_LOOK)) {
    }
    worker(0)->state = PWS_WORKER_NONE;
    pws_slots_tend(&master);
    CHECK(master.tend_ms != PWS_NEVER);
    (void)told(1, &(unsigned){0});
    pws_slots_tend(&master);
    CHECK_EQ(master.tend_ms, PWS_NEVER);
    check_told(1, 1, 0);
    close_master(2);
}

TEST(with_nobody_left_the_next_one_is_lent_what_waits)
{
    open_master(2);
    worker(0)->state = worker(1)->state = PWS_WORKER_BOOTING;
    pws_slots_tend(&master);
    CHECK_EQ(master.tend_ms, PWS_NEVER); /* its readiness wakes the master */
    worker(1)->state = PWS_WORKER_SERVING;
    pws_slots_tend(&master);
    check_told(1, 1, 0);
    close_master(2);
}
