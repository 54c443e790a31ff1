/* peer.h - an engine under test and its clients, all in one thread.
 *
 * A rig is an engine with real listeners; the test polls it by hand. A peer is a client
 * on a non-blocking socket. Whatever waits does so on the engine's poller with a
 * generous deadline, after which the test fails; nothing sleeps. */
#ifndef PWS_TESTS_PEER_H
#define PWS_TESTS_PEER_H

#include "engine/engine.h"
#include "harness.h"

#define RIG_LISTENERS 2

typedef struct {
    pws_engine engine;
    pws_engine_config config; /* set up by rig_prepare, to be changed before rig_open */
    pws_listener listeners[RIG_LISTENERS];
    unsigned listener_count; /* 1 unless the test says 2 */
    bool local;              /* Unix sockets instead of loopback TCP */
    bool serve;              /* rig_step answers every request, see rig_answer */
    uint32_t budget;         /* of each poll */
    unsigned served;         /* by rig_step */
    char dir[64];            /* of the test's own; removed by rig_close */
} rig;

/* Sensible limits, time-outs that no test reaches, a folder for spool files. */
void rig_prepare(rig *r);
void rig_open(rig *r);

/* Close it. Nothing may be left: connections, memory of bodies, spooled bytes. */
void rig_close(rig *r);

/* rig_prepare, then rig_open. */
void rig_start(rig *r);

/* One turn, waiting a few milliseconds at most. Fails the test after `deadline_ms`. */
void rig_step(rig *r, int64_t deadline_ms);
int64_t rig_deadline(void);

/* Turn until the condition holds. */
#define UNTIL(r, condition)                                                            \
    for (int64_t until_ = rig_deadline(); !(condition); rig_step((r), until_)) {       \
    }

/* Turn until a request comes, and take it. */
pws_exchange *rig_request(rig *r);

/* Start a response without further fields; fails the test when that fails. */
void rig_begin(pws_exchange *x, const char *status, uint64_t known_length);

/* Answer 200 with `body` and give the exchange back. */
void rig_reply(pws_exchange *x, const char *body);

/* rig_reply with the request's target as the body. */
void rig_answer(pws_exchange *x);

/* pws_engine_wait without patience's end. */
int rig_wait(pws_exchange *x, unsigned what, int64_t timeout_ms);

/* The connection with the lowest slot, or NULL. */
pws_conn *rig_conn(rig *r);

/* Whether the first connection is in this state. */
bool rig_in_state(rig *r, pws_conn_state state);

/* Segments released so far are taken and counted; their objects are int counters. */
unsigned rig_release(rig *r);

typedef struct {
    rig *r;
    int fd;
    char *in; /* what has come, from `at` on not yet looked at */
    size_t at, len, room;
    bool eof;             /* the server has closed */
    int error;            /* errno of the recv that failed */
    int status;           /* of the last response */
    pws_slice head, body; /* of the last response; valid until the next peer call */
} peer;

void peer_connect(peer *p, rig *r, unsigned listener);
void peer_close(peer *p);

/* Close so that the server sees a reset (TCP). */
void peer_reset(peer *p);

/* Send all of it, polling the engine while the socket is full. */
void peer_send(peer *p, const char *text);
void peer_send_bytes(peer *p, const char *bytes, size_t len);

/* Receive what has come; never waits. */
void peer_receive(peer *p);

/* Wait until `n` bytes have come that were not looked at, and return them as looked at.
 */
pws_slice peer_read(peer *p, size_t n);

/* The next response with its body, by Content-Length, chunked or the end. Sets status,
 * head and body, and returns the status. */
int peer_response(peer *p);

/* A response's body is exactly this. */
#define CHECK_BODY(p, literal) CHECK_BYTES((p)->body.at, (p)->body.len, literal)

/* The server closes now, orderly, and nothing more comes. */
void peer_check_closed(peer *p);

/* The server resets the connection. */
void peer_check_reset(peer *p);

/* A head of `method` with these further lines ("Name: value\r\n..."). Static buffer. */
const char *request(const char *method, const char *target, const char *fields);

#endif
