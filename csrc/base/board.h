/* board.h - what each worker says of itself, in memory that it shares with the master.
 *
 * A worker has a cell for as long as it lives and is the only one to write there; the
 * master clears it before it forks the next one into it. All fields are atomics that
 * are read and written alone, so nobody ever waits. Who maps the board is proc's
 * business. */
#ifndef PWS_BASE_BOARD_H
#define PWS_BASE_BOARD_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

/* Two whole sets of workers fit, so that a new one can start beside an old one. */
#define PWS_WORKERS_MAX 512
#define PWS_BOARD_CELLS (2 * PWS_WORKERS_MAX)

typedef struct {
    _Alignas(64) _Atomic int64_t busy_since_ms; /* monotonic; 0: waiting for requests */
    _Atomic uint64_t requests;                  /* that the app has answered */
    _Atomic bool ready;   /* the app is loaded, connections are accepted */
    _Atomic bool leaving; /* it has served its share and wants a successor */
    /* Of the master, but for the claim that a mold's worker makes. */
    _Atomic bool closed;    /* by the worker: it accepts no more, and ends */
    _Atomic uint64_t claim; /* whose the cell is: see pws_cell_claim */
} pws_cell;

typedef struct {
    pws_cell cells[PWS_BOARD_CELLS];
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

/* By the worker: it can serve; an app is called; the app has returned, or waits for its
 * client. */
void pws_cell_ready(pws_cell *cell);
void pws_cell_begin(pws_cell *cell);
void pws_cell_end(pws_cell *cell);

/* A request is done. Returns how many there were. */
uint64_t pws_cell_count(pws_cell *cell);

/* How long the worker has been busy; 0 when it is not. */
int64_t pws_cell_busy_ms(const pws_cell *cell, int64_t now_ms);

#endif
