/* io.h - the only place that moves bytes through a socket.
 *
 * Every call has four outcomes: a count above 0, the end (0), "again in this direction"
 * (PWS_IO_AGAIN: the socket is not ready, the poller will tell), or an error
 * (PWS_IO_ERROR: the connection is of no more use). EINTR is retried, SIGPIPE is never
 * raised. */
#ifndef PWS_ENGINE_IO_H
#define PWS_ENGINE_IO_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/uio.h>

/* The calls of each request are made directly: in a process with several threads the C
 * library surrounds them by locked instructions, for the case that the thread is to be
 * cancelled (pthread_cancel), which none of ours ever is. Sanitizers watch the C
 * library's. */
#if defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define PWS_WATCHED_CALLS
#endif
#endif
#if !defined(PWS_WATCHED_CALLS) && !defined(__SANITIZE_ADDRESS__) &&                   \
    !defined(__SANITIZE_THREAD__)
#define PWS_DIRECT_CALLS
#endif

#define PWS_IO_AGAIN (-1)
#define PWS_IO_ERROR (-2)

/* Not from the socket, but from what moves much: enough for one turn, others wait. */
#define PWS_IO_MORE (-3)

ssize_t pws_io_recv(int fd, char *dst, size_t room);

/* Whether bytes have come that nobody has received. They stay. */
bool pws_io_has_bytes(int fd);

/* `more`: other bytes follow at once, so a short packet may wait for them. */
ssize_t pws_io_send(int fd, const char *src, size_t len, bool more);
ssize_t pws_io_sendv(int fd, const struct iovec *parts, int count, bool more);

/* From `file` at `offset`. 0 means that the file ended before `len` bytes. */
ssize_t pws_io_sendfile(int fd, int file, int64_t offset, size_t len);

#endif
