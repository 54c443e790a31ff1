/* Exchanges: responses in every framing, slow readers, and who may answer. */
#include "peer.h"

#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <unistd.h>

#include "engine/io.h"

#define BIG (8u << 20)

static rig r;
static peer p;
static char big[BIG];

/* A request is in hand. */
static pws_exchange *
begin(const char *fields)
{
    peer_connect(&p, &r, 0);
    peer_send(&p, request("GET", "/", fields));
    return rig_request(&r);
}

static pws_exchange *
start(void)
{
    for (size_t i = 0; i < BIG; i++) {
        big[i] = (char)(i * 31 + i / 977);
    }
    rig_start(&r);
    return begin("");
}

static void
finish(void)
{
    peer_close(&p);
    UNTIL(&r, pws_engine_open(&r.engine) == 0);
    rig_close(&r);
}

static void
complete(pws_exchange *x)
{
    CHECK_EQ(pws_exchange_finish(x), 0);
    pws_exchange_done(x);
    r.serve = true;
}

static void
check_big_body(size_t len)
{
    CHECK_EQ(peer_response(&p), 200);
    CHECK_EQ(p.body.len, len);
    CHECK(memcmp(p.body.at, big, len) == 0);
}

TEST(a_response_of_known_length_keeps_the_connection)
{
    pws_exchange *x = start();

    rig_begin(x, "200 OK", 11);
    CHECK(pws_exchange_has_body(x));
    CHECK_EQ(pws_exchange_write(x, "hello ", 6, NULL), 0);
    CHECK_EQ(pws_exchange_write(x, "world", 5, NULL), 0);
    complete(x);
    CHECK_EQ(peer_response(&p), 200);
    CHECK_BODY(&p, "hello world");
    peer_send(&p, request("GET", "/again", ""));
    CHECK_EQ(peer_response(&p), 200);
    CHECK_BODY(&p, "/again");
    finish();
}

TEST(a_response_of_unknown_length_is_chunked)
{
    pws_exchange *x = start();

    rig_begin(x, "200 OK", PWS_LENGTH_UNKNOWN);
    CHECK_EQ(pws_exchange_write(x, "hello ", 6, NULL), 0);
    CHECK_EQ(pws_exchange_write(x, "", 0, NULL), 0);
    CHECK_EQ(pws_exchange_flush(x), 0);
    CHECK_EQ(pws_exchange_write(x, "world", 5, NULL), 0);
    complete(x);
    CHECK_EQ(peer_response(&p), 200);
    CHECK_BODY(&p, "hello world");
    peer_send(&p, request("GET", "/again", ""));
    CHECK_EQ(peer_response(&p), 200);
    finish();
}

TEST(nothing_is_sent_for_head)
{
    pws_exchange *x;

    rig_start(&r);
    peer_connect(&p, &r, 0);
    peer_send(&p, request("HEAD", "/", ""));
    x = rig_request(&r);
    rig_begin(x, "204 No Content", 5);
    CHECK(!pws_exchange_has_body(x));
    CHECK_EQ(pws_exchange_write(x, "hello", 5, NULL), 0);
    CHECK_EQ(pws_exchange_send_file(x, 0, 0, 5), 0);
    complete(x);
    peer_send(&p, request("GET", "/again", ""));
    CHECK_EQ(peer_response(&p), 204);
    CHECK_EQ(p.body.len, 0);
    finish();
}

TEST(more_than_declared_is_dropped)
{
    pws_exchange *x = start();

    rig_begin(x, "200 OK", 4);
    CHECK_EQ(pws_exchange_write(x, "hello", 5, NULL), 0);
    CHECK(x->overrun);
    CHECK_EQ(pws_exchange_write(x, "more", 4, NULL), 0);
    complete(x);
    CHECK_EQ(peer_response(&p), 200);
    CHECK_BODY(&p, "hell");
    peer_send(&p, request("GET", "/again", ""));
    CHECK_EQ(peer_response(&p), 200);
    CHECK_BODY(&p, "/again");
    finish();
}

TEST(less_than_declared_cuts_the_connection)
{
    pws_exchange *x = start();
    pws_slice head;

    rig_begin(x, "200 OK", 10);
    CHECK_EQ(pws_exchange_write(x, "hello", 5, NULL), 0);
    CHECK_EQ(pws_exchange_finish(x), -1);
    pws_exchange_done(x);
    r.serve = true;
    UNTIL(&r, (peer_receive(&p), p.eof));
    head = (pws_slice){p.in, p.len};
    CHECK(memcmp(head.at + head.len - 9, "\r\n\r\nhello", 9) == 0);
    finish();
}

TEST(a_response_that_the_end_ends_is_cut_by_a_reset)
{
    pws_exchange *x;

    rig_start(&r);
    peer_connect(&p, &r, 0);
    peer_send(&p, "GET / HTTP/1.0\r\n\r\n");
    x = rig_request(&r);
    rig_begin(x, "200 OK", PWS_LENGTH_UNKNOWN);
    CHECK_EQ(x->frame, PWS_FRAME_CLOSE);
    CHECK_EQ(pws_exchange_write(x, "hello", 5, NULL), 0);
    pws_exchange_cut(x);
    pws_exchange_done(x);
    r.serve = true;
    peer_check_reset(&p);
    finish();
}

TEST(an_exchange_that_was_not_answered_closes_the_connection)
{
    pws_exchange_done(start());
    r.serve = true;
    peer_check_closed(&p);
    finish();
}

TEST(invalid_headers_are_refused_and_a_page_can_follow)
{
    pws_header bad = {PWS_SLICE("X-A"), PWS_SLICE("a\r\nb")};
    pws_exchange *x = start();
    const char *why = NULL;

    CHECK_EQ(pws_exchange_start(x, PWS_SLICE("200 OK"), &bad, 1, 0, &why), -1);
    CHECK(why != NULL);
    CHECK(pws_exchange_refuse(x, 500));
    CHECK(!pws_exchange_refuse(x, 500));
    pws_exchange_done(x);
    r.serve = true;
    CHECK_EQ(peer_response(&p), 500);
    peer_check_closed(&p);
    finish();
}

TEST(a_head_larger_than_a_block_is_sent)
{
    pws_header wide = {PWS_SLICE("X-Wide"), {big, 100000}};
    pws_exchange *x = start();
    const char *why;

    memset(big, 'w', 100000);
    CHECK_EQ(pws_exchange_start(x, PWS_SLICE("200 OK"), &wide, 1, 3, &why), 0);
    CHECK_EQ(pws_exchange_write(x, "abc", 3, NULL), 0);
    complete(x);
    CHECK_EQ(peer_response(&p), 200);
    CHECK(p.head.len > 100000);
    CHECK_BODY(&p, "abc");
    finish();
}

TEST(early_hints_come_before_the_response)
{
    pws_header link = {PWS_SLICE("Link"), PWS_SLICE("</a.css>; rel=preload")};
    const char *why;
    pws_exchange *x = start();

    CHECK_EQ(pws_exchange_inform(x, PWS_SLICE("103 Early Hints"), &link, 1, &why), 0);
    CHECK_EQ(peer_response(&p), 103);
    link.value = PWS_SLICE("a\nb");
    CHECK_EQ(pws_exchange_inform(x, PWS_SLICE("103 Early Hints"), &link, 1, &why), -1);
    CHECK(why != NULL);
    link.value = PWS_SLICE("late");
    rig_begin(x, "200 OK", 0);
    CHECK_EQ(pws_exchange_inform(x, PWS_SLICE("103 Early Hints"), &link, 1, &why), 0);
    complete(x);
    CHECK_EQ(peer_response(&p), 200);
    peer_send(&p, request("GET", "/again", ""));
    CHECK_EQ(peer_response(&p), 200);
    finish();
}

TEST(pinned_bytes_come_back_exactly_once)
{
    pws_exchange *x = start();
    int references = 1;

    rig_begin(x, "200 OK", BIG);
    CHECK_EQ(pws_exchange_write(x, big, BIG, &references), 1);
    complete(x);
    check_big_body(BIG);
    UNTIL(&r, rig_in_state(&r, PWS_CONN_IDLE));
    CHECK_EQ(rig_release(&r), 1);
    CHECK_EQ(references, 0);
    CHECK_EQ(rig_release(&r), 0);
    finish();
}

TEST(pinned_bytes_come_back_when_the_client_goes)
{
    pws_exchange *x = start();
    int references = 2;

    rig_begin(x, "200 OK", PWS_LENGTH_UNKNOWN);
    CHECK_EQ(pws_exchange_write(x, big, PWS_COPY_MAX + 1, &references), 1);
    CHECK_EQ(pws_exchange_write(x, big, BIG, &references), 1);
    CHECK_EQ(pws_exchange_write(x, big, 100, &references), 0);
    complete(x);
    UNTIL(&r, rig_in_state(&r, PWS_CONN_SENDING));
    CHECK(rig_conn(&r)->x->out.block == NULL);
    peer_reset(&p);
    UNTIL(&r, pws_engine_open(&r.engine) == 0);
    CHECK_EQ(rig_release(&r), 2);
    CHECK_EQ(references, 0);
    rig_close(&r);
}

/* The app makes more than its client takes. */
static void
write_pieces(pws_exchange *x, size_t len)
{
    for (size_t at = 0; at < len; at += 40000) {
        CHECK_EQ(
            pws_exchange_write(x, big + at, len - at < 40000 ? len - at : 40000, NULL),
            0);
        CHECK(pws_exchange_flush(x) != PWS_IO_ERROR);
    }
}

TEST(what_a_slow_reader_has_not_taken_is_spooled)
{
    uint64_t lengths[] = {BIG, PWS_LENGTH_UNKNOWN};

    for (int i = 0; i < 2; i++) {
        pws_exchange *x = start();

        rig_begin(x, "200 OK", lengths[i]);
        write_pieces(x, BIG);
        CHECK(x->out.spool_fd >= 0);
        CHECK(x->out.in_memory <= PWS_OUTPUT_MEMORY_MAX + 40000);
        CHECK(atomic_load(&r.engine.outputs.spooled_all) > 0);
        complete(x);
        check_big_body(BIG);
        peer_send(&p, request("GET", "/again", ""));
        CHECK_EQ(peer_response(&p), 200);
        CHECK_EQ(atomic_load(&r.engine.outputs.spooled_all), 0);
        finish();
    }
}

TEST(beyond_the_spool_limit_the_app_waits_for_its_reader)
{
    size_t at = 0;
    pws_exchange *x;

    rig_prepare(&r);
    r.config.response_spool_limit = 100000;
    rig_open(&r);
    x = begin("");
    rig_begin(x, "200 OK", BIG);
    while (at < BIG) {
        size_t n = BIG - at < 30000 ? BIG - at : 30000;
        int rc = pws_exchange_write(x, big + at, n, NULL);

        if (rc == PWS_IO_AGAIN) {
            peer_receive(&p);
            if (pws_exchange_flush(x) == PWS_IO_AGAIN) {
                peer_receive(&p);
                CHECK_EQ(rig_wait(x, PWS_WRITABLE, 20000), 1);
            }
            continue;
        }
        CHECK_EQ(rc, 0);
        at += n;
        CHECK(x->out.pending < PWS_OUTPUT_MEMORY_MAX + 200000);
    }
    complete(x);
    check_big_body(BIG);
    finish();
}

TEST(a_wait_for_a_reader_ends_with_its_time_or_its_client)
{
    pws_exchange *x;

    rig_prepare(&r);
    r.config.spool_dir = NULL;
    rig_open(&r);
    x = begin("");
    rig_begin(x, "200 OK", 2 * BIG);
    CHECK_EQ(pws_exchange_write(x, big, BIG, NULL), 0);
    CHECK_EQ(pws_exchange_write(x, big, BIG, NULL), PWS_IO_AGAIN);
    while (pws_exchange_flush(x) == PWS_IO_MORE || rig_wait(x, PWS_WRITABLE, 50) == 1) {
    }
    CHECK_EQ(rig_wait(x, PWS_WRITABLE, 50), 0);
    pws_engine_wake(&r.engine);
    CHECK_EQ(rig_wait(x, PWS_WRITABLE, 5000), -1);
    peer_reset(&p);
    CHECK_EQ(rig_wait(x, PWS_WRITABLE, 5000), 1);
    CHECK_EQ(pws_exchange_flush(x), PWS_IO_ERROR);
    CHECK(x->gone);
    CHECK_EQ(pws_exchange_write(x, big, BIG, NULL), 0);
    CHECK_EQ(pws_exchange_finish(x), 0);
    pws_exchange_done(x);
    UNTIL(&r, (r.serve = true, pws_engine_open(&r.engine) == 0));
    rig_close(&r);
}

/* A file without a name that holds `big`. */
static int
make_file(void)
{
    int fd = open(r.dir, O_TMPFILE | O_RDWR, 0600);

    CHECK(fd >= 0);
    CHECK_EQ(write(fd, big, BIG), BIG);
    return fd;
}

TEST(files_are_sent_short_long_and_in_every_framing)
{
    struct {
        uint64_t known, len;
    } cases[] = {{100, 100},
                 {100, 200},
                 {BIG, BIG},
                 {PWS_LENGTH_UNKNOWN, BIG},
                 {PWS_LENGTH_UNKNOWN, 100},
                 {0, 0}};

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        pws_exchange *x = start();
        int fd = make_file();

        rig_begin(x, "200 OK", cases[i].known);
        CHECK_EQ(pws_exchange_send_file(x, fd, 0, cases[i].len), 0);
        CHECK_EQ(pws_exchange_own_files(x), 0);
        close(fd);
        complete(x);
        check_big_body(cases[i].known < cases[i].len ? cases[i].known : cases[i].len);
        peer_send(&p, request("GET", "/again", ""));
        CHECK_EQ(peer_response(&p), 200);
        finish();
    }
}

TEST(a_file_shorter_than_announced_cuts_the_connection)
{
    uint64_t starts[] = {BIG - 100, BIG - 100000};

    for (int i = 0; i < 2; i++) {
        pws_exchange *x = start();
        int fd = make_file();

        rig_begin(x, "200 OK", 2 * (BIG - starts[i]));
        CHECK_EQ(pws_exchange_send_file(x, fd, starts[i], 2 * (BIG - starts[i])), 0);
        (void)pws_exchange_finish(x);
        CHECK_EQ(pws_exchange_own_files(x), 0);
        close(fd);
        pws_exchange_done(x);
        r.serve = true;
        UNTIL(&r, (peer_receive(&p), p.eof));
        CHECK(p.len > BIG - starts[i] && p.len < 300 + BIG - starts[i]);
        finish();
    }
}

TEST(an_app_may_take_the_socket)
{
    pws_exchange *x = start();
    int fd = pws_exchange_detach(x);

    CHECK(fd >= 0);
    CHECK_EQ(fcntl(fd, F_GETFL) & O_NONBLOCK, 0);
    pws_exchange_done(x);
    r.serve = true;
    UNTIL(&r, pws_engine_open(&r.engine) == 0);
    CHECK_EQ(write(fd, "raw", 3), 3);
    CHECK_BYTES(peer_read(&p, 3).at, 3, "raw");
    close(fd);
    peer_check_closed(&p);
    finish();
}

TEST(an_app_may_take_a_socket_that_is_watched)
{
    pws_exchange *x;
    int fd;

    rig_start(&r);
    peer_connect(&p, &r, 0);
    UNTIL(&r, rig_in_state(&r, PWS_CONN_IDLE));
    peer_send(&p, request("GET", "/", ""));
    x = rig_request(&r);
    fd = pws_exchange_detach(x);
    CHECK(fd >= 0);
    pws_exchange_done(x);
    peer_send(&p, "more");
    r.serve = true;
    UNTIL(&r, pws_engine_open(&r.engine) == 0);
    CHECK_EQ(read(fd, big, 4), 4);
    close(fd);
    peer_check_closed(&p);
    finish();
}

TEST(files_that_cannot_be_kept_cut_the_connection)
{
    struct rlimit old, few;
    pws_exchange *x = start();
    int fd = make_file(), rc;

    rig_begin(x, "200 OK", BIG);
    CHECK_EQ(pws_exchange_send_file(x, fd, 0, BIG), 0);
    CHECK_EQ(getrlimit(RLIMIT_NOFILE, &old), 0);
    few = old;
    few.rlim_cur = 3;
    CHECK_EQ(setrlimit(RLIMIT_NOFILE, &few), 0);
    rc = pws_exchange_own_files(x);
    CHECK_EQ(setrlimit(RLIMIT_NOFILE, &old), 0);
    CHECK_EQ(rc, PWS_IO_ERROR);
    CHECK_EQ(pws_exchange_finish(x), -1);
    close(fd);
    pws_exchange_done(x);
    r.serve = true;
    peer_check_closed(&p);
    finish();
}

/* There is no reset on a Unix socket: at least the end is seen. */
TEST(a_cut_on_a_unix_socket_ends_it)
{
    pws_exchange *x;

    rig_prepare(&r);
    r.local = true;
    rig_open(&r);
    peer_connect(&p, &r, 0);
    peer_send(&p, "GET / HTTP/1.0\r\n\r\n");
    x = rig_request(&r);
    rig_begin(x, "200 OK", PWS_LENGTH_UNKNOWN);
    pws_exchange_cut(x);
    pws_exchange_done(x);
    r.serve = true;
    CHECK_EQ(peer_response(&p), 200);
    finish();
}
