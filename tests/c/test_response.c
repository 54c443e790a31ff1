/* The head of a response: bytes, framing, what is dropped, what is refused. */
#include <stdio.h>
#include <stdlib.h>

#include "harness.h"
#include "proto/response.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))
#define FIELD(name, value)                                                             \
    {                                                                                  \
        {name, sizeof(name) - 1},                                                      \
        {                                                                              \
            value, sizeof(value) - 1                                                   \
        }                                                                              \
    }

/* As an app on a kept HTTP/1.1 connection would have it. */
static pws_response
response(const char *status, const pws_header *fields, size_t count)
{
    return (pws_response){
        .status = pws_slice_of(status),
        .fields = fields,
        .field_count = count,
        .known_length = PWS_LENGTH_UNKNOWN,
        .keep_alive = true,
    };
}

/* Write into memory of exactly the promised size, with guarded texts. */
static pws_slice
write_head(pws_response *r)
{
    size_t room = pws_response_room(r);
    char *filler = calloc(1, room), *dst = guarded(filler, room);
    pws_header *fields = calloc(r->field_count + 1, sizeof(*fields));
    pws_slice written;

    for (size_t i = 0; i < r->field_count; i++) {
        pws_header h = r->fields[i];

        fields[i] = (pws_header){{guarded(h.name.at, h.name.len), h.name.len},
                                 {guarded(h.value.at, h.value.len), h.value.len}};
    }
    r->status.at = guarded(r->status.at, r->status.len);
    r->fields = fields;
    written = (pws_slice){dst, pws_response_write(r, dst)};
    free(filler);
    free(fields);
    r->fields = NULL;
    return written;
}

#define CHECK_WRITTEN(r, literal)                                                      \
    do {                                                                               \
        pws_slice got = write_head(r);                                                 \
                                                                                       \
        CHECK_BYTES(got.at, got.len, literal);                                         \
        CHECK((r)->refusal == NULL);                                                   \
    } while (0)

static void
check_refused(const char *status, pws_slice name, pws_slice value, const char *why)
{
    pws_header fields[] = {FIELD("A", "b"), {name, value}};
    pws_response r = response(status, fields, COUNT(fields));

    CHECK_EQ(write_head(&r).len, 0);
    CHECK(r.refusal != NULL && strcmp(r.refusal, why) == 0);
}

TEST(a_head_is_written)
{
    pws_header fields[] = {FIELD("Content-Type", "text/plain"), FIELD("X-A", ""),
                           FIELD("x-a", "\x80\t\xff")};
    pws_response r = response("200 OK", fields, COUNT(fields));

    r.known_length = 13;
    r.server = PWS_SLICE("us");
    r.date = PWS_SLICE("today");
    CHECK_WRITTEN(&r, "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nX-A: \r\n"
                      "x-a: \x80\t\xff\r\nServer: us\r\nDate: today\r\n"
                      "Content-Length: 13\r\n\r\n");
    CHECK_EQ(r.code, 200);
    CHECK_EQ(r.frame, PWS_FRAME_LENGTH);
    CHECK_EQ(r.length, 13);
    CHECK(r.keep_alive);
}

TEST(a_status_without_reason_keeps_its_space)
{
    pws_response bare = response("204", NULL, 0), empty = response("204 ", NULL, 0);

    CHECK_WRITTEN(&bare, "HTTP/1.1 204 \r\n\r\n");
    CHECK_WRITTEN(&empty, "HTTP/1.1 204 \r\n\r\n");
}

TEST(an_invalid_status_is_refused)
{
    static const char *const invalid[] = {
        "",         "2",        "20",       "2000 OK",      "099 No",  "a00 OK",
        "20x OK",   "2x0 OK",   "200OK",    "200\tOK",      " 200 OK", "200 OK\r\nA: b",
        "200 \n",   "200 \r",   "200 \x7f", "200 a\x1b[2J", "+20 OK",  "-20 OK",
        "200 \x01", "200 \x1f", "\xb2 0 OK"};

    for (size_t i = 0; i < COUNT(invalid); i++) {
        check_refused(invalid[i], PWS_SLICE("B"), PWS_SLICE("c"),
                      "invalid status line");
    }
    for (int i = 0; i < 2; i++) {
        pws_response r = response("", NULL, 0);

        r.status = i == 0 ? PWS_SLICE("200 O\0K") : PWS_SLICE("200\0");
        CHECK_EQ(write_head(&r).len, 0);
    }
}

TEST(an_interim_status_is_no_final_response)
{
    pws_response r = response("103 Early Hints", NULL, 0);

    check_refused("100 Continue", PWS_SLICE("B"), PWS_SLICE("c"),
                  "interim status as the final response");
    r.interim = true;
    CHECK_WRITTEN(&r, "HTTP/1.1 103 Early Hints\r\n\r\n");
}

TEST(an_invalid_field_is_refused)
{
    static const char name[] = "invalid header name", value[] = "invalid header value";

    check_refused("200 OK", PWS_SLICE(""), PWS_SLICE("c"), "empty header name");
    for (unsigned c = 0; c < 256; c++) {
        char byte = (char)c, text[20];

        if (c != '_' && c != '-' &&
            (c < 0x21 || c >= 0x7f || strchr("()<>@,;:\\\"/[]?={}", (int)c))) {
            check_refused("200 OK", (pws_slice){&byte, 1}, PWS_SLICE("c"), name);
        }
        if ((c < 0x20 && c != '\t') || c == 0x7f) {
            memset(text, 'a', sizeof(text));
            text[0] = byte;
            check_refused("200 OK", PWS_SLICE("B"), (pws_slice){text, 1}, value);
            check_refused("200 OK", PWS_SLICE("B"), (pws_slice){text, 20}, value);
            text[0] = 'a';
            text[19] = byte;
            check_refused("200 OK", PWS_SLICE("B"), (pws_slice){text, 20}, value);
            /* A field that is dropped is held to the same. */
            check_refused("200 OK", PWS_SLICE("Connection"), (pws_slice){text, 20},
                          value);
        }
    }
    check_refused("200 OK", PWS_SLICE("B C"), PWS_SLICE("d"), name);
    check_refused("200 OK", PWS_SLICE("B:"), PWS_SLICE("d"), name);
    check_refused("200 OK", PWS_SLICE("B\r\nC"), PWS_SLICE("d"), name);
    check_refused("200 OK", PWS_SLICE("B"), PWS_SLICE("c\r\nSet-Cookie: a=b"), value);
    check_refused("200 OK", PWS_SLICE("B"), PWS_SLICE("\xc4\x8a\n"), value);
}

TEST(a_wrong_content_length_is_refused)
{
    static const char *const invalid[] = {"",
                                          "a",
                                          "-1",
                                          "+1",
                                          "1 1",
                                          "1,1",
                                          "0x1",
                                          "1.0",
                                          "\xb2",
                                          "1_0",
                                          "9223372036854775808",
                                          "18446744073709551617"};
    pws_header twice[] = {FIELD("Content-Length", "1"), FIELD("content-length", "1")};
    pws_response r = response("200 OK", twice, COUNT(twice));

    for (size_t i = 0; i < COUNT(invalid); i++) {
        check_refused("200 OK", PWS_SLICE("Content-Length"), pws_slice_of(invalid[i]),
                      "invalid Content-Length");
    }
    CHECK_EQ(write_head(&r).len, 0);
    CHECK(strcmp(r.refusal, "Content-Length twice") == 0);
}

TEST(the_apps_content_length_is_written_once_in_one_spelling)
{
    pws_header fields[] = {FIELD("CONTENT-LENGTH", " 007\t")};
    pws_response r = response("200 OK", fields, COUNT(fields));

    r.known_length = 5; /* what the app says rules; the engine compares */
    CHECK_WRITTEN(&r, "HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\n");
    CHECK_EQ(r.length, 7);
    CHECK_EQ(r.frame, PWS_FRAME_LENGTH);

    fields[0] = (pws_header)FIELD("Content-Length", "9223372036854775807");
    r = response("200 OK", fields, COUNT(fields));
    CHECK_WRITTEN(&r, "HTTP/1.1 200 OK\r\nContent-Length: 9223372036854775807\r\n\r\n");
}

TEST(what_is_the_servers_to_say_is_dropped)
{
    pws_header fields[] = {
        FIELD("TE", "x"),
        FIELD("Transfer-Encoding", "chunked"),
        FIELD("transfer-encoding", "gzip"),
        FIELD("Connection", "keep-alive"),
        FIELD("Keep-Alive", "timeout=5"),
        FIELD("Trailer", "x"),
        FIELD("Trailers", "x"),
        FIELD("Upgrade", "h2c"),
        FIELD("Proxy-Authenticate", "x"),
        FIELD("Proxy-Authorization", "x"),
        /* Names as long as those. */
        FIELD("AB", "1"),
        FIELD("ABCDEFG", "1"),
        FIELD("ABCDEFGH", "1"),
        FIELD("ABCDEFGHIJ", "1"),
        FIELD("ABCDEFGHIJKLMN", "1"),
        FIELD("ABCDEFGHIJKLMNOPQ", "1"),
        FIELD("ABCDEFGHIJKLMNOPQR", "1"),
        FIELD("ABCDEFGHIJKLMNOPQRS", "1"),
    };
    pws_response r = response("200 OK", fields, COUNT(fields));

    r.known_length = 0;
    CHECK_WRITTEN(
        &r, "HTTP/1.1 200 OK\r\nAB: 1\r\nABCDEFG: 1\r\nABCDEFGH: 1\r\nABCDEFGHIJ: 1\r\n"
            "ABCDEFGHIJKLMN: 1\r\nABCDEFGHIJKLMNOPQ: 1\r\nABCDEFGHIJKLMNOPQR: 1\r\n"
            "ABCDEFGHIJKLMNOPQRS: 1\r\nContent-Length: 0\r\n\r\n");
    CHECK(r.keep_alive);
}

TEST(the_app_may_close_the_connection)
{
    pws_header fields[] = {FIELD("connection", "x ,CLOSE, y")};
    pws_response r = response("200 OK", fields, COUNT(fields));

    r.known_length = 1;
    CHECK_WRITTEN(&r,
                  "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nConnection: close\r\n\r\n");
    CHECK(!r.keep_alive);
}

TEST(the_apps_server_and_date_replace_ours)
{
    pws_header fields[] = {FIELD("SERVER", "app"), FIELD("date", "now"),
                           FIELD("Serves", "x"), FIELD("Data", "x")};
    pws_response r = response("200 OK", fields, COUNT(fields));

    r.known_length = 1;
    r.server = PWS_SLICE("us");
    r.date = PWS_SLICE("today");
    CHECK_WRITTEN(
        &r, "HTTP/1.1 200 OK\r\nSERVER: app\r\ndate: now\r\nServes: x\r\nData: x\r\n"
            "Content-Length: 1\r\n\r\n");
    r = response("200 OK", fields + 2, 2);
    r.known_length = 1;
    r.server = PWS_SLICE("us");
    r.date = PWS_SLICE("today");
    CHECK_WRITTEN(
        &r, "HTTP/1.1 200 OK\r\nServes: x\r\nData: x\r\nServer: us\r\nDate: today\r\n"
            "Content-Length: 1\r\n\r\n");
}

TEST(a_body_of_unknown_length_is_chunked_or_ends_with_the_connection)
{
    pws_response r = response("200 OK", NULL, 0);

    CHECK_WRITTEN(&r, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
    CHECK_EQ(r.frame, PWS_FRAME_CHUNKED);
    CHECK(r.keep_alive);

    r = response("200 OK", NULL, 0);
    r.http10 = true;
    CHECK_WRITTEN(&r, "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n");
    CHECK_EQ(r.frame, PWS_FRAME_CLOSE);
    CHECK(!r.keep_alive);
}

TEST(an_http10_client_is_told_that_the_connection_is_kept)
{
    pws_response r = response("200 OK", NULL, 0);

    r.http10 = true;
    r.known_length = 2;
    CHECK_WRITTEN(
        &r, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: keep-alive\r\n\r\n");
    CHECK(r.keep_alive);
}

TEST(some_responses_have_no_body)
{
    static const struct {
        const char *status;
        const char *want;
        size_t want_len;
        uint64_t known;
        bool head;
        bool with_length; /* the app sends Content-Length: 5 */
    } cases[] = {
#define CASE(status, head, known, with_length, want)                                   \
    {status, want, sizeof(want) - 1, known, head, with_length}
        CASE("204 N", false, 0, false, "HTTP/1.1 204 N\r\n\r\n"),
        CASE("204 N", false, PWS_LENGTH_UNKNOWN, true, "HTTP/1.1 204 N\r\n\r\n"),
        CASE("304 N", false, 0, false, "HTTP/1.1 304 N\r\n\r\n"),
        CASE("304 N", false, 0, true, "HTTP/1.1 304 N\r\nContent-Length: 5\r\n\r\n"),
        CASE("200 OK", true, 9, false, "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n"),
        CASE("200 OK", true, 0, true, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n"),
        CASE("200 OK", true, 0, false, "HTTP/1.1 200 OK\r\n\r\n"),
        CASE("200 OK", true, PWS_LENGTH_UNKNOWN, false, "HTTP/1.1 200 OK\r\n\r\n"),
        CASE("204 N", true, 3, true, "HTTP/1.1 204 N\r\n\r\n"),
    };

    for (size_t i = 0; i < COUNT(cases); i++) {
        pws_header fields[] = {FIELD("Content-Length", "5")};
        pws_response r = response(cases[i].status, fields, cases[i].with_length);
        pws_slice got;

        r.head = cases[i].head;
        r.known_length = cases[i].known;
        got = write_head(&r);
        if (!pws_slice_eq(got, (pws_slice){cases[i].want, cases[i].want_len})) {
            printf("    got %.*s    want %s", (int)got.len, got.at, cases[i].want);
        }
        CHECK(pws_slice_eq(got, (pws_slice){cases[i].want, cases[i].want_len}));
        CHECK_EQ(r.frame, PWS_FRAME_NONE);
    }
}

TEST(upgrade_belongs_to_101)
{
    pws_header fields[] = {FIELD("Upgrade", "websocket"),
                           FIELD("Connection", "Upgrade")};
    pws_response r = response("101 Switching Protocols", fields, COUNT(fields));

    CHECK_WRITTEN(&r, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n"
                      "Connection: Upgrade\r\n\r\n");
    CHECK(!r.keep_alive);
    CHECK_EQ(r.frame, PWS_FRAME_NONE);
}

TEST(the_promised_room_is_enough_for_the_longest_head)
{
    pws_header fields[] = {FIELD("Content-Length", "9223372036854775807")};
    pws_response r = response("200", fields, 1);

    r.http10 = true;
    r.server = PWS_SLICE("s");
    r.date = PWS_SLICE("Sun, 06 Nov 1994 08:49:37 GMT");
    CHECK(write_head(&r).len > 0);
    r = response("200", fields, 0);
    CHECK(write_head(&r).len > 0);
}

TEST(codes_have_their_reasons)
{
    static const int codes[] = {400, 403, 408, 413, 414, 417,
                                431, 500, 501, 503, 504, 505};

    for (size_t i = 0; i < COUNT(codes); i++) {
        CHECK(strcmp(pws_reason(codes[i]), "Error") != 0);
    }
    CHECK(strcmp(pws_reason(400), "Bad Request") == 0);
    CHECK(strcmp(pws_reason(299), "Error") == 0);
}

TEST(an_error_page_is_a_whole_response)
{
    static const char zeros[PWS_ERROR_PAGE_ROOM];
    char *dst = guarded(zeros, sizeof(zeros));
    size_t n = pws_error_page(dst, 414, PWS_SLICE("us"), PWS_SLICE("today"), true);

    CHECK_BYTES(dst, n,
                "HTTP/1.1 414 URI Too Long\r\nContent-Type: text/html\r\nServer: us\r\n"
                "Date: today\r\nContent-Length: 95\r\nConnection: close\r\n\r\n"
                "<html>\n<head><title>URI Too Long</title></head>\n"
                "<body><h1>414 URI Too Long</h1></body>\n</html>\n");
    n = pws_error_page(dst, 400, PWS_SLICE(""), PWS_SLICE(""), false);
    CHECK_BYTES(
        dst, n,
        "HTTP/1.1 400 Bad Request\r\nContent-Type: text/html\r\nContent-Length: 93\r\n"
        "Connection: close\r\n\r\n");
}

TEST(a_server_text_too_long_for_an_error_page_is_left_out)
{
    static const char zeros[PWS_ERROR_PAGE_ROOM];
    char *dst = guarded(zeros, sizeof(zeros)), text[PWS_ERROR_PAGE_ROOM];
    size_t with = 0;

    memset(text, 's', sizeof(text));
    for (size_t len = 1; len <= sizeof(text); len++) {
        size_t n =
            pws_error_page(dst, 431, (pws_slice){text, len}, PWS_SLICE("d"), true);

        CHECK(n > 0 && n <= PWS_ERROR_PAGE_ROOM);
        with += memmem(dst, n, "Server: ", 8) != NULL;
    }
    CHECK(with > 256 && with < sizeof(text));
}

TEST(every_error_page_has_room)
{
    static const char zeros[PWS_ERROR_PAGE_ROOM];

    for (int code = 400; code < 600; code++) {
        char *dst = guarded(zeros, sizeof(zeros));
        size_t n = pws_error_page(dst, code, PWS_SLICE("pywsgiserve/10.10.10"),
                                  PWS_SLICE("Sun, 06 Nov 1994 08:49:37 GMT"), true);

        CHECK(n > 0 && n <= PWS_ERROR_PAGE_ROOM);
        guarded_release();
    }
}

TEST(a_chunk_line_is_hexadecimal)
{
    static const char zeros[PWS_CHUNK_LINE_ROOM];
    char *dst = guarded(zeros, sizeof(zeros));

    CHECK_BYTES(dst, pws_chunk_line(dst, 0), "0\r\n");
    CHECK_BYTES(dst, pws_chunk_line(dst, 9), "9\r\n");
    CHECK_BYTES(dst, pws_chunk_line(dst, 0x1abcdef0), "1abcdef0\r\n");
    CHECK_BYTES(dst, pws_chunk_line(dst, UINT64_MAX), "ffffffffffffffff\r\n");
}
