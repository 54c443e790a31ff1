/* conn_state.h - how a connection waits, and how it ends.
 *
 * What the state machine in conn.c is made of. Each call may close the connection: look
 * at its state afterwards. */
#ifndef PWS_ENGINE_CONN_STATE_H
#define PWS_ENGINE_CONN_STATE_H

#include "engine/conn.h"

/* The only place that changes the state, and with it the deadline. */
void pws_conn_set_state(pws_engine *e, pws_conn *c, pws_conn_state state);

/* Wait in `state` for the poller. The deadline of a state that it is in already stays.
 */
void pws_conn_await(pws_engine *e, pws_conn *c, pws_conn_state state);

/* All is sent and the connection does not go on: close it, or linger first. */
void pws_conn_end(pws_engine *e, pws_conn *c);

/* LINGER: throw away what comes until the peer is done, so that closing does not reset
 * what it has not read yet (RFC 9112 9.6). */
void pws_conn_drain(pws_engine *e, pws_conn *c);

#endif
