/* proc/sign.c: who waits for something is asked whether it lives. Time is the test's,
 * and so are the answers. */
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "engine/poller.h"
#include "harness.h"
#include "proc/sign.h"

#define TIMEOUT_MS 1000
#define START_MS 100250 /* the moments are 100500, 101000, ... */

static pws_workers table;
static pws_worker *w;
static pws_cell *cell;
static int order_fd;

static void
begin(pws_worker_kind kind)
{
    CHECK_EQ(pws_workers_init(&table), 0);
    w = pws_workers_take(&table, kind, &order_fd);
    CHECK(w != NULL);
    cell = pws_worker_cell(&table, w);
    w->pid = 1000000000; /* nobody's */
    w->state = PWS_WORKER_SERVING;
    pws_cell_ready(cell);
}

static void
end(void)
{
    close(order_fd);
    pws_workers_close(&table);
}

static bool
is_missing(int64_t now_ms)
{
    return pws_sign_is_missing(&table, w, TIMEOUT_MS, now_ms);
}

/* What it has been asked, and not read yet; 0: nothing. */
static unsigned
question(void)
{
    unsigned char letter = 0;

    (void)!recv(order_fd, &letter, 1, MSG_DONTWAIT);
    return letter;
}

TEST(one_that_answers_is_asked_twice_in_a_timeout)
{
    begin(PWS_KIND_WORKER);
    CHECK_EQ(pws_sign_due_ms(w), PWS_NEVER);
    CHECK(!is_missing(START_MS));
    CHECK_EQ(question(), 0);
    CHECK_EQ(pws_sign_due_ms(w), 100500);
    for (int64_t now_ms = 100500; now_ms < 110000; now_ms += 500) {
        CHECK(!is_missing(now_ms - 1));
        CHECK_EQ(question(), 0);
        CHECK(!is_missing(now_ms));
        CHECK_EQ(question(), PWS_LETTER_SIGN);
        CHECK_EQ(pws_sign_due_ms(w), now_ms + 500);
        CHECK_EQ(w->sign.heard_ms, now_ms > 100500 ? now_ms - 500 : 0);
        atomic_fetch_add(&cell->signs, 1);
    }
    end();
}

TEST(one_that_does_not_answer_for_so_long_is_found)
{
    begin(PWS_KIND_MOLD);
    CHECK(!is_missing(START_MS));
    CHECK(!is_missing(100500));
    CHECK(!is_missing(101000));
    CHECK(!pws_sign_is_answered(&table, w));
    CHECK(is_missing(101500));
    CHECK_EQ(question(), PWS_LETTER_SIGN);
    CHECK_EQ(question(), 0); /* it is not asked again before it has answered */
    end();
}

TEST(a_late_answer_is_one)
{
    begin(PWS_KIND_WORKER);
    CHECK(!is_missing(START_MS));
    CHECK(!is_missing(100500));
    CHECK(!is_missing(101000));
    atomic_fetch_add(&cell->signs, 1);
    CHECK(!is_missing(101500)); /* it is asked once more instead */
    CHECK_EQ(w->sign.asked_ms, 101500);
    CHECK_EQ(w->sign.heard_ms, 100500);
    end();
}

TEST(time_that_the_master_has_overslept_does_not_count)
{
    begin(PWS_KIND_WORKER);
    CHECK(!is_missing(START_MS));
    CHECK(!is_missing(100500));
    CHECK(!is_missing(101000));
    CHECK(!is_missing(160250)); /* all were stopped */
    CHECK(!is_missing(160500));
    CHECK(is_missing(161000));
    end();
}

TEST(who_does_something_meanwhile_is_not_missing)
{
    begin(PWS_KIND_WORKER);
    CHECK(!is_missing(START_MS));
    CHECK(!is_missing(100500));
    CHECK(!is_missing(101000));
    (void)pws_cell_count(cell);
    CHECK(!is_missing(101500));
    CHECK(!is_missing(102000));
    atomic_store(&cell->busy_since_ms, 102100);
    CHECK(!is_missing(102500));
    pws_cell_end(cell);
    CHECK(!is_missing(103000));
    CHECK(is_missing(103500));
    end();
}

TEST(who_knows_that_a_sign_is_owed_is_missing_whatever_it_does)
{
    begin(PWS_KIND_WORKER);
    CHECK(!is_missing(START_MS));
    CHECK(!is_missing(100500));
    atomic_store(&cell->owing, true); /* its threads serve beside a loop */
    CHECK(!is_missing(101000));
    (void)pws_cell_count(cell);
    CHECK(is_missing(101500));
    end();
}

TEST(who_boots_or_ends_is_not_asked)
{
    begin(PWS_KIND_WORKER);
    w->state = PWS_WORKER_BOOTING;
    CHECK(!is_missing(START_MS));
    CHECK_EQ(pws_sign_due_ms(w), PWS_NEVER);
    w->state = PWS_WORKER_SERVING;
    CHECK(!is_missing(START_MS));
    CHECK(!is_missing(100500));
    CHECK_EQ(question(), PWS_LETTER_SIGN);
    atomic_store(&cell->closed, true); /* before it has read that */
    CHECK(!is_missing(101000));
    CHECK(!is_missing(190000));
    CHECK_EQ(pws_sign_due_ms(w), PWS_NEVER);
    atomic_store(&cell->closed, false);
    w->state = PWS_WORKER_RETIRING;
    CHECK(!is_missing(190500));
    CHECK_EQ(question(), 0);
    end();
}

TEST(without_a_timeout_nobody_is_asked)
{
    begin(PWS_KIND_WORKER);
    for (int64_t now_ms = 0; now_ms < 1000000; now_ms += 1000) {
        CHECK(!pws_sign_is_missing(&table, w, 0, now_ms));
        CHECK_EQ(pws_sign_due_ms(w), PWS_NEVER);
    }
    CHECK_EQ(question(), 0);
    end();
}

TEST(the_shortest_timeout_has_halves_too)
{
    begin(PWS_KIND_WORKER);
    CHECK(!pws_sign_is_missing(&table, w, 1, 100));
    CHECK(!pws_sign_is_missing(&table, w, 1, 101));
    CHECK_EQ(question(), PWS_LETTER_SIGN);
    end();
}

TEST(a_question_that_finds_no_room_is_put_later)
{
    begin(PWS_KIND_WORKER);
    CHECK(!is_missing(START_MS));
    while (pws_worker_order(w, PWS_ORDER_REOPEN)) {
    }
    CHECK(!is_missing(100500));
    CHECK(!w->sign.sent);
    while (question() != 0) {
    }
    CHECK(!is_missing(101000));
    CHECK(w->sign.sent);
    CHECK_EQ(question(), PWS_LETTER_SIGN);
    CHECK(!is_missing(101500));
    CHECK(is_missing(102000));
    end();
}

TEST(one_that_leaves_its_socket_full_is_found)
{
    begin(PWS_KIND_WORKER);
    CHECK(!is_missing(START_MS));
    while (pws_worker_order(w, PWS_ORDER_REOPEN)) {
    }
    CHECK(!is_missing(100500));
    CHECK(!is_missing(101000));
    CHECK(is_missing(101500));
    end();
}

TEST(a_foreign_one_must_give_a_sign_unasked)
{
    begin(PWS_KIND_WORKER);
    atomic_store(&cell->foreign, true);
    CHECK(!is_missing(START_MS));
    for (int64_t now_ms = 100500; now_ms < 110000; now_ms += 500) {
        CHECK(!is_missing(now_ms));
        atomic_fetch_add(&cell->signs, 1);
    }
    CHECK(!is_missing(110000));
    CHECK(!is_missing(110500));
    CHECK(is_missing(111000));
    CHECK_EQ(question(), 0); /* it would not read it */
    end();
}
