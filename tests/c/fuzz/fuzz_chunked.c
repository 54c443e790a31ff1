/* fuzz_chunked.c - the chunked coding, decoded in place.
 *
 * The first byte chooses the rules, the second the cuts; the rest is the body. Aborts
 * when cuts or trailing bytes change verdict, bytes or length, when the body is longer
 * than what carried it or over its limit, or when bytes behind it are touched. */
#include "feed.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static void
require(bool holds)
{
    if (!holds) {
        abort();
    }
}

static feed_body_result
decode(const pws_rules *rules, const char *text, size_t len, unsigned cut)
{
    feed_body_result r;

    feed_body(&r, FEED_BLOCKS, rules, text, len, cut);
    require(r.used <= len && r.body_len <= r.used);
    require(rules->body_max == 0 || r.body_len <= rules->body_max);
    require((r.status > 0) == (r.decoder.refusal != NULL));
    require(r.status <= 0 || r.status == 400 || r.status == 413 || r.status == 431);
    if (r.status <= 0) {
        require(r.decoder.total == r.body_len);
        require(r.used == len || r.status == 0);
        require(r.status != 0 || memcmp(text + r.used - 2, "\r\n", 2) == 0);
    }
    return r;
}

static void
check_same(const feed_body_result *a, const feed_body_result *b)
{
    require(a->status == b->status);
    if (a->status > 0) {
        require(a->decoder.refusal == b->decoder.refusal);
    }
    else {
        require(a->used == b->used && a->body_len == b->body_len &&
                memcmp(a->body, b->body, a->body_len) == 0);
    }
}

/* One call on the whole, to see what lies behind the body. */
static void
check_rest(const pws_rules *rules, const char *text, size_t len)
{
    char *block = feed_block(text, len);
    size_t used = 0, made = 0;
    pws_chunked c;

    pws_chunked_init(&c);
    if (pws_chunked_decode(&c, rules, block, len, &used, &made) == 0) {
        require(made <= used && used <= len);
        require(memcmp(block + used, text + used, len - used) == 0);
    }
    feed_block_release();
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    static const char trailing[] = "0\r\n\r\n";
    pws_rules rules = feed_rules();
    feed_body_result whole, other;
    const char *text;
    size_t len;

    if (n < 2) {
        return 0;
    }
    text = (const char *)data + 2;
    len = n - 2;
    if ((data[0] & 1) != 0) {
        rules.body_max = 20;
        rules.fields_max = 2;
        rules.field_size_max = 30;
    }
    whole = decode(&rules, text, len, FEED_WHOLE);
    other = decode(&rules, text, len, data[1] == 0 ? FEED_BYTES : data[1]);
    check_same(&whole, &other);
    free(other.body);
    if (whole.status != FEED_MORE) {
        char *longer = malloc(len + sizeof(trailing));

        memcpy(longer, text, len);
        memcpy(longer + len, trailing, sizeof(trailing));
        other = decode(&rules, longer, len + sizeof(trailing), FEED_WHOLE);
        check_same(&whole, &other);
        free(other.body);
        free(longer);
    }
    free(whole.body);
    check_rest(&rules, text, len);
    return 0;
}
