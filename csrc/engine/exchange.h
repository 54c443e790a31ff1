/* exchange.h - one request and its response, as executors see it.
 *
 * pws_engine_next hands an exchange out; until pws_exchange_done the executor owns it,
 * and nobody else touches it but a relief that claims the answer (pws_exchange_answer),
 * or to whom the owner has lent what is to be sent (hold.h, and pws_exchange_lend).
 * None of these calls needs the lease or the GIL, none blocks on a socket: what cannot
 * go on says PWS_IO_AGAIN, and the executor waits in its own way. */
#ifndef PWS_ENGINE_EXCHANGE_H
#define PWS_ENGINE_EXCHANGE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <time.h>

#include "engine/body.h"
#include "engine/conn.h"
#include "engine/output.h"
#include "engine/park.h"
#include "proto/head.h"
#include "proto/request.h"
#include "proto/response.h"

/* Who answers: one atomic word, won once. */
enum {
    PWS_CLAIM_NONE,
    PWS_CLAIM_APP,
    PWS_CLAIM_RELIEF,
};

/* Whose the output is while the exchange is the executor's. */
enum {
    PWS_OUTPUT_OWNED,
    PWS_OUTPUT_LENT,    /* to who polls: when the client takes more, it is sent more */
    PWS_OUTPUT_SENDING, /* who polls is at it */
};

typedef enum {
    PWS_ANSWER_NONE,     /* nothing was started */
    PWS_ANSWER_STARTED,  /* the head is in the output */
    PWS_ANSWER_FINISHED, /* the whole response is */
    PWS_ANSWER_CUT,      /* it cannot be finished: the connection is cut */
    PWS_ANSWER_DETACHED, /* the app has taken the socket */
} pws_answer;

struct pws_exchange {
    pws_exchange *next; /* in the queue or on the hand-back stack */
    pws_engine *engine;
    pws_conn *conn;
    pws_request request;
    pws_head parser;
    /* The receive buffer: bytes of this request and of those behind it. */
    char *in;
    uint32_t in_start; /* of this request */
    uint32_t in_end;   /* behind the last byte received */
    uint32_t in_room;
    uint32_t in_next; /* where the next request begins, once the body is complete */
    bool in_pooled;
    pws_body body;
    uint32_t raw_at; /* body bytes from here on are not decoded yet */
    /* The response. */
    pws_output out;
    _Atomic uint32_t lent; /* PWS_OUTPUT_OWNED ... */
    _Atomic uint32_t claim;
    pws_answer answer;
    pws_frame frame;
    uint64_t left;        /* of a declared Content-Length */
    uint64_t sent;        /* bytes of all responses sent through this exchange */
    uint64_t sent_before; /* of these, when the connection began to wait in SENDING */
    pws_parking *parked;  /* its executor, waiting for the client: see park.h */
    _Atomic uint32_t emptied; /* changes when one of several executors has sent all that
                                 was there while others wait for room to send */
    int64_t queued_ms;        /* when it was queued */
    int64_t held_ms;   /* for which other requests have waited for this one's client */
    uint32_t answered; /* responses in the output since it was last empty */
    int status;
    int body_status;         /* a streamed body was refused with it; 0: it was not */
    struct timespec started; /* when the app got it; only with an access log */
    uint64_t body_sent;      /* body bytes of this response, without their framing */
    char *
        *notes; /* for the access log, by the number of the format's note; NULL: none */
    int64_t date_s; /* when `date` was made */
    char date[PWS_HTTP_DATE_LEN];
    bool patient;    /* nothing was sent yet, and the response may wait for others */
    bool keep;       /* the connection may go on after this response */
    bool linger;     /* more may come from the client that must not reset our answer */
    bool gone;       /* sending failed: the client is not there any more */
    bool overrun;    /* the app wrote more than it declared */
    bool ended;      /* of an answer by the relief: it is out, and our end closed */
    bool unreadable; /* the streamed body is malformed or cut short: not a byte more */
    pws_field fields[];
};

/* The client has not taken all that was to be sent, and the owner goes back into the
 * app, which may take its time: from now on who polls sends more whenever the client
 * takes it (PEP 3333, "Buffering and Streaming"). Call it after pws_exchange_flush. */
void pws_exchange_lend(pws_exchange *x);

/* The owner is back. The calls below do this by themselves; they wait for the end of a
 * send. */
void pws_exchange_wait_for_sender(pws_exchange *x);

static inline void
pws_exchange_reclaim(pws_exchange *x)
{
    if (atomic_load_explicit(&x->lent, memory_order_relaxed) != PWS_OUTPUT_OWNED) {
        pws_exchange_wait_for_sender(x);
    }
}

/* For who polls, under the lease: send more of it, if it is lent. */
void pws_exchange_send_on(pws_exchange *x);

/* Write the app's status and headers. `known_length`: of the whole body if the caller
 * knows it, else PWS_LENGTH_UNKNOWN. Returns 0, or -1: the headers are invalid (`why`
 * is set to a static text), or without `why` the answer was claimed by somebody else.
 */
int pws_exchange_start(pws_exchange *x, pws_slice status, const pws_header *fields,
                       size_t count, uint64_t known_length, const char **why);

/* Whether this response carries body bytes. */
static inline bool
pws_exchange_has_body(const pws_exchange *x)
{
    return x->frame != PWS_FRAME_NONE;
}

/* Whether the response, to which nothing more is added, may be sent later together with
 * others (hold.h): then an executor leaves the sending to pws_exchange_done. */
static inline bool
pws_exchange_may_wait(pws_exchange *x)
{
    pws_exchange_reclaim(x);
    return x->patient &&
           (x->answer == PWS_ANSWER_FINISHED ||
            (x->answer == PWS_ANSWER_STARTED && x->frame == PWS_FRAME_LENGTH &&
             x->left == 0)) &&
           x->out.first == NULL;
}

/* Whether the relief has answered in place of the app: then the output, too, is not the
 * owner's any more, and nothing that the app still does reaches the client. */
static inline bool
pws_exchange_is_taken(const pws_exchange *x)
{
    return atomic_load_explicit(&x->claim, memory_order_acquire) == PWS_CLAIM_RELIEF;
}

/* Bytes of the owner's output that are not sent yet. */
static inline uint64_t
pws_exchange_pending(pws_exchange *x)
{
    pws_exchange_reclaim(x);
    return pws_exchange_is_taken(x) ? 0 : x->out.pending;
}

/* Add body bytes. With `object`, long ones are not copied: the call returns 1 when it
 * keeps a reference (the caller adds one to `object`), which comes back by
 * pws_engine_released. Returns 0 when the bytes were copied or are not wanted,
 * PWS_IO_AGAIN when there is no room before the client reads (nothing was added: wait,
 * then call again), PWS_IO_ERROR without memory. Bytes beyond the declared length are
 * dropped and set `overrun`. */
int pws_exchange_write(pws_exchange *x, const char *data, size_t len, void *object);

/* Add `len` bytes of a regular file from `offset`; those beyond the declared length are
 * dropped. The descriptor is the caller's, and may be closed when
 * pws_exchange_own_files has been called. Returns 0 or PWS_IO_ERROR. */
int pws_exchange_send_file(pws_exchange *x, int fd, uint64_t offset, uint64_t len);
int pws_exchange_own_files(pws_exchange *x);

/* Send what the client takes now. Returns 0 when nothing waits, PWS_IO_AGAIN,
 * PWS_IO_MORE or PWS_IO_ERROR (`gone` is set). */
int pws_exchange_flush(pws_exchange *x);

/* For the relief, with a response that the owner has lent it (hold.h): send of it what
 * the client takes now. */
void pws_exchange_send_lent(pws_exchange *x);

/* The body is complete. Returns 0, or -1 when less than the declared length was
 * written: the connection will be cut. */
int pws_exchange_finish(pws_exchange *x);

/* The response cannot be finished: cut the connection. */
void pws_exchange_cut(pws_exchange *x);

/* Answer with a page of the server's own, if nothing was started. Returns whether it
 * was. */
bool pws_exchange_refuse(pws_exchange *x, int status);

/* Send an informational response (103) in front of the real one. Returns 0, also when
 * it is left out: too late, HTTP/1.0, no memory. Returns -1 when the headers are
 * invalid: `why` is set to a static text. */
int pws_exchange_inform(pws_exchange *x, pws_slice status, const pws_header *fields,
                        size_t count, const char **why);

/* Look at body bytes that are there. Returns 1, 0 at the end of the body, PWS_IO_AGAIN
 * (only without request buffering: wait), or PWS_IO_ERROR: the body is cut short or
 * malformed, or cannot be read back. A client that waits for it is sent "100 Continue";
 * that is a beginning of the answer, as far as pws_exchange_answer goes. */
int pws_exchange_peek(pws_exchange *x, pws_slice *bytes);
void pws_exchange_take(pws_exchange *x, size_t n);

/* Take body bytes; returns a count or what pws_exchange_peek returns. */
ssize_t pws_exchange_read(pws_exchange *x, char *dst, size_t n);

/* Keep a copy of a value for the access log, as note `number` of its format. Without
 * memory the log prints "-". */
void pws_exchange_note(pws_exchange *x, size_t number, pws_slice text);

/* Forget all notes. */
void pws_exchange_drop_notes(pws_exchange *x);

/* Give the app the socket itself. Returns a new blocking descriptor that the caller
 * closes, or -1 with errno. Nothing else can be done with the exchange but
 * pws_exchange_done. */
int pws_exchange_detach(pws_exchange *x);

/* Answer for an app that does not: called by whoever holds the lease, not by the owner.
 * Returns false when the app has begun its answer; else its own answer is dropped, and
 * the access log has its line now, since the owner may never come back. */
bool pws_exchange_answer(pws_exchange *x, int status);

/* Send more of such an answer, and with its last byte our end of the connection.
 * Returns whether all of it was sent; true for any other exchange. */
bool pws_exchange_answer_more(pws_exchange *x);

/* Give the exchange back. It must not be touched afterwards. From any thread. */
void pws_exchange_done(pws_exchange *x);

#endif
