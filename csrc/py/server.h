/* server.h - listeners, engine and executor as one Python object. */
#ifndef PWS_PY_SERVER_H
#define PWS_PY_SERVER_H

#include "py/module.h"

#include "py/environ_memo.h"
#include "py/hosted.h"
#include "py/listeners.h"
#include "py/settings.h"
#include "py/threads.h"

extern PyType_Spec pws_server_spec;

typedef struct {
    PyObject_HEAD
    pws_settings settings;
    pws_engine engine;
    bool engine_open;
    bool serving;
    bool in_greenlets;     /* between begin() and end(): the app runs there */
    bool left_behind;      /* some threads are, for good, with all of this */
    pws_hosted hosted;     /* between begin() and end(), where no threads serve */
    PyObject *app;         /* of that time, with threads too; else NULL */
    pws_threads *threads;  /* from prepare() to the end of serving; else NULL */
    PyObject *threads_app; /* what they run */
    pws_listeners *listeners;
    bool owns_listeners; /* nobody else closes them */
    PyObject *master;    /* NULL: there is none */
    pws_tie tie;
    PyObject *before_request, *after_request; /* NULL: no such hook */
    bool multiprocess;
    int wake_pipe[2]; /* read end, write end; -1: none */
    pws_orders orders;
    pws_environ_memos memos;
    int64_t graceful_ms;
    PyObject *log_exception;
    PyObject *errors; /* wsgi.errors */
    PyObject *software;
    PyObject *script_name;
} pws_server;

/* tp_new of the type (server_new.c): reads the settings, takes or opens the listeners,
 * and opens the engine. */
PyObject *pws_server_new(PyTypeObject *type, PyObject *args, PyObject *kwargs);

#endif
