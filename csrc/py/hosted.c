#include "py/hosted.h"

#include "base/clock.h"
#include "py/inline.h"
#include "py/turn.h"

/* After so long in a step the host is to run others. */
#define STEP_NS (1000 * 1000)

/* Events in a batch from which on another one is fetched in the same step: under load
 * something is there already, and the host need not be asked. */
#define BUSY_BATCH 2

/* Inline */

typedef struct {
    pws_runner runner;
    pws_lane *lane;
    bool inside; /* the app, which may have called us */
} inline_runner;

static int
run_inline(pws_runner *runner, pws_exchange *x)
{
    inline_runner *self = (inline_runner *)(void *)runner;

    self->inside = true;
    pws_turn_run(self->lane, x);
    self->inside = false;
    return 0;
}

static bool
may_run_inline(const pws_runner *runner)
{
    return !((const inline_runner *)(const void *)runner)->inside;
}

static void
free_inline(pws_runner *runner)
{
    inline_runner *self = (inline_runner *)(void *)runner;

    pws_lane_free(self->lane);
    PyMem_Free(self);
}

pws_runner *
pws_inline_runner_new(const pws_lane_config *config)
{
    inline_runner *self = PyMem_Calloc(1, sizeof(*self));

    if (self == NULL) {
        PyErr_NoMemory();
        return NULL;
    }
    self->runner = (pws_runner){.run = run_inline,
                                .may_run = may_run_inline,
                                .free = free_inline,
                                .due_ms = PWS_NEVER};
    self->lane = pws_lane_new(config, pws_inline_wait);
    if (self->lane == NULL) {
        PyMem_Free(self);
        return NULL;
    }
    return &self->runner;
}

/* Steps */

typedef struct {
    pws_hosted *h;
    pws_engine *e;
    int64_t until_ns; /* then the host runs others */
    bool nested;      /* an app has called the loop that calls us */
    bool polled;      /* in this step */
    bool more;        /* the last poll has left something */
} step;

/* Signals and orders; those that come in a nested step wait for the end of the app.
 * Entered and left with the lease. Returns 0 or -1 with an exception. */
static int
heed(const step *s)
{
    int rc = s->nested ? 0 : pws_turn_heed_all(&s->h->config);

    if (rc != 0) {
        pws_turn_take_lease(s->e);
    }
    return rc < 0 ? -1 : 0;
}

/* Move connections on; what becomes complete while nobody can run it waits in the
 * queue. Under the lease. Returns 0 or -1 with an exception. */
static int
poll_engine(step *s, bool may_run)
{
    int rc = may_run ? pws_engine_poll(s->e, 1, 0) : pws_engine_relieve(s->e, 0);

    s->polled = true;
    s->more = may_run && rc > 0;
    if (rc < 0) {
        PyErr_SetFromErrno(PyExc_OSError);
        return -1;
    }
    s->e->relief.woken = s->e->relief.woken || s->e->poller.woken;
    return 0;
}

/* Whether a poll is due, or likely to find something. */
static bool
is_worth_polling(const step *s)
{
    return !s->polled || s->more || s->e->poller.count >= BUSY_BATCH;
}

/* One request, or a poll when there is none to run. Entered and left with the lease.
 * Returns 1, 0 when there is nothing more to do, -1 with an exception. */
static int
advance(step *s)
{
    pws_runner *runner = s->h->runner;
    bool may_run = runner->may_run(runner);
    pws_parking *parking = pws_park_next(s->e);
    pws_exchange *x = NULL;
    int rc;

    if (parking == NULL) {
        pws_relief_catch_up(&s->e->relief);
        x = may_run ? pws_engine_next(s->e) : NULL;
    }
    if (x != NULL && runner->crowded) {
        pws_engine_slim(s->e, x);
    }
    if (parking == NULL && x == NULL) {
        if (!is_worth_polling(s)) {
            return 0;
        }
        return poll_engine(s, may_run) < 0 ? -1 : 1;
    }
    pws_lease_drop(&s->e->lease);
    rc = x != NULL ? runner->run(runner, x) : runner->go_on(runner, parking);
    pws_lane_drop_released(s->e);
    pws_turn_take_lease(s->e);
    return rc < 0 ? -1 : 1;
}

/* Entered and left with the lease. Returns 0 or -1 with an exception. */
static int
work(step *s)
{
    int rc;

    do {
        rc = heed(s);
        if (rc == 0 && !pws_turn_should_end(s->e, s->h->config.orders)) {
            rc = advance(s);
        }
    } while (rc > 0 && pws_clock_ns() < s->until_ns);
    return rc > 0 ? heed(s) : rc;
}

/* Milliseconds until the runner, or a stop, wants a step; -1: neither does. */
static int
time_left_ms(const step *s)
{
    int left_ms = pws_turn_time_left_ms(s->e, s->h->config.orders);
    int64_t due_ms = s->h->runner->due_ms - s->e->clock.now_ms;

    if (s->h->runner->due_ms == PWS_NEVER) {
        return left_ms;
    }
    due_ms = due_ms < 0 ? 0 : due_ms < INT32_MAX ? due_ms : INT32_MAX;
    return left_ms >= 0 && left_ms < due_ms ? left_ms : (int)due_ms;
}

/* See whether this is the end, and show the host what is left. Under the lease; an
 * exception may be set. Returns whether there is something. */
static bool
conclude(const step *s)
{
    pws_hosted *h = s->h;

    h->done = pws_turn_should_end(s->e, h->config.orders);
    return pws_engine_show(s->e, h->runner->may_run(h->runner), time_left_ms(s));
}

void
pws_hosted_take_lease(pws_hosted *h)
{
    pws_relief_leave(&h->config.engine->relief);
    pws_turn_take_lease(h->config.engine);
}

static int
take_step(step *s)
{
    pws_runner *runner = s->h->runner;
    bool left;
    int rc;

    if (!s->nested && runner->look_around != NULL && runner->look_around(runner) < 0) {
        return -1;
    }
    if (s->h->done) {
        return 0;
    }
    pws_hosted_take_lease(s->h);
    pws_poller_give_owed_sign(&s->e->poller);
    rc = work(s);
    left = conclude(s);
    pws_lease_drop(&s->e->lease);
    if (s->nested) {
        pws_relief_enter(&s->e->relief, atomic_load(&s->e->relief.own.x));
    }
    pws_lane_drop_released(s->e);
    return rc < 0 ? -1 : left;
}

int
pws_hosted_step(pws_hosted *h)
{
    pws_engine *e = h->config.engine;
    step s = {.h = h, .e = e, .nested = h->stepping};
    int rc;

    if (e->abandoned) {
        pws_turn_end_child();
    }
    if (PyThread_get_thread_ident() != h->thread) {
        PyErr_SetString(PyExc_RuntimeError, "step() in another thread than begin()");
        return -1;
    }
    s.until_ns = pws_clock_ns() + STEP_NS;
    h->stepping = true;
    rc = take_step(&s);
    h->stepping = s.nested;
    return rc;
}

void
pws_hosted_look(pws_hosted *h)
{
    pws_engine_wake(h->config.engine);
}

void
pws_hosted_done(pws_hosted *h, pws_exchange *x)
{
    pws_engine *e = h->config.engine;

    pws_exchange_done(x);
    if (!h->stepping) {
        step s = {.h = h, .e = e};

        pws_hosted_take_lease(h);
        pws_engine_take_back(e);
        (void)conclude(&s);
        pws_lease_drop(&e->lease);
        pws_lane_drop_released(e);
        if (h->done) {
            pws_hosted_look(h);
        }
    }
}

void
pws_hosted_begin(pws_hosted *h, pws_runner *runner)
{
    h->runner = runner;
    h->thread = PyThread_get_thread_ident();
    h->stepping = h->done = false;
    pws_hold_forbid(&h->config.engine->hold);
    (void)pws_turn_start_relief(&h->config);
    pws_hosted_look(h);
}

void
pws_hosted_abandon(pws_hosted *h)
{
    if (h->runner != NULL && h->runner->abandon != NULL) {
        h->runner->abandon(h->runner);
    }
}

void
pws_hosted_end(pws_hosted *h)
{
    pws_runner *runner = h->runner;

    h->runner = NULL;
    pws_relief_end(&h->config.engine->relief);
    runner->free(runner);
}
