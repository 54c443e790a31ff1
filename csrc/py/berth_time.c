#include "py/berth_time.h"

#include "base/clock.h"
#include "base/log.h"
#include "py/call.h"

static pws_cell *
own_cell(const pws_greenlets *pool)
{
    const pws_tie *tie = pool->hosted->config.tie;

    return tie != NULL && !pool->hosted->config.engine->abandoned ? tie->master->cell
                                                                  : NULL;
}

static const pws_engine_config *
limits(const pws_greenlets *pool)
{
    return pool->hosted->config.engine->config;
}

/* The app's time since `since_ms`, in which nobody waited for the client. */
static void
show(pws_berth *berth, pws_cell *cell, int hand)
{
    const pws_request *req = &berth->x->request;

    berth->hand = hand;
    berth->pool->hands[hand] = berth;
    pws_hand_begin(&cell->hands[hand], pws_request_slice(req, req->method),
                   pws_request_slice(req, req->target), berth->since_ms);
    if (berth->waits > 0) {
        pws_hand_pause(&cell->hands[hand], berth->since_ms + berth->spent_ms);
    }
}

/* A hand has become free: it is for the oldest request that none shows. */
static void
pass_on(pws_greenlets *pool, pws_cell *cell, int hand)
{
    for (pws_berth *berth = pool->oldest; berth != NULL; berth = berth->next) {
        if (berth->hand < 0 && berth->waits == 0) {
            show(berth, cell, hand);
            return;
        }
    }
}

static void
expect(pws_greenlets *pool, int64_t due_ms)
{
    if (due_ms < pool->runner.due_ms) {
        pool->runner.due_ms = due_ms;
    }
}

/* When the next limit of a request is passed; PWS_NEVER: none. */
static int64_t
next_limit_ms(const pws_berth *berth)
{
    const pws_engine_config *config = limits(berth->pool);
    int64_t next_ms = PWS_NEVER;

    if (berth->waits > 0) {
        return next_ms;
    }
    if (config->slow_request_ms > 0 && !berth->told_slow) {
        next_ms = berth->since_ms + config->slow_request_ms;
    }
    if (config->request_timeout_ms > 0 && !berth->told_overdue &&
        berth->since_ms + config->request_timeout_ms < next_ms) {
        next_ms = berth->since_ms + config->request_timeout_ms;
    }
    return next_ms;
}

void
pws_berth_begin_time(pws_berth *berth)
{
    pws_greenlets *pool = berth->pool;
    pws_cell *cell = own_cell(pool);

    berth->since_ms = pws_clock_now_ms();
    berth->told_slow = berth->told_overdue = false;
    berth->waits = 0;
    berth->hand = -1;
    for (int i = 0; cell != NULL && berth->hand < 0 && i < PWS_BOARD_HANDS; i++) {
        if (pool->hands[i] == NULL) {
            show(berth, cell, i);
        }
    }
    expect(pool, next_limit_ms(berth));
}

void
pws_berth_end_time(pws_berth *berth)
{
    pws_greenlets *pool = berth->pool;
    pws_cell *cell = own_cell(pool);
    int hand = berth->hand;

    berth->hand = -1;
    if (hand >= 0) {
        pool->hands[hand] = NULL;
    }
    if (hand >= 0 && cell != NULL) {
        pws_hand_end(&cell->hands[hand]);
        if (pool->in_hand > PWS_BOARD_HANDS) {
            pass_on(pool, cell, hand);
        }
    }
}

/* The relief minds the time of the first hand's request alone; what else keeps the hub
 * busy is missed by the master, for want of a sign of life. */
void
pws_berths_enter(pws_greenlets *pool, const pws_berth *berth)
{
    pws_cell *cell = own_cell(pool);

    if (cell != NULL && berth->hand == 0) {
        pws_cell_begin(cell);
        pws_relief_enter(&pool->hosted->config.engine->relief, berth->x);
        pool->entered = true;
    }
}

void
pws_berths_leave(pws_greenlets *pool)
{
    pws_cell *cell = own_cell(pool);

    if (!pool->entered) {
        return;
    }
    pool->entered = false;
    pws_relief_leave(&pool->hosted->config.engine->relief);
    if (cell != NULL) {
        pws_cell_end(cell);
    }
}

void
pws_berth_pause_time(pws_berth *berth)
{
    pws_cell *cell = own_cell(berth->pool);
    int64_t now_ms = pws_clock_now_ms();

    if (berth->waits++ > 0) {
        return;
    }
    berth->spent_ms = now_ms - berth->since_ms;
    if (berth->hand >= 0 && cell != NULL) {
        pws_hand_pause(&cell->hands[berth->hand], now_ms);
    }
}

void
pws_berth_resume_time(pws_berth *berth)
{
    pws_cell *cell = own_cell(berth->pool);
    int64_t now_ms = pws_clock_now_ms();

    if (--berth->waits > 0) {
        return;
    }
    berth->since_ms = now_ms - berth->spent_ms;
    if (berth->hand >= 0 && cell != NULL) {
        pws_hand_resume(&cell->hands[berth->hand], now_ms);
    }
    expect(berth->pool, next_limit_ms(berth));
}

/* Returns 0 or -1 with an exception. */
static int
tell(const pws_berth *berth, bool overdue, int64_t now_ms)
{
    char name[PWS_CALL_NAME_ROOM], text[PWS_CALL_NAME_ROOM + 64];
    PyObject *result;

    PyOS_snprintf(text, sizeof(text), "%s, %.1f s",
                  pws_call_name_request(&berth->x->request, name),
                  (double)(now_ms - berth->since_ms) / 1000);
    result = PyObject_CallFunction(berth->pool->late, "OOs", berth->greenlet,
                                   overdue ? Py_True : Py_False, text);
    Py_XDECREF(result);
    return result != NULL ? 0 : -1;
}

/* Answer in the app's place, unless it has begun to, and have it interrupted. */
static int
end_overdue(pws_berth *berth, int64_t now_ms)
{
    pws_engine *e = berth->lane->engine;
    PyObject *result;

    berth->told_overdue = true;
    pws_hosted_take_lease(berth->pool->hosted);
    (void)pws_exchange_answer(berth->x, 504);
    pws_lease_drop(&e->lease);
    if (tell(berth, true, now_ms) < 0) {
        return -1;
    }
    result = PyObject_CallOneArg(berth->pool->overdue, berth->greenlet);
    Py_XDECREF(result);
    return result != NULL ? 0 : -1;
}

/* Returns 0 or -1 with an exception. */
static int
mind(pws_berth *berth, int64_t now_ms)
{
    const pws_engine_config *config = limits(berth->pool);
    int64_t took_ms = now_ms - berth->since_ms;

    if (config->request_timeout_ms > 0 && took_ms >= config->request_timeout_ms &&
        !berth->told_overdue) {
        return end_overdue(berth, now_ms);
    }
    if (config->slow_request_ms > 0 && took_ms >= config->slow_request_ms &&
        !berth->told_slow) {
        berth->told_slow = true;
        return tell(berth, false, now_ms);
    }
    return 0;
}

int
pws_berths_mind(pws_greenlets *pool)
{
    int64_t now_ms = pws_clock_now_ms();

    if (now_ms < pool->runner.due_ms) {
        return 0;
    }
    pool->runner.due_ms = PWS_NEVER;
    for (pws_berth *berth = pool->oldest; berth != NULL; berth = berth->next) {
        if (next_limit_ms(berth) <= now_ms && mind(berth, now_ms) < 0) {
            pool->runner.due_ms = now_ms;
            return -1;
        }
        expect(pool, next_limit_ms(berth));
    }
    return 0;
}
