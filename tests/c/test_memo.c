/* The engine's memos: each its connection's alone, few, and dropped when of no use. */
#include "harness.h"

#include <string.h>

#include "engine/memo.h"
#include "proto/http1.h"

static pws_memos memos;

/* One request of `c` with this head, of which `first` bytes come before the others.
 * Returns whether its lines were known. */
static bool
ask_in_pieces(const pws_conn *c, const char *text, uint32_t first)
{
    static pws_field fields[8];
    pws_rules rules = {.line_max = 100,
                       .fields_max = 8,
                       .field_size_max = 100,
                       .head_max = PWS_HEAD_MAX};
    uint32_t len = (uint32_t)strlen(text);
    char *base = guarded(text, len);
    pws_memo *memo = pws_memo_of(&memos, c);
    pws_request req;
    pws_head parser;

    pws_head_init(&parser);
    pws_request_init(&req, fields, 8);
    CHECK_EQ(pws_http1_parse_line(&parser, &rules, &req, base, len), 0);
    if (memo == NULL) {
        return false;
    }
    CHECK_EQ(pws_memo_parse(memo, &parser, &rules, &req, first), 0);
    if (first < len) {
        CHECK_EQ(parser.stage, PWS_HEAD_FIELDS);
        CHECK_EQ(pws_http1_parse(&parser, &rules, &req, base, len), 0);
    }
    CHECK_EQ(parser.stage, PWS_HEAD_DONE);
    return req.lines_judged;
}

static bool
ask(const pws_conn *c, const char *text)
{
    return ask_in_pieces(c, text, (uint32_t)strlen(text));
}

#define HEAD(value) "GET / HTTP/1.1\r\nHost: x\r\nCookie: " value "\r\n\r\n"

TEST(a_connection_finds_its_own_lines_again)
{
    pws_conn c = {.slot = 3, .generation = 7};

    CHECK(!ask(&c, HEAD("a")));
    CHECK(ask(&c, HEAD("a")));
    CHECK(ask(&c, HEAD("a")));
    pws_memos_clear(&memos);
}

TEST(nobody_finds_those_of_another)
{
    pws_conn c = {.slot = 3, .generation = 7}, next = {.slot = 3, .generation = 8},
             beside = {.slot = 3 + PWS_MEMO_PLACES, .generation = 7},
             other = {.slot = 4, .generation = 7};

    CHECK(!ask(&c, HEAD("a")));
    CHECK(!ask(&next, HEAD("a")));
    CHECK(!ask(&beside, HEAD("a")));
    CHECK(!ask(&other, HEAD("a")));
    CHECK(!ask(&c, HEAD("a")));
    CHECK(ask(&other, HEAD("a")));
    CHECK(ask(&c, HEAD("a")));
    pws_memos_clear(&memos);
}

TEST(no_name_is_given_twice)
{
    pws_conn c = {.slot = 3}, other = {.slot = 3, .generation = 1};
    uint64_t last = 0;

    for (int i = 0; i < 100; i++) {
        const pws_conn *who = i % 2 == 0 ? &c : &other;

        CHECK(!ask(who, HEAD("a")));
        CHECK(memos.places[3]->head.id > last);
        CHECK_EQ(memos.places[3]->head.id % PWS_MEMO_PLACES, 3);
        last = memos.places[3]->head.id;
    }
    pws_memos_clear(&memos);
}

TEST(a_value_that_changed_for_good_is_known_in_time)
{
    pws_conn c = {.slot = 3};
    bool unchanged = false;

    CHECK(!ask(&c, HEAD("a")));
    for (int i = 0; i < 200 && !unchanged; i++) {
        (void)ask(&c, HEAD("b"));
        unchanged = memcmp(memos.places[3]->head.sent, "Host: x\r\nCookie: b", 18) == 0;
    }
    CHECK(unchanged);
    CHECK(ask(&c, HEAD("b")));
    pws_memos_clear(&memos);
}

TEST(a_client_whose_lines_are_always_others_is_left_alone)
{
    pws_conn c = {.slot = 3};
    int looked = 0;

    for (int i = 0; i < 1000; i++) {
        looked += pws_memo_of(&memos, &c) != NULL;
        (void)ask(&c, i % 2 == 0 ? HEAD("a") : "GET / HTTP/1.1\r\nHost: x\r\n\r\n");
        guarded_release();
    }
    CHECK(looked < 200);
    for (int i = 0; i < 100; i++) {
        (void)ask(&c, HEAD("a"));
        guarded_release();
    }
    CHECK(ask(&c, HEAD("a")));
    pws_memos_clear(&memos);
}

TEST(a_head_in_pieces_costs_no_other_its_lines)
{
    pws_conn c = {.slot = 3};

    CHECK(!ask(&c, HEAD("a")));
    for (int i = 0; i < 20; i++) {
        CHECK(!ask_in_pieces(&c, HEAD("a"), 30));
        CHECK(ask(&c, HEAD("a")));
        guarded_release();
    }
    pws_memos_clear(&memos);
}

TEST(a_client_whose_heads_always_come_in_pieces_is_left_alone)
{
    pws_conn c = {.slot = 3};
    int looked = 0;

    for (int i = 0; i < 100; i++) {
        looked += pws_memo_of(&memos, &c) != NULL;
        CHECK(!ask_in_pieces(&c, HEAD("a"), 30));
        guarded_release();
    }
    CHECK(looked < 20);
    pws_memos_clear(&memos);
}

TEST(who_comes_again_keeps_its_place_among_many)
{
    pws_conn c[5];

    for (uint32_t i = 0; i < 5; i++) {
        c[i] = (pws_conn){.slot = 3 + i * PWS_MEMO_PLACES};
    }
    CHECK(!ask(&c[0], HEAD("a")));
    for (int turn = 0; turn < 100; turn++) {
        CHECK(ask(&c[0], HEAD("a")));
        for (int i = 1; i < 5; i++) {
            CHECK(!ask(&c[i], HEAD("a")));
        }
        guarded_release();
    }
    pws_memos_clear(&memos);
}

TEST(the_place_of_one_that_is_silent_is_taken_in_time)
{
    pws_conn c = {.slot = 3}, other = {.slot = 3 + PWS_MEMO_PLACES};
    int asked = 0;

    CHECK(!ask(&c, HEAD("a")));
    while (asked < 100 && !ask(&other, HEAD("a"))) {
        asked++;
    }
    CHECK(asked < 20);
    CHECK(ask(&other, HEAD("a")));
    CHECK(!ask(&c, HEAD("a")));
    pws_memos_clear(&memos);
}
