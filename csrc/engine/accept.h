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

/* The poller's keys with this bit are listeners. */
#define PWS_LISTENER_KEY ((uint64_t)1 << 63)

/* Connections accepted beyond worker_connections while a pause begins. */
#define PWS_ACCEPT_SLACK 64u

/* Put all listeners into the set. Returns 0 or -1 with errno. */
int pws_accept_start(pws_engine *e);

/* Take them out, then accept what waits. `all`: until none waits; else within the
 * slack. */
void pws_accept_stop(pws_engine *e, bool all);

/* The poller saw a listener. */
void pws_accept_event(pws_engine *e, uint64_t key);

/* Start again if there was a pause, and its time or its reason has gone. */
void pws_accept_again(pws_engine *e);

#endif
