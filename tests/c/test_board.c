/* What a worker says of itself, and the memory it says it in. */
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/board.h"
#include "base/clock.h"
#include "harness.h"
#include "proc/shared.h"

TEST(a_worker_is_busy_from_its_fork_until_it_is_ready)
{
    pws_cell cell = {0};

    pws_cell_assign(&cell);
    CHECK(atomic_load(&cell.busy_since_ms) > 0);
    CHECK(!atomic_load(&cell.ready));
    pws_cell_ready(&cell);
    CHECK_EQ(atomic_load(&cell.busy_since_ms), 0);
    CHECK(atomic_load(&cell.ready));
}

TEST(a_cell_is_empty_for_the_next_worker)
{
    pws_cell cell = {0};

    pws_cell_ready(&cell);
    CHECK_EQ(pws_cell_count(&cell), 1);
    CHECK_EQ(pws_cell_count(&cell), 2);
    atomic_store(&cell.leaving, true);
    atomic_store(&cell.closed, true);
    atomic_store(&cell.signs, 7);

    pws_cell_assign(&cell);
    CHECK(!atomic_load(&cell.closed));
    CHECK_EQ(atomic_load(&cell.signs), 0);
    CHECK(!atomic_load(&cell.ready));
    CHECK(!atomic_load(&cell.leaving));
    CHECK_EQ(pws_cell_count(&cell), 1);
}

TEST(why_a_worker_goes_is_kept_until_its_cell_has_another_one)
{
    pws_cell cell = {0};
    char text[PWS_REASON_MAX], longest[200];

    pws_cell_assign(&cell);
    CHECK_EQ(pws_cell_reason(&cell, text), 0);
    CHECK_BYTES(text, strlen(text), "");
    pws_cell_blame(&cell, 3, "max_requests 1000");
    CHECK_EQ(pws_cell_reason(&cell, text), 3);
    CHECK_BYTES(text, strlen(text), "max_requests 1000");
    pws_cell_blame(&cell, 4, "something else"); /* the first one counts */
    CHECK_EQ(pws_cell_reason(&cell, text), 3);
    CHECK_BYTES(text, strlen(text), "max_requests 1000");

    pws_cell_assign(&cell);
    CHECK_EQ(pws_cell_reason(&cell, text), 0);
    pws_cell_blame(&cell, 5, "");
    CHECK_EQ(pws_cell_reason(&cell, text), 5);
    CHECK_BYTES(text, strlen(text), "");

    pws_cell_assign(&cell);
    memset(longest, 'x', sizeof(longest));
    longest[sizeof(longest) - 1] = '\0';
    pws_cell_blame(&cell, 6, longest);
    CHECK_EQ(pws_cell_reason(&cell, text), 6);
    CHECK_EQ(strlen(text), PWS_REASON_MAX - 1);
}

TEST(busy_is_told_by_how_long)
{
    pws_cell cell = {0};
    int64_t since_ms;

    CHECK_EQ(pws_cell_busy_ms(&cell, pws_clock_now_ms()), 0);
    pws_cell_begin(&cell);
    since_ms = atomic_load(&cell.busy_since_ms);
    CHECK_EQ(pws_cell_busy_ms(&cell, since_ms + 70), 70);
    CHECK_EQ(pws_cell_busy_ms(&cell, since_ms - 1), 0); /* clocks are read in turn */
    pws_cell_end(&cell);
    CHECK_EQ(pws_cell_busy_ms(&cell, since_ms + 70), 0);
}

TEST(a_cell_is_claimed_once)
{
    pws_cell cell = {0};
    uint32_t nonce;

    pws_cell_assign(&cell);
    nonce = pws_cell_nonce(&cell);
    CHECK_EQ(pws_cell_claimed(&cell), 0);
    CHECK(!pws_cell_claim(&cell, nonce + 1, 42));
    CHECK(pws_cell_claim(&cell, nonce, 42));
    CHECK(!pws_cell_claim(&cell, nonce, 43));
    CHECK(!pws_cell_claim(&cell, nonce, -1));
    CHECK_EQ(pws_cell_claimed(&cell), 42);
    CHECK(!pws_cell_revoke(&cell)); /* somebody has it */
    CHECK_EQ(pws_cell_claimed(&cell), 42);
}

TEST(there_may_be_no_worker_for_a_cell)
{
    pws_cell cell = {0};

    pws_cell_assign(&cell);
    CHECK(pws_cell_claim(&cell, pws_cell_nonce(&cell), -1));
    CHECK_EQ(pws_cell_claimed(&cell), -1);
}

TEST(who_comes_late_finds_its_cell_taken_back)
{
    pws_cell cell = {0};
    uint32_t nonce;

    pws_cell_assign(&cell);
    nonce = pws_cell_nonce(&cell);
    CHECK(pws_cell_revoke(&cell));
    CHECK(!pws_cell_claim(&cell, nonce, 42));
    pws_cell_assign(&cell);
    CHECK(!pws_cell_claim(&cell, nonce, 42));
    CHECK_EQ(pws_cell_claimed(&cell), 0);
    CHECK(pws_cell_claim(&cell, pws_cell_nonce(&cell), 43));
}

TEST(numbers_of_assignments_may_wrap)
{
    pws_cell cell = {.claim = (uint64_t)UINT32_MAX << 32 | 5};

    pws_cell_assign(&cell);
    CHECK_EQ(pws_cell_nonce(&cell), 0);
    CHECK_EQ(pws_cell_claimed(&cell), 0);
    CHECK(pws_cell_claim(&cell, 0, 7));
}

TEST(what_a_child_writes_is_seen_by_its_parent)
{
    pws_board *board = pws_shared_new(sizeof(*board));
    int status;
    pid_t pid;

    CHECK(board != NULL);
    CHECK(!atomic_load(&board->cells[PWS_BOARD_CELLS - 1].ready));
    pid = fork();
    if (pid == 0) {
        pws_cell_ready(&board->cells[PWS_BOARD_CELLS - 1]);
        _exit(0);
    }
    CHECK(pid > 0 && waitpid(pid, &status, 0) == pid && status == 0);
    CHECK(atomic_load(&board->cells[PWS_BOARD_CELLS - 1].ready));
    pws_shared_free(board, sizeof(*board));
    pws_shared_free(NULL, 1);
}

TEST(a_request_is_shown_from_its_call_to_its_end)
{
    static pws_cell cell;
    pws_hand *hand = &cell.hands[0];
    pws_hand_view view;

    pws_cell_assign(&cell);
    pws_cell_ready(&cell);
    CHECK(!pws_hand_look(hand, 1000, &view));
    pws_cell_begin(&cell);
    pws_hand_begin(hand, PWS_SLICE("POST"), PWS_SLICE("/a?b"), 1000);
    CHECK(pws_hand_look(hand, 1500, &view));
    CHECK_EQ(view.number, 2);
    CHECK_EQ(view.took_ms, 500);
    CHECK_BYTES(view.text, strlen(view.text), "POST /a?b");
    CHECK(pws_hand_is_at(hand, 2));
    CHECK(!pws_hand_is_at(hand, 4));
    pws_hand_end(hand);
    CHECK(pws_hand_look(hand, 1500, &view));
    CHECK_EQ(view.took_ms, 0);
    CHECK(!pws_hand_is_at(hand, 2));
}

TEST(a_wait_for_the_client_does_not_count)
{
    static pws_cell cell;
    pws_hand *hand = &cell.hands[0];
    pws_hand_view view;

    pws_cell_assign(&cell);
    pws_hand_begin(hand, PWS_SLICE("GET"), PWS_SLICE("/"), 1000);
    pws_hand_pause(hand, 1300);
    pws_hand_pause(hand, 1400); /* two threads wait for the same client */
    CHECK(!pws_hand_is_at(hand, atomic_load(&hand->sequence)));
    CHECK(!pws_hand_is_late(hand, atomic_load(&hand->sequence)));
    atomic_store(&hand->overdue, atomic_load(&hand->sequence));
    CHECK(pws_hand_is_late(hand, atomic_load(&hand->sequence)));
    CHECK(!pws_hand_is_late(hand, atomic_load(&hand->sequence) - 2));
    atomic_store(&hand->overdue, 0);
    CHECK(!pws_hand_is_at(hand, 2));
    pws_hand_resume(hand, 9000);
    pws_hand_resume(hand, 9100);
    CHECK(pws_hand_look(hand, 9100, &view));
    CHECK_EQ(view.took_ms, 400);
}

TEST(a_long_request_is_cut_and_a_short_one_leaves_nothing_of_it)
{
    static pws_cell cell;
    pws_hand *hand = &cell.hands[0];
    char target[400];
    pws_hand_view view;

    pws_cell_assign(&cell);
    memset(target, 'x', sizeof(target));
    pws_hand_begin(hand, PWS_SLICE("GET"), (pws_slice){target, sizeof(target)}, 1);
    CHECK(pws_hand_look(hand, 1, &view));
    CHECK_EQ(strlen(view.text), PWS_HAND_TEXT);
    pws_hand_begin(hand, PWS_SLICE("GET"), PWS_SLICE("/"), 1);
    CHECK(pws_hand_look(hand, 1, &view));
    CHECK_BYTES(view.text, strlen(view.text), "GET /");
}

/* Killed at any instruction, it leaves no lock. */
TEST(a_writer_that_died_is_not_waited_for)
{
    static pws_cell cell;
    pws_hand_view view;

    pws_cell_assign(&cell);
    pws_hand_begin(&cell.hands[0], PWS_SLICE("GET"), PWS_SLICE("/"), 1);
    atomic_fetch_add(&cell.hands[0].sequence, 1);
    CHECK(!pws_hand_look(&cell.hands[0], 1, &view));
    CHECK_EQ(view.number, 0);
    CHECK_EQ(strlen(view.text), 0);
    pws_cell_assign(&cell);
    CHECK_EQ(atomic_load(&cell.hands[0].sequence), 0);
}
