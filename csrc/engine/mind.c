#include "engine/mind.h"

#include <errno.h>
#include <unistd.h>

#include "engine/engine.h"

/* The master is to look at the cell. A full pipe is fine: it wakes anyway. */
void
pws_mind_tell(const pws_relief *relief)
{
    while (write(relief->terms.news_fd, "", 1) < 0 && errno == EINTR) {
    }
}

/* Time. A call's hand has the number and the beginning of its request before the turn
 * that goes into the app can be seen. */

/* Milliseconds until the request has taken `limit_ms`; PWS_NEVER without such a limit,
 * or when it has been told already that this has happened. */
static int64_t
left_ms(int64_t limit_ms, int64_t took_ms, bool told)
{
    return limit_ms > 0 && !told ? limit_ms - took_ms : PWS_NEVER;
}

typedef struct {
    uint64_t number;
    int64_t until_slow_ms, until_overdue_ms;
} deadlines;

static deadlines
look_at_time(const pws_relief *relief, const pws_call *call)
{
    const pws_engine_config *config = relief->engine->config;
    deadlines found = {0, PWS_NEVER, PWS_NEVER};
    const pws_hand *hand = call->hand;
    int64_t since_ms, took_ms;

    if (hand == NULL || !pws_call_is_inside(call)) {
        return found;
    }
    since_ms = atomic_load(&hand->since_ms);
    if (since_ms <= 0) {
        return found;
    }
    found.number = atomic_load(&hand->sequence);
    took_ms = pws_clock_now_ms() - since_ms;
    found.until_slow_ms = left_ms(config->slow_request_ms, took_ms,
                                  atomic_load(&hand->slow) == found.number);
    found.until_overdue_ms = left_ms(config->request_timeout_ms, took_ms,
                                     atomic_load(&hand->overdue) == found.number);
    return found;
}

/* Say what has become of the request in hand, and answer one that has taken too long.
 * Under the lease, in the turn that the exchange belongs to. Returns the milliseconds
 * after which there is more to do, or PWS_NEVER. */
static int64_t
mind_call(pws_relief *relief, pws_call *call)
{
    uint32_t turn = atomic_load(&call->turn);
    pws_exchange *x = atomic_load(&call->x);
    deadlines left = look_at_time(relief, call);
    int64_t next_ms = PWS_NEVER;

    if (atomic_load(&call->turn) != turn) {
        return PWS_NEVER; /* what was found may be another one's */
    }
    if (left.until_slow_ms <= 0) {
        atomic_store(&call->hand->slow, left.number);
        pws_mind_tell(relief);
    }
    else {
        next_ms = left.until_slow_ms;
    }
    if (left.until_overdue_ms <= 0) {
        (void)pws_exchange_answer(x, 504);
        atomic_store(&relief->terms.cell->leaving, true);
        atomic_store(&call->hand->overdue, left.number);
        pws_mind_tell(relief);
    }
    else if (left.until_overdue_ms < next_ms) {
        next_ms = left.until_overdue_ms;
    }
    return next_ms;
}

bool
pws_mind_is_due(const pws_relief *relief, const pws_call *call)
{
    deadlines left = look_at_time(relief, call);

    return left.until_slow_ms <= 0 || left.until_overdue_ms <= 0;
}

int
pws_mind_all(pws_relief *relief)
{
    int64_t next_ms = PWS_NEVER;

    relief->answering = false;
    for (unsigned i = 0; i < relief->call_count; i++) {
        pws_call *call = &relief->calls[i];

        if (pws_call_is_inside(call)) {
            int64_t due_ms = mind_call(relief, call);

            next_ms = due_ms < next_ms ? due_ms : next_ms;
            if (!pws_exchange_answer_more(atomic_load(&call->x))) {
                relief->answering = true;
            }
        }
    }
    return next_ms < 3600000 ? (int)next_ms : -1;
}
