/* fuzz_target.c - targets, authorities, percent-decoding, lengths and lists on any
 * bytes.
 *
 * The first byte chooses method and version; then comes the length of the target, the
 * target, and the Host. Aborts when a span leaves the target, when a taken target does
 * not read back, when what was accepted as an authority has a byte that none can have,
 * or when decoding in place differs from decoding elsewhere. */
#include "feed.h"
#include "proto/framing.h"
#include "proto/target.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static const char *const methods[] = {"GET", "CONNECT", "OPTIONS", "POST"};

static void
require(bool holds)
{
    if (!holds) {
        abort();
    }
}

static void
check_authority(const char *at, size_t len)
{
    char *block = feed_block(at, len);

    if (pws_authority_valid((pws_slice){block, len})) {
        for (size_t i = 0; i < len; i++) {
            unsigned char c = (unsigned char)block[i];

            require(c > 0x20 && c < 0x7f && strchr("/?#@\\\"<>^`{|}", c) == NULL);
        }
    }
    feed_block_release();
}

static void
check_decoding(const char *at, size_t len)
{
    char *block = feed_block(at, len), *apart = malloc(len > 0 ? len : 1);
    size_t n = pws_percent_decode(apart, (pws_slice){block, len});

    require(n <= len && (len - n) % 2 == 0);
    require(pws_percent_decode(block, (pws_slice){block, len}) == n);
    require(n == 0 || memcmp(block, apart, n) == 0);
    free(apart);
    feed_block_release();
}

static void
check_numbers_and_lists(const char *at, size_t len)
{
    char *block = feed_block(at, len);
    pws_slice rest = {block, len}, item;
    uint64_t value = 0;
    size_t seen = 0;

    if (pws_parse_length(rest, &value) == 0) {
        char text[24];

        snprintf(text, sizeof(text), "%0*llu", (int)len, (unsigned long long)value);
        require(pws_slice_eq(pws_slice_of(text), rest));
    }
    while (pws_slice_next_item(&rest, &item)) {
        require(item.at >= block && item.at + item.len <= block + len);
        require(memchr(item.at, ',', item.len) == NULL);
        require(++seen <= len + 1);
    }
    feed_block_release();
}

static bool
contains(pws_span outer, pws_span inner)
{
    return inner.at >= outer.at && inner.len <= outer.len &&
           inner.at - outer.at <= outer.len - inner.len;
}

/* A target that was taken reads back from its parts. */
static void
check_parts(const pws_request *q)
{
    uint32_t path_end = q->path.at + q->path.len;

    require(contains(q->target, q->path));
    require(q->authority.len == 0 || contains(q->target, q->authority));
    require(q->query.at == 0 || contains(q->target, q->query));
    require(memchr(q->base + q->path.at, '?', q->path.len) == NULL);
    switch (q->form) {
    case PWS_TARGET_ORIGIN:
        require(q->path.at == q->target.at && q->path.len > 0 && q->authority.len == 0);
        break;
    case PWS_TARGET_ABSOLUTE:
        require(q->authority.len > 0 &&
                q->path.at == q->authority.at + q->authority.len);
        require(q->path.len == 0 || q->base[q->path.at] == '/');
        break;
    case PWS_TARGET_AUTHORITY:
        require(q->path.len == 0 && q->authority.len == q->target.len);
        break;
    case PWS_TARGET_ASTERISK:
        require(q->path.len == 1 && q->target.len == 1);
        break;
    }
    if (q->query.at != 0) {
        require(q->base[path_end] == '?' && q->query.at == path_end + 1 &&
                q->query.at + q->query.len == q->target.at + q->target.len);
    }
    else {
        require(q->form == PWS_TARGET_AUTHORITY ||
                path_end == q->target.at + q->target.len);
    }
    require(q->path_escaped ==
            (memchr(q->base + q->path.at, '%', q->path.len) != NULL));
}

static void
check_target(unsigned choice, const char *text, size_t target_len, size_t host_len)
{
    const char *method = methods[choice & 3];
    uint32_t at = (uint32_t)strlen(method), host_at = at + (uint32_t)target_len + 4;
    char *plain = malloc(host_at + host_len);
    pws_field fields[1];
    pws_request req;
    int status;

    memcpy(plain, method, at);
    memcpy(plain + at, text, target_len);
    memcpy(plain + host_at - 4, "HOST", 4);
    memcpy(plain + host_at, text + target_len, host_len);
    pws_request_init(&req, fields, 1);
    req.base = feed_block(plain, host_at + host_len);
    free(plain);
    req.method = (pws_span){0, at};
    req.target = (pws_span){at, (uint32_t)target_len};
    req.minor = (choice & 4) != 0;
    if ((choice & 8) == 0) {
        require(pws_request_add(&req, (pws_span){host_at - 4, 4},
                                (pws_span){host_at, (uint32_t)host_len}, 0) == 0);
    }
    status = pws_target_judge(&req);
    require(status == 0 || status == 400);
    require((status != 0) == (req.refusal != NULL));
    if (status == 0) {
        check_parts(&req);
    }
    feed_block_release();
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    const char *text;
    size_t len, target_len;

    if (n < 3) {
        return 0;
    }
    text = (const char *)data + 2;
    len = n - 2;
    target_len = data[1] < len && data[1] > 0 ? data[1] : len;
    check_authority(text, len);
    check_decoding(text, len);
    check_numbers_and_lists(text, len);
    check_target(data[0], text, target_len, len - target_len);
    return 0;
}
