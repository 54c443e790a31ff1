/* What may stand in a line of a log as it came. */
#include "base/escape.h"

#include "harness.h"

static void
check(pws_slice text, unsigned flags, pws_slice want)
{
    static char got[2000];
    pws_slice copy = {guarded(text.at, text.len), text.len};
    size_t n = pws_escape(got, sizeof(got), copy, flags);

    CHECK(pws_slice_eq((pws_slice){got, n}, want));
    /* With any less room it is cut between characters. */
    for (size_t room = 0; room <= n; room++) {
        size_t less = pws_escape(guarded(got, room), room, copy, flags);

        CHECK(less <= room && memcmp(got, want.at, less) == 0);
        CHECK(room < n || less == n);
    }
}

TEST(text_stays)
{
    check(PWS_SLICE(""), 0, PWS_SLICE(""));
    check(PWS_SLICE(" ~aZ\"\\"), 0, PWS_SLICE(" ~aZ\"\\"));
    check(PWS_SLICE("\xc3\xa4\xe2\x82\xac\xf0\x9f\x98\x80"), 0,
          PWS_SLICE("\xc3\xa4\xe2\x82\xac\xf0\x9f\x98\x80"));
    check(PWS_SLICE("\xc2\xa0\xdf\xbf\xe0\xa0\x80\xed\x9f\xbf\xee\x80\x80"), 0,
          PWS_SLICE("\xc2\xa0\xdf\xbf\xe0\xa0\x80\xed\x9f\xbf\xee\x80\x80"));
    check(PWS_SLICE("\xf0\x90\x80\x80\xf4\x8f\xbf\xbf"), 0,
          PWS_SLICE("\xf0\x90\x80\x80\xf4\x8f\xbf\xbf"));
}

TEST(controls_are_escaped)
{
    check(PWS_SLICE("a\0\x01\r\n\t\x1b\x1f\x7f"), 0,
          PWS_SLICE("a\\x00\\x01\\x0d\\x0a\\x09\\x1b\\x1f\\x7f"));
    check(PWS_SLICE("\x80\x9b\x9f"), 0, PWS_SLICE("\\x80\\x9b\\x9f"));
    check(PWS_SLICE("\xc2\x80\xc2\x9b[2J\xc2\x9f"), 0,
          PWS_SLICE("\\xc2\\x80\\xc2\\x9b[2J\\xc2\\x9f"));
}

TEST(what_is_no_utf8_is_escaped)
{
    check(PWS_SLICE("\xa0z"), 0, PWS_SLICE("\\xa0z"));
    check(PWS_SLICE("\xc3z"), 0, PWS_SLICE("\\xc3z"));
    check(PWS_SLICE("\xc3"), 0, PWS_SLICE("\\xc3"));
    check(PWS_SLICE("\xc0\xaf"), 0, PWS_SLICE("\\xc0\\xaf"));
    check(PWS_SLICE("\xc1\xbf"), 0, PWS_SLICE("\\xc1\\xbf"));
    check(PWS_SLICE("\xe0\x9f\xbf"), 0, PWS_SLICE("\\xe0\\x9f\\xbf"));
    check(PWS_SLICE("\xed\xa0\x80"), 0, PWS_SLICE("\\xed\\xa0\\x80"));
    check(PWS_SLICE("\xf0\x8f\xbf\xbf"), 0, PWS_SLICE("\\xf0\\x8f\\xbf\\xbf"));
    check(PWS_SLICE("\xf4\x90\x80\x80"), 0, PWS_SLICE("\\xf4\\x90\\x80\\x80"));
    check(PWS_SLICE("\xf5\x80\x80\x80"), 0, PWS_SLICE("\\xf5\\x80\\x80\\x80"));
    check(PWS_SLICE("\xe2\x82"), 0, PWS_SLICE("\\xe2\\x82"));
    check(PWS_SLICE("\xe2\x82z"), 0, PWS_SLICE("\\xe2\\x82z"));
}

TEST(flags_choose_what_stays)
{
    check(PWS_SLICE("a\tb\nc\r"), PWS_KEEP_TABS, PWS_SLICE("a\tb\\x0ac\\x0d"));
    check(PWS_SLICE("a\tb\nc\r"), PWS_KEEP_LINES, PWS_SLICE("a\\x09b\nc\\x0d"));
    check(PWS_SLICE("\"\\\t"), PWS_ESCAPE_QUOTES, PWS_SLICE("\\x22\\x5c\\x09"));
}

/* The result is UTF-8 without controls, whatever the bytes. */
TEST(every_pair_of_bytes_comes_out_clean)
{
    for (unsigned a = 0; a < 256; a++) {
        for (unsigned b = 0; b < 256; b++) {
            const char text[2] = {(char)a, (char)b};
            char got[8], again[8];
            size_t n = pws_escape(got, sizeof(got), (pws_slice){text, 2}, 0), m;

            m = pws_escape(again, sizeof(again), (pws_slice){got, n}, 0);
            CHECK(n >= 2 && m == n && memcmp(got, again, n) == 0);
        }
    }
}
