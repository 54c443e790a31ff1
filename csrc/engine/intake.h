/* intake.h - from bytes on a socket to a request with its body.
 *
 * Receives into the exchange's buffer, drives the parsers, and stores the body. Whoever
 * owns the connection may call this: the engine, and, for a body that is streamed, the
 * executor. */
#ifndef PWS_ENGINE_INTAKE_H
#define PWS_ENGINE_INTAKE_H

#include "engine/exchange.h"

/* Outcomes; all others are the HTTP status to refuse with, request.refusal says why. */
enum {
    PWS_INTAKE_AGAIN, /* bytes are needed that have not come yet */
    PWS_INTAKE_DONE,
    PWS_INTAKE_MORE,  /* enough for one turn, there may be more */
    PWS_INTAKE_END,   /* the peer has closed its side too early */
    PWS_INTAKE_ERROR, /* the connection is broken */
    PWS_INTAKE_PING,  /* no request: a front end asks whether we are there */
};

/* Parse what the buffer holds of the head. Does not receive. */
int pws_intake_parse(pws_exchange *x);

/* Receive until the head is complete. */
int pws_intake_head(pws_exchange *x);

/* The head is complete: judge it, and see what of the body has come with it. DONE: the
 * request is complete (or, streamed, ready for the app). */
int pws_intake_begin_body(pws_exchange *x);

/* Receive and store more of the body. */
int pws_intake_body(pws_exchange *x);

/* Streamed: make at least one more decoded byte available (DONE), or see the end of the
 * body (DONE with body.complete). */
int pws_intake_stream(pws_exchange *x);

/* Let go of this request's bytes; those behind it are the next request's. */
void pws_intake_next(pws_exchange *x);

/* Give the receive buffer back; its bytes are gone. */
void pws_intake_give_buffer(pws_exchange *x);

/* The connection waits for its client: keep only the memory that it needs. */
void pws_intake_shrink(pws_exchange *x);

/* The request is complete, and may be in hand for long: keep its bytes, and those
 * behind it, and no more. */
void pws_intake_fit(pws_exchange *x);

#endif
