#include "base/forks.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <unistd.h>

static atomic_bool forked = true; /* or nobody has looked */
static atomic_uint closing;       /* threads that rely on it that none has */

static void
before_fork(void)
{
    atomic_store(&forked, true);
    while (atomic_load(&closing) > 0) {
        sched_yield();
    }
}

/* What the parent has open is the parent's (pws_engine_abandon), and so are its other
 * threads, which may have been at the look. */
static void
begin_child(void)
{
    atomic_store(&closing, 0);
    atomic_store(&forked, false);
}

void
pws_forks_watch(void)
{
    static bool watched;

    if (!watched && pthread_atfork(before_fork, NULL, begin_child) == 0) {
        watched = true;
        atomic_store(&forked, false);
    }
}

bool
pws_forks_close(int fd)
{
    bool alone;

    atomic_fetch_add(&closing, 1);
    alone = !atomic_load(&forked);
    if (alone) {
        close(fd);
    }
    atomic_fetch_sub(&closing, 1);
    return alone;
}
