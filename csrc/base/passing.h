/* passing.h - descriptors that go from process to process, beside a few bytes.
 *
 * They travel over a Unix socket; who sends them keeps its own. */
#ifndef PWS_BASE_PASSING_H
#define PWS_BASE_PASSING_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

/* Descriptors in one message; the kernel's own limit is 253. */
#define PWS_PASS_MAX 128

typedef struct {
    void *text; /* at least one byte */
    size_t size;
    int *fds; /* to receive: room for PWS_PASS_MAX */
    unsigned count;
    bool lost; /* received: there were more than this process may have open */
} pws_parcel;

/* Send all of it in one message. Returns 0, or -1 with errno (never SIGPIPE). */
int pws_pass_send(int fd, const pws_parcel *parcel);

/* Receive up to `size` bytes, and the descriptors among them, which are the caller's
 * and close-on-exec. Returns the bytes, 0 at the end, -1 with errno. */
ssize_t pws_pass_receive(int fd, pws_parcel *parcel);

#endif
