#include "engine/lease.h"

#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>

enum {
    FREE,
    HELD,
    WAITED_FOR,
};

static void
futex(_Atomic uint32_t *word, int operation, uint32_t value)
{
    syscall(SYS_futex, (void *)word, operation | FUTEX_PRIVATE_FLAG, value, NULL, NULL,
            0);
}

void
pws_lease_init(pws_lease *lease)
{
    atomic_init(&lease->word, FREE);
}

bool
pws_lease_try_take(pws_lease *lease)
{
    uint32_t expected = FREE;

    return atomic_compare_exchange_strong_explicit(
        &lease->word, &expected, HELD, memory_order_acquire, memory_order_relaxed);
}

void
pws_lease_take(pws_lease *lease)
{
    if (pws_lease_try_take(lease)) {
        return;
    }
    while (atomic_exchange_explicit(&lease->word, WAITED_FOR, memory_order_acquire) !=
           FREE) {
        futex(&lease->word, FUTEX_WAIT, WAITED_FOR);
    }
}

void
pws_lease_drop(pws_lease *lease)
{
    if (atomic_exchange_explicit(&lease->word, FREE, memory_order_release) ==
        WAITED_FOR) {
        futex(&lease->word, FUTEX_WAKE, 1);
    }
}
