/* text.h - bytes of requests as Python strings (PEP 3333: Latin-1). */
#ifndef PWS_PY_TEXT_H
#define PWS_PY_TEXT_H

#include "py/lane.h"

/* Bytes as a str of the same code points. A new reference. */
PyObject *pws_text_new(pws_module *module, pws_slice s);

/* The value of a field. Values that many clients send and that are nobody's secret are
 * not made anew as long as the last one of that field comes again. A new reference. */
PyObject *pws_text_of_field(pws_lane *lane, pws_field_id id, pws_slice value);

/* A number in decimal digits. A new reference. */
PyObject *pws_text_of_number(unsigned n);

#endif
