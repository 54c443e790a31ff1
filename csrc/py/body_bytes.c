#include "py/body_bytes.h"

#include <stdlib.h>

/* Bodies for which it is worth while, in bytes: to copy a shorter one costs no more;
 * and what all blocks of a worker may hold. */
#define SHORTEST (32 * 1024)
#define LONGEST (2 * 1024 * 1024)
#define ALL_MAX ((uint64_t)4 * 1024 * 1024)

/* What a block counts for, so that there are never too many. */
static uint64_t
weight(uint64_t room)
{
    return room > ALL_MAX / PWS_BODY_BLOCKS_MAX ? room : ALL_MAX / PWS_BODY_BLOCKS_MAX;
}

bool
pws_body_bytes_would_do(const pws_body *body, Py_ssize_t n)
{
    return n >= SHORTEST && n <= LONGEST && body->store == PWS_STORE_MEMORY &&
           body->complete && body->taken == 0 && body->size == (uint64_t)n;
}

/* Put the block there with a new object of `room` bytes, which it is counted for. */
static void
fill_block(pws_body_blocks *blocks, pws_body_block *block, uint64_t room)
{
    PyObject *bytes = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)room);

    if (bytes == NULL) {
        PyErr_Clear();
        free(block);
        atomic_fetch_sub(&blocks->rooms, weight(room));
        return;
    }
    block->owner = bytes;
    block->memory = PyBytes_AS_STRING(bytes);
    block->room = room;
    pws_body_block_put(blocks, block);
}

PyObject *
pws_body_bytes_take(pws_exchange *x)
{
    uint64_t size = x->body.size;
    pws_body_block *block = pws_body_give(&x->body);
    PyObject *bytes;

    if (block == NULL) {
        return NULL;
    }
    bytes = block->owner;
    fill_block(&x->engine->bodies.blocks, block, block->room);
    if ((uint64_t)PyBytes_GET_SIZE(bytes) != size) {
        (void)_PyBytes_Resize(&bytes, (Py_ssize_t)size);
    }
    return bytes;
}

static void
free_block(pws_body_blocks *blocks, pws_body_block *block)
{
    atomic_fetch_sub(&blocks->rooms, weight(block->room));
    Py_DECREF((PyObject *)block->owner);
    free(block);
}

/* Free a block in which no body of this size would be received. Returns whether there
 * was one. */
static bool
free_one_that_does_not_suit(pws_body_blocks *blocks, uint64_t size)
{
    pws_body_block *block = pws_body_block_take(blocks, 0, size - 1);

    if (block == NULL) {
        block = pws_body_block_take(blocks, size * 2 + 1, UINT64_MAX);
    }
    if (block == NULL) {
        return false;
    }
    free_block(blocks, block);
    return true;
}

void
pws_body_bytes_want(const pws_exchange *x)
{
    pws_body_blocks *blocks = &x->engine->bodies.blocks;
    uint64_t room = x->body.size;
    pws_body_block *block;

    if (x->body.block != NULL) {
        return;
    }
    atomic_fetch_add(&blocks->rooms, weight(room));
    while (atomic_load(&blocks->rooms) > ALL_MAX) {
        if (!free_one_that_does_not_suit(blocks, room)) {
            atomic_fetch_sub(&blocks->rooms, weight(room));
            return;
        }
    }
    block = malloc(sizeof(*block));
    if (block == NULL) {
        atomic_fetch_sub(&blocks->rooms, weight(room));
        return;
    }
    fill_block(blocks, block, room);
}

void
pws_body_bytes_drop(pws_body_blocks *blocks)
{
    pws_body_block *block;

    while ((block = pws_body_block_take(blocks, 0, UINT64_MAX)) != NULL) {
        free_block(blocks, block);
    }
}
