#include "engine/body_block.h"

#include <stddef.h>

pws_body_block *
pws_body_block_take(pws_body_blocks *blocks, uint64_t least, uint64_t most)
{
    pws_body_block *best = NULL;

    for (int i = 0; i < PWS_BODY_BLOCKS_MAX; i++) {
        pws_body_block *block, *other;

        if (atomic_load_explicit(&blocks->free[i], memory_order_relaxed) == NULL) {
            continue;
        }
        other = block = atomic_exchange(&blocks->free[i], NULL);
        if (block != NULL && block->room >= least && block->room <= most &&
            (best == NULL || block->room > best->room)) {
            other = best;
            best = block;
        }
        if (other != NULL) {
            pws_body_block_put(blocks, other);
        }
    }
    return best;
}

/* There are no more blocks than places, so one is free; where, may change meanwhile. */
void
pws_body_block_put(pws_body_blocks *blocks, pws_body_block *block)
{
    for (unsigned i = 0;; i = (i + 1) % PWS_BODY_BLOCKS_MAX) {
        pws_body_block *none = NULL;

        if (atomic_compare_exchange_strong(&blocks->free[i], &none, block)) {
            return;
        }
    }
}
