/* output.h - what a connection still has to send.
 *
 * Bytes go out in the order in which they were added: first what stands in the block (a
 * pooled buffer, given from outside and kept until it is empty), then a chain of
 * segments: copied bytes, pinned bytes of somebody's object, ranges of files. What does
 * not fit into memory goes to an unlinked temporary file. An output has one owner at a
 * time and no lock.
 *
 * Pinned objects cannot be let go of here (that would need the GIL): their segments are
 * put on a list, from which whoever holds the GIL takes them. */
#ifndef PWS_ENGINE_OUTPUT_H
#define PWS_ENGINE_OUTPUT_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/slice.h"
#include "engine/pins.h"

#define PWS_BLOCK_SIZE (64u * 1024)

/* Bytes up to this many are copied, longer ones are pinned when they can be. */
#define PWS_COPY_MAX (16u * 1024)

/* Bytes waiting in memory beyond which further ones go to the spool file. */
#define PWS_OUTPUT_MEMORY_MAX (256u * 1024)

/* What one call may send before other connections get their turn. */
#define PWS_OUTPUT_STEP (4u * 1024 * 1024)

typedef struct pws_segment {
    struct pws_segment *next;
    enum {
        PWS_SEGMENT_COPY,
        PWS_SEGMENT_PINNED,
        PWS_SEGMENT_FILE,
    } kind;
    int fd;           /* FILE */
    bool owns_fd;     /* FILE: close it at the end */
    const char *data; /* COPY: behind this struct; PINNED */
    uint64_t at;      /* the next byte: in `data`, or in the file */
    uint64_t end;
    size_t room;  /* COPY: of the memory behind this struct */
    void *object; /* PINNED */
} pws_segment;

/* Segments whose objects wait to be let go of. Any thread pushes, the GIL holder takes.
 */
typedef struct {
    _Atomic(pws_segment *) first;
} pws_released;

/* What all outputs of an engine share. */
typedef struct {
    const char *spool_dir; /* NULL: none is writable */
    uint64_t spool_limit;  /* bytes a response */
    uint64_t spool_limit_all;
    _Atomic uint64_t spooled_all;
    uint64_t memory_limit_all;
    _Atomic uint64_t memory_all; /* copied bytes with their room, and pinned objects */
    _Atomic int64_t failed_s; /* when a failing spool was last in the log; 0: never */
    pws_pins pins;
    pws_released released;
} pws_output_shared;

/* Why bytes could not be spooled. */
typedef enum {
    PWS_SHORT_OF_NOTHING,
    PWS_SHORT_OF_OWN,  /* spool_limit, or no use of the spool: only its reader helps */
    PWS_SHORT_OF_ALL,  /* spool_limit_all: another output that ends helps too */
    PWS_SHORT_OF_DISK, /* no space or no descriptor, which is in the log */
} pws_shortage;

typedef struct {
    pws_output_shared *shared;
    char *block;      /* NULL or PWS_BLOCK_SIZE bytes, not owned */
    uint32_t at, end; /* what waits in the block */
    pws_segment *first, *last;
    uint64_t in_memory;    /* bytes that wait in segments and belong to memory */
    uint64_t pending;      /* all bytes that wait */
    int spool_fd;          /* -1: none */
    uint64_t spool_end;    /* bytes written to the spool file */
    pws_shortage shortage; /* of the last pws_output_spool */
} pws_output;

/* `limit_all`: bytes in memory, of all outputs. Spooling is set up by the caller. */
void pws_output_shared_init(pws_output_shared *shared, uint64_t memory_limit_all);

/* All outputs must have been cleared; released segments may be left. */
void pws_output_shared_close(pws_output_shared *shared);

void pws_output_init(pws_output *out, pws_output_shared *shared);

/* Drop everything that waits. The block stays with its owner. */
void pws_output_clear(pws_output *out);

/* Room in the block for bytes that go behind all others; 0 when segments wait. */
static inline size_t
pws_output_block_room(const pws_output *out)
{
    return out->block != NULL && out->first == NULL ? PWS_BLOCK_SIZE - out->end : 0;
}

/* Count `n` bytes that were written at block + end. */
static inline void
pws_output_commit(pws_output *out, size_t n)
{
    out->end += (uint32_t)n;
    out->pending += n;
}

/* Whether `len` more bytes may wait in memory: as a copy, or pinned with `object`. What
 * fits into the block always may, and what would fit into one if nothing waits: there
 * is nothing then that its writer could wait for. */
bool pws_output_may_hold(const pws_output *out, size_t len, const void *object);

/* Add a copy of the bytes. Returns 0 or -1 without memory. */
int pws_output_copy(pws_output *out, const char *data, size_t len);

/* Add bytes that belong to `object`: takes one reference of it, which comes back on the
 * list of released segments. Returns 0, or -1 without memory (nothing is taken). */
int pws_output_pin(pws_output *out, const char *data, size_t len, void *object);

/* Add bytes by way of the spool file. Returns 0, or -1 with `shortage`: nothing was
 * added then. */
int pws_output_spool(pws_output *out, const char *data, size_t len);

/* Add a range of a file. `owned`: the descriptor is taken and closed at the end.
 * Returns 0 or -1 without memory (nothing is taken). */
int pws_output_file(pws_output *out, int fd, uint64_t at, uint64_t len, bool owned);

/* Make all file segments own their descriptor, by dup: the lender is about to close it.
 * Returns 0 or -1 with errno. */
int pws_output_own_files(pws_output *out);

/* Send what the socket takes, until that is `enough` (PWS_OUTPUT_STEP) bytes or some
 * more. Returns 0 when nothing waits any more, PWS_IO_AGAIN, PWS_IO_MORE (the step is
 * done, the socket may take more), or PWS_IO_ERROR. `sent` grows by the bytes sent. */
int pws_output_send_some(pws_output *out, int fd, uint64_t *sent, uint64_t enough);

static inline int
pws_output_send(pws_output *out, int fd, uint64_t *sent)
{
    return pws_output_send_some(out, fd, sent, PWS_OUTPUT_STEP);
}

/* Take all released segments (a chain by `next`). For each: let go of `object`, then
 * free() it. */
pws_segment *pws_released_take(pws_released *released);

#endif
