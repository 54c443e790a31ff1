/* log.h - the error log for Python: functions of the module.
 *
 * log_open(fd, level), log_record(level, text), log_text(data), log_flush(): what
 * base/log.h has, with levels as numbers from 0, PWS_LOG_DEBUG, upwards. */
#ifndef PWS_PY_LOG_H
#define PWS_PY_LOG_H

#include "py/module.h"

extern PyMethodDef pws_log_methods[];

#endif
