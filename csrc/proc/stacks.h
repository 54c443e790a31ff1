/* stacks.h - Python stacks of other processes, asked for one after the other.
 *
 * A worker answers a signal by writing where its threads are to a pipe that all of them
 * share (faulthandler, which needs no GIL). Nobody can tell where an answer ends, nor
 * whose it is: so one process is asked at a time, and has answered when the pipe has
 * been quiet for a moment, or when its time is over. Nothing here waits. What comes is
 * not to be trusted, and its length is bounded. */
#ifndef PWS_PROC_STACKS_H
#define PWS_PROC_STACKS_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/slice.h"

/* The longest answer; what is beyond is left out. */
#define PWS_STACKS_MAX (64u * 1024)

typedef struct {
    int pipe[2];      /* workers have the write end */
    pid_t pid;        /* who is asked; 0: nobody */
    int64_t until_ms; /* when the answer is taken as it is */
    char *text;
    size_t len;
} pws_stacks;

/* What a process is asked with. */
int pws_stacks_signal(void);

/* Returns 0, or -1 with errno. */
int pws_stacks_open(pws_stacks *stacks);
void pws_stacks_close(pws_stacks *stacks);

/* In a forked child: keep the write end alone. */
void pws_stacks_forget(pws_stacks *stacks);

/* Ask a process that has a handler for it. Only while nobody is asked. Returns 0, or -1
 * when it does not exist, or without memory. */
int pws_stacks_ask(pws_stacks *stacks, pid_t pid, int64_t now_ms);

/* Read what has come; what comes unasked is thrown away. Returns whether the answer of
 * `pid` is complete: take it. */
bool pws_stacks_read(pws_stacks *stacks, int64_t now_ms);

/* The answer, which may be empty and is valid until the next question. Nobody is asked
 * then. */
pws_slice pws_stacks_take(pws_stacks *stacks);

/* When there is something to do even if nothing comes; PWS_NEVER. */
int64_t pws_stacks_due_ms(const pws_stacks *stacks);

#endif
