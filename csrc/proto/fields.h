/* fields.h - the field names that are known by number.
 *
 * Names are in CGI spelling without "HTTP_" (upper case, '_' for '-'). The first few
 * decide framing and connection and are looked at by us; the others are merely
 * frequent. */
#ifndef PWS_PROTO_FIELDS_H
#define PWS_PROTO_FIELDS_H

#include "base/slice.h"

/* clang-format off */
#define PWS_KNOWN_FIELDS(X)                                                              \
    X(HOST) X(CONTENT_LENGTH) X(TRANSFER_ENCODING) X(CONNECTION) X(EXPECT)               \
    X(CONTENT_TYPE) X(UPGRADE) X(TE)                                                     \
    X(ACCEPT) X(ACCEPT_ENCODING) X(ACCEPT_LANGUAGE) X(ACCEPT_CHARSET) X(AUTHORIZATION)   \
    X(CACHE_CONTROL) X(COOKIE) X(DNT) X(DATE) X(ETAG) X(FORWARDED) X(FROM)               \
    X(IF_MATCH) X(IF_MODIFIED_SINCE) X(IF_NONE_MATCH) X(IF_RANGE) X(IF_UNMODIFIED_SINCE) \
    X(KEEP_ALIVE) X(MAX_FORWARDS) X(ORIGIN) X(PRAGMA) X(PRIORITY) X(PROXY_AUTHORIZATION) \
    X(RANGE) X(REFERER) X(SEC_CH_UA) X(SEC_CH_UA_MOBILE) X(SEC_CH_UA_PLATFORM)           \
    X(SEC_FETCH_DEST) X(SEC_FETCH_MODE) X(SEC_FETCH_SITE) X(SEC_FETCH_USER)              \
    X(SEC_GPC) X(TRACEPARENT) X(TRACESTATE) X(UPGRADE_INSECURE_REQUESTS) X(USER_AGENT)   \
    X(VIA) X(X_CSRFTOKEN) X(X_FORWARDED_FOR) X(X_FORWARDED_HOST) X(X_FORWARDED_PORT)     \
    X(X_FORWARDED_PROTO) X(X_FORWARDED_PROTOCOL) X(X_FORWARDED_SSL) X(X_REAL_IP) X(X_REQUEST_ID)                 \
    X(X_REQUESTED_WITH) X(CF_CONNECTING_IP) X(CF_RAY) X(CDN_LOOP)
/* clang-format on */

typedef enum {
#define PWS_FIELD_ID(name) PWS_FIELD_##name,
    PWS_KNOWN_FIELDS(PWS_FIELD_ID)
#undef PWS_FIELD_ID
        PWS_FIELD_UNKNOWN,
} pws_field_id;

/* Known ids below this one have their place noted in struct pws_request. */
#define PWS_FIELD_PLACED (PWS_FIELD_TE + 1)

/* The id of a name in CGI spelling, or PWS_FIELD_UNKNOWN. */
pws_field_id pws_field_find(const char *name, size_t len);

/* The same for a name that stands alone in so much room, with zeros behind it. */
#define PWS_FIELD_NAME_ROOM 32
pws_field_id pws_field_find_padded(const char name[PWS_FIELD_NAME_ROOM], size_t len);

/* The name of a known id, NUL-terminated; "" for PWS_FIELD_UNKNOWN. */
const char *pws_field_name(pws_field_id id);

#endif
