/* body.h - the body of a request: where it is kept, and how it is read.
 *
 * A body that has come with its head stays in the receive buffer; a longer one goes to
 * memory of its own, and beyond the limits to a file without a name. What is stored is
 * decoded. A body belongs to its exchange and is reset with each request. Nothing here
 * knows sockets. */
#ifndef PWS_ENGINE_BODY_H
#define PWS_ENGINE_BODY_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/slice.h"
#include "engine/body_block.h"
#include "proto/chunked.h"

typedef enum {
    PWS_STORE_NONE,   /* no body, or nothing of it has come yet */
    PWS_STORE_BUFFER, /* in the receive buffer */
    PWS_STORE_MEMORY,
    PWS_STORE_FILE,
    PWS_STORE_STREAM, /* not stored: read as it comes */
} pws_body_store;

/* What the bodies of an engine share. */
typedef struct {
    const char *spool_dir; /* NULL: none is writable */
    uint64_t memory_max;   /* bytes of one body in memory */
    uint64_t memory_all_max;
    uint64_t memory_all; /* bytes of all; used under the lease */
    /* The memory of a body that is done, for the next one: giving a megabyte back and
     * getting it again costs more than to receive it. */
    char *spare;
    uint64_t spare_room;
    uint64_t spare_max;     /* bytes that may be kept; 0: none */
    pws_body_blocks blocks; /* used without it, too */
} pws_body_shared;

/* Without a directory to spool to, a body may take this much memory. */
#define PWS_BODY_NO_SPOOL_MAX (64u * 1024 * 1024)

typedef struct {
    pws_body_store store;
    uint64_t size;  /* decoded bytes that are stored, or that have streamed by */
    uint64_t taken; /* of these, by the app */
    bool complete;  /* the end has been received */
    pws_chunked chunked;
    uint32_t buffer_at; /* BUFFER, STREAM: where `taken` is, in the receive buffer */
    char *memory;       /* MEMORY */
    uint64_t room;
    pws_body_block *block; /* MEMORY: what it is part of, or NULL */
    int fd;                /* FILE */
    char *window;          /* FILE: what was read ahead of the app */
    uint32_t window_at, window_end;
} pws_body;

void pws_body_init(pws_body *body);

/* Forget the body and free what holds it. */
void pws_body_reset(pws_body *body, pws_body_shared *shared);

/* Free what is kept for the next body. */
void pws_body_drop_spare(pws_body_shared *shared);

/* Make room for a body of `expect` bytes (0: not known), in memory or in a file.
 * Returns 0 or the status to refuse with: 413; with the reason in errno, 503 (no room
 * for now) or 500. */
int pws_body_open(pws_body *body, pws_body_shared *shared, uint64_t expect);

/* Store `len` more decoded bytes. Returns 0 or the status to refuse with. */
int pws_body_add(pws_body *body, pws_body_shared *shared, const char *data, size_t len);

/* MEMORY: the next `room` bytes to receive into; count them with pws_body_received. */
char *pws_body_space(pws_body *body, size_t *room);
void pws_body_received(pws_body *body, size_t n);

/* Look at the next stored bytes without taking them; `buffer` is the receive buffer.
 * For a file, up to 16 KiB are read ahead. Returns 1 with some bytes, 0 when all stored
 * bytes are taken, -1 with errno. */
int pws_body_peek(pws_body *body, char *buffer, pws_slice *bytes);

/* Take `n` bytes of those that pws_body_peek has shown. */
void pws_body_take(pws_body *body, size_t n);

/* Take all of a complete body with the block that it is in, which is the caller's then.
 * NULL: it is in none, or in a far larger one, or some of it has been taken. */
pws_body_block *pws_body_give(pws_body *body);

/* Take up to `n` bytes into dst. Returns the count, 0 when all stored bytes are taken,
 * or -1 with errno. */
ssize_t pws_body_read(pws_body *body, char *buffer, char *dst, size_t n);

#endif
