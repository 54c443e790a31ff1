/* balance.h - which workers may stay, and how many may be there at a time.
 *
 * While workers are replaced, max_surge bounds how many processes there are beyond
 * those wanted; who serves goes only when others serve in its place. */
#ifndef PWS_PROC_BALANCE_H
#define PWS_PROC_BALANCE_H

#include "proc/master.h"

/* Take note of what workers have become, and let those go that are too many. */
void pws_balance(pws_master *m);

/* How many workers are missing, and may be forked now. Places that nobody serves in are
 * filled in any case; where somebody does, a successor needs room. */
unsigned pws_balance_missing(const pws_master *m);

/* How many workers of a new generation must serve before it is the one to keep: as many
 * as fit beside the old ones. */
unsigned pws_balance_proof(const pws_master *m);

#endif
