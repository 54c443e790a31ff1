/* escape.h - bytes from outside, made safe for a line of a log.
 *
 * What could forge a line or drive a terminal becomes \xHH: C0 controls, DEL, C1
 * controls (U+0080 to U+009F), and bytes that are not UTF-8, so that the result always
 * is. All other text stays as it is. Pure; no state. */
#ifndef PWS_BASE_ESCAPE_H
#define PWS_BASE_ESCAPE_H

#include "base/slice.h"

/* What stays all the same, and what is escaped too. */
enum {
    PWS_KEEP_TABS = 1,
    PWS_KEEP_LINES = 2,    /* newlines: of a text of many lines */
    PWS_ESCAPE_QUOTES = 4, /* '"' and '\': of a value between quotes */
};

/* The most bytes that one byte becomes. */
#define PWS_ESCAPE_GROWTH 4

/* Write `text` to `dst`, at most `room` bytes; what has no room is left out, in whole
 * characters. Returns the bytes written. */
size_t pws_escape(char *dst, size_t room, pws_slice text, unsigned flags);

#endif
