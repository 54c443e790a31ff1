/* field_line.h - a header field line that is as it should be, read in one pass.
 *
 * A short cut past most lines of most heads, by vectors of 16 bytes. It takes a line
 * only when that is whole and beyond doubt, and then makes of it exactly what
 * http1.c makes byte by byte; all others are left as they were, for http1.c to judge.
 * Without SSE2, or with PWS_PORTABLE, it takes none. */
#ifndef PWS_PROTO_FIELD_LINE_H
#define PWS_PROTO_FIELD_LINE_H

#include "proto/request.h"

/* What may be looked at: the line begins at `at`, and counts only when it and its CRLF
 * end within `bound`. */
typedef struct {
    uint32_t at;
    uint32_t bound;
} pws_line_start;

/* Read the line into `field`, its name turned into CGI spelling in the buffer. Returns
 * where the next line begins, or 0: the line was not taken. */
uint32_t pws_field_line_read(char *base, pws_line_start start, pws_field *field);

#endif
