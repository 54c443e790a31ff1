/* engine/hold.c: responses that are sent together, and those that must not wait. */
#include "peer.h"

#include <poll.h>

#include "engine/accept.h"

#define PEERS (PWS_HOLD_MAX + 2)

static rig r;
static peer peers[PEERS];
static unsigned count;

/* So many clients whose connections idle in the poller's set, and no clock to hurry. */
static void
start(unsigned n)
{
    rig_start(&r);
    r.engine.hold.quick_ns = r.engine.hold.wait_ns = INT64_MAX;
    count = n;
    r.serve = true;
    for (unsigned i = 0; i < n; i++) {
        peer_connect(&peers[i], &r, 0);
        peer_send(&peers[i], request("GET", "/first", ""));
        CHECK_EQ(peer_response(&peers[i]), 200);
    }
    UNTIL(&r, rig_in_state(&r, PWS_CONN_IDLE));
    r.serve = false;
    r.budget = 1;
}

static void
finish(void)
{
    r.serve = true;
    for (unsigned i = 0; i < count; i++) {
        peer_close(&peers[i]);
    }
    UNTIL(&r, pws_engine_open(&r.engine) == 0);
    rig_close(&r);
}

/* All clients send this; their requests come in one batch. */
static void
send_all(const char *method)
{
    for (unsigned i = 0; i < count; i++) {
        peer_send(&peers[i], request(method, "/", ""));
    }
}

/* Clients that have received something. */
static unsigned
answered(void)
{
    unsigned n = 0;

    for (unsigned i = 0; i < count; i++) {
        peer_receive(&peers[i]);
        n += peers[i].len > peers[i].at ? 1 : 0;
    }
    return n;
}

/* Answer the next request, and let the engine take its exchange back. */
static void
answer_one(void)
{
    rig_reply(rig_request(&r), "held");
    (void)pws_engine_next(&r.engine);
}

static void
check_all(void)
{
    r.serve = true;
    for (unsigned i = 0; i < count; i++) {
        CHECK_EQ(peer_response(&peers[i]), 200);
        CHECK_BODY(&peers[i], "held");
    }
}

TEST(responses_of_one_batch_are_sent_together)
{
    start(3);
    send_all("GET");
    answer_one();
    answer_one();
    CHECK_EQ(answered(), 0);
    CHECK_EQ(r.engine.hold.count, 2);
    answer_one(); /* nobody comes behind it, so it need not wait */
    CHECK_EQ(answered(), 1);
    CHECK(pws_engine_poll(&r.engine, 1, 0) >= 0);

    CHECK_EQ(answered(), 3);
    check_all();
    finish();
}

TEST(a_response_is_not_held_when_no_request_waits)
{
    start(1);
    send_all("GET");
    answer_one();

    CHECK_EQ(answered(), 1);
    finish();
}

TEST(a_response_to_head_is_held_too)
{
    start(2);
    send_all("HEAD");
    answer_one();

    CHECK_EQ(answered(), 0);
    answer_one();
    finish();
}

/* It cannot be asked for again, should the process die in the next app call. */
TEST(a_response_to_post_is_sent_at_once)
{
    start(2);
    send_all("POST");
    answer_one();

    CHECK_EQ(answered(), 1);
    answer_one();
    finish();
}

TEST(nothing_is_held_unless_allowed)
{
    start(2);
    r.engine.hold.quick_ns = 0;
    send_all("GET");
    answer_one();

    CHECK_EQ(answered(), 1);
    answer_one();
    finish();
}

TEST(nothing_is_held_before_the_app_has_shown_that_it_is_quick)
{
    start(2);
    pws_hold_allow(&r.engine.hold, NULL);
    send_all("GET");
    answer_one();

    CHECK_EQ(answered(), 1);
    answer_one();
    finish();
}

TEST(an_app_that_becomes_slow_ends_holding)
{
    start(3);
    send_all("GET");
    answer_one();
    CHECK_EQ(answered(), 0);
    r.engine.hold.quick_ns = INT64_MAX / 4;
    r.engine.hold.mean_ns = INT64_MAX / 2;
    answer_one();

    CHECK_EQ(answered(), 2);
    answer_one();
    check_all();
    finish();
}

TEST(a_quick_request_lowers_the_mean_and_a_slow_one_raises_it)
{
    int64_t mean_ns;

    start(1);
    r.engine.hold.mean_ns = mean_ns = INT64_MAX / 4;
    send_all("GET");
    answer_one();
    CHECK(r.engine.hold.mean_ns < mean_ns);
    CHECK_EQ(answered(), 1);

    r.engine.hold.mean_ns = mean_ns = -INT64_MAX / 4;
    (void)peer_response(&peers[0]);
    send_all("GET");
    answer_one();
    CHECK(r.engine.hold.mean_ns > mean_ns);
    finish();
}

TEST(a_response_is_not_held_for_long)
{
    start(3);
    send_all("GET");
    answer_one();
    CHECK_EQ(answered(), 0);
    r.engine.hold.wait_ns = 0;
    answer_one();

    CHECK_EQ(answered(), 1); /* the second waits now, as the first has */
    answer_one();
    check_all();
    finish();
}

TEST(only_so_many_are_held)
{
    start(PWS_HOLD_MAX + 2);
    send_all("GET");
    for (unsigned i = 0; i < PWS_HOLD_MAX; i++) {
        answer_one();
    }
    CHECK_EQ(answered(), 0);
    answer_one();

    CHECK_EQ(answered(), PWS_HOLD_MAX);
    answer_one();
    check_all();
    finish();
}

TEST(an_executor_that_waits_for_a_client_sends_what_is_held_first)
{
    pws_exchange *x;

    start(2);
    send_all("GET");
    answer_one();
    CHECK_EQ(answered(), 0);
    x = rig_request(&r);
    peer_send(&peers[0], "GET");
    peer_send(&peers[1], "GET");
    CHECK_EQ(rig_wait(x, PWS_READABLE, 10000), 1);

    CHECK_EQ(answered(), 1);
    rig_reply(x, "held");
    check_all();
    finish();
}

TEST(what_has_begun_to_go_out_is_not_held)
{
    pws_exchange *x;

    start(2);
    send_all("GET");
    x = rig_request(&r);
    rig_begin(x, "200 OK", 4);
    CHECK(!pws_exchange_may_wait(x));
    CHECK_EQ(pws_exchange_write(x, "he", 2, NULL), 0);
    CHECK(!pws_exchange_may_wait(x));
    CHECK_EQ(pws_exchange_flush(x), 0);
    CHECK_EQ(pws_exchange_write(x, "ld", 2, NULL), 0);
    CHECK(!pws_exchange_may_wait(x));
    CHECK_EQ(pws_exchange_finish(x), 0);
    pws_exchange_done(x);
    (void)pws_engine_next(&r.engine);

    CHECK_EQ(answered(), 1);
    answer_one();
    check_all();
    finish();
}

TEST(a_whole_body_of_known_length_may_wait_before_its_end_is_told)
{
    pws_exchange *x;

    start(2);
    send_all("GET");
    x = rig_request(&r);
    rig_begin(x, "200 OK", 4);
    CHECK_EQ(pws_exchange_write(x, "held", 4, NULL), 0);
    CHECK(pws_exchange_may_wait(x));
    CHECK_EQ(pws_exchange_finish(x), 0);
    CHECK(pws_exchange_may_wait(x));
    pws_exchange_done(x);
    (void)pws_engine_next(&r.engine);

    CHECK_EQ(answered(), 0);
    answer_one();
    check_all();
    finish();
}

TEST(bytes_that_are_pinned_are_not_held)
{
    static char body[PWS_COPY_MAX + 1];
    pws_exchange *x;
    int object;

    start(2);
    send_all("GET");
    x = rig_request(&r);
    rig_begin(x, "200 OK", sizeof(body));
    CHECK_EQ(pws_exchange_write(x, body, sizeof(body), &object), 1);
    CHECK_EQ(pws_exchange_finish(x), 0);
    CHECK(!pws_exchange_may_wait(x));
    pws_exchange_done(x);
    (void)pws_engine_next(&r.engine);

    CHECK_EQ(answered(), 1);
    CHECK_EQ(rig_release(&r), 1);
    answer_one();
    finish();
}

TEST(a_client_may_go_while_its_response_is_held)
{
    start(3);
    send_all("GET");
    answer_one();
    answer_one();
    CHECK_EQ(r.engine.hold.count, 2);
    peer_reset(&peers[0]);
    peer_reset(&peers[1]);
    answer_one();

    CHECK_EQ(peer_response(&peers[2]), 200);
    finish();
}

TEST(a_client_may_send_more_while_its_response_is_held)
{
    start(2);
    send_all("GET");
    answer_one();
    CHECK_EQ(r.engine.hold.count, 1);
    send_all("GET");
    answer_one();
    r.serve = true;

    for (unsigned i = 0; i < count; i++) {
        CHECK_EQ(peer_response(&peers[i]), 200);
        CHECK_BODY(&peers[i], "held");
        CHECK_EQ(peer_response(&peers[i]), 200);
        CHECK_BODY(&peers[i], "/");
    }
    finish();
}

TEST(an_engine_that_closes_sends_what_is_held)
{
    start(2);
    send_all("GET");
    answer_one();
    CHECK_EQ(r.engine.hold.count, 1);
    CHECK_EQ(answered(), 0);
    rig_close(&r);

    CHECK_EQ(answered(), 1);
    for (unsigned i = 0; i < count; i++) {
        peer_close(&peers[i]);
    }
}

TEST(a_drain_does_not_wait_when_the_last_that_was_held_has_gone)
{
    start(2);
    for (unsigned i = 0; i < count; i++) {
        peer_send(&peers[i], "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    }
    answer_one();
    answer_one();
    CHECK_EQ(r.engine.hold.count, 1);
    pws_engine_drain(&r.engine);
    for (unsigned i = 0; i < count; i++) {
        shutdown(peers[i].fd, SHUT_WR);
    }
    while (pws_engine_open(&r.engine) > 0) {
        CHECK(pws_engine_poll(&r.engine, 1, -1) >= 0); /* it returns */
    }
    check_all();
    finish();
}

/* An engine that was full takes new connections again before anybody waits. */
TEST(places_that_are_freed_by_held_responses_are_offered_at_once)
{
    pws_exchange *x;
    peer late;

    for (int polled = 0; polled < 2; polled++) {
        struct pollfd p = {.events = POLLIN};

        start(2);
        for (unsigned i = 0; i < count; i++) {
            peer_send(&peers[i],
                      "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        }
        answer_one();
        CHECK_EQ(r.engine.hold.count, 1);
        x = rig_request(&r);
        r.config.worker_connections = 2;
        pws_accept_stop(&r.engine);
        r.engine.accept_again_ms = r.engine.clock.now_ms + 3600 * 1000;
        peer_connect(&late, &r, 0);
        p.fd = r.listeners[0].fd;
        CHECK_EQ(poll(&p, 1, 10000), 1);
        if (polled) {
            CHECK(pws_engine_relieve(&r.engine, 0) >= 0);
            CHECK_EQ(r.engine.accepted, 3);
        }
        else {
            pws_hold_send(&r.engine);
            pws_engine_rouse(&r.engine);
            CHECK(r.engine.accepting);
        }
        rig_reply(x, "held");
        peer_close(&late);
        check_all();
        finish();
    }
}

TEST(no_response_waits_where_that_is_forbidden)
{
    rig_start(&r);
    CHECK(pws_hold_may_gather(&r.engine.hold));
    pws_hold_forbid(&r.engine.hold);
    CHECK(!pws_hold_may_gather(&r.engine.hold));
    pws_hold_end_request(&r.engine);
    CHECK(!pws_hold_may_gather(&r.engine.hold));
    rig_close(&r);
}
