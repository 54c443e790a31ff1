/* give_up.h - the last things that a worker does for its clients.
 *
 * Its app does not come back, and the process will be killed. Requests that no app has
 * seen are answered with a 503 that says when to try again: those that wait, and those
 * that are completed meanwhile. Idle connections are not kept for long. For the relief;
 * all calls want the lease. */
#ifndef PWS_ENGINE_GIVE_UP_H
#define PWS_ENGINE_GIVE_UP_H

#include "engine/engine.h"

/* Once: connections without a request go soon. A drain was announced before. */
void pws_give_up_begin(pws_engine *e);

/* Answer for the apps that have not answered yet. */
void pws_give_up_hands(pws_engine *e);

/* Answer what is queued. */
void pws_give_up_queue(pws_engine *e);

/* For the engine, whoever polls: answer those that have been queued for longer than
 * queue_timeout in the same way. */
void pws_give_up_late(pws_engine *e);

/* Whether nobody waits any more but the clients of requests that apps have in hand, and
 * whom nothing can be sent any more. */
bool pws_give_up_is_done(const pws_engine *e);

#endif
