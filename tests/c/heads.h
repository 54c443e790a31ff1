/* heads.h - checks on a request head in guarded memory, for the unit tests. */
#ifndef PWS_TESTS_HEADS_H
#define PWS_TESTS_HEADS_H

#include "feed.h"
#include "harness.h"

#define GUARDED ((feed_memory){guarded, guarded_release})

typedef struct {
    const char *text;
    size_t len;
    int status;
    const char *refusal;
} head_case;

/* A row of a table: the bytes are a literal and may hold NUL. */
#define HEAD_CASE(literal, status, refusal)                                            \
    {                                                                                  \
        literal, sizeof(literal) - 1, status, refusal                                  \
    }

static void
check_verdict(const feed_head_result *r, pws_slice text, int status,
              const char *refusal)
{
    const char *why = r->req.refusal != NULL ? r->req.refusal : "(none)";

    if (r->status != status || strcmp(why, refusal != NULL ? refusal : "(none)") != 0) {
        printf("    %d %s\n    of %.*s\n", r->status, why, (int)text.len, text.at);
    }
    CHECK_EQ(r->status, status);
    CHECK(strcmp(why, refusal != NULL ? refusal : "(none)") == 0);
}

/* The head goes whole, byte by byte and with trailing bytes; `r` keeps the last. */
static inline void
check_head(feed_head_result *r, const pws_rules *rules, bool trusted, pws_slice text,
           int status, const char *refusal)
{
    static const char trailing[] = "GET /next HTTP/1.1\r\n\r\n";
    char *longer = malloc(text.len + sizeof(trailing));

    memcpy(longer, text.at, text.len);
    memcpy(longer + text.len, trailing, sizeof(trailing));
    feed_head(r, GUARDED, rules, trusted, text.at, text.len, FEED_BYTES);
    check_verdict(r, text, status, refusal);
    if (status != FEED_MORE) {
        feed_head(r, GUARDED, rules, trusted, longer, text.len + sizeof(trailing),
                  FEED_WHOLE);
        check_verdict(r, text, status, refusal);
        CHECK(status != 0 || r->parser.at == text.len);
    }
    free(longer);
    feed_head(r, GUARDED, rules, trusted, text.at, text.len, FEED_WHOLE);
    check_verdict(r, text, status, refusal);
}

#define CHECK_HEADS(table, rules, trusted)                                             \
    for (size_t row = 0; row < sizeof(table) / sizeof((table)[0]); row++) {            \
        static feed_head_result result;                                                \
                                                                                       \
        check_head(&result, (rules), (trusted),                                        \
                   (pws_slice){(table)[row].text, (table)[row].len},                   \
                   (table)[row].status, (table)[row].refusal);                         \
    }

#define CHECK_SPAN(req, span, literal)                                                 \
    CHECK_BYTES((req)->base + (req)->span.at, (req)->span.len, literal)

#endif
