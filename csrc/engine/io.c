#include "engine/io.h"

#include <errno.h>
#include <signal.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static ssize_t
receive(int fd, char *dst, size_t room)
{
#if defined(PWS_DIRECT_CALLS) && defined(SYS_recvfrom)
    return syscall(SYS_recvfrom, fd, dst, room, 0, NULL, NULL);
#else
    return recv(fd, dst, room, 0);
#endif
}

static ssize_t
transmit(int fd, const char *src, size_t len, int flags)
{
#if defined(PWS_DIRECT_CALLS) && defined(SYS_sendto)
    return syscall(SYS_sendto, fd, src, len, flags, NULL, 0);
#else
    return send(fd, src, len, flags);
#endif
}

static ssize_t
outcome(ssize_t n)
{
    if (n >= 0) {
        return n;
    }
    return errno == EAGAIN || errno == EWOULDBLOCK ? PWS_IO_AGAIN : PWS_IO_ERROR;
}

ssize_t
pws_io_recv(int fd, char *dst, size_t room)
{
    ssize_t n;

    do {
        n = receive(fd, dst, room);
    } while (n < 0 && errno == EINTR);
    return outcome(n);
}

bool
pws_io_has_bytes(int fd)
{
    char byte;

    return recv(fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) > 0;
}

ssize_t
pws_io_send(int fd, const char *src, size_t len, bool more)
{
    ssize_t n;

    do {
        n = transmit(fd, src, len, MSG_NOSIGNAL | (more ? MSG_MORE : 0));
    } while (n < 0 && errno == EINTR);
    return outcome(n);
}

ssize_t
pws_io_sendv(int fd, const struct iovec *parts, int count, bool more)
{
    struct msghdr message = {.msg_iov = (struct iovec *)parts,
                             .msg_iovlen = (size_t)count};
    ssize_t n;

    do {
        n = sendmsg(fd, &message, MSG_NOSIGNAL | (more ? MSG_MORE : 0));
    } while (n < 0 && errno == EINTR);
    return outcome(n);
}

/* sendfile knows no MSG_NOSIGNAL. The signal would go to this thread: it is held back,
 * and taken before it can be delivered. An app may have made it deadly again. */
static ssize_t
sendfile_without_signal(int fd, int file, off_t at, size_t len)
{
    const struct timespec no_wait = {0};
    sigset_t broken_pipe, before;
    ssize_t n;
    int saved;

    sigemptyset(&broken_pipe);
    sigaddset(&broken_pipe, SIGPIPE);
    pthread_sigmask(SIG_BLOCK, &broken_pipe, &before);
    n = sendfile(fd, file, &at, len);
    saved = errno;
    /* Even a call that has sent a part may have raised it for the rest. */
    if (!sigismember(&before, SIGPIPE)) {
        while (sigtimedwait(&broken_pipe, NULL, &no_wait) < 0 && errno == EINTR) {
        }
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    errno = saved;
    return n;
}

ssize_t
pws_io_sendfile(int fd, int file, int64_t offset, size_t len)
{
    ssize_t n;

    do {
        n = sendfile_without_signal(fd, file, (off_t)offset, len);
    } while (n < 0 && errno == EINTR);
    return outcome(n);
}
