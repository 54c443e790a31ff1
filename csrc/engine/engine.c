#include "engine/engine.h"

#include <errno.h>
#include <stdlib.h>

#include "engine/accept.h"
#include "engine/engine_queue.h"
#include "engine/lent.h"
#include "engine/turn.h"

/* Fields of a request for which its exchange has room; more take memory of their own.
 * No fewer than a memo has. */
#define FEW_FIELDS PWS_MEMO_FIELDS

/* All spool files of an engine, all responses in memory, and all bodies in memory, in
 * bytes. */
#define SPOOL_ALL_MAX ((uint64_t)1024 * 1024 * 1024)
#define RESPONSES_ALL_MAX ((uint64_t)256 * 1024 * 1024)
#define BODIES_ALL_MAX ((uint64_t)256 * 1024 * 1024)

/* Memory that is kept for the next body. */
#define SPARE_BODY_MAX ((uint64_t)2 * 1024 * 1024)

static int
make_slots(pws_engine *e)
{
    e->slot_count = e->config->worker_connections + PWS_ACCEPT_SLACK;
    e->slots = calloc(e->slot_count, sizeof(*e->slots));
    e->free_slots = calloc(e->slot_count, sizeof(*e->free_slots));
    if (e->slots == NULL || e->free_slots == NULL) {
        return -1;
    }
    for (uint32_t i = 0; i < e->slot_count; i++) {
        e->free_slots[i] = e->slot_count - 1 - i;
    }
    e->free_count = e->slot_count;
    return 0;
}

static void
free_slots(pws_engine *e)
{
    free(e->slots);
    free(e->free_slots);
    e->slots = NULL;
    e->free_slots = NULL;
}

int
pws_engine_init(pws_engine *e, const pws_engine_config *config, pws_listener *listeners,
                unsigned count)
{
    memset(e, 0, sizeof(*e));
    e->config = config;
    e->listeners = listeners;
    e->listener_count = e->own_listeners = e->listener_room = count;
    e->said = &e->private_said;
    e->accept_again_ms = PWS_NEVER;
    e->field_most = config->rules.fields_max;
    for (unsigned i = 0; i < count; i++) {
        listeners[i].polled = false;
        if (listeners[i].protocol == PWS_PROTOCOL_UWSGI) {
            e->field_most = pws_rules_variables_max(&config->rules);
        }
    }
    e->field_room = e->field_most < FEW_FIELDS ? e->field_most : FEW_FIELDS;
    pws_turn_update_clock(e);
    pws_lease_init(&e->lease);
    e->relief.bell = -1;
    pthread_mutex_init(&e->relief.lock, NULL);
    pws_timers_init(&e->timers, e->clock.now_ms);
    pws_park_init(&e->park);
    pws_pool_init(&e->blocks, PWS_BLOCK_SIZE, 64);
    pws_pool_init(&e->exchanges,
                  sizeof(pws_exchange) + e->field_room * sizeof(pws_field), 64);
    pws_pool_init(&e->conns, sizeof(pws_conn), 256);
    e->bodies = (pws_body_shared){.spool_dir = config->spool_dir,
                                  .memory_max = config->body_buffer_size,
                                  .memory_all_max = BODIES_ALL_MAX,
                                  .spare_max = SPARE_BODY_MAX};
    pws_output_shared_init(&e->outputs, RESPONSES_ALL_MAX);
    e->outputs.spool_dir = config->spool_dir;
    e->outputs.spool_limit = config->response_spool_limit;
    e->outputs.spool_limit_all = SPOOL_ALL_MAX;
    if (pws_poller_init(&e->poller) < 0) {
        pws_output_shared_close(&e->outputs);
        return -1;
    }
    if (make_slots(e) < 0 || pws_accept_start(e) < 0) {
        int saved = errno;

        pws_poller_close(&e->poller);
        free_slots(e);
        pws_output_shared_close(&e->outputs);
        errno = saved;
        return -1;
    }
    return 0;
}

int
pws_engine_add_handler(pws_engine *e, pws_handler serve, void *context)
{
    if (e->handler_count == PWS_HANDLERS_MAX) {
        return -1;
    }
    e->handlers[e->handler_count].serve = serve;
    e->handlers[e->handler_count].context = context;
    e->handler_count++;
    return 0;
}

/* Whether a native handler has answered. */
static bool
handled(pws_engine *e, pws_exchange *x)
{
    for (unsigned i = 0; i < e->handler_count; i++) {
        if (e->handlers[i].serve(e->handlers[i].context, x)) {
            pws_exchange_done(x);
            return true;
        }
    }
    return false;
}

/* One more request is about to be handed out. Time must have passed, too: turns may be
 * short, or the requests pipelined. */
static bool
must_look_for_connections(pws_engine *e)
{
    return e->queue_first != NULL && ++e->handed_out > e->look_after &&
           pws_clock_now_ms() != e->looked_ms;
}

pws_exchange *
pws_engine_next(pws_engine *e)
{
    for (;;) {
        pws_exchange *x;

        pws_turn_take_hand_backs(e);
        if (must_look_for_connections(e)) {
            pws_turn_update_clock(e);
            pws_accept_in_turn(e);
        }
        x = pws_engine_unqueue(e);
        if (x == NULL) {
            return NULL;
        }
        if (!pws_conn_give(e, x->conn)) {
            continue;
        }
        memcpy(x->date, e->date, sizeof(x->date));
        x->date_s = e->date_s;
        if (e->handler_count == 0 || !handled(e, x)) {
            return x;
        }
    }
}

void
pws_engine_drain(pws_engine *e)
{
    pws_engine_announce_drain(e);
    if (e->drained) {
        return;
    }
    e->drained = true;
    pws_turn_update_clock(e);
    pws_accept_end(e);
    for (uint32_t i = 0; i < e->slot_count; i++) {
        if (e->slots[i].conn != NULL) {
            pws_conn_hurry(e, e->slots[i].conn);
        }
    }
}

void
pws_engine_close(pws_engine *e)
{
    pws_turn_take_hand_backs(e);
    pws_hold_send(e);
    e->queue_first = e->queue_last = NULL;
    e->queued = 0;
    for (uint32_t i = 0; i < e->slot_count; i++) {
        if (e->slots[i].conn != NULL) {
            pws_conn_close(e, e->slots[i].conn, PWS_CLOSE_BOTH_WAYS);
        }
    }
    pws_turn_resume_ready(e);
    pws_turn_free_dead(e);
    pws_lent_close(e);
    for (unsigned i = 0; i < e->listener_count; i++) {
        e->listeners[i].polled = false;
    }
    pws_poller_close(&e->poller);
    free_slots(e);
    pws_output_shared_close(&e->outputs);
    pws_body_drop_spare(&e->bodies);
    pws_memos_clear(&e->memos);
    pws_pool_clear(&e->conns);
    pws_pool_clear(&e->exchanges);
    pws_pool_clear(&e->blocks);
}
