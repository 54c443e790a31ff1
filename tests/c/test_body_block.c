/* Blocks that wait for bodies: who takes one has it alone. */
#include "harness.h"

#include <pthread.h>
#include <string.h>

#include "engine/body_block.h"

#define THREADS 3
#define TURNS 50000

static pws_body_blocks blocks;
static pws_body_block all[PWS_BODY_BLOCKS_MAX];

static void
put_all(void)
{
    memset(&blocks, 0, sizeof(blocks));
    for (unsigned i = 0; i < PWS_BODY_BLOCKS_MAX; i++) {
        all[i] = (pws_body_block){.room = 1000 * (i + 1)};
        pws_body_block_put(&blocks, &all[i]);
    }
}

/* All are there, once each; the largest comes first. */
static void
check_all_are_there(void)
{
    for (unsigned i = PWS_BODY_BLOCKS_MAX; i-- > 0;) {
        CHECK(pws_body_block_take(&blocks, 0, UINT64_MAX) == &all[i]);
    }
    CHECK(pws_body_block_take(&blocks, 0, UINT64_MAX) == NULL);
}

TEST(the_largest_that_suits_is_taken)
{
    put_all();
    CHECK(pws_body_block_take(&blocks, 2001, 2999) == NULL);
    CHECK(pws_body_block_take(&blocks, 8001, UINT64_MAX) == NULL);
    CHECK(pws_body_block_take(&blocks, 2000, 2000) == &all[1]);
    CHECK(pws_body_block_take(&blocks, 2000, 2000) == NULL);
    CHECK(pws_body_block_take(&blocks, 1000, 5500) == &all[4]);
    CHECK(pws_body_block_take(&blocks, 1000, 5500) == &all[3]);
    for (unsigned i = 0; i < 3; i++) {
        pws_body_block_put(&blocks, &all[i == 0 ? 1 : i + 2]);
    }
    check_all_are_there();
}

/* Up to two at a time, which nobody else must touch. */
static void *
take_and_put(void *self)
{
    for (unsigned i = 0; i < TURNS; i++) {
        pws_body_block *one = pws_body_block_take(&blocks, 3000, UINT64_MAX);
        pws_body_block *other = pws_body_block_take(&blocks, 0, i % 8000);

        if (one != NULL) {
            CHECK(one->owner == NULL);
            one->owner = self;
        }
        if (other != NULL) {
            CHECK(other->owner == NULL);
            pws_body_block_put(&blocks, other);
        }
        if (one != NULL) {
            CHECK(one->owner == self);
            one->owner = NULL;
            pws_body_block_put(&blocks, one);
        }
    }
    return NULL;
}

TEST(threads_have_what_they_take_alone)
{
    pthread_t threads[THREADS];
    int marks[THREADS];

    put_all();
    for (unsigned i = 0; i < THREADS; i++) {
        CHECK_EQ(pthread_create(&threads[i], NULL, take_and_put, &marks[i]), 0);
    }
    for (unsigned i = 0; i < THREADS; i++) {
        CHECK_EQ(pthread_join(threads[i], NULL), 0);
    }
    check_all_are_there();
}
