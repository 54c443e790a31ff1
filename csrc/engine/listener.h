/* listener.h - one listening socket.
 *
 * A listener is opened before it is given to an engine, and closed by whoever opened
 * it. Its descriptor is non-blocking and close-on-exec. */
#ifndef PWS_ENGINE_LISTENER_H
#define PWS_ENGINE_LISTENER_H

#include <stdbool.h>
#include <sys/stat.h>

#include "engine/address.h"

/* What is spoken to a listener. */
typedef enum {
    PWS_PROTOCOL_HTTP,
    PWS_PROTOCOL_UWSGI,
} pws_protocol;

#define PWS_EVERY_SLOT (~0u)

typedef struct {
    int fd;
    pws_protocol protocol; /* HTTP, until its owner says otherwise */
    unsigned index;        /* among the addresses of its server */
    unsigned slot;         /* whose worker polls it; PWS_EVERY_SLOT: they all do */
    unsigned accepted;     /* since it was last put at the end of the kernel's queue */
    unsigned silent;       /* new connections without a request, since one had one */
    bool polled;           /* it is in the poller's set */
    bool crowded;          /* more than one connection came at once, lately */
    pws_address address;   /* as the kernel says, so with the real port */
    dev_t device;          /* of the socket file we made */
    ino_t inode;           /* 0: we made none */
    pid_t owner;           /* the process that may remove it */
    bool shared;           /* another server has the socket, too */
} pws_listener;

/* What a new socket is made with. */
typedef struct {
    int backlog;
    mode_t umask; /* bits that the file of a Unix socket does not get */
    uid_t uid;    /* who owns it; (uid_t)-1 and (gid_t)-1: who makes it */
    gid_t gid;
    bool reuse_port;   /* TCP: others of this user may listen at the same port */
    bool alone;        /* with reuse_port: nobody may listen there before us */
    bool defer_accept; /* TCP: wait for the first bytes before a connection is shown */
} pws_listener_options;

/* Bind and listen, or adopt an inherited descriptor. A Unix socket file of a server
 * that still answers is never taken. Returns 0, or -1 with a sentence in `why`. */
int pws_listener_open(pws_listener *listener, const pws_address *address,
                      const pws_listener_options *options, char *why, size_t why_room);

/* Close it; a Unix socket file goes too when it is still the one we made. One that is
 * shared stays while somebody listens there. */
void pws_listener_close(pws_listener *listener);

/* Close it and leave the file, for a later close: workers of ours listen still. */
void pws_listener_leave(pws_listener *listener);

/* The socket was made by a server before us, which may have left its file to us: at
 * `path`, if it is the one with that inode. The socket is shared then. */
void pws_listener_inherit_file(pws_listener *listener, const char *path, dev_t device,
                               ino_t inode);

/* Whether more sockets can be opened beside it at its address. */
bool pws_listener_can_share(const pws_listener *listener);

static inline bool
pws_listener_is_unix(const pws_listener *listener)
{
    return listener->address.sa.any.sa_family == AF_UNIX;
}

#endif
