/* The wheel of deadlines, against made-up times. */
#include "harness.h"

#include <stdlib.h>

#include "engine/timers.h"

#define START 1000007
#define TURN ((int64_t)PWS_TICK_MS * PWS_WHEEL_SLOTS)

static pws_timers wheel;

static void
prepare(pws_timer *timers, int count)
{
    pws_timers_init(&wheel, START);
    for (int i = 0; i < count; i++) {
        timers[i] = (pws_timer){.deadline_ms = PWS_NEVER};
    }
}

TEST(a_deadline_is_met_within_a_tick_and_never_early)
{
    pws_timer timer;

    for (int64_t wait = 1; wait < 3 * TURN; wait += 1 + wait / 7) {
        int64_t now = START;

        prepare(&timer, 1);
        pws_timers_set(&wheel, &timer, START + wait);
        while (pws_timers_expired(&wheel, now) == NULL) {
            CHECK(now < START + wait + PWS_TICK_MS);
            now += 10;
        }
        CHECK(now >= START + wait);
        CHECK(pws_timers_expired(&wheel, now + 10 * TURN) == NULL);
    }
}

/* What a loop does: sleep as long as the wheel says. */
TEST(sleeping_as_told_meets_every_deadline)
{
    pws_timer timer;

    for (int64_t wait = 1; wait < 3 * TURN; wait += 1 + wait / 7) {
        int64_t now = START;
        int sleeps = 0;

        prepare(&timer, 1);
        pws_timers_set(&wheel, &timer, START + wait);
        while (pws_timers_expired(&wheel, now) == NULL) {
            int sleep = pws_timers_wait_ms(&wheel, now);

            CHECK(sleep > 0);
            CHECK(++sleeps < 8);
            now += sleep;
        }
        CHECK(now >= START + wait && now <= START + wait + PWS_TICK_MS);
        CHECK_EQ(pws_timers_wait_ms(&wheel, now), -1);
    }
}

TEST(a_later_deadline_replaces_the_earlier)
{
    pws_timer timer;

    prepare(&timer, 1);
    pws_timers_set(&wheel, &timer, START + 1000);
    pws_timers_set(&wheel, &timer, START + 5000);

    CHECK(pws_timers_expired(&wheel, START + 4999) == NULL);
    CHECK(pws_timers_expired(&wheel, START + 5500) == &timer);
}

TEST(an_earlier_deadline_replaces_the_later)
{
    pws_timer timer;

    prepare(&timer, 1);
    pws_timers_set(&wheel, &timer, START + 50000);
    pws_timers_set(&wheel, &timer, START + 1000);

    CHECK(pws_timers_wait_ms(&wheel, START) <= 1000 + PWS_TICK_MS);
    CHECK(pws_timers_expired(&wheel, START + 1500) == &timer);
}

TEST(a_disarmed_timer_does_not_expire)
{
    pws_timer timer;

    prepare(&timer, 1);
    pws_timers_set(&wheel, &timer, START + 1000);
    pws_timers_set(&wheel, &timer, PWS_NEVER);
    CHECK(pws_timers_expired(&wheel, START + 5000) == NULL);
    CHECK(timer.next == NULL);

    pws_timers_set(&wheel, &timer, START + 6000);
    CHECK(pws_timers_expired(&wheel, START + 7000) == &timer);
}

TEST(a_removed_timer_is_off_the_wheel)
{
    pws_timer timers[2];

    prepare(timers, 2);
    pws_timers_set(&wheel, &timers[0], START + 1000);
    pws_timers_set(&wheel, &timers[1], START + 1000);
    pws_timers_remove(&wheel, &timers[0]);
    pws_timers_remove(&wheel, &timers[0]);

    CHECK(pws_timers_expired(&wheel, START + 2000) == &timers[1]);
    CHECK(pws_timers_expired(&wheel, START + 2000) == NULL);
    CHECK_EQ(pws_timers_wait_ms(&wheel, START + 2000), -1);
}

TEST(a_deadline_in_the_past_is_met_at_once)
{
    pws_timer timer;

    prepare(&timer, 1);
    CHECK(pws_timers_expired(&wheel, START + 10000) == NULL);
    pws_timers_set(&wheel, &timer, START);

    CHECK(pws_timers_expired(&wheel, START + 10000 + PWS_TICK_MS) == &timer);
}

/* A loop that was held up for longer than the wheel turns once. */
TEST(a_long_sleep_loses_no_timer)
{
    enum { COUNT = 2000 };
    static pws_timer timers[COUNT];
    int found = 0;

    prepare(timers, COUNT);
    for (int i = 0; i < COUNT; i++) {
        pws_timers_set(&wheel, &timers[i], START + (int64_t)i * 100);
    }
    while (pws_timers_expired(&wheel, START + 5 * TURN) != NULL) {
        found++;
    }

    CHECK_EQ(found, COUNT);
    CHECK_EQ(pws_timers_wait_ms(&wheel, START + 5 * TURN), -1);
}

TEST(many_timers_that_change_are_met_in_time)
{
    enum { COUNT = 500 };
    static pws_timer timers[COUNT];
    int64_t now = START;

    srand(1);
    prepare(timers, COUNT);
    for (int step = 0; step < 50000; step++) {
        pws_timer *timer = &timers[rand() % COUNT];

        now += rand() % 40;
        if (rand() % 4 == 0) {
            pws_timers_set(&wheel, timer, PWS_NEVER);
        }
        else {
            pws_timers_set(&wheel, timer, now + 1 + rand() % 200000);
        }
        while ((timer = pws_timers_expired(&wheel, now)) != NULL) {
            CHECK(timer->deadline_ms <= now);
            timer->deadline_ms = PWS_NEVER;
        }
        for (int i = 0; step % 100 == 0 && i < COUNT; i++) {
            CHECK(timers[i].deadline_ms > now - PWS_TICK_MS);
        }
    }
}
