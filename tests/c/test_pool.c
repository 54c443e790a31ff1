/* The pool: last in, first out, within its bound. */
#include "harness.h"

#include "engine/pool.h"

TEST(the_last_block_goes_out_next)
{
    pws_pool pool;
    void *a, *b;

    pws_pool_init(&pool, 64, 4);
    a = pws_pool_take(&pool);
    b = pws_pool_take(&pool);
    CHECK(a != NULL && b != NULL && a != b);
    pws_pool_give(&pool, a);
    pws_pool_give(&pool, b);

    CHECK(pws_pool_take(&pool) == b);
    CHECK(pws_pool_take(&pool) == a);
    CHECK_EQ(pool.kept, 0);
    pws_pool_give(&pool, a);
    pws_pool_give(&pool, b);
    pws_pool_clear(&pool);
}

TEST(a_pool_keeps_no_more_than_its_bound)
{
    pws_pool pool;
    void *blocks[5];

    pws_pool_init(&pool, 64, 3);
    for (int i = 0; i < 5; i++) {
        blocks[i] = pws_pool_take(&pool);
    }
    for (int i = 0; i < 5; i++) {
        pws_pool_give(&pool, blocks[i]);
    }

    CHECK_EQ(pool.kept, 3);
    pws_pool_clear(&pool);
    CHECK_EQ(pool.kept, 0);
}

TEST(no_block_may_be_given_back)
{
    pws_pool pool;

    pws_pool_init(&pool, 64, 3);
    pws_pool_give(&pool, NULL);

    CHECK_EQ(pool.kept, 0);
}
