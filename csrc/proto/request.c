#include "proto/request.h"

#include <string.h>

#include "proto/forwarded.h"
#include "proto/framing.h"
#include "proto/target.h"

void
pws_request_init(pws_request *req, pws_field *fields, uint32_t room)
{
    memset(req, 0, sizeof(*req));
    req->fields = fields;
    req->field_room = req->field_most = room;
}

void
pws_request_reset(pws_request *req)
{
    uint32_t most = req->field_most;
    pws_field *grown = req->grown;
    void *(*take)(size_t) = req->take;

    pws_request_init(req, req->fields, req->field_room);
    req->field_most = most;
    req->grown = grown;
    req->take = take;
}

int
pws_request_grow(pws_request *req)
{
    if (req->field_room >= req->field_most) {
        return pws_refuse(req, 431, "too many header fields");
    }
    req->grown = req->take(req->field_most * sizeof(pws_field));
    if (req->grown == NULL) {
        return pws_refuse(req, 431, "no memory for so many header fields");
    }
    memcpy(req->grown, req->fields, req->field_count * sizeof(pws_field));
    req->fields = req->grown;
    req->field_room = req->field_most;
    return 0;
}

int
pws_request_put(pws_request *req, const pws_field *field)
{
    uint32_t index = req->field_count;

    if (index >= req->field_room && pws_request_grow(req) != 0) {
        return 431;
    }
    req->fields[index] = *field;
    req->field_count++;
    if (field->id != PWS_FIELD_UNKNOWN) {
        uint64_t bit = (uint64_t)1 << field->id;

        if ((req->present & bit) == 0 && field->id < PWS_FIELD_PLACED) {
            req->placed[field->id] = index;
        }
        req->repeated |= req->present & bit;
        req->present |= bit;
    }
    else if ((field->flags & PWS_FIELD_UNDERSCORE) != 0) {
        req->has_underscores = true;
    }
    return 0;
}

int
pws_request_add(pws_request *req, pws_span name, pws_span value, unsigned flags)
{
    pws_field_id id = PWS_FIELD_UNKNOWN;

    if ((flags & PWS_FIELD_UNDERSCORE) == 0) {
        id = pws_field_find(req->base + name.at, name.len);
    }
    return pws_request_put(req, &(pws_field){name, value, (uint8_t)id, (uint8_t)flags});
}

static int
judge_repeats(pws_request *req)
{
    const uint64_t once = (uint64_t)1 << PWS_FIELD_HOST |
                          (uint64_t)1 << PWS_FIELD_CONTENT_LENGTH |
                          (uint64_t)1 << PWS_FIELD_CONTENT_TYPE;

    if ((req->repeated & once) != 0) {
        return pws_refuse(req, 400, "Host, Content-Length or Content-Type sent twice");
    }
    return 0;
}

/* RFC 9110 10.1.1. An HTTP/1.0 client cannot mean it. */
static int
judge_expect(pws_request *req)
{
    if (!pws_request_has(req, PWS_FIELD_EXPECT) || req->minor == 0) {
        return 0;
    }
    for (uint32_t i = req->placed[PWS_FIELD_EXPECT]; i < req->field_count; i++) {
        if (req->fields[i].id == PWS_FIELD_EXPECT &&
            !pws_slice_eq_nocase(pws_request_slice(req, req->fields[i].value),
                                 PWS_SLICE("100-continue"))) {
            return pws_refuse(req, 417, "unknown expectation");
        }
    }
    req->expect_continue = req->body != PWS_BODY_NONE;
    return 0;
}

int
pws_request_judge_size(pws_request *req, const pws_rules *rules)
{
    if (rules->body_max != 0 && req->body == PWS_BODY_LENGTH &&
        req->length > rules->body_max) {
        return pws_refuse(req, 413, "Content-Length is over limit_request_body");
    }
    return 0;
}

int
pws_request_judge(pws_request *req, const pws_rules *rules, bool trusted)
{
    int status;

    if ((status = judge_repeats(req)) != 0 || (status = pws_target_judge(req)) != 0 ||
        (status = pws_framing_judge(req)) != 0 || (status = judge_expect(req)) != 0 ||
        (status = pws_forwarded_judge(req, rules, trusted)) != 0) {
        return status;
    }
    /* RFC 9110 7.4: https asked for on a connection that is not. */
    if (req->https_target && !req->https && !trusted) {
        return pws_refuse(req, 400, "https target on a connection without TLS");
    }
    req->keep_alive = pws_framing_keep_alive(req);
    return pws_request_judge_size(req, rules);
}
