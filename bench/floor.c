/* floor.c - the least that a server on epoll can do: the lower bound of the tables.
 *
 * Reads requests, does not look into them, and sends a canned answer for each. A
 * request is over when its blank line is through and its body, whose length, as sent,
 * is told on the command line. A connection is registered once and
 * never changed; with -c it is answered from the accept, closed, and never registered.
 *
 *     floor -p PORT | -u PATH -a ANSWER [-f FILE] [-b BODY_BYTES | -n BYTES] [-cd]
 *
 * At PATH it listens on a Unix socket. With -n a request is over after so many bytes,
 * whatever they are. With -d a connection is not there before its request
 * (TCP_DEFER_ACCEPT).
 * ANSWER is a file with the bytes of one answer; FILE, if given, is sent behind it with
 * sendfile. No error handling beyond what keeps a benchmark honest. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "fail.h"

enum { EVENTS = 512, INPUT = 256 * 1024, SMALL = 64 * 1024, BATCH = 64 };

typedef struct {
    size_t owed;      /* bytes of answers that are not sent yet */
    size_t body_left; /* bytes of the request's body still to come */
    unsigned matched; /* bytes of a blank line at the end of the last read */
} conn;

static struct {
    char *answers; /* the answer, BATCH times over if it is small */
    size_t one;    /* bytes of one answer, the file behind it included */
    size_t head;   /* bytes of one answer in memory */
    size_t batch;  /* answers that lie in a row in memory */
    int file;      /* -1: none */
    size_t body;
    size_t whole; /* bytes of a request that has no blank line; 0: it has one */
    int close, defer;
} config = {.file = -1, .batch = 1};

static conn *conns; /* by file descriptor */
static char input[INPUT];

static void
load_answer(const char *path)
{
    struct stat info;
    int fd = open(path, O_RDONLY);

    if (fd < 0 || fstat(fd, &info) < 0) {
        die(path);
    }
    config.head = config.one = (size_t)info.st_size;
    config.batch = config.head <= SMALL / BATCH ? BATCH : 1;
    config.answers = malloc(config.head * config.batch);
    if (config.answers == NULL ||
        read(fd, config.answers, config.head) != info.st_size) {
        die(path);
    }
    for (size_t i = 1; i < config.batch; i++) {
        memcpy(config.answers + i * config.head, config.answers, config.head);
    }
    close(fd);
}

static void
load_file(const char *path)
{
    struct stat info;

    config.file = open(path, O_RDONLY);
    if (config.file < 0 || fstat(config.file, &info) < 0) {
        die(path);
    }
    config.one += (size_t)info.st_size;
    config.batch = 1;
}

/* Where the blank line ends that begins in the last read or in this one; NULL if it
 * does not end here. */
static const char *
blank_line_end(conn *c, const char *at, const char *end)
{
    static const char blank[] = "\r\n\r\n";
    size_t rest = 4 - c->matched;
    const char *found;

    if (c->matched != 0 && (size_t)(end - at) >= rest &&
        memcmp(at, blank + c->matched, rest) == 0) {
        c->matched = 0;
        return at + rest;
    }
    c->matched = 0;
    found = memmem(at, (size_t)(end - at), blank, 4);
    if (found != NULL) {
        return found + 4;
    }
    for (size_t n = 3; n > 0; n--) {
        if ((size_t)(end - at) >= n && memcmp(end - n, blank, n) == 0) {
            c->matched = (unsigned)n;
            break;
        }
    }
    return NULL;
}

/* How many requests end in these bytes. */
static size_t
count_requests(conn *c, const char *at, const char *end)
{
    size_t requests = 0;

    while (at < end) {
        if (c->body_left > 0) {
            size_t skip = (size_t)(end - at);
            skip = skip < c->body_left ? skip : c->body_left;
            at += skip;
            c->body_left -= skip;
            requests += c->body_left == 0;
            continue;
        }
        if (config.whole > 0) {
            c->body_left = config.whole;
            continue;
        }
        at = blank_line_end(c, at, end);
        if (at == NULL) {
            break;
        }
        c->body_left = config.body;
        requests += config.body == 0;
    }
    return requests;
}

/* Send what is owed, as far as the socket takes it. 0, or -1 when the peer is gone. */
static int
send_owed(int fd, conn *c)
{
    while (c->owed > 0) {
        size_t left = c->owed % config.one; /* of the answer in hand */
        size_t done = left == 0 ? 0 : config.one - left;
        ssize_t sent;

        if (done >= config.head) {
            off_t offset = (off_t)(done - config.head);
            sent = sendfile(fd, config.file, &offset, config.one - done);
        }
        else {
            size_t room = config.head * config.batch - done;
            size_t owed = config.file < 0 && c->owed < room ? c->owed : room;
            int more = config.file < 0 ? 0 : MSG_MORE;
            sent = send(fd, config.answers + done, owed, MSG_NOSIGNAL | more);
        }
        if (sent < 0) {
            return errno == EAGAIN ? 0 : -1;
        }
        c->owed -= (size_t)sent;
    }
    return 0;
}

/* Read until a short read says that the socket is empty, and answer. 0 when the
 * connection goes on, 1 when it answered and is to be closed, -1 when it is over. */
static int
serve(int fd, conn *c)
{
    for (;;) {
        ssize_t got = recv(fd, input, sizeof input, 0);
        size_t requests;

        if (got <= 0) {
            return got < 0 && errno == EAGAIN ? 0 : -1;
        }
        requests = count_requests(c, input, input + got);
        if (requests > 0) {
            c->owed += requests * config.one;
            if (send_owed(fd, c) < 0) {
                return -1;
            }
            if (config.close && c->owed == 0) {
                return 1;
            }
        }
        if ((size_t)got < sizeof input) {
            return 0;
        }
    }
}

static void
accept_all(int epoll, int listener)
{
    for (;;) {
        struct epoll_event event = {.events = EPOLLIN | EPOLLRDHUP | EPOLLET};
        int fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);

        if (fd < 0) {
            return;
        }
        memset(&conns[fd], 0, sizeof conns[fd]);
        if (config.close && serve(fd, &conns[fd]) != 0) {
            close(fd);
            continue;
        }
        if (config.one > SMALL) {
            event.events |= EPOLLOUT;
        }
        event.data.fd = fd;
        epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event);
    }
}

static int
listen_on(int port)
{
    int on = 1;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    struct sockaddr_in address = {
        .sin_family = AF_INET,
        .sin_port = htons((uint16_t)port),
        .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
    };

    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    if (bind(fd, (struct sockaddr *)&address, sizeof address) < 0 ||
        listen(fd, 2048) < 0) {
        die("listen");
    }
    if (config.defer &&
        setsockopt(fd, IPPROTO_TCP, TCP_DEFER_ACCEPT, &on, sizeof on) < 0) {
        die("TCP_DEFER_ACCEPT");
    }
    return fd;
}

static int
listen_at(const char *path)
{
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    struct sockaddr_un address = {.sun_family = AF_UNIX};

    strncpy(address.sun_path, path, sizeof address.sun_path - 1);
    if (bind(fd, (struct sockaddr *)&address, sizeof address) < 0 ||
        listen(fd, 2048) < 0) {
        die(path);
    }
    return fd;
}

static void
run(int listener)
{
    struct epoll_event events[EVENTS];
    struct epoll_event event = {.events = EPOLLIN, .data.fd = listener};
    int epoll = epoll_create1(EPOLL_CLOEXEC);

    epoll_ctl(epoll, EPOLL_CTL_ADD, listener, &event);
    for (;;) {
        int count = epoll_wait(epoll, events, EVENTS, -1);

        for (int i = 0; i < count; i++) {
            int fd = events[i].data.fd;
            int over = 0;

            if (fd == listener) {
                accept_all(epoll, listener);
                continue;
            }
            if (events[i].events & EPOLLOUT && conns[fd].owed > 0) {
                over = send_owed(fd, &conns[fd]);
            }
            if (over == 0 && events[i].events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP)) {
                over = serve(fd, &conns[fd]);
            }
            if (over != 0 || (events[i].events & EPOLLRDHUP && conns[fd].owed == 0)) {
                close(fd);
            }
        }
    }
}

int
main(int argc, char **argv)
{
    struct rlimit files;
    const char *path = NULL;
    int option, port = 0;

    while ((option = getopt(argc, argv, "p:u:a:f:b:n:cd")) != -1) {
        switch (option) {
        case 'p':
            port = atoi(optarg);
            break;
        case 'u':
            path = optarg;
            break;
        case 'a':
            load_answer(optarg);
            break;
        case 'f':
            load_file(optarg);
            break;
        case 'b':
            config.body = strtoul(optarg, NULL, 10);
            break;
        case 'n':
            config.whole = strtoul(optarg, NULL, 10);
            break;
        case 'c':
            config.close = 1;
            break;
        case 'd':
            config.defer = 1;
            break;
        default:
            return 2;
        }
    }
    if ((port == 0 && path == NULL) || config.answers == NULL) {
        fprintf(stderr, "usage: floor -p PORT | -u PATH -a ANSWER "
                        "[-f FILE] [-b N | -n N] [-cd]\n");
        return 2;
    }
    signal(SIGPIPE, SIG_IGN);
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    conns = calloc(files.rlim_max, sizeof *conns);
    if (conns == NULL) {
        die("conns");
    }
    run(path != NULL ? listen_at(path) : listen_on(port));
    return 0;
}
