/* file_wrapper.h - wsgi.file_wrapper (PEP 3333): a file that the server may send
 * itself. */
#ifndef PWS_PY_FILE_WRAPPER_H
#define PWS_PY_FILE_WRAPPER_H

#include "py/module.h"

extern PyType_Spec pws_file_wrapper_spec;

/* A range of a regular file. */
typedef struct {
    int fd; /* borrowed from the Python file */
    uint64_t offset;
    uint64_t length; /* up to the end of the file */
} pws_plain_file;

/* Whether what `wrapper` (an instance of exactly our type) wraps is a regular file as
 * it lies on the disk: an io file, or an object around one (`.file`, as of tempfile and
 * Django). A file that decodes or encrypts is none. Returns 1, 0, or -1 with an
 * exception. */
int pws_file_wrapper_plain(pws_module *module, PyObject *wrapper, pws_plain_file *file);

#endif
