#include "base/log.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define TEXT_MAX 4000

static _Atomic int log_fd = 2;
static _Atomic int log_level = PWS_LOG_INFO;

void
pws_log_open(int fd, pws_log_level level)
{
    atomic_store(&log_fd, fd);
    atomic_store(&log_level, (int)level);
}

/* Copy `text` to `dst`, at most `room` bytes, with control bytes as \xHH. Tabs stay. */
static size_t
escape(char *dst, size_t room, const char *text, size_t len)
{
    static const char hex[] = "0123456789abcdef";
    size_t n = 0;

    for (size_t i = 0; i < len && n + 4 <= room; i++) {
        unsigned char c = (unsigned char)text[i];

        if ((c < 0x20 && c != '\t') || c == 0x7f) {
            dst[n++] = '\\';
            dst[n++] = 'x';
            dst[n++] = hex[c >> 4];
            dst[n++] = hex[c & 15];
        }
        else {
            dst[n++] = (char)c;
        }
    }
    return n;
}

static size_t
prefix(char *dst, size_t room, pws_log_level level)
{
    static const char *const names[] = {"DEBUG", "INFO", "WARNING", "ERROR",
                                        "CRITICAL"};
    time_t now = time(NULL);
    struct tm tm;
    size_t n;
    int more;

    memset(&tm, 0, sizeof(tm));
    localtime_r(&now, &tm);
    n = strftime(dst, room, "[%Y-%m-%d %H:%M:%S %z]", &tm);
    more = snprintf(dst + n, room - n, " [%ld] [%s] ", (long)getpid(), names[level]);
    return n + (size_t)more;
}

void
pws_log(pws_log_level level, const char *format, ...)
{
    char text[TEXT_MAX + 1];
    char line[128 + 4 * TEXT_MAX + 5];
    size_t n, text_len;
    va_list args;
    int saved = errno, made;

    if ((int)level < atomic_load_explicit(&log_level, memory_order_relaxed)) {
        return;
    }
    va_start(args, format);
    made = vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    if (made < 0) {
        return;
    }
    text_len = (size_t)made < TEXT_MAX ? (size_t)made : TEXT_MAX;
    n = prefix(line, 128, level);
    n += escape(line + n, 4 * TEXT_MAX, text, text_len);
    if ((size_t)made > TEXT_MAX) {
        memcpy(line + n, "...", 3);
        n += 3;
    }
    line[n++] = '\n';
    while (write(atomic_load(&log_fd), line, n) < 0 && errno == EINTR) {
    }
    errno = saved;
}
