#include "proto/chunked.h"

#include <string.h>

#include "proto/chars.h"

void
pws_chunked_init(pws_chunked *c)
{
    memset(c, 0, sizeof(*c));
    c->state = PWS_CHUNK_SIZE;
}

static int
refuse(pws_chunked *c, int status, const char *why)
{
    c->refusal = why;
    return status;
}

static int
to(pws_chunked *c, pws_chunk_state state)
{
    c->state = state;
    return 0;
}

static bool
is_blank(char ch)
{
    return ch == ' ' || ch == '\t';
}

static int
take_digit(pws_chunked *c, const pws_rules *rules, int value)
{
    if (c->left >> 59 != 0 || c->line > PWS_CHUNK_DIGITS_MAX) {
        return refuse(c, 400, "chunk size too large");
    }
    c->left = c->left << 4 | (uint64_t)value;
    if (rules->body_max != 0 && c->left > rules->body_max - c->total) {
        return refuse(c, 413, "chunked body over limit_request_body");
    }
    return to(c, PWS_CHUNK_DIGITS);
}

/* What may follow a size or an extension. `here`: where blanks lead. */
static int
end_item(pws_chunked *c, char ch, pws_chunk_state here)
{
    if (ch == ';') {
        return to(c, PWS_CHUNK_EXT);
    }
    if (is_blank(ch)) {
        return to(c, here);
    }
    /* Blanks are allowed in front of ';' only, not in front of the CRLF. */
    if (ch == '\r' && c->state != PWS_CHUNK_BWS && c->state != PWS_CHUNK_EXT_BWS) {
        return to(c, PWS_CHUNK_LINE_LF);
    }
    return refuse(c, 400, "malformed chunk size line");
}

static int
extension_byte(pws_chunked *c, char ch)
{
    if (++c->extensions > PWS_CHUNK_EXTENSIONS_MAX) {
        return refuse(c, 400, "too many chunk extensions");
    }
    if (c->state == PWS_CHUNK_EXT_QUOTED) {
        if (ch == '"' || ch == '\\') {
            return to(c, ch == '"' ? PWS_CHUNK_EXT_END : PWS_CHUNK_EXT_ESCAPE);
        }
        return pws_field_value_span(&ch, 1) == 1
                   ? 0
                   : refuse(c, 400, "malformed chunk extension");
    }
    if (c->state == PWS_CHUNK_EXT_ESCAPE) {
        return pws_field_value_span(&ch, 1) == 1
                   ? to(c, PWS_CHUNK_EXT_QUOTED)
                   : refuse(c, 400, "malformed chunk extension");
    }
    if (c->state == PWS_CHUNK_EXT || c->state == PWS_CHUNK_EXT_VALUE) {
        if (is_blank(ch)) {
            return 0;
        }
        if (ch == '"' && c->state == PWS_CHUNK_EXT_VALUE) {
            return to(c, PWS_CHUNK_EXT_QUOTED);
        }
        if (pws_is_token(ch)) {
            return to(c, c->state == PWS_CHUNK_EXT ? PWS_CHUNK_EXT_NAME
                                                   : PWS_CHUNK_EXT_TOKEN);
        }
        return refuse(c, 400, "malformed chunk extension");
    }
    if (c->state == PWS_CHUNK_EXT_NAME || c->state == PWS_CHUNK_EXT_TOKEN) {
        if (pws_is_token(ch)) {
            return 0;
        }
    }
    if (ch == '=' &&
        (c->state == PWS_CHUNK_EXT_NAME || c->state == PWS_CHUNK_EXT_BWS)) {
        return to(c, PWS_CHUNK_EXT_VALUE);
    }
    return end_item(c, ch,
                    c->state == PWS_CHUNK_EXT_NAME || c->state == PWS_CHUNK_EXT_BWS
                        ? PWS_CHUNK_EXT_BWS
                        : PWS_CHUNK_BWS);
}

static int
end_size_line(pws_chunked *c, char ch)
{
    if (ch != '\n') {
        return refuse(c, 400, "chunk size line without CRLF");
    }
    c->line = 0;
    return to(c, c->left > 0 ? PWS_CHUNK_DATA : PWS_CHUNK_TRAILER);
}

/* A field that decides framing, routing or rights has no business behind the body. */
static bool
is_forbidden_trailer(const pws_chunked *c)
{
    static const pws_slice names[] = {
        {"CONTENT_LENGTH", 14}, {"TRANSFER_ENCODING", 17}, {"HOST", 4},
        {"TRAILER", 7},         {"AUTHORIZATION", 13},     {"TE", 2},
        {"CONNECTION", 10},     {"CONTENT_TYPE", 12}};

    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        if (names[i].len == c->name_len &&
            memcmp(names[i].at, c->name, c->name_len) == 0) {
            return true;
        }
    }
    return false;
}

static int
trailer_name(pws_chunked *c, char ch)
{
    uint8_t cgi = pws_cgi[(unsigned char)ch];

    if (cgi != 0) {
        if (c->name_len < sizeof(c->name)) {
            c->name[c->name_len] = (char)(cgi & 0x7f);
        }
        c->name_len += c->name_len <= sizeof(c->name) ? 1u : 0u;
        return to(c, PWS_CHUNK_NAME);
    }
    if (ch != ':' || c->name_len == 0) {
        return refuse(c, 400, "malformed trailer field");
    }
    if (is_forbidden_trailer(c)) {
        return refuse(c, 400, "forbidden trailer field");
    }
    return to(c, PWS_CHUNK_VALUE);
}

static int
trailer_byte(pws_chunked *c, const pws_rules *rules, char ch)
{
    if (++c->trailers > PWS_CHUNK_TRAILERS_MAX || ++c->line > rules->field_size_max) {
        return refuse(c, 431, "trailer fields too large");
    }
    if (c->state == PWS_CHUNK_TRAILER) {
        if (ch == '\r') {
            return to(c, PWS_CHUNK_LAST_LF);
        }
        if (++c->fields > rules->fields_max) {
            return refuse(c, 431, "too many trailer fields");
        }
        c->name_len = 0;
        return trailer_name(c, ch);
    }
    if (c->state == PWS_CHUNK_NAME) {
        return trailer_name(c, ch);
    }
    if (c->state == PWS_CHUNK_VALUE) {
        if (ch == '\r') {
            return to(c, PWS_CHUNK_VALUE_LF);
        }
        return pws_field_value_span(&ch, 1) == 1
                   ? 0
                   : refuse(c, 400, "forbidden byte in a trailer field");
    }
    if (ch != '\n') {
        return refuse(c, 400, "trailer field without CRLF");
    }
    c->line = 0;
    return to(c, PWS_CHUNK_TRAILER);
}

static int
size_byte(pws_chunked *c, const pws_rules *rules, char ch)
{
    int value = pws_hex_value(ch);

    if (c->state != PWS_CHUNK_BWS && value >= 0) {
        return take_digit(c, rules, value);
    }
    if (c->state == PWS_CHUNK_SIZE) {
        return refuse(c, 400, "malformed chunk size");
    }
    if (ch != '\r' && ++c->extensions > PWS_CHUNK_EXTENSIONS_MAX) {
        return refuse(c, 400, "too many chunk extensions");
    }
    return end_item(c, ch, PWS_CHUNK_BWS);
}

/* Every byte that is not data. */
static int
framing_byte(pws_chunked *c, const pws_rules *rules, char ch)
{
    switch (c->state) {
    case PWS_CHUNK_SIZE:
    case PWS_CHUNK_DIGITS:
    case PWS_CHUNK_BWS:
        c->line++;
        return c->line > PWS_CHUNK_LINE_MAX ? refuse(c, 400, "chunk size line too long")
                                            : size_byte(c, rules, ch);
    case PWS_CHUNK_EXT:
    case PWS_CHUNK_EXT_NAME:
    case PWS_CHUNK_EXT_BWS:
    case PWS_CHUNK_EXT_VALUE:
    case PWS_CHUNK_EXT_TOKEN:
    case PWS_CHUNK_EXT_QUOTED:
    case PWS_CHUNK_EXT_ESCAPE:
    case PWS_CHUNK_EXT_END:
        c->line++;
        return c->line > PWS_CHUNK_LINE_MAX ? refuse(c, 400, "chunk size line too long")
                                            : extension_byte(c, ch);
    case PWS_CHUNK_LINE_LF:
        return end_size_line(c, ch);
    case PWS_CHUNK_DATA_CR:
        return ch == '\r' ? to(c, PWS_CHUNK_DATA_LF)
                          : refuse(c, 400, "chunk data without CRLF");
    case PWS_CHUNK_DATA_LF:
        return ch == '\n' ? to(c, PWS_CHUNK_SIZE)
                          : refuse(c, 400, "chunk data without CRLF");
    case PWS_CHUNK_TRAILER:
    case PWS_CHUNK_NAME:
    case PWS_CHUNK_VALUE:
    case PWS_CHUNK_VALUE_LF:
        return trailer_byte(c, rules, ch);
    case PWS_CHUNK_LAST_LF:
        return ch == '\n' ? to(c, PWS_CHUNK_DONE)
                          : refuse(c, 400, "chunked body without its last CRLF");
    case PWS_CHUNK_DATA:
    case PWS_CHUNK_DONE:
        break;
    }
    return 0;
}

int
pws_chunked_decode(pws_chunked *c, const pws_rules *rules, char *buf, size_t len,
                   size_t *used, size_t *made)
{
    size_t in = 0, out = 0;

    while (in < len && c->state != PWS_CHUNK_DONE) {
        if (c->state == PWS_CHUNK_DATA) {
            size_t n = len - in < c->left ? len - in : (size_t)c->left;

            if (in != out) {
                memmove(buf + out, buf + in, n);
            }
            in += n;
            out += n;
            c->left -= n;
            c->total += n;
            if (c->left == 0) {
                c->state = PWS_CHUNK_DATA_CR;
            }
        }
        else {
            int status = framing_byte(c, rules, buf[in++]);

            if (status != 0) {
                return status;
            }
        }
    }
    *used = in;
    *made = out;
    return 0;
}
