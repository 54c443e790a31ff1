/* poller.h - one epoll set, and the only place that knows it is epoll.
 *
 * A connection is registered once, edge-triggered, for life; a listener level-triggered
 * and exclusive. Each registration carries a 64-bit key that comes back with its
 * events. The set's own descriptor can be watched by somebody else's loop: an eventfd
 * and a timerfd in the set then show what the kernel does not know of. */
#ifndef PWS_ENGINE_POLLER_H
#define PWS_ENGINE_POLLER_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/clock.h"
#include "base/passing.h"
#include "engine/lease.h"

enum {
    PWS_READABLE = 1,
    PWS_WRITABLE = 2,
    PWS_PEER_DONE = 4, /* the peer has closed its side: there is an end to be read */
    PWS_BROKEN = 8,    /* error, or closed both ways */
};

typedef struct {
    uint64_t key;
    unsigned what; /* PWS_READABLE ... */
} pws_event;

#define PWS_BATCH 256

typedef struct {
    int fd;
    int wake_fd;   /* eventfd: pws_poller_wake */
    int timer_fd;  /* timerfd: hosted mode only, else -1 */
    int pipe_fd;   /* read end of a pipe that ends the wait too, not owned; -1: none */
    int letter_fd; /* our end of a socket of letters, not owned; -1: none */
    _Atomic uint32_t *signs;  /* of life: see PWS_LETTER_SIGN; NULL: nobody counts */
    _Atomic bool *owing;      /* whether one is owed, for who counts; NULL likewise */
    bool mute;                /* who polls does not speak for who should */
    bool owes_sign;           /* it was asked for meanwhile */
    unsigned letters;         /* all that have come and nobody has taken */
    int passed[PWS_PASS_MAX]; /* descriptors that came along, for who polls to take */
    unsigned passed_count;
    int64_t armed_ms; /* when the timer is due; PWS_NEVER: it is not set */
    bool woken;       /* the last wait was ended by a wake, a pipe or a signal */
    pws_event events[PWS_BATCH];
    int count;
} pws_poller;

/* The keys with this bit are listeners, or the poller's own descriptors, which
 * pws_poller_wait keeps to itself. */
#define PWS_LISTENER_KEY ((uint64_t)1 << 63)
#define PWS_KEY_WAKE (UINT64_MAX - 1)
#define PWS_KEY_TIMER (UINT64_MAX - 2)
#define PWS_KEY_PIPE (UINT64_MAX - 3)
#define PWS_KEY_LETTERS (UINT64_MAX - 4)

/* Returns 0, or -1 with errno. */
int pws_poller_init(pws_poller *poller);
void pws_poller_close(pws_poller *poller);

/* Returns 0, or -1 with errno. */
int pws_poller_add_conn(pws_poller *poller, int fd, uint64_t key);
int pws_poller_add_listener(pws_poller *poller, int fd, uint64_t key);
void pws_poller_remove(pws_poller *poller, int fd);

/* For a connection that is in the set: what is so already counts as new, although it
 * was told of before. One that somebody is just adding is new in any case. */
void pws_poller_see_anew(pws_poller *poller, int fd, uint64_t key);

/* Let `fd`, the non-blocking read end of a pipe, end waits; what is written there is
 * thrown away. Returns 0, or -1 with errno. */
int pws_poller_add_pipe(pws_poller *poller, int fd);

/* Let `fd`, a non-blocking Unix stream socket, end waits. Each byte that comes is a set
 * of bits of the reader's choice, added to `letters`; descriptors may come along. The
 * end of the stream is a letter too, the last one; another says that descriptors came
 * which could not be had. Returns 0, or -1 with errno. */
#define PWS_LETTER_END 0x100u
#define PWS_LETTER_LOST 0x200u
int pws_poller_add_letters(pws_poller *poller, int fd);

/* This letter asks whether anybody reads: it is answered by one more in `signs`, and
 * nobody else hears of it. */
#define PWS_LETTER_SIGN 0x20u

/* By whom the sign is asked of: give one that was asked for while somebody else polled.
 */
void pws_poller_give_owed_sign(pws_poller *poller);

/* Wait up to `timeout_ms` (-1: for ever) and fill `events`. Returns their number; 0
 * after a time-out, a wake or a signal; -1 with errno. */
int pws_poller_wait(pws_poller *poller, int timeout_ms);

/* The same, with the lease given up while it waits: others may have it meanwhile, but
 * must not wait here. */
int pws_poller_wait_lent(pws_poller *poller, int timeout_ms, pws_lease *lease);

/* For another thread than the one that waits: one event of a connection, if one is
 * there already. All that is for the poller or of listeners is left to who waits.
 * Returns whether there was one. */
bool pws_poller_take_one(pws_poller *poller, pws_event *event);

/* End the wait that is going on, or the next. From any thread and from signal handlers.
 */
void pws_poller_wake(pws_poller *poller);

/* Hosted mode: make the set's descriptor readable in `timeout_ms` (-1: not by time) at
 * the latest, counted from `now_ms`, the present on the engine's clock. An earlier time
 * that was asked for before stays: one system call for many deadlines. Returns 0, or -1
 * with errno. */
int pws_poller_arm(pws_poller *poller, int64_t now_ms, int timeout_ms);

#endif
