#include "engine/access_format.h"

#include <stdlib.h>

#include "proto/chars.h"

static pws_access_op_kind
single_atom(char letter)
{
    switch (letter) {
    case 'h':
        return PWS_OP_HOST;
    case 'u':
        return PWS_OP_USER;
    case 't':
        return PWS_OP_TIME;
    case 'r':
        return PWS_OP_REQUEST_LINE;
    case 'm':
        return PWS_OP_METHOD;
    case 'U':
        return PWS_OP_PATH;
    case 'q':
        return PWS_OP_QUERY;
    case 'H':
        return PWS_OP_PROTOCOL;
    case 's':
        return PWS_OP_STATUS;
    case 'B':
        return PWS_OP_BYTES;
    case 'b':
        return PWS_OP_BYTES_OR_DASH;
    case 'T':
        return PWS_OP_SECONDS;
    case 'M':
        return PWS_OP_MILLISECONDS;
    case 'D':
        return PWS_OP_MICROSECONDS;
    case 'L':
        return PWS_OP_DECIMAL_SECONDS;
    case 'p':
        return PWS_OP_PID;
    default: /* l too: nobody knows the remote log name */
        return PWS_OP_DASH;
    }
}

static pws_access_op
field_atom(const char *name)
{
    return (pws_access_op){PWS_OP_REQUEST_FIELD, pws_slice_of(name), 0};
}

static pws_access_op
note_atom(pws_access_format *format, pws_note_kind kind, pws_slice name)
{
    format->notes[format->note_count] = (pws_note){kind, name};
    return (pws_access_op){PWS_OP_NOTE, {NULL, 0}, format->note_count++};
}

/* "{name}i", "{name}o" or "{name}e". */
static pws_access_op
named_atom(pws_access_format *format, char *at, size_t len)
{
    pws_slice name = {at + 1, len - 3};

    if (at[len - 2] != '}') {
        return (pws_access_op){PWS_OP_DASH, {NULL, 0}, 0};
    }
    switch (at[len - 1]) {
    case 'i':
        for (size_t i = 0; i < name.len; i++) {
            uint8_t c = pws_cgi[(unsigned char)at[1 + i]];

            at[1 + i] = c != 0 ? (char)(c & 0x7f) : at[1 + i];
        }
        return (pws_access_op){PWS_OP_REQUEST_FIELD, name, 0};
    case 'o':
        return note_atom(format, PWS_NOTE_RESPONSE_FIELD, name);
    case 'e':
        return note_atom(format, PWS_NOTE_VARIABLE, name);
    default:
        return (pws_access_op){PWS_OP_DASH, {NULL, 0}, 0};
    }
}

static pws_access_op
compile_atom(pws_access_format *format, char *at, size_t len)
{
    if (len == 1 && at[0] == 'f') {
        return field_atom("REFERER");
    }
    if (len == 1 && at[0] == 'a') {
        return field_atom("USER_AGENT");
    }
    if (len == 1) {
        return (pws_access_op){single_atom(at[0]), {NULL, 0}, 0};
    }
    if (len > 3 && at[0] == '{') {
        return named_atom(format, at, len);
    }
    return (pws_access_op){PWS_OP_DASH, {NULL, 0}, 0};
}

static void
add_text(pws_access_format *format, const char *at, size_t len)
{
    if (len > 0) {
        format->ops[format->op_count++] = (pws_access_op){PWS_OP_TEXT, {at, len}, 0};
    }
}

/* Each '%' begins at most one atom with text in front of it. */
static void
compile(pws_access_format *format)
{
    char *text = format->text, *at = text;

    while (*at != '\0') {
        char *end;

        if (at[0] == '%' && at[1] == '%') {
            add_text(format, text, (size_t)(at + 1 - text));
            at += 2;
            text = at;
            continue;
        }
        end = at[0] == '%' && at[1] == '(' ? strstr(at, ")s") : NULL;
        if (end == NULL) {
            at++;
            continue;
        }
        add_text(format, text, (size_t)(at - text));
        format->ops[format->op_count++] =
            compile_atom(format, at + 2, (size_t)(end - at - 2));
        at = end + 2;
        text = at;
    }
    add_text(format, text, (size_t)(at - text));
}

static size_t
count_percents(const char *text)
{
    size_t n = 0;

    for (; *text != '\0'; text++) {
        n += *text == '%';
    }
    return n;
}

int
pws_access_format_init(pws_access_format *format, const char *text)
{
    size_t percents = count_percents(text);

    memset(format, 0, sizeof(*format));
    format->text = strdup(text);
    format->ops = calloc(2 * percents + 1, sizeof(*format->ops));
    format->notes = calloc(percents + 1, sizeof(*format->notes));
    if (format->text == NULL || format->ops == NULL || format->notes == NULL) {
        return -1;
    }
    compile(format);
    return 0;
}

void
pws_access_format_clear(pws_access_format *format)
{
    free(format->text);
    free(format->ops);
    free(format->notes);
    memset(format, 0, sizeof(*format));
}
