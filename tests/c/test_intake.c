/* Requests with bodies: where they are kept, how they are read, and streams. */
#include "peer.h"

#include <stdio.h>
#include <stdlib.h>

#include "engine/io.h"

static rig r;
static peer p;
static char data[3 << 20];

static void
prepare(void)
{
    for (size_t i = 0; i < sizeof(data); i++) {
        data[i] = (char)(i * 13 + i / 1009);
    }
    rig_prepare(&r);
}

static void
finish(void)
{
    r.serve = true;
    peer_close(&p);
    UNTIL(&r, pws_engine_open(&r.engine) == 0);
    rig_close(&r);
}

/* Read the whole body, waiting where a stream must, in pieces of up to `step` bytes. */
static void
check_read(pws_exchange *x, size_t len, size_t step)
{
    static char got[sizeof(data) + 1];
    size_t n = 0;
    ssize_t rc;

    while ((rc = pws_exchange_read(x, got + n, step)) != 0) {
        if (rc == PWS_IO_AGAIN) {
            CHECK_EQ(rig_wait(x, PWS_READABLE, 20000), 1);
            continue;
        }
        CHECK(rc > 0);
        n += (size_t)rc;
        CHECK(n <= len);
    }
    CHECK_EQ(n, len);
    CHECK(memcmp(got, data, len) == 0);
}

static void
send_length(size_t len, size_t with_head)
{
    char fields[64], *all = malloc(len + 200);
    size_t head;

    snprintf(fields, sizeof(fields), "Content-Length: %zu\r\n", len);
    head = (size_t)snprintf(all, 200, "%s", request("POST", "/", fields));
    memcpy(all + head, data, len);
    peer_send_bytes(&p, all, head + with_head);
    for (int i = 0; i < 3; i++) {
        rig_step(&r, rig_deadline());
    }
    peer_send_bytes(&p, all + head + with_head, len - with_head);
    free(all);
}

static void
send_chunked(size_t len, size_t chunk)
{
    char line[32];

    peer_send(&p, request("POST", "/", "Transfer-Encoding: chunked\r\n"));
    for (size_t at = 0; at < len; at += chunk) {
        size_t n = len - at < chunk ? len - at : chunk;

        snprintf(line, sizeof(line), "%zx\r\n", n);
        peer_send(&p, line);
        peer_send_bytes(&p, data + at, n);
        peer_send(&p, "\r\n");
    }
    peer_send(&p, "0\r\n\r\n");
}

/* Whatever brought the body, the next request on the connection is understood. */
static void
check_next_request(pws_exchange *x)
{
    rig_answer(x);
    r.serve = true;
    CHECK_EQ(peer_response(&p), 200);
    peer_send(&p, request("GET", "/next", ""));
    CHECK_EQ(peer_response(&p), 200);
    CHECK_BODY(&p, "/next");
    r.serve = false;
}

static const struct {
    size_t len, with_head;
    pws_body_store store;
} LENGTHS[] = {
    {5, 5, PWS_STORE_BUFFER},       {5, 0, PWS_STORE_BUFFER},
    {60000, 100, PWS_STORE_BUFFER}, {65000, 0, PWS_STORE_BUFFER},
    {70000, 0, PWS_STORE_MEMORY},   {200000, 1000, PWS_STORE_MEMORY},
    {300000, 1000, PWS_STORE_FILE}, {sizeof(data), 0, PWS_STORE_FILE},
};

TEST(a_body_of_known_length_is_kept_where_it_fits)
{
    static const size_t steps[] = {7000, 65536};

    for (size_t i = 0; i < sizeof(LENGTHS) / sizeof(LENGTHS[0]); i++) {
        for (int j = 0; j < 2; j++) {
            pws_exchange *x;

            prepare();
            rig_open(&r);
            peer_connect(&p, &r, 0);
            send_length(LENGTHS[i].len, LENGTHS[i].with_head);
            x = rig_request(&r);
            CHECK_EQ(x->body.store, LENGTHS[i].store);
            check_read(x, LENGTHS[i].len, steps[j]);
            check_next_request(x);
            finish();
        }
    }
}

static const struct {
    size_t len, chunk;
    pws_body_store store;
} CHUNKED[] = {
    {200000, 999, PWS_STORE_MEMORY},
    {300000, 4000, PWS_STORE_FILE},
    {sizeof(data), 100000, PWS_STORE_FILE},
};

TEST(a_chunked_body_is_kept_where_it_fits)
{
    for (size_t i = 0; i < sizeof(CHUNKED) / sizeof(CHUNKED[0]); i++) {
        pws_exchange *x;

        prepare();
        rig_open(&r);
        peer_connect(&p, &r, 0);
        send_chunked(CHUNKED[i].len, CHUNKED[i].chunk);
        x = rig_request(&r);
        CHECK_EQ(x->body.store, CHUNKED[i].store);
        check_read(x, CHUNKED[i].len, 65536);
        check_next_request(x);
        finish();
    }
}

TEST(a_chunked_body_that_came_with_its_head_stays_in_the_buffer)
{
    pws_exchange *x;

    prepare();
    memcpy(data, "hello world", 11);
    rig_open(&r);
    peer_connect(&p, &r, 0);
    peer_send(&p, "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
                  "6\r\nhello \r\n5\r\nworld\r\n0\r\n\r\n");
    x = rig_request(&r);
    CHECK_EQ(x->body.store, PWS_STORE_BUFFER);
    check_read(x, 11, 100);
    check_next_request(x);
    finish();
}

TEST(one_of_a_crowd_keeps_what_has_come_and_no_more)
{
    for (size_t i = 0; i < sizeof(LENGTHS) / sizeof(LENGTHS[0]); i++) {
        pws_exchange *x;
        pws_slice target;
        uint32_t came;

        prepare();
        rig_open(&r);
        peer_connect(&p, &r, 0);
        send_length(LENGTHS[i].len, LENGTHS[i].with_head);
        x = rig_request(&r);
        came = x->in_end - x->in_start;
        pws_engine_slim(&r.engine, x);
        CHECK(x->out.block == NULL);
        CHECK(x->in_room == came || came >= PWS_BLOCK_SIZE / 4);
        CHECK_EQ(x->in_end, x->in_start + came);
        target = pws_request_slice(&x->request, x->request.target);
        CHECK_BYTES(target.at, target.len, "/");
        check_read(x, LENGTHS[i].len, 7000);
        check_next_request(x);
        finish();
    }
}

TEST(one_of_a_crowd_keeps_the_next_request_of_its_connection)
{
    pws_exchange *x;

    prepare();
    rig_open(&r);
    peer_connect(&p, &r, 0);
    peer_send(&p, request("GET", "/one", ""));
    peer_send(&p, request("GET", "/two", ""));
    x = rig_request(&r);
    pws_engine_slim(&r.engine, x);
    rig_answer(x);
    r.serve = true;
    CHECK_EQ(peer_response(&p), 200);
    CHECK_EQ(peer_response(&p), 200);
    CHECK_BODY(&p, "/two");
    finish();
}

TEST(without_a_spool_folder_bodies_stay_in_memory_within_a_bound)
{
    pws_exchange *x;

    prepare();
    r.config.spool_dir = NULL;
    rig_open(&r);
    peer_connect(&p, &r, 0);
    send_length(sizeof(data), 0);
    x = rig_request(&r);
    CHECK_EQ(x->body.store, PWS_STORE_MEMORY);
    check_read(x, sizeof(data), 65536);
    rig_answer(x);
    r.serve = true;
    CHECK_EQ(peer_response(&p), 200);
    peer_send(&p, request("POST", "/", "Content-Length: 67108865\r\n"));
    CHECK_EQ(peer_response(&p), 413);
    finish();
}

TEST(a_body_that_cannot_be_stored_is_a_500)
{
    prepare();
    r.config.spool_dir = "/nonexistent";
    rig_open(&r);
    r.serve = true;
    peer_connect(&p, &r, 0);
    send_length(300000, 0);
    CHECK_EQ(peer_response(&p), 500);
    finish();
}

TEST(a_client_that_expects_100_is_invited_when_nothing_of_the_body_has_come)
{
    prepare();
    rig_open(&r);
    r.serve = true;
    peer_connect(&p, &r, 0);
    peer_send(&p,
              request("POST", "/a", "Expect: 100-continue\r\nContent-Length: 3\r\n"));
    CHECK_EQ(peer_response(&p), 100);
    peer_send(&p, "abc");
    CHECK_EQ(peer_response(&p), 200);
    peer_send(&p, "POST /b HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\n"
                  "Content-Length: 3\r\n\r\nabc");
    CHECK_EQ(peer_response(&p), 200);
    finish();
}

TEST(an_invitation_waits_for_the_answers_before_it)
{
    prepare();
    rig_open(&r);
    r.serve = true;
    peer_connect(&p, &r, 0);
    peer_send(&p, "GET /a HTTP/1.1\r\nHost: x\r\n\r\nPOST /b HTTP/1.1\r\nHost: x\r\n"
                  "Expect: 100-continue\r\nContent-Length: 3\r\n\r\n");
    CHECK_EQ(peer_response(&p), 200);
    CHECK_EQ(peer_response(&p), 100);
    peer_send(&p, "abc");
    CHECK_EQ(peer_response(&p), 200);
    CHECK_BODY(&p, "/b");
    finish();
}

static pws_exchange *
start_stream(void)
{
    prepare();
    r.config.request_buffering = false;
    rig_open(&r);
    peer_connect(&p, &r, 0);
    return NULL;
}

TEST(a_streamed_body_is_read_as_it_comes)
{
    pws_exchange *x;
    char got[8];

    start_stream();
    peer_send(&p, request("POST", "/", "Content-Length: 6\r\n"));
    x = rig_request(&r);
    CHECK_EQ(pws_exchange_read(x, got, 8), PWS_IO_AGAIN);
    peer_send(&p, "abc");
    CHECK_EQ(rig_wait(x, PWS_READABLE, 20000), 1);
    CHECK_EQ(pws_exchange_read(x, got, 8), 3);
    CHECK_EQ(pws_exchange_read(x, got, 8), PWS_IO_AGAIN);
    peer_send(&p, "def");
    CHECK_EQ(rig_wait(x, PWS_READABLE, 20000), 1);
    CHECK_EQ(pws_exchange_read(x, got, 2), 2);
    CHECK_EQ(pws_exchange_read(x, got, 2), 1);
    CHECK_EQ(pws_exchange_read(x, got, 2), 0);
    check_next_request(x);
    finish();
}

TEST(a_long_body_streams_whole)
{
    for (int chunked = 0; chunked < 2; chunked++) {
        pws_exchange *x;

        start_stream();
        /* Little enough for the socket's buffers: nobody reads while it is sent. */
        if (chunked) {
            send_chunked(60000, 777);
        }
        else {
            send_length(60000, 10);
        }
        x = rig_request(&r);
        CHECK_EQ(x->body.store, PWS_STORE_STREAM);
        check_read(x, 60000, 5000);
        check_next_request(x);
        finish();
    }
}

TEST(what_an_app_has_not_read_of_a_stream_is_passed_over)
{
    start_stream();
    send_length(5000, 100);
    check_next_request(rig_request(&r));
    finish();
}

TEST(an_app_that_leaves_too_much_unread_ends_the_connection)
{
    start_stream();
    peer_send(&p, request("POST", "/", "Content-Length: 3000000\r\n"));
    rig_answer(rig_request(&r));
    CHECK(pws_engine_next(&r.engine) == NULL);
    peer_send_bytes(&p, data, 3000000);
    CHECK_EQ(peer_response(&p), 200);
    peer_check_closed(&p);
    finish();
}

/* After a chunk that makes no sense nothing may be read as a request. */
TEST(nothing_behind_a_malformed_streamed_body_is_interpreted)
{
    static const char *const bodies[] = {
        "3\r\nabcX\r\n0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n",
        "3\r\nabc\r\nzz\r\n0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n",
        "3;a=\"\x01\"\r\n0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n",
        "3\n0\r\n\r\n0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n",
    };

    for (size_t i = 0; i < sizeof(bodies) / sizeof(bodies[0]); i++) {
        pws_exchange *x;
        pws_slice bytes;
        int rc;

        start_stream();
        peer_send(&p, request("POST", "/", "Transfer-Encoding: chunked\r\n"));
        x = rig_request(&r);
        peer_send(&p, bodies[i]);
        while ((rc = pws_exchange_peek(x, &bytes)) == 1 || rc == PWS_IO_AGAIN) {
            if (rc == 1) {
                pws_exchange_take(x, bytes.len);
            }
            else {
                CHECK_EQ(rig_wait(x, PWS_READABLE, 20000), 1);
            }
        }
        CHECK_EQ(rc, PWS_IO_ERROR);
        CHECK_EQ(pws_exchange_peek(x, &bytes), PWS_IO_ERROR);
        rig_answer(x);
        r.serve = true;
        CHECK_EQ(peer_response(&p), 200);
        CHECK_BODY(&p, "/");
        peer_check_closed(&p);
        CHECK_EQ(r.served, 0);
        finish();
    }
}

/* Behind the streamed body stands the next request; of a refused one nothing was sent.
 */
TEST(a_stream_ends_where_the_next_request_begins)
{
    start_stream();
    peer_send(&p, "POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc"
                  "GET /b HTTP/1.1\r\nHost: x\r\n\r\n");
    rig_answer(rig_request(&r));
    r.serve = true;
    CHECK_EQ(peer_response(&p), 200);
    CHECK_EQ(peer_response(&p), 200);
    CHECK_BODY(&p, "/b");
    finish();
}

TEST(a_body_that_was_never_invited_ends_the_connection)
{
    start_stream();
    peer_send(&p,
              request("POST", "/", "Expect: 100-continue\r\nContent-Length: 3\r\n"));
    rig_answer(rig_request(&r));
    r.serve = true;
    CHECK_EQ(peer_response(&p), 200);
    peer_check_closed(&p);
    finish();
}

TEST(a_body_and_the_next_request_may_come_in_one_piece)
{
    prepare();
    rig_open(&r);
    r.serve = true;
    peer_connect(&p, &r, 0);
    peer_send(&p, request("POST", "/a", "Content-Length: 3\r\n"));
    UNTIL(&r, rig_in_state(&r, PWS_CONN_BODY));
    peer_send(&p, "abcGET /b HTTP/1.1\r\nHost: x\r\n\r\nGET /c HTTP/1.1\r\n");
    CHECK_EQ(peer_response(&p), 200);
    CHECK_EQ(peer_response(&p), 200);
    CHECK_BODY(&p, "/b");
    peer_send(&p, "Host: x\r\n\r\n");
    CHECK_EQ(peer_response(&p), 200);
    CHECK_BODY(&p, "/c");
    finish();
}

static const char NEXT[] = "GET /next HTTP/1.1\r\nHost: x\r\n\r\n";

/* As send_chunked, in one piece, with `count` requests behind. */
static void
send_chunked_and_more(size_t len, size_t chunk, const char *last, unsigned count)
{
    char *all = malloc(2 * len + 1000 + count * sizeof(NEXT));
    size_t size = 0;

    for (size_t at = 0; at < len; at += chunk) {
        size_t n = len - at < chunk ? len - at : chunk;

        size += (size_t)sprintf(all + size, "%zx\r\n", n);
        memcpy(all + size, data + at, n);
        size += n;
        size += (size_t)sprintf(all + size, "\r\n");
    }
    size += (size_t)sprintf(all + size, "%s", last);
    for (unsigned i = 0; i < count; i++) {
        size += (size_t)sprintf(all + size, "%s", NEXT);
    }
    peer_send_bytes(&p, all, size);
    free(all);
}

/* The end of the body is received where that stays, and with it as much of the next
 * requests as has room where these are looked for. */
TEST(behind_a_long_chunked_body_stand_the_next_requests)
{
    static char memory[250000];
    static const size_t lens[] = {40000, 131072, 200000, 240000};
    static const size_t chunks[] = {999, 4096, 65536, 250000};
    static const char *const lasts[] = {"0\r\n\r\n", "0;x=y\r\nA: b\r\n\r\n"};

    for (size_t i = 0; i < 64; i++) {
        pws_body_block block = {memory, sizeof(memory), NULL};
        size_t len = lens[i % 4], chunk = chunks[i / 4 % 4];
        unsigned count = i >= 32 ? 1 : len == lens[0] ? 4000 : 500;
        pws_exchange *x;

        prepare();
        rig_open(&r);
        pws_body_block_put(&r.engine.bodies.blocks, &block);
        peer_connect(&p, &r, 0);
        peer_send(&p, request("POST", "/", "Transfer-Encoding: chunked\r\n"));
        UNTIL(&r, rig_in_state(&r, PWS_CONN_BODY));
        send_chunked_and_more(len, chunk, lasts[i / 16 % 2], count);
        x = rig_request(&r);
        CHECK(x->body.block == &block);
        CHECK_EQ(x->in_next, x->raw_at); /* it was not copied from there */
        check_read(x, len, 65536);
        rig_answer(x);
        r.serve = true;
        CHECK_EQ(peer_response(&p), 200);
        CHECK_BODY(&p, "/");
        for (unsigned k = 0; k < count; k++) {
            CHECK_EQ(peer_response(&p), 200);
            CHECK_BODY(&p, "/next");
        }
        r.serve = false;
        finish();
    }
}

TEST(a_head_may_be_larger_than_a_block)
{
    char *head = malloc(200000), *at = head;

    prepare();
    r.config.rules.field_size_max = 65536;
    rig_open(&r);
    r.serve = true;
    at += sprintf(at, "GET / HTTP/1.1\r\nHost: x\r\n");
    for (int i = 0; i < 3; i++) {
        at += sprintf(at, "X-%d: %060000d\r\n", i, i);
    }
    at += sprintf(at, "\r\n");
    peer_connect(&p, &r, 0);
    for (int i = 0; i < 2; i++) {
        peer_send_bytes(&p, head, (size_t)(at - head));
        CHECK_EQ(peer_response(&p), 200);
    }
    UNTIL(&r, rig_in_state(&r, PWS_CONN_IDLE));
    CHECK_EQ(r.engine.large_heads, 0);
    r.engine.large_heads = (uint64_t)1 << 40; /* as if all others took too much */
    peer_send_bytes(&p, head, (size_t)(at - head));
    CHECK_EQ(peer_response(&p), 431);
    r.engine.large_heads = 0;
    free(head);
    finish();
}

TEST(a_chunk_that_makes_no_sense_is_refused_later_too)
{
    prepare();
    rig_open(&r);
    r.serve = true;
    peer_connect(&p, &r, 0);
    peer_send(&p, request("POST", "/", "Transfer-Encoding: chunked\r\n"));
    UNTIL(&r, rig_in_state(&r, PWS_CONN_BODY));
    peer_send(&p, "3\r\nabc\r\n");
    rig_step(&r, rig_deadline());
    peer_send(&p, "nonsense\r\n");
    CHECK_EQ(peer_response(&p), 400);
    peer_check_closed(&p);
    finish();
}
