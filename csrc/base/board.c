#include "base/board.h"

#include <string.h>

#include "base/clock.h"

#define RELAXED memory_order_relaxed

/* A writer that is disturbed that often is not waited for. */
#define TRIES 3

static void
clear_hand(pws_hand *hand)
{
    atomic_store_explicit(&hand->sequence, 0, RELAXED);
    atomic_store_explicit(&hand->since_ms, 0, RELAXED);
    atomic_store_explicit(&hand->slow, 0, RELAXED);
    atomic_store_explicit(&hand->overdue, 0, RELAXED);
    atomic_store_explicit(&hand->aborted, 0, RELAXED);
    atomic_store_explicit(&hand->given_up, 0, RELAXED);
    atomic_store_explicit(&hand->heeded_slow, 0, RELAXED);
    atomic_store_explicit(&hand->heeded_overdue, 0, RELAXED);
    atomic_store_explicit(&hand->len, 0, RELAXED);
}

void
pws_cell_assign(pws_cell *cell)
{
    atomic_store_explicit(&cell->requests, 0, RELAXED);
    atomic_store_explicit(&cell->ready, false, RELAXED);
    atomic_store_explicit(&cell->leaving, false, RELAXED);
    atomic_store_explicit(&cell->closed, false, RELAXED);
    atomic_store_explicit(&cell->foreign, false, RELAXED);
    atomic_store_explicit(&cell->dumps, false, RELAXED);
    atomic_store_explicit(&cell->relieved, false, RELAXED);
    atomic_store_explicit(&cell->deserted, false, RELAXED);
    atomic_store_explicit(&cell->signs, 0, RELAXED);
    atomic_store_explicit(&cell->owing, false, RELAXED);
    atomic_store_explicit(&cell->cause, 0, RELAXED);
    for (unsigned i = 0; i < PWS_BOARD_HANDS; i++) {
        clear_hand(&cell->hands[i]);
    }
    pws_cell_begin(cell);
    atomic_store(&cell->claim, (uint64_t)(pws_cell_nonce(cell) + 1) << 32);
}

uint32_t
pws_cell_nonce(const pws_cell *cell)
{
    return (uint32_t)(atomic_load(&cell->claim) >> 32);
}

bool
pws_cell_claim(pws_cell *cell, uint32_t nonce, int32_t pid)
{
    uint64_t unclaimed = (uint64_t)nonce << 32;

    return atomic_compare_exchange_strong(&cell->claim, &unclaimed,
                                          unclaimed | (uint32_t)pid);
}

int32_t
pws_cell_claimed(const pws_cell *cell)
{
    return (int32_t)(uint32_t)atomic_load(&cell->claim);
}

bool
pws_cell_revoke(pws_cell *cell)
{
    uint32_t nonce = pws_cell_nonce(cell);
    uint64_t unclaimed = (uint64_t)nonce << 32;

    return atomic_compare_exchange_strong(&cell->claim, &unclaimed,
                                          (uint64_t)(nonce + 1) << 32);
}

void
pws_cell_blame(pws_cell *cell, uint32_t cause, const char *reason)
{
    uint64_t words[PWS_REASON_WORDS] = {0};
    size_t len = strlen(reason);

    if (atomic_load_explicit(&cell->cause, RELAXED) != 0) {
        return;
    }
    memcpy(words, reason, len < PWS_REASON_MAX ? len : PWS_REASON_MAX - 1);
    for (size_t i = 0; i < PWS_REASON_WORDS; i++) {
        atomic_store_explicit(&cell->reason[i], words[i], memory_order_release);
    }
    atomic_store_explicit(&cell->cause, cause, memory_order_release);
}

/* The number of the assignment changes before there is another text: who has read of
 * that sees it. */
uint32_t
pws_cell_reason(const pws_cell *cell, char text[PWS_REASON_MAX])
{
    uint64_t words[PWS_REASON_WORDS];
    uint32_t nonce = pws_cell_nonce(cell);
    uint32_t cause = atomic_load_explicit(&cell->cause, memory_order_acquire);

    for (size_t i = 0; i < PWS_REASON_WORDS; i++) {
        words[i] = atomic_load_explicit(&cell->reason[i], memory_order_acquire);
    }
    if (cause == 0 || pws_cell_nonce(cell) != nonce) {
        text[0] = '\0';
        return 0;
    }
    memcpy(text, words, PWS_REASON_MAX);
    text[PWS_REASON_MAX - 1] = '\0';
    return cause;
}

void
pws_cell_ready(pws_cell *cell)
{
    pws_cell_end(cell);
    atomic_store_explicit(&cell->ready, true, memory_order_release);
}

void
pws_cell_begin(pws_cell *cell)
{
    atomic_store_explicit(&cell->busy_since_ms, pws_clock_now_ms(), RELAXED);
}

void
pws_cell_end(pws_cell *cell)
{
    atomic_store_explicit(&cell->busy_since_ms, 0, RELAXED);
}

uint64_t
pws_cell_count(pws_cell *cell)
{
    uint64_t n = atomic_load_explicit(&cell->requests, RELAXED) + 1;

    atomic_store_explicit(&cell->requests, n, RELAXED); /* there is one writer */
    return n;
}

uint64_t
pws_cell_count_shared(pws_cell *cell)
{
    return atomic_fetch_add_explicit(&cell->requests, 1, RELAXED) + 1;
}

int64_t
pws_cell_busy_ms(const pws_cell *cell, int64_t now_ms)
{
    int64_t since_ms = atomic_load_explicit(&cell->busy_since_ms, RELAXED);

    return since_ms == 0 || now_ms < since_ms ? 0 : now_ms - since_ms;
}

/* Put as much of `text` into `dst` as has room before `end`. */
static char *
put(char *dst, const char *end, pws_slice text)
{
    size_t room = (size_t)(end - dst);
    size_t n = text.len < room ? text.len : room;

    memcpy(dst, text.at, n);
    return dst + n;
}

/* The stores of the text may not come before the one that makes the sequence odd, nor
 * after the one that makes it even again: each is a release. */
void
pws_hand_begin(pws_hand *hand, pws_slice method, pws_slice target, int64_t now_ms)
{
    uint64_t words[PWS_HAND_WORDS] = {0};
    char *at = (char *)words, *end = at + PWS_HAND_TEXT;
    uint64_t sequence = atomic_load_explicit(&hand->sequence, RELAXED);
    size_t len;

    if (target.at == method.at + method.len + 1) { /* as they stand in HTTP/1 */
        at = put(at, end, (pws_slice){method.at, method.len + 1 + target.len});
    }
    else {
        at = put(at, end, method);
        at = put(at, end, PWS_SLICE(" "));
        at = put(at, end, target);
    }
    len = (size_t)(at - (char *)words);
    atomic_store_explicit(&hand->sequence, sequence + 1, RELAXED);
    atomic_store_explicit(&hand->len, (uint32_t)len, memory_order_release);
    for (size_t i = 0; i * 8 < len; i++) {
        atomic_store_explicit(&hand->text[i], words[i], memory_order_release);
    }
    atomic_store_explicit(&hand->since_ms, now_ms, memory_order_release);
    atomic_store_explicit(&hand->sequence, sequence + 2, memory_order_release);
}

void
pws_hand_pause(pws_hand *hand, int64_t now_ms)
{
    int64_t since_ms = atomic_load_explicit(&hand->since_ms, RELAXED);

    if (since_ms > 0) { /* else another thread waits for the same client */
        atomic_store_explicit(&hand->since_ms, since_ms - now_ms - 1,
                              memory_order_release);
    }
}

void
pws_hand_resume(pws_hand *hand, int64_t now_ms)
{
    int64_t since_ms = atomic_load_explicit(&hand->since_ms, RELAXED);

    if (since_ms < 0) {
        atomic_store_explicit(&hand->since_ms, now_ms + since_ms + 1, RELAXED);
    }
}

void
pws_hand_end(pws_hand *hand)
{
    atomic_store_explicit(&hand->since_ms, 0, memory_order_release);
}

/* Returns whether nobody wrote meanwhile. */
static bool
copy_text(const pws_hand *hand, pws_hand_view *view)
{
    uint64_t words[PWS_HAND_WORDS];
    uint64_t before = atomic_load_explicit(&hand->sequence, memory_order_acquire);
    uint32_t len = atomic_load_explicit(&hand->len, memory_order_acquire);

    for (size_t i = 0; i < PWS_HAND_WORDS; i++) {
        words[i] = atomic_load_explicit(&hand->text[i], memory_order_acquire);
    }
    if (before % 2 != 0 || atomic_load_explicit(&hand->sequence, RELAXED) != before) {
        return false;
    }
    len = len < PWS_HAND_TEXT ? len : PWS_HAND_TEXT;
    memcpy(view->text, words, len);
    view->text[len] = '\0';
    view->number = before;
    return true;
}

bool
pws_hand_look(const pws_hand *hand, int64_t now_ms, pws_hand_view *view)
{
    int64_t since_ms = atomic_load_explicit(&hand->since_ms, memory_order_acquire);

    *view = (pws_hand_view){
        .took_ms = since_ms > 0 && now_ms > since_ms ? now_ms - since_ms : 0,
        .slow = atomic_load_explicit(&hand->slow, RELAXED),
        .overdue = atomic_load_explicit(&hand->overdue, RELAXED),
        .aborted = atomic_load_explicit(&hand->aborted, RELAXED),
    };
    for (int i = 0; i < TRIES; i++) {
        if (copy_text(hand, view)) {
            return view->number != 0;
        }
    }
    view->text[0] = '\0';
    view->number = 0;
    return false;
}

bool
pws_hand_is_at(const pws_hand *hand, uint64_t number)
{
    return atomic_load_explicit(&hand->since_ms, memory_order_acquire) > 0 &&
           atomic_load_explicit(&hand->sequence, memory_order_acquire) == number;
}

bool
pws_hand_is_late(const pws_hand *hand, uint64_t number)
{
    int64_t since_ms = atomic_load_explicit(&hand->since_ms, memory_order_acquire);
    bool overdue = atomic_load_explicit(&hand->overdue, RELAXED) == number;

    return (overdue ? since_ms != 0 : since_ms > 0) &&
           atomic_load_explicit(&hand->sequence, memory_order_acquire) == number;
}
