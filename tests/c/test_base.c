/* Slices, the clock, and what a log line may hold. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/slice.h"
#include "harness.h"

TEST(slices_compare_by_their_bytes)
{
    CHECK(pws_slice_eq(PWS_SLICE("a\0b"), PWS_SLICE("a\0b")));
    CHECK(!pws_slice_eq(PWS_SLICE("a\0b"), PWS_SLICE("a\0c")));
    CHECK(!pws_slice_eq(PWS_SLICE("a"), PWS_SLICE("ab")));
    CHECK(!pws_slice_eq(PWS_SLICE("a"), PWS_SLICE("A")));
    CHECK(pws_slice_eq((pws_slice){NULL, 0}, PWS_SLICE("")));
    CHECK(pws_slice_eq(pws_slice_of("abc"), PWS_SLICE("abc")));
    CHECK(pws_slice_eq((pws_slice){guarded("abc", 3), 3}, PWS_SLICE("abc")));
}

TEST(slices_compare_without_case_in_ascii_only)
{
    CHECK(pws_slice_eq_nocase(PWS_SLICE("Keep-Alive"), PWS_SLICE("kEEP-aLIVE")));
    CHECK(!pws_slice_eq_nocase(PWS_SLICE("a"), PWS_SLICE("ab")));
    CHECK(!pws_slice_eq_nocase(PWS_SLICE("ab"), PWS_SLICE("ac")));
    CHECK(!pws_slice_eq_nocase(PWS_SLICE("@[`{"), PWS_SLICE("`{@[")));
    CHECK(!pws_slice_eq_nocase(PWS_SLICE("\xc4"), PWS_SLICE("\xe4")));
    for (unsigned c = 0; c < 256; c++) {
        bool upper = c >= 'A' && c <= 'Z';

        CHECK_EQ((unsigned char)pws_lower((char)c), upper ? c + 32 : c);
    }
}

TEST(trimming_takes_spaces_and_tabs_only)
{
    static const struct {
        pws_slice text, want;
    } cases[] = {
        {{"", 0}, {"", 0}},
        {{" \t ", 3}, {"", 0}},
        {{" a\tb \t", 6}, {"a\tb", 3}},
        {{"\va\f", 3}, {"\va\f", 3}},
        {{"\ra\n", 3}, {"\ra\n", 3}},
        {{"\0 ", 2}, {"\0", 1}},
    };

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        pws_slice text = {guarded(cases[i].text.at, cases[i].text.len),
                          cases[i].text.len};

        CHECK(pws_slice_eq(pws_slice_trim(text), cases[i].want));
        text.at = guarded_start(text.at, text.len);
        CHECK(pws_slice_eq(pws_slice_trim(text), cases[i].want));
    }
}

/* The elements of a list, each in angle brackets. */
static pws_slice
elements(pws_slice list)
{
    static char text[200];
    size_t n = 0;
    pws_slice item;

    while (pws_slice_next_item(&list, &item)) {
        n += (size_t)snprintf(text + n, sizeof(text) - n, "<%.*s>", (int)item.len,
                              item.at);
    }
    CHECK(!pws_slice_next_item(&list, &item));
    return (pws_slice){text, n};
}

TEST(a_list_is_taken_element_by_element)
{
    static const struct {
        const char *list, *want;
    } cases[] = {
        {"", "<>"},
        {"a", "<a>"},
        {" a\t", "<a>"},
        {"a,b", "<a><b>"},
        {" a ,\tb c , ", "<a><b c><>"},
        {",", "<><>"},
        {",,a", "<><><a>"},
    };

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        size_t len = strlen(cases[i].list);
        pws_slice list = {guarded(cases[i].list, len), len};

        CHECK(pws_slice_eq(elements(list), pws_slice_of(cases[i].want)));
    }
    CHECK_EQ(elements((pws_slice){NULL, 0}).len, 0);
}

TEST(the_clock_does_not_go_back)
{
    pws_clock before, after;
    time_t now = time(NULL);

    pws_clock_read(&before);
    pws_clock_read(&after);
    CHECK(after.now_ms >= before.now_ms);
    CHECK(before.wall_s >= now - 2 && after.wall_s <= time(NULL) + 2);
}

TEST(dates_are_imf_fixdates)
{
    static const struct {
        int64_t at;
        const char *want;
    } cases[] = {
        {0, "Thu, 01 Jan 1970 00:00:00 GMT"},
        {784111777, "Sun, 06 Nov 1994 08:49:37 GMT"},
        {951782399, "Mon, 28 Feb 2000 23:59:59 GMT"},
        {951782400, "Tue, 29 Feb 2000 00:00:00 GMT"},
        {4107542400, "Mon, 01 Mar 2100 00:00:00 GMT"},
        {1767225599, "Wed, 31 Dec 2025 23:59:59 GMT"},
        {253402300799, "Fri, 31 Dec 9999 23:59:59 GMT"},
    };
    static const char zeros[PWS_HTTP_DATE_LEN];

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        char *dst = guarded(zeros, sizeof(zeros));

        CHECK_EQ(strlen(cases[i].want), PWS_HTTP_DATE_LEN);
        pws_http_date(dst, cases[i].at);
        CHECK(memcmp(dst, cases[i].want, PWS_HTTP_DATE_LEN) == 0);
    }
}

static int log_pipe[2];

static void
open_log(pws_log_level level)
{
    CHECK(pipe(log_pipe) == 0);
    pws_log_open(log_pipe[1], level);
}

/* All that was logged; "%" stands for time and process. */
static pws_slice
close_log(void)
{
    static char text[70000];
    char expected[64];
    ssize_t n;
    size_t len = 0;
    pws_slice s;

    pws_log_open(2, PWS_LOG_INFO);
    close(log_pipe[1]);
    while ((n = read(log_pipe[0], text + len, sizeof(text) - len)) > 0) {
        len += (size_t)n;
    }
    close(log_pipe[0]);
    s = (pws_slice){text, len};
    if (len == 0) {
        return s;
    }
    /* [2026-01-31 12:00:00 +0000] [PID] */
    snprintf(expected, sizeof(expected), "] [%ld] ", (long)getpid());
    CHECK(len > 26 + strlen(expected));
    CHECK(text[0] == '[' && text[5] == '-' && text[8] == '-' && text[11] == ' ');
    CHECK(text[14] == ':' && text[17] == ':' && text[20] == ' ' && text[26] == ']');
    CHECK(memcmp(text + 26, expected, strlen(expected)) == 0);
    s.at += 26 + strlen(expected);
    s.len -= 26 + strlen(expected);
    return s;
}

TEST(a_log_line_is_one_line)
{
    pws_slice line;

    open_log(PWS_LOG_DEBUG);
    pws_log(PWS_LOG_ERROR, "from %s:%d", "1.2.3.4", 5);
    line = close_log();
    CHECK_BYTES(line.at, line.len, "[ERROR] from 1.2.3.4:5\n");
}

TEST(levels_have_their_names)
{
    static const char *const names[] = {"[DEBUG] x\n", "[INFO] x\n", "[WARNING] x\n",
                                        "[ERROR] x\n", "[CRITICAL] x\n"};

    for (int level = PWS_LOG_DEBUG; level <= PWS_LOG_CRITICAL; level++) {
        open_log(PWS_LOG_DEBUG);
        pws_log((pws_log_level)level, "x");
        CHECK(pws_slice_eq(close_log(), pws_slice_of(names[level])));
    }
}

TEST(lines_below_the_level_are_not_written)
{
    pws_slice line;

    open_log(PWS_LOG_WARNING);
    pws_log(PWS_LOG_INFO, "no");
    CHECK_EQ(close_log().len, 0);
    open_log(PWS_LOG_WARNING);
    pws_log(PWS_LOG_WARNING, "yes");
    line = close_log();
    CHECK_BYTES(line.at, line.len, "[WARNING] yes\n");
}

TEST(controls_are_escaped_in_a_log_line)
{
    pws_slice line;

    open_log(PWS_LOG_INFO);
    pws_log(PWS_LOG_INFO, "%s", "a\r\n[forged]\x1b[2J\x7f\tb\x01");
    line = close_log();
    CHECK_BYTES(line.at, line.len, "[INFO] a\\x0d\\x0a[forged]\\x1b[2J\\x7f\tb\\x01\n");
}

TEST(a_long_log_line_is_cut)
{
    char text[5001];
    pws_slice line;

    memset(text, '\n', 5000);
    text[5000] = '\0';
    open_log(PWS_LOG_INFO);
    pws_log(PWS_LOG_INFO, "%s", text);
    line = close_log();
    CHECK_EQ(line.len, 7 + 4 * 4000 + 4);
    CHECK(memcmp(line.at + line.len - 8, "\\x0a...\n", 8) == 0);

    text[4000] = '\0';
    open_log(PWS_LOG_INFO);
    pws_log(PWS_LOG_INFO, "%s", text);
    line = close_log();
    CHECK_EQ(line.len, 7 + 4 * 4000 + 1);
}

TEST(a_log_that_cannot_be_written_is_no_error)
{
    pws_log_open(-1, PWS_LOG_INFO);
    errno = EDOM;
    pws_log(PWS_LOG_ERROR, "x");
    CHECK_EQ(errno, EDOM);
    pws_log_open(2, PWS_LOG_INFO);
}
