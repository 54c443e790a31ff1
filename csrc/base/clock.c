#include "base/clock.h"

#include <string.h>
#include <time.h>

int64_t
pws_clock_now_ms(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC_COARSE, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

void
pws_clock_read(pws_clock *clock)
{
    struct timespec t;

    clock->now_ms = pws_clock_now_ms();
    clock_gettime(CLOCK_REALTIME_COARSE, &t);
    clock->wall_s = (int64_t)t.tv_sec;
}

int64_t
pws_clock_ns(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static void
two_digits(char *dst, int value)
{
    dst[0] = (char)('0' + value / 10 % 10);
    dst[1] = (char)('0' + value % 10);
}

void
pws_http_date(char *dst, int64_t wall_s)
{
    static const char days[] = "SunMonTueWedThuFriSat";
    static const char months[] = "JanFebMarAprMayJunJulAugSepOctNovDec";
    time_t t = (time_t)wall_s;
    struct tm tm;

    memset(&tm, 0, sizeof(tm));
    gmtime_r(&t, &tm);
    memcpy(dst, "Sun, 00 Jan 0000 00:00:00 GMT", PWS_HTTP_DATE_LEN);
    memcpy(dst, days + 3 * tm.tm_wday, 3);
    two_digits(dst + 5, tm.tm_mday);
    memcpy(dst + 8, months + 3 * tm.tm_mon, 3);
    two_digits(dst + 12, (tm.tm_year + 1900) / 100);
    two_digits(dst + 14, (tm.tm_year + 1900) % 100);
    two_digits(dst + 17, tm.tm_hour);
    two_digits(dst + 20, tm.tm_min);
    two_digits(dst + 23, tm.tm_sec);
}
