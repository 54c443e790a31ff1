/* The packets of proto/uwsgi.c: what they mean, and every refusal. */
#include <stdarg.h>

#include "heads.h"

typedef struct {
    char bytes[PWS_UWSGI_MAX + 64];
    size_t len;
} packet;

static feed_head_result r;
static packet p;

static void
put_text(packet *to, const char *text, size_t len)
{
    to->bytes[to->len++] = (char)(len & 0xff);
    to->bytes[to->len++] = (char)(len >> 8);
    memcpy(to->bytes + to->len, text, len);
    to->len += len;
}

static void
put_variable(packet *to, const char *name, const char *value)
{
    put_text(to, name, strlen(name));
    put_text(to, value, strlen(value));
}

static void
begin(packet *to, int modifier1)
{
    to->bytes[0] = (char)modifier1;
    to->len = 4;
}

static void
finish(packet *to)
{
    to->bytes[1] = (char)((to->len - 4) & 0xff);
    to->bytes[2] = (char)((to->len - 4) >> 8);
    to->bytes[3] = 0;
}

/* Names and values up to a NULL. */
static void
make(int modifier1, ...)
{
    const char *name;
    va_list rest;

    begin(&p, modifier1);
    va_start(rest, modifier1);
    while ((name = va_arg(rest, const char *)) != NULL) {
        put_variable(&p, name, va_arg(rest, const char *));
    }
    va_end(rest);
    finish(&p);
}

static void
check_packet_of(const pws_rules *rules, bool trusted, pws_slice text, int status,
                const char *refusal)
{
    static char longer[sizeof(p.bytes) + 8];

    feed_packet(&r, GUARDED, rules, trusted, text.at, text.len, FEED_BYTES);
    check_verdict(&r, (pws_slice){"(bytes)", 7}, status, refusal);
    if (status != FEED_MORE) {
        memcpy(longer, text.at, text.len);
        memcpy(longer + text.len, "\xff\xff\0GET /", 8);
        feed_packet(&r, GUARDED, rules, trusted, longer, text.len + 8, FEED_WHOLE);
        check_verdict(&r, (pws_slice){"(more)", 6}, status, refusal);
        CHECK(status != 0 || r.parser.stage == PWS_HEAD_PING ||
              r.parser.at == text.len);
    }
    feed_packet(&r, GUARDED, rules, trusted, text.at, text.len, FEED_WHOLE);
    check_verdict(&r, (pws_slice){"(whole)", 7}, status, refusal);
}

/* The packet goes whole, byte by byte and with trailing bytes; `r` keeps the last. */
static void
check_packet(int status, const char *refusal)
{
    pws_rules rules = feed_rules();

    check_packet_of(&rules, false, (pws_slice){p.bytes, p.len}, status, refusal);
}

static void
check_bytes(pws_slice text, int status, const char *refusal)
{
    pws_rules rules = feed_rules();

    check_packet_of(&rules, false, text, status, refusal);
}

/* The flags of the last field with this name, which has this value; -1: there is none.
 */
static int
field_flags(const char *name, const char *value)
{
    for (uint32_t i = r.req.field_count; i-- > 0;) {
        const pws_field *f = &r.req.fields[i];

        if (pws_slice_eq(pws_request_slice(&r.req, f->name), pws_slice_of(name))) {
            CHECK(
                pws_slice_eq(pws_request_slice(&r.req, f->value), pws_slice_of(value)));
            return f->flags;
        }
    }
    return -1;
}

#define VARIABLE (PWS_FIELD_REPLACES | PWS_FIELD_VARIABLE)

TEST(a_request_of_nginx_is_taken_apart)
{
    make(0, "QUERY_STRING", "q=1", "REQUEST_METHOD", "POST", "CONTENT_TYPE", "text/x",
         "CONTENT_LENGTH", "3", "REQUEST_URI", "/a%20b?q=1", "PATH_INFO", "/a b",
         "DOCUMENT_ROOT", "/srv", "SERVER_PROTOCOL", "HTTP/2.0", "REQUEST_SCHEME",
         "https", "REMOTE_ADDR", "192.0.2.7", "REMOTE_PORT", "1234", "SERVER_PORT",
         "443", "SERVER_NAME", "example.org", "HTTP_HOST", "example.org", "HTTP_X_Y",
         "z", "HTTP_CONTENT_TYPE", "text/x", "HTTP_CONTENT_LENGTH", "3", NULL);
    check_packet(0, NULL);

    CHECK_SPAN(&r.req, method, "POST");
    CHECK_SPAN(&r.req, target, "/a%20b?q=1");
    CHECK_SPAN(&r.req, path, "/a b");
    CHECK_SPAN(&r.req, query, "q=1");
    CHECK_SPAN(&r.req, protocol, "HTTP/2.0");
    CHECK_SPAN(&r.req, client, "192.0.2.7");
    CHECK_EQ(r.req.body, PWS_BODY_LENGTH);
    CHECK_EQ(r.req.length, 3);
    CHECK_EQ(r.req.minor, 0);
    CHECK(r.req.https && r.req.has_scheme && r.req.has_client && r.req.has_server);
    CHECK(!r.req.keep_alive && !r.req.expect_continue && !r.req.path_escaped);
    CHECK(!r.req.head && !r.req.path_is_cut);
    CHECK_EQ(field_flags("HOST", "example.org"), PWS_FIELD_REPLACES);
    CHECK(pws_request_has(&r.req, PWS_FIELD_HOST));
    CHECK_EQ(field_flags("X_Y", "z"), PWS_FIELD_REPLACES);
    CHECK_EQ(field_flags("CONTENT_TYPE", "text/x"), PWS_FIELD_REPLACES);
    CHECK_EQ(field_flags("CONTENT_LENGTH", "3"), PWS_FIELD_REPLACES);
    CHECK_EQ(field_flags("HTTP_CONTENT_TYPE", "text/x"), VARIABLE);
    CHECK_EQ(field_flags("HTTP_CONTENT_LENGTH", "3"), VARIABLE);
    CHECK_EQ(field_flags("DOCUMENT_ROOT", "/srv"), VARIABLE);
    CHECK_EQ(field_flags("REMOTE_ADDR", "192.0.2.7"), VARIABLE);
    CHECK_EQ(field_flags("SERVER_NAME", "example.org"), VARIABLE);
    CHECK_EQ(field_flags("SERVER_PROTOCOL", "HTTP/2.0"), VARIABLE);
    CHECK_EQ(field_flags("PATH_INFO", ""), -1);
    CHECK_EQ(field_flags("QUERY_STRING", ""), -1);
}

TEST(every_cut_in_two_gives_the_same_request)
{
    pws_field fields[8];

    make(30, "REQUEST_METHOD", "HEAD", "SCRIPT_NAME", "/app", "PATH_INFO", "/app/x",
         "HTTP_COOKIE", "a=b", NULL);
    memcpy(p.bytes + p.len, "tail", 4);
    for (size_t cut = 0; cut <= p.len + 4; cut++) {
        pws_head parser;
        pws_request req;
        char *block = guarded(p.bytes, cut);

        pws_head_init(&parser);
        pws_request_init(&req, fields, 8);
        CHECK_EQ(pws_uwsgi_parse(&parser, &req, block, (uint32_t)cut), 0);
        CHECK_EQ(parser.stage == PWS_HEAD_DONE, cut >= p.len);
        CHECK_EQ(parser.seen, cut);
        guarded_release();
        block = guarded(p.bytes, p.len + 4);
        CHECK_EQ(pws_uwsgi_parse(&parser, &req, block, (uint32_t)p.len + 4), 0);
        if (parser.stage == PWS_HEAD_DONE && cut < p.len) {
            CHECK_EQ(parser.at, p.len);
            CHECK_SPAN(&req, method, "HEAD");
            CHECK_SPAN(&req, script_name, "/app");
            CHECK_SPAN(&req, path, "/x");
            CHECK(req.head && req.path_is_cut);
            CHECK_EQ(req.field_count, 1);
            CHECK_SPAN(&req, fields[0].name, "COOKIE");
        }
        guarded_release();
    }
}

TEST(a_packet_is_waited_for)
{
    static const head_case cases[] = {
        HEAD_CASE("", FEED_MORE, NULL),
        HEAD_CASE("\0", FEED_MORE, NULL),
        HEAD_CASE("\0\1\0", FEED_MORE, NULL),
        HEAD_CASE("\0\1\0\0", FEED_MORE, NULL),
        HEAD_CASE("\0\7\0\0\5\0HTTP", FEED_MORE, NULL),
        HEAD_CASE("GET", FEED_MORE, NULL),
    };

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        check_bytes((pws_slice){cases[i].text, cases[i].len}, FEED_MORE, NULL);
    }
}

TEST(malformed_packets_are_refused)
{
    static const char none[] = "no REQUEST_METHOD in the uwsgi variables";
    static const char method[] = "malformed REQUEST_METHOD";
    static const char name[] = "name of a uwsgi variable beyond its block";
    static const char value[] = "value of a uwsgi variable beyond its block";
    static const char bad[] = "malformed name of a uwsgi variable";
    static const head_case cases[] = {
        HEAD_CASE("\0\0\0\0", 400, none),
        HEAD_CASE("\0\1\0\0x", 400, name),
        HEAD_CASE("\0\2\0\0\1\0", 400, name),
        HEAD_CASE("\0\2\0\0\xff\xff", 400, name),
        HEAD_CASE("\0\3\0\0\1\0A", 400, value),
        HEAD_CASE("\0\4\0\0\1\0A\1", 400, value),
        HEAD_CASE("\0\5\0\0\1\0A\1\0", 400, value),
        HEAD_CASE("\0\5\0\0\1\0A\xff\xff", 400, value),
        HEAD_CASE("\0\4\0\0\0\0\0\0", 400, bad),
        HEAD_CASE("\0\5\0\0\1\0 \0\0", 400, bad),
        HEAD_CASE("\0\5\0\0\1\0\0\0\0", 400, bad),
        HEAD_CASE("\0\5\0\0\1\0\x7f\0\0", 400, bad),
        HEAD_CASE("\0\5\0\0\1\0\xe4\0\0", 400, bad),
        HEAD_CASE("\0\5\0\0\1\0A\0\0", 400, none),
        HEAD_CASE("\0\6\0\0\1\0A\0\0x", 400, name),
        HEAD_CASE("\0\x12\0\0\x0e\0REQUEST_METHOD\0\0", 400, none),
        HEAD_CASE("\0\x13\0\0\x0e\0REQUEST_METHOD\1\0 ", 400, method),
        HEAD_CASE("\0\x27\0\0\x0e\0REQUEST_METHOD\x15\0ABCDEFGHIJKLMNOPQRSTU", 400,
                  method),
    };

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        check_bytes((pws_slice){cases[i].text, cases[i].len}, cases[i].status,
                    cases[i].refusal);
    }
}

TEST(another_protocol_is_told_so)
{
    static const char http[] = "HTTP spoken to a uwsgi socket";
    static const char tls[] = "TLS spoken to a uwsgi socket";
    static const head_case cases[] = {
        HEAD_CASE("GET / HTTP/1.1\r\n", 400, http),
        HEAD_CASE("PUT /", 400, http),
        HEAD_CASE("POST", 400, http),
        HEAD_CASE("PRI * HTTP/2.0", 400, http),
        HEAD_CASE("OPTIONS * HTTP/1.1", 400, http),
        HEAD_CASE("\x16\3\1\2", 400, tls),
        HEAD_CASE("\x16\3\3\0\xf4", 400, tls),
    };

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        check_bytes((pws_slice){cases[i].text, cases[i].len}, cases[i].status,
                    cases[i].refusal);
    }
}

TEST(other_modifiers_are_not_implemented)
{
    for (unsigned modifier1 = 0; modifier1 < 256; modifier1++) {
        const char bytes[4] = {(char)modifier1, 0, 0, 0};

        if (modifier1 != 0 && modifier1 != 30 && modifier1 != 100) {
            check_bytes((pws_slice){bytes, 4}, 501,
                        "uwsgi modifier1 other than 0, 30 and 100");
        }
    }
}

TEST(a_ping_is_no_request)
{
    check_bytes((pws_slice){"\x64\0\0\0", 4}, 0, NULL);
    CHECK_EQ(r.parser.stage, PWS_HEAD_PING);
    CHECK_EQ(PWS_UWSGI_PONG.len, 4);
    CHECK(memcmp(PWS_UWSGI_PONG.at, "\x64\0\0\1", 4) == 0);
}

TEST(the_room_for_fields_bounds_the_variables)
{
    char name[24];

    for (unsigned count = FEED_FIELDS; count <= FEED_FIELDS + 1; count++) {
        begin(&p, 0);
        put_variable(&p, "REQUEST_METHOD", "GET");
        for (unsigned i = 1; i < count; i++) {
            snprintf(name, sizeof(name), "HTTP_N%u", i);
            put_variable(&p, name, "");
        }
        finish(&p);
        check_packet(count == FEED_FIELDS ? 0 : 431,
                     count == FEED_FIELDS ? NULL : "too many uwsgi variables");
    }
}

/* The port is added behind all others. */
TEST(the_room_for_fields_grows_for_the_port_of_the_client_too)
{
    enum { MOST = 6 };

    begin(&p, 0);
    put_variable(&p, "REQUEST_METHOD", "GET");
    put_variable(&p, "REMOTE_PORT", "80");
    put_variable(&p, "REMOTE_ADDR", "192.0.2.7");
    put_variable(&p, "HTTP_A", "1");
    put_variable(&p, "HTTP_B", "2");
    finish(&p);
    for (uint32_t room = 1; room <= MOST; room++) {
        pws_field *fields = malloc(room * sizeof(*fields));
        pws_request req;
        pws_head parser;

        pws_head_init(&parser);
        pws_request_init(&req, fields, room);
        req.field_most = MOST;
        req.take = malloc;
        CHECK_EQ(pws_uwsgi_parse(&parser, &req, p.bytes, (uint32_t)p.len), 0);
        CHECK_EQ(req.field_count, 4);
        CHECK_SPAN(&req, fields[3].name, "REMOTE_PORT");
        CHECK_SPAN(&req, fields[3].value, "80");
        CHECK((req.grown != NULL) == (room < 4));
        free(req.grown);
        free(fields);
    }
}

TEST(a_thousand_variables_are_allowed_or_as_many_as_fields)
{
    pws_rules rules = feed_rules();

    CHECK_EQ(pws_rules_variables_max(&rules), 1000);
    rules.fields_max = 32768;
    CHECK_EQ(pws_rules_variables_max(&rules), 32768);
}

TEST(a_block_may_have_65535_bytes)
{
    static char value[65535];

    memset(value, 'v', sizeof(value));
    begin(&p, 0);
    put_variable(&p, "REQUEST_METHOD", "GET");
    put_text(&p, "HTTP_X", 6);
    {
        size_t room = PWS_UWSGI_MAX - p.len - 2;

        put_text(&p, value, room);
        finish(&p);
        CHECK_EQ(p.len, PWS_UWSGI_MAX);
        for (unsigned cut = 0; cut < 8; cut += 7) {
            pws_rules rules = feed_rules();

            feed_packet(&r, GUARDED, &rules, false, p.bytes, p.len, cut);
            CHECK_EQ(r.status, 0);
            CHECK_EQ(r.parser.at, PWS_UWSGI_MAX);
            CHECK_EQ(r.req.fields[0].value.len, room);
        }
    }
}

TEST(of_two_variables_with_a_name_the_last_counts)
{
    make(0, "REQUEST_METHOD", "GET", "REQUEST_METHOD", "PUT", "CONTENT_LENGTH", "1",
         "CONTENT_LENGTH", "2", "PATH_INFO", "/1", "PATH_INFO", "/2", "HTTP_HOST", "a",
         "HTTP_HOST", "b", "X", "1", "X", "2", NULL);
    check_packet(0, NULL);

    CHECK_SPAN(&r.req, method, "PUT");
    CHECK_SPAN(&r.req, path, "/2");
    CHECK_EQ(r.req.length, 2);
    CHECK_BYTES(pws_request_value(&r.req, PWS_FIELD_HOST).at, 1, "b");
    CHECK_BYTES(pws_request_value(&r.req, PWS_FIELD_CONTENT_LENGTH).at, 1, "2");
    CHECK_EQ(r.req.repeated, 0);
    CHECK_EQ(field_flags("X", "2"), VARIABLE);
}

TEST(a_length_is_digits_or_nothing)
{
    static const char *const bad[] = {"+1",
                                      "-1",
                                      "1 ",
                                      " 1",
                                      "1,1",
                                      "0x1",
                                      "1.0",
                                      "x",
                                      "9223372036854775808",
                                      "99999999999999999999"};

    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        make(0, "REQUEST_METHOD", "POST", "CONTENT_LENGTH", bad[i], NULL);
        check_packet(400, "malformed CONTENT_LENGTH");
    }
    make(0, "REQUEST_METHOD", "POST", "CONTENT_LENGTH", "", NULL);
    check_packet(0, NULL);
    CHECK_EQ(r.req.body, PWS_BODY_NONE);
    CHECK_EQ(field_flags("CONTENT_LENGTH", ""), PWS_FIELD_REPLACES);
    make(0, "REQUEST_METHOD", "POST", "CONTENT_LENGTH", "0", NULL);
    check_packet(0, NULL);
    CHECK_EQ(r.req.body, PWS_BODY_NONE);
    make(0, "REQUEST_METHOD", "POST", "CONTENT_LENGTH", "9223372036854775807", NULL);
    check_packet(0, NULL);
    CHECK_EQ(r.req.length, INT64_MAX);
}

TEST(a_body_has_the_limit_of_every_body)
{
    pws_rules rules = feed_rules();

    rules.body_max = 10;
    make(0, "REQUEST_METHOD", "POST", "CONTENT_LENGTH", "10", NULL);
    check_packet_of(&rules, false, (pws_slice){p.bytes, p.len}, 0, NULL);
    make(0, "REQUEST_METHOD", "POST", "CONTENT_LENGTH", "11", NULL);
    check_packet_of(&rules, false, (pws_slice){p.bytes, p.len}, 413,
                    "Content-Length is over limit_request_body");
}

TEST(a_forwarded_coding_is_dropped)
{
    make(0, "REQUEST_METHOD", "POST", "CONTENT_LENGTH", "5", "HTTP_TRANSFER_ENCODING",
         "chunked", NULL);
    check_packet(0, NULL);
    CHECK_EQ(r.req.body, PWS_BODY_LENGTH);
    CHECK_EQ(field_flags("TRANSFER_ENCODING", ""), -1);
    CHECK_EQ(field_flags("HTTP_TRANSFER_ENCODING", ""), -1);
    CHECK(!pws_request_has(&r.req, PWS_FIELD_TRANSFER_ENCODING));
}

TEST(chunks_are_decoded_only_where_no_length_was_sent)
{
    make(0, "REQUEST_METHOD", "POST", "HTTP_TRANSFER_ENCODING", "Chunked", NULL);
    check_packet(0, NULL);
    CHECK_EQ(r.req.body, PWS_BODY_CHUNKED);
    make(0, "REQUEST_METHOD", "POST", "HTTP_TRANSFER_ENCODING", "chunked",
         "CONTENT_LENGTH", "", NULL);
    check_packet(0, NULL);
    CHECK_EQ(r.req.body, PWS_BODY_NONE);
    make(0, "REQUEST_METHOD", "POST", "HTTP_TRANSFER_ENCODING", "gzip, chunked", NULL);
    check_packet(501, "transfer coding other than chunked");
}

/* The path that is left of these two. */
static pws_slice
path_of(int modifier1, const char *script_name, const char *path)
{
    make(modifier1, "REQUEST_METHOD", "GET", "PATH_INFO", path, "SCRIPT_NAME",
         script_name, NULL);
    check_packet(0, NULL);
    CHECK(r.req.path_is_cut);
    CHECK(pws_slice_eq(pws_request_slice(&r.req, r.req.script_name),
                       pws_slice_of(script_name)));
    return pws_request_slice(&r.req, r.req.path);
}

#define CHECK_PATH(modifier1, script_name, path, left)                                 \
    CHECK(pws_slice_eq(path_of((modifier1), (script_name), (path)), PWS_SLICE(left)))

TEST(modifier_30_cuts_whole_segments)
{
    CHECK_PATH(30, "/app", "/app", "");
    CHECK_PATH(30, "/app", "/app/", "/");
    CHECK_PATH(30, "/app", "/app/x", "/x");
    CHECK_PATH(30, "/app", "/application", "/application");
    CHECK_PATH(30, "/app", "/other", "/other");
    CHECK_PATH(30, "/app", "/ap", "/ap");
    CHECK_PATH(30, "/app", "", "");
    CHECK_PATH(30, "/a/b", "/a/b/c", "/c");
    CHECK_PATH(30, "", "/x", "/x");
    CHECK_PATH(30, "", "", "");
    CHECK_PATH(30, "/", "/x", "/x");
    CHECK_PATH(0, "/app", "/app/x", "/app/x");
    CHECK_PATH(0, "/app", "/app", "/app");
}

TEST(path_and_query_are_made_of_the_target_when_they_are_missing)
{
    make(0, "REQUEST_METHOD", "GET", "REQUEST_URI", "/a%20b?c?d", NULL);
    check_packet(0, NULL);
    CHECK_SPAN(&r.req, path, "/a%20b");
    CHECK_SPAN(&r.req, query, "c?d");
    CHECK(r.req.path_escaped && !r.req.path_is_cut);
    make(0, "REQUEST_METHOD", "GET", "REQUEST_URI", "/app/x?", "SCRIPT_NAME", "/app",
         NULL);
    check_packet(0, NULL);
    CHECK_SPAN(&r.req, path, "/x");
    CHECK_SPAN(&r.req, query, "");
    CHECK(!r.req.path_escaped && r.req.path_is_cut);
    make(0, "REQUEST_METHOD", "GET", "REQUEST_URI", "/a?b", "PATH_INFO", "", NULL);
    check_packet(0, NULL);
    CHECK_SPAN(&r.req, path, "");
    CHECK_SPAN(&r.req, query, "b");
    make(0, "REQUEST_METHOD", "GET", NULL);
    check_packet(0, NULL);
    CHECK_SPAN(&r.req, target, "");
    CHECK_SPAN(&r.req, path, "");
    CHECK(!r.req.has_client && !r.req.has_server && !r.req.has_scheme);
}

static bool
is_https(const char *uwsgi, const char *https, const char *scheme)
{
    make(0, "REQUEST_METHOD", "GET", "REQUEST_SCHEME", scheme, "HTTPS", https,
         "UWSGI_SCHEME", uwsgi, NULL);
    check_packet(0, NULL);
    return r.req.https;
}

TEST(the_scheme_is_what_the_first_of_three_says)
{
    CHECK(is_https("https", "off", "http"));
    CHECK(is_https("HTTPS", "", ""));
    CHECK(!is_https("http", "on", "https"));
    CHECK(is_https("", "on", "http"));
    CHECK(is_https("", "ON", "http"));
    CHECK(is_https("", "1", "http"));
    CHECK(!is_https("", "off", "https"));
    CHECK(!is_https("", "0", "https"));
    CHECK(is_https("", "", "https"));
    CHECK(!is_https("", "", "http"));
    CHECK(r.req.has_scheme);
    CHECK(!is_https("", "", ""));
    CHECK(!r.req.has_scheme);
}

TEST(forwarded_schemes_count_from_trusted_peers_where_no_variable_says_one)
{
    static const pws_scheme_field fields[] = {{{"X_FORWARDED_PROTO", 17}, {"https", 5}},
                                              {{"X_FORWARDED_SSL", 15}, {"on", 2}}};
    pws_rules rules = feed_rules();
    pws_slice bytes;

    rules.scheme_fields = fields;
    rules.scheme_count = 2;
    make(0, "REQUEST_METHOD", "GET", "HTTP_X_FORWARDED_PROTO", "https", NULL);
    bytes = (pws_slice){p.bytes, p.len};
    check_packet_of(&rules, true, bytes, 0, NULL);
    CHECK(r.req.https);
    check_packet_of(&rules, false, bytes, 0, NULL);
    CHECK(!r.req.https);
    make(0, "REQUEST_METHOD", "GET", "HTTP_X_FORWARDED_PROTO", "https",
         "REQUEST_SCHEME", "http", NULL);
    bytes.len = p.len;
    check_packet_of(&rules, true, bytes, 0, NULL);
    CHECK(!r.req.https);
    make(0, "REQUEST_METHOD", "GET", "X_FORWARDED_PROTO", "https", NULL);
    bytes.len = p.len;
    check_packet_of(&rules, true, bytes, 0, NULL);
    CHECK(!r.req.https);
    make(0, "REQUEST_METHOD", "GET", "HTTP_X_FORWARDED_PROTO", "https",
         "HTTP_X_FORWARDED_SSL", "off", NULL);
    bytes.len = p.len;
    check_packet_of(&rules, true, bytes, 400, "contradictory scheme headers");
}

TEST(objects_of_ours_are_not_for_a_front_end_to_name)
{
    make(0, "REQUEST_METHOD", "GET", "wsgi.input", "x", "gunicorn.socket", "x",
         "SERVER_SOFTWARE", "nginx", "RAW_URI", "/x", "wsgi", "kept", NULL);
    check_packet(0, NULL);
    CHECK_EQ(r.req.field_count, 1);
    CHECK_EQ(field_flags("wsgi", "kept"), VARIABLE);
}

TEST(what_uwsgi_would_obey_is_noted_and_kept)
{
    static const char *const names[] = {
        "UWSGI_APPID",  "UWSGI_CACHE_GET", "UWSGI_CALLABLE", "UWSGI_CHDIR",
        "UWSGI_FILE",   "UWSGI_HOME",      "UWSGI_MODULE",   "UWSGI_POSTFILE",
        "UWSGI_PYHOME", "UWSGI_SCRIPT",    "UWSGI_SETENV",   "UWSGI_TOUCH_RELOAD"};

    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        make(0, "REQUEST_METHOD", "GET", names[i], "x", NULL);
        check_packet(0, NULL);
        CHECK(pws_slice_eq(pws_request_slice(&r.req, r.req.inert),
                           pws_slice_of(names[i])));
        CHECK_EQ(field_flags(names[i], "x"), VARIABLE);
    }
    make(0, "REQUEST_METHOD", "GET", "UWSGI_ROUTER", "http", NULL);
    check_packet(0, NULL);
    CHECK_EQ(r.req.inert.len, 0);
}

TEST(a_port_of_the_client_goes_with_its_address)
{
    make(0, "REMOTE_PORT", "1", "REQUEST_METHOD", "GET", "REMOTE_ADDR", "::1",
         "REMOTE_PORT", "22", NULL);
    check_packet(0, NULL);
    CHECK_EQ(r.req.field_count, 2);
    CHECK_SPAN(&r.req, fields[0].value, "::1");
    CHECK_SPAN(&r.req, fields[1].name, "REMOTE_PORT");
    CHECK_SPAN(&r.req, fields[1].value, "22");
    make(0, "REQUEST_METHOD", "GET", "REMOTE_PORT", "22", NULL);
    check_packet(0, NULL);
    CHECK_EQ(r.req.field_count, 0);
}

TEST(a_server_without_a_name_has_none)
{
    make(0, "REQUEST_METHOD", "GET", "SERVER_NAME", "", "SERVER_PORT", "80", NULL);
    check_packet(0, NULL);
    CHECK(!r.req.has_server);
    CHECK_EQ(field_flags("SERVER_NAME", ""), -1);
    CHECK_EQ(field_flags("SERVER_PORT", "80"), VARIABLE);
}

TEST(names_of_fields_may_be_odd)
{
    make(0, "REQUEST_METHOD", "GET", "HTTP_", "1", "HTTP_a.b", "2", "HTTPX", "3", NULL);
    check_packet(0, NULL);
    CHECK_EQ(field_flags("HTTP_", "1"), VARIABLE);
    CHECK_EQ(field_flags("a.b", "2"), PWS_FIELD_REPLACES);
    CHECK_EQ(field_flags("HTTPX", "3"), VARIABLE);
}
