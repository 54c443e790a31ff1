/* Slices and the clock. */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "base/clock.h"
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
