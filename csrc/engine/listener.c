#include "engine/listener.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <time.h>
#include <unistd.h>

/* TCP_DEFER_ACCEPT: seconds after which a silent connection is shown all the same. */
static const int DEFER_S = 30;

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
    listener->address.inherited_fd = -1;
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

/* The kernel compares when the next one binds: who sets it late was alone before. */
static int
let_others_join(const pws_listener *listener, char *why, size_t why_room)
{
    const int on = 1;

    return setsockopt(listener->fd, SOL_SOCKET, SO_REUSEPORT, &on, sizeof(on)) < 0
               ? fail(why, why_room, "SO_REUSEPORT")
               : 0;
}

static int
open_inet(pws_listener *listener, const pws_address *address,
          const pws_listener_options *options, char *why, size_t why_room)
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
    if (options->reuse_port && !options->alone &&
        let_others_join(listener, why, why_room) < 0) {
        return -1;
    }
    if (options->defer_accept && setsockopt(listener->fd, IPPROTO_TCP, TCP_DEFER_ACCEPT,
                                            &DEFER_S, sizeof(DEFER_S)) < 0) {
        return fail(why, why_room, "TCP_DEFER_ACCEPT");
    }
    if (bind(listener->fd, &address->sa.any, address->len) < 0) {
        return fail(why, why_room,
                    errno == EADDRINUSE ? "Connection in use"
                    : errno == EACCES   ? "ports below 1024 are for root or for "
                                          "CAP_NET_BIND_SERVICE"
                                        : "bind");
    }
    if (options->reuse_port && options->alone &&
        let_others_join(listener, why, why_room) < 0) {
        return -1;
    }
    return listen(listener->fd, options->backlog) < 0 ? fail(why, why_room, "listen")
                                                      : 0;
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

/* The directory of `path`, locked, so that of two servers that start at the same moment
 * one finds the other's socket; -1 where that cannot be had. Closing it unlocks. */
static int
lock_directory(const char *path)
{
    const struct timespec moment = {0, 10 * 1000 * 1000};
    char name[sizeof(((struct sockaddr_un *)0)->sun_path)];
    const char *slash = strrchr(path, '/');
    int fd;

    snprintf(name, sizeof(name), "%.*s", slash != NULL ? (int)(slash - path) : 1,
             slash != NULL ? path : ".");
    fd = open(slash == path ? "/" : name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    for (int i = 0; fd >= 0 && flock(fd, LOCK_EX | LOCK_NB) < 0 && i < 100; i++) {
        nanosleep(&moment, NULL);
    }
    return fd;
}

/* Bind with the mode that is wanted. */
static int
bind_path(int fd, const pws_address *own, const pws_listener_options *options)
{
    mode_t before = umask(options->umask);
    int rc = bind(fd, &own->sa.any, own->len), saved = errno;

    umask(before);
    errno = saved;
    return rc;
}

static int
give_path(const pws_address *own, const pws_listener_options *options)
{
    if (options->uid == (uid_t)-1 && options->gid == (gid_t)-1) {
        return 0;
    }
    return lchown(own->sa.local.sun_path, options->uid, options->gid);
}

/* Bind under a name of our own, listen, then take the real name in one step: there is
 * no moment at which a client finds a socket that does not listen, or one with another
 * mode or owner than it is to have. */
static int
bind_unix(pws_listener *listener, const pws_address *address,
          const pws_listener_options *options, char *why, size_t why_room)
{
    pws_address own = *address;
    struct stat st;
    char name[sizeof(own.sa.local.sun_path) + 16];
    int len;

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
    if (bind_path(listener->fd, &own, options) < 0) {
        fail(why, why_room, "bind");
        unlink(name);
        return -1;
    }
    /* Nobody can get in yet, whoever had rights until now. */
    if (give_path(&own, options) < 0) {
        fail(why, why_room, "its file cannot be given to that user and group");
        unlink(name);
        return -1;
    }
    if (listen(listener->fd, options->backlog) < 0 || lstat(name, &st) < 0 ||
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

static int
open_unix(pws_listener *listener, const pws_address *address,
          const pws_listener_options *options, char *why, size_t why_room)
{
    int lock = lock_directory(address->sa.local.sun_path);
    int rc = bind_unix(listener, address, options, why, why_room);

    if (lock >= 0) {
        close(lock);
    }
    return rc;
}

int
pws_listener_open(pws_listener *listener, const pws_address *address,
                  const pws_listener_options *options, char *why, size_t why_room)
{
    int rc;

    memset(listener, 0, sizeof(*listener));
    listener->fd = -1;
    if (address->inherited_fd >= 0) {
        rc = adopt(listener, address->inherited_fd, options->backlog, why, why_room);
    }
    else if (address->sa.any.sa_family == AF_UNIX) {
        rc = open_unix(listener, address, options, why, why_room);
    }
    else {
        rc = open_inet(listener, address, options, why, why_room);
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

bool
pws_listener_can_share(const pws_listener *listener)
{
    int on = 0;
    socklen_t len = sizeof(on);

    return !pws_listener_is_unix(listener) &&
           getsockopt(listener->fd, SOL_SOCKET, SO_REUSEPORT, &on, &len) == 0 && on;
}

static bool
is_our_file(const pws_listener *listener)
{
    struct stat st;

    return lstat(listener->address.sa.local.sun_path, &st) == 0 &&
           st.st_ino == listener->inode && st.st_dev == listener->device;
}

/* Whether nobody listens there. Who ends at the same time asks, too, when both have
 * closed it: so the last one finds nobody. */
static bool
is_left(const pws_listener *listener)
{
    char why[128];

    return check_path(&listener->address, why, sizeof(why)) == 0;
}

static void
remove_file(const pws_listener *listener)
{
    const char *path = listener->address.sa.local.sun_path;
    int lock = listener->shared ? lock_directory(path) : -1;

    if (is_our_file(listener) && (!listener->shared || is_left(listener))) {
        unlink(path);
    }
    if (lock >= 0) {
        close(lock);
    }
}

void
pws_listener_leave(pws_listener *listener)
{
    if (listener->fd >= 0) {
        close(listener->fd);
        listener->fd = -1;
    }
}

void
pws_listener_close(pws_listener *listener)
{
    pws_listener_leave(listener);
    if (listener->inode != 0 && listener->owner == getpid()) {
        remove_file(listener);
    }
    listener->inode = 0;
}

void
pws_listener_inherit_file(pws_listener *listener, const char *path, dev_t device,
                          ino_t inode)
{
    pws_address *address = &listener->address;
    size_t len = strlen(path);

    if (!pws_listener_is_unix(listener) || len >= sizeof(address->sa.local.sun_path)) {
        return;
    }
    /* The kernel knows the name that it was bound under, before it got this one. */
    memcpy(address->sa.local.sun_path, path, len + 1);
    address->len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + len + 1);
    listener->device = device;
    listener->inode = inode;
    listener->owner = getpid();
    listener->shared = true;
}
