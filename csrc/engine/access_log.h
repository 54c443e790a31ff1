/* access_log.h - a line for each response, in a format compiled once.
 *
 * Values are escaped as base/escape.h has it, with quotes, so that no client can forge
 * a line. Lines are collected in a buffer and written in one go, whole lines only;
 * pipes get at most PIPE_BUF bytes a write. A log belongs to one engine and is used
 * under its lease. */
#ifndef PWS_ENGINE_ACCESS_LOG_H
#define PWS_ENGINE_ACCESS_LOG_H

#include "engine/access_format.h"
#include "engine/exchange.h"

typedef struct pws_access_log pws_access_log;

/* Compile `format` and log to `fd` (borrowed). Returns NULL without memory. */
pws_access_log *pws_access_log_new(const char *format, int fd);

/* Write what waits, then free. */
void pws_access_log_free(pws_access_log *log);

/* The compiled format, borrowed: it says what is to be noted with pws_exchange_note. */
const pws_access_format *pws_access_log_format(const pws_access_log *log);

/* Add the line of `x`, whose response has ended. */
void pws_access_log_add(pws_access_log *log, const pws_exchange *x,
                        const pws_clock *clock);

/* Write what has waited for a second or more. Returns the milliseconds after which to
 * call again, or -1 when nothing waits. */
int pws_access_log_tick(pws_access_log *log, int64_t now_ms);

/* Write all that waits. What cannot be written is dropped: the service goes on. */
void pws_access_log_flush(pws_access_log *log);

/* Forget what waits: in a forked child it is the parent's to write. */
void pws_access_log_discard(pws_access_log *log);

/* Go on with another descriptor (borrowed): the file was reopened. */
void pws_access_log_reopen(pws_access_log *log, int fd);

#endif
