#include "engine/evict.h"

#include "base/log.h"
#include "engine/exchange.h"
#include "engine/io.h"

/* Spare connections that are closed together. */
#define TOGETHER 16

/* A connection without a request is spare after this time. */
#define SPARE_AFTER_MS 1000

/* A client is slow that has moved less than this, over at least that time. */
#define SLOW_BYTES_A_S 4096
#define SLOW_AFTER_MS 5000

/* Bytes that every client counts as having moved: see rate(). */
#define CREDIT (64u * 1024)

#define SAY_AGAIN_MS 60000

typedef struct {
    pws_conn *conn;
    int64_t rank; /* the lowest goes first */
} candidate;

typedef struct {
    candidate list[TOGETHER]; /* sorted */
    unsigned count, room;
} candidates;

/* Whether its next request has come, and nobody has seen it yet. */
static bool
has_request(const pws_conn *c)
{
    return c->state == PWS_CONN_IDLE && pws_io_has_bytes(c->fd);
}

static void
propose(candidates *all, pws_conn *c, int64_t rank)
{
    bool full = all->count == all->room;
    unsigned at;

    if ((full && rank >= all->list[all->count - 1].rank) || has_request(c)) {
        return;
    }
    if (!full) {
        all->count++;
    }
    at = all->count - 1;
    for (; at > 0 && all->list[at - 1].rank > rank; at--) {
        all->list[at] = all->list[at - 1];
    }
    all->list[at] = (candidate){c, rank};
}

/* Bytes that the client has moved in the state it is in. */
static uint64_t
moved(const pws_conn *c)
{
    const pws_exchange *x = c->x;

    if (x == NULL) {
        return 0;
    }
    if (c->state == PWS_CONN_SENDING) {
        return x->sent - x->sent_before;
    }
    return x->body.size + (x->in_end - x->in_start);
}

/* Bytes a second, as if `credit` had been moved too: then, of two who have moved
 * nothing, the one that has waited longer is the slower. */
static int64_t
rate(const pws_engine *e, const pws_conn *c, uint64_t credit)
{
    int64_t ms = e->clock.now_ms - c->since_ms + 1;

    return (int64_t)((moved(c) + credit) * 1000 / (uint64_t)(ms > 0 ? ms : 1));
}

/* Has no whole request, and has had time for one; or has been served. */
static bool
is_spare(const pws_engine *e, const pws_conn *c)
{
    switch (c->state) {
    case PWS_CONN_LINGER:
        return true;
    case PWS_CONN_IDLE:
    case PWS_CONN_HEAD:
        return e->clock.now_ms - c->since_ms >= SPARE_AFTER_MS;
    case PWS_CONN_BODY:
    case PWS_CONN_QUEUED:
    case PWS_CONN_APP:
    case PWS_CONN_SENDING:
    case PWS_CONN_CLOSED:
        break;
    }
    return false;
}

/* Is sending a body, or being sent one, and makes little of it. */
static bool
is_slow(const pws_engine *e, const pws_conn *c)
{
    return (c->state == PWS_CONN_BODY || c->state == PWS_CONN_SENDING) &&
           e->clock.now_ms - c->since_ms >= SLOW_AFTER_MS &&
           rate(e, c, 0) < SLOW_BYTES_A_S;
}

static void
cut(pws_engine *e, pws_conn *c)
{
    bool until_end = c->state == PWS_CONN_SENDING && c->x->frame == PWS_FRAME_CLOSE;

    pws_conn_close(e, c, until_end ? PWS_CLOSE_RESET : PWS_CLOSE_BOTH_WAYS);
}

static bool
may_say(pws_engine *e)
{
    if (e->evict_said_ms != 0 && e->clock.now_ms - e->evict_said_ms < SAY_AGAIN_MS) {
        return false;
    }
    e->evict_said_ms = e->clock.now_ms;
    return true;
}

unsigned
pws_evict_for_slot(pws_engine *e)
{
    candidates spare = {.room = TOGETHER}, slow = {.room = 1};
    candidates *chosen;

    for (uint32_t i = 0; i < e->slot_count; i++) {
        pws_conn *c = e->slots[i].conn;

        if (c != NULL && is_spare(e, c)) {
            propose(&spare, c, c->since_ms);
        }
        else if (c != NULL && is_slow(e, c)) {
            propose(&slow, c, rate(e, c, CREDIT));
        }
    }
    chosen = spare.count > 0 ? &spare : &slow;
    if (chosen->count > 0 && may_say(e)) {
        pws_log(PWS_LOG_WARNING, "No room for new connections, %u are open: closing %s",
                pws_engine_open(e),
                chosen == &spare ? "those without a request" : "the slowest");
    }
    for (unsigned i = 0; i < chosen->count; i++) {
        cut(e, chosen->list[i].conn);
    }
    return chosen->count;
}

bool
pws_evict_for_spool(pws_engine *e)
{
    candidates slow = {.room = 1};

    for (uint32_t i = 0; i < e->slot_count; i++) {
        pws_conn *c = e->slots[i].conn;

        if (c != NULL && c->state == PWS_CONN_SENDING && c->x->out.spool_end > 0) {
            propose(&slow, c, rate(e, c, CREDIT));
        }
    }
    if (slow.count == 0) {
        return false;
    }
    if (may_say(e)) {
        pws_log(PWS_LOG_WARNING,
                "Responses that wait for slow clients take all the room in "
                "tmp_upload_dir: cutting the slowest clients");
    }
    cut(e, slow.list[0].conn);
    return true;
}
