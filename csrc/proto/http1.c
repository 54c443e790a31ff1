#include "proto/http1.h"

#include <string.h>

#include "proto/chars.h"
#include "proto/field_line.h"

/* Gunicorn's bound on a method's name. */
#define METHOD_MAX 20

/* Empty lines before a request line that are passed over (RFC 9112 2.2), in bytes. */
#define LEADING_MAX 4

static bool
is_method_char(char c)
{
    return pws_is_token(c) && !(c >= 'a' && c <= 'z') && c != '#';
}

/* "HTTP/1.1" at the end of the line. */
static int
read_version(pws_request *req, const char *at)
{
    if (memcmp(at, "HTTP/", 5) != 0 || !pws_is_digit(at[5]) || at[6] != '.' ||
        !pws_is_digit(at[7])) {
        return pws_refuse(req, 400, "malformed HTTP version");
    }
    if (at[5] != '1' || at[7] > '1') {
        return pws_refuse(req, 505, "HTTP version other than 1.0 and 1.1");
    }
    req->minor = (uint8_t)(at[7] - '0');
    return 0;
}

/* method SP request-target SP HTTP-version, in [at, end). */
static int
read_request_line(pws_request *req, uint32_t at, uint32_t end)
{
    const char *base = req->base;
    uint32_t i = at, target_end;

    while (i < end && is_method_char(base[i])) {
        i++;
    }
    if (i == end || base[i] != ' ' || i == at || i - at > METHOD_MAX) {
        return pws_refuse(req, 400, "malformed method");
    }
    req->method = (pws_span){at, i - at};
    req->head = i - at == 4 && memcmp(base + at, "HEAD", 4) == 0;
    at = ++i;
    if (end - at < 10 || base[end - 9] != ' ') {
        return pws_refuse(req, 400, "malformed request line");
    }
    target_end = end - 9;
    if (pws_target_span(base + i, target_end - i) != target_end - i) {
        return pws_refuse(req, 400, "forbidden byte in the request target");
    }
    req->target = (pws_span){at, target_end - at};
    return read_version(req, base + end - 8);
}

/* field-name ":" OWS field-value OWS, in [at, end). */
static int
read_field(pws_request *req, uint32_t at, uint32_t end)
{
    char *base = req->base;
    uint32_t i = at, value;
    unsigned seen = 0;

    for (; i < end; i++) {
        uint8_t c = pws_cgi[(unsigned char)base[i]];

        if (c == 0) {
            break;
        }
        seen |= c;
        base[i] = (char)(c & 0x7f);
    }
    if (i == at || i == end || base[i] != ':') {
        return pws_refuse(req, 400, "malformed header field name");
    }
    value = i + 1;
    if (pws_field_value_span(base + value, end - value) != end - value) {
        return pws_refuse(req, 400, "forbidden byte in a header field value");
    }
    while (value < end && (base[value] == ' ' || base[value] == '\t')) {
        value++;
    }
    while (end > value && (base[end - 1] == ' ' || base[end - 1] == '\t')) {
        end--;
    }
    return pws_request_add(req, (pws_span){at, i - at}, (pws_span){value, end - value},
                           (seen & PWS_CGI_UNDERSCORE) != 0 ? PWS_FIELD_UNDERSCORE
                                                            : 0u);
}

/* One whole line in [at, end), CRLF taken off. */
static int
take_line(pws_head *parser, const pws_rules *rules, pws_request *req, uint32_t end)
{
    uint32_t at = parser->at;

    if (parser->stage == PWS_HEAD_LINE) {
        if (at == end) {
            return at < LEADING_MAX ? 0 : pws_refuse(req, 400, "too many empty lines");
        }
        parser->stage = PWS_HEAD_FIELDS;
        return read_request_line(req, at, end);
    }
    if (at == end) {
        parser->stage = PWS_HEAD_DONE;
        return 0;
    }
    if (req->field_count >= rules->fields_max) {
        return pws_refuse(req, 431, "more header fields than limit_request_fields");
    }
    return read_field(req, at, end);
}

/* The line in hand, with its end or so far, reaches to `upto`. Of the bounds of the
 * line and of the head, the one that comes first decides: the cuts must not. */
static int
judge_length(const pws_head *parser, const pws_rules *rules, pws_request *req,
             uint32_t upto)
{
    bool first = parser->stage == PWS_HEAD_LINE;
    uint64_t bound =
        parser->at + (first ? (uint64_t)rules->line_max + 2 : rules->field_size_max);

    if (upto <= bound && upto <= rules->head_max) {
        return 0;
    }
    if (bound > rules->head_max) {
        return pws_refuse(req, 431, "request head too large");
    }
    return first ? pws_refuse(req, 414, "request line over limit_request_line")
                 : pws_refuse(req, 431, "header field over limit_request_field_size");
}

/* Take what is whole and beyond doubt: field lines, and the empty one behind them. */
static int
take_plain_lines(pws_head *parser, const pws_rules *rules, pws_request *req,
                 uint32_t len)
{
    const uint32_t head_bound = len < rules->head_max ? len : rules->head_max;
    char *base = req->base;

    while (parser->at < head_bound && req->field_count < rules->fields_max) {
        uint32_t at = parser->at, left = head_bound - at, next;
        pws_line_start start = {
            at, left < rules->field_size_max ? head_bound : at + rules->field_size_max};
        pws_field field;

        if (start.bound - at >= 2 && base[at] == '\r' && base[at + 1] == '\n') {
            parser->at = parser->seen = at + 2;
            parser->stage = PWS_HEAD_DONE;
            return 0;
        }
        next = pws_field_line_read(base, start, &field);
        if (next == 0) {
            return 0;
        }
        if (pws_request_put(req, &field) != 0) {
            return 431;
        }
        parser->at = parser->seen = next;
    }
    return 0;
}

/* Take the line in hand, if it is there, byte by byte. Returns 0 or the status to
 * refuse with; `seen` goes beyond `at` when it is not. */
static int
take_next_line(pws_head *parser, const pws_rules *rules, pws_request *req, uint32_t len)
{
    const char *base = req->base;
    uint32_t from = parser->seen, end;
    const char *lf = from < len ? memchr(base + from, '\n', len - from) : NULL;
    int status;

    if (lf == NULL) {
        parser->seen = len;
        return judge_length(parser, rules, req, len);
    }
    end = (uint32_t)(lf - base);
    if ((status = judge_length(parser, rules, req, end + 1)) != 0) {
        return status;
    }
    if (end == parser->at || base[end - 1] != '\r') {
        return pws_refuse(req, 400, "line without CRLF");
    }
    if ((status = take_line(parser, rules, req, end - 1)) != 0) {
        return status;
    }
    parser->at = end + 1;
    parser->seen = end + 1;
    return 0;
}

/* A packet of uwsgi (modifier1 0 or 30), or a ping (100 and zeros): it has no line
 * whose end could be waited for. */
static bool
is_packet(const char *base, uint32_t len)
{
    return base[0] == '\0' || base[0] == 30 ||
           (base[0] == 100 && len > 1 && base[1] == '\0');
}

int
pws_http1_parse_line(pws_head *parser, const pws_rules *rules, pws_request *req,
                     char *base, uint32_t len)
{
    int status = 0;

    req->base = base;
    if (parser->seen < 2 && len > 0 && (base[0] < 'A' || base[0] > 'Z') &&
        is_packet(base, len)) {
        return pws_refuse(req, 400, "uwsgi spoken to an HTTP socket");
    }
    while (status == 0 && parser->stage == PWS_HEAD_LINE && parser->seen < len) {
        status = take_next_line(parser, rules, req, len);
    }
    return status;
}

int
pws_http1_parse(pws_head *parser, const pws_rules *rules, pws_request *req, char *base,
                uint32_t len)
{
    int status = pws_http1_parse_line(parser, rules, req, base, len);

    while (status == 0 && parser->stage != PWS_HEAD_DONE) {
        if (parser->stage == PWS_HEAD_FIELDS && parser->seen == parser->at) {
            status = take_plain_lines(parser, rules, req, len);
        }
        if (status == 0 && parser->stage != PWS_HEAD_DONE) {
            status = take_next_line(parser, rules, req, len);
        }
        if (parser->at < parser->seen || parser->seen == len) {
            break; /* the end of the line in hand has not come */
        }
    }
    return status;
}
