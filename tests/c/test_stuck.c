/* engine/relief.c and engine/give_up.c: an engine whose app does not come back, with a
 * thread that polls in its place. */
#include "peer.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "engine/io.h"
#include "engine/mind.h"
#include "engine/relief.h"

enum { DRAIN = 1, GIVE_UP = 8 };

static rig r;
static peer p, other;
static pws_cell cell;
static int news[2], letters[2];

/* The rig is prepared. A worker with a master, which is the test. */
static void
start(void)
{
    rig_open(&r);
    pws_cell_assign(&cell);
    pws_cell_ready(&cell);
    CHECK_EQ(pipe2(news, O_NONBLOCK), 0);
    CHECK_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, letters), 0);
    CHECK_EQ(pws_poller_add_letters(&r.engine.poller, letters[0]), 0);
    r.engine.relief.terms = (pws_relief_terms){
        .cell = &cell,
        .news_fd = news[1],
        .drain_letters = DRAIN,
        .give_up_letters = GIVE_UP,
    };
    CHECK_EQ(pws_relief_start(&r.engine.relief, &r.engine), 0);
    pws_lease_take(&r.engine.lease);
}

static void
finish(void)
{
    pws_lease_drop(&r.engine.lease);
    pws_relief_end(&r.engine.relief);
    r.serve = true;
    UNTIL(&r, pws_engine_open(&r.engine) == 0);
    rig_close(&r);
    for (int i = 0; i < 2; i++) {
        close(news[i]);
        close(letters[i]);
    }
}

/* Into the app, as an executor goes there, and back. */
static void
enter(pws_exchange *x)
{
    pws_cell_begin(&cell);
    pws_hand_begin(&cell.hands[0], pws_request_slice(&x->request, x->request.method),
                   pws_request_slice(&x->request, x->request.target),
                   pws_clock_now_ms());
    pws_relief_enter(&r.engine.relief, x);
    pws_lease_drop(&r.engine.lease);
}

static void
leave(void)
{
    pws_relief_leave(&r.engine.relief);
    pws_hand_end(&cell.hands[0]);
    pws_cell_end(&cell);
    if (!pws_lease_try_take(&r.engine.lease)) {
        pws_relief_hurry(&r.engine.relief);
        pws_lease_take(&r.engine.lease);
    }
}

/* Wait, with no turn of the engine by this thread. */
#define AWAIT(condition)                                                               \
    for (int64_t until_ = rig_deadline(); !(condition);) {                             \
        CHECK(poll(NULL, 0, 2) == 0 && rig_deadline() - until_ < 15000);               \
    }

#define AWAIT_RELIEF() AWAIT(atomic_load(&r.engine.relief.word) == PWS_RELIEF_POLLS)

static void
await_bytes(int fd)
{
    struct pollfd event = {.fd = fd, .events = POLLIN};

    CHECK_EQ(poll(&event, 1, 15000), 1);
}

/* One request of `p` is in the app. */
static pws_exchange *
get_stuck(void)
{
    pws_exchange *x;

    peer_connect(&p, &r, 0);
    peer_send(&p, request("GET", "/stuck?here", ""));
    x = rig_request(&r);
    enter(x);
    return x;
}

static void
send_text(const peer *to, const char *text)
{
    CHECK_EQ(send(to->fd, text, strlen(text), 0), strlen(text));
}

TEST(a_slow_reader_gets_the_rest_while_the_app_is_stuck)
{
    enum { LENGTH = 8 * 1024 * 1024 };
    static char body[LENGTH], in[65536];
    size_t got = 0;
    pws_exchange *x;

    rig_prepare(&r);
    start();
    peer_connect(&other, &r, 0);
    peer_send(&other, request("GET", "/", "Connection: close\r\n"));
    x = rig_request(&r);
    rig_begin(x, "200 OK", LENGTH);
    for (size_t at = 0; at < LENGTH; at += 16384) {
        CHECK_EQ(pws_exchange_write(x, body + at, 16384, NULL), 0);
    }
    CHECK_EQ(pws_exchange_finish(x), 0);
    pws_exchange_done(x);
    UNTIL(&r, rig_in_state(&r, PWS_CONN_SENDING));
    x = get_stuck();
    while (got < LENGTH) {
        ssize_t n;

        await_bytes(other.fd);
        n = recv(other.fd, in, sizeof(in), 0);
        CHECK(n > 0);
        got += (size_t)n;
    }
    leave();
    rig_reply(x, "late");
    CHECK_EQ(peer_response(&p), 200);
    peer_close(&p);
    peer_close(&other);
    finish();
}

TEST(requests_that_complete_meanwhile_wait_for_the_app)
{
    pws_exchange *x;

    rig_prepare(&r);
    start();
    peer_connect(&other, &r, 0);
    peer_send(&other, "POST /next HTTP/1.1\r\nHost: x\r\n");
    UNTIL(&r, rig_in_state(&r, PWS_CONN_HEAD));
    x = get_stuck();
    AWAIT_RELIEF();
    send_text(&other, "Content-Length: 3\r\n\r\nabc");
    AWAIT(atomic_load(&cell.relieved));
    leave();
    rig_reply(x, "late");
    CHECK_EQ(peer_response(&p), 200);
    rig_answer(rig_request(&r));
    CHECK_EQ(peer_response(&other), 200);
    CHECK_BODY(&other, "/next");
    CHECK(!atomic_load(&cell.relieved));
    peer_close(&p);
    peer_close(&other);
    finish();
}

TEST(a_head_that_does_not_come_is_answered_while_the_app_is_stuck)
{
    pws_exchange *x;

    rig_prepare(&r);
    r.config.header_timeout_ms = 300;
    start();
    peer_connect(&other, &r, 0);
    peer_send(&other, "GET / HT");
    UNTIL(&r, rig_in_state(&r, PWS_CONN_HEAD));
    x = get_stuck();
    await_bytes(other.fd);
    leave();
    CHECK_EQ(peer_response(&other), 408);
    rig_reply(x, "late");
    CHECK_EQ(peer_response(&p), 200);
    peer_close(&p);
    peer_close(&other);
    finish();
}

/* Quick calls for a long queue: none of them is relieved, and nobody polls. */
TEST(a_long_queue_lets_others_move_between_its_requests)
{
    peer third;
    pws_exchange *x;

    rig_prepare(&r);
    start();
    peer_connect(&other, &r, 0);
    peer_send(&other, "GET / HT");
    UNTIL(&r, rig_in_state(&r, PWS_CONN_HEAD));
    peer_connect(&p, &r, 0);
    peer_connect(&third, &r, 0);
    peer_send(&p, request("GET", "/1", ""));
    peer_send(&third, request("GET", "/2", ""));
    UNTIL(&r, r.engine.queued == 2);
    send_text(&other, "TP/1.1\r\nHost: x\r\n\r\n");
    r.engine.clock.now_ms = pws_clock_now_ms() + 60000;
    pws_relief_catch_up(&r.engine.relief);
    CHECK_EQ(r.engine.queued, 2); /* a turn has just been */
    r.engine.clock.now_ms = pws_clock_now_ms() - 200;
    AWAIT((pws_relief_catch_up(&r.engine.relief), r.engine.queued == 3));
    CHECK(r.engine.accepting);
    r.engine.clock.now_ms = pws_clock_now_ms() - 200;
    pws_poller_wake(&r.engine.poller);
    pws_relief_catch_up(&r.engine.relief);
    CHECK(pws_relief_take_woken(&r.engine.relief));
    while ((x = pws_engine_next(&r.engine)) != NULL) {
        rig_answer(x);
    }
    CHECK_EQ(peer_response(&p), 200);
    CHECK_EQ(peer_response(&third), 200);
    CHECK_EQ(peer_response(&other), 200);
    peer_close(&p);
    peer_close(&third);
    peer_close(&other);
    finish();
}

TEST(connections_are_left_to_others_while_the_app_is_stuck)
{
    pws_exchange *x;
    uint64_t accepted;

    rig_prepare(&r);
    start();
    x = get_stuck();
    AWAIT_RELIEF();
    peer_connect(&other, &r, 0);
    send_text(&other, "GET /new HTTP/1.1\r\nHost: x\r\n\r\n");
    pws_poller_wake(&r.engine.poller); /* turns of the relief, not only one */
    AWAIT_RELIEF();
    leave();
    accepted = r.engine.accepted;
    CHECK_EQ(accepted, 1);
    rig_reply(x, "late");
    rig_answer(rig_request(&r));
    CHECK_EQ(peer_response(&other), 200);
    CHECK_BODY(&other, "/new");
    CHECK_EQ(peer_response(&p), 200);
    peer_close(&p);
    peer_close(&other);
    finish();
}

/* A listener that is put back is served as before, be there room or not. */
TEST(a_full_engine_takes_new_clients_after_the_app_was_stuck)
{
    pws_exchange *x;

    rig_prepare(&r);
    r.config.worker_connections = 1;
    start();
    x = get_stuck();
    AWAIT_RELIEF();
    leave();
    rig_reply(x, "late");
    CHECK_EQ(peer_response(&p), 200);
    UNTIL(&r, rig_in_state(&r, PWS_CONN_IDLE));
    rig_conn(&r)->since_ms -= 5000; /* it can give way */
    peer_connect(&other, &r, 0);
    peer_send(&other, request("GET", "/new", ""));
    UNTIL(&r, r.engine.accepted == 2);
    rig_answer(rig_request(&r));
    CHECK_EQ(peer_response(&other), 200);
    peer_close(&p);
    peer_close(&other);
    finish();
}

TEST(accepting_that_has_failed_before_goes_on_after_the_app_was_stuck)
{
    pws_exchange *x;

    rig_prepare(&r);
    start();
    peer_connect(&p, &r, 0);
    peer_send(&p, request("GET", "/stuck", ""));
    x = rig_request(&r);
    r.engine.accept_failing = true; /* the last one; its pause is over */
    CHECK(r.engine.accepting);
    enter(x);
    AWAIT_RELIEF();
    leave();
    rig_reply(x, "late");
    peer_connect(&other, &r, 0);
    peer_send(&other, request("GET", "/new", ""));
    UNTIL(&r, r.engine.accepted == 2);
    rig_answer(rig_request(&r));
    CHECK_EQ(peer_response(&other), 200);
    CHECK_EQ(peer_response(&p), 200);
    peer_close(&p);
    peer_close(&other);
    finish();
}

TEST(a_request_that_takes_too_long_is_answered_with_504)
{
    const char *why = "";
    pws_hand_view view;
    pws_exchange *x;
    char byte;

    rig_prepare(&r);
    r.config.request_timeout_ms = 300;
    start();
    x = get_stuck();
    await_bytes(p.fd);
    await_bytes(news[0]);
    CHECK_EQ(read(news[0], &byte, 1), 1);
    CHECK(atomic_load(&cell.leaving));
    CHECK(pws_hand_look(&cell.hands[0], pws_clock_now_ms(), &view));
    CHECK(view.number != 0 && view.overdue == view.number && view.took_ms >= 300);
    CHECK_BYTES(view.text, strlen(view.text), "GET /stuck?here");
    CHECK_EQ(pws_exchange_start(x, PWS_SLICE("200 OK"), NULL, 0, 4, &why), -1);
    CHECK(why == NULL);
    CHECK_EQ(pws_exchange_pending(x), 0);
    CHECK_EQ(pws_exchange_flush(x), PWS_IO_ERROR);
    leave();
    pws_exchange_done(x);
    CHECK_EQ(peer_response(&p), 504);
    peer_check_closed(&p);
    peer_close(&p);
    finish();
}

TEST(an_answer_that_has_begun_is_only_told_of)
{
    pws_exchange *x;

    rig_prepare(&r);
    r.config.request_timeout_ms = 200;
    start();
    peer_connect(&p, &r, 0);
    peer_send(&p, request("GET", "/", ""));
    x = rig_request(&r);
    rig_begin(x, "200 OK", 4);
    enter(x);
    AWAIT(atomic_load(&cell.hands[0].overdue) != 0);
    CHECK_EQ(pws_exchange_write(x, "late", 4, NULL), 0);
    CHECK_EQ(pws_exchange_finish(x), 0);
    leave();
    pws_exchange_done(x);
    CHECK_EQ(peer_response(&p), 200);
    peer_close(&p);
    finish();
}

TEST(a_slow_request_is_told_of_once_and_goes_on)
{
    pws_exchange *x;
    char bytes[8];

    rig_prepare(&r);
    r.config.slow_request_ms = 150;
    start();
    x = get_stuck();
    await_bytes(news[0]);
    CHECK_EQ(atomic_load(&cell.hands[0].slow), atomic_load(&cell.hands[0].sequence));
    pws_poller_wake(&r.engine.poller); /* it looks once more */
    AWAIT_RELIEF();
    leave();
    CHECK_EQ(read(news[0], bytes, sizeof(bytes)), 1);
    CHECK(!atomic_load(&cell.leaving));
    rig_reply(x, "slow");
    CHECK_EQ(peer_response(&p), 200);
    peer_close(&p);
    finish();
}

/* A wait for the client is the client's time, and ends the relief's watch. */
TEST(time_that_is_waited_for_the_client_does_not_count)
{
    pws_exchange *x;

    rig_prepare(&r);
    r.config.request_timeout_ms = 400;
    start();
    x = get_stuck();
    AWAIT_RELIEF();
    pws_relief_leave(&r.engine.relief);
    pws_hand_pause(&cell.hands[0], pws_clock_now_ms());
    pws_relief_hurry(&r.engine.relief);
    pws_lease_take(&r.engine.lease);
    CHECK_EQ(rig_wait(x, PWS_PEER_DONE, 500), 0);
    pws_hand_resume(&cell.hands[0], pws_clock_now_ms());
    pws_relief_enter(&r.engine.relief, x);
    pws_lease_drop(&r.engine.lease);
    CHECK_EQ(atomic_load(&cell.hands[0].overdue), 0);
    AWAIT(atomic_load(&cell.hands[0].overdue) != 0);
    leave();
    pws_exchange_done(x);
    CHECK_EQ(peer_response(&p), 504);
    peer_close(&p);
    finish();
}

TEST(who_is_told_to_retire_says_close_at_once)
{
    pws_exchange *x;

    rig_prepare(&r);
    start();
    x = get_stuck();
    AWAIT_RELIEF();
    CHECK_EQ(write(letters[1], "\1", 1), 1);
    AWAIT(atomic_load(&r.engine.draining));
    rig_begin(x, "200 OK", 0);
    CHECK(!x->keep);
    CHECK_EQ(pws_exchange_finish(x), 0);
    leave();
    CHECK_EQ(r.engine.poller.letters, DRAIN); /* for the executor */
    pws_exchange_done(x);
    CHECK_EQ(peer_response(&p), 200);
    peer_close(&p);
    finish();
}

/* What the master says of a request. */
static void
give_up(uint64_t number)
{
    atomic_store(&cell.hands[0].given_up, number);
    CHECK_EQ(write(letters[1], "\10", 1), 1);
}

TEST(an_order_for_a_request_that_has_ended_gives_no_other_up)
{
    pws_exchange *x;

    rig_prepare(&r);
    start();
    x = get_stuck();
    AWAIT_RELIEF();
    give_up(atomic_load(&cell.hands[0].sequence) - 2);
    AWAIT(atomic_load(&r.engine.draining)); /* it has read that */
    pws_poller_wake(&r.engine.poller);
    AWAIT(poll(&(struct pollfd){.fd = letters[0], .events = POLLIN}, 1, 0) == 0);
    leave();
    CHECK(!pws_exchange_is_taken(x));
    CHECK_EQ(r.engine.poller.letters, 0);
    CHECK(!atomic_load(&cell.deserted));
    rig_reply(x, "late");
    CHECK_EQ(peer_response(&p), 200);
    peer_close(&p);
    finish();
}

TEST(an_order_for_whatever_there_is_gives_it_up)
{
    pws_exchange *x;

    rig_prepare(&r);
    start();
    x = get_stuck();
    give_up(PWS_HAND_ANY);
    await_bytes(p.fd);
    leave();
    CHECK(pws_exchange_is_taken(x));
    pws_exchange_done(x);
    CHECK_EQ(peer_response(&p), 504);
    peer_close(&p);
    finish();
}

TEST(who_will_be_killed_answers_everybody_first)
{
    pws_exchange *x;

    rig_prepare(&r);
    start();
    peer_connect(&other, &r, 0);
    peer_send(&other, "POST /next HTTP/1.1\r\nHost: x\r\n");
    UNTIL(&r, rig_in_state(&r, PWS_CONN_HEAD));
    x = get_stuck();
    AWAIT_RELIEF();
    give_up(atomic_load(&cell.hands[0].sequence));
    await_bytes(p.fd);
    CHECK(!atomic_load(&cell.deserted));
    send_text(&other, "Content-Length: 3\r\n\r\nabc");
    await_bytes(other.fd);
    shutdown(other.fd, SHUT_WR);
    AWAIT(atomic_load(&cell.deserted));
    leave();
    pws_exchange_done(x);
    CHECK_EQ(peer_response(&p), 504);
    CHECK_EQ(peer_response(&other), 503);
    CHECK(memmem(other.head.at, other.head.len, "Retry-After: 1\r\n", 16) != NULL);
    CHECK(memmem(other.head.at, other.head.len, "Connection: close\r\n", 19) != NULL);
    peer_close(&p);
    peer_close(&other);
    finish();
}

TEST(a_wake_up_that_the_relief_takes_is_not_lost)
{
    pws_exchange *x;
    int wake[2];
    char byte;

    rig_prepare(&r);
    start();
    CHECK_EQ(pipe2(wake, O_NONBLOCK), 0);
    CHECK_EQ(pws_poller_add_pipe(&r.engine.poller, wake[0]), 0);
    x = get_stuck();
    AWAIT_RELIEF();
    CHECK_EQ(write(wake[1], "", 1), 1);
    AWAIT(poll(&(struct pollfd){.fd = wake[0], .events = POLLIN}, 1, 0) == 0);
    leave();
    CHECK(pws_relief_take_woken(&r.engine.relief));
    CHECK(!pws_relief_take_woken(&r.engine.relief));
    CHECK_EQ(read(wake[0], &byte, 1), -1);
    rig_reply(x, "late");
    CHECK_EQ(peer_response(&p), 200);
    peer_close(&p);
    finish();
    close(wake[0]);
    close(wake[1]);
}

TEST(a_fork_finds_a_relief_that_does_nothing)
{
    pws_exchange *x;

    rig_prepare(&r);
    start();
    x = get_stuck();
    for (int i = 0; i < 3; i++) {
        AWAIT_RELIEF();
        pws_relief_pause(&r.engine.relief);
        pws_relief_pause(&r.engine.relief); /* two threads fork */
        CHECK(pws_lease_try_take(&r.engine.lease));
        CHECK(atomic_load(&r.engine.relief.word) != PWS_RELIEF_POLLS);
        pws_lease_drop(&r.engine.lease);
        pws_relief_go_on(&r.engine.relief);
        pws_relief_go_on(&r.engine.relief);
    }
    leave();
    rig_reply(x, "late");
    CHECK_EQ(peer_response(&p), 200);
    peer_close(&p);
    finish();
}

TEST(a_relief_that_polls_can_be_ended)
{
    pws_exchange *x;

    rig_prepare(&r);
    start();
    x = get_stuck();
    AWAIT_RELIEF();
    pws_relief_end(&r.engine.relief);
    leave();
    rig_reply(x, "late");
    CHECK_EQ(peer_response(&p), 200);
    peer_close(&p);
    finish();
}

/* The executor comes back at any moment, and gets the lease. */
TEST(the_lease_is_given_back_at_once)
{
    const struct timespec moment = {0, 1000 * 1000};

    rig_prepare(&r);
    r.config.request_timeout_ms = 110; /* some are answered, some are not */
    start();
    for (int i = 0; i < 30; i++) {
        pws_exchange *x = get_stuck();
        bool taken;

        for (int ms = 0; ms < 90 + i; ms++) {
            nanosleep(&moment, NULL);
        }
        leave();
        taken = pws_exchange_is_taken(x);
        if (taken) {
            pws_exchange_done(x);
        }
        else {
            rig_reply(x, "late");
        }
        CHECK_EQ(peer_response(&p), taken ? 504 : 200);
        peer_close(&p);
        UNTIL(&r, pws_engine_open(&r.engine) == 0);
    }
    finish();
}

TEST(quick_calls_are_left_alone)
{
    rig_prepare(&r);
    start();
    peer_connect(&p, &r, 0);
    for (int i = 0; i < 2000; i++) {
        pws_exchange *x;

        peer_send(&p, request("GET", "/quick", ""));
        x = rig_request(&r);
        enter(x);
        leave();
        rig_reply(x, "quick");
        CHECK_EQ(peer_response(&p), 200);
    }
    CHECK(!atomic_load(&cell.leaving));
    peer_close(&p);
    finish();
}
