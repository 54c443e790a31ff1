/* environ_memo.h - what became of header fields that a connection sends again.
 *
 * The engine names the lines of a head that it has seen from the same connection before
 * (pws_request.lines_id). A lane keeps the environ of the last request with such lines,
 * without the app's changes: the next one begins with a copy of it, and only the
 * request line is new. A lane has few places, so that what it keeps is bounded. */
#ifndef PWS_PY_ENVIRON_MEMO_H
#define PWS_PY_ENVIRON_MEMO_H

#include "py/lane.h"

/* Whether the environ of this request depends on nothing but its lines and its target.
 */
static inline bool
pws_environ_memo_fits(const pws_request *req)
{
    return req->lines_id != 0 && req->form == PWS_TARGET_ORIGIN && req->minor == 1 &&
           (req->lines_changed == 0 || req->repeated == 0) &&
           pws_slice_eq(pws_request_slice(req, req->method), PWS_SLICE("GET"));
}

/* What is kept for the lines of a request that fits, or NULL. */
static inline const pws_environ_memo *
pws_environ_memo_find(const pws_lane *lane, const pws_request *req)
{
    const pws_environ_memo *memo = &lane->memos[req->lines_id % PWS_ENVIRON_MEMOS];

    return memo->id == req->lines_id && memo->https == req->https ? memo : NULL;
}

/* Whether even the target is that of the environ. */
static inline bool
pws_environ_memo_has_target(const pws_environ_memo *memo, const pws_request *req)
{
    return (size_t)PyUnicode_GET_LENGTH(memo->target) == req->target.len &&
           memcmp(PyUnicode_1BYTE_DATA(memo->target), req->base + req->target.at,
                  req->target.len) == 0;
}

/* Keep a copy of `environ`, which was made for the request and has not been seen by the
 * app. Nothing is kept without memory. */
void pws_environ_memo_keep(pws_lane *lane, const pws_request *req, PyObject *environ);

/* Forget all, since the lane's objects in them are not what they were. */
void pws_environ_memo_clear(pws_lane *lane);

#endif
