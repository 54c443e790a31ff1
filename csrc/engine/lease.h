/* lease.h - who may touch the engine.
 *
 * The engine has no locks inside: whoever holds its lease owns all of it but the
 * exchanges that executors have in hand, and what is atomic. A holder that calls an app
 * lends the lease: until it takes it back, another thread (a pool thread, the relief
 * thread) may take it and poll. Taking waits without the GIL's help: never wait for a
 * lease while holding the GIL unless the other holder is sure not to need it.
 * Uncontended, each call is one atomic operation. */
#ifndef PWS_ENGINE_LEASE_H
#define PWS_ENGINE_LEASE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

typedef struct {
    _Atomic uint32_t word; /* 0: free, 1: held, 2: held and waited for */
} pws_lease;

void pws_lease_init(pws_lease *lease);

/* Take the lease, waiting for it if need be. */
void pws_lease_take(pws_lease *lease);

/* Take it if it is free or lent. Returns whether it was. */
bool pws_lease_try_take(pws_lease *lease);

/* Give it up, or lend it for the time of an app call. */
void pws_lease_drop(pws_lease *lease);

#endif
