/* settings.h - from a Python settings object to the engine's configuration.
 *
 * The Python side has validated; what reaches us out of range is an error all the same.
 */
#ifndef PWS_PY_SETTINGS_H
#define PWS_PY_SETTINGS_H

#include "py/module.h"

#include "engine/engine.h"

typedef struct {
    pws_engine_config engine;
    bool sendfile;
    uint32_t threads; /* 1: none but the one that serves */
    PyObject *keep;   /* owns the strings that `engine` borrows */
    pws_slice *forwarder_fields;
    pws_scheme_field *scheme_fields;
    pws_network *trusted, *admitted;
    Py_buffer log_memory; /* of the access log's lines; obj NULL: it has its own */
} pws_settings;

/* Read the attributes of `config`. Returns 0 or -1 with an exception set; either way
 * end with pws_settings_clear. */
int pws_settings_read(pws_settings *settings, PyObject *config);
void pws_settings_clear(pws_settings *settings);

#endif
