/* board.h - what each worker says of itself, in memory that it shares with the master.
 *
 * A worker has a cell for as long as it lives and is the only one to write there, but
 * where it says otherwise; the master clears it before it forks the next one into it.
 * All fields are atomics, so nobody ever waits. Those of a cell are read and written
 * alone; the text of a request stands under a sequence number. Who maps the board is
 * proc's business. */
#ifndef PWS_BASE_BOARD_H
#define PWS_BASE_BOARD_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/slice.h"

/* Two whole sets of workers fit, with a mold each, so that a new one can start beside
 * an old one. */
#define PWS_WORKERS_MAX 512
#define PWS_BOARD_CELLS (2 * (PWS_WORKERS_MAX + 1))

/* Requests that a worker can show, one a thread of execution; the first is the one of
 * the thread that runs apps inline. Memory that nobody touches costs nothing. */
#define PWS_BOARD_HANDS 128

/* What is shown of a request: "GET /path", cut to so many bytes. */
#define PWS_HAND_WORDS 15
#define PWS_HAND_TEXT (8 * PWS_HAND_WORDS)

#define PWS_HAND_ANY UINT64_MAX

/* Room for why a worker has to go: "recycled" and the like, and the '\0'. */
#define PWS_REASON_WORDS 12
#define PWS_REASON_MAX (8 * PWS_REASON_WORDS)

/* The request that a thread has in hand, or had last. Its number is `sequence`, even:
 * two more than that of the one before, never 0. */
typedef struct {
    _Alignas(64) _Atomic uint64_t sequence; /* odd while the text is written */
    _Atomic int64_t since_ms; /* monotonic; moved on by what it waits for its client; 0:
                                 it has ended; below: it waits, and -1 less than that
                                 are the milliseconds that the app has spent */
    _Atomic uint64_t slow;    /* number of the one that passed slow_request_timeout */
    _Atomic uint64_t overdue; /* number of the one that passed request_timeout */
    /* By the master, numbers too: */
    _Atomic uint64_t aborted;  /* it interrupts that one */
    _Atomic uint64_t given_up; /* the relief answers for that one; PWS_HAND_ANY: for
                                  whichever it is */
    _Atomic uint64_t heeded_slow, heeded_overdue; /* it has seen those */
    _Atomic uint32_t len;                         /* of the text */
    _Atomic uint64_t text[PWS_HAND_WORDS];
} pws_hand;

typedef struct {
    _Alignas(64) _Atomic int64_t busy_since_ms; /* monotonic; 0: waiting for requests */
    _Atomic uint64_t requests;                  /* that the app has answered */
    _Atomic bool ready;     /* the app is loaded, connections are accepted */
    _Atomic bool leaving;   /* it has served its share and wants a successor */
    _Atomic bool dumps;     /* it has a handler for the signal that asks for stacks */
    _Atomic bool relieved;  /* its app is stuck, and its relief keeps all else moving */
    _Atomic bool deserted;  /* relieved, and nobody else waits for anything: it can be
                               killed */
    _Atomic bool closed;    /* it accepts no more, and ends */
    _Atomic bool foreign;   /* a class of somebody else is the worker: no engine reads
                               letters there, and it gives signs unasked */
    _Atomic uint32_t signs; /* of life, that the master has asked for */
    _Atomic bool owing;     /* one is owed: the question was read, for somebody else */
    _Atomic uint64_t claim; /* whose the cell is: see pws_cell_claim */
    /* By the master, once an assignment: */
    _Atomic uint32_t cause;                    /* why it has to go; 0: it has not */
    _Atomic uint64_t reason[PWS_REASON_WORDS]; /* more of that, as text */
    pws_hand hands[PWS_BOARD_HANDS];
} pws_cell;

/* What the log is told once, by the worker that comes to it first. */
typedef struct {
    _Atomic bool inert;      /* that uwsgi variables load nothing */
    _Atomic bool large_head; /* that nginx may not take a head */
} pws_said;

typedef struct {
    pws_cell cells[PWS_BOARD_CELLS];
    pws_said said;
    _Atomic uint32_t wanted; /* workers, as the master wants them now */
    _Atomic bool complained; /* one of those that boot has said in full why it cannot */
} pws_board;

/* By the master: a worker is about to be forked into the cell, and starts now. */
void pws_cell_assign(pws_cell *cell);

/* A cell is assigned to one worker at a time, under a number that is new each time. One
 * that a mold forks claims it by that number, with its pid or, when there is no worker
 * to be had, -1: the first claim wins, and one that comes after the cell was revoked,
 * or assigned again, is refused. So a late worker cannot share a cell with another one.
 */
uint32_t pws_cell_nonce(const pws_cell *cell);
bool pws_cell_claim(pws_cell *cell, uint32_t nonce, int32_t pid);

/* By the master: who has claimed the cell; 0: nobody yet. To take the cell back from
 * one who has not: returns whether it is back. */
int32_t pws_cell_claimed(const pws_cell *cell);
bool pws_cell_revoke(pws_cell *cell);

/* By the master: why the worker has to go, for those who look; `cause` is a number of
 * its own. The first one is kept, beyond the worker's end until the cell is assigned
 * again. */
void pws_cell_blame(pws_cell *cell, uint32_t cause, const char *reason);

/* Returns that cause and copies the text, which may be ""; 0 and "" when there is none,
 * or the cell is assigned anew meanwhile. */
uint32_t pws_cell_reason(const pws_cell *cell, char text[PWS_REASON_MAX]);

/* By the worker: it can serve; it is busy; it has nothing to do, or waits for its
 * client. */
void pws_cell_ready(pws_cell *cell);
void pws_cell_begin(pws_cell *cell);
void pws_cell_end(pws_cell *cell);

/* A request is done. Returns how many there were. The second is for workers in which
 * several threads say so. */
uint64_t pws_cell_count(pws_cell *cell);
uint64_t pws_cell_count_shared(pws_cell *cell);

/* How long the worker has been busy; 0 when it is not. */
int64_t pws_cell_busy_ms(const pws_cell *cell, int64_t now_ms);

/* By the worker: an app is called for the request that begins with `method` and
 * `target`; it waits for its client; it goes on; it has ended. */
void pws_hand_begin(pws_hand *hand, pws_slice method, pws_slice target, int64_t now_ms);
void pws_hand_pause(pws_hand *hand, int64_t now_ms);
void pws_hand_resume(pws_hand *hand, int64_t now_ms);
void pws_hand_end(pws_hand *hand);

/* What somebody else can read of a hand. */
typedef struct {
    uint64_t number; /* of the request; 0: there was none, or it could not be read */
    int64_t took_ms; /* so far, by the app; 0: it does not run for it now */
    uint64_t slow, overdue, aborted;
    char text[PWS_HAND_TEXT + 1]; /* as the client has sent it */
} pws_hand_view;

/* Look at a hand. Returns whether number and text belong together: after three tries
 * that were disturbed it gives up, and the text is empty. */
bool pws_hand_look(const pws_hand *hand, int64_t now_ms, pws_hand_view *view);

/* Whether the app runs for the request of this number. */
bool pws_hand_is_at(const pws_hand *hand, uint64_t number);

/* Whether that request is still one to be ended for having taken too long: the app runs
 * for it or, when the time of the app itself is over (request_timeout), waits for its
 * client. */
bool pws_hand_is_late(const pws_hand *hand, uint64_t number);

#endif
