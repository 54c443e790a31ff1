/* signals.h - the signals of a master: a flag each, and one pipe that ends its sleep.
 *
 * A handler sets its flag and writes a byte; what it means is looked at in the loop.
 * There is one set of flags in a process, as there is one set of signals. */
#ifndef PWS_PROC_SIGNALS_H
#define PWS_PROC_SIGNALS_H

#include <signal.h>
#include <stdbool.h>

/* Take over HUP, INT, QUIT, TERM, TTIN, TTOU, USR1, USR2, WINCH, CHLD and PIPE (an
 * order may find its reader gone). Returns the
 * read end of the pipe, non-blocking, which becomes readable with each; or -1 with
 * errno, also when they are taken already. */
int pws_signals_open(void);

/* Put back what was there before, in a forked child too. */
void pws_signals_close(void);

/* Whether the signal has come since this was last asked. */
bool pws_signals_take(int signum);

/* Empty the pipe; before the flags are looked at. */
void pws_signals_swallow(void);

/* Hold all signals back, until they are let through as `before` says. */
void pws_signals_hold(sigset_t *before);
void pws_signals_release(const sigset_t *before);

/* In a child that is about to execute another program: all signals as they are by
 * default, and let through. What this process had is gone. */
void pws_signals_default(void);

/* "TERM" for SIGTERM; NULL for one that is better told by its number. */
const char *pws_signals_name(int signum);

#endif
