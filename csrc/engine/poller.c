#include "engine/poller.h"

#include <errno.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "engine/io.h"

static int
add(pws_poller *poller, int fd, uint32_t events, uint64_t key)
{
    struct epoll_event event = {.events = events, .data.u64 = key};

    return epoll_ctl(poller->fd, EPOLL_CTL_ADD, fd, &event);
}

int
pws_poller_init(pws_poller *poller)
{
    memset(poller, 0, sizeof(*poller));
    poller->timer_fd = -1;
    poller->armed_ms = PWS_NEVER;
    poller->wake_fd = poller->pipe_fd = poller->letter_fd = -1;
    poller->fd = epoll_create1(EPOLL_CLOEXEC);
    if (poller->fd < 0) {
        return -1;
    }
    poller->wake_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    if (poller->wake_fd < 0 ||
        add(poller, poller->wake_fd, EPOLLIN, PWS_KEY_WAKE) < 0) {
        pws_poller_close(poller);
        return -1;
    }
    return 0;
}

static void
close_fd(int *fd)
{
    if (*fd >= 0) {
        close(*fd);
        *fd = -1;
    }
}

void
pws_poller_close(pws_poller *poller)
{
    close_fd(&poller->timer_fd);
    close_fd(&poller->wake_fd);
    close_fd(&poller->fd);
}

#define CONN_EVENTS (EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET)

int
pws_poller_add_conn(pws_poller *poller, int fd, uint64_t key)
{
    return add(poller, fd, CONN_EVENTS, key);
}

void
pws_poller_see_anew(pws_poller *poller, int fd, uint64_t key)
{
    struct epoll_event event = {.events = CONN_EVENTS, .data.u64 = key};

    (void)epoll_ctl(poller->fd, EPOLL_CTL_MOD, fd, &event);
}

int
pws_poller_add_listener(pws_poller *poller, int fd, uint64_t key)
{
    return add(poller, fd, EPOLLIN | EPOLLEXCLUSIVE, key);
}

int
pws_poller_add_pipe(pws_poller *poller, int fd)
{
    poller->pipe_fd = fd;
    return add(poller, fd, EPOLLIN, PWS_KEY_PIPE);
}

int
pws_poller_add_letters(pws_poller *poller, int fd)
{
    poller->letter_fd = fd;
    return add(poller, fd, EPOLLIN, PWS_KEY_LETTERS);
}

void
pws_poller_remove(pws_poller *poller, int fd)
{
    struct epoll_event unused = {0};

    (void)epoll_ctl(poller->fd, EPOLL_CTL_DEL, fd, &unused);
}

static void
swallow(int fd)
{
    char bytes[64]; /* at least the eight of a counter */

    while (read(fd, bytes, sizeof(bytes)) < 0 && errno == EINTR) {
    }
}

static void
give_sign(pws_poller *poller)
{
    poller->owes_sign = poller->mute;
    if (poller->owing != NULL) {
        atomic_store(poller->owing, poller->mute);
    }
    if (poller->signs != NULL && !poller->mute) {
        atomic_fetch_add(poller->signs, 1);
    }
}

void
pws_poller_give_owed_sign(pws_poller *poller)
{
    if (poller->owes_sign) {
        give_sign(poller);
    }
}

/* Returns whether there was more than a question for a sign of life. */
static bool
read_letters(pws_poller *poller)
{
    unsigned char bytes[16] = {0};
    unsigned read = 0;
    pws_parcel parcel = {.text = bytes, .size = sizeof(bytes), .fds = poller->passed};
    ssize_t n = pws_pass_receive(poller->letter_fd, &parcel);

    for (ssize_t i = 0; i < n; i++) {
        read |= bytes[i];
    }
    if ((read & PWS_LETTER_SIGN) != 0) {
        give_sign(poller);
    }
    poller->letters |= read & ~PWS_LETTER_SIGN;
    poller->passed_count = parcel.count;
    if (parcel.lost) {
        poller->letters |= PWS_LETTER_LOST;
    }
    if (n == 0) {
        poller->letters |= PWS_LETTER_END;
        pws_poller_remove(poller, poller->letter_fd); /* its end stays readable */
    }
    return read != PWS_LETTER_SIGN || parcel.count > 0 || parcel.lost;
}

/* Whether the event was for the poller itself. */
static bool
is_own(pws_poller *poller, uint64_t key)
{
    if (key == PWS_KEY_TIMER) {
        swallow(poller->timer_fd);
        poller->armed_ms = PWS_NEVER;
        return true;
    }
    if (key == PWS_KEY_LETTERS) {
        poller->woken = read_letters(poller) || poller->woken;
        return true;
    }
    if (key == PWS_KEY_WAKE || key == PWS_KEY_PIPE) {
        swallow(key == PWS_KEY_WAKE ? poller->wake_fd : poller->pipe_fd);
        poller->woken = true;
        return true;
    }
    return false;
}

static unsigned
meaning(uint32_t events)
{
    unsigned what = 0;

    if ((events & EPOLLIN) != 0) {
        what |= PWS_READABLE;
    }
    if ((events & EPOLLOUT) != 0) {
        what |= PWS_WRITABLE;
    }
    if ((events & EPOLLRDHUP) != 0) {
        what |= PWS_PEER_DONE;
    }
    if ((events & (EPOLLERR | EPOLLHUP)) != 0) {
        what |= PWS_BROKEN;
    }
    return what;
}

/* What epoll_wait has returned, with errno. */
static int
take_in(pws_poller *poller, const struct epoll_event *raw, int n)
{
    poller->count = 0;
    poller->woken = n < 0;
    if (n < 0) {
        return errno == EINTR ? 0 : -1;
    }
    for (int i = 0; i < n; i++) {
        if (!is_own(poller, raw[i].data.u64)) {
            poller->events[poller->count++] =
                (pws_event){raw[i].data.u64, meaning(raw[i].events)};
        }
    }
    return poller->count;
}

static int
wait_for_events(const pws_poller *poller, struct epoll_event *raw, int most,
                int timeout_ms)
{
#if defined(PWS_DIRECT_CALLS) && defined(SYS_epoll_wait)
    return (int)syscall(SYS_epoll_wait, poller->fd, raw, most, timeout_ms);
#else
    return epoll_wait(poller->fd, raw, most, timeout_ms);
#endif
}

int
pws_poller_wait(pws_poller *poller, int timeout_ms)
{
    struct epoll_event raw[PWS_BATCH];

    return take_in(poller, raw, wait_for_events(poller, raw, PWS_BATCH, timeout_ms));
}

int
pws_poller_wait_lent(pws_poller *poller, int timeout_ms, pws_lease *lease)
{
    struct epoll_event raw[PWS_BATCH];
    int n, error;

    pws_lease_drop(lease);
    n = wait_for_events(poller, raw, PWS_BATCH, timeout_ms);
    error = errno;
    pws_lease_take(lease);
    errno = error;
    return take_in(poller, raw, n);
}

/* A connection's events come once, to whoever asks first; the others stay. */
bool
pws_poller_take_one(pws_poller *poller, pws_event *event)
{
    struct epoll_event raw;

    if (wait_for_events(poller, &raw, 1, 0) != 1 ||
        (raw.data.u64 & PWS_LISTENER_KEY) != 0) {
        return false;
    }
    *event = (pws_event){raw.data.u64, meaning(raw.events)};
    return true;
}

void
pws_poller_wake(pws_poller *poller)
{
    const uint64_t one = 1;
    int saved = errno;

    while (write(poller->wake_fd, &one, sizeof(one)) < 0 && errno == EINTR) {
    }
    errno = saved;
}

static int
make_timer(pws_poller *poller)
{
    poller->timer_fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
    if (poller->timer_fd < 0) {
        return -1;
    }
    if (add(poller, poller->timer_fd, EPOLLIN, PWS_KEY_TIMER) < 0) {
        close_fd(&poller->timer_fd);
        return -1;
    }
    return 0;
}

int
pws_poller_arm(pws_poller *poller, int64_t now_ms, int timeout_ms)
{
    struct itimerspec spec = {.it_value.tv_sec = timeout_ms / 1000,
                              .it_value.tv_nsec =
                                  (long)(timeout_ms % 1000) * 1000000 + 1};

    if (timeout_ms < 0 || now_ms + timeout_ms >= poller->armed_ms) {
        return 0;
    }
    if ((poller->timer_fd < 0 && make_timer(poller) < 0) ||
        timerfd_settime(poller->timer_fd, 0, &spec, NULL) < 0) {
        return -1;
    }
    poller->armed_ms = now_ms + timeout_ms;
    return 0;
}
