/* memo.h - what the engine keeps of its connections' last heads (proto/head_memo.h).
 *
 * A few hundred memos, whatever the number of connections: each place is taken by the
 * last connection that came by and has sent at least one request before, unless it was
 * just taken. So an idle connection owns nothing, and a client that connects once for
 * each request costs nothing. A memo is found again by the connection's slot and
 * generation alone; nobody ever sees another one's. */
#ifndef PWS_ENGINE_MEMO_H
#define PWS_ENGINE_MEMO_H

#include "engine/conn.h"
#include "proto/head_memo.h"

/* Places: at most 1 MiB. A power of two. */
#define PWS_MEMO_PLACES 256u

typedef struct {
    uint64_t owner;   /* generation and slot of a connection */
    uint32_t others;  /* of other connections' heads since its last one */
    uint32_t missed;  /* heads in a row that were not known */
    uint32_t changed; /* heads in a row of which lines were not */
    pws_head_memo head;
} pws_memo;

typedef struct {
    pws_memo *places[PWS_MEMO_PLACES]; /* NULL: never used */
    uint64_t count;                    /* ids given so far */
} pws_memos;

/* The memo of a connection that has served a request; NULL without memory, when it has
 * proved of no use to this client lately, or while others have the place. */
pws_memo *pws_memo_of(pws_memos *memos, const pws_conn *c);

/* As pws_head_memo_parse; what has been of no use is forgotten. */
int pws_memo_parse(pws_memo *memo, pws_head *parser, const pws_rules *rules,
                   pws_request *req, uint32_t len);

void pws_memos_clear(pws_memos *memos);

#endif
