/* Many requests in one write: order, gathering, and other clients' turn. */
#include "peer.h"

#include <stdio.h>
#include <stdlib.h>

static rig r;
static peer p, q;

static void
finish(void)
{
    r.serve = true;
    peer_close(&p);
    UNTIL(&r, pws_engine_open(&r.engine) == 0);
    rig_close(&r);
}

static void
check_targets(unsigned from, unsigned count)
{
    char want[32];

    for (unsigned i = from; i < from + count; i++) {
        snprintf(want, sizeof(want), "/%u", i);
        CHECK_EQ(peer_response(&p), 200);
        CHECK(pws_slice_eq(p.body, pws_slice_of(want)));
    }
}

/* Requests for /0, /1 and so on, in one write. */
static void
send_numbered(unsigned count)
{
    char *all = malloc(count * 40), *at = all;

    for (unsigned i = 0; i < count; i++) {
        at += sprintf(at, "GET /%u HTTP/1.1\r\nHost: x\r\n\r\n", i);
    }
    peer_send_bytes(&p, all, (size_t)(at - all));
    free(all);
}

TEST(answers_to_pipelined_requests_go_out_together)
{
    pws_exchange *x;

    rig_start(&r);
    peer_connect(&p, &r, 0);
    send_numbered(20);
    UNTIL(&r, r.engine.queued == 1);
    for (int i = 0; i < 16; i++) {
        x = pws_engine_next(&r.engine);
        CHECK(x != NULL);
        peer_receive(&p);
        CHECK_EQ(p.len, 0);
        rig_answer(x);
    }
    CHECK(pws_engine_next(&r.engine) == NULL); /* the others' turn */
    peer_receive(&p);
    CHECK(p.len > 0);
    check_targets(0, 16);
    r.serve = true;
    check_targets(16, 4);
    finish();
}

TEST(a_hundred_thousand_pipelined_requests_in_one_write)
{
    enum { COUNT = 100000 };

    rig_start(&r);
    r.serve = true;
    peer_connect(&p, &r, 0);
    send_numbered(COUNT);
    check_targets(0, COUNT);
    CHECK_EQ(r.served, COUNT);
    finish();
}

/* Whoever pipelines without end must not keep the poller from its work. */
TEST(a_client_that_pipelines_does_not_starve_another)
{
    unsigned handed_out = 0;
    pws_exchange *x;

    rig_start(&r);
    peer_connect(&p, &r, 0);
    send_numbered(1000);
    UNTIL(&r, r.engine.queued > 0);
    peer_connect(&q, &r, 0);
    peer_send(&q, request("GET", "/other", ""));
    r.budget = 1;
    for (bool other = false; !other; handed_out++) {
        while ((x = pws_engine_next(&r.engine)) == NULL) {
            CHECK(pws_engine_poll(&r.engine, 1, 0) >= 0);
        }
        other = x->request.target.len == 6;
        rig_answer(x);
    }

    CHECK(handed_out <= 40);
    r.serve = true;
    check_targets(0, 1000);
    CHECK_EQ(peer_response(&q), 200);
    peer_close(&q);
    finish();
}

/* A pipelined request is queued by the hand-back: the poller must not sleep on it. */
TEST(a_request_that_a_hand_back_queues_is_not_slept_on)
{
    int64_t before;

    rig_start(&r);
    peer_connect(&p, &r, 0);
    send_numbered(2);
    rig_answer(rig_request(&r));
    before = rig_deadline();
    CHECK_EQ(pws_engine_poll(&r.engine, 8, 10000), 1);
    CHECK(rig_deadline() - before < 5000);
    CHECK_EQ(r.engine.queued, 1);
    r.serve = true;
    check_targets(0, 2);
    finish();
}
