/* ring.h - lines on their way to a file, in memory that outlives who has put them
 * there.
 *
 * One process (the producer) puts lines in and writes them out in batches. The memory
 * is the caller's. Where it is shared with another process (mmap, MAP_SHARED |
 * MAP_ANONYMOUS, before the fork), that one writes what is left when the producer has
 * died, at whatever instruction, by SIGKILL say:
 *
 *     memory = mmap(...)              each worker slot has its own, of PWS_RING_SIZE;
 *                                     new memory is an empty ring
 *     fork()                          the worker puts and writes, the master does not
 *                                     touch it
 *     waitpid() has returned its pid  pws_ring_drain(memory, PWS_RING_SIZE, fd of the
 *                                     log), before the slot is another worker's
 *
 * What is promised: a line is in the ring as a whole or not at all (one store makes it
 * visible); a line in the ring is written at least once; it is written twice only when
 * the producer died within the one write() that it was in, or before it could note the
 * end of that write. No process can know better: between the kernel's writing and a
 * note of it, there is always a moment to be killed in. Where the kernel has cut that
 * write short in the middle of a line, the rest of the lines begins on a new one.
 *
 * Not for several threads at once: the producer's calls are under one lock or lease. */
#ifndef PWS_BASE_RING_H
#define PWS_BASE_RING_H

#include "base/sink.h"
#include "base/slice.h"

/* What a ring of a worker has: what its clients cause in the time of a batch, and more
 * than two of the longest lines. */
#define PWS_RING_SIZE (64u * 1024)

typedef struct {
    struct pws_ring_memory *memory; /* NULL: it takes and has nothing */
    size_t room;                    /* for lines */
} pws_ring;

/* A ring in `size` bytes of `memory` (borrowed, aligned to 8), with what is in there;
 * zeroed memory is empty. */
void pws_ring_open(pws_ring *ring, void *memory, size_t size);

/* Put one line in, which ends with its newline and does not begin with NUL. Returns
 * false when there is no room; there is always room in an empty ring for a line of up
 * to half its size, less a hundred bytes. */
bool pws_ring_put(pws_ring *ring, pws_slice line);

/* Bytes that are not written yet. */
size_t pws_ring_waiting(const pws_ring *ring);

/* Write what waits, whole lines only. Returns whether all of it was. */
bool pws_ring_write(pws_ring *ring, pws_sink *sink);

/* Write what a dead producer has left to `fd` (borrowed), waiting no longer than a sink
 * does. Returns whether the ring is empty now: then another producer can use it. If it
 * is not, the log takes nothing: try later, or zero the memory and give up its lines.
 * Memory that its producer has spoilt is emptied, and nothing beyond it is read. */
bool pws_ring_drain(void *memory, size_t size, int fd);

#endif
