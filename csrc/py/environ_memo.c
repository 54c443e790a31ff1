#include "py/environ_memo.h"

void
pws_environ_memo_keep(pws_lane *lane, const pws_request *req, PyObject *environ)
{
    pws_environ_memo *memo = &lane->memos[req->lines_id % PWS_ENVIRON_MEMOS];
    PyObject *copy = PyDict_Copy(environ), *target = NULL;

    if (copy != NULL) {
        target = PyDict_GetItemWithError(copy, PWS_NAME(lane->module, RAW_URI));
    }
    if (target == NULL) {
        PyErr_Clear();
        Py_XDECREF(copy);
        return;
    }
    lane->memo_count += memo->environ == NULL;
    memo->id = req->lines_id;
    memo->https = req->https;
    memo->target = target;
    Py_XSETREF(memo->environ, copy);
}

void
pws_environ_memo_clear(pws_lane *lane)
{
    for (unsigned i = 0; i < PWS_ENVIRON_MEMOS; i++) {
        lane->memos[i].id = 0;
        Py_CLEAR(lane->memos[i].environ);
    }
    lane->memo_count = 0;
}
