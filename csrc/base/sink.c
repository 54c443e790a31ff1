#include "base/sink.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

/* Descriptors below are stdin, stdout and stderr, whoever has them. */
#define LOWEST 3

enum {
    WAY_CAREFUL, /* pipes, terminals, and what is not known: look before each piece */
    WAY_FILE,
    WAY_SOCKET,
};

static int
way_of(int fd)
{
    struct stat st;

    if (fstat(fd, &st) < 0) {
        return WAY_CAREFUL;
    }
    return S_ISREG(st.st_mode)    ? WAY_FILE
           : S_ISSOCK(st.st_mode) ? WAY_SOCKET
                                  : WAY_CAREFUL;
}

/* A descriptor of our own. Of a pipe or terminal that we may open once more, one that
 * is non-blocking without making it so for everybody else. */
static int
duplicate(int fd)
{
    const int flags = O_WRONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC;
    struct stat st;
    char path[32];
    int own = -1, low;

    if (fstat(fd, &st) == 0 && (S_ISFIFO(st.st_mode) || isatty(fd))) {
        snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
        own = open(path, flags);
    }
    if (own >= LOWEST) {
        return own;
    }
    low = own;
    own = fcntl(low >= 0 ? low : fd, F_DUPFD_CLOEXEC, LOWEST);
    if (low >= 0) {
        close(low);
    }
    return own;
}

int
pws_sink_open(pws_sink *sink, int fd)
{
    int own = duplicate(fd), way;

    if (own < 0) {
        return -1;
    }
    way = way_of(own);
    if (atomic_load(&sink->own)) {
        /* Over the old one: who writes just now has a descriptor that is valid. */
        int rc = dup3(own, atomic_load(&sink->fd), O_CLOEXEC);
        int error = errno;

        close(own);
        if (rc < 0) {
            errno = error;
            return -1;
        }
    }
    else {
        atomic_store(&sink->fd, own);
        atomic_store(&sink->own, true);
    }
    atomic_store(&sink->way, way);
    atomic_store(&sink->stuck, false);
    atomic_store(&sink->torn, false);
    return 0;
}

void
pws_sink_close(pws_sink *sink)
{
    int fd = atomic_exchange(&sink->fd, -1);

    if (atomic_exchange(&sink->own, false)) {
        close(fd);
    }
}

/* Write without being killed for it. SIGPIPE goes to the thread that has written, and
 * nobody else is to see it. */
static ssize_t
write_without_signal(int fd, const char *at, size_t len)
{
    const struct timespec none = {0, 0};
    sigset_t pipe_only, before;
    ssize_t n;
    int error;

    sigemptyset(&pipe_only);
    sigaddset(&pipe_only, SIGPIPE);
    pthread_sigmask(SIG_BLOCK, &pipe_only, &before);
    n = write(fd, at, len);
    error = errno;
    if (n < 0 && error == EPIPE) {
        (void)sigtimedwait(&pipe_only, NULL, &none);
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    errno = error;
    return n;
}

/* Whether it takes something now; else errno says why not. */
static bool
wait_ready(int fd, int timeout_ms)
{
    struct pollfd ready = {.fd = fd, .events = POLLOUT};
    int rc = poll(&ready, 1, timeout_ms);

    if (rc == 0) {
        errno = EAGAIN;
    }
    else if (rc > 0 && ready.revents != POLLOUT) {
        errno = EPIPE; /* nobody reads it any more, or it is closed */
        return false;
    }
    return rc > 0;
}

/* A piece that a pipe takes whole: as many lines as fit, or a part of a long one. */
static size_t
piece_length(const char *at, size_t len)
{
    const char *end;

    if (len <= PIPE_BUF) {
        return len;
    }
    end = memrchr(at, '\n', PIPE_BUF);
    return end != NULL ? (size_t)(end + 1 - at) : PIPE_BUF;
}

/* Returns a count, or -1 with errno; EAGAIN: it is full. */
static ssize_t
write_piece(pws_sink *sink, const char *at, size_t len)
{
    int fd = atomic_load(&sink->fd), way = atomic_load(&sink->way);

    if (way == WAY_FILE) {
        return write(fd, at, len);
    }
    if (way == WAY_SOCKET) {
        return send(fd, at, len, MSG_DONTWAIT | MSG_NOSIGNAL);
    }
    if (!wait_ready(fd, 0)) {
        return -1;
    }
    return write_without_signal(fd, at, piece_length(at, len));
}

static int64_t
now_ms(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

/* Whether to try once more: a full one is waited for until `*end_ms`, which the first
 * wait sets. */
static bool
goes_on(pws_sink *sink, int64_t *end_ms)
{
    int64_t now;

    if (errno == EINTR) {
        return true;
    }
    if (errno != EAGAIN || atomic_load(&sink->stuck)) {
        return false;
    }
    now = now_ms();
    if (*end_ms == 0) {
        *end_ms = now + PWS_SINK_PATIENCE_MS;
    }
    return now < *end_ms && wait_ready(atomic_load(&sink->fd), (int)(*end_ms - now));
}

static size_t
write_all(pws_sink *sink, const char *at, size_t len)
{
    size_t done = 0;
    int64_t end_ms = 0;

    while (done < len) {
        ssize_t n = write_piece(sink, at + done, len - done);

        if (n > 0) {
            done += (size_t)n;
        }
        else if (n == 0 || !goes_on(sink, &end_ms)) {
            break;
        }
    }
    atomic_store(&sink->stuck, done < len);
    return done;
}

size_t
pws_sink_write(pws_sink *sink, const char *lines, size_t len)
{
    size_t done = 0;
    int saved = errno;

    if (!atomic_load(&sink->torn) || write_all(sink, "\n", 1) == 1) {
        done = write_all(sink, lines, len);
        atomic_store(&sink->torn, done > 0 && done < len && lines[done - 1] != '\n');
    }
    errno = saved;
    return done;
}

void
pws_sink_begin_line(pws_sink *sink)
{
    char path[32], last = '\n';
    struct stat st;
    int fd;

    if (atomic_load(&sink->way) != WAY_FILE) {
        return; /* pieces of pipes are written whole or not at all */
    }
    /* Our own descriptor is for writing. */
    snprintf(path, sizeof(path), "/proc/self/fd/%d", atomic_load(&sink->fd));
    fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd >= 0) {
        if (fstat(fd, &st) == 0 && st.st_size > 0) {
            (void)!pread(fd, &last, 1, st.st_size - 1);
        }
        close(fd);
    }
    if (fd < 0 || last != '\n') {
        atomic_store(&sink->torn, true);
    }
}
