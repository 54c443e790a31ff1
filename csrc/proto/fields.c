#include "proto/fields.h"

#include <stdint.h>
#include <string.h>

_Static_assert(PWS_FIELD_UNKNOWN <= 64, "ids must fit the masks of struct pws_request");

#define LONGEST 25
_Static_assert(LONGEST < PWS_FIELD_NAME_ROOM, "names are padded with zeros");
#define SAME_LENGTH 6

static const char names[][PWS_FIELD_NAME_ROOM] = {
#define NAME(name) #name,
    PWS_KNOWN_FIELDS(NAME)
#undef NAME
};

/* Known names by their length; an id is stored plus one, so that 0 ends a row. A name
 * of PWS_KNOWN_FIELDS that is missing here fails a test. */
#define ID(name) (PWS_FIELD_##name + 1)
static const uint8_t by_length[LONGEST + 1][SAME_LENGTH + 1] = {
    [2] = {ID(TE)},
    [3] = {ID(DNT), ID(VIA)},
    [4] = {ID(HOST), ID(DATE), ID(ETAG), ID(FROM)},
    [5] = {ID(RANGE)},
    [6] = {ID(EXPECT), ID(ACCEPT), ID(COOKIE), ID(ORIGIN), ID(PRAGMA), ID(CF_RAY)},
    [7] = {ID(UPGRADE), ID(REFERER), ID(SEC_GPC)},
    [8] = {ID(IF_MATCH), ID(IF_RANGE), ID(PRIORITY), ID(CDN_LOOP)},
    [9] = {ID(FORWARDED), ID(SEC_CH_UA), ID(X_REAL_IP)},
    [10] = {ID(CONNECTION), ID(KEEP_ALIVE), ID(TRACESTATE), ID(USER_AGENT)},
    [11] = {ID(TRACEPARENT), ID(X_CSRFTOKEN)},
    [12] = {ID(CONTENT_TYPE), ID(MAX_FORWARDS), ID(X_REQUEST_ID)},
    [13] = {ID(AUTHORIZATION), ID(CACHE_CONTROL), ID(IF_NONE_MATCH)},
    [14] = {ID(CONTENT_LENGTH), ID(ACCEPT_CHARSET), ID(SEC_FETCH_DEST),
            ID(SEC_FETCH_MODE), ID(SEC_FETCH_SITE), ID(SEC_FETCH_USER)},
    [15] = {ID(ACCEPT_ENCODING), ID(ACCEPT_LANGUAGE), ID(X_FORWARDED_FOR),
            ID(X_FORWARDED_SSL)},
    [16] = {ID(SEC_CH_UA_MOBILE), ID(X_FORWARDED_HOST), ID(X_FORWARDED_PORT),
            ID(X_REQUESTED_WITH), ID(CF_CONNECTING_IP)},
    [17] = {ID(TRANSFER_ENCODING), ID(IF_MODIFIED_SINCE), ID(X_FORWARDED_PROTO)},
    [18] = {ID(SEC_CH_UA_PLATFORM)},
    [19] = {ID(IF_UNMODIFIED_SINCE), ID(PROXY_AUTHORIZATION)},
    [20] = {ID(X_FORWARDED_PROTOCOL)},
    [25] = {ID(UPGRADE_INSECURE_REQUESTS)},
};
#undef ID

pws_field_id
pws_field_find(const char *name, size_t len)
{
    if (len > LONGEST) {
        return PWS_FIELD_UNKNOWN;
    }
    for (const uint8_t *row = by_length[len]; *row != 0; row++) {
        const char *known = names[*row - 1];

        if (known[0] == name[0] && memcmp(known, name, len) == 0) {
            return (pws_field_id)(*row - 1);
        }
    }
    return PWS_FIELD_UNKNOWN;
}

pws_field_id
pws_field_find_padded(const char name[PWS_FIELD_NAME_ROOM], size_t len)
{
    if (len > LONGEST) {
        return PWS_FIELD_UNKNOWN;
    }
    for (const uint8_t *row = by_length[len]; *row != 0; row++) {
        const char *known = names[*row - 1];

        /* The size is a constant: two comparisons of vectors, and no call. */
        if (known[0] == name[0] && memcmp(known, name, PWS_FIELD_NAME_ROOM) == 0) {
            return (pws_field_id)(*row - 1);
        }
    }
    return PWS_FIELD_UNKNOWN;
}

const char *
pws_field_name(pws_field_id id)
{
    return id < PWS_FIELD_UNKNOWN ? names[id] : "";
}
