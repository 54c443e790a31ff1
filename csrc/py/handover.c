#include "py/handover.h"

#include <limits.h>
#include <linux/futex.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"

/* Who waits for less than that is not worth a switch. */
#define LONG_NS (200 * 1000)

/* Whoever has taken the GIL instead has it no longer than that at a time. */
#define PATIENCE_NS (5 * 1000 * 1000)

void
pws_handover_want(pws_handover *handover)
{
    if (atomic_fetch_add(&handover->wanting, 1) == 0) {
        atomic_store(&handover->since_ns, pws_clock_ns());
    }
}

void
pws_handover_enter(pws_handover *handover)
{
    atomic_fetch_sub(&handover->wanting, 1);
    atomic_fetch_add(&handover->entered, 1);
    if (atomic_load(&handover->giving) > 0) {
        syscall(SYS_futex, (void *)&handover->entered, FUTEX_WAKE | FUTEX_PRIVATE_FLAG,
                INT_MAX, NULL, NULL, 0);
    }
}

void
pws_handover_give(pws_handover *handover, int64_t now_ns)
{
    const struct timespec patience = {0, PATIENCE_NS};
    uint32_t seen;

    if (atomic_load_explicit(&handover->wanting, memory_order_relaxed) == 0 ||
        now_ns - atomic_load(&handover->since_ns) < LONG_NS) {
        return;
    }
    atomic_fetch_add(&handover->giving, 1);
    seen = atomic_load(&handover->entered);
    if (atomic_load(&handover->wanting) > 0) {
        Py_BEGIN_ALLOW_THREADS
        syscall(SYS_futex, (void *)&handover->entered, FUTEX_WAIT | FUTEX_PRIVATE_FLAG,
                seen, &patience, NULL, 0);
        pws_handover_want(handover);
        Py_END_ALLOW_THREADS
        pws_handover_enter(handover);
    }
    atomic_fetch_sub(&handover->giving, 1);
}
