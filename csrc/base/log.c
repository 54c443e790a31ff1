#include "base/log.h"

#include <errno.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/escape.h"
#include "base/sink.h"

#define TEXT_MAX 4000
#define RECORD_MAX (1024u * 1024)
#define PREFIX_MAX 128

static const char MORE[] = "...";

/* A record on the stack: prefix, escaped text, MORE, newline. */
#define LINE_ROOM (PREFIX_MAX + PWS_ESCAPE_GROWTH * TEXT_MAX + sizeof(MORE))

static pws_sink sink = PWS_SINK_ON(STDERR_FILENO);
static _Atomic int log_level = PWS_LOG_INFO;
static _Atomic unsigned long lost; /* records that could not be written */

/* A window begins with the first line of its kind. */
static struct {
    _Atomic int64_t began_ms; /* 0: none has */
    _Atomic unsigned written;
    _Atomic unsigned long left_out;
} limits[PWS_LOG_KINDS];
static atomic_bool any_left_out;

int
pws_log_open(int fd, pws_log_level level)
{
    if (pws_sink_open(&sink, fd) < 0) {
        return -1;
    }
    atomic_store(&log_level, (int)level);
    return 0;
}

static bool
is_wanted(pws_log_level level)
{
    return (int)level >= atomic_load_explicit(&log_level, memory_order_relaxed);
}

static size_t
put_prefix(char *dst, pws_log_level level)
{
    static const char *const names[] = {"DEBUG", "INFO", "WARNING", "ERROR",
                                        "CRITICAL"};
    time_t now = time(NULL);
    struct tm tm;
    size_t n;
    int more;

    memset(&tm, 0, sizeof(tm));
    localtime_r(&now, &tm);
    n = strftime(dst, PREFIX_MAX, "[%Y-%m-%d %H:%M:%S %z]", &tm);
    more =
        snprintf(dst + n, PREFIX_MAX - n, " [%ld] [%s] ", (long)getpid(), names[level]);
    return n + (size_t)more;
}

/* Say first how many records are missing before this one. */
static bool
report_lost(unsigned long count)
{
    char line[PREFIX_MAX + 100];
    size_t n = put_prefix(line, PWS_LOG_WARNING);

    n += (size_t)snprintf(line + n, sizeof(line) - n,
                          "%lu records are missing here: the log could not be "
                          "written\n",
                          count);
    return pws_sink_write(&sink, line, n) == n;
}

static void
hand_over(const char *text, size_t len)
{
    unsigned long before = atomic_exchange(&lost, 0);

    if (before > 0 && !report_lost(before)) {
        atomic_fetch_add(&lost, before + 1);
    }
    else if (pws_sink_write(&sink, text, len) < len) {
        atomic_fetch_add(&lost, 1);
    }
}

/* Make a record in `line`, which has room for it. */
static void
write_record(char *line, pws_log_level level, pws_slice text, unsigned flags, bool cut)
{
    size_t n = put_prefix(line, level);

    n += pws_escape(line + n, PWS_ESCAPE_GROWTH * text.len, text, flags);
    if (cut) {
        memcpy(line + n, MORE, sizeof(MORE) - 1);
        n += sizeof(MORE) - 1;
    }
    line[n++] = '\n';
    hand_over(line, n);
}

__attribute__((format(printf, 2, 0))) static void
write_line(pws_log_level level, const char *format, va_list args)
{
    char text[TEXT_MAX + 1], line[LINE_ROOM];
    int saved = errno, made = vsnprintf(text, sizeof(text), format, args);

    if (made >= 0) {
        bool cut = (size_t)made > TEXT_MAX;

        write_record(line, level, (pws_slice){text, cut ? TEXT_MAX : (size_t)made},
                     PWS_KEEP_TABS, cut);
    }
    errno = saved;
}

void
pws_log(pws_log_level level, const char *format, ...)
{
    va_list args;

    if (is_wanted(level)) {
        va_start(args, format);
        write_line(level, format, args);
        va_end(args);
    }
}

void
pws_log_record(pws_log_level level, pws_slice text)
{
    bool cut = text.len > RECORD_MAX;
    char *line;
    int saved = errno;

    if (!is_wanted(level)) {
        return;
    }
    if (cut) {
        text.len = RECORD_MAX;
    }
    line = malloc(PREFIX_MAX + PWS_ESCAPE_GROWTH * text.len + sizeof(MORE));
    if (line == NULL) {
        atomic_fetch_add(&lost, 1);
    }
    else {
        write_record(line, level, text, PWS_KEEP_TABS | PWS_KEEP_LINES, cut);
        free(line);
    }
    errno = saved;
}

void
pws_log_text(pws_slice text)
{
    int saved = errno;

    hand_over(text.at, text.len);
    errno = saved;
}

/* Say what was left out of a kind. */
static void
report_left_out(pws_log_kind kind)
{
    static const struct {
        pws_log_level level;
        const char *name;
    } kinds[PWS_LOG_KINDS] = {
        [PWS_LOG_REFUSED] = {PWS_LOG_WARNING, "Invalid request"},
        [PWS_LOG_CUT] = {PWS_LOG_WARNING, "Request cut short"},
        [PWS_LOG_STORAGE] = {PWS_LOG_ERROR, "Cannot store a request body"},
        [PWS_LOG_LENGTH] = {PWS_LOG_ERROR, "The app's Content-Length"},
        [PWS_LOG_RESOURCES] = {PWS_LOG_ERROR, "Out of descriptors"},
        [PWS_LOG_QUEUED] = {PWS_LOG_WARNING, "Request queued for too long"},
        [PWS_LOG_UNLOGGED] = {PWS_LOG_ERROR, "Access log"},
    };
    unsigned long count = atomic_exchange(&limits[kind].left_out, 0);

    if (count > 0) {
        pws_log(kinds[kind].level, "%s: %lu similar line%s left out", kinds[kind].name,
                count, count == 1 ? "" : "s");
    }
}

/* Whether one more line of the kind may be written; counts it. */
static bool
take_turn(pws_log_kind kind)
{
    pws_clock clock;
    int64_t began_ms = atomic_load(&limits[kind].began_ms);

    pws_clock_read(&clock);
    if ((began_ms == 0 || clock.now_ms - began_ms >= PWS_LOG_WINDOW_MS) &&
        atomic_compare_exchange_strong(&limits[kind].began_ms, &began_ms,
                                       clock.now_ms)) {
        report_left_out(kind);
        atomic_store(&limits[kind].written, 0);
    }
    if (atomic_fetch_add(&limits[kind].written, 1) < PWS_LOG_BURST) {
        return true;
    }
    atomic_fetch_add(&limits[kind].left_out, 1);
    atomic_store(&any_left_out, true);
    return false;
}

void
pws_log_limited(pws_log_kind kind, pws_log_level level, const char *format, ...)
{
    va_list args;

    if (is_wanted(level) && take_turn(kind)) {
        va_start(args, format);
        write_line(level, format, args);
        va_end(args);
    }
}

int
pws_log_tick(int64_t now_ms)
{
    int64_t wait_ms = -1;

    if (!atomic_load_explicit(&any_left_out, memory_order_relaxed)) {
        return -1;
    }
    atomic_store(&any_left_out, false);
    for (int kind = 0; kind < PWS_LOG_KINDS; kind++) {
        int64_t left_ms =
            atomic_load(&limits[kind].began_ms) + PWS_LOG_WINDOW_MS - now_ms;

        if (atomic_load(&limits[kind].left_out) == 0) {
            continue;
        }
        if (left_ms <= 0) {
            atomic_store(&limits[kind].began_ms, 0);
            report_left_out((pws_log_kind)kind);
            continue;
        }
        atomic_store(&any_left_out, true);
        wait_ms = wait_ms < 0 || left_ms < wait_ms ? left_ms : wait_ms;
    }
    return (int)wait_ms;
}

void
pws_log_flush(void)
{
    for (int kind = 0; kind < PWS_LOG_KINDS; kind++) {
        report_left_out((pws_log_kind)kind);
    }
}
