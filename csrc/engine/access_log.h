/* access_log.h - a line for each response, in a format compiled once.
 *
 * Values are escaped as base/escape.h has it, with quotes, so that no client can forge
 * a line. Lines are collected in a ring (base/ring.h) and written together, when it is
 * half full or after a second. Where nothing can be written, they wait there; new ones
 * that find no room are lost, and their number goes to the error log. A log belongs to
 * one engine and is used under its lease. */
#ifndef PWS_ENGINE_ACCESS_LOG_H
#define PWS_ENGINE_ACCESS_LOG_H

#include "engine/access_format.h"
#include "engine/exchange.h"

typedef struct pws_access_log pws_access_log;

/* Compile `format` and log to a duplicate of `fd`. Returns NULL without memory or
 * descriptors. */
pws_access_log *pws_access_log_new(const char *format, int fd);

/* Write what waits, then free. What could not be written then is lost, unless another
 * process drains the memory. */
void pws_access_log_free(pws_access_log *log);

/* Keep the lines in `memory` from now on: PWS_RING_SIZE bytes, borrowed for as long as
 * the log lives, zeroed or drained, and shared with a process that calls pws_ring_drain
 * when this one has died. For a worker after its fork, before it serves: what waited
 * until now is forgotten. */
void pws_access_log_share(pws_access_log *log, void *memory);

/* The compiled format, borrowed: it says what is to be noted with pws_exchange_note. */
const pws_access_format *pws_access_log_format(const pws_access_log *log);

/* Add the line of `x`, whose response has ended. */
void pws_access_log_add(pws_access_log *log, const pws_exchange *x,
                        const pws_clock *clock);

/* Add a line that somebody else has made, without its newline; what is too long of it
 * is left out. Bytes that could forge another line are his business. */
void pws_access_log_add_text(pws_access_log *log, pws_slice text, int64_t now_ms);

/* Write what has waited for a second or more. Returns the milliseconds after which to
 * call again, or -1 when nothing waits. */
int pws_access_log_tick(pws_access_log *log, int64_t now_ms);

/* Write all that waits, as far as it goes without being held up. */
void pws_access_log_flush(pws_access_log *log);

/* In a forked child: let go of the memory, in which the parent's lines are. Nothing is
 * logged any more. */
void pws_access_log_discard(pws_access_log *log);

/* Go on with a duplicate of another descriptor, lines that wait included: the file was
 * reopened. From any thread, without the lease. Returns 0, or -1 with errno: it goes on
 * as it was. */
int pws_access_log_reopen(pws_access_log *log, int fd);

#endif
