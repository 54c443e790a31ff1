/* log.h - the logs for Python: functions of the module.
 *
 * log_open(fd, level), log_record(level, text), log_text(data), log_flush(): what
 * base/log.h has, with levels as numbers from 0, PWS_LOG_DEBUG, upwards.
 * log_drain(memory, fd): what pws_ring_drain does, with a ring in a writable buffer, of
 * which pws_log_ring_memory says whether it is fit to be one. */
#ifndef PWS_PY_LOG_H
#define PWS_PY_LOG_H

#include "py/module.h"

extern PyMethodDef pws_log_methods[];

/* Take the buffer of `object`; it must be writable, aligned and of PWS_RING_SIZE bytes.
 * Returns 0, or -1 with an exception; released with PyBuffer_Release. */
int pws_log_ring_memory(PyObject *object, Py_buffer *view);

#endif
