#include "engine/body.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "engine/tempfile.h"

#define WINDOW_SIZE (16u * 1024)
#define FIRST_ROOM (16u * 1024)

void
pws_body_init(pws_body *body)
{
    memset(body, 0, sizeof(*body));
    body->fd = -1;
}

/* Of a block that was given away, the room is still to be counted off. */
static void
free_memory(pws_body *body, pws_body_shared *shared)
{
    shared->memory_all -= body->room;
    if (body->block != NULL) {
        pws_body_block_put(&shared->blocks, body->block);
    }
    else if (body->room > shared->spare_room && body->room <= shared->spare_max &&
             body->memory != NULL) {
        free(shared->spare);
        shared->spare = body->memory;
        shared->spare_room = body->room;
    }
    else {
        free(body->memory);
    }
    body->block = NULL;
    body->memory = NULL;
    body->room = 0;
}

void
pws_body_reset(pws_body *body, pws_body_shared *shared)
{
    if (body->store == PWS_STORE_NONE) {
        body->complete = false;
        return;
    }
    free_memory(body, shared);
    free(body->window);
    if (body->fd >= 0) {
        close(body->fd);
    }
    pws_body_init(body);
}

void
pws_body_drop_spare(pws_body_shared *shared)
{
    free(shared->spare);
    shared->spare = NULL;
    shared->spare_room = 0;
}

static bool
memory_allows(const pws_body_shared *shared, uint64_t room, uint64_t had)
{
    uint64_t most =
        shared->spool_dir != NULL ? shared->memory_max : PWS_BODY_NO_SPOOL_MAX;

    return room <= most && shared->memory_all - had + room <= shared->memory_all_max;
}

/* The status of a failure that errno tells: no room now, or no good at all. */
static int
storage_status(void)
{
    switch (errno) {
    case ENOSPC:
    case EDQUOT:
    case EFBIG:
    case EMFILE:
    case ENFILE:
        return 503;
    default:
        return 500;
    }
}

static int
open_file(pws_body *body, const pws_body_shared *shared)
{
    body->fd = pws_tempfile_open(shared->spool_dir);
    body->store = PWS_STORE_FILE;
    if (body->fd < 0) {
        return shared->spool_dir == NULL ? 413 : storage_status();
    }
    return 0;
}

static int
grow_memory(pws_body *body, pws_body_shared *shared, uint64_t room)
{
    char *memory = realloc(body->memory, (size_t)room);

    if (memory == NULL) {
        return 500;
    }
    shared->memory_all += room - body->room;
    body->memory = memory;
    body->room = room;
    return 0;
}

/* Whether the memory kept from another body does. */
static bool
take_spare(pws_body *body, pws_body_shared *shared, uint64_t room)
{
    if (shared->spare_room < room || !memory_allows(shared, shared->spare_room, 0)) {
        return false;
    }
    body->memory = shared->spare;
    body->room = shared->spare_room;
    shared->memory_all += body->room;
    shared->spare = NULL;
    shared->spare_room = 0;
    return true;
}

/* Whether there is a block for it; one of which little would be used is for others. */
static bool
take_block(pws_body *body, pws_body_shared *shared, uint64_t expect)
{
    pws_body_block *block = pws_body_block_take(&shared->blocks, expect,
                                                expect > 0 ? expect * 2 : UINT64_MAX);

    if (block == NULL) {
        return false;
    }
    if (!memory_allows(shared, block->room, 0)) {
        pws_body_block_put(&shared->blocks, block);
        return false;
    }
    body->block = block;
    body->memory = block->memory;
    body->room = block->room;
    shared->memory_all += body->room;
    return true;
}

int
pws_body_open(pws_body *body, pws_body_shared *shared, uint64_t expect)
{
    uint64_t room = expect > 0 ? expect : FIRST_ROOM;

    if (!memory_allows(shared, room, 0)) {
        return open_file(body, shared);
    }
    body->store = PWS_STORE_MEMORY;
    if (take_block(body, shared, expect) || take_spare(body, shared, room)) {
        return 0;
    }
    return grow_memory(body, shared, room);
}

static int
spill(pws_body *body, pws_body_shared *shared)
{
    int status = open_file(body, shared);

    if (status != 0) {
        return status;
    }
    if (pws_tempfile_write(body->fd, body->memory, (size_t)body->size, 0) < 0) {
        return storage_status();
    }
    free_memory(body, shared);
    return 0;
}

/* A body that outgrows its block leaves it to others. */
static int
grow_out_of_block(pws_body *body, pws_body_shared *shared, uint64_t room)
{
    pws_body had = *body;

    body->block = NULL;
    body->memory = NULL;
    body->room = 0;
    if (!take_spare(body, shared, room)) {
        int status = grow_memory(body, shared, room);

        if (status != 0) {
            *body = had;
            return status;
        }
    }
    memcpy(body->memory, had.memory, (size_t)had.size);
    free_memory(&had, shared);
    return 0;
}

/* Make room for `len` more bytes, in a file if memory does not allow it. */
static int
make_room(pws_body *body, pws_body_shared *shared, size_t len)
{
    uint64_t want = body->size + len, room = body->room * 2;

    if (want <= body->room) {
        return 0;
    }
    if (room < want) {
        room = want;
    }
    if (!memory_allows(shared, room, body->room)) {
        room = want;
    }
    if (!memory_allows(shared, room, body->room)) {
        return spill(body, shared);
    }
    return body->block != NULL ? grow_out_of_block(body, shared, room)
                               : grow_memory(body, shared, room);
}

int
pws_body_add(pws_body *body, pws_body_shared *shared, const char *data, size_t len)
{
    if (body->store == PWS_STORE_MEMORY) {
        int status = make_room(body, shared, len);

        if (status != 0) {
            return status;
        }
    }
    if (body->store == PWS_STORE_FILE) {
        if (pws_tempfile_write(body->fd, data, len, body->size) < 0) {
            return storage_status();
        }
    }
    else if (len > 0) {
        memcpy(body->memory + body->size, data, len);
    }
    body->size += len;
    return 0;
}

char *
pws_body_space(pws_body *body, size_t *room)
{
    *room = (size_t)(body->room - body->size);
    return body->memory + body->size;
}

void
pws_body_received(pws_body *body, size_t n)
{
    body->size += n;
}

static int
fill_window(pws_body *body)
{
    long n;

    if (body->window == NULL) {
        body->window = malloc(WINDOW_SIZE);
        if (body->window == NULL) {
            errno = ENOMEM;
            return -1;
        }
    }
    n = pws_tempfile_read(body->fd, body->window, WINDOW_SIZE, body->taken);
    if (n <= 0) {
        errno = n == 0 ? EIO : errno;
        return -1;
    }
    body->window_at = 0;
    body->window_end = (uint32_t)n;
    return 0;
}

int
pws_body_peek(pws_body *body, char *buffer, pws_slice *bytes)
{
    uint64_t left = body->size - body->taken;

    if (left == 0) {
        return 0;
    }
    if (body->store == PWS_STORE_FILE) {
        if (body->window_at == body->window_end && fill_window(body) < 0) {
            return -1;
        }
        *bytes = (pws_slice){body->window + body->window_at,
                             body->window_end - body->window_at};
        return 1;
    }
    bytes->at = body->store == PWS_STORE_MEMORY ? body->memory + body->taken
                                                : buffer + body->buffer_at;
    bytes->len = (size_t)left;
    return 1;
}

void
pws_body_take(pws_body *body, size_t n)
{
    body->taken += n;
    if (body->store == PWS_STORE_FILE) {
        body->window_at += (uint32_t)n;
    }
    else if (body->store != PWS_STORE_MEMORY) {
        body->buffer_at += (uint32_t)n;
    }
}

pws_body_block *
pws_body_give(pws_body *body)
{
    pws_body_block *block = body->block;

    if (block == NULL || !body->complete || body->taken > 0 ||
        body->size < block->room / 2) {
        return NULL;
    }
    body->taken = body->size;
    body->memory = NULL;
    body->block = NULL; /* what it counts for is the lease's business: `room` stays */
    return block;
}

ssize_t
pws_body_read(pws_body *body, char *buffer, char *dst, size_t n)
{
    uint64_t left = body->size - body->taken;
    pws_slice bytes;
    int rc;

    if (body->store == PWS_STORE_FILE && body->window_at == body->window_end &&
        n >= WINDOW_SIZE && left > 0) {
        long got =
            pws_tempfile_read(body->fd, dst, n < left ? n : (size_t)left, body->taken);

        if (got == 0) {
            errno = EIO;
            return -1;
        }
        body->taken += got > 0 ? (uint64_t)got : 0;
        return got;
    }
    rc = pws_body_peek(body, buffer, &bytes);
    if (rc <= 0) {
        return rc;
    }
    if (bytes.len > n) {
        bytes.len = n;
    }
    memcpy(dst, bytes.at, bytes.len);
    pws_body_take(body, bytes.len);
    return (ssize_t)bytes.len;
}
