/* recall.h - heads that are parsed with a memo of the one before, as the engine does.
 */
#ifndef PWS_TESTS_RECALL_H
#define PWS_TESTS_RECALL_H

#include "feed.h"
#include "proto/head_memo.h"

static pws_head_memo recall_memo;

static inline int
recall_parse(pws_head *parser, const pws_rules *rules, pws_request *req, char *base,
             uint32_t len)
{
    int status = pws_http1_parse_line(parser, rules, req, base, len);

    if (status != 0 || parser->stage != PWS_HEAD_FIELDS || req->field_count > 0 ||
        parser->at != parser->seen) {
        return status != 0 ? status : pws_http1_parse(parser, rules, req, base, len);
    }
    recall_memo.next_id = recall_memo.id + 1;
    return pws_head_memo_parse(&recall_memo, parser, rules, req, len);
}

/* A head of the same connection as the one before, which ends with one that is refused.
 */
static inline void
recall_head(feed_head_result *r, feed_memory memory, const pws_rules *rules,
            bool trusted, pws_slice text, unsigned cut)
{
    const feed_protocol with_memo = {recall_parse, pws_request_judge};

    feed_head_of(with_memo, r, memory, rules, trusted, text.at, text.len, cut);
    if (r->status > 0) {
        recall_memo.id = 0;
    }
}

#endif
