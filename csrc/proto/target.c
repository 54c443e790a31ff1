#include "proto/target.h"

#include <arpa/inet.h>
#include <string.h>

#include "proto/chars.h"

size_t
pws_percent_decode(char *dst, pws_slice src)
{
    size_t n = 0, i = 0;

    while (i < src.len) {
        if (src.at[i] == '%' && src.len - i > 2) {
            int high = pws_hex_value(src.at[i + 1]), low = pws_hex_value(src.at[i + 2]);

            if (high >= 0 && low >= 0) {
                dst[n++] = (char)(high << 4 | low);
                i += 3;
                continue;
            }
        }
        dst[n++] = src.at[i++];
    }
    return n;
}

static bool
is_name_char(char c)
{
    return pws_host_char[(unsigned char)c] != 0;
}

/* "v" 1*HEXDIG "." 1*( unreserved / sub-delims / ":" ). Nobody has ever sent one. */
static bool
is_ipvfuture(pws_slice text)
{
    size_t i = 1;

    if (text.len == 0 || pws_lower(text.at[0]) != 'v') {
        return false;
    }
    while (i < text.len && pws_hex_value(text.at[i]) >= 0) {
        i++;
    }
    if (i == 1 || i == text.len || text.at[i] != '.' || i + 1 == text.len) {
        return false;
    }
    for (i++; i < text.len; i++) {
        if (text.at[i] != ':' && !is_name_char(text.at[i])) {
            return false;
        }
    }
    return true;
}

/* What stands between '[' and ']'. */
static bool
is_literal(pws_slice text)
{
    char copy[INET6_ADDRSTRLEN];
    struct in6_addr address;

    if (text.len < sizeof(copy) && memchr(text.at, '\0', text.len) == NULL) {
        memcpy(copy, text.at, text.len);
        copy[text.len] = '\0';
        if (inet_pton(AF_INET6, copy, &address) == 1) {
            return true;
        }
    }
    return is_ipvfuture(text);
}

/* The length of the host at the beginning of `text`: an IP-literal or a reg-name, which
 * may be empty (RFC 3986 3.2.2); text.len + 1 when it is malformed. */
static size_t
host_length(pws_slice text)
{
    const size_t malformed = text.len + 1;
    size_t i = 0;

    if (text.len > 0 && text.at[0] == '[') {
        const char *end = memchr(text.at, ']', text.len);

        if (end == NULL ||
            !is_literal((pws_slice){text.at + 1, (size_t)(end - text.at) - 1})) {
            return malformed;
        }
        return (size_t)(end - text.at) + 1;
    }
    for (; i < text.len; i++) {
        if (text.at[i] == '%') {
            if (text.len - i < 3 || pws_hex_value(text.at[i + 1]) < 0 ||
                pws_hex_value(text.at[i + 2]) < 0) {
                return malformed;
            }
            i += 2;
        }
        else if (!is_name_char(text.at[i])) {
            break;
        }
    }
    return i;
}

bool
pws_authority_valid(pws_slice text)
{
    size_t i = host_length(text);

    if (i > text.len) {
        return false;
    }
    if (i == text.len) {
        return true;
    }
    if (text.at[i] != ':' || text.len - i > 6) {
        return false;
    }
    for (i++; i < text.len; i++) {
        if (!pws_is_digit(text.at[i])) {
            return false;
        }
    }
    return true;
}

/* Split [at, end) into path and query. */
static void
split_path(pws_request *req, uint32_t at, uint32_t end)
{
    const char *base = req->base;
    const char *mark = end > at ? memchr(base + at, '?', end - at) : NULL;
    uint32_t path_end = mark != NULL ? (uint32_t)(mark - base) : end;

    req->path = (pws_span){at, path_end - at};
    if (mark != NULL) {
        req->query = (pws_span){path_end + 1, end - path_end - 1};
    }
    req->path_escaped = path_end > at && memchr(base + at, '%', path_end - at) != NULL;
}

/* RFC 9112 3.2.2: http://authority/path. */
static int
split_absolute(pws_request *req)
{
    static const pws_slice schemes[] = {{"http://", 7}, {"https://", 8}};
    pws_slice target = pws_request_slice(req, req->target);
    uint32_t at = 0, end = req->target.at + req->target.len, slash;

    for (size_t i = 0; i < 2; i++) {
        if (target.len >= schemes[i].len &&
            pws_slice_eq_nocase((pws_slice){target.at, schemes[i].len}, schemes[i])) {
            at = req->target.at + (uint32_t)schemes[i].len;
            req->https_target = i == 1;
        }
    }
    if (at == 0) {
        return pws_refuse(req, 400, "malformed request target");
    }
    slash = at;
    while (slash < end && req->base[slash] != '/' && req->base[slash] != '?') {
        slash++;
    }
    req->authority = (pws_span){at, slash - at};
    req->form = PWS_TARGET_ABSOLUTE;
    split_path(req, slash, end);
    /* RFC 9110 4.2.1: an empty host is invalid. */
    if (slash == at || req->base[at] == ':' ||
        !pws_authority_valid(pws_request_slice(req, req->authority))) {
        return pws_refuse(req, 400, "malformed authority in the request target");
    }
    return 0;
}

/* RFC 9112 3.2.3: CONNECT host:port. */
static int
split_authority(pws_request *req)
{
    pws_slice target = pws_request_slice(req, req->target);
    size_t host_len = host_length(target);

    /* A valid authority has nothing but ":port" behind its host. */
    if (host_len == 0 || host_len + 1 >= target.len || !pws_authority_valid(target)) {
        return pws_refuse(req, 400, "malformed CONNECT target");
    }
    req->form = PWS_TARGET_AUTHORITY;
    req->authority = req->target;
    req->path = (pws_span){req->target.at, 0};
    return 0;
}

static int
split_target(pws_request *req)
{
    pws_slice target = pws_request_slice(req, req->target);
    pws_slice method = pws_request_slice(req, req->method);

    if (pws_slice_eq(method, PWS_SLICE("CONNECT"))) {
        return split_authority(req);
    }
    if (target.at[0] == '/') {
        req->form = PWS_TARGET_ORIGIN;
        split_path(req, req->target.at, req->target.at + req->target.len);
        return 0;
    }
    if (pws_slice_eq(target, PWS_SLICE("*"))) {
        req->form = PWS_TARGET_ASTERISK;
        req->path = req->target;
        return pws_slice_eq(method, PWS_SLICE("OPTIONS"))
                   ? 0
                   : pws_refuse(req, 400, "the target * is for OPTIONS only");
    }
    return split_absolute(req);
}

int
pws_target_judge(pws_request *req)
{
    int status = split_target(req);

    if (status != 0) {
        return status;
    }
    if (!pws_request_has(req, PWS_FIELD_HOST)) {
        return req->minor == 0 ? 0 : pws_refuse(req, 400, "no Host in HTTP/1.1");
    }
    if (!req->lines_judged &&
        !pws_authority_valid(pws_request_value(req, PWS_FIELD_HOST))) {
        return pws_refuse(req, 400, "malformed Host");
    }
    return 0;
}
