#include "proc/stacks.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/clock.h"

/* For the first byte; then, for the next one. */
#define ANSWER_MS 1000
#define QUIET_MS 60

int
pws_stacks_signal(void)
{
    return SIGRTMAX - 8;
}

int
pws_stacks_open(pws_stacks *stacks)
{
    *stacks = (pws_stacks){.pipe = {-1, -1}, .until_ms = PWS_NEVER};
    if (pipe2(stacks->pipe, O_NONBLOCK | O_CLOEXEC) < 0) {
        stacks->pipe[0] = stacks->pipe[1] = -1;
        return -1;
    }
    return 0;
}

void
pws_stacks_forget(pws_stacks *stacks)
{
    if (stacks->pipe[0] >= 0) {
        close(stacks->pipe[0]);
        stacks->pipe[0] = -1;
    }
    free(stacks->text);
    stacks->text = NULL;
    stacks->len = 0;
    stacks->pid = 0;
}

void
pws_stacks_close(pws_stacks *stacks)
{
    pws_stacks_forget(stacks);
    if (stacks->pipe[1] >= 0) {
        close(stacks->pipe[1]);
        stacks->pipe[1] = -1;
    }
}

/* Returns the bytes that were read, of which those are kept that have room. */
static size_t
read_some(pws_stacks *stacks)
{
    char beyond[4096], *dst = beyond;
    size_t room = stacks->pid != 0 ? PWS_STACKS_MAX - stacks->len : 0;
    ssize_t n;

    if (room > 0) {
        dst = stacks->text + stacks->len;
    }
    do {
        n = read(stacks->pipe[0], dst, room > 0 ? room : sizeof(beyond));
    } while (n < 0 && errno == EINTR);
    if (n <= 0) {
        return 0;
    }
    stacks->len += room > 0 ? (size_t)n : 0;
    return (size_t)n;
}

int
pws_stacks_ask(pws_stacks *stacks, pid_t pid, int64_t now_ms)
{
    if (stacks->text == NULL) {
        stacks->text = malloc(PWS_STACKS_MAX);
        if (stacks->text == NULL) {
            return -1;
        }
    }
    (void)pws_stacks_read(stacks, now_ms); /* of somebody who was late */
    if (kill(pid, pws_stacks_signal()) < 0) {
        return -1;
    }
    stacks->pid = pid;
    stacks->len = 0;
    stacks->until_ms = now_ms + ANSWER_MS;
    return 0;
}

/* Not all at once: a worker that writes without end must not keep the master. */
bool
pws_stacks_read(pws_stacks *stacks, int64_t now_ms)
{
    size_t all = 0, n = 0;

    do {
        n = read_some(stacks);
        all += n;
    } while (n > 0 && all < PWS_STACKS_MAX);
    if (stacks->pid == 0) {
        return false;
    }
    if (all > 0 && stacks->len < PWS_STACKS_MAX) {
        stacks->until_ms = now_ms + QUIET_MS;
    }
    return now_ms >= stacks->until_ms;
}

pws_slice
pws_stacks_take(pws_stacks *stacks)
{
    stacks->pid = 0;
    stacks->until_ms = PWS_NEVER;
    return (pws_slice){stacks->text, stacks->len};
}

int64_t
pws_stacks_due_ms(const pws_stacks *stacks)
{
    return stacks->pid != 0 ? stacks->until_ms : PWS_NEVER;
}
