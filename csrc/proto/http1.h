/* http1.h - the head of an HTTP/1.1 request (RFC 9112 2 to 5).
 *
 * The parser is fed one growing buffer and judges a line when its LF has come, so any
 * split of the bytes gives the same result, and no byte is looked at again for being
 * late. A line that is too long is refused without its LF. Field names are turned into
 * CGI spelling in the buffer. The buffer may move between two calls: the parser keeps
 * offsets. */
#ifndef PWS_PROTO_HTTP1_H
#define PWS_PROTO_HTTP1_H

#include "proto/head.h"
#include "proto/request.h"

/* Take the request line alone, if it has come: `stage` is PWS_HEAD_FIELDS then. For who
 * looks at the other lines first; otherwise as pws_http1_parse. */
int pws_http1_parse_line(pws_head *parser, const pws_rules *rules, pws_request *req,
                         char *base, uint32_t len);

/* Go on with `len` bytes at `base`, of which the parser has seen a beginning. Sets
 * `req->base`. Returns 0 (look at `stage`: not PWS_HEAD_DONE means more bytes are
 * needed) or the status to refuse with. A head that is done is not judged yet: see
 * pws_request_judge. */
int pws_http1_parse(pws_head *parser, const pws_rules *rules, pws_request *req,
                    char *base, uint32_t len);

#endif
