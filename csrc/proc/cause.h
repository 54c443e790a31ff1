/* cause.h - what a worker has died of, in the words of the log. */
#ifndef PWS_PROC_CAUSE_H
#define PWS_PROC_CAUSE_H

#include "proc/master.h"

/* Room for the longest of them. */
#define PWS_CAUSE_ROOM 192

/* Why it has ended, as in "recycled: max_requests 1000"; "" when nothing is known that
 * the status does not say. */
void pws_cause_words(pws_master *m, const pws_worker *w, int status,
                     char words[PWS_CAUSE_ROOM]);

/* The line of the log about its end, if there is to be one. */
void pws_cause_log(const pws_master *m, const pws_worker *w, int status,
                   const char *words);

#endif
