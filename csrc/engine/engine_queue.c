#include "engine/engine_queue.h"

#include <stdlib.h>

#include "engine/intake.h"

/* Requests that may wait with a whole block each; the others are moved to less memory.
 */
#define ROOMY_QUEUE 8

#define GENERATION_MASK 0x7fffffffu

pws_exchange *
pws_engine_take_exchange(pws_engine *e, pws_conn *c)
{
    pws_exchange *x = pws_pool_take(&e->exchanges);

    if (x == NULL) {
        return NULL;
    }
    memset(x, 0, sizeof(*x));
    x->engine = e;
    x->conn = c;
    pws_request_begin(&x->request, x->fields, e->field_room, e->field_most);
    x->request.take = malloc;
    pws_head_init(&x->parser);
    pws_body_init(&x->body);
    pws_output_init(&x->out, &e->outputs);
    return x;
}

void
pws_engine_give_exchange(pws_engine *e, pws_exchange *x)
{
    pws_body_reset(&x->body, &e->bodies);
    if (x->request.grown != NULL) {
        free(x->request.grown);
    }
    pws_exchange_drop_notes(x);
    if (x->out.first != NULL || x->out.spool_fd >= 0) {
        pws_output_clear(&x->out);
    }
    pws_pool_give(&e->blocks, x->out.block);
    pws_intake_give_buffer(x);
    pws_pool_give(&e->exchanges, x);
}

void
pws_engine_slim(pws_engine *e, pws_exchange *x)
{
    if (x->out.at == x->out.end) {
        pws_pool_give(&e->blocks, x->out.block);
        x->out.block = NULL;
    }
    if (x->body.store != PWS_STORE_STREAM) {
        pws_intake_fit(x);
    }
}

void
pws_engine_queue(pws_engine *e, pws_exchange *x, bool front)
{
    e->requests++;
    e->queued++;
    x->queued_ms = e->clock.now_ms;
    x->next = front ? e->queue_first : NULL;
    if (e->queue_first == NULL) {
        e->queue_first = e->queue_last = x;
    }
    else if (front) {
        e->queue_first = x;
    }
    else {
        e->queue_last->next = x;
        e->queue_last = x;
    }
    if (e->queued > ROOMY_QUEUE && x->body.store != PWS_STORE_STREAM) {
        pws_intake_shrink(x);
    }
}

pws_exchange *
pws_engine_unqueue_old(pws_engine *e, int64_t since_ms)
{
    pws_exchange *before = NULL, *x = e->queue_first;

    while (x != NULL && x->queued_ms > since_ms) {
        before = x;
        x = x->next;
    }
    if (x == NULL || before == NULL) {
        return x != NULL ? pws_engine_unqueue(e) : NULL;
    }
    before->next = x->next;
    if (e->queue_last == x) {
        e->queue_last = before;
    }
    e->queued--;
    x->next = NULL;
    return x;
}

void
pws_engine_make_ready(pws_engine *e, pws_conn *c)
{
    if (c->ready) {
        return;
    }
    c->ready = true;
    c->next = NULL;
    if (e->ready_last != NULL) {
        e->ready_last->next = c;
    }
    else {
        e->ready_first = c;
    }
    e->ready_last = c;
}

/* A closed connection that is on the ready list is freed when it comes off that. */
void
pws_engine_forget(pws_engine *e, pws_conn *c)
{
    pws_timers_remove(&e->timers, &c->timer);
    e->slots[c->slot].conn = NULL;
    e->slots[c->slot].generation = (c->generation + 1) & GENERATION_MASK;
    e->free_slots[e->free_count++] = c->slot;
    if (!c->ready) {
        c->next = e->dead;
        e->dead = c;
    }
}

void
pws_engine_resume_all(pws_engine *e, pws_conn *c)
{
    while (c != NULL) {
        pws_conn *next = c->next;

        c->ready = false;
        if (c->state == PWS_CONN_CLOSED) {
            c->next = e->dead;
            e->dead = c;
        }
        else {
            pws_conn_resume(e, c);
        }
        c = next;
    }
}
