/* letters.h - what the master's letters mean to who polls in place of an executor,
 * which may never come back to heed them itself.
 *
 * A worker that is to drain says so in each response from then on. One that will be
 * killed answers for its apps, and for those they will not see, and tells when nobody
 * has to be served any more. Such an order is for a certain request (pws_hand): when
 * that has ended since, it is no order any more. All calls want the lease. */
#ifndef PWS_ENGINE_LETTERS_H
#define PWS_ENGINE_LETTERS_H

#include "engine/relief.h"

/* For the relief, while it polls; `x`: what the executor's app has in hand, or NULL. */
void pws_letters_heed(pws_relief *relief, pws_exchange *x);

/* For who polls instead of the relief, in a crew: if the master waits to kill this
 * process, drain, should who looks after the crew not have come to that; tell that
 * somebody is at work, and when nobody has to be served any more. */
void pws_letters_witness(pws_relief *relief);

#endif
