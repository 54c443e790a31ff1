/* paced.c - asks at a steady rate, whether or not the answers come: latencies as a
 * visitor has them, not as a client that waits with its next request.
 *
 *     paced -p PORT -r RATE -s SECONDS -c CONNECTIONS -n EVERY
 *
 * RATE requests a second over CONNECTIONS that are kept alive; each EVERY-th (0: none)
 * asks for /slow, the others for /. A latency counts from when the request was due, so
 * one that finds no free connection has waited too. Prints one line, microseconds of
 * the fast:
 *
 *     counted FAST SLOW P50 P99 P99.9
 *
 * Any other answer than 200, a closed connection or ten silent seconds end it with a
 * sentence on stderr. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#include "fail.h"

enum { EVENTS = 256, INPUT = 4096, PATIENCE_MS = 10000 };

static const uint64_t SECOND_NS = 1000000000;

typedef struct {
    int fd;
    long asked; /* which request it has; -1: none */
    size_t length;
    char input[INPUT];
} conn;

static struct {
    int port, rate, seconds, connections, every;
} config;

static struct {
    conn *conns;
    int *idle; /* connections without a request: a ring, the longest idle first */
    int first, idle_count;
    uint64_t start_ns, period_ns;
    long total, due, sent, done; /* requests: in all, due by now, sent, answered */
    uint32_t *fast_us;
    long fast;
    int epoll, timer;
} run;

static void *
zeroed(size_t count, size_t size)
{
    void *memory = calloc(count, size);

    if (memory == NULL) {
        die("calloc");
    }
    return memory;
}

static uint64_t
now_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * SECOND_NS + (uint64_t)now.tv_nsec;
}

static int
is_slow(long number)
{
    return config.every > 0 && number % config.every == config.every - 1;
}

static void
watch(int fd, uint64_t what)
{
    struct epoll_event event = {.events = EPOLLIN, .data.u64 = what};

    if (epoll_ctl(run.epoll, EPOLL_CTL_ADD, fd, &event) < 0) {
        die("epoll_ctl");
    }
}

static void
set_idle(int index)
{
    run.conns[index].asked = -1;
    run.conns[index].length = 0;
    run.idle[(run.first + run.idle_count) % config.connections] = index;
    run.idle_count++;
}

static void
connect_one(int index)
{
    struct sockaddr_in to = {.sin_family = AF_INET,
                             .sin_port = htons((uint16_t)config.port),
                             .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), one = 1;

    if (fd < 0 || connect(fd, (struct sockaddr *)&to, sizeof(to)) < 0 ||
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one)) < 0) {
        die("connect");
    }
    run.conns[index].fd = fd;
    watch(fd, (uint64_t)index);
    set_idle(index);
}

/* Send what is due, as long as there are connections for it. */
static void
send_due(void)
{
    static const char *const requests[] = {
        "GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
        "GET /slow HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
    };

    while (run.sent < run.due && run.idle_count > 0) {
        conn *c = &run.conns[run.idle[run.first]];
        const char *request = requests[is_slow(run.sent)];
        size_t size = strlen(request);

        run.first = (run.first + 1) % config.connections;
        run.idle_count--;
        c->asked = run.sent++;
        if (send(c->fd, request, size, MSG_NOSIGNAL) != (ssize_t)size) {
            die("send");
        }
    }
}

static void
count_due(void)
{
    uint64_t ticks;

    if (read(run.timer, &ticks, sizeof(ticks)) != (ssize_t)sizeof(ticks)) {
        return; /* Another read has had them. */
    }
    run.due += (long)ticks;
    if (run.due > run.total) {
        run.due = run.total;
    }
    send_due();
}

static void
answered(conn *c)
{
    uint64_t due_ns = run.start_ns + (uint64_t)c->asked * run.period_ns;

    if (!is_slow(c->asked)) {
        run.fast_us[run.fast++] = (uint32_t)((now_ns() - due_ns) / 1000);
    }
    run.done++;
    set_idle((int)(c - run.conns));
}

/* Whether all of an answer is there; its length is told in a field, as the app does. */
static int
is_whole(const conn *c)
{
    static const char field[] = "\r\ncontent-length:";
    const char *end = memmem(c->input, c->length, "\r\n\r\n", 4);
    const char *at;

    if (end == NULL) {
        return 0;
    }
    if (c->length < 12 || memcmp(c->input + 9, "200", 3) != 0) {
        refuse("an answer that is not 200");
    }
    at = strcasestr(c->input, field);
    if (at == NULL || at > end) {
        refuse("an answer without a length");
    }
    return c->length >=
           (size_t)(end + 4 - c->input) + strtoul(at + sizeof(field) - 1, NULL, 10);
}

static void
receive(conn *c)
{
    ssize_t n = recv(c->fd, c->input + c->length, INPUT - 1 - c->length, 0);

    if (n < 0) {
        die("recv");
    }
    if (n == 0) {
        refuse("a connection was closed");
    }
    c->length += (size_t)n;
    c->input[c->length] = '\0';
    if (c->asked < 0) {
        refuse("an answer to nothing");
    }
    if (is_whole(c)) {
        answered(c);
        send_due();
    }
}

static void
start_timer(void)
{
    struct itimerspec every = {{0, 0}, {0, 0}};

    run.period_ns = SECOND_NS / (uint64_t)config.rate;
    every.it_interval.tv_sec = (time_t)(run.period_ns / SECOND_NS);
    every.it_interval.tv_nsec = (long)(run.period_ns % SECOND_NS);
    every.it_value = every.it_interval;
    run.timer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
    /* The first is due when the timer first runs out. */
    run.start_ns = now_ns() + run.period_ns;
    if (run.timer < 0 || timerfd_settime(run.timer, 0, &every, NULL) < 0) {
        die("timerfd");
    }
    watch(run.timer, UINT64_MAX);
}

static void
ask(void)
{
    struct epoll_event events[EVENTS];

    while (run.done < run.total) {
        int count = epoll_wait(run.epoll, events, EVENTS, PATIENCE_MS);

        if (count < 0 && errno != EINTR) {
            die("epoll_wait");
        }
        if (count == 0) {
            refuse("no answer for ten seconds");
        }
        for (int i = 0; i < count; i++) {
            if (events[i].data.u64 == UINT64_MAX) {
                count_due();
            }
            else {
                receive(&run.conns[events[i].data.u64]);
            }
        }
    }
}

static int
by_size(const void *one, const void *other)
{
    uint32_t a = *(const uint32_t *)one, b = *(const uint32_t *)other;

    return (a > b) - (a < b);
}

static unsigned
percentile(double percent)
{
    return run.fast_us[(long)((double)(run.fast - 1) * percent / 100)];
}

static void
read_options(int argc, char **argv)
{
    int option;

    while ((option = getopt(argc, argv, "p:r:s:c:n:")) != -1) {
        int value = optarg == NULL ? 0 : atoi(optarg);

        switch (option) {
        case 'p':
            config.port = value;
            break;
        case 'r':
            config.rate = value;
            break;
        case 's':
            config.seconds = value;
            break;
        case 'c':
            config.connections = value;
            break;
        case 'n':
            config.every = value;
            break;
        default:
            exit(2);
        }
    }
    if (config.port < 1 || config.rate < 1 || config.seconds < 1 ||
        config.connections < 1 || config.every < 0 || config.every == 1) {
        fprintf(stderr, "paced -p PORT -r RATE -s SECONDS -c CONNECTIONS -n EVERY\n");
        exit(2);
    }
}

int
main(int argc, char **argv)
{
    read_options(argc, argv);
    run.total = (long)config.rate * config.seconds;
    run.conns = zeroed((size_t)config.connections, sizeof(*run.conns));
    run.idle = zeroed((size_t)config.connections, sizeof(*run.idle));
    run.fast_us = zeroed((size_t)run.total, sizeof(*run.fast_us));
    run.epoll = epoll_create1(EPOLL_CLOEXEC);
    for (int i = 0; i < config.connections; i++) {
        connect_one(i);
    }
    start_timer();
    ask();
    qsort(run.fast_us, (size_t)run.fast, sizeof(*run.fast_us), by_size);
    printf("counted %ld %ld %u %u %u\n", run.fast, run.total - run.fast, percentile(50),
           percentile(99), percentile(99.9));
    return 0;
}
