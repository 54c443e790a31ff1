#include "base/board.h"

#include "base/clock.h"

#define RELAXED memory_order_relaxed

void
pws_cell_assign(pws_cell *cell)
{
    atomic_store_explicit(&cell->requests, 0, RELAXED);
    atomic_store_explicit(&cell->ready, false, RELAXED);
    atomic_store_explicit(&cell->leaving, false, RELAXED);
    atomic_store_explicit(&cell->closed, false, RELAXED);
    pws_cell_begin(cell);
    atomic_store(&cell->claim, (uint64_t)(pws_cell_nonce(cell) + 1) << 32);
}

uint32_t
pws_cell_nonce(const pws_cell *cell)
{
    return (uint32_t)(atomic_load(&cell->claim) >> 32);
}

bool
pws_cell_claim(pws_cell *cell, uint32_t nonce, int32_t pid)
{
    uint64_t unclaimed = (uint64_t)nonce << 32;

    return atomic_compare_exchange_strong(&cell->claim, &unclaimed,
                                          unclaimed | (uint32_t)pid);
}

int32_t
pws_cell_claimed(const pws_cell *cell)
{
    return (int32_t)(uint32_t)atomic_load(&cell->claim);
}

bool
pws_cell_revoke(pws_cell *cell)
{
    uint32_t nonce = pws_cell_nonce(cell);
    uint64_t unclaimed = (uint64_t)nonce << 32;

    return atomic_compare_exchange_strong(&cell->claim, &unclaimed,
                                          (uint64_t)(nonce + 1) << 32);
}

void
pws_cell_ready(pws_cell *cell)
{
    pws_cell_end(cell);
    atomic_store_explicit(&cell->ready, true, memory_order_release);
}

void
pws_cell_begin(pws_cell *cell)
{
    atomic_store_explicit(&cell->busy_since_ms, pws_clock_now_ms(), RELAXED);
}

void
pws_cell_end(pws_cell *cell)
{
    atomic_store_explicit(&cell->busy_since_ms, 0, RELAXED);
}

uint64_t
pws_cell_count(pws_cell *cell)
{
    uint64_t n = atomic_load_explicit(&cell->requests, RELAXED) + 1;

    atomic_store_explicit(&cell->requests, n, RELAXED); /* there is one writer */
    return n;
}

int64_t
pws_cell_busy_ms(const pws_cell *cell, int64_t now_ms)
{
    int64_t since_ms = atomic_load_explicit(&cell->busy_since_ms, RELAXED);

    return since_ms == 0 || now_ms < since_ms ? 0 : now_ms - since_ms;
}
