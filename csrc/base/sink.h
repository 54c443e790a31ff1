/* sink.h - a descriptor that lines are written to, and that never holds up the server.
 *
 * It may be a file, a pipe that nobody empties, a stopped terminal, a socket or closed.
 * A sink has a descriptor of its own, above 2, so that nothing that the app closes or
 * opens gets in between; flags of descriptors that are shared with other programs
 * (O_NONBLOCK) are left alone, SIGPIPE is never raised. Safe from every thread; records
 * of several threads and processes do not mix as long as they are files, or shorter
 * than PIPE_BUF. */
#ifndef PWS_BASE_SINK_H
#define PWS_BASE_SINK_H

#include <stdatomic.h>
#include <stdbool.h>

#include "base/slice.h"

typedef struct {
    _Atomic int fd;     /* -1: none */
    _Atomic int way;    /* how it is written to: see sink.c */
    _Atomic bool own;   /* the descriptor is the sink's */
    _Atomic bool stuck; /* the last write found it full, and waited in vain */
    _Atomic bool torn;  /* what was written last ends within a line */
} pws_sink;

/* A sink on a descriptor that is not its own. */
#define PWS_SINK_ON(number)                                                            \
    {                                                                                  \
        .fd = (number)                                                                 \
    }

/* Go on with a duplicate of `fd` (borrowed), in one step for who writes meanwhile.
 * Returns 0, or -1 with errno: the sink is as it was. */
int pws_sink_open(pws_sink *sink, int fd);

/* Close its own descriptor; nothing can be written after that. */
void pws_sink_close(pws_sink *sink);

/* Write lines. Returns how many bytes were written: `len`, or fewer when it cannot be
 * written to now (what is left is the caller's to keep or to drop). A full one is
 * waited for, PWS_SINK_PATIENCE_MS in all, and if that was in vain not again before all
 * of a write has gone through. Leaves errno. */
size_t pws_sink_write(pws_sink *sink, const char *lines, size_t len);

#define PWS_SINK_PATIENCE_MS 100

/* Begin the next write on a new line, where a file ends within one: somebody died while
 * writing it. */
void pws_sink_begin_line(pws_sink *sink);

#endif
