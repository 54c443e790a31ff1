/* slots.h - which sockets a worker polls, where each has some of its own (reuse_port).
 *
 * A worker is forked into a slot, whose sockets its predecessor has polled; the master
 * keeps all of them open, so no queue is ever thrown away. The sockets of a slot that
 * nobody polls (its worker has died or was one too many, its successor boots or cannot)
 * are lent to a sibling, which lets go of them when the slot has a worker again.
 * Without reuse_port there is one slot, and all workers are in it. */
#ifndef PWS_PROC_SLOTS_H
#define PWS_PROC_SLOTS_H

#include "proc/master.h"

/* The slot of the worker to be forked next. There may be more slots afterwards. */
unsigned pws_slots_choose(pws_master *m);

/* Assign it. */
void pws_slots_assign(pws_worker *w, unsigned slot);

/* At each turn of the master, but while the first workers start or the last ones end:
 * see that the sockets of each slot are polled by somebody. What cannot be had now is
 * tried again at m->tend_ms. */
void pws_slots_tend(pws_master *m);

/* The same at any time: before the workers are told to end, so that what waits for one
 * that boots still is served by another. */
void pws_slots_settle(pws_master *m);

#endif
