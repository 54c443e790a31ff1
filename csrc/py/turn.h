/* turn.h - what an executor does around an app call, and between two of them: the
 * lease, the board, the master's orders, the end.
 *
 * For all executors; each has a loop of its own. All calls want the GIL but where it is
 * said otherwise. */
#ifndef PWS_PY_TURN_H
#define PWS_PY_TURN_H

#include "py/lane.h"

/* Take the lease, from the relief if need be, which sees that we are not in the app any
 * more. Without the GIL. */
void pws_turn_take_lease_back(pws_engine *e);

/* The same with the GIL, which is let go of for a wait: who has the lease may want it.
 */
static inline void
pws_turn_take_lease(pws_engine *e)
{
    if (!pws_lease_try_take(&e->lease)) {
        Py_BEGIN_ALLOW_THREADS
        pws_turn_take_lease_back(e);
        Py_END_ALLOW_THREADS
    }
}

/* The same for a thread of a crew, or who looks after it. The GIL is not waited for
 * with the lease: a fork waits for that with the GIL. */
void pws_turn_take_crew_lease(pws_crew *crew);

/* The master's orders that have come since. Under the lease; the GIL is not needed. */
static inline unsigned
pws_turn_take_letters(pws_engine *e)
{
    unsigned letters = e->poller.letters;

    e->poller.letters = 0;
    return letters;
}

/* Do what the orders say. Returns 0, or -1 with an exception set. */
int pws_turn_heed(const pws_lane_config *config, unsigned letters);

/* What has come for us while the relief had the lease, or was left by it. Entered with
 * the lease. Returns 0 with it, when there was nothing; else without: 1, or -1 with an
 * exception set. */
int pws_turn_heed_all(const pws_lane_config *config);

/* Around a wait for the client of `x`, which is nobody's time but that client's: the
 * app call in hand is not watched meanwhile. */
void pws_turn_pause(const pws_lane *lane);
void pws_turn_resume(const pws_lane *lane, pws_exchange *x);

/* Run the app for `x`, which was handed out, in this thread, and give it back. Without
 * the lease. */
void pws_turn_run(pws_lane *lane, pws_exchange *x);

/* A request is done. Who has served enough goes on until the master sends it away,
 * because a successor must be there first. */
void pws_turn_count(const pws_lane_config *config);

/* A child that an app has forked has come back into the server, which is not its own:
 * two processes would answer one client. It ends here. */
void pws_turn_end_child(void);

/* Whether a stop has been ordered, and no connections are to be accepted any more.
 * Under the lease; the GIL is not needed. */
bool pws_turn_is_drain_due(const pws_engine *e, const pws_orders *orders);

/* For pws_turn_should_end. */
bool pws_turn_ends(pws_engine *e, const pws_orders *orders);

/* Whether the server is to end now; begins to drain when asked to. Under the lease. */
static inline bool
pws_turn_should_end(pws_engine *e, const pws_orders *orders)
{
    return atomic_load_explicit(&orders->stop, memory_order_relaxed) != PWS_STOP_NOT &&
           pws_turn_ends(e, orders);
}

/* What is left until the next step of a stop, in milliseconds; -1: none is ordered. */
int pws_turn_time_left_ms(const pws_engine *e, const pws_orders *orders);

/* Start the thread that looks after the engine while apps run. Without one, which is
 * logged, serving goes on. Returns whether there is one. */
bool pws_turn_start_relief(const pws_lane_config *config);

#endif
