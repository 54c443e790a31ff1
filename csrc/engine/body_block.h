/* body_block.h - memory for bodies that their reader can keep.
 *
 * Who reads a whole body from such a block is given the block, and nothing is copied.
 * Blocks are made and freed by who knows of what they are made (py/body_bytes.c); the
 * engine takes them for bodies, and puts them back if they were not given away. Nobody
 * needs a lock: a block belongs to who has taken it. */
#ifndef PWS_ENGINE_BODY_BLOCK_H
#define PWS_ENGINE_BODY_BLOCK_H

#include <stdatomic.h>
#include <stdint.h>

/* How many blocks there may be at a time, in use or not. */
#define PWS_BODY_BLOCKS_MAX 8

typedef struct {
    char *memory;
    uint64_t room; /* in bytes */
    void *owner;   /* what the memory is of */
} pws_body_block;

typedef struct {
    _Atomic(pws_body_block *) free[PWS_BODY_BLOCKS_MAX];
    _Atomic uint64_t rooms; /* of all blocks, as their maker counts them */
} pws_body_blocks;

/* Take the largest block of `least` to `most` bytes; NULL: none is free. */
pws_body_block *pws_body_block_take(pws_body_blocks *blocks, uint64_t least,
                                    uint64_t most);

/* Put a block there for others, a new one or one that was taken. */
void pws_body_block_put(pws_body_blocks *blocks, pws_body_block *block);

#endif
