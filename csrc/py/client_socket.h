/* client_socket.h - gunicorn.socket: the client's socket, made when first asked for.
 *
 * Until then it is an empty shell, which has the names of socket.socket as that is when
 * it is asked: gevent and eventlet put sockets that let others run there. Asking for an
 * attribute that does something takes the connection out of the engine for good; the
 * socket is closed when the request ends. What the engine has read beyond the request
 * is lost: no socket can be given it back. */
#ifndef PWS_PY_CLIENT_SOCKET_H
#define PWS_PY_CLIENT_SOCKET_H

#include "py/lane.h"

extern PyType_Spec pws_client_socket_spec;

/* A new reference, attached to nothing. */
PyObject *pws_client_socket_new(pws_module *module);

/* Attach to a lane, or detach with NULL. */
void pws_client_socket_attach(PyObject *self, pws_lane *lane);

/* Close the socket that was made, if one was. Runs Python code. Returns 0 or -1 with an
 * exception set. */
int pws_client_socket_close(PyObject *self);

#endif
