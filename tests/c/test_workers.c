/* Who of a master's workers is there, who is wanted, and who goes first. */
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "harness.h"
#include "proc/signals.h"
#include "proc/workers.h"

static pws_workers table;
static int order_fds[8];

/* Workers 1 to n of the generation in force. */
static void
open_table(int n)
{
    CHECK_EQ(pws_workers_init(&table), 0);
    table.generation = 1;
    for (int i = 0; i < n; i++) {
        pws_worker *w = pws_workers_take(&table, PWS_KIND_WORKER, &order_fds[i]);

        CHECK(w != NULL);
        w->number = (unsigned)i + 1;
        w->pid = 1000000000; /* nobody's */
    }
}

static void
close_table(int n)
{
    for (int i = 0; i < n; i++) {
        close(order_fds[i]);
    }
    pws_workers_close(&table);
}

static void
serve(int i)
{
    table.all[i].state = PWS_WORKER_SERVING;
    pws_cell_ready(&table.board->cells[i]);
}

TEST(a_new_worker_boots_in_a_cell_of_its_own)
{
    pws_worker_count n;

    open_table(2);
    n = pws_workers_count(&table);
    CHECK_EQ(n.living, 2);
    CHECK_EQ(n.booting, 2);
    CHECK_EQ(n.serving + n.spare, 0);
    CHECK(pws_worker_cell(&table, &table.all[1]) == &table.board->cells[1]);
    CHECK(pws_cell_busy_ms(&table.board->cells[1], INT64_MAX) > 0);
    close_table(2);
}

TEST(a_place_that_is_given_back_is_taken_again)
{
    int fd;

    open_table(3);
    pws_workers_give(&table.all[1]);
    CHECK_EQ(pws_workers_count(&table).living, 2);
    CHECK(pws_workers_take(&table, PWS_KIND_WORKER, &fd) == &table.all[1]);
    close(fd);
    close_table(3);
}

TEST(there_are_only_so_many_places)
{
    int fd = -1;

    open_table(1);
    for (int i = 1; i < PWS_BOARD_CELLS; i++) {
        table.all[i].state = PWS_WORKER_SERVING;
        table.all[i].order_fd = -1;
    }
    CHECK(pws_workers_take(&table, PWS_KIND_WORKER, &fd) == NULL);
    CHECK_EQ(errno, EAGAIN);
    close_table(1);
}

TEST(who_is_of_before_or_wants_to_leave_is_spare)
{
    pws_worker_count n;

    open_table(4);
    for (int i = 0; i < 4; i++) {
        serve(i);
    }
    CHECK(pws_workers_spare(&table, false) == NULL);
    table.all[2].generation = 0;
    atomic_store(&table.board->cells[3].leaving, true);
    n = pws_workers_count(&table);
    CHECK_EQ(n.serving, 2);
    CHECK_EQ(n.spare, 2);
    CHECK(pws_workers_spare(&table, false) == &table.all[2]); /* the older one */
    close_table(4);
}

TEST(of_the_wanted_the_oldest_goes_first_and_who_boots_last)
{
    open_table(4);
    CHECK(pws_workers_spare(&table, true) == &table.all[3]); /* nobody serves */
    serve(2);
    serve(1);
    CHECK(pws_workers_spare(&table, true) == &table.all[1]);
    close_table(4);
}

TEST(who_was_sent_a_deadly_signal_counts_no_more)
{
    pws_worker_count n;

    open_table(2);
    serve(0);
    table.all[0].last_signal = 6;
    n = pws_workers_count(&table);
    CHECK_EQ(n.living, 2);
    CHECK_EQ(n.serving, 0);
    CHECK(pws_workers_spare(&table, true) == &table.all[1]);
    close_table(2);
}

TEST(orders_arrive_as_bytes_and_their_end_as_the_end)
{
    char bytes[8];

    open_table(1);
    serve(0);
    pws_worker_order(&table.all[0], PWS_ORDER_REOPEN);
    pws_worker_retire(&table.all[0], PWS_ORDER_RETIRE, 5);
    CHECK_EQ(table.all[0].state, PWS_WORKER_RETIRING);
    CHECK_EQ(table.all[0].end_ms, 5);
    pws_worker_retire(&table.all[0], PWS_ORDER_QUICK, 9);
    CHECK_EQ(table.all[0].end_ms, 5); /* an earlier end stays */
    CHECK_EQ(read(order_fds[0], bytes, sizeof(bytes)), 3);
    CHECK_BYTES(bytes, 3, "\4\1\2");
    pws_workers_forget(&table);
    CHECK_EQ(read(order_fds[0], bytes, sizeof(bytes)), 0);
    close_table(1);
}

TEST(an_order_to_nobody_is_dropped)
{
    open_table(1);
    CHECK(pws_signals_open() >= 0);
    close(order_fds[0]);
    order_fds[0] = -1;
    pws_worker_order(&table.all[0], PWS_ORDER_QUICK);
    pws_signals_close();
    close_table(1);
}

TEST(an_order_to_a_full_pipe_is_dropped)
{
    open_table(1);
    for (int i = 0; i < 70000; i++) {
        pws_worker_order(&table.all[0], PWS_ORDER_REOPEN);
    }
    close_table(1);
}
