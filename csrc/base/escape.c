#include "base/escape.h"

/* The length of the UTF-8 character at `s` when it is no control, else 0. RFC 3629 4:
 * no overlong forms, no surrogates, nothing above U+10FFFF. */
static size_t
printable_length(const unsigned char *s, size_t left)
{
    unsigned char least = 0x80, most = 0xbf; /* of the second byte */
    size_t len = s[0] < 0xe0 ? 2 : s[0] < 0xf0 ? 3 : 4;

    if (s[0] < 0xc2 || s[0] > 0xf4 || left < len) {
        return 0;
    }
    if (s[0] == 0xc2 || s[0] == 0xe0) {
        least = 0xa0; /* U+0080 to U+009F are controls; overlong */
    }
    else if (s[0] == 0xf0) {
        least = 0x90;
    }
    else if (s[0] == 0xed) {
        most = 0x9f;
    }
    else if (s[0] == 0xf4) {
        most = 0x8f;
    }
    if (s[1] < least || s[1] > most) {
        return 0;
    }
    for (size_t i = 2; i < len; i++) {
        if ((s[i] & 0xc0) != 0x80) {
            return 0;
        }
    }
    return len;
}

/* Printable ASCII that no flag speaks of. */
static bool
is_plain(unsigned char c)
{
    return c >= 0x20 && c < 0x7f && c != '"' && c != '\\';
}

/* How many bytes at `s` stay as they are; 0: one byte is to be escaped. */
static size_t
kept_length(const unsigned char *s, size_t left, unsigned flags)
{
    switch (s[0]) {
    case '\t':
        return (flags & PWS_KEEP_TABS) != 0;
    case '\n':
        return (flags & PWS_KEEP_LINES) != 0;
    case '"':
    case '\\':
        return (flags & PWS_ESCAPE_QUOTES) == 0;
    default:
        return s[0] < 0x80 ? 0 : printable_length(s, left);
    }
}

size_t
pws_escape(char *dst, size_t room, pws_slice text, unsigned flags)
{
    static const char hex[] = "0123456789abcdef";
    const unsigned char *s = (const unsigned char *)text.at;
    size_t n = 0, i = 0;

    while (i < text.len) {
        size_t kept;

        while (i < text.len && n < room && is_plain(s[i])) {
            dst[n++] = (char)s[i++];
        }
        if (i == text.len || n == room) {
            return n;
        }
        kept = kept_length(s + i, text.len - i, flags);
        if (room - n < (kept > 0 ? kept : PWS_ESCAPE_GROWTH)) {
            return n;
        }
        if (kept > 0) {
            memcpy(dst + n, s + i, kept);
            n += kept;
            i += kept;
            continue;
        }
        dst[n++] = '\\';
        dst[n++] = 'x';
        dst[n++] = hex[s[i] >> 4];
        dst[n++] = hex[s[i++] & 15];
    }
    return n;
}
