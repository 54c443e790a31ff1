/* log.h - the error log: one record, one write.
 *
 * Lines look like Gunicorn's: "[2026-01-31 12:00:00 +0000] [PID] [LEVEL] text", escaped
 * as base/escape.h has it. Safe from every thread. The server never waits for its log
 * (base/sink.h): records that cannot be written are dropped, and their number is said
 * when it can be written to again. Sink, level and the limits below are the only state,
 * and belong to the process; errno stays as it is. */
#ifndef PWS_BASE_LOG_H
#define PWS_BASE_LOG_H

#include <stdint.h>

#include "base/slice.h"

typedef enum {
    PWS_LOG_DEBUG,
    PWS_LOG_INFO,
    PWS_LOG_WARNING,
    PWS_LOG_ERROR,
    PWS_LOG_CRITICAL,
} pws_log_level;

/* What a client can cause, and could flood the log with. Of each kind PWS_LOG_BURST
 * lines are written in PWS_LOG_WINDOW_MS; how many more there were is said afterwards.
 */
typedef enum {
    PWS_LOG_REFUSED,   /* an invalid request */
    PWS_LOG_CUT,       /* a request body that fails while the app reads it */
    PWS_LOG_STORAGE,   /* a request body that cannot be stored */
    PWS_LOG_LENGTH,    /* a response unlike its Content-Length */
    PWS_LOG_RESOURCES, /* descriptors that are not to be had */
    PWS_LOG_QUEUED,    /* a request that has waited for too long */
    PWS_LOG_UNLOGGED,  /* lines of the access log that could not be written */
    PWS_LOG_KINDS,
} pws_log_kind;

#define PWS_LOG_BURST 20
#define PWS_LOG_WINDOW_MS 30000

/* Log to a duplicate of `fd` (stderr itself before the first call) from `level` upwards
 * (INFO before). Again at any time: the file was reopened. Returns 0, or -1 with errno:
 * the log goes on as it was. */
int pws_log_open(int fd, pws_log_level level);

/* Write one line. Text beyond 4,000 bytes is cut and marked with "...". */
void pws_log(pws_log_level level, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* The same for a line of a kind of which there may be too many. */
void pws_log_limited(pws_log_kind kind, pws_log_level level, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* Write a record of many lines, a traceback, say. Text beyond a megabyte is cut. */
void pws_log_record(pws_log_level level, pws_slice text);

/* Write text that somebody else has made into lines, as it is. */
void pws_log_text(pws_slice text);

/* Say what was left out more than PWS_LOG_WINDOW_MS ago. Returns the milliseconds after
 * which to call again, or -1 when nothing was. Cheap: to be called often. */
int pws_log_tick(int64_t now_ms);

/* Say what was left out until now: at the end. */
void pws_log_flush(void);

#endif
