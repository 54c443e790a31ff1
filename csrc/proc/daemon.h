/* daemon.h - go on in the background, and tell the caller how the start went.
 *
 * What the daemon writes to stderr until it has started goes to the caller's stderr.
 * Then one byte, the exit code, ends the caller; the daemon's death does too. */
#ifndef PWS_PROC_DAEMON_H
#define PWS_PROC_DAEMON_H

#include <sys/types.h>

typedef struct {
    int status_fd; /* of the daemon: its exit code, as a byte, ends the caller */
    int report_fd; /* of the caller: what the daemon writes to stderr */
    int answer_fd; /* of the caller: where the exit code comes */
} pws_daemon;

/* Fork twice with `fork`, so that the daemon has a session and no terminal. Returns 0
 * in the daemon, 1 in the caller, -1 with errno. The daemon's stdin and stdout are
 * /dev/null, its umask 022. */
int pws_daemon_begin(pws_daemon *daemon, pid_t (*fork_process)(void));

/* In the caller: pass on what the daemon reports, until its outcome is known. Returns
 * the exit code, or -1 with errno (EINTR: call again). */
int pws_daemon_watch(pws_daemon *daemon);

#endif
