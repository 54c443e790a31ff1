#include "py/text.h"

#include "py/environ_memo.h"

/* Longer values are not kept. */
#define KEPT_MAX 256

static bool
is_ascii(pws_slice s)
{
    uint64_t all = 0, word;
    size_t i = 0;

    for (; i + 8 <= s.len; i += 8) {
        memcpy(&word, s.at + i, 8);
        all |= word;
    }
    if (i < s.len && i > 0) {
        memcpy(&word, s.at + s.len - 8, 8); /* the rest, with some bytes of before */
        all |= word;
        i = s.len;
    }
    for (; i < s.len; i++) {
        all |= (unsigned char)s.at[i];
    }
    return (all & 0x8080808080808080u) == 0;
}

PyObject *
pws_text_new(pws_module *module, pws_slice s)
{
    PyObject *text;

    if (s.len == 0) {
        Py_INCREF(PWS_NAME(module, empty));
        return PWS_NAME(module, empty);
    }
    text = PyUnicode_New((Py_ssize_t)s.len, is_ascii(s) ? 127 : 255);
    if (text != NULL) {
        memcpy(PyUnicode_1BYTE_DATA(text), s.at, s.len);
    }
    return text;
}

/* Fields whose values say what the client's software is or can do. Never one that can
 * hold a secret or an address. */
static bool
is_common(pws_field_id id)
{
#define BIT(name) ((uint64_t)1 << PWS_FIELD_##name)
    const uint64_t common =
        BIT(HOST) | BIT(CONNECTION) | BIT(CONTENT_TYPE) | BIT(UPGRADE) | BIT(TE) |
        BIT(ACCEPT) | BIT(ACCEPT_ENCODING) | BIT(ACCEPT_LANGUAGE) |
        BIT(ACCEPT_CHARSET) | BIT(CACHE_CONTROL) | BIT(DNT) | BIT(KEEP_ALIVE) |
        BIT(PRAGMA) | BIT(PRIORITY) | BIT(SEC_CH_UA) | BIT(SEC_CH_UA_MOBILE) |
        BIT(SEC_CH_UA_PLATFORM) | BIT(SEC_FETCH_DEST) | BIT(SEC_FETCH_MODE) |
        BIT(SEC_FETCH_SITE) | BIT(SEC_FETCH_USER) | BIT(SEC_GPC) |
        BIT(UPGRADE_INSECURE_REQUESTS) | BIT(USER_AGENT) | BIT(X_FORWARDED_PORT) |
        BIT(X_FORWARDED_PROTO) | BIT(X_FORWARDED_SSL) | BIT(X_REQUESTED_WITH);
#undef BIT

    return (common >> id & 1) != 0;
}

PyObject *
pws_text_of_field(pws_lane *lane, pws_field_id id, pws_slice value)
{
    PyObject **place, *last, *text;

    if (id == PWS_FIELD_UNKNOWN || !is_common(id) || value.len > KEPT_MAX) {
        return pws_text_new(lane->module, value);
    }
    place = &lane->memos->values[id];
    last = *place;
    if (last != NULL && pws_text_is(last, value)) {
        Py_INCREF(last);
        return last;
    }
    text = pws_text_new(lane->module, value);
    if (text != NULL) {
        Py_INCREF(text);
        Py_XSETREF(*place, text);
    }
    return text;
}

PyObject *
pws_text_of_number(unsigned n)
{
    char digits[10];
    size_t i = sizeof(digits);
    PyObject *text;

    do {
        digits[--i] = (char)('0' + n % 10);
        n /= 10;
    } while (n > 0);
    text = PyUnicode_New((Py_ssize_t)(sizeof(digits) - i), 127);
    if (text != NULL) {
        memcpy(PyUnicode_1BYTE_DATA(text), digits + i, sizeof(digits) - i);
    }
    return text;
}

int
pws_text_set_taken(PyObject *env, PyObject *key, PyObject *value)
{
    int rc;

    if (value == NULL) {
        return -1;
    }
    rc = PyDict_SetItem(env, key, value);
    Py_DECREF(value);
    return rc;
}

int
pws_text_set(pws_lane *lane, PyObject *env, PyObject *key, pws_slice s)
{
    return pws_text_set_taken(env, key, pws_text_new(lane->module, s));
}
