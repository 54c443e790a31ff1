#include "proto/forwarded.h"

static bool
is_forwarder(const pws_rules *rules, pws_slice name)
{
    if (rules->forwarder_any) {
        return true;
    }
    for (uint32_t i = 0; i < rules->forwarder_count; i++) {
        if (pws_slice_eq(rules->forwarder_fields[i], name)) {
            return true;
        }
    }
    return false;
}

static int
judge_underscores(pws_request *req, const pws_rules *rules, bool trusted)
{
    for (uint32_t i = 0; i < req->field_count; i++) {
        pws_field *field = &req->fields[i];
        pws_slice name;

        if ((field->flags & PWS_FIELD_UNDERSCORE) == 0) {
            continue;
        }
        name = pws_request_slice(req, field->name);
        if (trusted && is_forwarder(rules, name)) {
            if (pws_slice_eq(name, PWS_SLICE("SCRIPT_NAME"))) {
                req->script_name = field->value;
            }
        }
        else if (rules->header_map == PWS_HEADER_MAP_REFUSE) {
            return pws_refuse(req, 400, "header field name with an underscore");
        }
        else if (rules->header_map == PWS_HEADER_MAP_DROP) {
            field->flags |= PWS_FIELD_DROPPED;
        }
    }
    return 0;
}

uint64_t
pws_forwarded_scheme_ids(const pws_rules *rules)
{
    uint64_t ids = 0;

    for (uint32_t i = 0; i < rules->scheme_count; i++) {
        pws_slice name = rules->scheme_fields[i].name;
        pws_field_id id = pws_field_find(name.at, name.len);

        if (id == PWS_FIELD_UNKNOWN) {
            return 0;
        }
        ids |= (uint64_t)1 << id;
    }
    return ids;
}

/* Each scheme field that is there votes; votes that differ are an attack or a broken
 * proxy, and either way the wrong moment to guess. */
int
pws_forwarded_scheme(pws_request *req, const pws_rules *rules)
{
    uint64_t lengths = 0; /* of their names: most fields are out by that */
    bool voted = false;

    if (rules->scheme_ids != 0 && (req->present & rules->scheme_ids) == 0) {
        return 0;
    }
    for (uint32_t k = 0; k < rules->scheme_count; k++) {
        lengths |= (uint64_t)1 << rules->scheme_fields[k].name.len % 64;
    }
    for (uint32_t i = 0; i < req->field_count; i++) {
        const pws_field *field = &req->fields[i];

        if ((lengths >> field->name.len % 64 & 1) == 0 ||
            (field->flags &
             (PWS_FIELD_DROPPED | PWS_FIELD_UNDERSCORE | PWS_FIELD_VARIABLE)) != 0) {
            continue;
        }
        for (uint32_t k = 0; k < rules->scheme_count; k++) {
            bool https;

            if (!pws_slice_eq(pws_request_slice(req, field->name),
                              rules->scheme_fields[k].name)) {
                continue;
            }
            https = pws_slice_eq(pws_request_slice(req, field->value),
                                 rules->scheme_fields[k].value);
            if (voted && https != req->https) {
                return pws_refuse(req, 400, "contradictory scheme headers");
            }
            req->https = https;
            voted = true;
        }
    }
    return 0;
}

int
pws_forwarded_judge(pws_request *req, const pws_rules *rules, bool trusted)
{
    if (req->has_underscores) {
        int status = judge_underscores(req, rules, trusted);

        if (status != 0) {
            return status;
        }
    }
    return trusted ? pws_forwarded_scheme(req, rules) : 0;
}
