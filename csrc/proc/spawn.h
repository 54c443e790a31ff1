/* spawn.h - forks the workers that are missing, and not too many in a row. */
#ifndef PWS_PROC_SPAWN_H
#define PWS_PROC_SPAWN_H

#include "proc/master.h"

/* How many workers are missing now. */
unsigned pws_spawn_missing(const pws_master *m);

/* Fork them, or have them forked, unless it is too early. Returns 0, or in each new
 * process what pws_master_run returns there. */
int pws_spawn_all(pws_master *m);

/* A worker could not be forked, or has ended by an error: the next one is forked at
 * once, those after it with growing pauses. */
void pws_spawn_failed(pws_master *m);

/* A worker that could serve has ended by an error: the same with short pauses. */
void pws_spawn_lost(pws_master *m);

#endif
