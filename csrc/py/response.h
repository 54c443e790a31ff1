/* response.h - from what the app returned to the exchange. */
#ifndef PWS_PY_RESPONSE_H
#define PWS_PY_RESPONSE_H

#include "py/lane.h"

/* Start the response with what start_response was given. Returns 0 (also when the
 * answer was claimed by somebody else: further writes are dropped), or -1 with an
 * exception. */
int pws_response_start(pws_lane *lane, uint64_t known_length);

/* Write body bytes of an app and send them; waits for the client when much is waiting.
 * Starts the response if need be. `object` is the caller's, with its link (see
 * pws_lane_enter). Returns 0 or -1 with an exception. */
int pws_response_write_bytes(PyObject *object, pws_lane_link *link, PyObject *bytes);

/* Send what the client takes now; what is left may outlive files that are open now, and
 * is sent on by others (pws_exchange_lend). Returns 0 or -1 with an exception. */
int pws_response_flush(pws_lane *lane);

/* The same before the app closes it, if `lends`: what may wait (pws_exchange_may_wait)
 * is lent then, too, until pws_hold_reclaim. Else the rest is left to who gets the
 * exchange back. */
int pws_response_let_go(pws_lane *lane, bool lends);

/* Send the whole of what the app returned. Returns 0 or -1 with an exception. */
int pws_response_send(pws_lane *lane, PyObject *result);

/* The strings of a list or tuple of (name, value) as slices, which borrow from it.
 * Returns the array (`small`, which has room for `small_room`, or one to PyMem_Free),
 * or NULL with an exception. */
pws_header *pws_headers_read(PyObject *headers, pws_header *small, size_t small_room,
                             size_t *count);

#endif
