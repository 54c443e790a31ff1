#include "engine/timers.h"

#include <assert.h>
#include <stddef.h>
#include <string.h>

static unsigned
slot_of(int64_t tick)
{
    return (unsigned)tick % PWS_WHEEL_SLOTS;
}

void
pws_timers_init(pws_timers *wheel, int64_t now_ms)
{
    memset(wheel, 0, sizeof(*wheel));
    for (unsigned i = 0; i < PWS_WHEEL_SLOTS; i++) {
        wheel->slots[i].prev = wheel->slots[i].next = &wheel->slots[i];
    }
    wheel->tick = now_ms / PWS_TICK_MS;
}

static void
unlink_timer(pws_timers *wheel, pws_timer *timer)
{
    unsigned slot = slot_of(timer->tick);

    /* A timer on a slot has both neighbours.
     * NOLINTNEXTLINE(clang-analyzer-core.NullDereference) */
    timer->prev->next = timer->next;
    timer->next->prev = timer->prev;
    timer->prev = timer->next = NULL;
    if (wheel->slots[slot].next == &wheel->slots[slot]) {
        wheel->used[slot / 64] &= ~((uint64_t)1 << slot % 64);
    }
}

/* The first tick at whose run the deadline has passed, within one turn of the wheel. */
static int64_t
tick_for(const pws_timers *wheel, int64_t deadline_ms)
{
    int64_t tick = deadline_ms / PWS_TICK_MS + 1;

    if (tick < wheel->tick) {
        tick = wheel->tick;
    }
    if (tick > wheel->tick + PWS_WHEEL_SLOTS - 1) {
        tick = wheel->tick + PWS_WHEEL_SLOTS - 1;
    }
    return tick;
}

static void
link_timer(pws_timers *wheel, pws_timer *timer)
{
    unsigned slot;
    pws_timer *head;

    timer->tick = tick_for(wheel, timer->deadline_ms);
    slot = slot_of(timer->tick);
    head = &wheel->slots[slot];
    timer->prev = head->prev;
    timer->next = head;
    head->prev->next = timer;
    head->prev = timer;
    wheel->used[slot / 64] |= (uint64_t)1 << slot % 64;
}

void
pws_timers_set(pws_timers *wheel, pws_timer *timer, int64_t deadline_ms)
{
    timer->deadline_ms = deadline_ms;
    if (deadline_ms == PWS_NEVER) {
        return; /* taken off when its slot comes round */
    }
    if (timer->prev != NULL) {
        if (timer->tick <= deadline_ms / PWS_TICK_MS + 1) {
            return; /* moved on when its slot comes round */
        }
        unlink_timer(wheel, timer);
    }
    link_timer(wheel, timer);
}

void
pws_timers_remove(pws_timers *wheel, pws_timer *timer)
{
    if (timer->prev != NULL) {
        unlink_timer(wheel, timer);
    }
    timer->deadline_ms = PWS_NEVER;
}

/* One timer of the slot in hand that is due, or NULL; the others go to their new slots.
 */
static pws_timer *
take_from_slot(pws_timers *wheel, int64_t now_ms)
{
    pws_timer *head = &wheel->slots[slot_of(wheel->tick)];

    while (head->next != head) {
        pws_timer *timer = head->next;

        unlink_timer(wheel, timer);
        if (timer->deadline_ms != PWS_NEVER) {
            if (timer->deadline_ms <= now_ms) {
                return timer;
            }
            link_timer(wheel, timer);
        }
    }
    return NULL;
}

pws_timer *
pws_timers_expired(pws_timers *wheel, int64_t now_ms)
{
    int64_t now_tick = now_ms / PWS_TICK_MS;

    if (now_tick - wheel->tick > PWS_WHEEL_SLOTS) {
        wheel->tick = now_tick - PWS_WHEEL_SLOTS; /* asleep for more than a turn */
    }
    while (wheel->tick <= now_tick) {
        pws_timer *timer = take_from_slot(wheel, now_ms);

        if (timer != NULL) {
            return timer;
        }
        wheel->tick++;
    }
    return NULL;
}

int
pws_timers_wait_ms(const pws_timers *wheel, int64_t now_ms)
{
    const unsigned words = PWS_WHEEL_SLOTS / 64;
    unsigned start = slot_of(wheel->tick);

    /* The first word twice: its upper part first, its lower part last. */
    for (unsigned i = 0; i <= words; i++) {
        unsigned word = (start / 64 + i) % words;
        uint64_t used = wheel->used[word];
        int64_t due_ms;
        unsigned slot;

        if (i == 0) {
            used &= UINT64_MAX << start % 64;
        }
        if (used == 0) {
            continue;
        }
        slot = word * 64 + (unsigned)__builtin_ctzll(used);
        due_ms =
            (wheel->tick + (slot - start) % PWS_WHEEL_SLOTS) * PWS_TICK_MS - now_ms;
        return due_ms > 0 ? (int)due_ms : 0;
    }
    return -1;
}
