/* feed.h - gives a parser its bytes in pieces, each time in memory of exactly their
 * size.
 *
 * Used by unit tests (guard pages), fuzzers and the model's driver (the sanitizer's red
 * zones). Every piece comes in a new block, so that a parser which kept a pointer dies.
 */
#ifndef PWS_TESTS_FEED_H
#define PWS_TESTS_FEED_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/chunked.h"
#include "proto/http1.h"
#include "proto/uwsgi.h"

/* How to copy n bytes into memory of their own, and to give all copies back. */
typedef struct {
    char *(*copy)(const void *data, size_t n);
    void (*release)(void);
} feed_memory;

/* How to cut: all at once, byte by byte; any other number seeds random pieces. */
enum { FEED_WHOLE = 0, FEED_BYTES = 1 };

/* Not a status: the bytes end before the parser's verdict. */
#define FEED_MORE (-1)

#define FEED_FIELDS 128

typedef struct {
    int status; /* 0: complete and judged, FEED_MORE, or the status to refuse with */
    pws_head parser;
    pws_request req;
    pws_field fields[FEED_FIELDS];
} feed_head_result;

typedef struct {
    int status; /* 0: complete, FEED_MORE, or the status to refuse with */
    pws_chunked decoder;
    char *body; /* decoded, from malloc */
    size_t body_len;
    size_t used; /* bytes of the input that belong to the body */
} feed_body_result;

/* The size of the next piece. */
static inline size_t
feed_piece(unsigned *cut, size_t left)
{
    size_t n;

    if (*cut == FEED_WHOLE || left == 0) {
        return left;
    }
    if (*cut == FEED_BYTES) {
        return 1;
    }
    *cut = *cut * 1664525u + 1013904223u;
    if (*cut <= FEED_BYTES) {
        *cut = 2;
    }
    n = (*cut >> 16) % ((*cut >> 28) < 12 ? 7 : 97) + 1;
    return n < left ? n : left;
}

/* A parser of heads, and who judges what it has made. */
typedef struct {
    int (*parse)(pws_head *parser, const pws_rules *rules, pws_request *req, char *base,
                 uint32_t len);
    int (*judge)(pws_request *req, const pws_rules *rules, bool trusted);
} feed_protocol;

/* Parse and judge a head. The request's bytes live until memory.release(). */
static inline void
feed_head_of(feed_protocol protocol, feed_head_result *r, feed_memory memory,
             const pws_rules *rules, bool trusted, const char *text, size_t len,
             unsigned cut)
{
    char *kept = malloc(len + 1); /* the bytes as the parser left them */
    char *block;
    size_t given = 0;

    pws_head_init(&r->parser);
    pws_request_init(&r->req, r->fields, FEED_FIELDS);
    r->status = FEED_MORE;
    do {
        size_t n = feed_piece(&cut, len - given);

        memory.release();
        memcpy(kept + given, text + given, n);
        given += n;
        block = memory.copy(kept, given);
        r->status = protocol.parse(&r->parser, rules, &r->req, block, (uint32_t)given);
        memcpy(kept, block, given);
    } while (r->status == 0 && r->parser.stage < PWS_HEAD_DONE && given < len);
    if (r->status == 0 && r->parser.stage != PWS_HEAD_PING) {
        r->status = r->parser.stage == PWS_HEAD_DONE
                        ? protocol.judge(&r->req, rules, trusted)
                        : FEED_MORE;
    }
    free(kept);
}

static inline void
feed_head(feed_head_result *r, feed_memory memory, const pws_rules *rules, bool trusted,
          const char *text, size_t len, unsigned cut)
{
    const feed_protocol http1 = {pws_http1_parse, pws_request_judge};

    feed_head_of(http1, r, memory, rules, trusted, text, len, cut);
}

static inline int
feed_parse_packet(pws_head *parser, const pws_rules *rules, pws_request *req,
                  char *base, uint32_t len)
{
    (void)rules;
    return pws_uwsgi_parse(parser, req, base, len);
}

/* The same for a uwsgi packet; `parser.stage` tells a ping. */
static inline void
feed_packet(feed_head_result *r, feed_memory memory, const pws_rules *rules,
            bool trusted, const char *text, size_t len, unsigned cut)
{
    const feed_protocol uwsgi = {feed_parse_packet, pws_uwsgi_judge};

    feed_head_of(uwsgi, r, memory, rules, trusted, text, len, cut);
}

/* Decode a chunked body. The caller frees r->body. */
static inline void
feed_body(feed_body_result *r, feed_memory memory, const pws_rules *rules,
          const char *text, size_t len, unsigned cut)
{
    size_t given = 0;

    pws_chunked_init(&r->decoder);
    r->body = malloc(len + 1);
    r->body_len = 0;
    r->used = 0;
    r->status = FEED_MORE;
    while (r->status == FEED_MORE && given < len) {
        size_t n = feed_piece(&cut, len - given), used = 0, made = 0;
        char *block = memory.copy(text + given, n);
        int status = pws_chunked_decode(&r->decoder, rules, block, n, &used, &made);

        if (status == 0) {
            memcpy(r->body + r->body_len, block, made);
            r->body_len += made;
            r->used += used;
            r->status = r->decoder.state == PWS_CHUNK_DONE ? 0 : FEED_MORE;
        }
        else {
            r->status = status;
        }
        given += n;
        memory.release();
    }
}

/* The same rules as a server has by default. */
static inline pws_rules
feed_rules(void)
{
    return (pws_rules){
        .line_max = 4094,
        .fields_max = 100,
        .field_size_max = 8190,
        .head_max = PWS_HEAD_MAX,
        .header_map = PWS_HEADER_MAP_DROP,
    };
}

static inline void
feed_print_bytes(FILE *out, const char *name, pws_slice bytes)
{
    fprintf(out, ",\"%s\":\"", name);
    for (size_t i = 0; i < bytes.len; i++) {
        fprintf(out, "%02x", (unsigned)(unsigned char)bytes.at[i]);
    }
    fputc('"', out);
}

/* Everything that a parsed head says, as one JSON object; bytes in hexadecimal. */
static inline void
feed_print_head(FILE *out, const feed_head_result *r)
{
    const pws_request *q = &r->req;

    fprintf(out, "{\"status\":%d", r->status);
    if (r->status != 0) {
        fputs("}\n", out);
        return;
    }
    fprintf(out, ",\"size\":%u,\"minor\":%u,\"form\":%d,\"body\":%d,\"length\":%llu",
            r->parser.at, q->minor, (int)q->form, (int)q->body,
            (unsigned long long)q->length);
    fprintf(out,
            ",\"escaped\":%d,\"https\":%d,\"head\":%d,\"keep_alive\":%d,\"expect\":%d",
            q->path_escaped, q->https, q->head, q->keep_alive, q->expect_continue);
    feed_print_bytes(out, "method", pws_request_slice(q, q->method));
    feed_print_bytes(out, "target", pws_request_slice(q, q->target));
    feed_print_bytes(out, "authority", pws_request_slice(q, q->authority));
    feed_print_bytes(out, "path", pws_request_slice(q, q->path));
    feed_print_bytes(out, "query", pws_request_slice(q, q->query));
    feed_print_bytes(out, "script_name", pws_request_slice(q, q->script_name));
    fputs(",\"fields\":[", out);
    for (uint32_t i = 0; i < q->field_count; i++) {
        const pws_field *f = &q->fields[i];

        fprintf(out, "%s{\"flags\":%u", i > 0 ? "," : "", f->flags);
        feed_print_bytes(out, "name", pws_request_slice(q, f->name));
        feed_print_bytes(out, "value", pws_request_slice(q, f->value));
        fputc('}', out);
    }
    fputs("]}\n", out);
}

static inline void
feed_print_body(FILE *out, const feed_body_result *r)
{
    fprintf(out, "{\"status\":%d", r->status);
    if (r->status <= 0) { /* a refused body's pieces depend on the cuts */
        fprintf(out, ",\"used\":%zu", r->used);
        feed_print_bytes(out, "body", (pws_slice){r->body, r->body_len});
    }
    fputs("}\n", out);
}

/* For programs without guard pages: one block of malloc, with red zones around it. */
static char *feed_block_now;

static inline char *
feed_block(const void *data, size_t n)
{
    feed_block_now = malloc(n > 0 ? n : 1);
    if (n > 0) {
        memcpy(feed_block_now, data, n);
    }
    return feed_block_now;
}

static inline void
feed_block_release(void)
{
    free(feed_block_now);
    feed_block_now = NULL;
}

#define FEED_BLOCKS ((feed_memory){feed_block, feed_block_release})

#endif
