/* accept.h - when an engine takes connections, and when it pauses.
 *
 * A listener is in the poller's set only while the engine wants connections. Whenever
 * it is taken out, what it has woken us for is accepted first: a wake-up must not be
 * spent on nobody, since another process might have had it. When all worker_connections
 * are in use, idle and slow connections give way (evict.h); if there are none,
 * accepting pauses until one ends. */
#ifndef PWS_ENGINE_ACCEPT_H
#define PWS_ENGINE_ACCEPT_H

#include "engine/engine.h"

/* Connections accepted beyond worker_connections while a pause begins. */
#define PWS_ACCEPT_SLACK 64u

/* Put all listeners into the set. Returns 0 or -1 with errno. */
int pws_accept_start(pws_engine *e);

/* A pause: take them out, then accept what waits, within the slack. */
void pws_accept_stop(pws_engine *e);

/* Put one into the set, once it is among the engine's. Returns 0 or -1 with errno. */
int pws_accept_watch(pws_engine *e, pws_listener *l);

/* Take one out for good, then accept what waits. Returns whether nobody waits any more;
 * else there is no room, or accepting fails: try again later. */
bool pws_accept_empty(pws_engine *e, pws_listener *l);

/* A drain: empty and close each listener that is open. Those that could not be emptied
 * stay open for another try (pws_accept_again). */
void pws_accept_end(pws_engine *e);

/* Put all at the end of the kernel's queue of waiters, and so find out whether somebody
 * waits there. */
void pws_accept_look(pws_engine *e);

/* Connections are somebody else's, for good, who has descriptors of his own: close
 * ours. No wake-up may have been spent on us, so call it before the first turn. */
void pws_accept_leave(pws_engine *e);

/* The poller saw a listener. */
void pws_accept_event(pws_engine *e, uint64_t key);

/* The listeners were looked at: it is time to do so again when all requests that are
 * queued, and `coming` ones, have been handed out. */
void pws_accept_looked(pws_engine *e, uint32_t coming);

/* That time has come while requests wait, so that nobody polls: accept what is new
 * connections' share. */
void pws_accept_in_turn(pws_engine *e);

/* The app is stuck, and somebody else polls: connections are for other processes. No
 * wake-up is spent, because nobody has waited in this set. Then: as it was. */
void pws_accept_suspend(pws_engine *e);
void pws_accept_resume(pws_engine *e);

/* Start again if there was a pause, and its time or its reason has gone. */
void pws_accept_again(pws_engine *e);

#endif
