/* fail.h - how the programs of this folder end when they cannot go on. */
#ifndef PWS_BENCH_FAIL_H
#define PWS_BENCH_FAIL_H

#include <stdio.h>
#include <stdlib.h>

/* A call of the system has failed: say which, and why. */
static inline void
die(const char *what)
{
    perror(what);
    exit(1);
}

/* Nothing has failed, but it is not what was asked for. */
static inline void
refuse(const char *what)
{
    fprintf(stderr, "%s\n", what);
    exit(1);
}

#endif
