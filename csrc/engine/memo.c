#include "engine/memo.h"

#include <stdlib.h>

/* A client whose head is new each time has it noted now and then only. */
#define MISSES_MAX 4
#define RETRY_EVERY 16

/* So often may others come by before the place of a connection that is silent is
 * theirs. Where many share it, as many as this find their lines; more would only take
 * it from each other. */
#define PATIENCE 8

/* After so many heads that were changed, the last one is as good as any. */
#define CHANGES_MAX 64

pws_memo *
pws_memo_of(pws_memos *memos, const pws_conn *c)
{
    const uint64_t owner = (uint64_t)c->generation << 32 | c->slot;
    pws_memo **place = &memos->places[c->slot % PWS_MEMO_PLACES];
    pws_memo *memo = *place;

    if (memo == NULL) {
        memo = *place = calloc(1, sizeof(*memo));
        if (memo == NULL) {
            return NULL;
        }
    }
    if (memo->owner != owner) {
        /* Who had our slot before us has gone. */
        bool lives = memo->head.id != 0 && (uint32_t)memo->owner != c->slot;

        if (lives && ++memo->others < PATIENCE) {
            return NULL;
        }
        memo->owner = owner;
        memo->missed = memo->changed = 0;
        memo->head.id = 0;
    }
    memo->others = 0;
    if (memo->head.id == 0) {
        /* The low bits are the place, so that a lane finds its own by them. */
        memo->head.next_id =
            ++memos->count * PWS_MEMO_PLACES + c->slot % PWS_MEMO_PLACES;
    }
    if (memo->missed > MISSES_MAX && ++memo->missed % RETRY_EVERY != 0) {
        return NULL;
    }
    return memo;
}

/* A head was known, with some lines changed, or not. */
static void
judge(pws_memo *memo, bool known, bool changed)
{
    memo->missed = known ? 0 : memo->missed + 1;
    memo->changed = known && changed ? memo->changed + 1 : 0;
    if (!known || memo->changed == CHANGES_MAX) {
        memo->changed = 0;
        memo->head.id = 0;
    }
}

int
pws_memo_parse(pws_memo *memo, pws_head *parser, const pws_rules *rules,
               pws_request *req, uint32_t len)
{
    bool was_empty = memo->head.id == 0;
    int status = pws_head_memo_parse(&memo->head, parser, rules, req, len);

    if (was_empty) {
        memo->missed += memo->head.id == 0;
    }
    else if (status != 0 || parser->stage == PWS_HEAD_DONE) {
        judge(memo, req->lines_judged, req->lines_changed != 0);
    }
    return status; /* the rest of a head that comes in pieces tells nothing */
}

void
pws_memos_clear(pws_memos *memos)
{
    for (unsigned i = 0; i < PWS_MEMO_PLACES; i++) {
        free(memos->places[i]);
        memos->places[i] = NULL;
    }
}
