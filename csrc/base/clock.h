/* clock.h - the time of one turn of the loop.
 *
 * Reading the clock costs little, but not nothing: a loop reads it once a turn and
 * works with that reading. `now_ms` never goes back; `wall_s` is what the calendar
 * says. */
#ifndef PWS_BASE_CLOCK_H
#define PWS_BASE_CLOCK_H

#include <stdint.h>

/* A deadline that never comes. */
#define PWS_NEVER INT64_MAX

typedef struct {
    int64_t now_ms; /* monotonic milliseconds, coarse (a few ms) */
    int64_t wall_s; /* seconds since 1970 */
} pws_clock;

/* Read both clocks. Cannot fail. */
void pws_clock_read(pws_clock *clock);

/* The first of them alone. */
int64_t pws_clock_now_ms(void);

/* Monotonic nanoseconds, exact: for what is shorter than the coarse clock can tell. */
int64_t pws_clock_ns(void);

/* Length of a date as RFC 9110 5.6.7 has it (IMF-fixdate), without NUL. */
#define PWS_HTTP_DATE_LEN 29

/* Write the IMF-fixdate of `wall_s` (for example "Sun, 06 Nov 1994 08:49:37 GMT") to
 * `dst`, PWS_HTTP_DATE_LEN bytes without a NUL. Knows years 1970 to 9999. */
void pws_http_date(char *dst, int64_t wall_s);

#endif
