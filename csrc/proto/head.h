/* head.h - how far a parser has come with the head of a request.
 *
 * Each protocol has a parser of its own for heads; this is what they keep between two
 * calls. It has offsets only: the buffer may move. */
#ifndef PWS_PROTO_HEAD_H
#define PWS_PROTO_HEAD_H

#include <stdint.h>

typedef enum {
    PWS_HEAD_LINE,   /* the request line comes next, or a packet's header */
    PWS_HEAD_FIELDS, /* a field line, or the empty line; a packet's block */
    PWS_HEAD_DONE,   /* `at` is the length of the head */
    PWS_HEAD_PING,   /* no request: the front end asks whether somebody is there */
} pws_head_stage;

typedef struct {
    uint32_t at;   /* the line in hand starts here */
    uint32_t seen; /* bytes of which the parser has taken what it could */
    pws_head_stage stage;
} pws_head;

static inline void
pws_head_init(pws_head *head)
{
    *head = (pws_head){0, 0, PWS_HEAD_LINE};
}

#endif
