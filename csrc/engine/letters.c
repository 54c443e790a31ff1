#include "engine/letters.h"

#include "engine/crew.h"
#include "engine/engine.h"
#include "engine/give_up.h"
#include "engine/mind.h"

/* A crew that has to give up serves nobody any more when it has not moved for so long.
 */
#define CREW_LOST_MS 2000

/* Whether threads of a crew are at requests that they may well answer: it is only a
 * loop beside them (the bell) that is held up. */
static bool
is_at_work(const pws_relief *relief)
{
    const pws_crew *crew = relief->crew;

    return crew != NULL && crew->bell != NULL && crew->out > 0 && !relief->gives_up;
}

/* Tell the master when nobody has to be served any more. */
static void
note_desertion(pws_relief *relief)
{
    pws_cell *cell = relief->terms.cell;

    if (!is_at_work(relief) && !atomic_load(&cell->deserted) &&
        pws_give_up_is_done(relief->engine)) {
        atomic_store(&cell->deserted, true);
        pws_mind_tell(relief);
    }
}

/* Whether the master means the request that the call has in hand, or whichever it is.
 */
static bool
is_meant(const pws_relief *relief, const pws_call *call)
{
    uint64_t wanted;

    if (call->hand == NULL) {
        return false;
    }
    wanted = atomic_load(&call->hand->given_up);
    if (relief->crew != NULL && wanted == 0) {
        return false; /* it means another one's, or none */
    }
    return wanted == PWS_HAND_ANY || wanted == atomic_load(&call->hand->sequence);
}

/* Who cannot give the sign of life that is owed, a crew's main thread or somebody
 * else's loop, has to go whatever is in hand. */
static bool
is_order(const pws_relief *relief)
{
    for (unsigned i = 0; i < relief->call_count; i++) {
        if (is_meant(relief, &relief->calls[i])) {
            return true;
        }
    }
    return relief->engine->poller.owes_sign;
}

/* Whether to give up what the apps have in hand now. The order may be for a request
 * that has ended since; then it is no order any more. */
static bool
must_give_up(pws_relief *relief)
{
    const pws_relief_terms *terms = &relief->terms;
    unsigned letters = relief->engine->poller.letters | relief->letters;

    if ((letters & terms->give_up_letters) == 0 || terms->cell == NULL) {
        return false;
    }
    if (is_order(relief)) {
        return true;
    }
    relief->engine->poller.letters &= ~terms->give_up_letters;
    relief->letters &= ~terms->give_up_letters;
    return false;
}

/* Answer for the apps. Those of a crew may come back yet, but where Python does not run
 * any more; who has taken too long was answered already. */
static void
answer_for_apps(pws_relief *relief, pws_exchange *x)
{
    if (relief->crew == NULL) {
        if (x != NULL) {
            (void)pws_exchange_answer(x, 504);
        }
    }
    else if (relief->engine->poller.owes_sign) {
        pws_give_up_hands(relief->engine);
    }
}

/* Who looks after a crew is silent. Where that is a loop of its own (the bell), which a
 * task of the app may hold up, the crew's threads can run all the same. */
static bool
is_python_lost(const pws_relief *relief)
{
    return relief->engine->poller.owes_sign && relief->crew->bell == NULL;
}

void
pws_letters_heed(pws_relief *relief, pws_exchange *x)
{
    const pws_relief_terms *terms = &relief->terms;
    pws_engine *e = relief->engine;
    unsigned letters = e->poller.letters | relief->letters;

    if ((letters & (terms->drain_letters | terms->give_up_letters)) != 0) {
        pws_engine_announce_drain(e);
    }
    if (!must_give_up(relief)) {
        return;
    }
    if (relief->crew != NULL && !is_python_lost(relief) &&
        pws_clock_now_ms() - relief->seen_ms < CREW_LOST_MS) {
        return; /* some of its threads may come back */
    }
    if (!relief->gives_up) {
        relief->gives_up = true;
        answer_for_apps(relief, x);
        pws_give_up_begin(e);
    }
    pws_give_up_queue(e);
    note_desertion(relief);
}

void
pws_letters_witness(pws_relief *relief)
{
    pws_cell *cell = relief->terms.cell;
    bool ordered;

    relief->letters |= relief->engine->poller.letters;
    if ((relief->letters & relief->terms.drain_letters) != 0) {
        pws_engine_announce_drain(relief->engine);
    }
    ordered = (relief->letters & relief->terms.give_up_letters) != 0;
    if (!ordered || cell == NULL) {
        return;
    }
    if (must_give_up(relief)) {
        pws_engine_drain(relief->engine);
        atomic_store(&cell->relieved, true);
        note_desertion(relief);
    }
    else {
        atomic_store(&cell->deserted, false);
        atomic_store(&cell->relieved, false);
    }
}
