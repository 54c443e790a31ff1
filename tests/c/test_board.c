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

    pws_cell_assign(&cell);
    CHECK(!atomic_load(&cell.closed));
    CHECK(!atomic_load(&cell.ready));
    CHECK(!atomic_load(&cell.leaving));
    CHECK_EQ(pws_cell_count(&cell), 1);
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
