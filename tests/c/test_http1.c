/* The head of a request: line, fields, limits; every refusal of proto/http1.c. */
#include "heads.h"
#include "proto/chars.h"

#define OK "GET / HTTP/1.1\r\n"
#define HOST "Host: x\r\n"

static feed_head_result r;

static void
accept_head(const char *text)
{
    pws_rules rules = feed_rules();

    check_head(&r, &rules, false, pws_slice_of(text), 0, NULL);
}

/* `n` times `fill` between two strings, from malloc. */
static pws_slice
made_of(const char *before, size_t n, char fill, const char *after)
{
    size_t before_len = strlen(before), after_len = strlen(after);
    char *text = malloc(before_len + n + after_len);

    memcpy(text, before, before_len);
    memset(text + before_len, fill, n);
    memcpy(text + before_len + n, after, after_len);
    return (pws_slice){text, before_len + n + after_len};
}

/* As check_head, for texts too long for byte by byte: each piece is a copy of all that
 * has come. Takes the text. */
static void
check_long(const pws_rules *rules, pws_slice text, int status, const char *refusal)
{
    pws_slice shown = {text.at, 20};

    feed_head(&r, GUARDED, rules, false, text.at, text.len, FEED_WHOLE);
    check_verdict(&r, shown, status, refusal);
    feed_head(&r, GUARDED, rules, false, text.at, text.len, text.len > 9999 ? 4099 : 7);
    check_verdict(&r, shown, status, refusal);
    free((char *)text.at);
}

TEST(a_request_is_taken_apart)
{
    accept_head("POST /a%20b?q=1?2 HTTP/1.1\r\nHost: example.org\r\nAccept-Language:\t "
                "en \t\r\n"
                "X-Custom:\r\n\r\n");

    CHECK_SPAN(&r.req, method, "POST");
    CHECK_SPAN(&r.req, target, "/a%20b?q=1?2");
    CHECK_EQ(r.req.minor, 1);
    CHECK_EQ(r.req.head, false);
    CHECK_EQ(r.req.field_count, 3);
    CHECK_SPAN(&r.req, fields[0].name, "HOST");
    CHECK_SPAN(&r.req, fields[0].value, "example.org");
    CHECK_EQ(r.req.fields[0].id, PWS_FIELD_HOST);
    CHECK_SPAN(&r.req, fields[1].name, "ACCEPT_LANGUAGE");
    CHECK_SPAN(&r.req, fields[1].value, "en");
    CHECK_EQ(r.req.fields[1].id, PWS_FIELD_ACCEPT_LANGUAGE);
    CHECK_SPAN(&r.req, fields[2].name, "X_CUSTOM");
    CHECK_SPAN(&r.req, fields[2].value, "");
    CHECK_EQ(r.req.fields[2].id, PWS_FIELD_UNKNOWN);
    CHECK_EQ(r.req.fields[2].flags, 0);
}

TEST(every_cut_in_two_gives_the_same_request)
{
    static const char text[] =
        "\r\nHEAD http://h:8/p?q HTTP/1.0\r\nHost: x\r\nA_b: c\r\n"
        "Connection: keep-alive\r\nContent-Length: 3\r\n\r\nabc";
    const size_t len = sizeof(text) - 1;
    pws_rules rules = feed_rules();
    pws_field fields[8];

    for (size_t cut = 0; cut <= len; cut++) {
        pws_head parser;
        pws_request req;
        char kept[sizeof(text)], *block = guarded(text, cut);

        pws_head_init(&parser);
        pws_request_init(&req, fields, 8);
        CHECK_EQ(pws_http1_parse(&parser, &rules, &req, block, (uint32_t)cut), 0);
        CHECK_EQ(parser.stage == PWS_HEAD_DONE, cut >= len - 3);
        memcpy(kept, block, cut);
        memcpy(kept + cut, text + cut, len - cut);
        guarded_release();
        block = guarded(kept, len);
        CHECK_EQ(pws_http1_parse(&parser, &rules, &req, block, (uint32_t)len), 0);
        CHECK_EQ(parser.stage, PWS_HEAD_DONE);
        CHECK_EQ(parser.at, len - 3);
        CHECK_EQ(pws_request_judge(&req, &rules, false), 0);
        CHECK_SPAN(&req, method, "HEAD");
        CHECK_SPAN(&req, authority, "h:8");
        CHECK_SPAN(&req, path, "/p");
        CHECK_SPAN(&req, query, "q");
        CHECK_EQ(req.field_count, 4);
        CHECK_SPAN(&req, fields[1].name, "A_B");
        CHECK_SPAN(&req, fields[3].value, "3");
        CHECK_EQ(req.length, 3);
        CHECK(req.head && req.keep_alive);
    }
}

TEST(pipelined_requests_are_found_one_behind_the_other)
{
    char *text = guarded(
        "GET /1 HTTP/1.1\r\nHost: x\r\n\r\nGET /2 HTTP/1.1\r\nHost: y\r\n\r\n", 56);
    pws_rules rules = feed_rules();
    pws_field fields[2];
    pws_head parser;
    pws_request req;

    pws_request_init(&req, fields, 2);
    for (uint32_t i = 0; i < 2; i++) {
        pws_head_init(&parser);
        CHECK_EQ(pws_http1_parse(&parser, &rules, &req, text + 28 * i, 56 - 28 * i), 0);
        CHECK_EQ(parser.stage, PWS_HEAD_DONE);
        CHECK_EQ(parser.at, 28);
        CHECK_EQ(req.base[req.target.at + 1], '1' + (char)i);
        CHECK_EQ(pws_http1_parse(&parser, &rules, &req, text + 28 * i, 56 - 28 * i), 0);
        CHECK_EQ(parser.at, 28);
        pws_request_reset(&req);
        CHECK_EQ(req.field_room, 2);
        CHECK_EQ(req.field_count, 0);
    }
}

TEST(incomplete_heads_are_waited_for)
{
    static const head_case cases[] = {
        HEAD_CASE("", FEED_MORE, NULL),
        HEAD_CASE("\r", FEED_MORE, NULL),
        HEAD_CASE("\r\n", FEED_MORE, NULL),
        HEAD_CASE("GET", FEED_MORE, NULL),
        HEAD_CASE("GET / HTTP/1.1\r", FEED_MORE, NULL),
        HEAD_CASE(OK, FEED_MORE, NULL),
        HEAD_CASE(OK HOST, FEED_MORE, NULL),
        HEAD_CASE(OK HOST "\r", FEED_MORE, NULL),
    };
    pws_rules rules = feed_rules();

    CHECK_HEADS(cases, &rules, false);
}

TEST(malformed_request_lines_are_refused)
{
    static const char method[] = "malformed method", line[] = "malformed request line";
    static const char version[] = "malformed HTTP version";
    static const char other[] = "HTTP version other than 1.0 and 1.1";
    static const char target[] = "forbidden byte in the request target";
    static const head_case cases[] = {
        HEAD_CASE(" / HTTP/1.1\r\n", 400, method),
        HEAD_CASE("GET\r\n", 400, method),
        HEAD_CASE("ABCDEFGHIJKLMNOPQRSTU / HTTP/1.1\r\n", 400, method),
        HEAD_CASE("get / HTTP/1.1\r\n", 400, method),
        HEAD_CASE("GET# / HTTP/1.1\r\n", 400, method),
        HEAD_CASE("G:T / HTTP/1.1\r\n", 400, method),
        HEAD_CASE("GET\t/ HTTP/1.1\r\n", 400, method),
        HEAD_CASE("\x16\x03\x01\r\n", 400, method),
        HEAD_CASE("GET \r\n", 400, line),
        HEAD_CASE("GET /\r\n", 400, line),
        HEAD_CASE("GET HTTP/1.1\r\n", 400, line),
        HEAD_CASE("GET  HTTP/1.1\r\n", 400, line),
        HEAD_CASE("GET /\tHTTP/1.1\r\n", 400, line),
        HEAD_CASE("GET / HTTP/1.1 \r\n", 400, line),
        HEAD_CASE("GET / HTTP/1.10\r\n", 400, line),
        HEAD_CASE("GET  / HTTP/1.1\r\n", 400, target),
        HEAD_CASE("GET /  HTTP/1.1\r\n", 400, target),
        HEAD_CASE("GET /a b HTTP/1.1\r\n", 400, target),
        HEAD_CASE("GET /a#b HTTP/1.1\r\n", 400, target),
        HEAD_CASE("GET /\r HTTP/1.1\r\n", 400, target),
        HEAD_CASE("GET /\x7f HTTP/1.1\r\n", 400, target),
        HEAD_CASE("GET /\0 HTTP/1.1\r\n", 400, target),
        HEAD_CASE("GET / http/1.1\r\n", 400, version),
        HEAD_CASE("GET / HTTP/x.1\r\n", 400, version),
        HEAD_CASE("GET / HTTP/1,1\r\n", 400, version),
        HEAD_CASE("GET / HTTP/1.x\r\n", 400, version),
        HEAD_CASE("GET / HTTP/1.2\r\n", 505, other),
        HEAD_CASE("GET / HTTP/0.9\r\n", 505, other),
        HEAD_CASE("PRI * HTTP/2.0\r\n", 505, other),
    };
    pws_rules rules = feed_rules();

    CHECK_HEADS(cases, &rules, false);
}

TEST(uwsgi_is_told_that_this_is_http)
{
    static const char why[] = "uwsgi spoken to an HTTP socket";
    static const head_case cases[] = {
        HEAD_CASE("\0", 400, why),
        HEAD_CASE("\0\x12\0\0\x0e\0REQUEST_METHOD\0\0", 400, why),
        HEAD_CASE("\0\n\r\n", 400, why),
        HEAD_CASE("\x1e\x04", 400, why),
        HEAD_CASE("\x64\0\0\0", 400, why),
        HEAD_CASE("d\0\r\n", 400, why),
        HEAD_CASE("d / HTTP/1.1\r\n", 400, "malformed method"),
        HEAD_CASE("\r\n\0 / HTTP/1.1\r\n", 400, "malformed method"),
    };
    pws_rules rules = feed_rules();

    CHECK_HEADS(cases, &rules, false);
}

TEST(malformed_fields_are_refused)
{
    static const char name[] = "malformed header field name";
    static const char value[] = "forbidden byte in a header field value";
    static const head_case cases[] = {
        HEAD_CASE(OK "Host x\r\n", 400, name),
        HEAD_CASE(OK "Host\r\n", 400, name),
        HEAD_CASE(OK "Host : x\r\n", 400, name),
        HEAD_CASE(OK ": x\r\n", 400, name),
        HEAD_CASE(OK " Host: x\r\n", 400, name),
        HEAD_CASE(OK HOST "X: a\r\n folded\r\n", 400, name),
        HEAD_CASE(OK HOST "X: a\r\n\tfolded\r\n", 400, name),
        HEAD_CASE(OK "H\xc3\xb6st: x\r\n", 400, name),
        HEAD_CASE(OK "H\0st: x\r\n", 400, name),
        HEAD_CASE(OK "(x): x\r\n", 400, name),
        HEAD_CASE(OK "X: \0\r\n", 400, value),
        HEAD_CASE(OK "X: \x7f\r\n", 400, value),
        HEAD_CASE(OK "X: \x0b\r\n", 400, value),
        HEAD_CASE(OK "X: a\rb\r\n", 400, value),
        HEAD_CASE(OK "X: a\r\r\n", 400, value),
        HEAD_CASE(OK "X: 0123456789abcdef0123456789abcdef\x1b\r\n", 400, value),
    };
    pws_rules rules = feed_rules();

    CHECK_HEADS(cases, &rules, false);
}

TEST(a_line_ends_with_crlf_only)
{
    static const char why[] = "line without CRLF";
    static const head_case cases[] = {
        HEAD_CASE("\n", 400, why),         HEAD_CASE("GET / HTTP/1.1\n", 400, why),
        HEAD_CASE("\r\n\n", 400, why),     HEAD_CASE(OK "\n", 400, why),
        HEAD_CASE(OK "X: a\n", 400, why),  HEAD_CASE(OK "X: a\nb\r\n", 400, why),
        HEAD_CASE(OK HOST "\n", 400, why),
    };
    pws_rules rules = feed_rules();

    CHECK_HEADS(cases, &rules, false);
}

TEST(two_empty_lines_are_passed_over)
{
    static const head_case cases[] = {
        HEAD_CASE("\r\n" OK HOST "\r\n", 0, NULL),
        HEAD_CASE("\r\n\r\n" OK HOST "\r\n", 0, NULL),
        HEAD_CASE("\r\n\r\n\r\n", 400, "too many empty lines"),
    };
    pws_rules rules = feed_rules();

    CHECK_HEADS(cases, &rules, false);
}

TEST(a_request_line_has_a_bound)
{
    static const char why[] = "request line over limit_request_line";
    static const head_case cases[] = {
        HEAD_CASE("GET /678 HTTP/1.1\r\n" HOST "\r\n", 0, NULL),
        HEAD_CASE("\r\nGET /678 HTTP/1.1\r\n" HOST "\r\n", 0, NULL),
        HEAD_CASE("GET /678 HTTP/1.1\r", FEED_MORE, NULL),
        HEAD_CASE("GET /6789 HTTP/1.1\r\n", 414, why),
        HEAD_CASE("GET /67890123456789", FEED_MORE, NULL),
        HEAD_CASE("GET /678901234567890", 414, why),
    };
    pws_rules rules = feed_rules();

    rules.line_max = 17;
    CHECK_HEADS(cases, &rules, false);
}

TEST(a_field_has_a_bound_that_includes_its_crlf)
{
    static const char why[] = "header field over limit_request_field_size";
    static const head_case cases[] = {
        HEAD_CASE(OK HOST "\r\n", 0, NULL),
        HEAD_CASE(OK "Host: xy\r\n", 431, why),
        HEAD_CASE(OK "Host: xyz", FEED_MORE, NULL),
        HEAD_CASE(OK "Host: xyz0", 431, why),
    };
    pws_rules rules = feed_rules();

    rules.field_size_max = 9;
    CHECK_HEADS(cases, &rules, false);
}

TEST(fields_are_counted)
{
    static const char why[] = "more header fields than limit_request_fields";
    static const head_case cases[] = {
        HEAD_CASE(OK HOST "A: b\r\n\r\n", 0, NULL),
        HEAD_CASE(OK HOST "A_: b\r\nC: d\r\n", 431, why),
    };
    pws_rules rules = feed_rules();

    rules.fields_max = 2;
    CHECK_HEADS(cases, &rules, false);
}

TEST(the_room_for_fields_is_a_bound_of_its_own)
{
    char *text = guarded(OK "A: 1\r\nB: 2\r\n\r\n", 30);
    pws_rules rules = feed_rules();
    pws_field fields[1];
    pws_head parser;
    pws_request req;

    pws_head_init(&parser);
    pws_request_init(&req, fields, 1);
    CHECK_EQ(pws_http1_parse(&parser, &rules, &req, text, 30), 431);
    CHECK(strcmp(req.refusal, "too many header fields") == 0);
}

TEST(a_request_makes_room_for_as_many_fields_as_there_may_be)
{
    char *text = guarded("GET / HTTP/1.1\r\nHost: x\r\nA: 1\r\nB: 2\r\n\r\n", 39);
    char *more = guarded("C: 3\r\n", 6);
    pws_rules rules = feed_rules();
    pws_field fields[1];
    pws_head parser;
    pws_request req;

    pws_request_init(&req, fields, 1);
    req.field_most = 3;
    req.take = malloc;
    for (int round = 0; round < 2; round++) {
        pws_head_init(&parser);
        CHECK_EQ(pws_http1_parse(&parser, &rules, &req, text, 39), 0);
        CHECK_EQ(parser.stage, PWS_HEAD_DONE);
        CHECK_EQ(req.field_count, 3);
        CHECK_SPAN(&req, fields[0].value, "x");
        CHECK_SPAN(&req, fields[2].value, "2");
        CHECK(req.fields == req.grown);
        req.base = more;
        CHECK_EQ(pws_request_add(&req, (pws_span){0, 1}, (pws_span){3, 1}, 0), 431);
        CHECK(strcmp(req.refusal, "too many header fields") == 0);
        pws_request_reset(&req);
        CHECK_EQ(req.field_count, 0);
        CHECK_EQ(req.field_room, 3);
        CHECK(req.refusal == NULL);
    }
    free(req.grown);
}

TEST(a_head_has_a_bound)
{
    static const char why[] = "request head too large";
    static const head_case cases[] = {
        HEAD_CASE(OK HOST "A: b\r\n\r\n", 0, NULL),
        HEAD_CASE(OK HOST "A: bc\r\n\r\n", 431, why),
        HEAD_CASE(OK HOST "A: b\r\nC: d\r\n", 431, why),
        HEAD_CASE(OK HOST "A: bcdefghi", 431, why),
        HEAD_CASE(OK HOST "A: bcdef", FEED_MORE, NULL),
    };
    pws_rules rules = feed_rules();

    rules.head_max = 33;
    CHECK_HEADS(cases, &rules, false);
}

TEST(the_first_bound_decides_however_the_bytes_are_cut)
{
    pws_rules rules = feed_rules();

    check_long(&rules, made_of("GET /", PWS_HEAD_MAX + 9, 'a', " HTTP/1.1\r\n"), 414,
               "request line over limit_request_line");
    check_long(&rules, made_of("GET /", PWS_HEAD_MAX + 9, 'a', ""), 414,
               "request line over limit_request_line");
    check_long(&rules, made_of(OK "X: ", PWS_HEAD_MAX + 9, 'a', ""), 431,
               "header field over limit_request_field_size");
    rules.line_max = rules.field_size_max = UINT32_MAX;
    rules.head_max = 20000; /* each piece is copied with all those before it */
    check_long(&rules, made_of("GET /", rules.head_max + 9, 'a', " HTTP/1.1\r\n"), 431,
               "request head too large");
    check_long(&rules, made_of(OK "X: ", rules.head_max + 9, 'a', "\r\n"), 431,
               "request head too large");
}

TEST(a_head_is_bounded_without_other_bounds)
{
    pws_rules rules = feed_rules();
    pws_slice text = made_of("GET /", PWS_HEAD_MAX + 9, 'a', " HTTP/1.1\r\n");

    rules.line_max = rules.field_size_max = UINT32_MAX;
    feed_head(&r, GUARDED, &rules, false, text.at, text.len, FEED_WHOLE);
    check_verdict(&r, (pws_slice){text.at, 20}, 431, "request head too large");
    free((char *)text.at);
}

TEST(the_bounds_hold_at_the_default_limits)
{
    pws_rules rules = feed_rules();

    check_long(&rules, made_of("GET /", 4094 - 14, 'a', " HTTP/1.1\r\n" HOST "\r\n"), 0,
               NULL);
    check_long(&rules, made_of("GET /", 4094 - 13, 'a', " HTTP/1.1\r\n" HOST "\r\n"),
               414, "request line over limit_request_line");
    check_long(&rules, made_of(OK HOST "X: ", 8190 - 5, 'a', "\r\n\r\n"), 0, NULL);
    check_long(&rules, made_of(OK HOST "X: ", 8190 - 4, 'a', "\r\n\r\n"), 431,
               "header field over limit_request_field_size");
}

TEST(methods_are_tokens_in_upper_case)
{
    accept_head("OPT / HTTP/1.1\r\nHost: x\r\n\r\n");
    accept_head("ABCDEFGHIJKLMNOPQRST / HTTP/1.1\r\nHost: x\r\n\r\n");
    accept_head("M-SEARCH / HTTP/1.1\r\nHost: x\r\n\r\n");
    accept_head("!$%&'*+-.^_`|~09 / HTTP/1.1\r\nHost: x\r\n\r\n");
    CHECK_SPAN(&r.req, method, "!$%&'*+-.^_`|~09");
    accept_head("HEAD / HTTP/1.1\r\nHost: x\r\n\r\n");
    CHECK(r.req.head);
    accept_head("HEAR / HTTP/1.0\r\n\r\n");
    CHECK(!r.req.head);
    CHECK_EQ(r.req.minor, 0);
}

TEST(the_byte_tables_are_those_of_the_rfc)
{
    for (unsigned c = 0; c < 256; c++) {
        bool alpha = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
        bool digit = c >= '0' && c <= '9';
        bool token =
            alpha || digit || (c != 0 && strchr("!#$%&'*+-.^_`|~", (int)c) != NULL);
        unsigned cgi = c >= 'a' && c <= 'z' ? c - 32 : c == '-' ? '_' : c;

        if (c == '_') {
            cgi |= PWS_CGI_UNDERSCORE;
        }
        CHECK_EQ(pws_cgi[c], token ? cgi : 0);
        CHECK_EQ(pws_is_token((char)c), token);
        CHECK_EQ(pws_target_char[c], c > 0x20 && c != 0x7f && c != '#');
        CHECK_EQ(pws_is_digit((char)c), digit);
    }
}

TEST(hexadecimal_digits_have_their_value)
{
    for (unsigned c = 0; c < 256; c++) {
        static const char digits[] = "0123456789abcdef";
        const char *found = c != 0 ? strchr(digits, pws_lower((char)c)) : NULL;

        CHECK_EQ(pws_hex_value((char)c), found != NULL ? found - digits : -1);
    }
}

TEST(a_value_is_scanned_to_its_first_control)
{
    for (unsigned c = 0; c < 256; c++) {
        bool allowed = c == '\t' || (c >= 0x20 && c != 0x7f);

        for (size_t len = 1; len < 50; len++) {
            for (size_t at = 0; at<len; at += len> 18 ? 5 : 1) {
                char text[50];

                memset(text, 'a', len);
                text[at] = (char)c;
                CHECK_EQ(pws_field_value_span(guarded(text, len), len),
                         allowed ? len : at);
            }
            guarded_release();
        }
    }
    CHECK_EQ(pws_field_value_span(guarded("", 0), 0), 0);
}

TEST(the_same_bytes_are_counted_up_to_the_first_other)
{
    for (size_t len = 0; len < 100; len++) {
        char a[100], b[100];

        memset(a, 'a', len);
        for (size_t at = 0; at <= len; at++) {
            memset(b, 'a', len);
            memset(b + at, 'b', len - at > 3 ? 3 : len - at);
            CHECK_EQ(pws_same_span(guarded(a, len), guarded(b, len), len), at);
            guarded_release();
        }
    }
}
