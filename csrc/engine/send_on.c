/* What an output holds is sent: by its owner, or by others to whom it is lent. */
#include "engine/exchange.h"

#include <sched.h>

#include "engine/conn_state.h"
#include "engine/io.h"

int
pws_exchange_flush(pws_exchange *x)
{
    int rc;

    pws_exchange_reclaim(x);
    if (pws_exchange_is_taken(x) || x->gone || x->answer == PWS_ANSWER_DETACHED) {
        return PWS_IO_ERROR;
    }
    x->patient = false;
    rc = pws_output_send(&x->out, x->conn->fd, &x->sent);
    if (rc == PWS_IO_ERROR) {
        x->gone = true;
        pws_output_clear(&x->out);
    }
    return rc;
}

/* Lent first: the event that comes then may be at work before we are back. */
void
pws_exchange_lend(pws_exchange *x)
{
    if (pws_exchange_pending(x) > 0 && !x->gone) {
        atomic_store(&x->lent, PWS_OUTPUT_LENT);
        pws_conn_poll_anew(x->engine, x->conn);
    }
}

void
pws_exchange_wait_for_sender(pws_exchange *x)
{
    uint32_t was = PWS_OUTPUT_LENT;

    while (!atomic_compare_exchange_strong(&x->lent, &was, PWS_OUTPUT_OWNED) &&
           was != PWS_OUTPUT_OWNED) {
        was = PWS_OUTPUT_LENT;
        sched_yield();
    }
}

/* The owner may be back, and wait for the end of it with the GIL. */
#define SEND_ON_STEP (256u * 1024)

/* What goes wrong in the two below shows again when the owner sends. */

void
pws_exchange_send_on(pws_exchange *x)
{
    uint32_t was = PWS_OUTPUT_LENT;

    if (!atomic_compare_exchange_strong(&x->lent, &was, PWS_OUTPUT_SENDING)) {
        return;
    }
    switch (pws_output_send_some(&x->out, x->conn->fd, &x->sent, SEND_ON_STEP)) {
    case 0:
        atomic_fetch_add(&x->emptied, 1);
        break;
    case PWS_IO_MORE: /* what comes of these two is seen when the lease is free again */
        pws_conn_poll_anew(x->engine, x->conn);
        break;
    case PWS_IO_AGAIN:
        (void)pws_conn_poll(x->engine, x->conn);
        break;
    default:
        break;
    }
    atomic_store(&x->lent, PWS_OUTPUT_LENT);
}

void
pws_exchange_send_lent(pws_exchange *x)
{
    if (pws_output_send(&x->out, x->conn->fd, &x->sent) != PWS_IO_ERROR) {
        pws_exchange_lend(x);
    }
}
