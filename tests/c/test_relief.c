/* engine/relief.c: a thread that sends what is finished while an app is slow. */
#include "peer.h"

#include <poll.h>
#include <sys/socket.h>

#include "engine/io.h"
#include "engine/relief.h"

static rig r;
static peer first, second;
static peer *held, *other; /* in the order in which their requests were taken */

/* Two idle clients, and an engine whose responses may be held for no time at all. */
static void
start(void)
{
    rig_start(&r);
    r.serve = true;
    peer_connect(&first, &r, 0);
    peer_connect(&second, &r, 0);
    peer_send(&first, request("GET", "/a", ""));
    CHECK_EQ(peer_response(&first), 200);
    peer_send(&second, request("GET", "/a", ""));
    CHECK_EQ(peer_response(&second), 200);
    UNTIL(&r, rig_in_state(&r, PWS_CONN_IDLE));
    r.serve = false;
    r.budget = 1;
    CHECK_EQ(pws_relief_start(&r.engine.relief, &r.engine), 0);
    pws_lease_take(&r.engine.lease);
    r.engine.hold.relief = &r.engine.relief;
    r.engine.hold.quick_ns = INT64_MAX;
    r.engine.hold.wait_ns = 0;
}

static void
finish(void)
{
    pws_relief_end(&r.engine.relief);
    r.serve = true;
    peer_close(&first);
    peer_close(&second);
    UNTIL(&r, pws_engine_open(&r.engine) == 0);
    rig_close(&r);
}

/* Something comes for the peer, without a turn of the engine. */
static void
check_comes(peer *p)
{
    struct pollfd fd = {.fd = p->fd, .events = POLLIN};

    CHECK_EQ(poll(&fd, 1, 10000), 1);
}

/* Both clients have sent; the response to one is held, the other's request is the
 * app's. */
static pws_exchange *
hold_one(void)
{
    pws_exchange *x;
    pws_slice target;

    peer_send(&first, request("GET", "/a", ""));
    peer_send(&second, request("GET", "/b", ""));
    x = rig_request(&r);
    target = pws_request_slice(&x->request, x->request.target);
    held = target.at[1] == 'a' ? &first : &second;
    other = held == &first ? &second : &first;
    rig_reply(x, "held");
    x = rig_request(&r);
    CHECK_EQ(atomic_load(&r.engine.hold.count), 1);
    return x;
}

TEST(what_is_held_goes_out_while_an_app_is_slow)
{
    for (int i = 0; i < 3; i++) {
        pws_exchange *x;

        start();
        x = hold_one();
        pws_lease_drop(&r.engine.lease);
        check_comes(held);
        pws_lease_take(&r.engine.lease);
        CHECK_EQ(peer_response(held), 200);
        CHECK_BODY(held, "held");
        rig_reply(x, "late");
        CHECK_EQ(peer_response(other), 200);
        pws_lease_drop(&r.engine.lease);
        finish();
    }
}

TEST(a_relief_does_not_wait_for_the_lease)
{
    pws_exchange *x;

    start();
    x = hold_one();
    pws_relief_end(&r.engine.relief); /* while we have it */
    CHECK_EQ(atomic_load(&r.engine.hold.count), 1);
    rig_reply(x, "late");
    CHECK_EQ(peer_response(held), 200);
    CHECK_EQ(peer_response(other), 200);
    finish();
}

TEST(what_is_lent_goes_out_while_the_app_closes_it)
{
    pws_exchange *x;

    start();
    peer_send(&first, request("GET", "/a", ""));
    x = rig_request(&r);
    rig_begin(x, "200 OK", 4);
    CHECK_EQ(pws_exchange_write(x, "lent", 4, NULL), 0);
    CHECK_EQ(pws_exchange_finish(x), 0);
    pws_hold_lend(&r.engine.hold, x);
    check_comes(&first);
    pws_hold_reclaim(&r.engine.hold);
    pws_hold_reclaim(&r.engine.hold);
    pws_exchange_done(x);
    CHECK_EQ(peer_response(&first), 200);
    CHECK_BODY(&first, "lent");
    pws_lease_drop(&r.engine.lease);
    finish();
}

TEST(what_is_taken_back_in_time_is_sent_by_its_owner)
{
    start();
    for (int i = 0; i < 2000; i++) {
        pws_exchange *x;

        peer_send(&first, request("GET", "/a", ""));
        x = rig_request(&r);
        rig_begin(x, "200 OK", 4);
        CHECK_EQ(pws_exchange_write(x, "lent", 4, NULL), 0);
        CHECK_EQ(pws_exchange_finish(x), 0);
        pws_hold_lend(&r.engine.hold, x);
        pws_hold_reclaim(&r.engine.hold);
        pws_exchange_done(x);
        CHECK_EQ(peer_response(&first), 200);
        CHECK_BODY(&first, "lent");
    }
    pws_lease_drop(&r.engine.lease);
    finish();
}

TEST(pieces_that_come_quickly_are_gathered)
{
    pws_hold *hold = &r.engine.hold;
    pws_exchange *x;

    start();
    pws_lease_drop(&r.engine.lease);
    peer_send(&first, request("GET", "/a", ""));
    x = rig_request(&r);
    rig_begin(x, "200 OK", 32 * 1024);
    hold->wait_ns = INT64_MAX;
    hold->piece_ns = INT64_MAX / 2; /* after now: it was made in no time */
    CHECK(!pws_hold_gather(hold, x, true));
    hold->piece_ns = INT64_MAX / 2;
    CHECK(pws_hold_gather(hold, x, false));
    hold->piece_ns = 0;
    CHECK(!pws_hold_gather(hold, x, false));
    hold->piece_ns = INT64_MAX / 2;
    hold->wait_ns = 0;
    CHECK(!pws_hold_gather(hold, x, false));
    hold->piece_ns = hold->wait_ns = INT64_MAX / 2;
    CHECK(pws_hold_gather(hold, x, false));
    hold->piece_ns = INT64_MAX / 2;
    for (int i = 0; i < 16; i++) {
        char piece[1024] = "piece";

        CHECK_EQ(pws_exchange_write(x, piece, sizeof(piece), NULL), 0);
    }
    CHECK(!pws_hold_gather(hold, x, false));
    hold->piece_ns = INT64_MAX / 2;
    hold->crowded = true;
    CHECK(!pws_hold_gather(hold, x, false));
    hold->crowded = false;
    pws_exchange_cut(x);
    pws_exchange_done(x);
    finish();
}

/* Sends what is lent, without a pause. */
static void *
send_pieces(void *over)
{
    while (!atomic_load((atomic_bool *)over)) {
        pws_hold_send_lent(&r.engine.hold);
    }
    return NULL;
}

TEST(pieces_that_are_lent_arrive_once_and_in_order)
{
    enum { PIECES = 20000 };
    pthread_t sender;
    atomic_bool over = false;
    pws_exchange *x;

    start();
    pws_lease_drop(&r.engine.lease);
    pws_relief_end(&r.engine.relief); /* the sender is in its place */
    CHECK_EQ(pthread_create(&sender, NULL, send_pieces, &over), 0);
    peer_send(&first, request("GET", "/a", ""));
    x = rig_request(&r);
    rig_begin(x, "200 OK", 4 * PIECES);
    for (uint32_t i = 0; i < PIECES; i++) {
        CHECK_EQ(pws_exchange_write(x, (const char *)&i, sizeof(i), NULL), 0);
        pws_hold_lend(&r.engine.hold, x);
        peer_receive(&first);
        pws_hold_reclaim(&r.engine.hold);
    }
    CHECK_EQ(pws_exchange_finish(x), 0);
    pws_exchange_done(x);
    CHECK_EQ(peer_response(&first), 200);
    CHECK_EQ(first.body.len, 4 * PIECES);
    for (uint32_t i = 0; i < PIECES; i++) {
        CHECK(memcmp(first.body.at + 4 * (size_t)i, &i, sizeof(i)) == 0);
    }
    atomic_store(&over, true);
    CHECK_EQ(pthread_join(sender, NULL), 0);
    finish();
}

/* Polls in place of the owner, which is in the app. */
static void *
poll_for_owner(void *over)
{
    while (!atomic_load((atomic_bool *)over)) {
        pws_lease_take(&r.engine.lease);
        CHECK_EQ(pws_engine_relieve(&r.engine, 1), 0);
        pws_lease_drop(&r.engine.lease);
    }
    return NULL;
}

static void
write_piece(pws_exchange *x, uint32_t number)
{
    uint32_t piece[1024];

    for (size_t i = 0; i < 1024; i++) {
        piece[i] = number;
    }
    while (pws_exchange_write(x, (const char *)piece, sizeof(piece), NULL) ==
           PWS_IO_AGAIN) {
        pws_exchange_lend(x);
        peer_receive(&first);
    }
    (void)pws_exchange_flush(x);
    pws_exchange_lend(x);
}

TEST(what_a_slow_client_has_left_is_sent_on_once_and_in_order)
{
    enum { PIECES = 2000, SIZE = 4096 };
    const int small = 64 * 1024;
    pthread_t poller;
    atomic_bool over = false;
    pws_exchange *x;

    start();
    r.engine.outputs.spool_limit = 0;
    pws_lease_drop(&r.engine.lease);
    pws_relief_end(&r.engine.relief); /* the poller is in its place */
    CHECK_EQ(setsockopt(first.fd, SOL_SOCKET, SO_RCVBUF, &small, sizeof(small)), 0);
    peer_send(&first, request("GET", "/a", ""));
    x = rig_request(&r);
    CHECK_EQ(setsockopt(x->conn->fd, SOL_SOCKET, SO_SNDBUF, &small, sizeof(small)), 0);
    CHECK_EQ(pthread_create(&poller, NULL, poll_for_owner, &over), 0);
    rig_begin(x, "200 OK", SIZE * PIECES);
    for (uint32_t i = 0; i < PIECES; i++) {
        write_piece(x, i);
        if (i % 8 == 0) {
            peer_receive(&first);
        }
    }
    /* Its owner does nothing any more. */
    for (int64_t until = rig_deadline(); first.len < SIZE * PIECES;) {
        peer_receive(&first);
        CHECK(poll(NULL, 0, 0) == 0 && rig_deadline() - until < 10000);
    }
    CHECK_EQ(pws_exchange_finish(x), 0);
    atomic_store(&over, true);
    CHECK_EQ(pthread_join(poller, NULL), 0);
    pws_exchange_done(x);
    CHECK_EQ(peer_response(&first), 200);
    CHECK_EQ(first.body.len, SIZE * PIECES);
    for (uint32_t i = 0; i < PIECES; i++) {
        CHECK(memcmp(first.body.at + SIZE * (size_t)i, &i, sizeof(i)) == 0);
        CHECK(memcmp(first.body.at + SIZE * (size_t)i + SIZE - 4, &i, sizeof(i)) == 0);
    }
    finish();
}

TEST(a_relief_rests_and_wakes_again)
{
    start();
    for (int i = 0; i < 3; i++) {
        pws_exchange *x = hold_one();

        pws_lease_drop(&r.engine.lease);
        check_comes(held);
        for (int64_t until = rig_deadline();
             atomic_load(&r.engine.relief.word) != PWS_RELIEF_RESTS;) {
            CHECK(poll(NULL, 0, 10) == 0 && rig_deadline() - until < 10000);
        }
        pws_lease_take(&r.engine.lease);
        CHECK_EQ(peer_response(held), 200);
        rig_reply(x, "late");
        CHECK_EQ(peer_response(other), 200);
        UNTIL(&r, rig_in_state(&r, PWS_CONN_IDLE));
    }
    pws_lease_drop(&r.engine.lease);
    finish();
}
