/* access_format.h - the format of the access log, compiled once.
 *
 * The format is Gunicorn's: text with atoms such as %(h)s and %({user-agent}i)s; an
 * unknown atom prints "-", "%%" a percent sign. A compiled format owns a copy of its
 * text, from which its slices borrow, and is immutable. */
#ifndef PWS_ENGINE_ACCESS_FORMAT_H
#define PWS_ENGINE_ACCESS_FORMAT_H

#include <stddef.h>

#include "base/slice.h"

typedef enum {
    PWS_OP_TEXT,
    PWS_OP_DASH, /* an unknown atom */
    PWS_OP_HOST,
    PWS_OP_USER,
    PWS_OP_TIME,
    PWS_OP_REQUEST_LINE,
    PWS_OP_METHOD,
    PWS_OP_PATH,
    PWS_OP_QUERY,
    PWS_OP_PROTOCOL,
    PWS_OP_STATUS,
    PWS_OP_BYTES,
    PWS_OP_BYTES_OR_DASH,
    PWS_OP_SECONDS,
    PWS_OP_MILLISECONDS,
    PWS_OP_MICROSECONDS,
    PWS_OP_DECIMAL_SECONDS,
    PWS_OP_PID,
    PWS_OP_REQUEST_FIELD,
    PWS_OP_NOTE, /* one of `notes` */
} pws_access_op_kind;

typedef struct {
    pws_access_op_kind kind;
    pws_slice text; /* TEXT; REQUEST_FIELD: the name in CGI spelling */
    size_t note;    /* NOTE */
} pws_access_op;

/* Values that are not kept otherwise and must be copied while they are there. */
typedef enum {
    PWS_NOTE_RESPONSE_FIELD, /* %({name}o)s */
    PWS_NOTE_VARIABLE,       /* %({name}e)s: an environ key */
} pws_note_kind;

typedef struct {
    pws_note_kind kind;
    pws_slice name; /* as written in the format */
} pws_note;

typedef struct {
    char *text; /* what the slices borrow from; names of request fields are in CGI
                   spelling */
    pws_access_op *ops;
    size_t op_count;
    pws_note *notes;
    size_t note_count;
} pws_access_format;

/* Compile `text`. Returns 0, or -1 without memory; either way end with
 * pws_access_format_clear. */
int pws_access_format_init(pws_access_format *format, const char *text);
void pws_access_format_clear(pws_access_format *format);

#endif
