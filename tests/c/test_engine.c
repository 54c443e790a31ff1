/* The engine: accepting and pausing, turns and budgets, hosted mode, drain. */
#include "peer.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <sys/resource.h>
#include <unistd.h>

#include "engine/accept.h"

static rig r;
static peer p, q, peers[80];

static int64_t
now_ms(void)
{
    pws_clock clock;

    pws_clock_read(&clock);
    return clock.now_ms;
}

static const _Atomic uint32_t two = 2; /* processes */

static void
close_peers(unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        peer_close(&peers[i]);
    }
    UNTIL(&r, pws_engine_open(&r.engine) == 0);
    rig_close(&r);
}

/* Going to the end of the kernel's queue puts the right listener back, whatever number
 * it has among those of the server. */
TEST(a_second_listener_goes_on_after_many_accepts)
{
    rig_prepare(&r);
    r.listener_count = 2;
    r.config.rivals = &two;
    rig_open(&r);
    r.listeners[0].index = 7;
    r.listeners[1].index = 8;
    r.serve = true;
    for (unsigned i = 0; i < 40; i++) {
        peer_connect(&peers[i], &r, i % 2);
        peer_send(&peers[i], request("GET", "/a", ""));
        CHECK_EQ(peer_response(&peers[i]), 200);
    }
    CHECK_EQ(r.engine.accepted, 40);
    close_peers(40);
}

TEST(unix_listeners_serve_as_well)
{
    rig_prepare(&r);
    r.local = true;
    rig_open(&r);
    r.serve = true;
    peer_connect(&p, &r, 0);
    peer_send(&p, request("GET", "/a", ""));
    CHECK_EQ(peer_response(&p), 200);
    CHECK(rig_conn(&r)->trusted);
    CHECK_EQ(pws_peer_port(&rig_conn(&r)->peer), 0);
    peer_close(&p);
    UNTIL(&r, pws_engine_open(&r.engine) == 0);
    rig_close(&r);
}

TEST(a_peer_of_a_trusted_network_is_trusted)
{
    pws_network networks[2];

    CHECK_EQ(pws_network_parse(&networks[0], "10.0.0.0/8"), 0);
    CHECK_EQ(pws_network_parse(&networks[1], "127.0.0.0/8"), 0);
    for (unsigned i = 1; i <= 2; i++) {
        rig_prepare(&r);
        r.config.trusted = networks;
        r.config.trusted_count = i;
        rig_open(&r);
        peer_connect(&p, &r, 0);
        UNTIL(&r, rig_conn(&r) != NULL);
        CHECK_EQ(rig_conn(&r)->trusted, i == 2);
        peer_close(&p);
        rig_close(&r);
    }
}

/* Fill all slots, those of the slack too, with connections that nothing is known of
 * yet. Returns how many. */
static unsigned
fill(uint32_t worker_connections)
{
    unsigned n = worker_connections + PWS_ACCEPT_SLACK;

    rig_prepare(&r);
    r.config.worker_connections = worker_connections;
    rig_open(&r);
    for (unsigned i = 0; i < n; i++) {
        peer_connect(&peers[i], &r, 0);
    }
    UNTIL(&r, pws_engine_open(&r.engine) == n);
    return n;
}

TEST(a_full_engine_pauses_and_goes_on_when_a_connection_ends)
{
    unsigned n = fill(2);
    int64_t start;

    peer_connect(&peers[n], &r, 0);
    peer_send(&peers[n], request("GET", "/a", ""));
    for (int i = 0; i < 5; i++) {
        rig_step(&r, rig_deadline());
    }
    CHECK_EQ(r.engine.accepted, n);

    for (unsigned i = 0; i < PWS_ACCEPT_SLACK + 1; i++) {
        peer_close(&peers[i]);
    }
    start = now_ms();
    while (r.engine.accepted < n + 1) {
        CHECK(pws_engine_poll(&r.engine, 1, 10000) >= 0);
    }
    CHECK(now_ms() - start < 5000);
    r.serve = true;
    CHECK_EQ(peer_response(&peers[n]), 200);
    close_peers(n + 1);
}

TEST(a_full_engine_takes_a_new_client_in_the_place_of_a_slow_one)
{
    unsigned n = fill(1);
    pws_conn *slow = r.engine.slots[3].conn;

    CHECK(slow != NULL);
    slow->since_ms -= 5000;
    r.serve = true;
    peer_connect(&peers[n], &r, 0);
    peer_send(&peers[n], request("GET", "/a", ""));
    CHECK_EQ(peer_response(&peers[n]), 200);
    CHECK(r.engine.slots[3].conn != slow || r.engine.slots[3].generation > 0);
    close_peers(n + 1);
}

TEST(a_full_engine_goes_on_when_a_response_out_of_turn_ends_a_connection)
{
    pws_exchange *x;

    rig_start(&r);
    peer_connect(&p, &r, 0);
    peer_send(&p, request("GET", "/a", "Connection: close\r\n"));
    x = rig_request(&r);
    r.config.worker_connections = 1;
    pws_accept_stop(&r.engine);
    r.engine.accept_again_ms = now_ms() + 3600 * 1000;
    pws_engine_take_back(&r.engine);
    CHECK(!r.engine.accepting);
    rig_answer(x);
    pws_engine_take_back(&r.engine);
    CHECK(r.engine.accepting);
    CHECK_EQ(peer_response(&p), 200);
    peer_close(&p);
    rig_close(&r);
}

TEST(accepting_pauses_without_descriptors_and_recovers)
{
    struct rlimit old, few;
    bool paused = false;
    int64_t start;
    int polls = 0;

    rig_start(&r);
    r.serve = true;
    peer_connect(&p, &r, 0);
    peer_send(&p, request("GET", "/a", ""));
    CHECK_EQ(getrlimit(RLIMIT_NOFILE, &old), 0);
    few = old;
    few.rlim_cur = (rlim_t)p.fd + 1;
    CHECK_EQ(setrlimit(RLIMIT_NOFILE, &few), 0);
    start = now_ms();
    while (now_ms() - start < 600) {
        polls++;
        CHECK(pws_engine_poll(&r.engine, 1, 100) >= 0);
        paused = paused || (r.engine.accept_failing && !r.engine.accepting);
    }
    CHECK_EQ(setrlimit(RLIMIT_NOFILE, &old), 0);
    CHECK(paused);
    CHECK(polls < 100);
    CHECK_EQ(r.engine.accepted, 0);

    CHECK_EQ(peer_response(&p), 200);
    CHECK(!r.engine.accept_failing);
    peer_close(&p);
    UNTIL(&r, pws_engine_open(&r.engine) == 0);
    rig_close(&r);
}

/* Who waits in the queue when an engine drains is accepted when that is possible again.
 * If that is the last thing to do, nothing would end a wait after it. */
TEST(a_drain_that_ends_between_waits_is_seen_at_once)
{
    struct rlimit old, few;
    int64_t start;

    rig_start(&r);
    peer_connect(&p, &r, 0);
    CHECK_EQ(getrlimit(RLIMIT_NOFILE, &old), 0);
    few = old;
    few.rlim_cur = (rlim_t)p.fd + 1;
    CHECK_EQ(setrlimit(RLIMIT_NOFILE, &few), 0);
    pws_engine_drain(&r.engine);
    CHECK_EQ(setrlimit(RLIMIT_NOFILE, &old), 0);
    CHECK_EQ(r.engine.unclosed, 1);
    peer_reset(&p);
    r.engine.accept_again_ms = 0;
    start = now_ms();
    CHECK(pws_engine_poll(&r.engine, 1, 20000) >= 0);
    CHECK(pws_engine_is_drained(&r.engine));
    CHECK(now_ms() - start < 10000);
    rig_close(&r);
}

/* A pause that nothing will end any more must not keep the loop awake. */
TEST(an_engine_that_drains_in_a_pause_sleeps)
{
    int polls = 0;
    int64_t start;

    rig_start(&r);
    r.engine.accepting = false;
    r.engine.accept_again_ms = now_ms() - 1;
    pws_engine_drain(&r.engine);
    start = now_ms();
    while (now_ms() - start < 100) {
        CHECK(pws_engine_poll(&r.engine, 1, 50) >= 0);
        polls++;
    }

    CHECK(polls < 10);
    rig_close(&r);
}

/* A client that has requests without end is not served before all who come new. */
TEST(connections_are_accepted_while_requests_are_queued)
{
    int served = 0;

    rig_start(&r);
    peer_connect(&p, &r, 0);
    for (int i = 0; i < 16; i++) {
        peer_send(&p, request("GET", "/a", ""));
    }
    UNTIL(&r, r.engine.queued == 1);
    peer_connect(&q, &r, 0);
    r.engine.looked_ms = 0; /* a long time ago */
    while (r.engine.queue_first != NULL && r.engine.accepted == 1) {
        rig_answer(pws_engine_next(&r.engine));
        served++;
        pws_engine_take_back(&r.engine);
    }
    CHECK_EQ(r.engine.accepted, 2);
    CHECK(served < 10);
    r.serve = true;
    for (int i = 0; i < 16; i++) {
        CHECK_EQ(peer_response(&p), 200);
    }
    peer_close(&p);
    peer_close(&q);
    rig_close(&r);
}

/* Some may have gathered while nobody looked. */
TEST(after_a_long_turn_all_are_accepted_who_have_come)
{
    enum { N = 20 };

    for (int alone = 0; alone < 2; alone++) {
        rig_prepare(&r);
        r.config.rivals = alone ? NULL : &two;
        rig_open(&r);
        for (int i = 0; i < N; i++) {
            peer_connect(&peers[i], &r, 0);
        }
        r.engine.looked_ms = 0; /* a long time ago */
        r.engine.handed_out = 7;
        CHECK(pws_engine_poll(&r.engine, 1, 10000) >= 0);
        CHECK_EQ(r.engine.accepted, alone ? N : 7);
        UNTIL(&r, r.engine.accepted == N);
        close_peers(N);
    }
}

/* One look at the only listener, in the same tick of the clock as the last one. Returns
 * how many connections it has taken. */
static uint64_t
look_again(void)
{
    uint64_t before = r.engine.accepted;

    r.engine.looked_ms = r.engine.sifted_ms = r.engine.clock.now_ms;
    pws_accept_event(&r.engine, PWS_LISTENER_KEY);
    return r.engine.accepted - before;
}

/* While they come in crowds, a look takes some; when one has come alone, the next look
 * takes one, as it does where siblings may be idle. */
TEST(a_crowd_is_accepted_some_at_a_time)
{
    enum { FIRST = 3, CROWD = 8, N = FIRST + CROWD + 4 };

    rig_prepare(&r);
    r.local = true; /* who has connected is there */
    rig_open(&r);
    for (int i = 0; i < FIRST; i++) {
        peer_connect(&peers[i], &r, 0);
    }
    r.engine.looked_ms = 0; /* a long time ago */
    pws_accept_event(&r.engine, PWS_LISTENER_KEY);
    CHECK_EQ(r.engine.accepted, FIRST);
    for (int i = FIRST; i < N; i++) {
        peer_connect(&peers[i], &r, 0);
    }
    r.config.rivals = &two;
    CHECK_EQ(look_again(), 1);
    r.config.rivals = NULL;
    CHECK_EQ(look_again(), CROWD);
    CHECK_EQ(look_again(), 3); /* and has seen that there are no more */
    peer_connect(&p, &r, 0);
    CHECK_EQ(look_again(), 1);
    peer_close(&p);
    UNTIL(&r, pws_engine_open(&r.engine) == N);
    peer_connect(&p, &r, 0);
    peer_connect(&q, &r, 0);
    CHECK_EQ(look_again(), 1);
    CHECK_EQ(look_again(), 1);
    peer_close(&p);
    peer_close(&q);
    close_peers(N);
}

static void
prepare_silent(void)
{
    rig_prepare(&r);
    r.local = true; /* what was sent is there */
    rig_open(&r);
    r.listeners[0].silent = 8;
}

static void
connect_with_request(peer *client)
{
    peer_connect(client, &r, 0);
    peer_send(client, request("GET", "/a", ""));
}

/* Where requests come later than their connections do, nobody reads before they are
 * there, but for a try now and then, which finds out when that has changed. */
TEST(new_connections_are_not_read_in_vain)
{
    enum { LATER = 7, N = LATER + 2 };

    prepare_silent();
    r.listeners[0].silent = 7;
    peer_connect(&peers[0], &r, 0);
    CHECK_EQ(look_again(), 1);
    CHECK_EQ(r.listeners[0].silent, 8);
    for (int i = 1; i <= LATER; i++) {
        connect_with_request(&peers[i]);
        CHECK_EQ(look_again(), 1);
        CHECK_EQ(r.engine.queued, 0);
        rig_answer(rig_request(&r));
        CHECK_EQ(peer_response(&peers[i]), 200);
    }
    connect_with_request(&peers[N - 1]);
    CHECK_EQ(look_again(), 1);
    CHECK_EQ(r.engine.queued, 1);
    CHECK_EQ(r.listeners[0].silent, 0);
    rig_answer(rig_request(&r));
    close_peers(N);
}

/* Who has come first is not to wait until there is time to poll. */
TEST(new_connections_are_read_at_once_when_requests_wait)
{
    prepare_silent();
    connect_with_request(&p);
    UNTIL(&r, r.engine.queued == 1);
    r.listeners[0].silent = 8;
    connect_with_request(&q);
    CHECK_EQ(look_again(), 1);
    CHECK_EQ(r.engine.queued, 2);
    r.serve = true;
    CHECK_EQ(peer_response(&p), 200);
    CHECK_EQ(peer_response(&q), 200);
    peer_close(&p);
    peer_close(&q);
    rig_close(&r);
}

/* One look at the only listener, a tick after the last one. */
static void
look_later(void)
{
    r.engine.looked_ms = r.engine.sifted_ms = 0;
    pws_accept_event(&r.engine, PWS_LISTENER_KEY);
}

/* As if those that are unread had been there for so long. */
static void
age_unread(int64_t by_ms)
{
    for (unsigned i = 0; i < r.engine.unread_count; i++) {
        pws_conn *c = r.engine.slots[r.engine.unread[i].slot].conn;

        if (c != NULL) {
            c->since_ms = r.engine.clock.now_ms - by_ms;
        }
    }
}

/* And not behind all that have come while an app was busy. */
TEST(connections_that_were_left_unread_go_before_later_ones)
{
    prepare_silent();
    connect_with_request(&p);
    CHECK_EQ(look_again(), 1);
    CHECK_EQ(r.engine.queued, 0);
    age_unread(10);
    connect_with_request(&q);
    look_later();
    CHECK_EQ(r.engine.queued, 2);
    CHECK_EQ(r.engine.unread_count, 0);
    rig_answer(rig_request(&r));
    CHECK_EQ(peer_response(&p), 200);
    rig_answer(rig_request(&r));
    CHECK_EQ(peer_response(&q), 200);
    peer_close(&p);
    peer_close(&q);
    rig_close(&r);
}

/* Their requests are on their way. */
TEST(connections_are_left_unread_for_some_time)
{
    prepare_silent();
    peer_connect(&p, &r, 0);
    CHECK_EQ(look_again(), 1);
    age_unread(9);
    connect_with_request(&q);
    look_later();
    CHECK_EQ(r.engine.queued, 1);
    CHECK_EQ(r.engine.unread_count, 1);
    rig_answer(rig_request(&r));
    CHECK_EQ(peer_response(&q), 200);
    peer_close(&p);
    peer_close(&q);
    rig_close(&r);
}

/* Its place may be another one's then. */
TEST(a_connection_that_was_left_unread_may_have_gone_meanwhile)
{
    prepare_silent();
    peer_connect(&p, &r, 0);
    CHECK_EQ(look_again(), 1);
    CHECK_EQ(r.engine.unread_count, 1);
    peer_close(&p);
    UNTIL(&r, pws_engine_open(&r.engine) == 0);
    connect_with_request(&q);
    CHECK_EQ(look_again(), 1);
    CHECK_EQ(r.engine.unread_count, 2);
    CHECK_EQ(r.engine.unread[0].slot, r.engine.unread[1].slot);
    age_unread(9);
    look_later();
    CHECK_EQ(r.engine.unread_count, 1);
    age_unread(10);
    connect_with_request(&p);
    look_later();
    CHECK_EQ(r.engine.unread_count, 0);
    CHECK_EQ(r.engine.queued, 2);
    rig_answer(rig_request(&r));
    CHECK_EQ(peer_response(&q), 200);
    rig_answer(rig_request(&r));
    CHECK_EQ(peer_response(&p), 200);
    peer_close(&p);
    peer_close(&q);
    rig_close(&r);
}

TEST(a_connection_that_cannot_be_watched_is_not_left_unread)
{
    int watched;

    prepare_silent();
    connect_with_request(&p);
    watched = r.engine.poller.fd;
    r.engine.poller.fd = -1;
    CHECK_EQ(look_again(), 1);
    r.engine.poller.fd = watched;
    CHECK_EQ(r.engine.queued, 1);
    rig_answer(rig_request(&r));
    CHECK_EQ(peer_response(&p), 200);
    peer_close(&p);
    rig_close(&r);
}

TEST(only_so_many_connections_are_left_unread)
{
    prepare_silent();
    r.engine.unread_count = PWS_UNREAD_MAX;
    connect_with_request(&p);
    CHECK_EQ(look_again(), 1);
    CHECK_EQ(r.engine.queued, 1);
    rig_answer(rig_request(&r));
    peer_close(&p);
    rig_close(&r);
}

TEST(the_first_connections_of_a_tick_are_read_at_once)
{
    prepare_silent();
    connect_with_request(&p);
    look_later();
    CHECK_EQ(r.engine.queued, 1);
    rig_answer(rig_request(&r));
    peer_close(&p);
    rig_close(&r);
}

/* Nobody waits for the poller then. */
TEST(the_last_connections_before_an_end_are_read_at_once)
{
    prepare_silent();
    connect_with_request(&p);
    r.engine.looked_ms = now_ms();
    pws_engine_drain(&r.engine);
    CHECK_EQ(r.engine.queued, 1);
    rig_answer(rig_request(&r));
    CHECK_EQ(peer_response(&p), 200);
    peer_check_closed(&p);
    peer_close(&p);
    rig_close(&r);
}

/* The listener cannot be put back into the set now: it is tried again. */
TEST(a_listener_that_could_not_be_watched_is_tried_again)
{
    int watched;

    rig_prepare(&r);
    r.config.rivals = &two;
    rig_open(&r);
    r.listeners[0].accepted = 15; /* the next accept sends it to the end of the queue */
    peer_connect(&p, &r, 0);
    watched = r.engine.poller.fd;
    r.engine.poller.fd = -1;
    pws_accept_event(&r.engine, PWS_LISTENER_KEY);
    r.engine.poller.fd = watched;
    pws_poller_remove(&r.engine.poller, r.listeners[0].fd);
    CHECK(!r.listeners[0].polled);
    peer_connect(&q, &r, 0);
    UNTIL(&r, r.engine.accepted == 2);
    peer_close(&p);
    peer_close(&q);
    rig_close(&r);
}

TEST(a_poll_queues_no_more_than_its_budget)
{
    rig_start(&r);
    for (unsigned i = 0; i < 6; i++) {
        peer_connect(&peers[i], &r, 0);
    }
    UNTIL(&r, pws_engine_open(&r.engine) == 6);
    for (unsigned i = 0; i < 6; i++) {
        UNTIL(&r, r.engine.slots[i].conn->polled);
        peer_send(&peers[i], request("GET", "/a", ""));
    }
    while (r.engine.queued == 0) {
        CHECK(pws_engine_poll(&r.engine, 2, 100) >= 0);
    }
    CHECK_EQ(r.engine.queued, 2);
    CHECK_EQ(pws_engine_poll(&r.engine, 2, 1000), 1);
    CHECK_EQ(r.engine.queued, 2);
    CHECK_EQ(pws_engine_poll(&r.engine, 5, 1000), 1);
    CHECK(r.engine.queued <= 5);
    r.serve = true;
    for (unsigned i = 0; i < 6; i++) {
        CHECK_EQ(peer_response(&peers[i]), 200);
    }
    close_peers(6);
}

/* Whether another loop that watches the set's descriptor is told to call. */
static bool
shown(int timeout_ms)
{
    struct pollfd watched = {.fd = r.engine.poller.fd, .events = POLLIN};

    return poll(&watched, 1, timeout_ms) == 1;
}

static void
start_hosted(void)
{
    rig_prepare(&r);
    r.config.hosted = true;
    r.config.header_timeout_ms = 300;
    r.config.keepalive_ms = 300;
    rig_open(&r);
}

/* As a host does: a turn, and then the loop is somebody else's. */
static int
host_polls(void)
{
    int rc = pws_engine_poll(&r.engine, 1, 0);

    (void)pws_engine_show(&r.engine, true, -1);
    return rc;
}

TEST(a_host_that_stops_after_one_event_is_called_again)
{
    pws_exchange *x;
    unsigned answered = 0;

    start_hosted();
    for (unsigned i = 0; i < 5; i++) {
        peer_connect(&peers[i], &r, 0);
        peer_send(&peers[i], request("GET", "/a", ""));
    }
    while (answered < 5) {
        CHECK(shown(5000));
        CHECK(host_polls() >= 0);
        x = pws_engine_next(&r.engine);
        if (x != NULL) {
            rig_answer(x);
            (void)pws_engine_show(&r.engine, true, -1);
            CHECK(shown(0) || r.engine.queued == 0);
            answered++;
        }
    }
    while (pws_engine_next(&r.engine) != NULL) {
    }
    for (unsigned i = 0; i < 5; i++) {
        CHECK_EQ(peer_response(&peers[i]), 200);
    }
    close_peers(5);
}

/* The hand-back happens outside of a poll: what it leaves to be done must be shown. */
TEST(a_host_is_called_for_what_a_hand_back_leaves)
{
    pws_exchange *x;
    int calls = 0;

    start_hosted();
    peer_connect(&p, &r, 0);
    UNTIL(&r, rig_in_state(&r, PWS_CONN_IDLE));
    peer_send(&p, request("GET", "/a", ""));
    x = rig_request(&r);
    peer_send(&p, request("GET", "/b", ""));
    UNTIL(&r, (atomic_load(&rig_conn(&r)->events) & PWS_READABLE) != 0);
    while (shown(0)) {
        CHECK(host_polls() >= 0);
        CHECK(++calls < 20);
    }
    rig_answer(x);
    pws_engine_take_back(&r.engine);
    CHECK(pws_engine_show(&r.engine, true, -1));
    CHECK(shown(0));
    CHECK_EQ(host_polls(), 1);
    rig_answer(pws_engine_next(&r.engine));
    pws_engine_take_back(&r.engine);
    (void)pws_engine_show(&r.engine, true, -1);

    for (calls = 0; rig_in_state(&r, PWS_CONN_IDLE) || calls == 0; calls++) {
        CHECK(shown(5000));
        CHECK(host_polls() >= 0);
        CHECK(calls < 20);
    }
    CHECK_EQ(pws_engine_open(&r.engine), 0);
    peer_close(&p);
    rig_close(&r);
}

TEST(a_host_is_called_when_a_deadline_has_passed)
{
    int calls = 0;

    start_hosted();
    peer_connect(&p, &r, 0);
    peer_send(&p, "GET / HT");
    while (peer_receive(&p), p.len == 0) {
        CHECK(shown(5000));
        CHECK(host_polls() >= 0);
        CHECK(++calls < 20);
    }
    CHECK_EQ(peer_response(&p), 408);
    peer_close(&p);
    UNTIL(&r, pws_engine_open(&r.engine) == 0);
    rig_close(&r);
}

TEST(a_host_is_called_when_accepting_can_go_on)
{
    rig_prepare(&r);
    r.config.hosted = true;
    r.config.worker_connections = 1;
    rig_open(&r);
    peer_connect(&p, &r, 0);
    UNTIL(&r, pws_engine_open(&r.engine) == 1);
    peer_connect(&q, &r, 0);
    peer_close(&p);
    for (int calls = 0; r.engine.accepted < 2; calls++) {
        CHECK(shown(5000));
        CHECK(host_polls() >= 0);
        CHECK(calls < 20);
    }
    peer_close(&q);
    UNTIL(&r, pws_engine_open(&r.engine) == 0);
    rig_close(&r);
}

TEST(a_drain_takes_what_waits_and_closes_the_idle)
{
    const pws_address *address = &r.listeners[0].address;
    int fd;

    rig_prepare(&r);
    r.config.keepalive_ms = 500;
    rig_open(&r);
    r.serve = true;
    peer_connect(&p, &r, 0);
    peer_send(&p, request("GET", "/a", ""));
    CHECK_EQ(peer_response(&p), 200);
    peer_connect(&q, &r, 0);
    peer_send(&q, request("GET", "/b", ""));
    pws_engine_drain(&r.engine);
    pws_engine_drain(&r.engine);

    CHECK_EQ(peer_response(&q), 200);
    CHECK(memmem(q.head.at, q.head.len, "Connection: close\r\n", 19) != NULL);
    peer_check_closed(&q);
    peer_check_closed(&p);
    peer_close(&p);
    peer_close(&q);
    UNTIL(&r, pws_engine_open(&r.engine) == 0);

    fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    CHECK_EQ(connect(fd, &address->sa.any, address->len), -1);
    CHECK_EQ(errno, ECONNREFUSED);
    close(fd);
    CHECK_EQ(r.engine.accepted, 2);
    rig_close(&r);
}

TEST(an_event_for_an_earlier_connection_of_the_slot_is_dropped)
{
    uint64_t stale;

    rig_start(&r);
    peer_connect(&p, &r, 0);
    UNTIL(&r, rig_in_state(&r, PWS_CONN_IDLE));
    stale = (uint64_t)rig_conn(&r)->generation << 32 | rig_conn(&r)->slot;
    peer_close(&p);
    UNTIL(&r, pws_engine_open(&r.engine) == 0);
    peer_connect(&q, &r, 0);
    UNTIL(&r, rig_in_state(&r, PWS_CONN_IDLE));
    CHECK_EQ(rig_conn(&r)->slot, (uint32_t)stale);

    r.engine.poller.events[0] = (pws_event){stale, PWS_BROKEN};
    r.engine.poller.events[1] = (pws_event){0xffffffff, PWS_READABLE};
    r.engine.poller.count = 2;
    r.engine.at = 0;
    CHECK(pws_engine_poll(&r.engine, 8, 0) >= 0);
    CHECK_EQ(r.engine.at, 2);
    CHECK_EQ(atomic_load(&rig_conn(&r)->events), 0);
    r.serve = true;
    peer_send(&q, request("GET", "/a", ""));
    CHECK_EQ(peer_response(&q), 200);
    peer_close(&q);
    rig_close(&r);
}

static bool
answer_some(void *context, pws_exchange *x)
{
    ++*(unsigned *)context;
    if (x->request.target.len != 2) {
        return false;
    }
    rig_begin(x, "200 OK", 6);
    CHECK_EQ(pws_exchange_write(x, "native", 6, NULL), 0);
    CHECK_EQ(pws_exchange_finish(x), 0);
    return true;
}

TEST(a_native_handler_may_answer_first)
{
    unsigned asked = 0;

    rig_start(&r);
    r.serve = true;
    for (unsigned i = 0; i < PWS_HANDLERS_MAX; i++) {
        CHECK_EQ(pws_engine_add_handler(&r.engine, answer_some, &asked), 0);
    }
    CHECK_EQ(pws_engine_add_handler(&r.engine, answer_some, &asked), -1);
    peer_connect(&p, &r, 0);
    peer_send(&p, request("GET", "/a", ""));
    CHECK_EQ(peer_response(&p), 200);
    CHECK_BODY(&p, "native");
    CHECK_EQ(asked, 1);
    peer_send(&p, request("GET", "/other", ""));
    CHECK_EQ(peer_response(&p), 200);
    CHECK_BODY(&p, "/other");
    CHECK_EQ(asked, 1 + PWS_HANDLERS_MAX);
    peer_close(&p);
    rig_close(&r);
}

static void *
wake_it(void *engine)
{
    pws_engine_wake(engine);
    return NULL;
}

TEST(another_thread_ends_a_wait)
{
    pthread_t thread;
    int64_t start = now_ms();

    rig_start(&r);
    CHECK_EQ(pthread_create(&thread, NULL, wake_it, &r.engine), 0);
    CHECK_EQ(pws_engine_poll(&r.engine, 1, 10000), 0);
    CHECK(r.engine.poller.woken);
    CHECK_EQ(pthread_join(thread, NULL), 0);
    CHECK(now_ms() - start < 5000);
    rig_close(&r);
}

/* What is for who waits, it leaves alone. */
TEST(events_are_taken_one_at_a_time_beside_who_waits)
{
    rig_start(&r);
    r.serve = true;
    for (unsigned i = 0; i < 2; i++) {
        peer_connect(&peers[i], &r, 0);
        peer_send(&peers[i], request("GET", "/first", ""));
        CHECK_EQ(peer_response(&peers[i]), 200);
    }
    for (bool idle = false; !idle;) { /* with all events of theirs taken */
        rig_step(&r, rig_deadline());
        idle = r.engine.slots[0].conn->state == PWS_CONN_IDLE &&
               r.engine.slots[1].conn->state == PWS_CONN_IDLE &&
               r.engine.poller.count == 0;
    }
    r.serve = false;
    CHECK(!pws_engine_take_event(&r.engine)); /* nobody waits */
    r.engine.waiting = true;
    CHECK(!pws_engine_take_event(&r.engine));
    for (unsigned i = 0; i < 2; i++) {
        peer_send(&peers[i], request("GET", "/beside", ""));
    }
    for (unsigned i = 1; i <= 2; i++) {
        CHECK(pws_engine_take_event(&r.engine));
        CHECK_EQ(r.engine.queued, i);
    }
    CHECK(!pws_engine_take_event(&r.engine));
    pws_engine_wake(&r.engine);
    CHECK(!pws_engine_take_event(&r.engine));
    peer_connect(&p, &r, 0);
    CHECK(!pws_engine_take_event(&r.engine));
    r.engine.waiting = false;
    CHECK_EQ(pws_engine_poll(&r.engine, 1, 0), 1);
    r.serve = true;
    for (unsigned i = 0; i < 2; i++) {
        CHECK_EQ(peer_response(&peers[i]), 200);
        CHECK_BODY(&peers[i], "/beside");
    }
    peer_close(&p);
    close_peers(2);
}

TEST(a_pipe_ends_a_wait)
{
    int ends[2];

    CHECK_EQ(pipe2(ends, O_NONBLOCK), 0);
    rig_start(&r);
    CHECK_EQ(pws_poller_add_pipe(&r.engine.poller, ends[0]), 0);
    CHECK_EQ(write(ends[1], "x", 1), 1);
    CHECK_EQ(pws_engine_poll(&r.engine, 1, 10000), 0);
    CHECK(r.engine.poller.woken);
    CHECK_EQ(pws_engine_poll(&r.engine, 1, 0), 0);
    CHECK(!r.engine.poller.woken);
    rig_close(&r);
    close(ends[0]);
    close(ends[1]);
}

/* Requests for these targets wait; one after the other, since they are queued in turns.
 */
static void
queue_three(void)
{
    static const char *const targets[] = {"/a", "/b", "/c"};

    for (int i = 0; i < 3; i++) {
        peer_connect(&peers[i], &r, 0);
        peer_send(&peers[i], request("GET", targets[i], ""));
        while (r.engine.queued < (uint32_t)i + 1) {
            CHECK_EQ(pws_engine_relieve(&r.engine, 2), 0);
        }
    }
}

TEST(who_waits_in_the_queue_for_too_long_is_turned_away)
{
    pws_exchange *x;

    rig_prepare(&r);
    r.config.queue_timeout_ms = 60000;
    rig_open(&r);
    queue_three();
    for (pws_exchange *at = r.engine.queue_first; at != NULL; at = at->next) {
        CHECK(r.engine.clock.now_ms - at->queued_ms < 60000);
    }
    /* The middle one, then the last, so that the queue is mended in all places. */
    for (int i = 1; i < 3; i++) {
        x = i == 1 ? r.engine.queue_first->next : r.engine.queue_last;
        x->queued_ms -= 60000;
        r.engine.queue_look_ms = 0;
        CHECK_EQ(pws_engine_relieve(&r.engine, 0), 0);
        CHECK_EQ(peer_response(&peers[i]), 503);
        CHECK(strstr(peers[i].in, "Retry-After: ") != NULL);
    }
    CHECK_EQ(r.engine.queued, 1);
    rig_reply(rig_request(&r), "a");
    CHECK_EQ(peer_response(&peers[0]), 200);
    close_peers(3);
}
