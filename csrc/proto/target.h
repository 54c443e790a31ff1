/* target.h - the request target and the host (RFC 9112 3.2, RFC 3986). */
#ifndef PWS_PROTO_TARGET_H
#define PWS_PROTO_TARGET_H

#include "proto/request.h"

/* Split the target by its form, set `authority`, `path`, `query`, `form`,
 * `path_escaped`, and judge it with the Host field. Returns 0 or the status to refuse
 * with. */
int pws_target_judge(pws_request *req);

/* Whether `text` is uri-host [":" port], without user information. Empty is valid. */
bool pws_authority_valid(pws_slice text);

/* Decode %XX of `src` into `dst`, which has room for src.len bytes and may be src.at. A
 * '%' that no two hexadecimal digits follow stays as it is. Returns the length. */
size_t pws_percent_decode(char *dst, pws_slice src);

#endif
