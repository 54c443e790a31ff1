/* body_bytes.h - blocks for bodies, made of bytes objects.
 *
 * The app that reads a whole body gets the object that the engine has received it into,
 * and a new one takes its place. Blocks come into being when such a body had to be
 * copied. All calls want the GIL, or an attached thread state. */
#ifndef PWS_PY_BODY_BYTES_H
#define PWS_PY_BODY_BYTES_H

#include <Python.h>

#include "engine/engine.h"

/* Whether reading `n` bytes takes all of a body that is worth a block. */
bool pws_body_bytes_would_do(const pws_body *body, Py_ssize_t n);

/* Take all of the body. A new reference; NULL: it has to be copied, or, with an
 * exception, memory is short and the body gone. */
PyObject *pws_body_bytes_take(pws_exchange *x);

/* All of the body had to be copied. If there was no block for it: have one more, of its
 * size, if there may be more; else in the place of one that does not suit. */
void pws_body_bytes_want(const pws_exchange *x);

/* Free all blocks of an engine that is closed. */
void pws_body_bytes_drop(pws_body_blocks *blocks);

#endif
