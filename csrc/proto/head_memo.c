#include "proto/head_memo.h"

#include <string.h>

#include "proto/chars.h"
#include "proto/field_line.h"
#include "proto/http1.h"

/* How far a head has been read with a memo. */
typedef struct {
    const pws_head_memo *memo;
    pws_request *req;
    uint32_t at;      /* in the head */
    uint32_t known;   /* the same place in the memo */
    uint32_t line;    /* which begins there, of both */
    uint32_t changed; /* bit i: line i has another value */
} reading;

/* Take all lines over that are as they were, up to the first one of which a byte is
 * not. Returns whether even the empty line is. */
static bool
take_same(reading *r, uint32_t bound)
{
    const pws_head_memo *memo = r->memo;
    uint32_t left = memo->len - r->known, shift = r->at - r->known, end, line;
    char *head = r->req->base + r->at;

    if (left > bound - r->at) {
        left = bound - r->at;
    }
    end = r->known + (uint32_t)pws_same_span(memo->sent + r->known, head, left);
    line = end == memo->len ? memo->field_count : r->line;
    while (line < memo->field_count && memo->fields[line + 1].name.at <= end) {
        line++;
    }
    for (uint32_t i = r->line; i < line; i++) {
        pws_field *field = &r->req->fields[i];

        *field = memo->fields[i];
        field->name.at += shift;
        field->value.at += shift;
    }
    memcpy(head, memo->read + r->known, memo->fields[line].name.at - r->known);
    r->line = line;
    r->known = memo->fields[line].name.at;
    r->at = r->known + shift;
    return end == memo->len;
}

/* Whether a field can have another value, and all else is as it was. */
static bool
may_change(unsigned id)
{
    return id >= PWS_FIELD_PLACED && id != PWS_FIELD_UNKNOWN;
}

/* Read the line in hand, of which a byte is not as it was. Returns whether it is the
 * same field. */
static bool
take_changed(reading *r, const pws_rules *rules, uint32_t bound)
{
    pws_line_start start = {r->at, bound};
    pws_field *field = &r->req->fields[r->line];
    uint32_t next;

    if (bound - start.at > rules->field_size_max) {
        start.bound = start.at + rules->field_size_max;
    }
    next = pws_field_line_read(r->req->base, start, field);
    if (next == 0) {
        return false;
    }
    r->changed |= (uint32_t)1 << r->line;
    r->at = next;
    r->line++;
    r->known = r->memo->fields[r->line].name.at;
    return field->id == r->memo->fields[r->line - 1].id && may_change(field->id);
}

/* Returns whether the whole head was taken over; if not, the parser goes on from where
 * it stands. */
static bool
recall(const pws_head_memo *memo, pws_head *parser, const pws_rules *rules,
       pws_request *req, uint32_t len)
{
    const uint32_t bound = len < rules->head_max ? len : rules->head_max;
    reading r = {.memo = memo, .req = req, .at = parser->at};
    bool whole, same = memo->field_count <= req->field_room;

    do {
        whole = same && take_same(&r, bound);
        same = same && !whole && r.line < memo->field_count &&
               take_changed(&r, rules, bound);
    } while (same);
    if (!whole) {
        for (uint32_t i = 0; i < r.line; i++) {
            (void)pws_request_put(req, &req->fields[i]); /* there is room: see above */
        }
        parser->at = parser->seen = r.at;
        return false;
    }
    req->field_count = memo->field_count;
    req->present = memo->present;
    req->repeated = memo->repeated;
    memcpy(req->placed, memo->placed, sizeof(req->placed));
    req->lines_id = memo->id;
    req->lines_changed = r.changed;
    req->lines_judged = true; /* or the connection would have been closed */
    parser->at = parser->seen = r.at + 2;
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
    memo->fields[req->field_count].name.at = len - 2;
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
