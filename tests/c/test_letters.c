/* engine/letters.c: orders to a crew, which are for the request of one of its threads.
 * What the relief does about a single executor is in test_stuck.c. */
#include "peer.h"

#include <fcntl.h>
#include <unistd.h>

#include "base/clock.h"
#include "engine/crew.h"
#include "engine/letters.h"

enum { GIVE_UP = 8, SEATS = 3 };

static rig r;
static pws_crew crew;
static pws_cell cell;
static int news[2];

/* A crew of which nobody runs: the test is who polls. */
static void
start(void)
{
    pws_relief *relief = &r.engine.relief;

    rig_prepare(&r);
    rig_open(&r);
    pws_cell_assign(&cell);
    CHECK_EQ(pipe2(news, O_NONBLOCK), 0);
    CHECK_EQ(pws_crew_init(&crew, &r.engine, SEATS), 0);
    for (unsigned i = 0; i < SEATS; i++) {
        crew.calls[i].hand = &cell.hands[i];
    }
    relief->terms = (pws_relief_terms){
        .cell = &cell, .news_fd = news[1], .give_up_letters = GIVE_UP};
}

static void
finish(void)
{
    close(news[0]);
    close(news[1]);
    rig_close(&r);
    pws_crew_free(&crew);
}

/* Returns the number of a request that a thread has in hand now. */
static uint64_t
begin(unsigned seat)
{
    pws_hand_begin(&cell.hands[seat], PWS_SLICE("GET"), PWS_SLICE("/"),
                   pws_clock_now_ms());
    return atomic_load(&cell.hands[seat].sequence);
}

/* The letter has come for `number` in the hand of that thread. */
static void
order(unsigned seat, uint64_t number)
{
    atomic_store(&cell.hands[seat].given_up, number);
    r.engine.poller.letters |= GIVE_UP;
    pws_letters_witness(&r.engine.relief);
}

TEST(an_order_is_for_the_request_of_any_thread)
{
    start();
    begin(0);
    order(2, begin(2));
    CHECK(atomic_load(&cell.relieved));
    CHECK(atomic_load(&cell.deserted)); /* there is nobody else */
    CHECK_EQ(r.engine.relief.letters, GIVE_UP);
    finish();
}

TEST(an_order_for_what_has_ended_is_none)
{
    uint64_t number;

    start();
    begin(0);
    number = begin(1);
    order(1, number);
    CHECK(atomic_load(&cell.relieved));
    pws_hand_end(&cell.hands[1]);
    begin(1);
    pws_letters_witness(&r.engine.relief);
    CHECK(!atomic_load(&cell.relieved));
    CHECK(!atomic_load(&cell.deserted));
    CHECK_EQ(r.engine.poller.letters, 0);
    CHECK_EQ(r.engine.relief.letters, 0);
    finish();
}

TEST(an_order_for_whatever_there_is_holds_for_all)
{
    start();
    begin(1);
    order(0, PWS_HAND_ANY);
    CHECK(atomic_load(&cell.relieved));
    finish();
}

TEST(a_silent_main_thread_is_a_reason_of_its_own)
{
    start();
    begin(1);
    r.engine.poller.owes_sign = true;
    order(0, 0);
    CHECK(atomic_load(&cell.relieved));
    r.engine.poller.owes_sign = false; /* it has been heard since */
    pws_letters_witness(&r.engine.relief);
    CHECK(!atomic_load(&cell.relieved));
    CHECK_EQ(r.engine.relief.letters, 0);
    finish();
}

TEST(a_crew_may_come_back_for_some_time)
{
    pws_relief *relief = &r.engine.relief;

    start();
    order(1, begin(1));
    relief->seen_ms = pws_clock_now_ms();
    pws_letters_heed(relief, NULL);
    CHECK(!relief->gives_up);
    CHECK(atomic_load(&r.engine.draining));
    relief->seen_ms -= 60000;
    pws_letters_heed(relief, NULL);
    CHECK(relief->gives_up);
    finish();
}

/* Beside a loop, which does not come to its bell. */
static void
hold_loop_up(pws_poller *bell)
{
    CHECK_EQ(pws_poller_init(bell), 0);
    crew.bell = bell;
    r.engine.poller.owes_sign = true;
}

TEST(threads_beside_a_loop_that_is_held_up_drain_and_end_their_requests)
{
    pws_poller bell;

    start();
    hold_loop_up(&bell);
    crew.out = 1;
    order(0, 0);
    CHECK(r.engine.drained);
    CHECK(atomic_load(&cell.relieved));
    CHECK(!atomic_load(&cell.deserted));
    crew.out = 0;
    pws_letters_witness(&r.engine.relief);
    CHECK(atomic_load(&cell.deserted));
    pws_poller_close(&bell);
    finish();
}

TEST(threads_beside_a_loop_that_is_held_up_may_come_back)
{
    pws_relief *relief = &r.engine.relief;
    pws_poller bell;

    start();
    hold_loop_up(&bell);
    crew.out = 1;
    relief->seen_ms = pws_clock_now_ms();
    r.engine.poller.letters |= GIVE_UP;
    pws_letters_heed(relief, NULL);
    CHECK(!relief->gives_up);
    CHECK(!atomic_load(&cell.deserted));
    relief->seen_ms -= 60000;
    pws_letters_heed(relief, NULL);
    CHECK(relief->gives_up);
    CHECK(atomic_load(&cell.deserted));
    pws_poller_close(&bell);
    finish();
}
