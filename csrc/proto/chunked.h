/* chunked.h - the chunked transfer coding (RFC 9112 7.1), decoded in place.
 *
 * A decoder belongs to one body and is fed its bytes in any pieces. Sizes, extensions
 * and trailer fields are held to the grammar and to bounds although all but the sizes
 * are thrown away: a proxy in front that reads them otherwise would see another body.
 */
#ifndef PWS_PROTO_CHUNKED_H
#define PWS_PROTO_CHUNKED_H

#include "proto/rules.h"

/* Bounds of what is not data: the digits of a size, a size line with its extensions,
 * all extensions of a body with the blanks around them, all trailer fields of a body.
 * In bytes. */
#define PWS_CHUNK_DIGITS_MAX 16u
#define PWS_CHUNK_LINE_MAX 1024u
#define PWS_CHUNK_EXTENSIONS_MAX (64u * 1024)
#define PWS_CHUNK_TRAILERS_MAX (64u * 1024)

typedef enum {
    PWS_CHUNK_SIZE,   /* the first digit of a size */
    PWS_CHUNK_DIGITS, /* more digits */
    PWS_CHUNK_BWS,    /* blanks in front of ';' */
    PWS_CHUNK_EXT,    /* blanks in front of a name */
    PWS_CHUNK_EXT_NAME,
    PWS_CHUNK_EXT_BWS,   /* blanks between name and '=' */
    PWS_CHUNK_EXT_VALUE, /* blanks in front of a value */
    PWS_CHUNK_EXT_TOKEN,
    PWS_CHUNK_EXT_QUOTED,
    PWS_CHUNK_EXT_ESCAPE,
    PWS_CHUNK_EXT_END, /* behind a quoted value */
    PWS_CHUNK_LINE_LF, /* the LF of a size line */
    PWS_CHUNK_DATA,
    PWS_CHUNK_DATA_CR,
    PWS_CHUNK_DATA_LF,
    PWS_CHUNK_TRAILER, /* a trailer field, or the last empty line */
    PWS_CHUNK_NAME,
    PWS_CHUNK_VALUE,
    PWS_CHUNK_VALUE_LF,
    PWS_CHUNK_LAST_LF,
    PWS_CHUNK_DONE,
} pws_chunk_state;

typedef struct {
    pws_chunk_state state;
    uint64_t left;       /* of the chunk in hand */
    uint64_t total;      /* decoded so far */
    uint32_t line;       /* bytes of the line in hand */
    uint32_t extensions; /* bytes of all extensions */
    uint32_t trailers;   /* bytes of all trailer fields */
    uint32_t fields;     /* trailer fields */
    char name[20];       /* beginning of a trailer's name, CGI spelling */
    uint32_t name_len;
    const char *refusal; /* why it was refused; static text */
} pws_chunked;

void pws_chunked_init(pws_chunked *c);

/* Decode `len` bytes at `buf` in place. On success *used says how many of them belong
 * to the body, *made how many decoded bytes now stand at the beginning of `buf`; behind
 * the end of the body (`state` is PWS_CHUNK_DONE) nothing is touched. Returns 0 or the
 * status to refuse with: 400, 413 (rules->body_max), 431 (trailers). */
int pws_chunked_decode(pws_chunked *c, const pws_rules *rules, char *buf, size_t len,
                       size_t *used, size_t *made);

#endif
