/* handover.h - threads that share the GIL take turns, request by request.
 *
 * CPython takes the GIL from who computes after 5 ms, in the middle of whatever he
 * does, and a thread that lets go of it for a moment mostly has it back before another
 * one is awake. So a thread of a crew that has had it for long, and is done with its
 * request, waits until one that wants it has it. */
#ifndef PWS_PY_HANDOVER_H
#define PWS_PY_HANDOVER_H

#include <Python.h>
#include <stdatomic.h>
#include <stdint.h>

typedef struct {
    _Atomic uint32_t wanting; /* threads that wait for the GIL */
    _Atomic int64_t since_ns; /* when the first of them began to */
    _Atomic uint32_t entered; /* futex: changes when one of them has it */
    _Atomic uint32_t giving;  /* threads that wait for that */
} pws_handover;

/* Around the end of Py_BEGIN_ALLOW_THREADS: the GIL is wanted now, and here it is. */
void pws_handover_want(pws_handover *handover);
void pws_handover_enter(pws_handover *handover);

/* With the GIL, between two requests, the last of which has ended at `now_ns`: let one
 * that has waited for long go first. */
void pws_handover_give(pws_handover *handover, int64_t now_ns);

#endif
