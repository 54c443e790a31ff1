#include "py/environ_memo.h"

static void
drop(pws_environ_memo *memo)
{
    if (memo->environ != NULL) {
        if (pws_environ_memo_is_of(memo, memo->lane)) {
            memo->lane->memo_count--;
        }
        memo->lane = NULL;
        memo->id = 0;
        Py_CLEAR(memo->environ); /* what ends with it runs no code of the app's */
    }
}

void
pws_environ_memo_keep(pws_lane *lane, const pws_request *req, PyObject *env)
{
    pws_environ_memo *memo = &lane->memos->places[req->lines_id % PWS_MEMO_PLACES];
    PyObject *copy = PyDict_Copy(env);
    pws_environ_memo made = {.id = req->lines_id,
                             .environ = copy,
                             .lane = lane,
                             .input = lane->input,
                             .https = req->https};

    if (copy != NULL) {
        made.target = PyDict_GetItemWithError(copy, PWS_NAME(lane->module, RAW_URI));
        made.path = PyDict_GetItemWithError(copy, PWS_NAME(lane->module, PATH_INFO));
        made.query =
            PyDict_GetItemWithError(copy, PWS_NAME(lane->module, QUERY_STRING));
    }
    if (made.target == NULL || made.path == NULL || made.query == NULL) {
        PyErr_Clear();
        Py_XDECREF(copy);
        return;
    }
    drop(memo);
    *memo = made;
    lane->memo_count++;
}

void
pws_environ_memos_forget(pws_lane *lane)
{
    pws_environ_memos *memos = lane->memos;

    for (unsigned i = 0; i < PWS_MEMO_PLACES; i++) {
        if (memos->places[i].lane == lane) {
            drop(&memos->places[i]);
        }
    }
}

void
pws_environ_memos_clear(pws_environ_memos *memos)
{
    for (unsigned i = 0; i < PWS_MEMO_PLACES; i++) {
        Py_CLEAR(memos->places[i].environ);
    }
    for (unsigned i = 0; i < PWS_FIELD_UNKNOWN; i++) {
        Py_CLEAR(memos->values[i]);
    }
    for (unsigned i = 0; i < PWS_KEY_CACHE; i++) {
        Py_CLEAR(memos->keys[i].key);
    }
}
