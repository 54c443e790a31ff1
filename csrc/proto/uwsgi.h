/* uwsgi.h - a request as a packet of CGI variables, as nginx's uwsgi_pass sends it.
 *
 * A packet is four bytes (modifier1, the size of the block in little endian, modifier2)
 * and a block of variables: name and value, each behind two bytes of length. The body
 * follows it. The front end has parsed the request: what it says is believed, but
 * nothing that it says loads code or opens files.
 *
 * The block is taken apart when the last of its at most 65,535 bytes has come, so any
 * split of the bytes gives the same result. The room for fields is the bound on the
 * number of variables. Of variables with the same name the last one counts. */
#ifndef PWS_PROTO_UWSGI_H
#define PWS_PROTO_UWSGI_H

#include "proto/head.h"
#include "proto/request.h"

/* The longest packet. */
#define PWS_UWSGI_MAX (4u + 65535u)

/* What a ping is answered with. */
#define PWS_UWSGI_PONG PWS_SLICE("\x64\0\0\x01")

/* Go on with `len` bytes at `base`, of which the parser has seen a beginning. Sets
 * `req->base`. Returns 0 (look at `stage`: neither PWS_HEAD_DONE nor PWS_HEAD_PING
 * means more bytes are needed) or the status to refuse with. A head that is done is not
 * judged yet. */
int pws_uwsgi_parse(pws_head *parser, pws_request *req, char *base, uint32_t len);

/* Judge a whole head: what is left of the scheme, and the body's size. `trusted`: the
 * peer is one whose forwarding fields count. Returns 0 or the status to refuse with. */
int pws_uwsgi_judge(pws_request *req, const pws_rules *rules, bool trusted);

#endif
