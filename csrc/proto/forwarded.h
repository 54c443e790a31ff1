/* forwarded.h - what a proxy may say of the client, and who may not.
 *
 * Names with underscores, SCRIPT_NAME and the fields that carry the client's scheme are
 * worth what the peer that sent them is worth. */
#ifndef PWS_PROTO_FORWARDED_H
#define PWS_PROTO_FORWARDED_H

#include "proto/request.h"

/* Apply header_map and forwarder_headers to each field, take SCRIPT_NAME and the scheme
 * from a trusted peer. Returns 0 or the status to refuse with. */
int pws_forwarded_judge(pws_request *req, const pws_rules *rules, bool trusted);

/* Take the scheme from the fields that carry it. The peer must be trusted. Returns 0,
 * or the status to refuse with. */
int pws_forwarded_scheme(pws_request *req, const pws_rules *rules);

/* What `scheme_ids` of the rules can be, beside 0: with it, requests without any of the
 * scheme fields are known by one look. */
uint64_t pws_forwarded_scheme_ids(const pws_rules *rules);

#endif
