/* The chunked coding: every input whole, byte by byte and with trailing bytes; every
 * refusal of proto/chunked.c. */
#include "feed.h"
#include "harness.h"

#define GUARDED ((feed_memory){guarded, guarded_release})
#define NEXT "GET /next HTTP/1.1\r\n"

typedef struct {
    const char *text;
    size_t len;
    int status;
    const char *want; /* the body, or the refusal */
} body_case;

#define BODY_CASE(literal, status, want)                                               \
    {                                                                                  \
        literal, sizeof(literal) - 1, status, want                                     \
    }

static void
check_once(const pws_rules *rules, const body_case *c, pws_slice text, unsigned cut)
{
    feed_body_result r;
    bool right;

    feed_body(&r, GUARDED, rules, text.at, text.len, cut);
    right = r.status == c->status &&
            (c->status > 0 ? strcmp(r.decoder.refusal, c->want) == 0
                           : pws_slice_eq((pws_slice){r.body, r.body_len},
                                          pws_slice_of(c->want)) &&
                                 r.used == c->len && r.decoder.total == r.body_len);
    if (!right) {
        printf("    status %d, %zu used, \"%.*s\", %s\n    of %.60s, cut %u\n",
               r.status, r.used, (int)r.body_len, r.body,
               r.decoder.refusal != NULL ? r.decoder.refusal : "not refused", c->text,
               cut);
    }
    free(r.body);
    CHECK(right);
}

static void
check_body(const pws_rules *rules, const body_case *c)
{
    size_t longer_len = c->len + sizeof(NEXT) - 1;
    char *longer = malloc(longer_len);

    memcpy(longer, c->text, c->len);
    memcpy(longer + c->len, NEXT, sizeof(NEXT) - 1);
    for (unsigned cut = 0; cut < 12; cut++) {
        check_once(rules, c, (pws_slice){c->text, c->len}, cut);
        if (c->status != FEED_MORE) {
            check_once(rules, c, (pws_slice){longer, longer_len}, cut);
        }
    }
    free(longer);
}

#define CHECK_BODIES(table, rules)                                                     \
    for (size_t row = 0; row < sizeof(table) / sizeof((table)[0]); row++) {            \
        check_body((rules), &(table)[row]);                                            \
    }

/* `n` times `unit` between two strings; refused with `status` and `why`, or empty. */
static void
check_repeated(const char *before, size_t n, const char *unit, const char *after,
               int status, const char *why)
{
    size_t before_len = strlen(before), unit_len = strlen(unit),
           after_len = strlen(after);
    size_t len = before_len + n * unit_len + after_len;
    char *text = malloc(len);
    pws_rules rules = feed_rules();
    body_case c = {text, len, status, why};

    rules.fields_max = UINT32_MAX;
    memcpy(text, before, before_len);
    for (size_t i = 0; i < n; i++) {
        memcpy(text + before_len + i * unit_len, unit, unit_len);
    }
    memcpy(text + len - after_len, after, after_len);
    check_once(&rules, &c, (pws_slice){text, len}, FEED_WHOLE);
    check_once(&rules, &c, (pws_slice){text, len}, 5);
    free(text);
}

TEST(bodies_are_decoded)
{
    static const body_case cases[] = {
        BODY_CASE("0\r\n\r\n", 0, ""),
        BODY_CASE("000\r\n\r\n", 0, ""),
        BODY_CASE("3\r\nabc\r\n0\r\n\r\n", 0, "abc"),
        BODY_CASE("1\r\na\r\n2\r\nbc\r\n00\r\n\r\n", 0, "abc"),
        BODY_CASE("a\r\n0123456789\r\nB\r\n\r\n0\r\n\r\n9876\r\n0\r\n\r\n", 0,
                  "0123456789\r\n0\r\n\r\n9876"),
        BODY_CASE("0000000000000010\r\n0123456789abcdef\r\n0\r\n\r\n", 0,
                  "0123456789abcdef"),
    };
    pws_rules rules = feed_rules();

    CHECK_BODIES(cases, &rules);
}

TEST(an_incomplete_body_is_waited_for)
{
    static const body_case cases[] = {
        BODY_CASE("", FEED_MORE, ""),
        BODY_CASE("3", FEED_MORE, ""),
        BODY_CASE("3\r", FEED_MORE, ""),
        BODY_CASE("3\r\nab", FEED_MORE, "ab"),
        BODY_CASE("3\r\nabc", FEED_MORE, "abc"),
        BODY_CASE("3\r\nabc\r\n", FEED_MORE, "abc"),
        BODY_CASE("3;a=\"b", FEED_MORE, ""),
        BODY_CASE("0\r\n", FEED_MORE, ""),
        BODY_CASE("0\r\nA: b", FEED_MORE, ""),
        BODY_CASE("0\r\nA: b\r\n", FEED_MORE, ""),
        BODY_CASE("0\r\n\r", FEED_MORE, ""),
    };
    pws_rules rules = feed_rules();

    CHECK_BODIES(cases, &rules);
}

TEST(malformed_sizes_are_refused)
{
    static const char size[] = "malformed chunk size",
                      line[] = "malformed chunk size line";
    static const char crlf[] = "chunk size line without CRLF";
    static const char large[] = "chunk size too large";
    static const body_case cases[] = {
        BODY_CASE("\r\n", 400, size),
        BODY_CASE(" 1\r\n", 400, size),
        BODY_CASE("-1\r\n", 400, size),
        BODY_CASE("+1\r\n", 400, size),
        BODY_CASE("g\r\n", 400, size),
        BODY_CASE(";a\r\n", 400, size),
        BODY_CASE("\n", 400, size),
        BODY_CASE("0x1\r\n", 400, line),
        BODY_CASE("1_0\r\n", 400, line),
        BODY_CASE("1\n", 400, line),
        BODY_CASE("1 \r\n", 400, line),
        BODY_CASE("1\t\t\r\n", 400, line),
        BODY_CASE("1 1\r\n", 400, line),
        BODY_CASE("1\x0b\r\n", 400, line),
        BODY_CASE("1,1\r\n", 400, line),
        BODY_CASE("1\r1", 400, crlf),
        BODY_CASE("1\r\r\n", 400, crlf),
        BODY_CASE("8000000000000000", 400, large),
        BODY_CASE("ffffffffffffffff", 400, large),
        BODY_CASE("7fffffffffffffff\r\n", FEED_MORE, ""),
        BODY_CASE("10000000000000000", 400, large),
        BODY_CASE("00000000000000001", 400, large),
    };
    pws_rules rules = feed_rules();

    CHECK_BODIES(cases, &rules);
}

TEST(data_ends_with_crlf)
{
    static const char why[] = "chunk data without CRLF";
    static const body_case cases[] = {
        BODY_CASE("1\r\nab", 400, why),
        BODY_CASE("1\r\na\n", 400, why),
        BODY_CASE("1\r\na\rb", 400, why),
        BODY_CASE("1\r\na0\r\n\r\n", 400, why),
        BODY_CASE("2\r\na\r\n0", 400, why),
        BODY_CASE("1\r\na\r\n\r\n", 400, "malformed chunk size"),
    };
    pws_rules rules = feed_rules();

    CHECK_BODIES(cases, &rules);
}

TEST(extensions_are_passed_over)
{
    static const body_case cases[] = {
        BODY_CASE("1;a\r\nx\r\n0;b=c\r\n\r\n", 0, "x"),
        BODY_CASE("1;a=1;b=\"\";c\r\nx\r\n0\r\n\r\n", 0, "x"),
        BODY_CASE("1 ; a = b ; c\r\nx\r\n0\r\n\r\n", 0, "x"),
        BODY_CASE("1\t;\ta\t=\t\"b\"\t;\tc\r\nx\r\n0\r\n\r\n", 0, "x"),
        BODY_CASE("1;a=\"\\\"\\\\ ;\t\xff\"\r\nx\r\n0\r\n\r\n", 0, "x"),
        BODY_CASE("1;f\r\nx\r\n0;0=0\r\n\r\n", 0, "x"),
    };
    pws_rules rules = feed_rules();

    CHECK_BODIES(cases, &rules);
}

TEST(malformed_extensions_are_refused)
{
    static const char why[] = "malformed chunk extension";
    static const char line[] = "malformed chunk size line";
    static const body_case cases[] = {
        BODY_CASE("1;\r\n", 400, why),
        BODY_CASE("1; \r\n", 400, why),
        BODY_CASE("1;;a\r\n", 400, why),
        BODY_CASE("1;=a\r\n", 400, why),
        BODY_CASE("1;\"a\"\r\n", 400, why),
        BODY_CASE("1;a=\r\n", 400, why),
        BODY_CASE("1;a= ;\r\n", 400, why),
        BODY_CASE("1;a==b\r\n", 400, why),
        BODY_CASE("1;a=\"\n\"\r\n", 400, why),
        BODY_CASE("1;a=\"\r\n\"\r\n", 400, why),
        BODY_CASE("1;a=\"\x7f", 400, why),
        BODY_CASE("1;a=\"\\\n", 400, why),
        BODY_CASE("1;a \r\n", 400, line),
        BODY_CASE("1;a b\r\n", 400, line),
        BODY_CASE("1;a=b \r\n", 400, line),
        BODY_CASE("1;a=b c\r\n", 400, line),
        BODY_CASE("1;a=b=c\r\n", 400, line),
        BODY_CASE("1;a=b =c\r\n", 400, line),
        BODY_CASE("1;a=\"b\"c\r\n", 400, line),
        BODY_CASE("1;a=\"b\"\"c\"\r\n", 400, line),
        BODY_CASE("1;a=b\"c\"\r\n", 400, line),
        BODY_CASE("1;a=\"b\" \r\n", 400, line),
        BODY_CASE("1;a\n", 400, line),
        BODY_CASE("1;a=b\n", 400, line),
        BODY_CASE("1;a\x80\r\n", 400, line),
        BODY_CASE("1;a\rb", 400, "chunk size line without CRLF"),
    };
    pws_rules rules = feed_rules();

    CHECK_BODIES(cases, &rules);
}

TEST(a_size_line_has_a_bound)
{
    static const char why[] = "chunk size line too long";

    check_repeated("0;", PWS_CHUNK_LINE_MAX - 3, "a", "\r\n\r\n", 0, "");
    check_repeated("0;", PWS_CHUNK_LINE_MAX - 2, "a", "\r\n", 400, why);
    check_repeated("0;", PWS_CHUNK_LINE_MAX - 1, "a", "", 400, why);
    check_repeated("0", PWS_CHUNK_LINE_MAX, " ", "", 400, why);
    check_repeated("1;", PWS_CHUNK_LINE_MAX - 3, "a", "\r\nx\r\n0\r\n\r\n", 0, "x");
}

/* How many chunks that start with `unit` are taken before the extensions are too many.
 */
static size_t
chunks_until_refusal(const char *unit)
{
    size_t used = 0, made = 0, count = 0;
    pws_rules rules = feed_rules();
    pws_chunked c;

    pws_chunked_init(&c);
    for (; count < 1000000; count++) {
        char *block = guarded(unit, strlen(unit));
        int status = pws_chunked_decode(&c, &rules, block, strlen(unit), &used, &made);

        guarded_release();
        if (status != 0) {
            CHECK_EQ(status, 400);
            CHECK(strcmp(c.refusal, "too many chunk extensions") == 0);
            break;
        }
        CHECK_EQ(made, 1);
    }
    return count;
}

TEST(extensions_have_a_bound_for_the_body)
{
    /* The ';' counts, the name, and the CR that ends it; and the blanks. */
    CHECK_EQ(chunks_until_refusal("1;b\r\nx\r\n"), PWS_CHUNK_EXTENSIONS_MAX / 3);
    CHECK_EQ(chunks_until_refusal("1         ;b\r\nx\r\n"),
             PWS_CHUNK_EXTENSIONS_MAX / 12);
    CHECK_EQ(chunks_until_refusal("1;a=\"b\"     ;b\r\nx\r\n"),
             PWS_CHUNK_EXTENSIONS_MAX / 14);
}

TEST(chunks_without_extensions_are_not_counted)
{
    check_repeated("", PWS_CHUNK_EXTENSIONS_MAX, "0000000000000001\r\nx\r\n", "z", 400,
                   "malformed chunk size");
}

TEST(trailers_are_passed_over)
{
    static const body_case cases[] = {
        BODY_CASE("0\r\nA: b\r\n\r\n", 0, ""),
        BODY_CASE(
            "1\r\nx\r\n0\r\nX-Check-Sum:\tabc \xff\r\nB:\r\nContent-Lengths: 1\r\n\r\n",
            0, "x"),
        BODY_CASE(
            "0\r\nABCDEFGHIJKLMNOPQRSTUVWXYZ-abcdefghijklmnopqrstuvwxyz: b\r\n\r\n", 0,
            ""),
    };
    pws_rules rules = feed_rules();

    CHECK_BODIES(cases, &rules);
}

TEST(malformed_trailers_are_refused)
{
    static const char field[] = "malformed trailer field";
    static const char byte[] = "forbidden byte in a trailer field";
    static const char crlf[] = "trailer field without CRLF";
    static const char last[] = "chunked body without its last CRLF";
    static const body_case cases[] = {
        BODY_CASE("0\r\n\n", 400, field),
        BODY_CASE("0\r\n: a\r\n", 400, field),
        BODY_CASE("0\r\n A: b\r\n", 400, field),
        BODY_CASE("0\r\nA : b\r\n", 400, field),
        BODY_CASE("0\r\nA\r\n", 400, field),
        BODY_CASE("0\r\nA: b\r\n c\r\n", 400, field),
        BODY_CASE("0\r\nA\x80: b\r\n", 400, field),
        BODY_CASE("0\r\nA: b\nC: d\r\n", 400, byte),
        BODY_CASE("0\r\nA: \0\r\n", 400, byte),
        BODY_CASE("0\r\nA: \x7f\r\n", 400, byte),
        BODY_CASE("0\r\nA: b\rc", 400, crlf),
        BODY_CASE("0\r\nA: b\r\r\n", 400, crlf),
        BODY_CASE("0\r\n\rx", 400, last),
        BODY_CASE("0\r\nA: b\r\n\r\r", 400, last),
    };
    pws_rules rules = feed_rules();

    CHECK_BODIES(cases, &rules);
}

TEST(trailers_that_would_decide_something_are_refused)
{
    static const char why[] = "forbidden trailer field";
    static const body_case cases[] = {
        BODY_CASE("0\r\nContent-Length: 1\r\n", 400, why),
        BODY_CASE("0\r\ncontent_length: 1\r\n", 400, why),
        BODY_CASE("0\r\nTransfer-Encoding: chunked\r\n", 400, why),
        BODY_CASE("0\r\nhost: x\r\n", 400, why),
        BODY_CASE("0\r\nA: b\r\nTrailer: x\r\n", 400, why),
        BODY_CASE("0\r\nAUTHORIZATION: x\r\n", 400, why),
        BODY_CASE("0\r\nTE: x\r\n", 400, why),
        BODY_CASE("0\r\nConnection: x\r\n", 400, why),
        BODY_CASE("0\r\nContent-Type: x\r\n", 400, why),
    };
    pws_rules rules = feed_rules();

    CHECK_BODIES(cases, &rules);
}

TEST(trailers_have_the_bounds_of_header_fields)
{
    static const body_case cases[] = {
        BODY_CASE("0\r\nA: b\r\nC: defg\r\n\r\n", 0, ""),
        BODY_CASE("0\r\nA: b\r\nC: defgh\r\n", 431, "trailer fields too large"),
        BODY_CASE("0\r\nA: bcdefgh", 431, "trailer fields too large"),
        BODY_CASE("0\r\nA: b\r\nC: d\r\nE: f\r\n", 431, "too many trailer fields"),
    };
    pws_rules rules = feed_rules();

    rules.field_size_max = 9;
    rules.fields_max = 2;
    CHECK_BODIES(cases, &rules);
}

TEST(trailers_have_a_bound_for_the_body)
{
    size_t n = PWS_CHUNK_TRAILERS_MAX / 8;

    check_repeated("0\r\n", n - 1, "A: bcd\r\n", "\r\n", 0, "");
    check_repeated("0\r\n", n + 1, "A: bcd\r\n", "\r\n", 431,
                   "trailer fields too large");
}

TEST(a_body_over_the_limit_is_refused_at_its_size)
{
    static const char why[] = "chunked body over limit_request_body";
    static const body_case cases[] = {
        BODY_CASE("5\r\nabcde\r\n0\r\n\r\n", 0, "abcde"),
        BODY_CASE("3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n", 0, "abcde"),
        BODY_CASE("6", 413, why),
        BODY_CASE("10", 413, why),
        BODY_CASE("3\r\nabc\r\n3", 413, why),
        BODY_CASE("5\r\nabcde\r\n1", 413, why),
    };
    pws_rules rules = feed_rules();

    rules.body_max = 5;
    CHECK_BODIES(cases, &rules);
}

TEST(bytes_behind_the_body_are_not_touched)
{
    static const char text[] = "3\r\nabc\r\n0\r\n\r\n" NEXT;
    char *block = guarded(text, sizeof(text) - 1);
    size_t used = 0, made = 0;
    pws_rules rules = feed_rules();
    pws_chunked c;

    pws_chunked_init(&c);
    CHECK_EQ(pws_chunked_decode(&c, &rules, block, sizeof(text) - 1, &used, &made), 0);
    CHECK_EQ(c.state, PWS_CHUNK_DONE);
    CHECK_EQ(c.total, 3);
    CHECK_EQ(used, 13);
    CHECK_BYTES(block, made, "abc");
    CHECK_BYTES(block + used, sizeof(text) - 1 - used, NEXT);
    CHECK_EQ(pws_chunked_decode(&c, &rules, block + used, 5, &used, &made), 0);
    CHECK_EQ(used, 0);
    CHECK_EQ(made, 0);
}
