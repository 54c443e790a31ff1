/* Who gives way when slots or the room for spooled responses are used up. */
#include "peer.h"

#include <stdlib.h>
#include <unistd.h>

#include "engine/evict.h"

static rig r;
static peer peers[20];
static char big[4 << 20];

static void
connect_all(unsigned count)
{
    rig_prepare(&r);
    r.local = true; /* what was sent is there */
    rig_open(&r);
    for (unsigned i = 0; i < count; i++) {
        peer_connect(&peers[i], &r, 0);
        UNTIL(&r, pws_engine_open(&r.engine) == i + 1);
    }
}

static void
finish(unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        peer_close(&peers[i]);
    }
    UNTIL(&r, pws_engine_open(&r.engine) == 0);
    rig_close(&r);
}

/* The connection of peer `i`: slots are given out in order. */
static pws_conn *
conn(unsigned i)
{
    return r.engine.slots[i].conn;
}

/* As if it had waited for so long already. */
static void
age(unsigned i, int64_t by_ms)
{
    CHECK(conn(i) != NULL);
    conn(i)->since_ms -= by_ms;
}

TEST(those_without_a_request_go_together_when_they_had_time)
{
    connect_all(4);
    r.serve = true;
    peer_send(&peers[1], request("GET", "/a", ""));
    CHECK_EQ(peer_response(&peers[1]), 200);
    peer_send(&peers[2], "GET / HTTP/1.1\r\n");
    UNTIL(&r, conn(2)->state == PWS_CONN_HEAD);
    CHECK_EQ(pws_evict_for_slot(&r.engine), 0);
    for (unsigned i = 0; i < 3; i++) {
        age(i, 2000);
    }
    CHECK_EQ(pws_evict_for_slot(&r.engine), 3);
    CHECK(conn(0) == NULL && conn(1) == NULL && conn(2) == NULL && conn(3) != NULL);
    peer_check_closed(&peers[1]);
    CHECK_EQ(pws_evict_for_slot(&r.engine), 0);
    finish(4);
}

/* Even a connection that has waited for long is not closed in the face of its request.
 */
TEST(a_request_that_nobody_has_seen_yet_keeps_its_connection)
{
    connect_all(2);
    age(0, 2000);
    age(1, 2000);
    peer_send(&peers[0], request("GET", "/a", ""));
    CHECK_EQ(conn(0)->state, PWS_CONN_IDLE);
    CHECK_EQ(pws_evict_for_slot(&r.engine), 1);
    CHECK(conn(0) != NULL && conn(1) == NULL);
    CHECK_EQ(pws_evict_for_slot(&r.engine), 0);
    r.serve = true;
    CHECK_EQ(peer_response(&peers[0]), 200);
    finish(2);
}

/* However many of those have waited for the longest. */
TEST(those_without_a_request_are_found_behind_those_with_one)
{
    enum { N = 18 };

    connect_all(N);
    for (unsigned i = 0; i < N; i++) {
        age(i, 5000 - 100 * i);
    }
    for (unsigned i = 0; i < N - 1; i++) {
        peer_send(&peers[i], request("GET", "/a", ""));
    }
    CHECK_EQ(pws_evict_for_slot(&r.engine), 1);
    CHECK(conn(N - 1) == NULL);
    r.serve = true;
    for (unsigned i = 0; i < N - 1; i++) {
        CHECK_EQ(peer_response(&peers[i]), 200);
    }
    finish(N);
}

TEST(of_the_slow_only_the_slowest_goes_and_of_the_others_none)
{
    connect_all(3);
    for (unsigned i = 0; i < 3; i++) {
        peer_send(&peers[i],
                  "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 99999\r\n\r\n");
        peer_send_bytes(&peers[i], big, 30000 * i + 1);
        UNTIL(&r, conn(i)->state == PWS_CONN_BODY &&
                      conn(i)->x->body.size == 30000 * i + 1);
    }
    age(0, 60000);
    age(1, 60000);
    age(2, 10000);
    CHECK_EQ(pws_evict_for_slot(&r.engine), 1);
    CHECK(conn(0) == NULL && conn(1) != NULL && conn(2) != NULL);
    CHECK_EQ(pws_evict_for_slot(&r.engine), 1);
    CHECK(conn(1) == NULL && conn(2) != NULL);
    CHECK_EQ(pws_evict_for_slot(&r.engine), 0);
    finish(3);
}

TEST(a_request_that_an_app_has_is_not_touched)
{
    pws_exchange *x;

    connect_all(2);
    peer_send(&peers[0], request("GET", "/a", ""));
    x = rig_request(&r);
    peer_send(&peers[1], request("GET", "/b", ""));
    UNTIL(&r, conn(1)->state == PWS_CONN_QUEUED);
    age(0, 100000);
    age(1, 100000);
    CHECK_EQ(pws_evict_for_slot(&r.engine), 0);
    rig_answer(x);
    CHECK_EQ(peer_response(&peers[0]), 200);
    r.serve = true;
    CHECK_EQ(peer_response(&peers[1]), 200);
    finish(2);
}

/* A response of `len` bytes that its reader does not take: spooled. */
static void
spool(unsigned i, size_t len)
{
    pws_exchange *x;

    peer_send(&peers[i], request("GET", "/a", ""));
    x = rig_request(&r);
    rig_begin(x, "200 OK", len);
    for (size_t at = 0; at < len; at += 20000) {
        size_t n = len - at < 20000 ? len - at : 20000;

        CHECK_EQ(pws_exchange_write(x, big + at, n, NULL), 0);
    }
    CHECK_EQ(pws_exchange_finish(x), 0);
    pws_exchange_done(x);
    UNTIL(&r, conn(i)->state == PWS_CONN_SENDING);
}

TEST(the_slowest_reader_of_a_spooled_response_is_cut)
{
    connect_all(3);
    CHECK(!pws_evict_for_spool(&r.engine));
    spool(0, sizeof(big));
    spool(1, sizeof(big));
    age(0, 10000);
    age(1, 20000);
    age(2, 90000);
    CHECK(pws_evict_for_spool(&r.engine));
    CHECK(conn(0) != NULL && conn(1) == NULL && conn(2) != NULL);
    CHECK(pws_evict_for_spool(&r.engine));
    CHECK(conn(0) == NULL);
    CHECK(!pws_evict_for_spool(&r.engine));
    CHECK_EQ(atomic_load(&r.engine.outputs.spooled_all), 0);
    finish(3);
}
