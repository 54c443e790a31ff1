#include "proto/framing.h"

#include "proto/chars.h"

int
pws_parse_length(pws_slice text, uint64_t *value)
{
    uint64_t n = 0;

    if (text.len == 0 || text.len > 19) {
        return -1;
    }
    for (size_t i = 0; i < text.len; i++) {
        if (!pws_is_digit(text.at[i])) {
            return -1;
        }
        n = n * 10 + (uint64_t)(text.at[i] - '0');
    }
    if (n > INT64_MAX) {
        return -1;
    }
    *value = n;
    return 0;
}

typedef struct {
    unsigned codings;
    bool chunked;   /* seen */
    bool behind;    /* something follows chunked */
    bool unknown;   /* a coding we have never heard of */
    bool malformed; /* not a token, or chunked with a parameter */
} coding_list;

static void
note_coding(coding_list *list, pws_slice item)
{
    static const pws_slice known[] = {{"gzip", 4},
                                      {"x-gzip", 6},
                                      {"deflate", 7},
                                      {"compress", 8},
                                      {"x-compress", 10}};
    pws_slice name = {item.at, 0}, parameters;

    while (name.len < item.len && pws_is_token(item.at[name.len])) {
        name.len++;
    }
    parameters = pws_slice_trim((pws_slice){item.at + name.len, item.len - name.len});
    list->codings++;
    list->behind = list->chunked;
    if (name.len == 0 || (parameters.len > 0 && parameters.at[0] != ';')) {
        list->malformed = true;
    }
    else if (pws_slice_eq_nocase(name, PWS_SLICE("chunked"))) {
        list->malformed = list->malformed || parameters.len > 0;
        list->chunked = true;
    }
    else {
        bool found = false;

        for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++) {
            found = found || pws_slice_eq_nocase(name, known[i]);
        }
        list->unknown = list->unknown || !found;
    }
}

/* All Transfer-Encoding lines are one list (RFC 9110 5.3). */
static coding_list
read_codings(const pws_request *req)
{
    coding_list list = {0};

    for (uint32_t i = req->placed[PWS_FIELD_TRANSFER_ENCODING]; i < req->field_count;
         i++) {
        if (req->fields[i].id == PWS_FIELD_TRANSFER_ENCODING) {
            pws_slice rest = pws_request_slice(req, req->fields[i].value), item;

            while (pws_slice_next_item(&rest, &item)) {
                note_coding(&list, item);
            }
        }
    }
    return list;
}

/* RFC 9112 6.1 and 6.3. A proxy in front may read any doubtful framing otherwise than
 * we do, and what it takes for a body would be the next request to us: so nothing
 * doubtful is accepted. "chunked" alone is the only transfer coding we decode. */
static int
judge_transfer_encoding(pws_request *req)
{
    coding_list list;

    if (req->minor == 0) {
        return pws_refuse(req, 400, "Transfer-Encoding on HTTP/1.0");
    }
    if (pws_request_has(req, PWS_FIELD_CONTENT_LENGTH)) {
        return pws_refuse(req, 400, "Transfer-Encoding with Content-Length");
    }
    list = read_codings(req);
    if (list.malformed) {
        return pws_refuse(req, 400, "malformed Transfer-Encoding");
    }
    if (list.behind) {
        return pws_refuse(req, 400, "chunked is not the last transfer coding");
    }
    if (list.unknown) {
        return pws_refuse(req, 501, "unknown transfer coding");
    }
    if (!list.chunked) {
        return pws_refuse(req, 400, "the last transfer coding is not chunked");
    }
    if (list.codings > 1) {
        return pws_refuse(req, 501, "transfer coding other than chunked");
    }
    req->body = PWS_BODY_CHUNKED;
    return 0;
}

int
pws_framing_judge(pws_request *req)
{
    if (pws_request_has(req, PWS_FIELD_TRANSFER_ENCODING)) {
        return judge_transfer_encoding(req);
    }
    if (pws_request_has(req, PWS_FIELD_CONTENT_LENGTH)) {
        if (pws_parse_length(pws_request_value(req, PWS_FIELD_CONTENT_LENGTH),
                             &req->length) < 0) {
            return pws_refuse(req, 400, "malformed Content-Length");
        }
        req->body = req->length > 0 ? PWS_BODY_LENGTH : PWS_BODY_NONE;
    }
    return 0;
}

bool
pws_framing_keep_alive(const pws_request *req)
{
    bool keep = req->minor >= 1;

    if (req->form == PWS_TARGET_AUTHORITY) {
        return false; /* what follows a CONNECT is not HTTP */
    }
    if (!pws_request_has(req, PWS_FIELD_CONNECTION)) {
        return keep;
    }
    if (pws_slice_eq(pws_request_value(req, PWS_FIELD_CONNECTION),
                     PWS_SLICE("keep-alive")) &&
        (req->repeated >> PWS_FIELD_CONNECTION & 1) == 0) {
        return true; /* nearly all that send it */
    }
    for (uint32_t i = req->placed[PWS_FIELD_CONNECTION]; i < req->field_count; i++) {
        pws_slice rest, item;

        if (req->fields[i].id != PWS_FIELD_CONNECTION) {
            continue;
        }
        rest = pws_request_slice(req, req->fields[i].value);
        while (pws_slice_next_item(&rest, &item)) {
            if (pws_slice_eq_nocase(item, PWS_SLICE("close"))) {
                return false;
            }
            keep = keep || pws_slice_eq_nocase(item, PWS_SLICE("keep-alive"));
        }
    }
    return keep;
}
