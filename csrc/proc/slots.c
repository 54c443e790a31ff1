#include "proc/slots.h"

#include <string.h>

#include "base/clock.h"
#include "base/passing.h"
#include "engine/lent.h"

#define TEND_AGAIN_MS 250

typedef struct {
    uint64_t words[PWS_SLOT_WORDS];
} slot_set;

static bool
has(const uint64_t *words, unsigned slot)
{
    return (words[slot / 64] >> slot % 64 & 1) != 0;
}

static void
add(uint64_t *words, unsigned slot)
{
    words[slot / 64] |= (uint64_t)1 << slot % 64;
}

static unsigned
size_of(const uint64_t *words)
{
    unsigned n = 0;

    for (unsigned i = 0; i < PWS_SLOT_WORDS; i++) {
        n += (unsigned)__builtin_popcountll(words[i]);
    }
    return n;
}

unsigned
pws_slots_choose(pws_master *m)
{
    unsigned found = 0, fewest = ~0u;

    if (m->slots_grow && m->settings.workers > m->slots) {
        m->slots = m->calls->open_slots(m->context, m->settings.workers);
    }
    for (unsigned slot = 0; slot < m->slots && slot < m->settings.workers; slot++) {
        unsigned there = pws_workers_at(&m->workers, slot, false);

        if (there < fewest) {
            found = slot;
            fewest = there;
        }
    }
    return found;
}

void
pws_slots_assign(pws_worker *w, unsigned slot)
{
    w->slot = slot;
    memset(w->polls, 0, sizeof(w->polls));
    add(w->polls, slot);
}

/* Whether it accepts connections, for all that the master knows. */
static bool
accepts(const pws_master *m, const pws_worker *w)
{
    return w->kind == PWS_KIND_WORKER && w->state == PWS_WORKER_SERVING &&
           w->last_signal == 0 && !pws_worker_has_closed(&m->workers, w);
}

/* Slots that have a worker of their own. */
static slot_set
homes(const pws_master *m)
{
    slot_set set = {{0}};

    for (unsigned i = 0; i < m->workers.top; i++) {
        if (accepts(m, &m->workers.all[i])) {
            add(set.words, m->workers.all[i].slot);
        }
    }
    return set;
}

/* Take from each what has a worker of its own again, and with it all else that is lent
 * to it, since the order is one for all. */
static void
take_back(pws_master *m)
{
    slot_set home = homes(m);

    for (unsigned i = 0; i < m->workers.top; i++) {
        pws_worker *w = &m->workers.all[i];
        bool lent = false;

        if (!accepts(m, w)) {
            continue;
        }
        for (unsigned j = 0; j < PWS_SLOT_WORDS; j++) {
            uint64_t own = j == w->slot / 64 ? (uint64_t)1 << w->slot % 64 : 0;

            lent = lent || (w->polls[j] & ~own & home.words[j]) != 0;
        }
        if (lent && pws_worker_order(w, PWS_LETTER_LET_GO)) {
            pws_slots_assign(w, w->slot);
        }
    }
}

/* Who is to get one more: rather one that stays, that is idle, that has few. */
static pws_worker *
find_sibling(pws_master *m)
{
    int64_t now_ms = pws_clock_now_ms();
    pws_worker *found = NULL;
    unsigned least = ~0u;

    for (unsigned i = 0; i < m->workers.top; i++) {
        pws_worker *w = &m->workers.all[i];
        const pws_cell *cell = pws_worker_cell(&m->workers, w);
        unsigned cost;

        if (!accepts(m, w) || atomic_load(&cell->foreign)) {
            continue; /* a foreign one takes no more than it has */
        }
        cost = size_of(w->polls);
        cost += pws_cell_busy_ms(cell, now_ms) > 0 ? PWS_WORKERS_MAX : 0;
        cost += pws_worker_is_wanted(&m->workers, w) ? 0 : 2 * PWS_WORKERS_MAX;
        if (cost < least) {
            least = cost;
            found = w;
        }
    }
    return found;
}

static void
lend(pws_master *m, unsigned slot)
{
    pws_worker *w = find_sibling(m);
    int fds[PWS_PASS_MAX];
    char text = 0; /* a letter without bits */
    pws_parcel parcel = {.text = &text, .size = 1, .fds = fds};

    if (w == NULL) {
        return; /* the next one that is ready is news */
    }
    parcel.count = m->calls->sockets(m->context, slot, true, fds);
    if (pws_pass_send(w->order_fd, &parcel) < 0) {
        m->tend_ms = pws_clock_now_ms() + TEND_AGAIN_MS;
        return;
    }
    add(w->polls, slot);
}

void
pws_slots_tend(pws_master *m)
{
    m->tend_ms = PWS_NEVER;
    if (m->phase != PWS_MASTER_STARTING && m->phase != PWS_MASTER_STOPPING) {
        pws_slots_settle(m);
    }
}

void
pws_slots_settle(pws_master *m)
{
    slot_set polled = {{0}};

    if (m->slots < 2) {
        return;
    }
    take_back(m);
    for (unsigned i = 0; i < m->workers.top; i++) {
        const pws_worker *w = &m->workers.all[i];

        for (unsigned j = 0; j < PWS_SLOT_WORDS && accepts(m, w); j++) {
            polled.words[j] |= w->polls[j];
        }
    }
    for (unsigned slot = 0; slot < m->slots; slot++) {
        if (!has(polled.words, slot)) {
            lend(m, slot);
        }
    }
}
