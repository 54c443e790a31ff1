/* module.h - the extension module and what its parts share.
 *
 * All Python objects that live as long as the module are here; there are no globals. */
#ifndef PWS_PY_MODULE_H
#define PWS_PY_MODULE_H

#include <Python.h>

#include "proto/fields.h"

/* Names and values that every request uses, interned once. */
#define PWS_NAMES(X)                                                                   \
    X(CONTENT_LENGTH, "CONTENT_LENGTH")                                                \
    X(CONTENT_TYPE, "CONTENT_TYPE")                                                    \
    X(HTTP_HOST, "HTTP_HOST")                                                          \
    X(PATH_INFO, "PATH_INFO")                                                          \
    X(QUERY_STRING, "QUERY_STRING")                                                    \
    X(RAW_URI, "RAW_URI")                                                              \
    X(REMOTE_ADDR, "REMOTE_ADDR")                                                      \
    X(REMOTE_PORT, "REMOTE_PORT")                                                      \
    X(REQUEST_METHOD, "REQUEST_METHOD")                                                \
    X(REQUEST_URI, "REQUEST_URI")                                                      \
    X(SCRIPT_NAME, "SCRIPT_NAME")                                                      \
    X(SERVER_NAME, "SERVER_NAME")                                                      \
    X(SERVER_PORT, "SERVER_PORT")                                                      \
    X(SERVER_PROTOCOL, "SERVER_PROTOCOL")                                              \
    X(SERVER_SOFTWARE, "SERVER_SOFTWARE")                                              \
    X(gunicorn_socket, "gunicorn.socket")                                              \
    X(wsgi_early_hints, "wsgi.early_hints")                                            \
    X(wsgi_errors, "wsgi.errors")                                                      \
    X(wsgi_file_wrapper, "wsgi.file_wrapper")                                          \
    X(wsgi_input, "wsgi.input")                                                        \
    X(wsgi_input_terminated, "wsgi.input_terminated")                                  \
    X(wsgi_multiprocess, "wsgi.multiprocess")                                          \
    X(wsgi_multithread, "wsgi.multithread")                                            \
    X(wsgi_run_once, "wsgi.run_once")                                                  \
    X(wsgi_url_scheme, "wsgi.url_scheme")                                              \
    X(wsgi_version, "wsgi.version")                                                    \
    X(empty, "")                                                                       \
    X(http, "http")                                                                    \
    X(https, "https")                                                                  \
    X(http_1_0, "HTTP/1.0")                                                            \
    X(http_1_1, "HTTP/1.1")                                                            \
    X(GET, "GET")                                                                      \
    X(HEAD, "HEAD")                                                                    \
    X(POST, "POST")                                                                    \
    X(PUT, "PUT")                                                                      \
    X(PATCH, "PATCH")                                                                  \
    X(DELETE, "DELETE")                                                                \
    X(OPTIONS, "OPTIONS")                                                              \
    X(close, "close")                                                                  \
    X(file, "file")                                                                    \
    X(fileno, "fileno")                                                                \
    X(read, "read")                                                                    \
    X(socket, "socket")                                                                \
    X(tell, "tell")

typedef enum {
#define PWS_NAME_ID(id, text) PWS_N_##id,
    PWS_NAMES(PWS_NAME_ID)
#undef PWS_NAME_ID
        PWS_N_COUNT,
} pws_name_id;

typedef struct {
    PyObject *names[PWS_N_COUNT];
    PyObject *field_keys[PWS_FIELD_UNKNOWN]; /* "HTTP_..." of known fields */
    PyObject *plain_files[3]; /* io.FileIO, io.BufferedReader, io.BufferedRandom */
    PyObject *socket_module;  /* socket */
    PyObject *plain_socket;   /* _socket.socket, which nobody patches */
    PyTypeObject *request_callable_type;
    PyTypeObject *input_type;
    PyTypeObject *file_wrapper_type;
    PyTypeObject *client_socket_type;
    PyTypeObject *listeners_type;
    PyTypeObject *server_type;
    PyTypeObject *master_type;
    PyTypeObject *pidfile_type;
} pws_module;

/* A borrowed interned name. */
#define PWS_NAME(module, id) ((module)->names[PWS_N_##id])

/* The state of the module that defined the type of `self`. Borrowed; cannot fail for
 * our own types. */
pws_module *pws_module_of(PyObject *self);

#endif
