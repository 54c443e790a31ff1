/* A memo of the last head changes how the next one is read, never what is read. */
#include "harness.h"

#include "portable.h"
#include "recall.h"

#define GUARDED ((feed_memory){guarded, guarded_release})

#define LINE "GET /a HTTP/1.1\r\n"
#define LINES                                                                          \
    "Host: x\r\nCookie: id=1; theme=dark\r\nUser-Agent:  some browser \r\n"            \
    "X-Own-Thing: 7\r\nAccept: */*\r\n"

static feed_head_result r;

/* What became of the head, as text from malloc. */
static char *
tell(void)
{
    char *told = NULL;
    size_t told_len = 0;
    FILE *out = open_memstream(&told, &told_len);

    fprintf(out, "%s %llx %llx %u\n", r.req.refusal != NULL ? r.req.refusal : "",
            (unsigned long long)r.req.present, (unsigned long long)r.req.repeated,
            r.status == 0 ? r.req.placed[PWS_FIELD_HOST] : 0);
    feed_print_head(out, &r);
    fclose(out);
    return told;
}

/* `second` comes behind `first`: it is read as it would be alone. Returns whether its
 * lines were known. */
static bool
follow_with(const pws_rules *rules, const char *first, const char *second, unsigned cut)
{
    pws_slice text = pws_slice_of(second);
    char *alone, *behind;
    bool known;

    feed_head(&r, GUARDED, rules, false, text.at, text.len, FEED_WHOLE);
    alone = tell();
    memset(&recall_memo, 0, sizeof(recall_memo));
    recall_head(&r, GUARDED, rules, false, pws_slice_of(first), FEED_WHOLE);
    CHECK_EQ(r.status, 0);
    recall_head(&r, GUARDED, rules, false, text, cut);
    behind = tell();
    if (strcmp(alone, behind) != 0) {
        printf("    alone  %s    behind %s", alone, behind);
    }
    CHECK(strcmp(alone, behind) == 0);
    free(alone);
    free(behind);
    known = r.req.lines_judged;
    guarded_release();
    return known;
}

static bool
follow(const char *first, const char *second)
{
    pws_rules rules = feed_rules();

    (void)follow_with(&rules, first, second, FEED_BYTES);
    (void)follow_with(&rules, first, second, 77);
    return follow_with(&rules, first, second, FEED_WHOLE);
}

TEST(the_same_lines_are_known_behind_any_request_line)
{
    CHECK(follow(LINE LINES "\r\n", LINE LINES "\r\n"));
    CHECK(r.req.lines_id != 0 && r.req.lines_changed == 0);
    CHECK(follow(LINE LINES "\r\n", "POST /another?x=y HTTP/1.0\r\n" LINES "\r\n"));
    CHECK(follow(LINE "Host: x\r\n\r\n", LINE "Host: x\r\n\r\n"));
    CHECK(follow("GET / HTTP/1.0\r\n\r\n", "GET /b HTTP/1.0\r\n\r\n"));
}

TEST(a_line_with_another_value_is_read_anew)
{
    CHECK(follow(LINE "Host: x\r\nCookie: a\r\nAccept: b\r\n\r\n",
                 LINE "Host: x\r\nCookie: longer than a\r\nAccept: b\r\n\r\n"));
#if defined(__SSE2__)
    CHECK_EQ(r.req.lines_changed, 2);
#endif
    CHECK(follow(LINE "Host: x\r\nCookie: a\r\nAccept: bcd\r\n\r\n",
                 LINE "Host: x\r\nCOOKIE: A\r\nAccept: \r\n\r\n"));
#if defined(__SSE2__)
    CHECK_EQ(r.req.lines_changed, 6);
#endif
}

TEST(other_lines_are_not_taken_for_known_ones)
{
    static const char *const others[] = {
        LINE "Host: x\r\nCookie: id=1; theme=dark\r\n\r\n",
        LINE LINES "Accept: */*\r\n\r\n",
        LINE LINES "Range: bytes=0-\r\n\r\n",
        LINE "Host: y\r\nCookie: id=1; theme=dark\r\nUser-Agent:  some browser \r\n"
             "X-Own-Thing: 7\r\nAccept: */*\r\n\r\n",
        LINE "Host: x\r\nReferer: a\r\nUser-Agent:  some browser \r\n"
             "X-Own-Thing: 7\r\nAccept: */*\r\n\r\n",
        LINE "Host: x\r\nCookie: id=1; theme=dark\r\nUser-Agent:  some browser \r\n"
             "X-Own-Thing: 8\r\nAccept: */*\r\n\r\n",
        LINE "Host: x\r\nCookie: id=1; theme=dark\r\nUser_Agent:  some browser \r\n"
             "X-Own-Thing: 7\r\nAccept: */*\r\n\r\n",
        LINE "Host: x\r\nCookie: id=1; theme=dark\r\nUser-Agent:  some browser \r\n"
             "X-Own_Thing: 7\r\nAccept: */*\r\n\r\n",
        LINE "Host: x\r\nHost: x\r\n\r\n",
        LINE "\r\n",
        LINE "Host: x\r\nTransfer-Encoding: chunked\r\nContent-Length: 1\r\n\r\n",
        LINE "Host: x\r\nCookie: id=\001\r\n\r\n",
        LINE "Host: x\r\nCookie id=1; theme=dark\r\n\r\n",
        LINE "Host: x\r\nCookie: id=1; theme=dark\n\r\n",
        LINE "Host: x\r\n Cookie: id=1; theme=dark\r\n\r\n",
        LINE "Host: x\r\n: id=1\r\n\r\n",
        LINE "Host: x\r\nCookie: id=1; theme=dark\r\nUser-Agent:  some browser \r\n"
             "X-Own-Thing: 7\r\nAccept: */*\r\nX\r\n\r\n",
        LINE LINES,
        LINE LINES "\r",
        LINE LINES "\n\r\n",
    };

    for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++) {
        CHECK(!follow(LINE LINES "\r\n", others[i]));
    }
}

TEST(what_names_with_underscores_become_is_judged_each_time)
{
    CHECK(!follow(LINE "Host: x\r\nA_B: c\r\n\r\n", LINE "Host: x\r\nA_B: c\r\n\r\n"));
}

TEST(bounds_hold_for_known_lines_too)
{
    static const char first[] = LINE "Host: x\r\nCookie: a\r\n\r\n";
    pws_rules rules = feed_rules();

    rules.head_max = sizeof(first) - 1;
    CHECK(follow_with(&rules, first, first, FEED_WHOLE));
    CHECK(!follow_with(&rules, first,
                       "GET /aa HTTP/1.1\r\nHost: x\r\nCookie: a\r\n\r\n", FEED_WHOLE));
    CHECK_EQ(r.status, 431);
    rules = feed_rules();
    rules.field_size_max = 20;
    CHECK(!follow_with(&rules, first,
                       LINE "Host: x\r\nCookie: abcdefghijklmnopqrst\r\n\r\n",
                       FEED_WHOLE));
    CHECK_EQ(r.status, 431);
}

TEST(heads_that_are_too_large_for_a_memo_are_read_each_time)
{
    char *large = malloc(4096);
    int n = sprintf(large, LINE "Host: x\r\nCookie: %02000d\r\n\r\n", 1);

    CHECK(n > PWS_MEMO_BYTES);
    CHECK(!follow(large, large));
    n = sprintf(large, LINE "Host: x\r\n");
    for (int i = 0; i < PWS_MEMO_FIELDS; i++) {
        n += sprintf(large + n, "X-%d: 1\r\n", i);
    }
    strcpy(large + n, "\r\n");
    CHECK(!follow(large, large));
    free(large);
}

/* A field line after all that can be on both sides of the vectors' bounds. */
TEST(lines_of_any_length_are_read_as_byte_by_byte)
{
    static const char *const names[] = {
        "A",
        "Host",
        "Te",
        "accept-LANGUAGE",
        "X_Y",
        "Cookie",
        "Sec-Ch-Ua",
        "X-Forwarded-Proto",
        "Upgrade-Insecure-Requests",
        "Coo\rie",
        "Accept\x0dLanguage",
        "Upgrade-Insecure-Requests-of-Mine",
        "a b",
        "Cookie ",
        "\xc8ost",
        "If-Unmodified-Since!",
        "Host\x80",
    };
    static feed_head_result by_byte;
    const feed_protocol portable = {portable_http1_parse, pws_request_judge};
    pws_rules rules = feed_rules();

    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        for (int len = 0; len < 40; len++) {
            char text[200], *told, *other;
            size_t n = (size_t)sprintf(
                text, "GET / HTTP/1.0\r\n%s:%*s%.*s%*s\r\n%s\r\n", names[i], len % 3,
                "", len, "0123456789abcdefghij\xff\tabcdefghijklmnopqrst", len % 5, "",
                len % 2 == 0 ? "" : "A: b\r\n");

            feed_head(&r, GUARDED, &rules, false, text, n, FEED_WHOLE);
            told = tell();
            feed_head_of(portable, &by_byte, GUARDED, &rules, false, text, n,
                         FEED_WHOLE);
            r = by_byte;
            other = tell();
            CHECK(strcmp(told, other) == 0);
            free(told);
            free(other);
            guarded_release();
        }
    }
}
