/* mold.h - a process that has loaded the app once, and forks the workers from there.
 *
 * The workers share the memory of what it has loaded. The master, which never loads the
 * app, asks for each of them: by a message with the worker's cell and number, and with
 * the descriptors that it is to have. The mold keeps none of these, and its workers are
 * children of the master, which must be a subreaper for that (prctl(2)). Orders come as
 * messages too, of one byte. */
#ifndef PWS_PROC_MOLD_H
#define PWS_PROC_MOLD_H

#include <stdint.h>
#include <sys/types.h>

#include "base/passing.h"

/* The order channel and the sockets. */
#define PWS_MOLD_FDS_MAX PWS_PASS_MAX

typedef struct {
    uint32_t cell;
    uint32_t nonce; /* of its assignment: see base/board.h */
    uint32_t number;
    uint32_t fd_count;
    int fds[PWS_MOLD_FDS_MAX];
    unsigned order; /* bits; a worker is asked for when there are none */
} pws_mold_request;

/* Two ends of such a connection: the mold's, and the master's, which never blocks.
 * Returns 0, or -1 with errno. */
int pws_mold_connect(int ends[2]);

/* Ask for a worker; `fds` go along and stay the caller's. Returns 0, or -1 with errno.
 */
int pws_mold_ask(int fd, const pws_mold_request *request);

/* Wait for what comes next. Descriptors in it are the caller's. Returns 1, 0 when the
 * master has gone, -1 with errno (EINTR: look at signals, call again). */
int pws_mold_hear(int fd, pws_mold_request *request);

/* What a fork does before and after itself. */
typedef struct {
    void (*before)(void);
    void (*in_parent)(void);
    void (*in_child)(void);
} pws_mold_fork_calls;

/* Fork a process that is no child of ours: it belongs to the nearest subreaper above us
 * when this returns there. Returns like fork(); in the mold 1 for success. */
int pws_mold_fork(const pws_mold_fork_calls *calls);

#endif
