#include "engine/output.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "engine/io.h"
#include "engine/tempfile.h"

/* Parts of one send. */
#define PARTS_MAX 16

/* One call of sendfile moves at most this much, so that others get their turn. */
#define FILE_STEP (1024u * 1024)

#define COPY_ROOM (16u * 1024)

/* A spool that cannot be written is said in the log so often, at most. */
#define SAY_AGAIN_S 60

void
pws_output_shared_init(pws_output_shared *shared, uint64_t memory_limit_all)
{
    memset(shared, 0, sizeof(*shared));
    shared->memory_limit_all = memory_limit_all;
    pws_pins_init(&shared->pins);
}

void
pws_output_shared_close(pws_output_shared *shared)
{
    pws_pins_close(&shared->pins);
}

void
pws_output_init(pws_output *out, pws_output_shared *shared)
{
    memset(out, 0, sizeof(*out));
    out->shared = shared;
    out->spool_fd = -1;
}

static void
release(pws_output *out, pws_segment *segment)
{
    _Atomic(pws_segment *) *first = &out->shared->released.first;

    segment->next = atomic_load_explicit(first, memory_order_relaxed);
    while (!atomic_compare_exchange_weak_explicit(
        first, &segment->next, segment, memory_order_release, memory_order_relaxed)) {
    }
}

pws_segment *
pws_released_take(pws_released *released)
{
    if (atomic_load_explicit(&released->first, memory_order_relaxed) == NULL) {
        return NULL;
    }
    return atomic_exchange_explicit(&released->first, NULL, memory_order_acquire);
}

static void
count_memory(pws_output *out, uint64_t more, uint64_t less)
{
    atomic_fetch_add_explicit(&out->shared->memory_all, more - less,
                              memory_order_relaxed);
}

/* Take the first segment off and end it. */
static void
drop_first(pws_output *out)
{
    pws_segment *segment = out->first;

    out->first = segment->next;
    if (out->first == NULL) {
        out->last = NULL;
    }
    if (segment->kind == PWS_SEGMENT_PINNED) {
        count_memory(out, 0, pws_pins_drop(&out->shared->pins, segment->object));
        release(out, segment);
        return;
    }
    if (segment->kind == PWS_SEGMENT_FILE && segment->owns_fd) {
        close(segment->fd);
    }
    count_memory(out, 0, segment->room);
    free(segment);
}

static void
close_spool(pws_output *out)
{
    if (out->spool_fd >= 0) {
        close(out->spool_fd);
        out->spool_fd = -1;
        atomic_fetch_sub_explicit(&out->shared->spooled_all, out->spool_end,
                                  memory_order_relaxed);
        out->spool_end = 0;
    }
}

void
pws_output_clear(pws_output *out)
{
    while (out->first != NULL) {
        drop_first(out);
    }
    close_spool(out);
    out->at = out->end = 0;
    out->in_memory = out->pending = 0;
}

static pws_segment *
add_segment(pws_output *out, size_t room)
{
    pws_segment *segment = malloc(sizeof(*segment) + room);

    if (segment == NULL) {
        return NULL;
    }
    memset(segment, 0, sizeof(*segment));
    segment->fd = -1;
    segment->room = room;
    if (out->last != NULL) {
        out->last->next = segment;
    }
    else {
        out->first = segment;
    }
    out->last = segment;
    count_memory(out, room, 0);
    return segment;
}

bool
pws_output_may_hold(const pws_output *out, size_t len, const void *object)
{
    pws_output_shared *shared = out->shared;

    if (len <= pws_output_block_room(out) ||
        (out->pending == 0 && len <= PWS_BLOCK_SIZE)) {
        return true;
    }
    if (out->in_memory >= PWS_OUTPUT_MEMORY_MAX ||
        (out->spool_end > 0 && out->pending > 0)) {
        return false;
    }
    return atomic_load_explicit(&shared->memory_all, memory_order_relaxed) + len <=
               shared->memory_limit_all ||
           (object != NULL && pws_pins_has(&shared->pins, object));
}

int
pws_output_copy(pws_output *out, const char *data, size_t len)
{
    pws_segment *last = out->last;

    if (len == 0) {
        return 0;
    }
    if (len <= pws_output_block_room(out)) {
        memcpy(out->block + out->end, data, len);
        pws_output_commit(out, len);
        return 0;
    }
    if (last == NULL || last->kind != PWS_SEGMENT_COPY ||
        last->room - last->end < len) {
        last = add_segment(out, len > COPY_ROOM ? len : COPY_ROOM);
        if (last == NULL) {
            return -1;
        }
        last->kind = PWS_SEGMENT_COPY;
        last->data = (char *)(last + 1);
    }
    memcpy((char *)(last + 1) + last->end, data, len);
    last->end += len;
    out->in_memory += len;
    out->pending += len;
    return 0;
}

int
pws_output_pin(pws_output *out, const char *data, size_t len, void *object)
{
    pws_segment *segment;
    size_t grown;

    if (pws_pins_add(&out->shared->pins, object, len, &grown) < 0) {
        return -1;
    }
    count_memory(out, grown, 0);
    segment = add_segment(out, 0);
    if (segment == NULL) {
        count_memory(out, 0, pws_pins_drop(&out->shared->pins, object));
        return -1;
    }
    segment->kind = PWS_SEGMENT_PINNED;
    segment->data = data;
    segment->end = len;
    segment->object = object;
    out->in_memory += len;
    out->pending += len;
    return 0;
}

int
pws_output_file(pws_output *out, int fd, uint64_t at, uint64_t len, bool owned)
{
    pws_segment *segment = add_segment(out, 0);

    if (segment == NULL) {
        return -1;
    }
    segment->kind = PWS_SEGMENT_FILE;
    segment->fd = fd;
    segment->owns_fd = owned;
    segment->at = at;
    segment->end = at + len;
    out->pending += len;
    return 0;
}

int
pws_output_own_files(pws_output *out)
{
    for (pws_segment *s = out->first; s != NULL; s = s->next) {
        if (s->kind == PWS_SEGMENT_FILE && !s->owns_fd && s->fd != out->spool_fd) {
            int copy = fcntl(s->fd, F_DUPFD_CLOEXEC, 3);

            if (copy < 0) {
                return -1;
            }
            s->fd = copy;
            s->owns_fd = true;
        }
    }
    return 0;
}

/* Whether the file may take `len` more; counts them for all outputs if so. */
static pws_shortage
reserve_spool(pws_output *out, size_t len)
{
    pws_output_shared *shared = out->shared;
    uint64_t all;

    if (shared->spool_dir == NULL || len > shared->spool_limit ||
        out->spool_end > shared->spool_limit - len) {
        return PWS_SHORT_OF_OWN;
    }
    all = atomic_fetch_add_explicit(&shared->spooled_all, len, memory_order_relaxed);
    if (all + len > shared->spool_limit_all) {
        atomic_fetch_sub_explicit(&shared->spooled_all, len, memory_order_relaxed);
        return PWS_SHORT_OF_ALL;
    }
    return PWS_SHORT_OF_NOTHING;
}

/* Whether it would help if another output let go of its file. */
static bool
is_want_of_room(int error)
{
    return error == ENOSPC || error == EDQUOT || error == EMFILE || error == ENFILE;
}

/* Say why the spool fails, now and then. */
static void
say_failed(pws_output_shared *shared, int error)
{
    int64_t said_s = atomic_load_explicit(&shared->failed_s, memory_order_relaxed);
    pws_clock now;

    pws_clock_read(&now);
    if ((said_s == 0 || now.wall_s - said_s >= SAY_AGAIN_S || now.wall_s < said_s) &&
        atomic_compare_exchange_strong(&shared->failed_s, &said_s, now.wall_s)) {
        pws_log(PWS_LOG_ERROR,
                "Cannot keep responses in tmp_upload_dir %s: %s; the app waits for "
                "slow clients",
                shared->spool_dir, strerror(error));
    }
}

/* Write to the spool file, which is opened if need be, and cover it by a segment. */
static int
write_spool(pws_output *out, const char *data, size_t len)
{
    const pws_segment *last = out->last;

    if (out->spool_fd < 0) {
        out->spool_fd = pws_tempfile_open(out->shared->spool_dir);
        if (out->spool_fd < 0) {
            return -1;
        }
    }
    if (pws_tempfile_write(out->spool_fd, data, len, out->spool_end) < 0) {
        return -1;
    }
    if (last == NULL || last->fd != out->spool_fd) {
        return pws_output_file(out, out->spool_fd, out->spool_end, 0, false);
    }
    return 0;
}

int
pws_output_spool(pws_output *out, const char *data, size_t len)
{
    out->shortage = reserve_spool(out, len);
    if (out->shortage != PWS_SHORT_OF_NOTHING) {
        return -1;
    }
    if (write_spool(out, data, len) < 0) {
        atomic_fetch_sub_explicit(&out->shared->spooled_all, len, memory_order_relaxed);
        out->shortage = is_want_of_room(errno) ? PWS_SHORT_OF_DISK : PWS_SHORT_OF_OWN;
        say_failed(out->shared, errno);
        return -1;
    }
    out->spool_end += len;
    out->last->end += len;
    out->pending += len;
    return 0;
}

/* `n` bytes have gone out: take them off the front. */
static void
advance(pws_output *out, uint64_t n)
{
    uint64_t from_block = out->end - out->at;

    out->pending -= n;
    if (n < from_block) {
        out->at += (uint32_t)n;
        return;
    }
    n -= from_block;
    out->at = out->end = 0;
    while (out->first != NULL) {
        pws_segment *s = out->first;
        uint64_t left = s->end - s->at;
        uint64_t step = n < left ? n : left;

        s->at += step;
        n -= step;
        if (s->kind != PWS_SEGMENT_FILE) {
            out->in_memory -= step;
        }
        if (s->at < s->end) {
            return;
        }
        drop_first(out);
    }
}

/* Send the block and the segments in memory behind it, up to a file. */
static ssize_t
send_memory(pws_output *out, int fd)
{
    struct iovec parts[PARTS_MAX];
    const pws_segment *s = out->first;
    int n = 0;

    if (s == NULL) {
        return pws_io_send(fd, out->block + out->at, out->end - out->at, false);
    }
    if (out->end > out->at) {
        parts[n++] = (struct iovec){out->block + out->at, out->end - out->at};
    }
    while (s != NULL && s->kind != PWS_SEGMENT_FILE && n < PARTS_MAX) {
        parts[n++] = (struct iovec){(char *)s->data + s->at, (size_t)(s->end - s->at)};
        s = s->next;
    }
    return pws_io_sendv(fd, parts, n, s != NULL);
}

static ssize_t
send_front(pws_output *out, int fd)
{
    const pws_segment *s = out->first;
    uint64_t left;

    if (out->end > out->at || s->kind != PWS_SEGMENT_FILE) {
        return send_memory(out, fd);
    }
    left = s->end - s->at;
    return pws_io_sendfile(fd, s->fd, (int64_t)s->at,
                           left < FILE_STEP ? (size_t)left : FILE_STEP);
}

int
pws_output_send_some(pws_output *out, int fd, uint64_t *sent, uint64_t enough)
{
    uint64_t step = 0;

    while (out->pending > 0) {
        ssize_t n;

        if (step >= enough) {
            return PWS_IO_MORE;
        }
        n = send_front(out, fd);
        if (n < 0) {
            return (int)n;
        }
        if (n == 0) {
            return PWS_IO_ERROR; /* a file became shorter than what was promised */
        }
        step += (uint64_t)n;
        *sent += (uint64_t)n;
        advance(out, (uint64_t)n);
    }
    close_spool(out);
    return 0;
}
