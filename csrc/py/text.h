/* text.h - bytes of requests as Python strings (PEP 3333: Latin-1). */
#ifndef PWS_PY_TEXT_H
#define PWS_PY_TEXT_H

#include "py/lane.h"

/* Bytes as a str of the same code points. A new reference. */
PyObject *pws_text_new(pws_module *module, pws_slice s);

/* Whether a str of one byte a character, as those below, is these bytes. */
static inline bool
pws_text_is(PyObject *text, pws_slice s)
{
    return (size_t)PyUnicode_GET_LENGTH(text) == s.len &&
           memcmp(PyUnicode_1BYTE_DATA(text), s.at, s.len) == 0;
}

/* The value of a field. Values that many clients send and that are nobody's secret are
 * not made anew as long as the last one of that field comes again. A new reference. */
PyObject *pws_text_of_field(pws_lane *lane, pws_field_id id, pws_slice value);

/* A number in decimal digits. A new reference. */
PyObject *pws_text_of_number(unsigned n);

/* Set env[key], taking `value`; NULL is passed on as a failure. Returns 0 or -1 with an
 * exception set. */
int pws_text_set_taken(PyObject *env, PyObject *key, PyObject *value);

/* Set env[key] to these bytes. Returns 0 or -1 with an exception set. */
int pws_text_set(pws_lane *lane, PyObject *env, PyObject *key, pws_slice s);

#endif
