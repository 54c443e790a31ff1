/* Who answers a request, with threads: an executor owns the exchange while another
 * thread holds the lease and polls. */
#include "peer.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#include "engine/io.h"

static rig r;
static peer p, peers[8];

static pws_exchange *
start(void)
{
    rig_start(&r);
    peer_connect(&p, &r, 0);
    peer_send(&p, request("GET", "/", ""));
    return rig_request(&r);
}

static void
finish(void)
{
    r.serve = true;
    peer_close(&p);
    UNTIL(&r, pws_engine_open(&r.engine) == 0);
    rig_close(&r);
}

TEST(a_late_result_is_dropped)
{
    pws_exchange *x = start();
    const char *why = "";

    CHECK(pws_exchange_answer(x, 504));
    CHECK(!pws_exchange_answer(x, 504));
    CHECK_EQ(peer_response(&p), 504);
    CHECK_EQ(pws_exchange_start(x, PWS_SLICE("200 OK"), NULL, 0, 5, &why), -1);
    CHECK(why == NULL);
    CHECK_EQ(pws_exchange_write(x, "hello", 5, NULL), 0);
    CHECK_EQ(pws_exchange_flush(x), PWS_IO_ERROR);
    CHECK(!pws_exchange_refuse(x, 500));
    CHECK_EQ(pws_exchange_inform(x, PWS_SLICE("103 Early Hints"), NULL, 0, &why), 0);
    CHECK_EQ(pws_exchange_detach(x), -1);
    CHECK_EQ(pws_exchange_finish(x), -1);
    pws_exchange_done(x);
    r.serve = true;
    peer_check_closed(&p);
    finish();
}

TEST(an_answer_that_has_begun_is_not_taken_over)
{
    pws_exchange *x = start();

    rig_begin(x, "200 OK", 0);
    CHECK(!pws_exchange_answer(x, 504));
    CHECK_EQ(pws_exchange_finish(x), 0);
    pws_exchange_done(x);
    r.serve = true;
    CHECK_EQ(peer_response(&p), 200);
    finish();
}

/* What was gathered before it goes out in front of it. */
TEST(an_answer_for_the_app_comes_behind_those_before_it)
{
    pws_exchange *x = start();

    rig_answer(x);
    CHECK(pws_engine_next(&r.engine) == NULL);
    CHECK_EQ(peer_response(&p), 200);
    peer_send(&p,
              "GET /1 HTTP/1.1\r\nHost: x\r\n\r\nGET /2 HTTP/1.1\r\nHost: x\r\n\r\n");
    rig_answer(rig_request(&r));
    x = pws_engine_next(&r.engine);
    CHECK(x != NULL);
    CHECK(pws_exchange_answer(x, 504));
    CHECK_EQ(peer_response(&p), 200);
    CHECK_BODY(&p, "/1");
    CHECK_EQ(peer_response(&p), 504);
    pws_exchange_done(x);
    finish();
}

/* Inviting the body is a beginning of the answer: both write to the same output. */
TEST(a_client_that_was_sent_100_is_not_answered_by_another)
{
    pws_exchange *x;
    pws_slice bytes;

    rig_prepare(&r);
    r.config.request_buffering = false;
    rig_open(&r);
    peer_connect(&p, &r, 0);
    peer_send(&p,
              request("POST", "/", "Expect: 100-continue\r\nContent-Length: 3\r\n"));
    x = rig_request(&r);
    CHECK_EQ(pws_exchange_peek(x, &bytes), PWS_IO_AGAIN);
    CHECK_EQ(peer_response(&p), 100);
    CHECK(!pws_exchange_answer(x, 504));
    rig_answer(x);
    r.serve = true;
    CHECK_EQ(peer_response(&p), 200);
    finish();
}

/* The app answers in its thread while the relief tries to: exactly one of them wins. */
static void *
run_app(void *argument)
{
    pws_exchange *x = argument;
    pws_engine *e = x->engine;
    const char *why;

    for (volatile int i = 0; i < rand() % 3000; i++) {
    }
    if (pws_exchange_start(x, PWS_SLICE("200 OK"), NULL, 0, 3, &why) == 0) {
        (void)pws_exchange_write(x, "app", 3, NULL);
        (void)pws_exchange_flush(x);
        (void)pws_exchange_finish(x);
    }
    pws_exchange_done(x);
    pws_engine_wake(e);
    return NULL;
}

TEST(an_answer_is_won_once)
{
    unsigned by_app = 0, by_relief = 0;

    rig_start(&r);
    for (int round = 0; round < 300; round++) {
        pthread_t app;
        pws_exchange *x;
        bool won;

        peer_connect(&p, &r, 0);
        peer_send(&p, request("GET", "/", "Connection: close\r\n"));
        x = rig_request(&r);
        CHECK_EQ(pthread_create(&app, NULL, run_app, x), 0);
        for (volatile int i = 0; i < rand() % 30000; i++) {
        }
        won = pws_exchange_answer(x, 504);
        CHECK_EQ(peer_response(&p), won ? 504 : 200);
        by_relief += won;
        by_app += !won;
        peer_check_closed(&p);
        peer_close(&p);
        CHECK_EQ(pthread_join(app, NULL), 0);
        UNTIL(&r, pws_engine_open(&r.engine) == 0);
    }
    printf("    %u by the app, %u by the relief\n", by_app, by_relief);
    rig_close(&r);
}

/* A stuck app answers from its thread, and wakes whoever polls. */
TEST(a_hand_back_from_another_thread_ends_a_wait)
{
    pthread_t app;
    pws_exchange *x = start();

    CHECK_EQ(pthread_create(&app, NULL, run_app, x), 0);
    while (rig_in_state(&r, PWS_CONN_APP)) {
        CHECK(pws_engine_poll(&r.engine, 1, 10000) >= 0);
    }
    CHECK_EQ(pthread_join(app, NULL), 0);
    CHECK_EQ(peer_response(&p), 200);
    CHECK_BODY(&p, "app");
    finish();
}

/* A pool of threads as an executor has it: whoever leads polls, takes a request, lends
 * the lease for the time of the app call, and takes it back. */
typedef struct {
    unsigned answered;
    unsigned wanted;
} pool;

static void *
lead(void *argument)
{
    pool *work = argument;
    pws_engine *e = &r.engine;

    pws_lease_take(&e->lease);
    while (work->answered < work->wanted) {
        pws_exchange *x = pws_engine_next(e);

        if (x == NULL) {
            if (pws_engine_poll(e, 4, 5) < 0) {
                break;
            }
            pws_lease_drop(&e->lease);
            pws_lease_take(&e->lease);
            continue;
        }
        work->answered++;
        pws_lease_drop(&e->lease);
        rig_answer(x);
        pws_engine_wake(e);
        pws_lease_take(&e->lease);
    }
    (void)pws_engine_poll(e, 4, 0);
    pws_lease_drop(&e->lease);
    return NULL;
}

TEST(threads_share_an_engine)
{
    enum { THREADS = 4, PEERS = 8, ROUNDS = 200 };
    pthread_t threads[THREADS];
    pool work = {0, PEERS * ROUNDS};
    char text[64 * ROUNDS], *at = text;

    for (int i = 0; i < ROUNDS; i++) {
        at += sprintf(at, "GET /%d HTTP/1.1\r\nHost: x\r\n\r\n", i);
    }
    rig_start(&r);
    for (int i = 0; i < PEERS; i++) {
        peer_connect(&peers[i], &r, 0);
        peer_send_bytes(&peers[i], text, (size_t)(at - text));
    }
    for (int i = 0; i < THREADS; i++) {
        CHECK_EQ(pthread_create(&threads[i], NULL, lead, &work), 0);
    }
    for (int i = 0; i < THREADS; i++) {
        CHECK_EQ(pthread_join(threads[i], NULL), 0);
    }
    for (int i = 0; i < PEERS; i++) {
        for (int j = 0; j < ROUNDS; j++) {
            snprintf(text, sizeof(text), "/%d", j);
            CHECK_EQ(peer_response(&peers[i]), 200);
            CHECK(pws_slice_eq(peers[i].body, pws_slice_of(text)));
        }
        peer_close(&peers[i]);
    }
    UNTIL(&r, pws_engine_open(&r.engine) == 0);
    rig_close(&r);
}
