/* request.h - one request, whichever protocol brought it.
 *
 * A request borrows all its bytes: spans count from `base`, the buffer that holds the
 * head. Who moves that buffer sets `base` anew; nothing else changes. Field names are
 * in CGI spelling without "HTTP_" (upper case, '_' for '-'). The field array belongs to
 * the owner of the request, who may say where a larger one is to be had when it is
 * needed.
 *
 * A front end that has parsed the request already sends CGI variables (uwsgi.h). Those
 * that are header fields become fields; the others become what they mean, or are kept
 * under their whole name. */
#ifndef PWS_PROTO_REQUEST_H
#define PWS_PROTO_REQUEST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/slice.h"
#include "proto/fields.h"
#include "proto/rules.h"

typedef struct {
    uint32_t at;
    uint32_t len;
} pws_span;

enum {
    PWS_FIELD_UNDERSCORE = 1, /* the name was sent with an underscore */
    PWS_FIELD_DROPPED = 2,    /* not for the app */
    PWS_FIELD_REPLACES = 4,   /* a front end's: it counts instead of those before */
    PWS_FIELD_VARIABLE = 8,   /* a front end's, and its name is the whole variable's */
};

typedef struct {
    pws_span name;
    pws_span value; /* without OWS around it */
    uint8_t id;     /* enum pws_field_id */
    uint8_t flags;
} pws_field;

/* RFC 9112 3.2. */
typedef enum {
    PWS_TARGET_ORIGIN,
    PWS_TARGET_ABSOLUTE,
    PWS_TARGET_AUTHORITY,
    PWS_TARGET_ASTERISK,
} pws_target_form;

typedef enum {
    PWS_BODY_NONE,
    PWS_BODY_LENGTH,
    PWS_BODY_CHUNKED,
} pws_body_kind;

typedef struct {
    char *base;
    pws_span method;
    pws_span target;      /* as sent */
    pws_span authority;   /* of an absolute or authority form; else empty */
    pws_span path;        /* of the target, not decoded */
    pws_span query;       /* behind the first '?' */
    pws_span script_name; /* from a trusted SCRIPT_NAME field; else empty */
    /* What only a front end says; else empty. */
    pws_span protocol; /* the client's */
    pws_span client;   /* the client's address */
    pws_span inert;    /* the name of a variable that uWSGI would obey */
    bool has_client;   /* REMOTE_ADDR, and maybe REMOTE_PORT, are among the fields */
    bool has_server;   /* so are SERVER_NAME and SERVER_PORT */
    bool has_scheme;   /* `https` is a front end's word */
    bool path_is_cut;  /* the path is without script_name */
    pws_target_form form;
    uint8_t minor;        /* HTTP/1.minor: 0 or 1; 0 for a front end by uwsgi */
    bool path_escaped;    /* the path holds a '%' */
    bool https;           /* the scheme is https */
    bool https_target;    /* the target's absolute form says https */
    bool head;            /* the method is HEAD */
    bool keep_alive;      /* the client can take another response on this connection */
    bool has_underscores; /* some field name was sent with an underscore */
    bool expect_continue; /* the client waits for 100 before it sends the body */
    pws_body_kind body;
    uint64_t length;   /* of the body when PWS_BODY_LENGTH */
    uint64_t present;  /* bit i: known field i was sent (without an underscore) */
    uint64_t repeated; /* bit i: more than once */
    uint32_t placed[PWS_FIELD_PLACED]; /* index of the first field of a low id */
    pws_field *fields;
    uint32_t field_count;
    uint32_t field_room;        /* of `fields` */
    uint32_t field_most;        /* beyond field_room they go to `grown` */
    void *(*take)(size_t size); /* the owner's memory for these */
    pws_field *grown; /* what `fields` is then, the owner's to free; NULL: not needed */
    uint64_t lines_id; /* names lines known from before (head_memo.h); 0: new ones */
    uint32_t lines_changed; /* bit i: but field i has another value now */
    bool lines_judged;   /* what they say by themselves has been found to be in order */
    const char *refusal; /* why it was refused, for the log; static text */
} pws_request;

/* Make an empty request over an array of `room` fields, which stays the caller's, and
 * takes no more than these, unless the caller sets `field_most` and `take`. */
void pws_request_init(pws_request *req, pws_field *fields, uint32_t room);

/* The same in memory that is zero, for up to `most` fields; `take` is the caller's to
 * set. */
static inline void
pws_request_begin(pws_request *req, pws_field *fields, uint32_t room, uint32_t most)
{
    req->fields = fields;
    req->field_room = room;
    req->field_most = most;
}

/* Forget the request in it, keep the arrays. */
void pws_request_reset(pws_request *req);

/* When `fields` is full: have room for as many as there may be. Returns 0, or 431 when
 * it has that already, or without memory. */
int pws_request_grow(pws_request *req);

static inline pws_slice
pws_request_slice(const pws_request *req, pws_span span)
{
    return (pws_slice){req->base + span.at, span.len};
}

static inline bool
pws_request_has(const pws_request *req, pws_field_id id)
{
    return (req->present >> id & 1) != 0;
}

/* The value of the first field with a low id (below PWS_FIELD_PLACED) that is present.
 */
static inline pws_slice
pws_request_value(const pws_request *req, pws_field_id id)
{
    return pws_request_slice(req, req->fields[req->placed[id]].value);
}

/* Add a field whose name is in CGI spelling. Returns 0 or 431 when there is no room. */
int pws_request_add(pws_request *req, pws_span name, pws_span value, unsigned flags);

/* Add a field that is ready, with the id of its name: PWS_FIELD_UNKNOWN for one with an
 * underscore. Returns 0 or 431 when there is no room. */
int pws_request_put(pws_request *req, const pws_field *field);

/* Judge a whole head: host, target, framing, expectation, connection, underscore names
 * and the scheme. `trusted`: the peer is one whose forwarding fields count. Returns 0
 * or the status to refuse with; `refusal` says why. */
int pws_request_judge(pws_request *req, const pws_rules *rules, bool trusted);

/* Refuse a body of known length that is over limit_request_body. Returns 0 or 413. */
int pws_request_judge_size(pws_request *req, const pws_rules *rules);

/* Note why a request is refused and return the status. */
static inline int
pws_refuse(pws_request *req, int status, const char *why)
{
    req->refusal = why;
    return status;
}

#endif
