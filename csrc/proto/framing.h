/* framing.h - where a request ends, and whether another may follow. */
#ifndef PWS_PROTO_FRAMING_H
#define PWS_PROTO_FRAMING_H

#include "proto/request.h"

/* Decide the body's framing (RFC 9112 6.3) and set `body` and `length`. Returns 0 or
 * the status to refuse with. */
int pws_framing_judge(pws_request *req);

/* Whether the client keeps the connection (RFC 9112 9.3). */
bool pws_framing_keep_alive(const pws_request *req);

/* Read decimal digits, nothing else: at least one, at most 19, so that the value fits.
 * Returns 0, or -1 when it is anything else. */
int pws_parse_length(pws_slice text, uint64_t *value);

#endif
