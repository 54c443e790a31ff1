/* chars.h - what each byte is allowed to be. Tables and scans, no locale. */
#ifndef PWS_PROTO_CHARS_H
#define PWS_PROTO_CHARS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* A token character (RFC 9110 5.6.2) in CGI spelling: upper case, '-' as '_'; 0 for all
 * others. '_' itself has PWS_CGI_UNDERSCORE added, so that the caller can tell. */
extern const uint8_t pws_cgi[256];
#define PWS_CGI_UNDERSCORE 0x80

/* 1 for a byte that may stand in a request target: no control, space, DEL or '#'. */
extern const uint8_t pws_target_char[256];

/* 1 for unreserved and sub-delims of RFC 3986: what a host name is made of, '%' aside.
 */
extern const uint8_t pws_host_char[256];

static inline bool
pws_is_digit(char c)
{
    return c >= '0' && c <= '9';
}

/* The value of a hexadecimal digit, or -1. */
int pws_hex_value(char c);

static inline bool
pws_is_token(char c)
{
    return pws_cgi[(unsigned char)c] != 0;
}

/* How many of the `len` bytes at `at` may stand in a field value (RFC 9110 5.5): HTAB,
 * visible ASCII, space, 0x80 to 0xff. The first byte that may not ends the count. */
size_t pws_field_value_span(const char *at, size_t len);

/* Whether these bytes are a token (RFC 9110 5.6.2). */
bool pws_is_token_text(const char *at, size_t len);

/* The same as the span for bytes that may stand in a request target (pws_target_char).
 */
size_t pws_target_span(const char *at, size_t len);

/* How many of the first `len` bytes are the same in both. */
size_t pws_same_span(const char *a, const char *b, size_t len);

#endif
