#include "engine/listener.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static int
fail(char *why, size_t why_room, const char *what)
{
    snprintf(why, why_room, "%s: %s", what, strerror(errno));
    return -1;
}

static int
read_own_address(pws_listener *listener)
{
    listener->address.len = sizeof(listener->address.sa);
    return getsockname(listener->fd, &listener->address.sa.any, &listener->address.len);
}

/* The family of an inherited socket says nothing of whether it listens. */
static int
adopt(pws_listener *listener, int fd, int backlog, char *why, size_t why_room)
{
    const int on = 1;
    int listening = 0, flags;
    socklen_t len = sizeof(listening);

    if (getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listening, &len) < 0) {
        return fail(why, why_room, "the descriptor is no socket");
    }
    if (!listening && listen(fd, backlog) < 0) {
        return fail(why, why_room, "the socket cannot listen");
    }
    flags = fcntl(fd, F_GETFL);
    if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0 ||
        fcntl(fd, F_SETFD, FD_CLOEXEC) < 0) {
        return fail(why, why_room, "fcntl");
    }
    /* It may be a Unix socket, which knows no Nagle. */
    (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    listener->fd = fd;
    return 0;
}

static int
open_inet(pws_listener *listener, const pws_address *address, int backlog, char *why,
          size_t why_room)
{
    const int on = 1;

    listener->fd = socket(address->sa.any.sa_family,
                          SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (listener->fd < 0) {
        return fail(why, why_room, "socket");
    }
    /* TCP_NODELAY is inherited by what is accepted. */
    if (setsockopt(listener->fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) < 0 ||
        setsockopt(listener->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on)) < 0) {
        return fail(why, why_room, "setsockopt");
    }
    if (bind(listener->fd, &address->sa.any, address->len) < 0) {
        return fail(why, why_room, errno == EADDRINUSE ? "Connection in use" : "bind");
    }
    return listen(listener->fd, backlog) < 0 ? fail(why, why_room, "listen") : 0;
}

/* Whether the path is free for us: nothing there, or a socket that nobody answers. */
static int
check_path(const pws_address *address, char *why, size_t why_room)
{
    struct stat st;
    int probe, rc;

    if (lstat(address->sa.local.sun_path, &st) < 0) {
        return errno == ENOENT ? 0 : fail(why, why_room, "lstat");
    }
    if (!S_ISSOCK(st.st_mode)) {
        snprintf(why, why_room, "'%s' is not a socket", address->sa.local.sun_path);
        return -1;
    }
    probe = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (probe < 0) {
        return fail(why, why_room, "socket");
    }
    rc = connect(probe, &address->sa.any, address->len);
    if (rc < 0 && errno == ECONNREFUSED) {
        close(probe);
        return 0;
    }
    close(probe);
    snprintf(why, why_room, "Connection in use: another server answers there");
    return -1;
}

/* Bind under a name of our own, listen, then take the real name in one step: there is
 * no moment at which a client finds a socket that does not listen. */
static int
open_unix(pws_listener *listener, const pws_address *address, int backlog, char *why,
          size_t why_room)
{
    pws_address own = *address;
    struct stat st;
    char name[sizeof(own.sa.local.sun_path) + 16];
    int len;
    mode_t mask;
    bool bound;

    if (check_path(address, why, why_room) < 0) {
        return -1;
    }
    len = snprintf(name, sizeof(name), "%s.%ld", address->sa.local.sun_path,
                   (long)getpid());
    if ((size_t)len >= sizeof(own.sa.local.sun_path)) {
        snprintf(why, why_room, "the path of the Unix socket is too long");
        return -1;
    }
    memcpy(own.sa.local.sun_path, name, (size_t)len + 1);
    own.len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + (size_t)len + 1);
    listener->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (listener->fd < 0) {
        return fail(why, why_room, "socket");
    }
    mask = umask(0);
    bound = bind(listener->fd, &own.sa.any, own.len) == 0;
    umask(mask);
    if (!bound) {
        return fail(why, why_room, "bind");
    }
    if (listen(listener->fd, backlog) < 0 || lstat(name, &st) < 0 ||
        rename(name, address->sa.local.sun_path) < 0) {
        fail(why, why_room, "listen");
        unlink(name);
        return -1;
    }
    listener->device = st.st_dev;
    listener->inode = st.st_ino;
    listener->owner = getpid();
    return 0;
}

int
pws_listener_open(pws_listener *listener, const pws_address *address, int backlog,
                  char *why, size_t why_room)
{
    int rc;

    memset(listener, 0, sizeof(*listener));
    listener->fd = -1;
    if (address->inherited_fd >= 0) {
        rc = adopt(listener, address->inherited_fd, backlog, why, why_room);
    }
    else if (address->sa.any.sa_family == AF_UNIX) {
        rc = open_unix(listener, address, backlog, why, why_room);
    }
    else {
        rc = open_inet(listener, address, backlog, why, why_room);
    }
    if (rc == 0 && read_own_address(listener) < 0) {
        rc = fail(why, why_room, "getsockname");
    }
    if (rc == 0 && listener->inode != 0) {
        listener->address = *address; /* not the name it was bound under */
    }
    if (rc < 0) {
        pws_listener_close(listener);
    }
    return rc;
}

void
pws_listener_close(pws_listener *listener)
{
    struct stat st;
    const char *path = listener->address.sa.local.sun_path;

    if (listener->fd >= 0) {
        close(listener->fd);
        listener->fd = -1;
    }
    if (listener->inode != 0 && listener->owner == getpid() && lstat(path, &st) == 0 &&
        st.st_ino == listener->inode && st.st_dev == listener->device) {
        unlink(path);
    }
    listener->inode = 0;
}
