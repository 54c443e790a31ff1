/* packets.c - sends one packet over and over, as a web server asks a server behind it:
 * a connection to a Unix socket for each, which the server closes after its answer.
 *
 *     packets -u PATH -f PACKET -s SECONDS -c CONNECTIONS -b BODY_BYTES
 *
 * PACKET is a file with the bytes to send; CONNECTIONS are open at a time. Prints one
 * line, with the times from connect to close of the answers in microseconds:
 *
 *     counted ANSWERS MICROSECONDS P50 P99
 *
 * An answer without the status 200 or with a body of another length, an error, or ten
 * silent seconds end it with a sentence on stderr. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "fail.h"

enum { EVENTS = 256, INPUT = 4096, LONGEST_US = 1000000, PATIENCE_MS = 10000 };

typedef struct {
    int fd;
    uint64_t began_us;
    size_t length;
    char input[INPUT];
} conn;

static struct {
    struct sockaddr_un to;
    char *packet;
    size_t size, body;
    int seconds, connections;
} config = {.to = {.sun_family = AF_UNIX}};

static struct {
    conn *conns;
    int epoll;
    uint64_t until_us;
    long answers;
    uint32_t took[LONGEST_US + 1]; /* how many answers took so many microseconds */
} run;

static uint64_t
now_us(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000;
}

static void
load_packet(const char *path)
{
    struct stat info;
    int fd = open(path, O_RDONLY | O_CLOEXEC);

    if (fd < 0 || fstat(fd, &info) < 0) {
        die(path);
    }
    config.size = (size_t)info.st_size;
    config.packet = malloc(config.size);
    if (config.packet == NULL || read(fd, config.packet, config.size) != info.st_size) {
        die(path);
    }
    close(fd);
}

static void
ask(conn *c)
{
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = c};

    c->began_us = now_us();
    c->length = 0;
    c->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (c->fd < 0 ||
        connect(c->fd, (struct sockaddr *)&config.to, sizeof config.to) < 0) {
        die("connect");
    }
    if (send(c->fd, config.packet, config.size, MSG_NOSIGNAL) != (ssize_t)config.size) {
        die("send");
    }
    if (epoll_ctl(run.epoll, EPOLL_CTL_ADD, c->fd, &event) < 0) {
        die("epoll_ctl");
    }
}

static void
judge(const conn *c)
{
    const char *end = memmem(c->input, c->length, "\r\n\r\n", 4);

    if (end == NULL) {
        refuse("a connection was closed before its answer");
    }
    if (c->length < 12 || memcmp(c->input + 9, "200", 3) != 0) {
        refuse("an answer that is not 200");
    }
    if (c->length - (size_t)(end + 4 - c->input) != config.body) {
        refuse("an answer of another length");
    }
}

/* The answer is there: count it, and ask again. */
static void
answered(conn *c)
{
    uint64_t took = now_us() - c->began_us;

    judge(c);
    run.answers++;
    run.took[took < LONGEST_US ? took : LONGEST_US]++;
    close(c->fd);
    ask(c);
}

/* Read what is there; the end of the connection is the end of the answer. */
static void
receive(conn *c)
{
    for (;;) {
        size_t room = INPUT - c->length;
        ssize_t n = recv(c->fd, c->input + c->length, room, MSG_DONTWAIT);

        if (n == 0) {
            answered(c);
            return;
        }
        if (n < 0 && errno == EAGAIN) {
            return;
        }
        if (n < 0) {
            die("recv");
        }
        c->length += (size_t)n;
        if (c->length == INPUT) {
            refuse("an answer that is too long");
        }
    }
}

static void
keep_asking(void)
{
    struct epoll_event events[EVENTS];

    while (now_us() < run.until_us) {
        int count = epoll_wait(run.epoll, events, EVENTS, PATIENCE_MS);

        if (count < 0 && errno != EINTR) {
            die("epoll_wait");
        }
        if (count == 0) {
            refuse("no answer for ten seconds");
        }
        for (int i = 0; i < count; i++) {
            receive(events[i].data.ptr);
        }
    }
}

static unsigned
percentile(double percent)
{
    long left = (long)((double)run.answers * percent / 100);
    unsigned at = 0;

    while (at < LONGEST_US && left >= (long)run.took[at]) {
        left -= (long)run.took[at++];
    }
    return at;
}

static void
read_options(int argc, char **argv)
{
    int option;

    while ((option = getopt(argc, argv, "u:f:s:c:b:")) != -1) {
        switch (option) {
        case 'u':
            if (strlen(optarg) >= sizeof config.to.sun_path) {
                refuse("the path of the socket is too long");
            }
            strcpy(config.to.sun_path, optarg);
            break;
        case 'f':
            load_packet(optarg);
            break;
        case 's':
            config.seconds = atoi(optarg);
            break;
        case 'c':
            config.connections = atoi(optarg);
            break;
        case 'b':
            config.body = strtoul(optarg, NULL, 10);
            break;
        default:
            exit(2);
        }
    }
    if (config.to.sun_path[0] == '\0' || config.packet == NULL || config.seconds < 1 ||
        config.connections < 1) {
        fprintf(stderr, "packets -u PATH -f PACKET -s SECONDS -c CONNECTIONS -b N\n");
        exit(2);
    }
}

int
main(int argc, char **argv)
{
    uint64_t began_us;

    read_options(argc, argv);
    run.epoll = epoll_create1(EPOLL_CLOEXEC);
    run.conns = calloc((size_t)config.connections, sizeof *run.conns);
    if (run.epoll < 0 || run.conns == NULL) {
        die("start");
    }
    began_us = now_us();
    run.until_us = began_us + (uint64_t)config.seconds * 1000000;
    for (int i = 0; i < config.connections; i++) {
        ask(&run.conns[i]);
    }
    keep_asking();
    printf("counted %ld %llu %u %u\n", run.answers,
           (unsigned long long)(now_us() - began_us), percentile(50), percentile(99));
    return 0;
}
