/* sign.h - whether those that wait for something are alive: they are asked for a sign.
 *
 * Who is busy is bounded by the time of what it does; nobody sees that of one that
 * waits, and may be stopped. So each worker that serves and each mold that is ready is
 * asked by a letter, twice in a `timeout`, all of them at the same moments. Whoever
 * reads letters there answers by one store into its cell, and needs no Python. A
 * foreign worker is not asked, but must have given a sign of its own accord. The time
 * for an answer is counted in halves that the master has lived through itself: one that
 * it has overslept, since it was stopped or held up too, begins the count anew. */
#ifndef PWS_PROC_SIGN_H
#define PWS_PROC_SIGN_H

#include "proc/workers.h"

/* Ask when it is time to. Returns whether an answer has been missing for `timeout_ms`;
 * 0: nobody is asked. */
bool pws_sign_is_missing(const pws_workers *workers, pws_worker *w, int64_t timeout_ms,
                         int64_t now_ms);

/* Whether the last question was answered. */
bool pws_sign_is_answered(const pws_workers *workers, const pws_worker *w);

/* When to look again, of one that may be asked; PWS_NEVER. */
int64_t pws_sign_due_ms(const pws_worker *w);

#endif
