/* slice.h - a borrowed run of bytes.
 *
 * A slice owns nothing: it is valid for as long as the bytes it was taken from stay
 * where they are. It is not terminated by NUL and may hold any byte. */
#ifndef PWS_BASE_SLICE_H
#define PWS_BASE_SLICE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

typedef struct {
    const char *at;
    size_t len;
} pws_slice;

/* A slice of a string literal. */
#define PWS_SLICE(literal) ((pws_slice){(literal), sizeof(literal) - 1})

static inline pws_slice
pws_slice_of(const char *text)
{
    return (pws_slice){text, strlen(text)};
}

static inline bool
pws_slice_eq(pws_slice a, pws_slice b)
{
    return a.len == b.len && (a.len == 0 || memcmp(a.at, b.at, a.len) == 0);
}

/* ASCII lower case of one byte; no locale. */
static inline char
pws_lower(char c)
{
    return (c >= 'A' && c <= 'Z') ? (char)(c | 0x20) : c;
}

/* Compare without regard to ASCII case. */
static inline bool
pws_slice_eq_nocase(pws_slice a, pws_slice b)
{
    if (a.len != b.len) {
        return false;
    }
    for (size_t i = 0; i < a.len; i++) {
        if (pws_lower(a.at[i]) != pws_lower(b.at[i])) {
            return false;
        }
    }
    return true;
}

/* Whether a name made of token characters (RFC 9110 5.6.2) is `literal`, which is in
 * lower case, has only letters and '-', and at least 4 bytes, without regard to case.
 * Setting bit 5 of both maps no other token character to those. */
static inline bool
pws_token_is(pws_slice name, const char *literal, size_t len)
{
    uint32_t a, b, fold = 0x20202020;
    size_t i = 0;

    if (name.len != len) {
        return false;
    }
    for (; i + 4 <= len; i += 4) {
        memcpy(&a, name.at + i, 4);
        memcpy(&b, literal + i, 4);
        if ((a | fold) != (b | fold)) {
            return false;
        }
    }
    memcpy(&a, name.at + len - 4, 4);
    memcpy(&b, literal + len - 4, 4);
    return (a | fold) == (b | fold);
}

/* Without the spaces and tabs (RFC 9110 5.6.3 OWS, nothing wider) at both ends. */
static inline pws_slice
pws_slice_trim(pws_slice s)
{
    while (s.len > 0 && (s.at[0] == ' ' || s.at[0] == '\t')) {
        s.at++;
        s.len--;
    }
    while (s.len > 0 && (s.at[s.len - 1] == ' ' || s.at[s.len - 1] == '\t')) {
        s.len--;
    }
    return s;
}

/* Take the next element of a comma-separated list (RFC 9110 5.6.1): trimmed, maybe
 * empty. `rest` moves behind it. Returns false at the end of the list. */
static inline bool
pws_slice_next_item(pws_slice *rest, pws_slice *item)
{
    const char *comma;

    if (rest->at == NULL) {
        return false;
    }
    comma = rest->len > 0 ? memchr(rest->at, ',', rest->len) : NULL;
    if (comma == NULL) {
        *item = pws_slice_trim(*rest);
        rest->at = NULL;
        rest->len = 0;
        return true;
    }
    *item = pws_slice_trim((pws_slice){rest->at, (size_t)(comma - rest->at)});
    rest->len -= (size_t)(comma + 1 - rest->at);
    rest->at = comma + 1;
    return true;
}

#endif
