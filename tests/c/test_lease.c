/* The lease: one holder at a time, and whoever waits for it gets it. */
#include "harness.h"

#include <pthread.h>

#include "engine/lease.h"

#define ROUNDS 50000

typedef struct {
    pws_lease lease;
    long count; /* only touched by the holder */
    bool by_try;
} shared;

static void *
add_up(void *argument)
{
    shared *s = argument;

    for (int i = 0; i < ROUNDS; i++) {
        if (!s->by_try || !pws_lease_try_take(&s->lease)) {
            pws_lease_take(&s->lease);
        }
        s->count++;
        pws_lease_drop(&s->lease);
    }
    return NULL;
}

TEST(one_holder_at_a_time)
{
    pws_lease lease;

    pws_lease_init(&lease);
    CHECK(pws_lease_try_take(&lease));
    CHECK(!pws_lease_try_take(&lease));
    pws_lease_drop(&lease);
    CHECK(pws_lease_try_take(&lease));
    pws_lease_drop(&lease);
}

TEST(threads_count_together)
{
    pthread_t threads[4];

    for (int by_try = 0; by_try < 2; by_try++) {
        shared s = {.count = 0, .by_try = by_try != 0};

        pws_lease_init(&s.lease);
        for (int i = 0; i < 4; i++) {
            CHECK_EQ(pthread_create(&threads[i], NULL, add_up, &s), 0);
        }
        for (int i = 0; i < 4; i++) {
            CHECK_EQ(pthread_join(threads[i], NULL), 0);
        }
        CHECK_EQ(s.count, 4 * ROUNDS);
        CHECK(pws_lease_try_take(&s.lease));
    }
}

static void *
take_once(void *argument)
{
    shared *s = argument;

    pws_lease_take(&s->lease);
    s->count++;
    pws_lease_drop(&s->lease);
    return NULL;
}

TEST(a_thread_that_waits_is_woken)
{
    shared s = {.count = 0};
    pthread_t threads[3];

    pws_lease_init(&s.lease);
    pws_lease_take(&s.lease);
    for (int i = 0; i < 3; i++) {
        CHECK_EQ(pthread_create(&threads[i], NULL, take_once, &s), 0);
    }
    while (atomic_load(&s.lease.word) != 2) {
    }
    pws_lease_drop(&s.lease);
    for (int i = 0; i < 3; i++) {
        CHECK_EQ(pthread_join(threads[i], NULL), 0);
    }

    CHECK_EQ(s.count, 3);
}
