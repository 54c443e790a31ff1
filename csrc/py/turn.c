#include "py/turn.h"

#include <errno.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "engine/crew.h"
#include "py/call.h"

void
pws_turn_take_lease_back(pws_engine *e)
{
    if (!pws_lease_try_take(&e->lease)) {
        pws_relief_hurry(&e->relief);
        pws_lease_take(&e->lease);
    }
}

void
pws_turn_take_crew_lease(pws_crew *crew)
{
    while (!pws_crew_try_take(crew)) {
        Py_BEGIN_ALLOW_THREADS
        pws_crew_take(crew);
        pws_lease_drop(&crew->engine->lease);
        Py_END_ALLOW_THREADS
    }
}

int
pws_turn_heed(const pws_lane_config *config, unsigned letters)
{
    PyObject *result;

    if (letters == 0 || config->tie == NULL) {
        return 0;
    }
    result = PyObject_CallFunction(config->tie->heed, "I", letters);
    Py_XDECREF(result);
    return result != NULL ? 0 : -1;
}

int
pws_turn_heed_all(const pws_lane_config *config)
{
    pws_engine *e = config->engine;
    bool woken = pws_relief_take_woken(&e->relief);
    unsigned letters = pws_turn_take_letters(e);

    e->relief.letters = 0; /* the request that they were for is over */
    if (!woken && letters == 0) {
        return 0;
    }
    pws_lease_drop(&e->lease);
    if (woken && PyErr_CheckSignals() < 0) {
        return -1;
    }
    return pws_turn_heed(config, letters) < 0 ? -1 : 1;
}

/* What this process says of itself; NULL: there is no master. */
static pws_cell *
own_cell(const pws_lane *lane)
{
    return lane->config->tie != NULL && !lane->engine->abandoned
               ? lane->config->tie->master->cell
               : NULL;
}

/* The app is about to be called for `x`: its time begins, and the relief's watch. */
static void
enter_app(const pws_lane *lane, pws_exchange *x)
{
    pws_cell *cell = own_cell(lane);

    if (cell != NULL) {
        const pws_request *req = &x->request;

        pws_cell_begin(cell);
        pws_hand_begin(
            &cell->hands[0], pws_request_slice(req, req->method),
            pws_request_slice(req, req->target),
            atomic_load_explicit(&cell->busy_since_ms, memory_order_relaxed));
    }
    pws_relief_enter(&lane->engine->relief, x);
}

/* It has returned. The cell first: who sees it busy finds the request at the hand. */
static void
leave_app(const pws_lane *lane)
{
    pws_cell *cell = own_cell(lane);

    pws_relief_leave(&lane->engine->relief);
    if (cell != NULL) {
        pws_cell_end(cell);
        pws_hand_end(&cell->hands[0]);
    }
}

void
pws_turn_pause(const pws_lane *lane)
{
    pws_cell *cell = own_cell(lane);

    pws_relief_leave(&lane->engine->relief);
    if (cell != NULL) {
        pws_cell_end(cell);
        pws_hand_pause(&cell->hands[0], pws_clock_now_ms());
    }
}

void
pws_turn_resume(const pws_lane *lane, pws_exchange *x)
{
    pws_cell *cell = own_cell(lane);

    if (cell != NULL) {
        pws_cell_begin(cell);
        pws_hand_resume(&cell->hands[0], pws_clock_now_ms());
    }
    pws_relief_enter(&lane->engine->relief, x);
}

void
pws_turn_count(const pws_lane_config *config)
{
    const pws_tie *tie = config->tie;

    if (tie == NULL) {
        return;
    }
    if (pws_cell_count(tie->master->cell) == tie->max_requests) {
        pws_log(PWS_LOG_INFO, "Autorestarting worker after current request.");
        atomic_store(&tie->master->cell->leaving, true);
        pws_master_tell(tie->master);
    }
}

void
pws_turn_end_child(void)
{
    pws_log(PWS_LOG_ERROR,
            "A process that the app has forked came back into the server "
            "instead of ending: ended here");
    _exit(1);
}

void
pws_turn_run(pws_lane *lane, pws_exchange *x)
{
    enter_app(lane, x);
    pws_call_app(lane, x);
    if (lane->engine->abandoned) {
        pws_turn_end_child();
    }
    leave_app(lane);
    pws_exchange_done(x);
    pws_turn_count(lane->config);
}

bool
pws_turn_is_drain_due(const pws_engine *e, const pws_orders *orders)
{
    return atomic_load(&orders->stop) != PWS_STOP_NOT &&
           e->clock.now_ms >= atomic_load(&orders->drain_ms);
}

bool
pws_turn_ends(pws_engine *e, const pws_orders *orders)
{
    switch (atomic_load_explicit(&orders->stop, memory_order_relaxed)) {
    case PWS_STOP_NOT:
        return false;
    case PWS_STOP_GRACEFUL:
        if (!pws_turn_is_drain_due(e, orders)) {
            return false;
        }
        pws_engine_drain(e);
        return pws_engine_is_drained(e) ||
               e->clock.now_ms >= atomic_load(&orders->end_ms);
    default:
        return true;
    }
}

int
pws_turn_time_left_ms(const pws_engine *e, const pws_orders *orders)
{
    int64_t until_ms, left_ms;

    if (atomic_load_explicit(&orders->stop, memory_order_relaxed) == PWS_STOP_NOT) {
        return -1;
    }
    until_ms = pws_turn_is_drain_due(e, orders) ? atomic_load(&orders->end_ms)
                                                : atomic_load(&orders->drain_ms);
    left_ms = until_ms - e->clock.now_ms;
    return left_ms > INT32_MAX ? -1 : left_ms > 0 ? (int)left_ms : 0;
}

bool
pws_turn_start_relief(const pws_lane_config *config)
{
    const pws_tie *tie = config->tie;
    pws_engine *e = config->engine;

    if (tie != NULL) {
        e->relief.terms = (pws_relief_terms){
            .cell = tie->master->cell,
            .news_fd = tie->master->news[1],
            .drain_letters =
                PWS_ORDER_RETIRE | PWS_ORDER_QUICK | PWS_ORDER_DRAIN | PWS_LETTER_END,
            .give_up_letters = PWS_ORDER_GIVE_UP,
        };
    }
    if (pws_relief_start(&e->relief, e) < 0) {
        pws_log(PWS_LOG_WARNING, "relief: no thread: %s", strerror(errno));
        return false;
    }
    return true;
}
