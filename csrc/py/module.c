#include "py/module.h"

#include "base/forks.h"
#include "py/callable.h"
#include "py/client_socket.h"
#include "py/file_wrapper.h"
#include "py/input.h"
#include "py/listeners.h"
#include "py/log.h"
#include "py/master.h"
#include "py/process.h"
#include "py/server.h"

static struct PyModuleDef definition;

pws_module *
pws_module_of(PyObject *self)
{
    return (pws_module *)PyType_GetModuleState(Py_TYPE(self));
}

static int
make_names(pws_module *module)
{
    static const char *const texts[] = {
#define TEXT(id, text) text,
        PWS_NAMES(TEXT)
#undef TEXT
    };

    for (size_t i = 0; i < PWS_N_COUNT; i++) {
        module->names[i] = PyUnicode_InternFromString(texts[i]);
        if (module->names[i] == NULL) {
            return -1;
        }
    }
    return 0;
}

static int
make_field_keys(pws_module *module)
{
    for (int i = 0; i < PWS_FIELD_UNKNOWN; i++) {
        PyObject *key =
            PyUnicode_FromFormat("HTTP_%s", pws_field_name((pws_field_id)i));

        if (key == NULL) {
            return -1;
        }
        PyUnicode_InternInPlace(&key);
        module->field_keys[i] = key;
    }
    return 0;
}

static int
import_types(pws_module *module)
{
    static const char *const names[] = {"FileIO", "BufferedReader", "BufferedRandom"};
    PyObject *io = PyImport_ImportModule("io"), *native = NULL;
    int rc = -1;

    if (io == NULL) {
        return -1;
    }
    for (int i = 0; i < 3; i++) {
        module->plain_files[i] = PyObject_GetAttrString(io, names[i]);
        if (module->plain_files[i] == NULL) {
            goto done;
        }
    }
    module->socket_module = PyImport_ImportModule("socket");
    native = PyImport_ImportModule("_socket");
    if (module->socket_module == NULL || native == NULL) {
        goto done;
    }
    module->plain_socket = PyObject_GetAttrString(native, "socket");
    rc = module->plain_socket != NULL ? 0 : -1;
done:
    Py_DECREF(io);
    Py_XDECREF(native);
    return rc;
}

static int
make_type(PyObject *self, PyType_Spec *spec, PyTypeObject **type)
{
    *type = (PyTypeObject *)PyType_FromModuleAndSpec(self, spec, NULL);
    return *type != NULL ? 0 : -1;
}

static int
execute(PyObject *self)
{
    pws_module *module = PyModule_GetState(self);

    pws_forks_watch();
    if (make_names(module) < 0 || make_field_keys(module) < 0 ||
        import_types(module) < 0 ||
        make_type(self, &pws_request_callable_spec, &module->request_callable_type) <
            0 ||
        make_type(self, &pws_input_spec, &module->input_type) < 0 ||
        make_type(self, &pws_file_wrapper_spec, &module->file_wrapper_type) < 0 ||
        make_type(self, &pws_client_socket_spec, &module->client_socket_type) < 0 ||
        make_type(self, &pws_listeners_spec, &module->listeners_type) < 0 ||
        make_type(self, &pws_server_spec, &module->server_type) < 0 ||
        make_type(self, &pws_master_spec, &module->master_type) < 0 ||
        make_type(self, &pws_pidfile_spec, &module->pidfile_type) < 0) {
        return -1;
    }
    if (PyModule_AddType(self, module->file_wrapper_type) < 0 ||
        PyModule_AddType(self, module->listeners_type) < 0 ||
        PyModule_AddType(self, module->server_type) < 0 ||
        PyModule_AddType(self, module->master_type) < 0) {
        return -1;
    }
    if (PyModule_AddType(self, module->pidfile_type) < 0) {
        return -1;
    }
    if (PyModule_AddIntConstant(self, "PLACES", PWS_BOARD_CELLS) < 0 ||
        PyModule_AddIntConstant(self, "HANDS", PWS_BOARD_HANDS) < 0 ||
        PyModule_AddIntConstant(self, "STACKS_SIGNAL", pws_stacks_signal()) < 0) {
        return -1;
    }
    return PyModule_AddFunctions(self, pws_log_methods);
}

static int
traverse(PyObject *self, visitproc visit, void *arg)
{
    pws_module *module = PyModule_GetState(self);

    for (int i = 0; i < 3; i++) {
        Py_VISIT(module->plain_files[i]);
    }
    Py_VISIT(module->socket_module);
    Py_VISIT(module->plain_socket);
    Py_VISIT(module->request_callable_type);
    Py_VISIT(module->input_type);
    Py_VISIT(module->file_wrapper_type);
    Py_VISIT(module->client_socket_type);
    Py_VISIT(module->listeners_type);
    Py_VISIT(module->server_type);
    Py_VISIT(module->master_type);
    Py_VISIT(module->pidfile_type);
    return 0;
}

static int
clear(PyObject *self)
{
    pws_module *module = PyModule_GetState(self);

    for (size_t i = 0; i < PWS_N_COUNT; i++) {
        Py_CLEAR(module->names[i]);
    }
    for (int i = 0; i < PWS_FIELD_UNKNOWN; i++) {
        Py_CLEAR(module->field_keys[i]);
    }
    for (int i = 0; i < 3; i++) {
        Py_CLEAR(module->plain_files[i]);
    }
    Py_CLEAR(module->socket_module);
    Py_CLEAR(module->plain_socket);
    Py_CLEAR(module->request_callable_type);
    Py_CLEAR(module->input_type);
    Py_CLEAR(module->file_wrapper_type);
    Py_CLEAR(module->client_socket_type);
    Py_CLEAR(module->listeners_type);
    Py_CLEAR(module->server_type);
    Py_CLEAR(module->master_type);
    Py_CLEAR(module->pidfile_type);
    return 0;
}

static void
release(void *self)
{
    (void)clear((PyObject *)self);
}

static PyModuleDef_Slot slots[] = {
    {Py_mod_exec, execute},
    {0, NULL},
};

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT,
    .m_name = "pywsgiserve._core",
    .m_doc = "The native core of pywsgiserve.",
    .m_size = sizeof(pws_module),
    .m_methods = pws_process_methods,
    .m_slots = slots,
    .m_traverse = traverse,
    .m_clear = clear,
    .m_free = release,
};

PyMODINIT_FUNC PyInit__core(void);

PyMODINIT_FUNC
PyInit__core(void)
{
    return PyModuleDef_Init(&definition);
}
