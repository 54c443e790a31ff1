/* Connections: every state from accept to close, against a real engine. */
#include "peer.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/forks.h"
#include "engine/io.h"

static rig r;
static peer p, q;

static void
start_serving(void)
{
    rig_start(&r);
    r.serve = true;
}

/* The client has ended: the engine must be as it was before it came. */
static void
finish(void)
{
    peer_close(&p);
    UNTIL(&r, pws_engine_open(&r.engine) == 0);
    rig_close(&r);
}

static const char TWO[] =
    "POST /one HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello"
    "GET /two HTTP/1.1\r\nHost: x\r\n\r\n";

TEST(a_request_is_the_same_in_any_split)
{
    start_serving();
    peer_connect(&p, &r, 0);
    for (size_t cut = 1; cut < sizeof(TWO) - 1; cut++) {
        unsigned before = r.served;

        peer_send_bytes(&p, TWO, cut);
        rig_step(&r, rig_deadline());
        peer_send_bytes(&p, TWO + cut, sizeof(TWO) - 1 - cut);
        CHECK_EQ(peer_response(&p), 200);
        CHECK_BODY(&p, "/one");
        CHECK_EQ(peer_response(&p), 200);
        CHECK_BODY(&p, "/two");
        CHECK_EQ(r.served, before + 2);
    }
    finish();
}

TEST(a_request_may_come_byte_by_byte)
{
    start_serving();
    peer_connect(&p, &r, 0);
    for (size_t i = 0; i < sizeof(TWO) - 1; i++) {
        peer_send_bytes(&p, TWO + i, 1);
        rig_step(&r, rig_deadline());
    }

    CHECK_EQ(peer_response(&p), 200);
    CHECK_BODY(&p, "/one");
    CHECK_EQ(peer_response(&p), 200);
    CHECK_BODY(&p, "/two");
    finish();
}

TEST(an_idle_connection_owns_no_exchange)
{
    start_serving();
    peer_connect(&p, &r, 0);
    UNTIL(&r, rig_in_state(&r, PWS_CONN_IDLE));
    CHECK(rig_conn(&r)->x == NULL);
    for (int i = 0; i < 3; i++) {
        peer_send(&p, request("GET", "/a", ""));
        CHECK_EQ(peer_response(&p), 200);
        UNTIL(&r, rig_in_state(&r, PWS_CONN_IDLE));
        CHECK(rig_conn(&r)->x == NULL);
    }
    finish();
}

TEST(a_part_of_a_head_keeps_little_memory)
{
    start_serving();
    peer_connect(&p, &r, 0);
    peer_send(&p, "GET / HT");
    UNTIL(&r, rig_in_state(&r, PWS_CONN_HEAD));

    CHECK(rig_conn(&r)->x->in_room <= 4096);
    finish();
}

TEST(a_half_closed_client_gets_its_answer)
{
    start_serving();
    peer_connect(&p, &r, 0);
    peer_send(&p, request("GET", "/a", ""));
    shutdown(p.fd, SHUT_WR);
    CHECK_EQ(peer_response(&p), 200);
    peer_check_closed(&p);
    finish();
}

TEST(a_client_that_half_closes_later_is_closed)
{
    start_serving();
    peer_connect(&p, &r, 0);
    peer_send(&p, request("GET", "/a", ""));
    CHECK_EQ(peer_response(&p), 200);
    UNTIL(&r, rig_in_state(&r, PWS_CONN_IDLE));
    shutdown(p.fd, SHUT_WR);
    peer_check_closed(&p);
    finish();
}

TEST(a_client_that_half_closes_while_the_app_runs_gets_its_answer)
{
    pws_exchange *x;

    rig_start(&r);
    peer_connect(&p, &r, 0);
    UNTIL(&r, rig_in_state(&r, PWS_CONN_IDLE));
    peer_send(&p, request("GET", "/a", ""));
    x = rig_request(&r);
    shutdown(p.fd, SHUT_WR);
    UNTIL(&r, (atomic_load(&rig_conn(&r)->events) & PWS_PEER_DONE) != 0);
    rig_answer(x);
    r.serve = true;
    CHECK_EQ(peer_response(&p), 200);
    peer_check_closed(&p);
    finish();
}

TEST(a_client_that_half_closes_in_a_head_is_closed)
{
    start_serving();
    peer_connect(&p, &r, 0);
    peer_send(&p, "GET / HTTP/1.1\r\n");
    UNTIL(&r, rig_in_state(&r, PWS_CONN_HEAD));
    shutdown(p.fd, SHUT_WR);
    peer_check_closed(&p);
    finish();
}

TEST(a_client_that_half_closes_in_a_body_is_refused)
{
    start_serving();
    peer_connect(&p, &r, 0);
    peer_send(&p, request("POST", "/a", "Content-Length: 9\r\n"));
    UNTIL(&r, rig_in_state(&r, PWS_CONN_BODY));
    peer_send(&p, "123");
    shutdown(p.fd, SHUT_WR);
    CHECK_EQ(peer_response(&p), 400);
    peer_check_closed(&p);
    CHECK_EQ(r.served, 0);
    finish();
}

/* Bring the first connection into `state`. */
static pws_exchange *
reach(pws_conn_state state)
{
    static char big[8 << 20];
    pws_exchange *x = NULL;

    peer_connect(&p, &r, 0);
    UNTIL(&r, rig_in_state(&r, PWS_CONN_IDLE));
    if (state == PWS_CONN_IDLE) {
        return NULL;
    }
    if (state == PWS_CONN_HEAD) {
        peer_send(&p, "GET / HTTP");
    }
    else if (state == PWS_CONN_BODY) {
        peer_send(&p, request("POST", "/", "Content-Length: 400000\r\n"));
    }
    else if (state == PWS_CONN_LINGER) {
        peer_send(&p, "nonsense\r\n\r\n");
    }
    else {
        peer_send(&p, request("GET", "/", ""));
    }
    if (state == PWS_CONN_APP || state == PWS_CONN_SENDING) {
        x = rig_request(&r);
    }
    if (state == PWS_CONN_SENDING) {
        rig_begin(x, "200 OK", sizeof(big));
        CHECK_EQ(pws_exchange_write(x, big, sizeof(big), NULL), 0);
        CHECK_EQ(pws_exchange_finish(x), 0);
        pws_exchange_done(x);
    }
    UNTIL(&r, rig_in_state(&r, state));
    return x;
}

static const pws_conn_state STATES[] = {
    PWS_CONN_IDLE, PWS_CONN_HEAD,    PWS_CONN_BODY,  PWS_CONN_QUEUED,
    PWS_CONN_APP,  PWS_CONN_SENDING, PWS_CONN_LINGER};

static void
leave_in_every_state(void (*leave)(peer *))
{
    for (size_t i = 0; i < sizeof(STATES) / sizeof(STATES[0]); i++) {
        pws_exchange *x;

        rig_start(&r);
        x = reach(STATES[i]);
        leave(&p);
        if (STATES[i] == PWS_CONN_APP) {
            UNTIL(&r, atomic_load(&rig_conn(&r)->events) != 0);
            rig_answer(x);
        }
        r.serve = true;
        UNTIL(&r, pws_engine_open(&r.engine) == 0);
        rig_close(&r);
    }
}

TEST(a_client_may_reset_in_every_state)
{
    leave_in_every_state(peer_reset);
}

TEST(a_client_may_close_in_every_state)
{
    leave_in_every_state(peer_close);
}

TEST(the_engine_may_close_in_every_state)
{
    for (size_t i = 0; i < sizeof(STATES) / sizeof(STATES[0]); i++) {
        rig_start(&r);
        (void)reach(STATES[i]);
        rig_close(&r);
        peer_close(&p);
    }
}

/* What a queued request's client has left behind is not run. */
TEST(a_request_whose_client_has_reset_is_not_handed_out)
{
    rig_start(&r);
    (void)reach(PWS_CONN_QUEUED);
    peer_reset(&p);
    UNTIL(&r, (atomic_load(&rig_conn(&r)->events) & PWS_BROKEN) != 0);

    CHECK(pws_engine_next(&r.engine) == NULL);
    CHECK_EQ(pws_engine_open(&r.engine), 0);
    rig_close(&r);
}

TEST(what_comes_behind_a_refused_request_is_thrown_away)
{
    static char flood[1 << 20];

    start_serving();
    peer_connect(&p, &r, 0);
    peer_send(&p, "GET / HTTP/3.0\r\nHost: x\r\n\r\n");
    peer_send(&p, request("GET", "/not-this", ""));
    peer_send_bytes(&p, flood, sizeof(flood));
    CHECK_EQ(peer_response(&p), 505);
    UNTIL(&r, (peer_receive(&p), p.eof));
    CHECK(rig_in_state(&r, PWS_CONN_LINGER));
    peer_send_bytes(&p, flood, sizeof(flood));
    CHECK_EQ(r.served, 0);
    peer_close(&p);
    finish();
}

TEST(answers_before_a_refusal_are_sent_too)
{
    start_serving();
    peer_connect(&p, &r, 0);
    peer_send(&p, "GET /a HTTP/1.1\r\nHost: x\r\n\r\nGET /b HTTP/1.1\r\n\r\n");

    CHECK_EQ(peer_response(&p), 200);
    CHECK_EQ(peer_response(&p), 400);
    peer_check_closed(&p);
    finish();
}

TEST(http_1_0_and_connection_close_end_the_connection)
{
    start_serving();
    peer_connect(&p, &r, 0);
    peer_send(&p, "GET /a HTTP/1.0\r\n\r\n");
    CHECK_EQ(peer_response(&p), 200);
    peer_check_closed(&p);
    peer_close(&p);

    peer_connect(&p, &r, 0);
    peer_send(&p, request("GET", "/b", "Connection: close\r\n"));
    CHECK_EQ(peer_response(&p), 200);
    peer_check_closed(&p);
    finish();
}

/* Its registration fails while it is on its way to idle with something noted. */
TEST(a_connection_that_cannot_be_watched_is_closed_once)
{
    char *padded = malloc(PWS_BLOCK_SIZE);
    int watched;

    rig_start(&r);
    r.config.rules.field_size_max = 70000;
    peer_connect(&p, &r, 0);
    sprintf(padded, "GET / HTTP/1.1\r\nHost: x\r\nX: %*s", (int)(PWS_BLOCK_SIZE - 31),
            "y");
    memcpy(padded + PWS_BLOCK_SIZE - 4, "\r\n\r\n", 4);
    peer_send_bytes(&p, padded, PWS_BLOCK_SIZE);
    free(padded);
    rig_answer(rig_request(&r));
    CHECK(!rig_conn(&r)->polled);
    watched = r.engine.poller.fd;
    r.engine.poller.fd = -1;
    CHECK(pws_engine_next(&r.engine) == NULL);
    r.engine.poller.fd = watched;
    CHECK_EQ(pws_engine_open(&r.engine), 0);
    for (int i = 0; i < 3; i++) {
        rig_step(&r, rig_deadline());
    }
    finish();
}

/* An app's child holds a copy of the client's socket: closing must end it all the same.
 */
static void
check_end_in_spite_of_copies(bool reset)
{
    int gate[2], status;
    pws_exchange *x;
    pid_t child;

    CHECK_EQ(pipe(gate), 0);
    pws_forks_watch();
    rig_start(&r);
    peer_connect(&p, &r, 0);
    peer_send(&p, reset ? "GET / HTTP/1.0\r\n\r\n"
                        : request("GET", "/", "Connection: close\r\n"));
    x = rig_request(&r);
    child = fork();
    if (child == 0) {
        char byte;

        close(gate[1]);
        _exit(read(gate[0], &byte, 1) == 0 ? 0 : 1);
    }
    CHECK(child > 0);
    if (reset) {
        rig_begin(x, "200 OK", PWS_LENGTH_UNKNOWN);
        CHECK_EQ(pws_exchange_write(x, "part", 4, NULL), 0);
        pws_exchange_cut(x);
        pws_exchange_done(x);
        r.serve = true;
        peer_check_reset(&p);
    }
    else {
        rig_answer(x);
        r.serve = true;
        CHECK_EQ(peer_response(&p), 200);
        peer_check_closed(&p);
    }
    CHECK_EQ(pws_engine_open(&r.engine), 0);
    close(gate[0]);
    close(gate[1]);
    CHECK_EQ(waitpid(child, &status, 0), child);
    CHECK_EQ(status, 0);
    finish();
}

/* A child of the app lets go of all that is its parent's, and hurts nobody. */
TEST(a_child_abandons_the_engine)
{
    pws_exchange *x;
    pid_t child;
    int status;

    rig_start(&r);
    peer_connect(&q, &r, 0);
    peer_send(&q, "GET / HT");
    UNTIL(&r, rig_in_state(&r, PWS_CONN_HEAD));
    peer_connect(&p, &r, 0);
    peer_send(&p, request("GET", "/", ""));
    x = rig_request(&r);
    child = fork();
    if (child == 0) {
        const char *why;

        pws_engine_abandon(&r.engine);
        status = pws_exchange_start(x, PWS_SLICE("200 OK"), NULL, 0, 5, &why);
        (void)pws_exchange_write(x, "child", 5, NULL);
        _exit(status == 0 && pws_exchange_flush(x) == PWS_IO_ERROR ? 0 : 1);
    }
    CHECK_EQ(waitpid(child, &status, 0), child);
    CHECK_EQ(status, 0);
    rig_reply(x, "parent");
    r.serve = true;
    CHECK_EQ(peer_response(&p), 200);
    CHECK_BODY(&p, "parent");
    peer_send(&q, "TP/1.1\r\nHost: x\r\n\r\n");
    CHECK_EQ(peer_response(&q), 200);
    peer_close(&q);
    finish();
}

TEST(closing_ends_a_connection_that_a_child_has_a_copy_of)
{
    check_end_in_spite_of_copies(false);
}

TEST(cutting_resets_a_connection_that_a_child_has_a_copy_of)
{
    check_end_in_spite_of_copies(true);
}
