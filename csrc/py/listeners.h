/* listeners.h - the listening sockets of a server as one Python object.
 *
 * A master opens them once and keeps them; what it forks has copies of its own, which
 * an engine there closes when it drains. */
#ifndef PWS_PY_LISTENERS_H
#define PWS_PY_LISTENERS_H

#include "py/module.h"

#include "engine/listener.h"

extern PyType_Spec pws_listeners_spec;

typedef struct {
    PyObject_HEAD
    pws_listener *items;
    unsigned count;
} pws_listeners;

/* Take copies of the same sockets, which somebody else has sent, in their order. */
void pws_listeners_adopt(pws_listeners *self, const int *fds);

#endif
