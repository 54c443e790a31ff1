/* What is too much is refused, and who is too slow is not waited for. */
#include "peer.h"

#include <stdio.h>

static rig r;
static peer p;
static char data[3 << 20];

static void
finish(void)
{
    r.serve = true;
    peer_close(&p);
    UNTIL(&r, pws_engine_open(&r.engine) == 0);
    rig_close(&r);
}

TEST(limits_refuse_with_their_status)
{
    static char line[9000], wide[9000];
    struct {
        const char *text;
        int status;
    } cases[] = {
        {line, 414},
        {wide, 431},
        {"GET / HTTP/1.1\r\nHost: x\r\nA: 1\r\nB: 2\r\nC: 3\r\nD: 4\r\n\r\n", 431},
        {"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1001\r\n\r\n", 413},
        {"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3e9\r\n",
         413},
        {"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n", 400},
        {"GET /\r\n\r\n", 400},
        {"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: br\r\n\r\n", 501},
    };

    snprintf(line, sizeof(line), "GET /%08000d", 0);
    snprintf(wide, sizeof(wide), "GET / HTTP/1.1\r\nX: %08500d", 0);
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        rig_prepare(&r);
        r.config.rules.fields_max = 4;
        r.config.rules.body_max = 1000;
        rig_open(&r);
        r.serve = true;
        peer_connect(&p, &r, 0);
        peer_send(&p, cases[i].text);
        CHECK_EQ(peer_response(&p), cases[i].status);
        peer_check_closed(&p);
        CHECK_EQ(r.served, 0);
        finish();
    }
}

/* `text` comes, and then nothing: the engine says `status` (0: nothing) and closes. */
static void
check_deadline(const char *text, int status)
{
    rig_prepare(&r);
    r.config.header_timeout_ms = r.config.body_timeout_ms = r.config.keepalive_ms = 200;
    rig_open(&r);
    r.serve = true;
    peer_connect(&p, &r, 0);
    peer_send(&p, text);
    if (status != 0) {
        CHECK_EQ(peer_response(&p), status);
    }
    peer_check_closed(&p);
    finish();
}

TEST(whoever_is_too_slow_is_told_so)
{
    check_deadline("", 0);
    check_deadline("GET / HTTP/1.1\r\n", 408);
    check_deadline("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nabc", 408);
    check_deadline(
        "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\n", 408);
    check_deadline("GET / HTTP/1.1\r\nHost: x\r\n\r\n", 200);
}

TEST(a_reader_that_takes_nothing_is_cut)
{
    pws_exchange *x;

    rig_prepare(&r);
    r.config.send_timeout_ms = 200;
    rig_open(&r);
    peer_connect(&p, &r, 0);
    peer_send(&p, request("GET", "/", ""));
    x = rig_request(&r);
    rig_begin(x, "200 OK", 4 * sizeof(data));
    for (int i = 0; i < 4; i++) {
        CHECK(pws_exchange_write(x, data, sizeof(data), NULL) >= 0);
    }
    CHECK_EQ(pws_exchange_finish(x), 0);
    pws_exchange_done(x);
    UNTIL(&r, (r.serve = true, rig_in_state(&r, PWS_CONN_SENDING)));
    UNTIL(&r, pws_engine_open(&r.engine) == 0);
    finish();
}

TEST(whoever_lingers_too_long_is_closed)
{
    rig_prepare(&r);
    rig_open(&r);
    r.serve = true;
    peer_connect(&p, &r, 0);
    peer_send(&p, "nonsense\r\n\r\n");
    CHECK_EQ(peer_response(&p), 400);
    peer_check_closed(&p);
    CHECK(rig_in_state(&r, PWS_CONN_LINGER));
    UNTIL(&r, pws_engine_open(&r.engine) == 0);
    finish();
}
