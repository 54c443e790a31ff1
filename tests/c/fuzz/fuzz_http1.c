/* fuzz_http1.c - the head of a request, parsed and judged.
 *
 * The first byte chooses the rules, the second the cuts; the rest is the head. Aborts
 * when a span lies outside the head, when a field holds what it may not, when a refusal
 * has no reason, or when cuts or trailing bytes change anything, or vectors, or what is
 * known from a head before. */
#include "feed.h"
#include "portable.h"
#include "recall.h"
#include "proto/chars.h"
#include "proto/forwarded.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static void
require(bool holds)
{
    if (!holds) {
        abort();
    }
}

static pws_rules
choose_rules(unsigned choice)
{
    static const pws_slice forwarders[] = {{"SCRIPT_NAME", 11}, {"PATH_INFO", 9}};
    static const pws_scheme_field schemes[] = {
        {{"X_FORWARDED_PROTO", 17}, {"https", 5}},
        {{"X_FORWARDED_SSL", 15}, {"on", 2}}};
    pws_rules rules = feed_rules();

    rules.header_map = (pws_header_map)(choice % 3);
    rules.forwarder_fields = forwarders;
    rules.forwarder_count = 2;
    rules.forwarder_any = (choice & 16) != 0;
    rules.scheme_fields = schemes;
    rules.scheme_count = 2;
    if ((choice & 32) != 0) {
        rules.line_max = 40;
        rules.fields_max = 4;
        rules.field_size_max = 30;
        rules.head_max = 150;
        rules.body_max = 100;
    }
    return rules;
}

static void
check_span(const pws_request *q, pws_span span, uint32_t end)
{
    require(span.at <= end && span.len <= end - span.at && q->base != NULL);
}

static bool
contains(pws_span outer, pws_span inner)
{
    return inner.len == 0 ||
           (inner.at >= outer.at && inner.at + inner.len <= outer.at + outer.len);
}

static void
check_fields(const pws_request *q, uint32_t end)
{
    uint64_t present = 0;

    for (uint32_t i = 0; i < q->field_count; i++) {
        const pws_field *f = &q->fields[i];
        pws_slice name = pws_request_slice(q, f->name);
        pws_slice value = pws_request_slice(q, f->value);

        check_span(q, f->name, end);
        check_span(q, f->value, end);
        require(name.len > 0);
        for (size_t k = 0; k < name.len; k++) {
            require(pws_is_token(name.at[k]) && name.at[k] != '-' &&
                    !(name.at[k] >= 'a' && name.at[k] <= 'z'));
        }
        for (size_t k = 0; k < value.len; k++) {
            unsigned char c = (unsigned char)value.at[k];

            require(c == '\t' || (c >= 0x20 && c != 0x7f));
        }
        require(pws_slice_trim(value).len == value.len);
        if (f->id != PWS_FIELD_UNKNOWN) {
            require(
                pws_slice_eq(name, pws_slice_of(pws_field_name((pws_field_id)f->id))));
            require((f->flags & PWS_FIELD_UNDERSCORE) == 0);
            present |= (uint64_t)1 << f->id;
        }
    }
    require(present == q->present && (q->repeated & ~present) == 0);
}

/* What is true of every head that was taken. */
static void
check_taken(const feed_head_result *r, const pws_rules *rules, size_t len)
{
    const pws_request *q = &r->req;
    uint32_t end = r->parser.at;

    require(end <= len && end <= rules->head_max &&
            memcmp(q->base + end - 4, "\r\n\r\n", 4) == 0);
    check_span(q, q->method, end);
    check_span(q, q->target, end);
    require(q->target.len > 0 && q->target.len <= rules->line_max);
    require(contains(q->target, q->authority) && contains(q->target, q->path) &&
            contains(q->target, q->query));
    check_span(q, q->script_name, end);
    check_fields(q, end);
    require(q->minor == 0 || pws_request_has(q, PWS_FIELD_HOST));
    require(q->body != PWS_BODY_CHUNKED || (q->minor == 1 && q->length == 0));
    require(rules->body_max == 0 || q->length <= rules->body_max);
    require(q->length <= INT64_MAX && (q->length > 0) == (q->body == PWS_BODY_LENGTH));
}

static const feed_protocol plainly = {pws_http1_parse, pws_request_judge};
static const feed_protocol by_byte = {portable_http1_parse, pws_request_judge};
static const feed_protocol with_memo = {recall_parse, pws_request_judge};

/* The verdict as text, from malloc; the length of the head in `*size`, if it was taken.
 */
static char *
tell_of(feed_protocol protocol, const pws_rules *rules, bool trusted, pws_slice head,
        unsigned cut, size_t *size)
{
    static feed_head_result r;
    const char *text = head.at;
    size_t len = head.len;
    char *told = NULL;
    size_t told_len = 0;
    FILE *out = open_memstream(&told, &told_len);

    feed_head_of(protocol, &r, FEED_BLOCKS, rules, trusted, text, len, cut);
    *size = r.status == 0 ? r.parser.at : 0;
    if (r.status == 0) {
        check_taken(&r, rules, len);
    }
    require(r.status <= 0 || r.status == 400 || r.status == 413 || r.status == 414 ||
            r.status == 417 || r.status == 431 || r.status == 501 || r.status == 505);
    require((r.status > 0) == (r.req.refusal != NULL));
    if (r.status > 0) {
        fprintf(out, "%s\n", r.req.refusal);
    }
    feed_print_head(out, &r);
    fclose(out);
    feed_block_release();
    return told;
}

static char *
tell(const pws_rules *rules, bool trusted, const char *text, size_t len, unsigned cut)
{
    size_t size;

    return tell_of(plainly, rules, trusted, (pws_slice){text, len}, cut, &size);
}

/* The heads in a row, each read three ways: as one that is alone, without vectors, and
 * with what is known of the one before. */
static void
compare_in_row(const pws_rules *rules, bool trusted, pws_slice text)
{
    size_t size = 1, other_size;

    memset(&recall_memo, 0, sizeof(recall_memo));
    for (int i = 0; i < 6 && size > 0; i++) {
        char *alone = tell_of(plainly, rules, trusted, text, FEED_WHOLE, &size);
        char *other = tell_of(by_byte, rules, trusted, text, FEED_WHOLE, &other_size);

        require(size == other_size && strcmp(alone, other) == 0);
        free(other);
        other = tell_of(with_memo, rules, trusted, text, FEED_WHOLE, &other_size);
        require(size == other_size && strcmp(alone, other) == 0);
        free(other);
        free(alone);
        text.at += size;
        text.len -= size;
    }
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    static const char trailing[] = "\n\r\nGET / HTTP/1.1\r\n\r\n";
    pws_rules rules;
    const char *text;
    size_t len;
    bool trusted;
    char *whole, *other, *longer;

    if (n < 2) {
        return 0;
    }
    rules = choose_rules(data[0]);
    trusted = (data[0] & 8) != 0;
    text = (const char *)data + 2;
    len = n - 2;
    whole = tell(&rules, trusted, text, len, FEED_WHOLE);
    other = tell(&rules, trusted, text, len, data[1] == 0 ? FEED_BYTES : data[1]);
    require(strcmp(whole, other) == 0);
    free(other);
    rules.scheme_ids = pws_forwarded_scheme_ids(&rules);
    other = tell(&rules, trusted, text, len, FEED_WHOLE);
    require(strcmp(whole, other) == 0);
    free(other);
    if (strncmp(whole, "{\"status\":-1", 12) != 0) {
        longer = malloc(len + sizeof(trailing));
        memcpy(longer, text, len);
        memcpy(longer + len, trailing, sizeof(trailing));
        other = tell(&rules, trusted, longer, len + sizeof(trailing), FEED_WHOLE);
        require(strcmp(whole, other) == 0);
        free(other);
        free(longer);
    }
    free(whole);
    compare_in_row(&rules, trusted, (pws_slice){text, len});
    return 0;
}
