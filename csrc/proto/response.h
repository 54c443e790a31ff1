/* response.h - the head of a response (RFC 9112 4, RFC 9110).
 *
 * The writer turns what the app said into bytes, decides how the body is framed and
 * drops what only the server may say. It validates while it writes: a name or value
 * that could end a line never leaves. All slices are borrowed for the call. */
#ifndef PWS_PROTO_RESPONSE_H
#define PWS_PROTO_RESPONSE_H

#include <stdint.h>

#include "base/clock.h"
#include "base/slice.h"

typedef struct {
    pws_slice name;
    pws_slice value;
} pws_header;

typedef enum {
    PWS_FRAME_NONE,   /* no body: HEAD, 1xx, 204, 304 */
    PWS_FRAME_LENGTH, /* Content-Length */
    PWS_FRAME_CHUNKED,
    PWS_FRAME_CLOSE, /* the end of the connection ends the body */
} pws_frame;

/* "The length of the body is not known." */
#define PWS_LENGTH_UNKNOWN UINT64_MAX

typedef struct {
    /* Asked: */
    pws_slice status;         /* "200 OK" */
    const pws_header *fields; /* the app's */
    size_t field_count;
    pws_slice server;      /* value of Server; empty: none */
    pws_slice date;        /* value of Date; empty: none */
    uint64_t known_length; /* of the whole body, or PWS_LENGTH_UNKNOWN */
    bool head;             /* the request's method is HEAD */
    bool http10;           /* the client speaks HTTP/1.0 */
    bool keep_alive;       /* client and server would keep the connection */
    bool interim;          /* a 1xx in front of the real response */
    /* Answered by pws_response_write: */
    int code;
    pws_frame frame;
    uint64_t length;     /* what Content-Length says, or PWS_LENGTH_UNKNOWN */
    const char *refusal; /* why it was not written; static text */
} pws_response;

/* An upper bound of what pws_response_write writes, in bytes. */
size_t pws_response_room(const pws_response *r);

/* Write the head to `dst`, which has pws_response_room bytes. Returns its length, or 0
 * with `refusal` set when the app's status or headers are invalid. `keep_alive` is
 * cleared when the connection cannot go on after this response. */
size_t pws_response_write(pws_response *r, char *dst);

/* The reason phrase of a status code that the server itself sends; "Error" for others.
 */
const char *pws_reason(int code);

/* Write a whole response of the server itself (an HTML page that names the status, and
 * Connection: close; Retry-After with a 503) to `dst`, which has PWS_ERROR_PAGE_ROOM
 * bytes. Returns its length.
 * Without `body`, for HEAD, the page itself is left out; so is a `server` of hundreds
 * of bytes. */
size_t pws_error_page(char *dst, int code, pws_slice server, pws_slice date, bool body);
#define PWS_ERROR_PAGE_ROOM 1024

/* The line in front of a chunk of `n` bytes: hexadecimal digits and CRLF to `dst`,
 * which has PWS_CHUNK_LINE_ROOM bytes. Returns its length. */
size_t pws_chunk_line(char *dst, uint64_t n);
#define PWS_CHUNK_LINE_ROOM 18

#endif
