#include "proto/head_memo.h"

#include <string.h>

#include "proto/field_line.h"
#include "proto/http1.h"

/* All lines at once. */
static void
take_all(const pws_head_memo *memo, pws_request *req, uint32_t at)
{
    memcpy(req->base + at, memo->read, memo->len);
    for (uint32_t i = 0; i < memo->field_count; i++) {
        pws_field *field = &req->fields[i];

        *field = memo->fields[i];
        field->name.at += at;
        field->value.at += at;
    }
    req->field_count = memo->field_count;
    req->present = memo->present;
    req->repeated = memo->repeated;
    memcpy(req->placed, memo->placed, sizeof(req->placed));
}

/* Take line `i` over, if it has come again at `at`. Returns where it ends, or 0. */
static uint32_t
take_line_again(const pws_head_memo *memo, uint32_t i, char *base, pws_line_start start,
                pws_field *field)
{
    const pws_field *known = &memo->fields[i];
    uint32_t from = known->name.at;
    uint32_t to =
        i + 1 < memo->field_count ? memo->fields[i + 1].name.at : memo->len - 2;
    char *line = base + start.at;

    if (start.bound - start.at < to - from ||
        memcmp(line, memo->sent + from, to - from) != 0) {
        return 0;
    }
    memcpy(line, memo->read + from, known->name.len);
    *field = *known;
    field->name.at = start.at;
    field->value.at = start.at + (known->value.at - from);
    return start.at + (to - from);
}

/* Whether a field can have another value, and all else is as it was. */
static bool
may_change(unsigned id)
{
    return id >= PWS_FIELD_PLACED && id != PWS_FIELD_UNKNOWN;
}

/* Line by line, while the names are the same. Returns whether it was the whole head. */
static bool
take_lines(const pws_head_memo *memo, const pws_rules *rules, pws_request *req,
           pws_head *parser, uint32_t bound)
{
    uint32_t changed = 0;

    for (uint32_t i = 0; i < memo->field_count; i++) {
        pws_line_start start = {parser->at, bound};
        pws_field field;
        uint32_t next = take_line_again(memo, i, req->base, start, &field);

        if (next == 0) {
            if (bound - start.at > rules->field_size_max) {
                start.bound = start.at + rules->field_size_max;
            }
            next = pws_field_line_read(req->base, start, &field);
            changed |= (uint32_t)1 << i;
        }
        if (next == 0 || pws_request_put(req, &field) != 0) {
            return false;
        }
        parser->at = parser->seen = next;
        if ((changed >> i & 1) != 0 &&
            (field.id != memo->fields[i].id || !may_change(field.id))) {
            return false;
        }
    }
    req->lines_changed = changed;
    return bound - parser->at >= 2 && memcmp(req->base + parser->at, "\r\n", 2) == 0;
}

/* Returns whether the whole head was taken over; if not, the parser goes on from where
 * it stands. */
static bool
recall(const pws_head_memo *memo, pws_head *parser, const pws_rules *rules,
       pws_request *req, uint32_t len)
{
    const uint32_t at = parser->at;
    const uint32_t bound = len < rules->head_max ? len : rules->head_max;

    if (memo->field_count > req->field_room) {
        return false;
    }
    if (bound - at >= memo->len && memcmp(req->base + at, memo->sent, memo->len) == 0) {
        take_all(memo, req, at);
        parser->at = at + memo->len;
    }
    else if (take_lines(memo, rules, req, parser, bound)) {
        parser->at += 2;
    }
    else {
        return false;
    }
    req->lines_id = memo->id;
    req->lines_judged = true; /* or the connection would have been closed */
    parser->seen = parser->at;
    parser->stage = PWS_HEAD_DONE;
    return true;
}

/* The head whose lines began at `at` is done. */
static void
keep(pws_head_memo *memo, pws_request *req, uint32_t at, uint32_t len)
{
    /* What names with underscores become is judged by the peer each time. */
    if (len > PWS_MEMO_BYTES || req->field_count > PWS_MEMO_FIELDS ||
        req->has_underscores) {
        return;
    }
    memcpy(memo->read, req->base + at, len);
    for (uint32_t i = 0; i < req->field_count; i++) {
        memo->fields[i] = req->fields[i];
        memo->fields[i].name.at -= at;
        memo->fields[i].value.at -= at;
    }
    memo->len = len;
    memo->field_count = req->field_count;
    memo->present = req->present;
    memo->repeated = req->repeated;
    memcpy(memo->placed, req->placed, sizeof(memo->placed));
    memo->id = req->lines_id = memo->next_id;
}

int
pws_head_memo_parse(pws_head_memo *memo, pws_head *parser, const pws_rules *rules,
                    pws_request *req, uint32_t len)
{
    const uint32_t at = parser->at, n = len - at;
    int status;

    if (memo->id != 0) {
        return recall(memo, parser, rules, req, len)
                   ? 0
                   : pws_http1_parse(parser, rules, req, req->base, len);
    }
    memcpy(memo->sent, req->base + at, n < PWS_MEMO_BYTES ? n : PWS_MEMO_BYTES);
    status = pws_http1_parse(parser, rules, req, req->base, len);
    if (status == 0 && parser->stage == PWS_HEAD_DONE) {
        keep(memo, req, at, parser->at - at);
    }
    return status;
}
