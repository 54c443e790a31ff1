/* open_listeners.h - how the listening sockets of a server come to be.
 *
 * They are opened as the settings say, or were opened by who has started this process.
 * With reuse_port there is one a worker slot for each TCP address; more are opened when
 * there are more slots. */
#ifndef PWS_PY_OPEN_LISTENERS_H
#define PWS_PY_OPEN_LISTENERS_H

#include "py/listeners.h"

/* Open what the settings say or, where there are any, adopt the inherited sockets: for
 * each its descriptor; path, device and inode of a file that is left to us, else None;
 * and what is spoken there. Returns 0, or -1 with an exception set. */
int pws_listeners_fill(pws_listeners *self, PyObject *config, PyObject *inherited);

/* Have sockets for so many slots. Returns 0, or -1 with a sentence in `why` and as many
 * slots as could be had. */
int pws_listeners_open(pws_listeners *self, unsigned slots, char *why, size_t why_room);

/* Have room for so many. Returns 0, or -1 without memory. */
int pws_listeners_reserve(pws_listeners *self, size_t room);

#endif
