/* fuzz_response.c - what an app could say, and what leaves the house.
 *
 * The first byte holds flags, the second the known length; then come length-prefixed
 * texts: the status, and names and values in turn. Aborts when the head is longer than
 * its room, is not one well-formed head, holds a control that the app put in, says
 * something twice or contradictory about its framing, or refuses what is clean. */
#include "feed.h"
#include "proto/chars.h"
#include "proto/response.h"

#define FIELDS 40

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static void
require(bool holds)
{
    if (!holds) {
        abort();
    }
}

/* The next length-prefixed text, in memory of its own. */
static pws_slice
take_text(const uint8_t **data, size_t *n)
{
    pws_slice text = {NULL, 0};
    char *copy;

    if (*n > 0) {
        text.len = (*data)[0] < *n - 1 ? (*data)[0] : *n - 1;
        (*data)++;
        (*n)--;
    }
    copy = malloc(text.len > 0 ? text.len : 1);
    if (text.len > 0) {
        memcpy(copy, *data, text.len);
    }
    *data += text.len;
    *n -= text.len;
    text.at = copy;
    return text;
}

static bool
has_control(pws_slice text)
{
    for (size_t i = 0; i < text.len; i++) {
        unsigned char c = (unsigned char)text.at[i];

        if ((c < 0x20 && c != '\t') || c == 0x7f) {
            return true;
        }
    }
    return false;
}

static bool
is_token(pws_slice text)
{
    for (size_t i = 0; i < text.len; i++) {
        if (!pws_is_token(text.at[i])) {
            return false;
        }
    }
    return text.len > 0;
}

/* Whether nothing in it can be a reason to refuse. */
static bool
is_clean(const pws_response *r)
{
    pws_slice s = r->status;

    if (s.len < 4 || s.at[0] < '1' || s.at[0] > '9' || !pws_is_digit(s.at[1]) ||
        !pws_is_digit(s.at[2]) || s.at[3] != ' ' || has_control(s)) {
        return false;
    }
    if (s.at[0] == '1' && memcmp(s.at, "101", 3) != 0 && !r->interim) {
        return false;
    }
    for (size_t i = 0; i < r->field_count; i++) {
        if (!is_token(r->fields[i].name) || has_control(r->fields[i].value) ||
            pws_slice_eq_nocase(r->fields[i].name, PWS_SLICE("Content-Length"))) {
            return false;
        }
    }
    return true;
}

typedef struct {
    unsigned lines, lengths, codings, connections, keep_alives;
} tally;

/* One line without its CRLF. */
static void
check_line(tally *t, pws_slice line, pws_slice status)
{
    const char *colon = memchr(line.at, ':', line.len);
    pws_slice name;

    require(!has_control(line));
    if (t->lines++ == 0) {
        require(line.len >= 13 && memcmp(line.at, "HTTP/1.1 ", 9) == 0 &&
                line.at[12] == ' ');
        require(line.len - 9 == (status.len > 3 ? status.len : 4));
        return;
    }
    require(colon != NULL && line.len > (size_t)(colon - line.at) + 1 &&
            colon[1] == ' ');
    name = (pws_slice){line.at, (size_t)(colon - line.at)};
    require(is_token(name));
    t->lengths += pws_slice_eq_nocase(name, PWS_SLICE("Content-Length"));
    t->codings += pws_slice_eq_nocase(name, PWS_SLICE("Transfer-Encoding"));
    t->connections += pws_slice_eq_nocase(name, PWS_SLICE("Connection"));
    t->keep_alives += pws_slice_eq_nocase(name, PWS_SLICE("Keep-Alive"));
}

static void
check_written(const pws_response *r, const char *dst, size_t n)
{
    size_t at = 0;
    tally t = {0};

    require(n >= 4 && memcmp(dst + n - 4, "\r\n\r\n", 4) == 0);
    while (at < n - 2) {
        const char *end = memmem(dst + at, n - at, "\r\n", 2);

        require(end != NULL && end != dst + at);
        check_line(&t, (pws_slice){dst + at, (size_t)(end - dst) - at}, r->status);
        at = (size_t)(end - dst) + 2;
    }
    require(at == n - 2);
    require(t.lines <= 1 + r->field_count + 5 && t.lengths + t.codings <= 1);
    require(t.connections <= 1 && t.keep_alives == 0);
    require(r->code >= 100 && r->code <= 999);
    require((t.codings == 1) == (r->frame == PWS_FRAME_CHUNKED));
    require((t.lengths == 1) == (r->length != PWS_LENGTH_UNKNOWN));
    require(r->frame != PWS_FRAME_LENGTH || t.lengths == 1);
    require(r->frame != PWS_FRAME_CLOSE || !r->keep_alive);
    require(r->frame != PWS_FRAME_CHUNKED || !r->http10);
    if (r->code < 200 || r->code == 204) {
        require(t.lengths + t.codings == 0 && r->frame == PWS_FRAME_NONE);
    }
    if (r->head || r->code == 304) {
        require(t.codings == 0 && r->frame == PWS_FRAME_NONE);
    }
    if (r->code >= 200) {
        require((t.connections == 1) == (!r->keep_alive || r->http10));
    }
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    pws_header fields[FIELDS];
    pws_response r = {.fields = fields, .server = PWS_SLICE("us")};
    size_t room, len;
    bool clean;
    char *dst;

    if (n < 2) {
        return 0;
    }
    r.head = (data[0] & 1) != 0;
    r.http10 = (data[0] & 2) != 0;
    r.keep_alive = (data[0] & 4) != 0;
    r.date =
        (data[0] & 8) != 0 ? PWS_SLICE("Sun, 06 Nov 1994 08:49:37 GMT") : PWS_SLICE("");
    r.interim = (data[1] & 1) != 0;
    r.known_length =
        data[1] == 255 ? PWS_LENGTH_UNKNOWN : (uint64_t)data[1] << (data[0] >> 4);
    data += 2;
    n -= 2;
    r.status = take_text(&data, &n);
    while (n > 0 && r.field_count < FIELDS) {
        fields[r.field_count].name = take_text(&data, &n);
        fields[r.field_count].value = take_text(&data, &n);
        r.field_count++;
    }
    clean = is_clean(&r);
    room = pws_response_room(&r);
    dst = malloc(room);
    len = pws_response_write(&r, dst);
    require(len <= room);
    if (len > 0) {
        require(r.refusal == NULL);
        check_written(&r, dst, len);
    }
    else {
        require(r.refusal != NULL && !clean);
    }
    free(dst);
    free((char *)r.status.at);
    for (size_t i = 0; i < r.field_count; i++) {
        free((char *)fields[i].name.at);
        free((char *)fields[i].value.at);
    }
    return 0;
}
