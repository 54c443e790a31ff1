/* engine/park.c: requests whose executors wait for their clients. */
#include "peer.h"

#include <poll.h>
#include <pthread.h>
#include <sys/socket.h>

#include "engine/io.h"
#include "engine/park.h"

static rig r;

/* An exchange whose body is streamed: its executor has read what there is. */
static pws_exchange *
begin_stream(peer *p, const char *target)
{
    pws_exchange *x;
    char byte;

    peer_connect(p, &r, 0);
    peer_send(p, request("POST", target, "Content-Length: 3\r\n"));
    x = rig_request(&r);
    CHECK_EQ(pws_exchange_read(x, &byte, 1), PWS_IO_AGAIN);
    return x;
}

static void
start(void)
{
    rig_prepare(&r);
    r.config.request_buffering = false;
    rig_open(&r);
}

static pws_parking
parking(pws_exchange *x, unsigned what)
{
    return (pws_parking){.x = x, .what = what, .deadline_ms = PWS_NEVER};
}

static void
finish(void)
{
    CHECK(r.engine.park.waiting == NULL && r.engine.park.count == 0);
    rig_close(&r);
}

/* Read the rest of the body and answer. */
static void
end_stream(pws_exchange *x, peer *p)
{
    char bytes[4];
    ssize_t n, got = 0;

    while ((n = pws_exchange_read(x, bytes, sizeof(bytes))) > 0) {
        got += n;
    }
    CHECK_EQ(n, 0);
    CHECK_EQ(got, 3);
    rig_reply(x, "done");
    CHECK_EQ(peer_response(p), 200);
    peer_close(p);
}

TEST(others_are_handed_out_while_one_waits)
{
    peer slow, quick;
    pws_exchange *x, *other;
    pws_parking p;

    start();
    x = begin_stream(&slow, "/slow");
    p = parking(x, PWS_READABLE);
    CHECK(pws_park(&r.engine, &p));
    CHECK_EQ(r.engine.park.count, 1);
    peer_connect(&quick, &r, 0);
    for (int i = 0; i < 3; i++) {
        peer_send(&quick, request("GET", "/quick", ""));
        other = rig_request(&r);
        CHECK(other != x);
        rig_reply(other, "quick");
        CHECK_EQ(peer_response(&quick), 200);
    }
    CHECK(pws_park_next(&r.engine) == NULL);
    peer_send(&slow, "abc");
    UNTIL(&r, p.state == PWS_PARK_RESUMED);
    CHECK(pws_park_next(&r.engine) == &p);
    CHECK(pws_park_next(&r.engine) == NULL);
    CHECK_EQ(p.result, PWS_PARK_HAPPENED);
    CHECK_EQ(p.state, PWS_PARK_NOT);
    end_stream(x, &slow);
    peer_close(&quick);
    finish();
}

TEST(what_has_happened_before_is_not_waited_for)
{
    peer slow;
    pws_exchange *x;
    pws_parking p;

    start();
    x = begin_stream(&slow, "/");
    peer_send(&slow, "abc");
    UNTIL(&r, (atomic_load(&x->conn->events) & PWS_READABLE) != 0);
    p = parking(x, PWS_READABLE);
    CHECK(!pws_park(&r.engine, &p));
    CHECK_EQ(p.result, PWS_PARK_HAPPENED);
    end_stream(x, &slow);
    finish();
}

/* There will be no event for that. */
TEST(what_another_one_has_sent_meanwhile_is_not_waited_for)
{
    peer slow;
    pws_exchange *x;
    pws_parking p;
    pws_wait wait;

    start();
    x = begin_stream(&slow, "/");
    (void)rig_wait(x, PWS_WRITABLE, 1); /* what was noted at the beginning */
    p = parking(x, PWS_WRITABLE);
    wait = (pws_wait){.x = x, .what = PWS_WRITABLE, .timeout_ms = 5000};
    p.emptied = wait.emptied = atomic_load(&x->emptied);
    atomic_fetch_add(&x->emptied, 1);
    CHECK(!pws_park(&r.engine, &p));
    CHECK_EQ(p.result, PWS_PARK_HAPPENED);
    CHECK_EQ(pws_engine_wait(&r.engine, &wait), 1);
    peer_send(&slow, "abc");
    end_stream(x, &slow);
    finish();
}

TEST(a_deadline_resumes)
{
    peer slow;
    pws_exchange *x;
    pws_parking p;

    start();
    x = begin_stream(&slow, "/");
    p = parking(x, PWS_READABLE);
    p.deadline_ms = r.engine.clock.now_ms + 300;
    CHECK(pws_park(&r.engine, &p));
    UNTIL(&r, p.state == PWS_PARK_RESUMED);
    CHECK(pws_park_next(&r.engine) == &p);
    CHECK_EQ(p.result, PWS_PARK_OVER);
    CHECK(pws_clock_now_ms() >= p.deadline_ms);
    CHECK(!pws_park(&r.engine, &p)); /* it is over still */
    CHECK_EQ(p.result, PWS_PARK_OVER);
    peer_send(&slow, "abc");
    UNTIL(&r, (atomic_load(&x->conn->events) & PWS_READABLE) != 0);
    end_stream(x, &slow);
    finish();
}

TEST(the_end_of_the_connection_resumes)
{
    peer slow;
    pws_exchange *x;
    pws_parking p;

    start();
    for (int i = 0; i < 2; i++) {
        x = begin_stream(&slow, "/");
        p = parking(x, i == 0 ? PWS_WRITABLE : PWS_READABLE | PWS_PEER_DONE);
        while (!pws_park(&r.engine, &p)) { /* it is writable, as long as it is noted */
        }
        if (i == 0) {
            peer_reset(&slow);
        }
        else {
            CHECK_EQ(shutdown(slow.fd, SHUT_WR), 0);
        }
        UNTIL(&r, p.state == PWS_PARK_RESUMED);
        CHECK(pws_park_next(&r.engine) == &p);
        CHECK_EQ(p.result, PWS_PARK_HAPPENED);
        rig_reply(x, "done");
        peer_close(&slow);
        UNTIL(&r, pws_engine_open(&r.engine) == 0);
    }
    finish();
}

TEST(nobody_waits_beyond_the_end_of_a_drain)
{
    peer slow[2];
    pws_exchange *x[2];
    pws_parking p[2];

    start();
    for (int i = 0; i < 2; i++) {
        x[i] = begin_stream(&slow[i], "/");
        p[i] = parking(x[i], PWS_READABLE);
        CHECK(pws_park(&r.engine, &p[i]));
    }
    pws_park_end_at(&r.engine, r.engine.clock.now_ms + 300);
    CHECK(pws_park_next(&r.engine) == NULL);
    UNTIL(&r, p[0].state == PWS_PARK_RESUMED && p[1].state == PWS_PARK_RESUMED);
    for (int i = 0; i < 2; i++) {
        CHECK(pws_park_next(&r.engine) != NULL);
        CHECK_EQ(p[i].result, PWS_PARK_OVER);
        CHECK(!pws_park(&r.engine, &p[i])); /* nor begins to */
        CHECK_EQ(p[i].result, PWS_PARK_OVER);
        pws_exchange_done(x[i]);
        peer_close(&slow[i]);
    }
    UNTIL(&r, pws_engine_open(&r.engine) == 0);
    finish();
}

TEST(a_quick_end_resumes_at_once)
{
    peer slow;
    pws_exchange *x;
    pws_parking p;

    start();
    x = begin_stream(&slow, "/");
    p = parking(x, PWS_READABLE);
    CHECK(pws_park(&r.engine, &p));
    pws_park_end_at(&r.engine, 0);
    CHECK(pws_park_next(&r.engine) == &p);
    CHECK_EQ(p.result, PWS_PARK_OVER);
    pws_exchange_done(x);
    peer_close(&slow);
    UNTIL(&r, pws_engine_open(&r.engine) == 0);
    finish();
}

TEST(a_parking_can_be_cancelled)
{
    peer slow;
    pws_exchange *x;
    pws_parking p, q;

    start();
    x = begin_stream(&slow, "/");
    p = parking(x, PWS_READABLE);
    q = parking(x, PWS_READABLE);
    pws_park_cancel(&r.engine, &p); /* never was */
    CHECK(pws_park(&r.engine, &p));
    CHECK(pws_park(&r.engine, &q));
    pws_park_cancel(&r.engine, &q);
    CHECK_EQ(q.result, PWS_PARK_CANCELLED);
    CHECK(x->parked == &p);
    peer_send(&slow, "abc");
    UNTIL(&r, p.state == PWS_PARK_RESUMED);
    CHECK_EQ(q.state, PWS_PARK_NOT);
    pws_park_cancel(&r.engine, &p); /* nobody wants to know any more */
    CHECK_EQ(p.result, PWS_PARK_HAPPENED);
    CHECK(pws_park_next(&r.engine) == NULL);
    end_stream(x, &slow);
    finish();
}

TEST(those_resumed_come_in_order_and_can_be_cancelled_in_any)
{
    enum { N = 4 };
    static const int orders[][N] = {{0, 1, 2, 3}, {3, 2, 1, 0}, {1, 3, 0, 2}};
    peer slow;
    pws_exchange *x;
    pws_parking p[N];

    start();
    x = begin_stream(&slow, "/");
    for (size_t o = 0; o < sizeof(orders) / sizeof(orders[0]); o++) {
        for (int keep = N; keep >= 0; keep--) {
            int left = 0;

            for (int i = 0; i < N; i++) {
                p[i] = parking(x, PWS_READABLE);
                CHECK(pws_park(&r.engine, &p[i]));
            }
            pws_park_cancel_all(&r.engine, x);
            for (int i = keep; i < N; i++) {
                pws_park_cancel(&r.engine, &p[orders[o][i]]);
            }
            while (pws_park_next(&r.engine) != NULL) {
                left++;
            }
            CHECK_EQ(left, keep);
        }
    }
    peer_send(&slow, "abc");
    UNTIL(&r, (atomic_load(&x->conn->events) & PWS_READABLE) != 0);
    end_stream(x, &slow);
    finish();
}

TEST(all_that_wait_for_an_exchange_are_resumed_by_what_they_wait_for)
{
    peer slow;
    pws_exchange *x;
    pws_parking read1, read2, late;

    start();
    x = begin_stream(&slow, "/");
    read1 = parking(x, PWS_READABLE);
    read2 = parking(x, PWS_READABLE);
    late = parking(x, PWS_BROKEN);
    late.deadline_ms = r.engine.clock.now_ms + 300;
    CHECK(pws_park(&r.engine, &read1));
    CHECK(pws_park(&r.engine, &late));
    CHECK(pws_park(&r.engine, &read2));
    peer_send(&slow, "abc");
    UNTIL(&r, read1.state == PWS_PARK_RESUMED && read2.state == PWS_PARK_RESUMED);
    UNTIL(&r, late.state == PWS_PARK_RESUMED);
    CHECK_EQ(read1.result, PWS_PARK_HAPPENED);
    CHECK_EQ(read2.result, PWS_PARK_HAPPENED);
    CHECK_EQ(late.result, PWS_PARK_OVER);
    while (pws_park_next(&r.engine) != NULL) {
    }
    end_stream(x, &slow);
    finish();
}

/* Poll as who has no executor left. */
static void
starve(int64_t deadline)
{
    CHECK(rig_deadline() <= deadline + 20000);
    CHECK_EQ(pws_engine_relieve(&r.engine, 2), 0);
}

TEST(patience_is_for_those_that_are_kept_waiting)
{
    peer slow, behind;
    pws_exchange *x;
    pws_parking p;
    int64_t until = rig_deadline();

    start();
    x = begin_stream(&slow, "/");
    p = parking(x, PWS_READABLE);
    p.patience_ms = 300;
    CHECK(pws_park(&r.engine, &p));
    for (int64_t from = pws_clock_now_ms(); pws_clock_now_ms() - from < 700;) {
        starve(until); /* nobody waits */
    }
    CHECK_EQ(p.state, PWS_PARK_WAITS);
    p.patience_ms = 60000;
    peer_connect(&behind, &r, 0);
    peer_send(&behind, request("GET", "/", ""));
    while (r.engine.queued == 0) {
        starve(until);
    }
    while (x->held_ms == 0) { /* then its client says something */
        starve(until);
    }
    CHECK_EQ(p.state, PWS_PARK_WAITS);
    peer_send(&slow, "a");
    while (p.state == PWS_PARK_WAITS) {
        starve(until);
    }
    CHECK(pws_park_next(&r.engine) == &p);
    CHECK_EQ(p.result, PWS_PARK_HAPPENED);
    CHECK_EQ(pws_exchange_read(x, (char[1]){0}, 1), 1);
    CHECK_EQ(pws_exchange_read(x, (char[1]){0}, 1), PWS_IO_AGAIN);
    p.patience_ms = x->held_ms + 100; /* what there was before counts */
    CHECK(pws_park(&r.engine, &p));
    while (p.state == PWS_PARK_WAITS) {
        starve(until);
    }
    CHECK(pws_park_next(&r.engine) == &p);
    CHECK_EQ(p.result, PWS_PARK_OVER);
    CHECK(x->held_ms >= p.patience_ms);
    pws_exchange_done(x);
    r.serve = true;
    CHECK_EQ(peer_response(&behind), 200);
    peer_close(&behind);
    peer_close(&slow);
    UNTIL(&r, pws_engine_open(&r.engine) == 0);
    finish();
}

TEST(an_answer_in_place_of_the_app_resumes)
{
    peer slow;
    pws_exchange *x;
    pws_parking p;

    start();
    x = begin_stream(&slow, "/");
    p = parking(x, PWS_READABLE);
    CHECK(pws_park(&r.engine, &p));
    CHECK(pws_exchange_answer(x, 504));
    CHECK(pws_park_next(&r.engine) == &p);
    CHECK_EQ(p.result, PWS_PARK_CANCELLED);
    pws_exchange_done(x);
    CHECK_EQ(peer_response(&slow), 504);
    peer_close(&slow);
    UNTIL(&r, pws_engine_open(&r.engine) == 0);
    finish();
}

/* Whether the engine's descriptor calls its host within some seconds. */
static bool
calls_host(void)
{
    struct pollfd fd = {.fd = r.engine.poller.fd, .events = POLLIN};

    return poll(&fd, 1, 10000) == 1;
}

TEST(a_host_is_called_for_a_deadline)
{
    peer slow;
    pws_exchange *x;
    pws_parking p;

    rig_prepare(&r);
    r.config.request_buffering = false;
    r.config.hosted = true;
    r.config.header_timeout_ms = r.config.body_timeout_ms = 0;
    rig_open(&r);
    x = begin_stream(&slow, "/");
    while (pws_engine_poll(&r.engine, 1, 0) != 0 || r.engine.poller.woken) {
    }
    p = parking(x, PWS_READABLE);
    p.deadline_ms = pws_clock_now_ms() + 300;
    CHECK(pws_park(&r.engine, &p));
    while (p.state == PWS_PARK_WAITS) {
        CHECK(calls_host());
        CHECK(pws_engine_poll(&r.engine, 1, 0) >= 0);
        (void)pws_engine_show(&r.engine, true, -1); /* as each step ends */
    }
    CHECK(pws_park_next(&r.engine) == &p);
    CHECK_EQ(p.result, PWS_PARK_OVER);
    pws_exchange_done(x);
    peer_close(&slow);
    UNTIL(&r, pws_engine_open(&r.engine) == 0);
    finish();
}

/* A lane of its own thread: told by its notice, not by a list. */
typedef struct {
    pws_parking p;
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t told;
    bool resumed;
    ssize_t got;
} waiter;

static void
tell(pws_parking *p)
{
    waiter *w = p->owner;

    pthread_mutex_lock(&w->lock);
    w->resumed = true;
    pthread_cond_signal(&w->told);
    pthread_mutex_unlock(&w->lock);
}

/* Read three bytes, parked in between, then answer. */
static void *
read_all(void *arg)
{
    waiter *w = arg;
    pws_exchange *x = w->p.x;
    char bytes[4];

    for (;;) {
        ssize_t n = pws_exchange_read(x, bytes, sizeof(bytes));
        bool parked;

        if (n >= 0) {
            w->got += n;
            if (n == 0) {
                break;
            }
            continue;
        }
        CHECK_EQ(n, PWS_IO_AGAIN);
        w->resumed = false;
        pws_lease_take(&r.engine.lease);
        parked = pws_park(&r.engine, &w->p);
        pws_lease_drop(&r.engine.lease);
        pthread_mutex_lock(&w->lock);
        while (parked && !w->resumed) {
            pthread_cond_wait(&w->told, &w->lock);
        }
        pthread_mutex_unlock(&w->lock);
        CHECK_EQ(w->p.result, PWS_PARK_HAPPENED);
    }
    rig_reply(x, "done");
    return NULL;
}

/* The lease is free between the turns. */
static void
turn(int64_t until)
{
    pws_lease_drop(&r.engine.lease);
    pws_lease_take(&r.engine.lease);
    rig_step(&r, until);
}

TEST(threads_wait_for_clients_that_send_a_byte_at_a_time)
{
    enum { N = 4, ROUNDS = 200 };
    static waiter all[N];
    peer peers[N];

    start();
    pws_lease_take(&r.engine.lease);
    for (int round = 0; round < ROUNDS; round++) {
        for (int i = 0; i < N; i++) {
            waiter *w = &all[i];

            memset(w, 0, sizeof(*w));
            pthread_mutex_init(&w->lock, NULL);
            pthread_cond_init(&w->told, NULL);
            peer_connect(&peers[i], &r, 0);
            peer_send(&peers[i], request("POST", "/", "Content-Length: 3\r\n"));
            w->p = parking(rig_request(&r), PWS_READABLE | PWS_PEER_DONE);
            w->p.notice = tell;
            w->p.owner = w;
            CHECK_EQ(pthread_create(&w->thread, NULL, read_all, w), 0);
        }
        for (int byte = 0; byte < 3; byte++) {
            for (int i = 0; i < N; i++) {
                peer_send(&peers[i], "x");
                turn(rig_deadline());
            }
        }
        for (int i = 0; i < N; i++) {
            int64_t until = rig_deadline();

            while (peers[i].len == 0) {
                turn(until);
                peer_receive(&peers[i]);
            }
            CHECK_EQ(peer_response(&peers[i]), 200);
            pthread_join(all[i].thread, NULL);
            CHECK_EQ(all[i].got, 3);
            peer_close(&peers[i]);
        }
    }
    UNTIL(&r, pws_engine_open(&r.engine) == 0);
    pws_lease_drop(&r.engine.lease);
    finish();
}
