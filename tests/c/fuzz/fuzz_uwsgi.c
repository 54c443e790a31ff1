/* fuzz_uwsgi.c - a packet of uwsgi variables, parsed and judged.
 *
 * The first byte chooses the rules, the second the cuts. With bit 64 of the first the
 * rest is the packet; else it is a text of which the lengths are made: a line is a
 * variable, its name ends with '='. Aborts when a span lies outside the packet, when a
 * refusal has no reason, or when cuts or trailing bytes change anything. */
#include "feed.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static void
require(bool holds)
{
    if (!holds) {
        abort();
    }
}

static void
check_span(pws_span span, uint32_t end)
{
    require(span.at <= end && span.len <= end - span.at);
}

static void
check_fields(const pws_request *q, uint32_t end)
{
    for (uint32_t i = 0; i < q->field_count; i++) {
        const pws_field *f = &q->fields[i];
        pws_slice name = pws_request_slice(q, f->name);

        check_span(f->name, end);
        check_span(f->value, end);
        require(name.len > 0 && (f->flags & PWS_FIELD_REPLACES) != 0);
        require((f->flags & (PWS_FIELD_UNDERSCORE | PWS_FIELD_DROPPED)) == 0);
        for (size_t k = 0; k < name.len; k++) {
            require(name.at[k] > ' ' && name.at[k] < 0x7f);
        }
        if (f->id != PWS_FIELD_UNKNOWN) {
            require(
                pws_slice_eq(name, pws_slice_of(pws_field_name((pws_field_id)f->id))));
            require(pws_request_has(q, (pws_field_id)f->id));
        }
    }
}

/* What is true of every packet that was taken. */
static void
check_taken(const feed_head_result *r, const pws_rules *rules, size_t len)
{
    const pws_request *q = &r->req;
    uint32_t end = r->parser.at;

    require(end <= len && end >= 4 && end <= PWS_UWSGI_MAX);
    check_span(q->method, end);
    check_span(q->target, end);
    check_span(q->path, end);
    check_span(q->query, end);
    check_span(q->script_name, end);
    check_span(q->protocol, end);
    check_span(q->client, end);
    check_span(q->inert, end);
    check_fields(q, end);
    require(q->method.len > 0 && q->method.len <= 20);
    require(q->minor == 0 && !q->keep_alive && !q->expect_continue);
    require(!pws_request_has(q, PWS_FIELD_TRANSFER_ENCODING));
    require(rules->body_max == 0 || q->length <= rules->body_max);
    require(q->length <= INT64_MAX && (q->length > 0) == (q->body == PWS_BODY_LENGTH));
}

/* The verdict as text, from malloc. */
static char *
tell(const pws_rules *rules, bool trusted, const char *text, size_t len, unsigned cut)
{
    static feed_head_result r;
    char *told = NULL;
    size_t told_len = 0;
    FILE *out = open_memstream(&told, &told_len);
    bool ping;

    feed_packet(&r, FEED_BLOCKS, rules, trusted, text, len, cut);
    ping = r.status == 0 && r.parser.stage == PWS_HEAD_PING;
    require(r.status <= 0 || r.status == 400 || r.status == 413 || r.status == 431 ||
            r.status == 501);
    require((r.status > 0) == (r.req.refusal != NULL));
    if (r.status == 0 && !ping) {
        check_taken(&r, rules, len);
    }
    fprintf(out, "%d %d %s\n", r.status, ping,
            r.req.refusal != NULL ? r.req.refusal : "");
    if (r.status == 0 && !ping) {
        feed_print_head(out, &r);
        feed_print_bytes(out, "protocol", pws_request_slice(&r.req, r.req.protocol));
        feed_print_bytes(out, "client", pws_request_slice(&r.req, r.req.client));
        feed_print_bytes(out, "inert", pws_request_slice(&r.req, r.req.inert));
        fprintf(out, "%d%d%d%d\n", r.req.has_client, r.req.has_server, r.req.has_scheme,
                r.req.path_is_cut);
    }
    fclose(out);
    feed_block_release();
    return told;
}

static size_t
put_text(char *dst, const char *text, size_t len)
{
    dst[0] = (char)(len & 0xff);
    dst[1] = (char)(len >> 8);
    memcpy(dst + 2, text, len);
    return len + 2;
}

/* A packet of `n` bytes of text, to `dst`, which has room for twice as many and 16.
 * Returns its length. */
static size_t
make_packet(char *dst, const char *text, size_t n)
{
    const char *end = text + n;
    size_t at = 4;

    dst[0] = text[0];
    dst[3] = 0;
    text++;
    while (text < end) {
        const char *line = memchr(text, '\n', (size_t)(end - text));
        const char *line_end = line != NULL ? line : end;
        const char *mark = memchr(text, '=', (size_t)(line_end - text));

        if (mark == NULL) {
            mark = line_end;
        }
        at += put_text(dst + at, text, (size_t)(mark - text));
        if (mark < line_end) {
            at += put_text(dst + at, mark + 1, (size_t)(line_end - mark - 1));
        }
        else {
            at += put_text(dst + at, "", 0);
        }
        text = line_end + 1;
    }
    dst[1] = (char)((at - 4) & 0xff);
    dst[2] = (char)((at - 4) >> 8);
    return at;
}

static void
check_packet(unsigned choice, unsigned cut, const char *text, size_t len)
{
    static const char trailing[] = "\xff\0REQUEST_METHOD\0\0";
    static const pws_scheme_field schemes[] = {
        {{"X_FORWARDED_PROTO", 17}, {"https", 5}},
        {{"X_FORWARDED_SSL", 15}, {"on", 2}}};
    pws_rules rules = feed_rules();
    bool trusted = (choice & 8) != 0;
    char *whole, *other, *longer;

    rules.scheme_fields = schemes;
    rules.scheme_count = 2;
    rules.body_max = (choice & 32) != 0 ? 100 : 0;
    whole = tell(&rules, trusted, text, len, FEED_WHOLE);
    other = tell(&rules, trusted, text, len, cut == 0 ? FEED_BYTES : cut);
    require(strcmp(whole, other) == 0);
    free(other);
    if (strncmp(whole, "-1 ", 3) != 0) {
        longer = malloc(len + sizeof(trailing));
        memcpy(longer, text, len);
        memcpy(longer + len, trailing, sizeof(trailing));
        other = tell(&rules, trusted, longer, len + sizeof(trailing), FEED_WHOLE);
        require(strcmp(whole, other) == 0);
        free(other);
        free(longer);
    }
    free(whole);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    const char *text = (const char *)data + 2;
    char *made;

    if (n < 3 || n > 20000) {
        return 0;
    }
    if ((data[0] & 64) != 0) {
        check_packet(data[0], data[1], text, n - 2);
        return 0;
    }
    made = malloc(4 * n + 16);
    check_packet(data[0], data[1], made, make_packet(made, text, n - 2));
    free(made);
    return 0;
}
