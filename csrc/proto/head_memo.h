/* head_memo.h - the field lines of a client's last head, in case it sends them again.
 *
 * Most clients send the same lines with each request of a connection, or all but a few.
 * What was read from them once is taken over for those that come again, byte for byte:
 * so a memo holds what came and what became of it. It belongs to one connection: the
 * values in it are that client's secrets, and how they were judged depends on its
 * address. Whoever keeps it sees to that. It is without pointers and can be copied. */
#ifndef PWS_PROTO_HEAD_MEMO_H
#define PWS_PROTO_HEAD_MEMO_H

#include "proto/head.h"
#include "proto/request.h"

/* Longer heads, and those with more lines, are read each time. */
#define PWS_MEMO_BYTES 1536
#define PWS_MEMO_FIELDS 32

typedef struct {
    uint64_t id;      /* the keeper's name for these lines; 0: none are known */
    uint64_t next_id; /* and for those that it sees next */
    uint32_t len;
    uint32_t field_count;
    uint64_t present, repeated;
    uint32_t placed[PWS_FIELD_PLACED];
    char sent[PWS_MEMO_BYTES]; /* the lines with the empty one behind them */
    char read[PWS_MEMO_BYTES]; /* the same as the parser leaves them */
    /* Spans count from the first line; behind the last one, the empty line's begin. */
    pws_field fields[PWS_MEMO_FIELDS + 1];
} pws_head_memo;

/* Go on behind the request line, of a head of which `len` bytes have come, as
 * pws_http1_parse would: the outcome is the same, but for what the request says of its
 * lines. Lines that are known are taken over, those between them are read, as long as
 * their names are the known ones. What an empty memo sees it keeps, when it is the
 * whole head and fits, as `next_id`. */
int pws_head_memo_parse(pws_head_memo *memo, pws_head *parser, const pws_rules *rules,
                        pws_request *req, uint32_t len);

#endif
