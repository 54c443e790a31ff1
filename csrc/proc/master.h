/* master.h - keeps a number of workers alive, and replaces them without a gap.
 *
 * The loop is one sleep and a list of things to look at; nothing in it waits for
 * anything else. What it cannot know (how to fork, where settings are from, who wants
 * to hear of what) it asks through pws_master_calls. The workers are forked out of
 * pws_master_run, which returns in each of them. */
#ifndef PWS_PROC_MASTER_H
#define PWS_PROC_MASTER_H

#include <signal.h>

#include "base/clock.h"
#include "base/log.h"
#include "proc/mold.h"
#include "proc/oom.h"
#include "proc/stacks.h"
#include "proc/systemd.h"
#include "proc/workers.h"

typedef struct {
    unsigned workers;      /* how many to keep alive, at most PWS_WORKERS_MAX */
    int64_t timeout_ms;    /* how long one may be busy; 0: as long as it likes */
    int64_t graceful_ms;   /* how long one may take to end */
    bool preload;          /* a mold loads the app, and forks the workers */
    unsigned surge;        /* processes beyond `workers` while some are replaced; 0: as
                              many again */
    int64_t lifetime_ms;   /* after which a worker is replaced; 0: never */
    uint64_t rss_max;      /* bytes in memory, the same */
    uint64_t max_requests; /* the same, and decided by the worker */
    int64_t drain_ms;      /* how long SIGTERM lets connections be accepted still */
    bool daemon;           /* no terminal: SIGWINCH is meant */
} pws_master_settings;

/* Why a worker has ended, as far as the master knows. */
typedef struct {
    pid_t pid;
    unsigned number;
    int status;     /* of waitpid */
    unsigned place; /* of its cell */
    bool timed_out;
    const char *words; /* why, as far as the status does not say it; "" */
} pws_worker_end;

/* `context` is that of the master. */
typedef struct {
    /* Around the sleep: others may run meanwhile. */
    void (*let_go)(void *context);
    void (*take_back)(void *context);
    void (*log)(void *context, pws_log_level level, const char *text);
    void (*record)(void *context, pws_log_level level, pws_slice text); /* many lines */
    /* A worker is about to be forked. Returns 0, or -1 to try again later. */
    int (*before_fork)(void *context, unsigned number);
    /* Fork, with all signals held back. Returns as fork does. */
    pid_t (*fork)(void *context);
    void (*forked)(void *context, pid_t pid, unsigned number);
    void (*reaped)(void *context, const pws_worker_end *end);
    /* HUP: read everything anew. Returns 0, or -1 to go on as before; it is in the
     * log. */
    int (*reload)(void *context, pws_master_settings *settings);
    /* Whether the workers of the last reload could start. */
    void (*settled)(void *context, bool kept);
    /* The number of workers is another one, by a signal. */
    void (*counted)(void *context, unsigned workers);
    void (*reopen)(void *context);  /* USR1 */
    void (*started)(void *context); /* the first set of workers is ready */
    void (*stopping)(void *context);
    /* The new master that USR2 has started; 0: it has ended. */
    void (*successor)(void *context, pid_t pid);
    void (*promoted)(void *context); /* the master before this one has ended */
    /* The sockets of a worker slot, by address, or only those that are its own; `fds`
     * has room for PWS_SLOT_FDS_MAX. Returns how many. */
    unsigned (*sockets)(void *context, unsigned slot, bool own, int *fds);
    /* Open sockets for more slots. Returns how many slots there are then. */
    unsigned (*open_slots)(void *context, unsigned wanted);
} pws_master_calls;

/* One place in a message is for the worker's order channel. */
#define PWS_SLOT_FDS_MAX (PWS_MOLD_FDS_MAX - 1)

typedef enum {
    PWS_MASTER_STARTING, /* the first set of workers is not ready yet */
    PWS_MASTER_SERVING,
    PWS_MASTER_TRYING,   /* a new generation boots, the one before goes on */
    PWS_MASTER_DRAINING, /* as before, but answers say close: see drain_ms */
    PWS_MASTER_STOPPING,
} pws_master_phase;

/* The masters before and after this one, while they live: see upgrade.h. */
typedef struct {
    pid_t predecessor;  /* our parent, whose sockets we share; 0: there is none */
    int predecessor_fd; /* readable when it has ended; -1: that has to be asked */
    pid_t successor;    /* our child; 0: there is none */
    bool wanted;        /* USR2 has come */
} pws_kin;

typedef struct {
    const pws_master_calls *calls;
    void *context;
    pws_master_settings settings; /* in force */
    pws_master_settings proven;   /* while others are tried: to go back to */
    pws_master_phase phase;
    pws_workers workers;
    unsigned proven_generation, last_generation, last_number;
    int news[2];          /* workers say there that their cell has changed */
    pws_stacks stacks;    /* of late workers */
    bool adopts;          /* orphans become our children: as PID 1, or a subreaper */
    unsigned failures;    /* workers in a row that could not serve for long */
    int64_t failed_ms;    /* when the last one did */
    int64_t spawn_ms;     /* none is forked before; 0: at once */
    bool head_start;      /* the first workers have had it */
    bool rolling;         /* a reload is kept, and not all of its workers are ready */
    bool pause_untold;    /* a pause has begun that is not in the log yet */
    bool short_said;      /* it is there, and nobody has said that all serve again */
    bool asked_reload;    /* like SIGHUP, from a hook */
    bool quick;           /* STOPPING: nobody is waited for */
    int64_t look_ms;      /* when to look at the memory of workers again */
    int64_t drain_end_ms; /* DRAINING: when it stops */
    pws_oom oom;
    int exit_code;
    const char *reason; /* of the end; NULL: it was asked for */
    pws_kin kin;
    pws_systemd systemd;
    unsigned slots;  /* of workers: see slots.h */
    bool slots_grow; /* there may be more of them */
    int64_t tend_ms; /* when a socket that nobody polls is seen to again; PWS_NEVER */
    /* In a worker or a mold: */
    pws_cell *cell;
    unsigned slot;
    int order_fd;    /* our end of the socket that orders come by */
    sigset_t before; /* the signals that were blocked before the fork */
} pws_master;

/* Returns 0 or -1 with errno; either way end with pws_master_close. */
int pws_master_init(pws_master *m, const pws_master_calls *calls, void *context);
void pws_master_close(pws_master *m);

/* Keep workers alive until a signal ends it. Returns an exit code, or PWS_IS_WORKER in
 * a forked worker and PWS_IS_MOLD in a mold: there all signals are held back, and the
 * master's handlers are gone. Or PWS_IS_SUCCESSOR in a process that is to execute the
 * program anew: there all signals are as they are by default. 3 or 4: the first workers
 * could not start, and have ended with this code. */
#define PWS_IS_WORKER (-1)
#define PWS_IS_MOLD (-2)
#define PWS_IS_SUCCESSOR (-3)
int pws_master_run(pws_master *m, const pws_master_settings *settings);

/* From the hooks of the master: another number of workers, up to PWS_WORKERS_MAX; a
 * reload; fork those that are missing without a pause. The loop acts on it. */
void pws_master_resize(pws_master *m, unsigned workers);
void pws_master_ask_reload(pws_master *m);
void pws_master_hurry(pws_master *m);

/* When who is told to end now is killed. A worker keeps graceful_timeout itself, and
 * closes its connections then. */
static inline int64_t
pws_master_last_moment(const pws_master *m)
{
    return pws_clock_now_ms() + m->settings.graceful_ms + 1000;
}

/* For reap.c: the first workers cannot start, so all ends with one of these codes,
 * which are Gunicorn's too; the generation that is tried is the one to keep, or to
 * drop. */
#define PWS_BOOT_FAILED 3
#define PWS_APP_FAILED 4
void pws_master_halt(pws_master *m, int exit_code);
void pws_master_settle(pws_master *m, bool keep);

/* For spawn.c and reap.c: a line of the log. */
void pws_master_say(const pws_master *m, pws_log_level level, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* In a process that a mold has just forked: be the worker that was asked for. Returns
 * 0, or -1 when that is not wanted any more: the process must end. Or, in the mold: it
 * cannot be had. Either way the descriptors of `request` but the first are the
 * caller's. */
int pws_master_be_worker(pws_master *m, const pws_mold_request *request);
void pws_master_decline(pws_master *m, const pws_mold_request *request);

/* In a worker: the cell has changed. From any thread. */
void pws_master_tell(const pws_master *m);

#endif
