#include "engine/pool.h"

#include <stdlib.h>
#include <string.h>

void
pws_pool_init(pws_pool *pool, size_t size, unsigned keep_max)
{
    *pool = (pws_pool){NULL, size, 0, keep_max};
}

void
pws_pool_clear(pws_pool *pool)
{
    while (pool->free != NULL) {
        void *block = pool->free;

        memcpy(&pool->free, block, sizeof(void *));
        free(block);
    }
    pool->kept = 0;
}

void *
pws_pool_take(pws_pool *pool)
{
    void *block = pool->free;

    if (block == NULL) {
        return malloc(pool->size);
    }
    memcpy(&pool->free, block, sizeof(void *));
    pool->kept--;
    return block;
}

void
pws_pool_give(pws_pool *pool, void *block)
{
    if (block == NULL) {
        return;
    }
    if (pool->kept >= pool->keep_max) {
        free(block);
        return;
    }
    memcpy(block, &pool->free, sizeof(void *));
    pool->free = block;
    pool->kept++;
}
