/* listeners.h - the listening sockets of a server as one Python object.
 *
 * A master opens them once and keeps them; what it forks has copies of its own, which
 * an engine there closes when it drains. With reuse_port there is a socket a worker
 * slot for each TCP address; other sockets are for every slot. The sockets of a slot
 * are listed by address; all of them by address, then slot. */
#ifndef PWS_PY_LISTENERS_H
#define PWS_PY_LISTENERS_H

#include "py/module.h"

#include "engine/listener.h"

extern PyType_Spec pws_listeners_spec;

typedef struct {
    PyObject_HEAD
    pws_listener *items;
    unsigned count, room;
    unsigned addresses; /* sockets of one slot */
    unsigned slots;     /* 1 where nobody has sockets of his own */
    bool grows;         /* there can be more slots */
    bool asked;         /* for reuse_port; else it is our own idea */
    pws_listener_options options;
} pws_listeners;

/* Whether they listen at the same address, in different slots. */
static inline bool
pws_listeners_same(const pws_listener *a, const pws_listener *b)
{
    return pws_address_same(&a->address, &b->address);
}

/* The descriptors of a slot, in their order, or only those that are its own. `fds` has
 * room for self->addresses. Returns how many. */
unsigned pws_listeners_of(const pws_listeners *self, unsigned slot, bool own, int *fds);

/* In a worker: close the sockets of all other slots, and make room for those that a
 * sibling may leave. Returns 0, or -1 with an exception set. */
int pws_listeners_keep(pws_listeners *self, unsigned slot);

/* In a worker of a mold, which has kept nothing: the same, with copies of a slot's
 * sockets that somebody else has sent, in their order. */
int pws_listeners_adopt(pws_listeners *self, const int *fds);

#endif
