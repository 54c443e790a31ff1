/* environ_memo.h - what became of header fields that a connection sends again.
 *
 * The engine names the lines of a head that it has seen from the same connection before
 * (pws_request.lines_id). A server keeps the environ of the last request with such
 * lines, without the app's changes: the next one begins with a copy of it, and only the
 * request line is new. All lanes share what is kept, so that its size does not depend
 * on their number: at most one environ for each head that the engine has in mind. An
 * environ has the objects that the lane had in which it was made; another lane sets its
 * own, and so does that one when it has replaced them.
 * The GIL guards it, and threads without that keep their own, some 30 KiB more each; it
 * may be lost at whatever makes an object that can be collected, since a finalizer can
 * let other threads and greenlets go on. */
#ifndef PWS_PY_ENVIRON_MEMO_H
#define PWS_PY_ENVIRON_MEMO_H

#include "engine/memo.h"
#include "py/environ_target.h"
#include "py/text.h"

typedef struct {
    uint64_t id; /* of the lines of a head; 0: none */
    PyObject *environ;
    PyObject *target, *path, *query; /* of it; borrowed from it */
    PyObject *input;                 /* likewise; says which objects of the lane's */
    pws_lane *lane;                  /* that it was made in */
    bool https;
} pws_environ_memo;

/* Keys for field names that are not known by number: a small cache, bounded, so that a
 * client cannot make it grow. */
#define PWS_KEY_CACHE 256
#define PWS_KEY_MAX 48

typedef struct {
    PyObject *key; /* "HTTP_...", or the name alone */
    uint8_t len;
    bool whole;             /* the name alone */
    char name[PWS_KEY_MAX]; /* CGI spelling, without "HTTP_" */
} pws_cached_key;

typedef struct pws_environ_memos {
    pws_environ_memo places[PWS_MEMO_PLACES];
    PyObject *values[PWS_FIELD_UNKNOWN]; /* the last ones, of some fields (text.h) */
    pws_cached_key keys[PWS_KEY_CACHE];
} pws_environ_memos;

/* Whether the environ of this request depends on nothing but its lines and its target.
 */
static inline bool
pws_environ_memo_fits(const pws_request *req)
{
    return req->lines_id != 0 && req->form == PWS_TARGET_ORIGIN && req->minor == 1 &&
           (req->lines_changed == 0 || req->repeated == 0) &&
           pws_slice_eq(pws_request_slice(req, req->method), PWS_SLICE("GET"));
}

/* What is kept for the lines of a request that fits, or NULL. Its environ stays in
 * place only until something can be collected. */
static inline const pws_environ_memo *
pws_environ_memo_find(const pws_environ_memos *memos, const pws_request *req)
{
    const pws_environ_memo *memo = &memos->places[req->lines_id % PWS_MEMO_PLACES];

    return memo->id == req->lines_id && memo->https == req->https ? memo : NULL;
}

/* Whether the objects of its environ are those that the lane has now. */
static inline bool
pws_environ_memo_is_of(const pws_environ_memo *memo, const pws_lane *lane)
{
    return memo->input == lane->input;
}

/* What the environ has of the request's target. */
static inline pws_target_there
pws_environ_memo_target(const pws_environ_memo *memo, const pws_request *req)
{
    if (pws_text_is(memo->target, pws_request_slice(req, req->target))) {
        return (pws_target_there){.whole = true};
    }
    return (pws_target_there){
        .path = pws_text_is(memo->path, pws_request_slice(req, req->path)),
        .query = pws_text_is(memo->query, pws_request_slice(req, req->query))};
}

/* Keep a copy of `environ`, which was made for the request in this lane and has not
 * been seen by the app. Nothing is kept without memory. */
void pws_environ_memo_keep(pws_lane *lane, const pws_request *req, PyObject *env);

/* Forget the environs that were made in this lane, which ends. */
void pws_environ_memos_forget(pws_lane *lane);

/* Forget all. No other lane is left. */
void pws_environ_memos_clear(pws_environ_memos *memos);

#endif
