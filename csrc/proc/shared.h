/* shared.h - anonymous memory that a process shares with those it forks.
 *
 * Address space is taken at once and memory when it is first touched, so a roomy table
 * costs nothing. Everything the workers share is mapped here, by the master, before it
 * forks. */
#ifndef PWS_PROC_SHARED_H
#define PWS_PROC_SHARED_H

#include <stddef.h>

/* Zeroed memory, to be given back with pws_shared_free; NULL with errno. */
void *pws_shared_new(size_t size);

/* This process' share only; the others keep theirs. NULL is fine. */
void pws_shared_free(void *memory, size_t size);

#endif
