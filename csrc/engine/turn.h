/* turn.h - the turns of an engine: what has come, what is due, and the wait for more.
 *
 * The turns themselves are public, in engine.h: pws_engine_poll and those beside it,
 * and pws_engine_wait. This is what the rest of the engine has of them; all calls want
 * the lease. */
#ifndef PWS_ENGINE_TURN_H
#define PWS_ENGINE_TURN_H

#include "engine/engine.h"

/* What time it is for all that this turn does. */
void pws_turn_update_clock(pws_engine *e);

/* Go on with the connections whose requests other threads have handed back. */
void pws_turn_take_hand_backs(pws_engine *e);

/* Visit the connections that are on the list now; what is added meanwhile waits for the
 * next turn. */
void pws_turn_resume_ready(pws_engine *e);

/* The safe point, where nobody holds a connection: free the closed ones. */
void pws_turn_free_dead(pws_engine *e);

#endif
