/* rules.h - what a request may be: limits and policy.
 *
 * Made once from the settings, immutable and shared by all connections of a
 * configuration. Slices in it are borrowed from the configuration and outlive every
 * request. */
#ifndef PWS_PROTO_RULES_H
#define PWS_PROTO_RULES_H

#include <stdbool.h>
#include <stdint.h>

#include "base/slice.h"

/* What to do with a field name that has an underscore: it becomes the same CGI variable
 * as the name with a hyphen, so that a client could forge what a proxy sets. */
typedef enum {
    PWS_HEADER_MAP_DROP,
    PWS_HEADER_MAP_REFUSE,
    PWS_HEADER_MAP_DANGEROUS, /* keep */
} pws_header_map;

/* A field by which a trusted proxy says that the client used https. */
typedef struct {
    pws_slice name; /* CGI spelling */
    pws_slice value;
} pws_scheme_field;

typedef struct {
    uint32_t line_max;       /* bytes of a request line without CRLF */
    uint32_t fields_max;     /* field lines, also of a trailer section */
    uint32_t field_size_max; /* bytes of a field line with CRLF */
    uint32_t head_max;       /* bytes of a whole head */
    uint64_t body_max;       /* bytes of a body, decoded; 0: no limit */
    pws_header_map header_map;
    const pws_slice
        *forwarder_fields; /* CGI spelling; trusted names with underscores */
    uint32_t forwarder_count;
    bool forwarder_any; /* "*": trust every name of a trusted peer */
    const pws_scheme_field *scheme_fields;
    uint32_t scheme_count;
    uint64_t scheme_ids; /* bit i: field i is one of them; 0: not all are known ones */
} pws_rules;

/* A bound on every head, whatever the other limits are; their defaults allow less. */
#define PWS_HEAD_MAX (1024u * 1024)

/* How many variables a front end may send by uwsgi: its own beside the client's fields,
 * so more than the fields of a client. */
static inline uint32_t
pws_rules_variables_max(const pws_rules *rules)
{
    return rules->fields_max > 1000 ? rules->fields_max : 1000;
}

#endif
