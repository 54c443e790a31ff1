/* What a request head means: known fields, target, host, framing, expectation,
 * connection, forwarding; every refusal of proto/request.c, target.c, framing.c and
 * forwarded.c. */
#include "heads.h"
#include "proto/forwarded.h"
#include "proto/framing.h"
#include "proto/target.h"

#define OK "GET / HTTP/1.1\r\n"
#define POST "POST / HTTP/1.1\r\nHost: x\r\n"
#define HOST "Host: x\r\n"
#define END "\r\n"

static feed_head_result r;

static const pws_slice forwarders[] = {{"SCRIPT_NAME", 11}, {"PATH_INFO", 9}};
static const pws_scheme_field schemes[] = {{{"X_FORWARDED_PROTO", 17}, {"https", 5}},
                                           {{"X_FORWARDED_SSL", 15}, {"on", 2}}};

static pws_rules
proxy_rules(void)
{
    pws_rules rules = feed_rules();

    rules.forwarder_fields = forwarders;
    rules.forwarder_count = 2;
    rules.scheme_fields = schemes;
    rules.scheme_count = 2;
    return rules;
}

static const pws_request *
accept_head(const char *text)
{
    pws_rules rules = proxy_rules();

    check_head(&r, &rules, false, pws_slice_of(text), 0, NULL);
    return &r.req;
}

static const pws_request *
accept_forwarded(const char *text, const pws_rules *rules)
{
    pws_rules with_ids = *rules;
    bool https;

    check_head(&r, rules, true, pws_slice_of(text), 0, NULL);
    https = r.req.https;
    with_ids.scheme_ids = pws_forwarded_scheme_ids(rules);
    check_head(&r, &with_ids, true, pws_slice_of(text), 0, NULL);
    CHECK_EQ(r.req.https, https);
    return &r.req;
}

TEST(every_known_field_is_found)
{
    for (unsigned i = 0; i < PWS_FIELD_UNKNOWN; i++) {
        pws_slice name = pws_slice_of(pws_field_name((pws_field_id)i));
        char *exact = guarded(name.at, name.len), *last = guarded(name.at, name.len);

        CHECK(name.len > 0);
        CHECK_EQ(pws_field_find(exact, name.len), i);
        last[name.len - 1] ^= 1;
        CHECK(pws_field_find(last, name.len) != (pws_field_id)i);
        CHECK(pws_field_find(exact, name.len - 1) != (pws_field_id)i);
    }
    CHECK_BYTES(pws_field_name(PWS_FIELD_UNKNOWN), 0, "");
    CHECK(strcmp(pws_field_name(PWS_FIELD_X_FORWARDED_FOR), "X_FORWARDED_FOR") == 0);
}

TEST(unknown_fields_are_not_found)
{
    char longest[300];

    memset(longest, 'A', sizeof(longest));
    for (size_t len = 0; len <= sizeof(longest); len++) {
        CHECK_EQ(pws_field_find(guarded(longest, len), len), PWS_FIELD_UNKNOWN);
    }
    CHECK_EQ(pws_field_find("host", 4), PWS_FIELD_UNKNOWN);
}

TEST(low_fields_have_their_place_noted)
{
    const pws_request *q =
        accept_head("POST / HTTP/1.1\r\nA: 1\r\nAccept: 2\r\nAccept: 3\r\n"
                    "Content-Type: t\r\nTE: u\r\nTE: v\r\nHost: x\r\n\r\n");

    CHECK(pws_request_has(q, PWS_FIELD_HOST));
    CHECK(pws_request_has(q, PWS_FIELD_ACCEPT));
    CHECK(!pws_request_has(q, PWS_FIELD_EXPECT));
    CHECK_EQ(q->placed[PWS_FIELD_HOST], 6);
    CHECK_EQ(q->placed[PWS_FIELD_TE], 4);
    CHECK_BYTES(pws_request_value(q, PWS_FIELD_CONTENT_TYPE).at, 1, "t");
    CHECK_BYTES(pws_request_value(q, PWS_FIELD_TE).at, 1, "u");
    CHECK_EQ(q->repeated,
             (uint64_t)1 << PWS_FIELD_TE | (uint64_t)1 << PWS_FIELD_ACCEPT);
}

TEST(a_name_with_an_underscore_is_not_the_known_field)
{
    const pws_request *q =
        accept_head("POST / HTTP/1.1\r\nHost: x\r\nContent_Length: 5\r\n"
                    "Content_Length: 6\r\nTransfer_Encoding: chunked\r\n\r\n");

    CHECK(!pws_request_has(q, PWS_FIELD_CONTENT_LENGTH));
    CHECK_EQ(q->body, PWS_BODY_NONE);
    CHECK_EQ(q->fields[1].id, PWS_FIELD_UNKNOWN);
    CHECK_EQ(q->fields[1].flags, PWS_FIELD_UNDERSCORE | PWS_FIELD_DROPPED);
}

TEST(some_fields_may_come_once_only)
{
    static const char why[] = "Host, Content-Length or Content-Type sent twice";
    static const head_case cases[] = {
        HEAD_CASE(OK HOST HOST END, 400, why),
        HEAD_CASE(OK HOST "hOST: y\r\n" END, 400, why),
        HEAD_CASE(POST "Content-Length: 1\r\ncontent-length: 1\r\n" END, 400, why),
        HEAD_CASE(POST "Content-Type: a\r\nContent-Type: a\r\n" END, 400, why),
        HEAD_CASE("GET / HTTP/1.0\r\n" HOST HOST END, 400, why),
    };
    pws_rules rules = feed_rules();

    CHECK_HEADS(cases, &rules, false);
}

TEST(an_https_target_needs_a_connection_that_is)
{
    const char *why = "https target on a connection without TLS";
    const head_case cases[] = {
        HEAD_CASE("GET https://x/ HTTP/1.1\r\n" HOST END, 400, why),
        HEAD_CASE("GET HTTPS://x/ HTTP/1.1\r\n" HOST END, 400, why),
    };
    pws_rules rules = feed_rules();

    CHECK_HEADS(cases, &rules, false);
}

TEST(the_forms_of_a_target_are_told_apart)
{
    const pws_request *q = accept_head("GET /a%2Fb?c=?d HTTP/1.1\r\nHost: x\r\n\r\n");

    CHECK_EQ(q->form, PWS_TARGET_ORIGIN);
    CHECK_SPAN(q, path, "/a%2Fb");
    CHECK_SPAN(q, query, "c=?d");
    CHECK_SPAN(q, authority, "");
    CHECK(q->path_escaped);

    q = accept_head("GET //a/b?%41 HTTP/1.1\r\nHost: x\r\n\r\n");
    CHECK_EQ(q->form, PWS_TARGET_ORIGIN);
    CHECK_SPAN(q, path, "//a/b");
    CHECK_SPAN(q, query, "%41");
    CHECK(!q->path_escaped);

    q = accept_head("GET hTTp://a.b:80/c?d HTTP/1.1\r\nHost: x\r\n\r\n");
    CHECK_EQ(q->form, PWS_TARGET_ABSOLUTE);
    CHECK_SPAN(q, authority, "a.b:80");
    CHECK_SPAN(q, path, "/c");
    CHECK_SPAN(q, query, "d");
    CHECK_SPAN(q, target, "hTTp://a.b:80/c?d");

    q = accept_head("GET http://[::1]?d HTTP/1.1\r\nHost: x\r\n\r\n");
    CHECK_EQ(q->form, PWS_TARGET_ABSOLUTE);
    CHECK_SPAN(q, authority, "[::1]");
    CHECK_SPAN(q, path, "");
    CHECK_SPAN(q, query, "d");

    q = accept_head("GET http://a HTTP/1.1\r\nHost: x\r\n\r\n");
    CHECK_SPAN(q, authority, "a");
    CHECK_SPAN(q, path, "");

    q = accept_head("OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n");
    CHECK_EQ(q->form, PWS_TARGET_ASTERISK);
    CHECK_SPAN(q, path, "*");

    q = accept_head("CONNECT [::1]:443 HTTP/1.1\r\nHost: x\r\n\r\n");
    CHECK_EQ(q->form, PWS_TARGET_AUTHORITY);
    CHECK_SPAN(q, authority, "[::1]:443");
    CHECK_SPAN(q, path, "");
    CHECK(!q->keep_alive);
}

TEST(malformed_targets_are_refused)
{
    static const char target[] = "malformed request target";
    static const char authority[] = "malformed authority in the request target";
    static const char star[] = "the target * is for OPTIONS only";
    static const char connect[] = "malformed CONNECT target";
#define TARGET(text) text " HTTP/1.1\r\n" HOST END
    static const head_case cases[] = {
        HEAD_CASE(TARGET("GET a"), 400, target),
        HEAD_CASE(TARGET("GET ?q"), 400, target),
        HEAD_CASE(TARGET("GET ftp://a/"), 400, target),
        HEAD_CASE(TARGET("GET http:/a/"), 400, target),
        HEAD_CASE(TARGET("GET a:80"), 400, target),
        HEAD_CASE(TARGET("OPTIONS **"), 400, target),
        HEAD_CASE(TARGET("GET http://"), 400, authority),
        HEAD_CASE(TARGET("GET http:///a"), 400, authority),
        HEAD_CASE(TARGET("GET http://?a"), 400, authority),
        HEAD_CASE(TARGET("GET http://:80/"), 400, authority),
        HEAD_CASE(TARGET("GET http://u@h/"), 400, authority),
        HEAD_CASE(TARGET("GET http://h:x/"), 400, authority),
        HEAD_CASE(TARGET("GET http://[::1/"), 400, authority),
        HEAD_CASE(TARGET("GET *"), 400, star),
        HEAD_CASE(TARGET("CONNECT /"), 400, connect),
        HEAD_CASE(TARGET("CONNECT *"), 400, connect),
        HEAD_CASE(TARGET("CONNECT h"), 400, connect),
        HEAD_CASE(TARGET("CONNECT h:"), 400, connect),
        HEAD_CASE(TARGET("CONNECT :80"), 400, connect),
        HEAD_CASE(TARGET("CONNECT h:x"), 400, connect),
        HEAD_CASE(TARGET("CONNECT [::1]"), 400, connect),
        HEAD_CASE(TARGET("CONNECT http://h:80/"), 400, connect),
    };
    pws_rules rules = feed_rules();

    CHECK_HEADS(cases, &rules, false);
}

TEST(http11_needs_one_valid_host)
{
    static const head_case cases[] = {
        HEAD_CASE(OK END, 400, "no Host in HTTP/1.1"),
        HEAD_CASE("GET http://h/ HTTP/1.1\r\n" END, 400, "no Host in HTTP/1.1"),
        HEAD_CASE("GET / HTTP/1.0\r\n" END, 0, NULL),
        HEAD_CASE(OK "Host:\r\n" END, 0, NULL),
        HEAD_CASE(OK "Host: a b\r\n" END, 400, "malformed Host"),
        HEAD_CASE(OK "Host: a/b\r\n" END, 400, "malformed Host"),
        HEAD_CASE("GET / HTTP/1.0\r\nHost: u@h\r\n" END, 400, "malformed Host"),
        HEAD_CASE("GET http://h/ HTTP/1.1\r\nHost: a,b:\"\r\n" END, 400,
                  "malformed Host"),
    };
    pws_rules rules = feed_rules();

    CHECK_HEADS(cases, &rules, false);
}

static bool
is_authority(const char *text)
{
    size_t len = strlen(text);

    return pws_authority_valid((pws_slice){guarded(text, len), len});
}

TEST(authorities_of_rfc_3986_are_valid)
{
    static const char *const good[] = {
        "",
        "a",
        "a.b-c_d~e",
        "!$&'()*+,;=",
        "%c3%A9.example",
        "127.0.0.1:8000",
        "a:",
        ":",
        ":80",
        "a:65535",
        "[::]",
        "[::1]:80",
        "[1:2:3:4:5:6:7:8]",
        "[1:2:3:4:5:6:7::]",
        "[::ffff:1.2.3.4]:",
        "[v1.a:b]",
        "[VfF.!]",
    };

    for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
        CHECK(is_authority(good[i]));
    }
}

TEST(other_authorities_are_not_valid)
{
    static const char *const bad[] = {
        "a b",
        "a@b",
        "a/b",
        "a?",
        "a#",
        "a\"",
        "a\\",
        "a:b",
        "a:80:80",
        "a:123456",
        "%",
        "%4",
        "a%zz",
        "\xc3",
        "[",
        "[]",
        "[::1",
        "::1",
        "[::1]a",
        "[::1]]",
        "[::1]:a",
        "[:]",
        "[1]",
        "[:::]",
        "[::12345]",
        "[zz]",
        "[v1]",
        "[v.a]",
        "[v1.]",
        "[v1.a/]",
        "[x1.a]",
        "[1::2::3]",
        "a]",
        "[v]",
        "[::1.2.3.04]",
        "[::1 ]",
        "[::%eth]",
        "[::1.2.3]",
        "[1:2:3:4:5:6:7:8:9]",
        "[[::1]]",
        "[0000:0000:0000:0000:0000:0000:0000:0000:0000:0000]",
    };

    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        if (is_authority(bad[i])) {
            printf("    %s\n", bad[i]);
        }
        CHECK(!is_authority(bad[i]));
    }
    CHECK(!pws_authority_valid(PWS_SLICE("a\0b")));
    CHECK(!pws_authority_valid(PWS_SLICE("[::1\0]")));
}

TEST(content_length_is_digits)
{
    static const char why[] = "malformed Content-Length";
#define LENGTH(text) POST "Content-Length:" text "\r\n" END
    static const head_case cases[] = {
        HEAD_CASE(LENGTH(""), 400, why),
        HEAD_CASE(LENGTH(" "), 400, why),
        HEAD_CASE(LENGTH("+1"), 400, why),
        HEAD_CASE(LENGTH("-1"), 400, why),
        HEAD_CASE(LENGTH("1 1"), 400, why),
        HEAD_CASE(LENGTH("1,1"), 400, why),
        HEAD_CASE(LENGTH("0x1"), 400, why),
        HEAD_CASE(LENGTH("1_0"), 400, why),
        HEAD_CASE(LENGTH("1;a"), 400, why),
        HEAD_CASE(LENGTH("\xb2"), 400, why),
        HEAD_CASE(LENGTH("9223372036854775807"), 0, NULL),
        HEAD_CASE(LENGTH("9223372036854775808"), 400, why),
        HEAD_CASE(LENGTH("18446744073709551617"), 400, why),
        HEAD_CASE(LENGTH("0000000000000000001"), 0, NULL),
        HEAD_CASE(LENGTH("00000000000000000001"), 400, why),
    };
    pws_rules rules = feed_rules();

    CHECK_HEADS(cases, &rules, false);
}

TEST(a_body_has_the_framing_that_was_sent)
{
    const pws_request *q = accept_head(LENGTH(" \t12 "));

    CHECK_EQ(q->body, PWS_BODY_LENGTH);
    CHECK_EQ(q->length, 12);
    CHECK_EQ(accept_head(LENGTH("0"))->body, PWS_BODY_NONE);
    CHECK_EQ(accept_head(POST END)->body, PWS_BODY_NONE);
    CHECK_EQ(accept_head("GET / HTTP/1.0\r\nContent-Length: 1\r\n\r\n")->length, 1);
    CHECK_EQ(accept_head(POST "Transfer-Encoding: chunked\r\n\r\n")->body,
             PWS_BODY_CHUNKED);
    CHECK_EQ(accept_head(POST "Transfer-Encoding:\tChUnKeD \r\n\r\n")->body,
             PWS_BODY_CHUNKED);
}

TEST(doubtful_transfer_codings_are_refused)
{
    static const char both[] = "Transfer-Encoding with Content-Length";
    static const char old[] = "Transfer-Encoding on HTTP/1.0";
    static const char malformed[] = "malformed Transfer-Encoding";
    static const char middle[] = "chunked is not the last transfer coding";
    static const char unknown[] = "unknown transfer coding";
    static const char last[] = "the last transfer coding is not chunked";
    static const char other[] = "transfer coding other than chunked";
#define TE(text) POST "Transfer-Encoding: " text "\r\n" END
#define TWICE(a, b) TE(a "\r\nTransfer-Encoding: " b)
    static const head_case cases[] = {
        HEAD_CASE(TE("chunked\r\nContent-Length: 0"), 400, both),
        HEAD_CASE(POST "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n", 400,
                  both),
        HEAD_CASE(TE("gzip\r\nContent-Length: 5"), 400, both),
        HEAD_CASE(TE("\r\nContent-Length: x"), 400, both),
        HEAD_CASE("POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n", 400, old),
        HEAD_CASE(
            "POST / HTTP/1.0\r\nTransfer-Encoding: x\r\nContent-Length: 1\r\n\r\n", 400,
            old),
        HEAD_CASE(TE(""), 400, malformed),
        HEAD_CASE(TE(","), 400, malformed),
        HEAD_CASE(TE("chunked,"), 400, malformed),
        HEAD_CASE(TE(",chunked"), 400, malformed),
        HEAD_CASE(TE("chunked;q=1"), 400, malformed),
        HEAD_CASE(TE("chunked ;"), 400, malformed),
        HEAD_CASE(TE("chunked x"), 400, malformed),
        HEAD_CASE(TE("\"chunked\""), 400, malformed),
        HEAD_CASE(TE("gzip x, chunked"), 400, malformed),
        HEAD_CASE(TE("chunked\x80"), 400, malformed),
        HEAD_CASE(TWICE("chunked", ""), 400, malformed),
        HEAD_CASE(TE("chunked, chunked"), 400, middle),
        HEAD_CASE(TE("chunked, gzip"), 400, middle),
        HEAD_CASE(TE("chunked, identity"), 400, middle),
        HEAD_CASE(TE("chunked, gzip, chunked"), 400, middle),
        HEAD_CASE(TWICE("chunked", "gzip"), 400, middle),
        HEAD_CASE(TWICE("chunked", "chunked"), 400, middle),
        HEAD_CASE(TE("xchunked"), 501, unknown),
        HEAD_CASE(TE("chunkedx"), 501, unknown),
        HEAD_CASE(TE("identity"), 501, unknown),
        HEAD_CASE(TE("br;q=1, chunked"), 501, unknown),
        HEAD_CASE(TWICE("x", "chunked"), 501, unknown),
        HEAD_CASE(TE("gzip"), 400, last),
        HEAD_CASE(TE("x-gzip ; a=b"), 400, last),
        HEAD_CASE(TE("deflate"), 400, last),
        HEAD_CASE(TE("Compress"), 400, last),
        HEAD_CASE(TE("X-COMPRESS"), 400, last),
        HEAD_CASE(TE("gzip, chunked"), 501, other),
        HEAD_CASE(TWICE("gzip", "chunked"), 501, other),
    };
    pws_rules rules = feed_rules();

    CHECK_HEADS(cases, &rules, false);
}

TEST(the_framing_looks_at_lines_behind_others)
{
    pws_rules rules = feed_rules();

    check_head(&r, &rules, false,
               PWS_SLICE(POST "A: b\r\nTransfer-Encoding: gzip\r\nC: d\r\n"
                              "Transfer-Encoding: chunked\r\nE: f\r\n\r\n"),
               501, "transfer coding other than chunked");
}

TEST(a_length_over_the_limit_is_refused)
{
    static const head_case cases[] = {
        HEAD_CASE(LENGTH("10"), 0, NULL),
        HEAD_CASE(LENGTH("11"), 413, "Content-Length is over limit_request_body"),
        HEAD_CASE(TE("chunked"), 0, NULL),
    };
    pws_rules rules = feed_rules();

    rules.body_max = 10;
    CHECK_HEADS(cases, &rules, false);
}

TEST(the_only_expectation_is_100_continue)
{
    static const head_case cases[] = {
        HEAD_CASE(POST "Expect: 200-ok\r\n" END, 417, "unknown expectation"),
        HEAD_CASE(POST "Expect:\r\n" END, 417, "unknown expectation"),
        HEAD_CASE(POST "Expect: 100-continue, x\r\n" END, 417, "unknown expectation"),
        HEAD_CASE(POST "Expect: 100-continue\r\nA: b\r\nExpect: x\r\n" END, 417,
                  "unknown expectation"),
        HEAD_CASE("POST / HTTP/1.0\r\nExpect: x\r\n" END, 0, NULL),
    };
    pws_rules rules = feed_rules();

    CHECK_HEADS(cases, &rules, false);
}

TEST(a_client_waits_for_100_only_with_a_body)
{
    CHECK(accept_head(POST "Expect: 100-Continue\r\nContent-Length: 1\r\n\r\n")
              ->expect_continue);
    CHECK(accept_head(TE("chunked\r\nExpect: 100-continue"))->expect_continue);
    CHECK(!accept_head(POST "Expect: 100-continue\r\n\r\n")->expect_continue);
    CHECK(!accept_head(
               "POST / HTTP/1.0\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\n")
               ->expect_continue);
}

TEST(the_connection_is_kept_as_the_client_says)
{
#define CONNECTION(version, text)                                                      \
    accept_head("GET / HTTP/" version "\r\nHost: x\r\nConnection: " text "\r\n\r\n")   \
        ->keep_alive
    CHECK(accept_head(OK HOST END)->keep_alive);
    CHECK(!accept_head("GET / HTTP/1.0\r\n" END)->keep_alive);
    CHECK(CONNECTION("1.1", "keep-alive"));
    CHECK(CONNECTION("1.1", ""));
    CHECK(CONNECTION("1.1", "closed, xclose"));
    CHECK(!CONNECTION("1.1", "close"));
    CHECK(!CONNECTION("1.1", "CLOSE"));
    CHECK(!CONNECTION("1.1", "TE ,\tclose\t, x"));
    CHECK(!CONNECTION("1.1", "TE\r\nA: b\r\nConnection: close"));
    CHECK(CONNECTION("1.0", "Keep-Alive"));
    CHECK(CONNECTION("1.0", "x,keep-alive"));
    CHECK(CONNECTION("1.0", "x\r\nConnection: keep-alive"));
    CHECK(!CONNECTION("1.0", "keep-alive, close"));
    CHECK(!CONNECTION("1.0", "close, keep-alive"));
    CHECK(!CONNECTION("1.0", "keepalive"));
}

#define FORGED OK HOST "X_Real-IP: 1\r\nSCRIPT_NAME: /app\r\nPATH-INFO: /p\r\n\r\n"

TEST(names_with_underscores_are_dropped_kept_or_refused)
{
    pws_rules rules = proxy_rules();

    check_head(&r, &rules, false, PWS_SLICE(FORGED), 0, NULL);
    CHECK_EQ(r.req.fields[1].flags, PWS_FIELD_UNDERSCORE | PWS_FIELD_DROPPED);
    CHECK_EQ(r.req.fields[2].flags, PWS_FIELD_UNDERSCORE | PWS_FIELD_DROPPED);
    CHECK_EQ(r.req.fields[3].flags, 0);
    CHECK_SPAN(&r.req, script_name, "");

    rules.header_map = PWS_HEADER_MAP_REFUSE;
    check_head(&r, &rules, false, PWS_SLICE(FORGED), 400,
               "header field name with an underscore");

    rules.header_map = PWS_HEADER_MAP_DANGEROUS;
    check_head(&r, &rules, false, PWS_SLICE(FORGED), 0, NULL);
    CHECK_EQ(r.req.fields[1].flags, PWS_FIELD_UNDERSCORE);
    CHECK_SPAN(&r.req, script_name, "");
}

TEST(a_trusted_peer_may_send_the_forwarders_names)
{
    pws_rules rules = proxy_rules();
    const pws_request *q = accept_forwarded(FORGED, &rules);

    CHECK_EQ(q->fields[1].flags, PWS_FIELD_UNDERSCORE | PWS_FIELD_DROPPED);
    CHECK_EQ(q->fields[2].flags, PWS_FIELD_UNDERSCORE);
    CHECK_SPAN(q, script_name, "/app");

    rules.forwarder_any = true;
    q = accept_forwarded(FORGED, &rules);
    CHECK_EQ(q->fields[1].flags, PWS_FIELD_UNDERSCORE);
    CHECK_SPAN(q, script_name, "/app");

    rules.forwarder_any = false;
    rules.header_map = PWS_HEADER_MAP_REFUSE;
    check_head(&r, &rules, true, PWS_SLICE(FORGED), 400,
               "header field name with an underscore");
    CHECK_SPAN(accept_forwarded(OK HOST "script_name: /a\r\n\r\n", &rules), script_name,
               "/a");
}

TEST(a_trusted_peer_says_the_scheme)
{
    static const head_case cases[] = {
        HEAD_CASE(OK HOST "X-Forwarded-Proto: https\r\nX-Forwarded-Ssl: off\r\n\r\n",
                  400, "contradictory scheme headers"),
        HEAD_CASE(OK HOST "X-Forwarded-Proto: http\r\nX-Forwarded-Ssl: on\r\n\r\n", 400,
                  "contradictory scheme headers"),
        HEAD_CASE(OK HOST "X-Forwarded-Proto: https\r\nx-forwarded-proto: http\r\n\r\n",
                  400, "contradictory scheme headers"),
    };
    pws_rules rules = proxy_rules();

#define SCHEME(text) accept_forwarded(OK HOST text "\r\n\r\n", &rules)->https
    CHECK(SCHEME("X-Forwarded-Proto: https"));
    CHECK(SCHEME("X-Forwarded-Ssl: on\r\nX-Forwarded-Proto: https"));
    CHECK(!SCHEME("X-Forwarded-Proto: HTTPS"));
    CHECK(!SCHEME("X-Forwarded-Proto: https,http"));
    CHECK(!SCHEME("X-Forwarded-Proto: http\r\nX-Forwarded-Ssl: off"));
    CHECK(!SCHEME("X_Forwarded_Proto: https"));
    CHECK(!SCHEME("A: b"));
    CHECK_HEADS(cases, &rules, true);
    rules.forwarder_any = true;
    CHECK(!SCHEME("X_Forwarded_Proto: https"));
    CHECK(!accept_head(OK HOST "X-Forwarded-Proto: https\r\n\r\n")->https);
}

TEST(percent_decoding_stops_at_the_end)
{
#define DECODED(text, want)                                                            \
    do {                                                                               \
        char *in = guarded(text, sizeof(text) - 1),                                    \
             *out = guarded(text, sizeof(text) - 1);                                   \
        size_t n = pws_percent_decode(out, (pws_slice){in, sizeof(text) - 1});         \
                                                                                       \
        CHECK_BYTES(out, n, want);                                                     \
        n = pws_percent_decode(in, (pws_slice){in, sizeof(text) - 1});                 \
        CHECK_BYTES(in, n, want);                                                      \
    } while (0)
    DECODED("", "");
    DECODED("%", "%");
    DECODED("%4", "%4");
    DECODED("a%", "a%");
    DECODED("%41", "A");
    DECODED("%41%4", "A%4");
    DECODED("%%41", "%A");
    DECODED("%4%41", "%4A");
    DECODED("%zz%4z%z4", "%zz%4z%z4");
    DECODED("%c3%A9+%00/", "\xc3\xa9+\0/");
    DECODED("%2541", "%41");
    DECODED("/a\xff", "/a\xff");
}

TEST(lengths_are_read_digit_by_digit)
{
    uint64_t value = 7;

    CHECK_EQ(pws_parse_length(PWS_SLICE(""), &value), -1);
    CHECK_EQ(pws_parse_length(PWS_SLICE("1a"), &value), -1);
    CHECK_EQ(pws_parse_length(PWS_SLICE("9223372036854775808"), &value), -1);
    CHECK_EQ(value, 7);
    CHECK_EQ(
        pws_parse_length((pws_slice){guarded("9223372036854775807", 19), 19}, &value),
        0);
    CHECK_EQ(value, INT64_MAX);
}
