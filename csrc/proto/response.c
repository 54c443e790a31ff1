#include "proto/response.h"

#include <stdio.h>
#include <string.h>

#include "proto/chars.h"
#include "proto/framing.h"

/* Everything but the app's fields: status line, Server, Date, Connection, framing. */
#define FIXED_ROOM 256

size_t
pws_response_room(const pws_response *r)
{
    size_t room = FIXED_ROOM + r->status.len + r->server.len + r->date.len;

    for (size_t i = 0; i < r->field_count; i++) {
        room += r->fields[i].name.len + r->fields[i].value.len + 4;
    }
    return room;
}

/* Most of what is put is short, and a call of memcpy would take longer than the copy.
 */
static inline char *
put(char *dst, pws_slice s)
{
    if (s.len > 16) {
        memcpy(dst, s.at, s.len);
    }
    else if (s.len >= 8) {
        uint64_t first, last; /* with some bytes in both */

        memcpy(&first, s.at, 8);
        memcpy(&last, s.at + s.len - 8, 8);
        memcpy(dst, &first, 8);
        memcpy(dst + s.len - 8, &last, 8);
    }
    else if (s.len >= 4) {
        uint32_t first, last;

        memcpy(&first, s.at, 4);
        memcpy(&last, s.at + s.len - 4, 4);
        memcpy(dst, &first, 4);
        memcpy(dst + s.len - 4, &last, 4);
    }
    else {
        for (size_t i = 0; i < s.len; i++) {
            dst[i] = s.at[i];
        }
    }
    return dst + s.len;
}

static char *
put_number(char *dst, uint64_t n)
{
    char digits[20];
    size_t i = sizeof(digits);

    do {
        digits[--i] = (char)('0' + n % 10);
        n /= 10;
    } while (n > 0);
    return put(dst, (pws_slice){digits + i, sizeof(digits) - i});
}

static char *
put_field(char *dst, pws_slice name, pws_slice value)
{
    dst = put(dst, name);
    *dst++ = ':';
    *dst++ = ' ';
    dst = put(dst, value);
    *dst++ = '\r';
    *dst++ = '\n';
    return dst;
}

/* "NNN" or "NNN reason" without controls (RFC 9112 4). */
static int
read_status(pws_response *r)
{
    pws_slice s = r->status;

    if (s.len < 3 || s.at[0] < '1' || s.at[0] > '9' || !pws_is_digit(s.at[1]) ||
        !pws_is_digit(s.at[2]) || (s.len > 3 && s.at[3] != ' ') ||
        pws_field_value_span(s.at, s.len) != s.len) {
        r->refusal = "invalid status line";
        return -1;
    }
    r->code = (s.at[0] - '0') * 100 + (s.at[1] - '0') * 10 + (s.at[2] - '0');
    if (r->code < 200 && r->code != 101 && !r->interim) {
        r->refusal = "interim status as the final response";
        return -1;
    }
    return 0;
}

/* What the app's own fields said, beside being there. */
typedef struct {
    bool server;
    bool date;
    bool upgrade;
    bool has_length;
} said;

typedef enum {
    KEEP,
    DROP,
    INVALID,
} verdict;

static verdict
note_length(pws_response *r, said *app, pws_slice value)
{
    if (app->has_length) {
        r->refusal = "Content-Length twice";
        return INVALID;
    }
    if (pws_parse_length(pws_slice_trim(value), &r->length) < 0) {
        r->refusal = "invalid Content-Length";
        return INVALID;
    }
    app->has_length = true;
    return DROP; /* written at the end, in one spelling */
}

static verdict
note_connection(pws_response *r, pws_slice value)
{
    pws_slice item;

    while (pws_slice_next_item(&value, &item)) {
        if (pws_slice_eq_nocase(item, PWS_SLICE("close"))) {
            r->keep_alive = false;
        }
    }
    return DROP;
}

/* The fields that the server has a say in, told apart by their length first. */
static verdict
note_field(pws_response *r, said *app, const pws_header *h)
{
#define IS(text) pws_token_is(h->name, text, sizeof(text) - 1)
    switch (h->name.len) {
    case 2:
        return pws_slice_eq_nocase(h->name, PWS_SLICE("TE")) ? DROP : KEEP;
    case 4:
        app->date = app->date || IS("date");
        return KEEP;
    case 6:
        app->server = app->server || IS("server");
        return KEEP;
    case 7:
        if (IS("upgrade")) {
            app->upgrade = r->code == 101;
            return app->upgrade ? KEEP : DROP;
        }
        return IS("trailer") ? DROP : KEEP;
    case 8:
        return IS("trailers") ? DROP : KEEP;
    case 10:
        if (IS("connection")) {
            return note_connection(r, h->value);
        }
        return IS("keep-alive") ? DROP : KEEP;
    case 14:
        return IS("content-length") ? note_length(r, app, h->value) : KEEP;
    case 17:
        return IS("transfer-encoding") ? DROP : KEEP;
    case 18:
        return IS("proxy-authenticate") ? DROP : KEEP;
    case 19:
        return IS("proxy-authorization") ? DROP : KEEP;
    default:
        return KEEP;
    }
#undef IS
}

static int
check_field(pws_response *r, const pws_header *h)
{
    if (h->name.len == 0) {
        r->refusal = "empty header name";
        return -1;
    }
    if (!pws_is_token_text(h->name.at, h->name.len)) {
        r->refusal = "invalid header name";
        return -1;
    }
    if (pws_field_value_span(h->value.at, h->value.len) != h->value.len) {
        r->refusal = "invalid header value";
        return -1;
    }
    return 0;
}

/* RFC 9112 6.3 from the other side. */
static void
choose_frame(pws_response *r, bool has_length)
{
    bool bodiless = r->code < 200 || r->code == 204;

    if (!has_length) {
        r->length = r->known_length;
        /* An app that leaves the body out for HEAD has not said how long it is
         * (RFC 9110 8.6: then no Content-Length). */
        if (r->head && r->length == 0) {
            r->length = PWS_LENGTH_UNKNOWN;
        }
    }
    if (bodiless || (r->code == 304 && !has_length)) {
        r->length = PWS_LENGTH_UNKNOWN;
    }
    if (bodiless || r->code == 304 || r->head) {
        r->frame = PWS_FRAME_NONE;
    }
    else if (r->length != PWS_LENGTH_UNKNOWN) {
        r->frame = PWS_FRAME_LENGTH;
    }
    else if (r->http10) {
        r->frame = PWS_FRAME_CLOSE;
    }
    else {
        r->frame = PWS_FRAME_CHUNKED;
    }
    if (r->frame == PWS_FRAME_CLOSE || r->code < 200) {
        r->keep_alive = false;
    }
}

/* The server's own fields and the empty line. */
static char *
put_tail(const pws_response *r, const said *app, char *dst)
{
    if (!app->server && r->server.len > 0) {
        dst = put_field(dst, PWS_SLICE("Server"), r->server);
    }
    if (!app->date && r->date.len > 0) {
        dst = put_field(dst, PWS_SLICE("Date"), r->date);
    }
    if (r->length != PWS_LENGTH_UNKNOWN) {
        dst = put(dst, PWS_SLICE("Content-Length: "));
        dst = put_number(dst, r->length);
        dst = put(dst, PWS_SLICE("\r\n"));
    }
    else if (r->frame == PWS_FRAME_CHUNKED) {
        dst = put(dst, PWS_SLICE("Transfer-Encoding: chunked\r\n"));
    }
    if (app->upgrade) {
        dst = put(dst, PWS_SLICE("Connection: Upgrade\r\n"));
    }
    else if (r->code < 200) {
        /* Says nothing of the connection: the real response is still to come. */
    }
    else if (!r->keep_alive) {
        dst = put(dst, PWS_SLICE("Connection: close\r\n"));
    }
    else if (r->http10) {
        dst = put(dst, PWS_SLICE("Connection: keep-alive\r\n"));
    }
    return put(dst, PWS_SLICE("\r\n"));
}

size_t
pws_response_write(pws_response *r, char *dst)
{
    said app = {0};
    char *at = dst;

    r->refusal = NULL;
    if (read_status(r) < 0) {
        return 0;
    }
    at = put(at, PWS_SLICE("HTTP/1.1 "));
    at = put(at, r->status);
    if (r->status.len == 3) {
        *at++ = ' '; /* RFC 9112 4: the space stands even without a reason */
    }
    at = put(at, PWS_SLICE("\r\n"));
    for (size_t i = 0; i < r->field_count; i++) {
        verdict v;

        if (check_field(r, &r->fields[i]) < 0) {
            return 0;
        }
        v = note_field(r, &app, &r->fields[i]);
        if (v == INVALID) {
            return 0;
        }
        if (v == KEEP) {
            at = put_field(at, r->fields[i].name, r->fields[i].value);
        }
    }
    choose_frame(r, app.has_length);
    return (size_t)(put_tail(r, &app, at) - dst);
}

const char *
pws_reason(int code)
{
    switch (code) {
    case 400:
        return "Bad Request";
    case 403:
        return "Forbidden";
    case 408:
        return "Request Timeout";
    case 413:
        return "Content Too Large";
    case 414:
        return "URI Too Long";
    case 417:
        return "Expectation Failed";
    case 431:
        return "Request Header Fields Too Large";
    case 500:
        return "Internal Server Error";
    case 501:
        return "Not Implemented";
    case 503:
        return "Service Unavailable";
    case 504:
        return "Gateway Timeout";
    case 505:
        return "HTTP Version Not Supported";
    default:
        return "Error";
    }
}

size_t
pws_error_page(char *dst, int code, pws_slice server, pws_slice date, bool body)
{
    char status[64], page[256];
    const pws_header fields[] = {{PWS_SLICE("Content-Type"), PWS_SLICE("text/html")},
                                 {PWS_SLICE("Retry-After"), PWS_SLICE("1")}};
    int page_len = snprintf(page, sizeof(page),
                            "<html>\n<head><title>%s</title></head>\n"
                            "<body><h1>%d %s</h1></body>\n</html>\n",
                            pws_reason(code), code, pws_reason(code));
    pws_response r = {.fields = fields,
                      .field_count = code == 503 ? 2 : 1, /* it is a passing state */
                      .server = server,
                      .date = date};
    size_t n;

    r.status.at = status;
    r.status.len =
        (size_t)snprintf(status, sizeof(status), "%d %s", code, pws_reason(code));
    r.known_length = (uint64_t)page_len;
    if (pws_response_room(&r) + (size_t)page_len > PWS_ERROR_PAGE_ROOM) {
        r.server.len = 0;
    }
    n = pws_response_write(&r, dst);
    if (body) {
        memcpy(dst + n, page, (size_t)page_len);
        n += (size_t)page_len;
    }
    return n;
}

size_t
pws_chunk_line(char *dst, uint64_t n)
{
    static const char hex[] = "0123456789abcdef";
    char digits[16];
    size_t i = sizeof(digits);

    do {
        digits[--i] = hex[n & 15];
        n >>= 4;
    } while (n > 0);
    memcpy(dst, digits + i, sizeof(digits) - i);
    memcpy(dst + sizeof(digits) - i, "\r\n", 2);
    return sizeof(digits) - i + 2;
}
