#include "base/ring.h"

#include <stdatomic.h>

/* Positions count bytes since the ring was empty memory; they only grow. Bytes at
 * `written` up to `put` wait. A line never lies across the end of the room: where it
 * would, NULs fill what is left there. */
typedef struct pws_ring_memory {
    _Atomic uint64_t put;
    _Atomic uint64_t written;
    _Atomic uint64_t
        aim; /* the end of the write() underway; `written`: there is none */
    char bytes[];
} ring_memory;

/* A lock in the memory would be held for ever by the dead. */
_Static_assert(ATOMIC_LLONG_LOCK_FREE == 2, "positions are single stores");

void
pws_ring_open(pws_ring *ring, void *memory, size_t size)
{
    ring->memory = memory;
    ring->room = size - sizeof(ring_memory);
}

size_t
pws_ring_waiting(const pws_ring *ring)
{
    ring_memory *m = ring->memory;

    return m != NULL ? (size_t)(atomic_load(&m->put) - atomic_load(&m->written)) : 0;
}

bool
pws_ring_put(pws_ring *ring, pws_slice line)
{
    ring_memory *m = ring->memory;
    uint64_t put;
    size_t at, filler = 0;

    if (m == NULL) {
        return false;
    }
    put = atomic_load_explicit(&m->put, memory_order_relaxed);
    at = (size_t)(put % ring->room);
    if (line.len > ring->room - at) {
        filler = ring->room - at;
    }
    if (pws_ring_waiting(ring) + filler + line.len > ring->room) {
        return false;
    }
    memset(m->bytes + at, '\0', filler);
    memcpy(m->bytes + (at + filler) % ring->room, line.at, line.len);
    atomic_store_explicit(&m->put, put + filler + line.len, memory_order_release);
    return true;
}

static void
set_written(ring_memory *m, uint64_t position)
{
    atomic_store(&m->written, position);
    atomic_store(&m->aim, position);
}

/* The part of `bytes` that is whole lines. */
static size_t
whole_lines(const char *bytes, size_t len)
{
    const char *end = len > 0 ? memrchr(bytes, '\n', len) : NULL;

    return end != NULL ? (size_t)(end + 1 - bytes) : 0;
}

/* The lines that can be written in one go; none: the ring is empty. It is another
 * process's memory, so nothing in there is believed. */
static pws_slice
next_lines(pws_ring *ring)
{
    ring_memory *m = ring->memory;
    uint64_t put = atomic_load_explicit(&m->put, memory_order_acquire);
    uint64_t written = atomic_load(&m->written);
    size_t at = (size_t)(written % ring->room), len;

    if (put - written <= ring->room && put != written && m->bytes[at] == '\0') {
        written += ring->room - at;
        at = 0;
    }
    if (put - written <= ring->room) {
        len = (size_t)(put - written);
        len = whole_lines(m->bytes + at, len < ring->room - at ? len : ring->room - at);
        if (len > 0) {
            set_written(m, written);
            return (pws_slice){m->bytes + at, len};
        }
    }
    set_written(m, put);
    return (pws_slice){NULL, 0};
}

bool
pws_ring_write(pws_ring *ring, pws_sink *sink)
{
    ring_memory *m = ring->memory;
    pws_slice lines;

    while (m != NULL && (lines = next_lines(ring)).len > 0) {
        uint64_t written = atomic_load(&m->written);
        size_t n;

        atomic_store(&m->aim, written + lines.len);
        n = pws_sink_write(sink, lines.at, lines.len);
        set_written(m, written + whole_lines(lines.at, n));
        if (n < lines.len) {
            return false;
        }
    }
    return true;
}

bool
pws_ring_drain(void *memory, size_t size, int fd)
{
    pws_sink sink = PWS_SINK_ON(fd);
    pws_ring ring;
    bool empty;

    pws_ring_open(&ring, memory, size);
    if (pws_ring_waiting(&ring) == 0) {
        return true;
    }
    (void)pws_sink_open(&sink, fd); /* without, it is written to as carefully */
    if (atomic_load(&ring.memory->aim) != atomic_load(&ring.memory->written)) {
        pws_sink_begin_line(&sink);
    }
    empty = pws_ring_write(&ring, &sink);
    pws_sink_close(&sink);
    return empty;
}
