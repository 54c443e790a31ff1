/* pool.h - blocks of one size, last in first out.
 *
 * The block that was given back last is still in the cache of the CPU: it goes out
 * next. A pool belongs to one engine and is used under its lease. */
#ifndef PWS_ENGINE_POOL_H
#define PWS_ENGINE_POOL_H

#include <stddef.h>

typedef struct {
    void *free; /* each free block begins with a pointer to the next */
    size_t size;
    unsigned kept;
    unsigned keep_max;
} pws_pool;

/* A pool of blocks of `size` bytes that keeps up to `keep_max` free ones. */
void pws_pool_init(pws_pool *pool, size_t size, unsigned keep_max);

/* Free all blocks that were given back. */
void pws_pool_clear(pws_pool *pool);

/* A block, or NULL without memory. Its content is undefined. */
void *pws_pool_take(pws_pool *pool);

/* Takes a block back. NULL is fine. */
void pws_pool_give(pws_pool *pool, void *block);

#endif
