#include "py/greenlet_api.h"

#include <stdlib.h>
#include <string.h>

#define CAPSULE "greenlet._C_API"

/* From this version on a greenlet has contextvars of its own. */
#define OLDEST_MAJOR 1

/* Places in the table. */
enum {
    TYPE = 0,
    EXIT_TYPE = 2,
    CURRENT = 4,
    THROW = 5,
    SWITCH = 6,
};

/* A function pointer from a table of object pointers, as dlsym() has it. */
#define SET(function, entry) memcpy(&(function), &(entry), sizeof(function))

/* Returns 0 or -1 with an exception. */
static int
check_version(PyObject *module)
{
    PyObject *version = PyObject_GetAttrString(module, "__version__");
    const char *text = version != NULL ? PyUnicode_AsUTF8(version) : NULL;
    int rc = -1;

    if (text != NULL && strtol(text, NULL, 10) >= OLDEST_MAJOR) {
        rc = 0;
    }
    else if (text != NULL) {
        PyErr_Format(PyExc_ImportError,
                     "greenlet %s is too old: %d.0 or newer is needed", text,
                     OLDEST_MAJOR);
    }
    Py_XDECREF(version);
    return rc;
}

int
pws_greenlet_api_load(pws_greenlet_api *api)
{
    PyObject *module = PyImport_ImportModule("greenlet");
    void **table;
    int rc;

    if (module == NULL) {
        return -1;
    }
    rc = check_version(module);
    Py_DECREF(module); /* it stays imported */
    if (rc < 0) {
        return -1;
    }
    table = PyCapsule_Import(CAPSULE, 0);
    if (table == NULL) {
        return -1;
    }
    api->type = table[TYPE];
    api->exit_type = table[EXIT_TYPE];
    SET(api->current, table[CURRENT]);
    SET(api->throw_into, table[THROW]);
    SET(api->switch_to, table[SWITCH]);
    if (api->type == NULL || api->exit_type == NULL || api->current == NULL ||
        api->throw_into == NULL || api->switch_to == NULL ||
        !PyType_Check((PyObject *)api->type)) {
        PyErr_SetString(PyExc_ImportError, "greenlet: its table of C functions is not "
                                           "as it has always been");
        return -1;
    }
    return 0;
}
