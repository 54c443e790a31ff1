/* unlocked.h - for a CPython without the GIL (PEP 703).
 *
 * With the GIL, what runs no Python code is not disturbed. Without it, objects that
 * several threads of an app may use at a time are used in critical sections (C API,
 * 3.13), which cost nothing where there is the GIL. Not held over waits: whoever waits
 * for a lock lets others into his. */
#ifndef PWS_PY_UNLOCKED_H
#define PWS_PY_UNLOCKED_H

#include <Python.h>

#ifndef Py_BEGIN_CRITICAL_SECTION
#define Py_BEGIN_CRITICAL_SECTION(object) {
#define Py_END_CRITICAL_SECTION() }
#endif

/* A new reference to an item of a list or tuple; NULL with an IndexError: the list has
 * become shorter. */
static inline PyObject *
pws_item_of(PyObject *sequence, Py_ssize_t i)
{
#ifdef Py_GIL_DISABLED
    if (PyList_Check(sequence)) {
        return PyList_GetItemRef(sequence, i);
    }
#endif
    return Py_NewRef(PySequence_Fast_GET_ITEM(sequence, i));
}

/* A new reference to dict[key]; NULL, perhaps with an exception set: there is none. */
static inline PyObject *
pws_dict_item(PyObject *dict, PyObject *key)
{
#ifdef Py_GIL_DISABLED
    PyObject *value;

    return PyDict_GetItemRef(dict, key, &value) > 0 ? value : NULL;
#else
    return Py_XNewRef(PyDict_GetItemWithError(dict, key));
#endif
}

#endif
