/* log.h - the error log: one line, one write.
 *
 * Lines look like Gunicorn's: "[2026-01-31 12:00:00 +0000] [PID] [LEVEL] text". Bytes
 * that could forge a line or drive a terminal are escaped as \xHH. Safe from every
 * thread; a line that cannot be written is dropped, the service goes on. The descriptor
 * and the level are the only state, and belong to the process. */
#ifndef PWS_BASE_LOG_H
#define PWS_BASE_LOG_H

#include <stdarg.h>

typedef enum {
    PWS_LOG_DEBUG,
    PWS_LOG_INFO,
    PWS_LOG_WARNING,
    PWS_LOG_ERROR,
    PWS_LOG_CRITICAL,
} pws_log_level;

/* Send lines to `fd` (borrowed; 2 at the start) from `level` upwards (INFO at the
 * start). */
void pws_log_open(int fd, pws_log_level level);

/* Write one line. Text beyond 4,000 bytes is cut and marked with "...". */
void pws_log(pws_log_level level, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

#endif
