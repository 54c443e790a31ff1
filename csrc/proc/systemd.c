#include "proc/systemd.h"

#include <errno.h>
#include <inttypes.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"

/* Between two statuses. */
#define STATUS_MS 5000
/* Until the manager is tried again. */
#define RETRY_MS 200
/* For the last words. */
#define LAST_TRIES 100
#define LAST_PAUSE_MS 10

void
pws_systemd_init(pws_systemd *s)
{
    memset(s, 0, sizeof(*s));
    s->fd = -1;
    s->watchdog_due_ms = s->status_due_ms = s->retry_ms = PWS_NEVER;
}

/* An abstract name has no end but its length. */
static int
set_address(pws_systemd *s, const char *address)
{
    size_t len = strlen(address);

    if (len < 2 || len >= sizeof(s->manager.sun_path) ||
        (address[0] != '/' && address[0] != '@')) {
        errno = EINVAL;
        return -1;
    }
    s->manager.sun_family = AF_UNIX;
    memcpy(s->manager.sun_path, address, len + 1);
    s->manager_len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + len + 1);
    if (address[0] == '@') {
        s->manager.sun_path[0] = '\0';
        s->manager_len--;
    }
    return 0;
}

int
pws_systemd_open(pws_systemd *s, const char *address, uint64_t watchdog_usec)
{
    if (set_address(s, address) < 0) {
        return -1;
    }
    s->fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (s->fd < 0) {
        return -1;
    }
    s->watchdog_ms = (int64_t)(watchdog_usec / 2000);
    if (watchdog_usec > 0 && s->watchdog_ms == 0) {
        s->watchdog_ms = 1;
    }
    return 0;
}

void
pws_systemd_close(pws_systemd *s)
{
    if (s->fd >= 0) {
        close(s->fd);
    }
    pws_systemd_init(s);
}

static bool
speaks(const pws_systemd *s)
{
    return s->fd >= 0 && !s->silent;
}

/* Returns false when it is to be tried again. */
static bool
send_text(pws_systemd *s, const char *text)
{
    ssize_t n;

    do {
        n = sendto(s->fd, text, strlen(text), MSG_NOSIGNAL | MSG_DONTWAIT,
                   (const struct sockaddr *)&s->manager, s->manager_len);
    } while (n < 0 && errno == EINTR);
    if (n < 0 && (errno == EAGAIN || errno == ENOBUFS || errno == ENOMEM)) {
        return false;
    }
    if (n < 0 && !s->complained) {
        pws_log(PWS_LOG_WARNING, "NOTIFY_SOCKET: nothing can be sent there: %s",
                strerror(errno));
    }
    s->complained = n < 0;
    return true;
}

/* Send what waits, in its order. Returns whether nothing is left. */
static bool
send_unsent(pws_systemd *s)
{
    unsigned sent = 0;

    while (sent < s->unsent_count && send_text(s, s->unsent[sent])) {
        sent++;
    }
    s->unsent_count -= sent;
    memmove(s->unsent[0], s->unsent[sent], s->unsent_count * sizeof(s->unsent[0]));
    s->retry_ms = s->unsent_count == 0 ? PWS_NEVER : pws_clock_now_ms() + RETRY_MS;
    return s->unsent_count == 0;
}

/* A message that must arrive, sooner or later. */
static void
tell(pws_systemd *s, const char *text)
{
    if (send_unsent(s) && send_text(s, text)) {
        return;
    }
    if (s->unsent_count == PWS_SYSTEMD_UNSENT) { /* the oldest says least by now */
        s->unsent_count--;
        memmove(s->unsent[0], s->unsent[1], s->unsent_count * sizeof(s->unsent[0]));
    }
    snprintf(s->unsent[s->unsent_count++], PWS_SYSTEMD_LONGEST, "%s", text);
    s->retry_ms = pws_clock_now_ms() + RETRY_MS;
}

/* A change that the manager acts upon; the next turn adds how the workers are. */
static void
tell_event(pws_systemd *s, const char *state, const char *event)
{
    char text[PWS_SYSTEMD_LONGEST];

    s->event = event;
    if (!speaks(s)) {
        return;
    }
    snprintf(text, sizeof(text), "%s\nSTATUS=%s", state, event);
    tell(s, text);
    s->status_due_ms = 0;
}

static void
watch(pws_systemd *s)
{
    if (speaks(s) && s->watchdog_ms > 0) {
        s->watchdog_due_ms = 0; /* at once */
    }
}

void
pws_systemd_ready(pws_systemd *s)
{
    s->ready = true;
    tell_event(s, "READY=1", "Serving");
    watch(s);
}

void
pws_systemd_reloading(pws_systemd *s)
{
    char state[64];

    if (!s->ready) {
        return; /* it waits for the start, and takes no reload for an answer */
    }
    snprintf(state, sizeof(state), "RELOADING=1\nMONOTONIC_USEC=%" PRId64,
             pws_clock_ns() / 1000);
    tell_event(s, state, "Reloading");
}

void
pws_systemd_settled(pws_systemd *s, bool kept)
{
    if (s->ready && !s->stopping) {
        tell_event(s, "READY=1",
                   kept ? "Reloaded" : "Reload failed: as it was before it");
    }
}

void
pws_systemd_stopping(pws_systemd *s, int64_t within_ms)
{
    char state[96];

    s->stopping = true;
    snprintf(state, sizeof(state), "STOPPING=1\nEXTEND_TIMEOUT_USEC=%" PRId64,
             within_ms * 1000);
    tell_event(s, state, "Stopping");
}

void
pws_systemd_hand_over(pws_systemd *s, pid_t successor)
{
    const struct timespec pause = {0, LAST_PAUSE_MS * 1000000};
    char text[PWS_SYSTEMD_LONGEST];

    if (!speaks(s)) {
        return;
    }
    snprintf(text, sizeof(text), "MAINPID=%ld\nSTATUS=Succeeded by the master %ld",
             (long)successor, (long)successor);
    tell(s, text);
    for (int i = 0; i < LAST_TRIES && !send_unsent(s); i++) {
        nanosleep(&pause, NULL);
    }
}

void
pws_systemd_take_over(pws_systemd *s)
{
    char state[64];

    if (!s->silent) {
        return;
    }
    s->silent = false;
    snprintf(state, sizeof(state), "MAINPID=%ld%s", (long)getpid(),
             s->stopping ? "\nSTOPPING=1"
             : s->ready  ? "\nREADY=1"
                         : "");
    tell_event(s, state, s->event != NULL ? s->event : "Starting");
    watch(s);
}

typedef struct {
    unsigned busy, idle, well;
} census;

/* Whether clients can hope for it: it is not late, nor silent, and has not been in one
 * call for longer than the manager waits. A relief at work alone means little: each
 * call of a tenth of a second has it. */
static bool
is_well(const pws_systemd *s, const pws_workers *workers, const pws_worker *w)
{
    const pws_cell *cell = pws_worker_cell(workers, w);

    return !pws_worker_is_late(w) && w->sign.in_vain == 0 &&
           pws_cell_busy_ms(cell, pws_clock_now_ms()) < 2 * s->watchdog_ms;
}

static census
count(const pws_systemd *s, const pws_workers *workers)
{
    census n = {0, 0, 0};

    for (unsigned i = 0; i < workers->top; i++) {
        const pws_worker *w = &workers->all[i];

        if (w->kind != PWS_KIND_WORKER || w->state != PWS_WORKER_SERVING ||
            w->last_signal != 0) {
            continue;
        }
        n.well += is_well(s, workers, w);
        /* Since when does not matter: at the end of time it is long since. */
        if (pws_cell_busy_ms(pws_worker_cell(workers, w), INT64_MAX) > 0) {
            n.busy++;
        }
        else {
            n.idle++;
        }
    }
    return n;
}

/* Say how the workers are, when that has changed and not too often. While some are busy
 * it will change: else an idle server would be called busy. */
static void
tell_status(pws_systemd *s, census n, int64_t now_ms)
{
    char text[PWS_SYSTEMD_LONGEST];

    snprintf(text, sizeof(text), "STATUS=%s; workers: %u busy, %u idle", s->event,
             n.busy, n.idle);
    if (strcmp(text, s->status) != 0 &&
        (now_ms >= s->status_ms + STATUS_MS || s->status_due_ms == 0)) {
        if (send_text(s, text)) {
            memcpy(s->status, text, sizeof(text));
        }
        s->status_ms = now_ms;
    }
    s->status_due_ms = strcmp(text, s->status) != 0 ? s->status_ms + STATUS_MS
                       : n.busy > 0                 ? now_ms + STATUS_MS
                                                    : PWS_NEVER;
}

static void
tell_of_life(pws_systemd *s, bool healthy, int64_t now_ms)
{
    bool sent = healthy && send_text(s, "WATCHDOG=1");

    if (!healthy && !s->withheld) {
        pws_log(PWS_LOG_ERROR, "No worker serves, or all hang: the watchdog of systemd "
                               "is not told that all is well");
    }
    s->withheld = !healthy;
    s->watchdog_due_ms = now_ms + (sent ? s->watchdog_ms : RETRY_MS);
}

void
pws_systemd_turn(pws_systemd *s, const pws_workers *workers, bool excused)
{
    int64_t now_ms;
    census n;

    if (!speaks(s) || s->event == NULL) {
        return;
    }
    now_ms = pws_clock_now_ms();
    if (s->unsent_count > 0 && (s->retry_ms > now_ms || !send_unsent(s))) {
        return; /* nothing of this would get through either */
    }
    n = count(s, workers);
    if (s->watchdog_due_ms <= now_ms) {
        tell_of_life(s, excused || n.well > 0, now_ms);
    }
    tell_status(s, n, now_ms);
}

int64_t
pws_systemd_due_ms(const pws_systemd *s)
{
    if (!speaks(s)) {
        return PWS_NEVER;
    }
    if (s->unsent_count > 0) {
        return s->retry_ms; /* nothing else would get through */
    }
    return s->watchdog_due_ms < s->status_due_ms ? s->watchdog_due_ms
                                                 : s->status_due_ms;
}
