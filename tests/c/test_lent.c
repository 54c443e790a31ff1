/* Listeners that come and go, and the rules by which any listener is let go of. */
#include "peer.h"

#include <dirent.h>
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "engine/accept.h"
#include "engine/lent.h"

/* More than an engine here has room for. */
#define MANY (PWS_ACCEPT_SLACK + 16 + 8)

static rig r;
static peer peers[MANY];
static pws_listener room[4]; /* ours, and places for those that are lent */
static int mail[2];

static void
open_shared(pws_listener *listener, const pws_address *address)
{
    const pws_listener_options options = {
        .backlog = 128, .uid = (uid_t)-1, .gid = (gid_t)-1, .reuse_port = true};
    char why[128];

    CHECK_EQ(pws_listener_open(listener, address, &options, why, sizeof(why)), 0);
}

/* An engine with one listener, whose address others can have as well, and a master. */
static void
open_all(unsigned places)
{
    pws_address address;
    char why[128];

    CHECK_EQ(pws_address_parse(&address, "127.0.0.1:0", why, sizeof(why)), 0);
    rig_prepare(&r);
    r.config.worker_connections = 16;
    open_shared(&room[0], &address);
    CHECK_EQ(pws_engine_init(&r.engine, &r.config, room, 1), 0);
    r.engine.listener_room = places;
    r.listener_count = 0; /* the rig has none of its own */
    CHECK_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, mail), 0);
    CHECK_EQ(pws_poller_add_letters(&r.engine.poller, mail[0]), 0);
    r.serve = true;
}

static void
close_all(unsigned clients)
{
    for (unsigned i = 0; i < clients; i++) {
        peer_close(&peers[i]);
    }
    UNTIL(&r, pws_engine_open(&r.engine) == 0);
    rig_close(&r);
    pws_listener_close(&room[0]);
    close(mail[0]);
    close(mail[1]);
}

static void
lend(const pws_listener *listener)
{
    char text = 0;
    int fd = listener->fd;
    const pws_parcel parcel = {.text = &text, .size = 1, .fds = &fd, .count = 1};

    CHECK_EQ(pws_pass_send(mail[1], &parcel), 0);
}

static void
tell(unsigned letter)
{
    const char byte = (char)letter;

    CHECK_EQ(write(mail[1], &byte, 1), 1);
}

static void
connect_peers(unsigned from, unsigned to)
{
    for (unsigned i = from; i < to; i++) {
        memset(&peers[i], 0, sizeof(peers[i]));
        peers[i].r = &r;
        peers[i].fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        CHECK_EQ(connect(peers[i].fd, &room[0].address.sa.any, room[0].address.len), 0);
        peer_send(&peers[i], request("GET", "/a", ""));
    }
}

static void
check_answers(unsigned from, unsigned to)
{
    for (unsigned i = from; i < to; i++) {
        CHECK_EQ(peer_response(&peers[i]), 200);
    }
}

/* How many wait at a listener. */
static unsigned
take_all(const pws_listener *listener)
{
    unsigned n = 0;
    int fd;

    while ((fd = accept(listener->fd, NULL, NULL)) >= 0) {
        close(fd);
        n++;
    }
    CHECK_EQ(errno, EAGAIN);
    return n;
}

/* Lending. The kernel spreads clients over the sockets: of 24 some come to each. */

TEST(what_waits_at_a_lent_listener_is_served)
{
    pws_listener other;

    open_all(2);
    open_shared(&other, &room[0].address);
    connect_peers(0, 24);
    UNTIL(&r, r.served > 0);
    lend(&other);
    check_answers(0, 24);
    CHECK_EQ(r.engine.accepted, 24);
    CHECK_EQ(r.engine.listener_count, 2);
    CHECK_EQ(room[1].index, room[0].index);
    CHECK_EQ(r.engine.poller.letters, 0);
    pws_listener_close(&other);
    close_all(24);
}

TEST(who_lets_go_takes_what_waits_and_leaves_the_socket_alone)
{
    pws_listener other;
    unsigned left;

    open_all(2);
    open_shared(&other, &room[0].address);
    lend(&other);
    UNTIL(&r, r.engine.listener_count == 2);
    connect_peers(0, 24);
    tell(PWS_LETTER_LET_GO);
    check_answers(0, 24);
    CHECK_EQ(room[1].fd, -1);
    CHECK_EQ(r.engine.poller.letters, 0);

    connect_peers(24, 48);
    left = take_all(&other);
    CHECK(left > 0);
    UNTIL(&r, r.served + left == 48);
    pws_listener_close(&other);
    close_all(48);
}

TEST(a_listener_can_be_lent_again_and_again)
{
    pws_listener other;

    open_all(2);
    open_shared(&other, &room[0].address);
    for (unsigned i = 0; i < 5; i++) {
        lend(&other);
        UNTIL(&r, r.engine.listener_count == 2 && room[1].fd >= 0);
        tell(PWS_LETTER_LET_GO);
        lend(&other);
        connect_peers(i * 8, i * 8 + 8);
        check_answers(i * 8, i * 8 + 8);
        tell(PWS_LETTER_LET_GO);
        UNTIL(&r, room[1].fd < 0);
    }
    CHECK_EQ(r.engine.poller.letters, 0);
    pws_listener_close(&other);
    close_all(40);
}

TEST(one_for_which_there_is_no_room_is_told_of)
{
    pws_listener other;

    open_all(1);
    open_shared(&other, &room[0].address);
    lend(&other);
    UNTIL(&r, r.engine.poller.letters == PWS_LETTER_LOST);
    CHECK_EQ(r.engine.listener_count, 1);
    pws_listener_close(&other);
    close_all(0);
}

TEST(one_of_another_address_is_told_of)
{
    pws_listener other;
    pws_address address;
    char why[64];

    open_all(4);
    CHECK_EQ(pws_address_parse(&address, "127.0.0.1:0", why, sizeof(why)), 0);
    open_shared(&other, &address);
    lend(&other);
    UNTIL(&r, r.engine.poller.letters == PWS_LETTER_LOST);
    CHECK_EQ(r.engine.listener_count, 1);
    pws_listener_close(&other);
    close_all(0);
}

TEST(one_that_cannot_be_watched_is_told_of)
{
    pws_listener other;
    int watched;

    open_all(4);
    open_shared(&other, &room[0].address);
    r.engine.poller.passed[0] = dup(other.fd);
    r.engine.poller.passed_count = 1;
    watched = r.engine.poller.fd;
    r.engine.poller.fd = -1;
    pws_lent_heed(&r.engine);
    r.engine.poller.fd = watched;
    CHECK_EQ(r.engine.poller.letters, PWS_LETTER_LOST);
    CHECK_EQ(room[1].fd, -1);
    pws_listener_close(&other);
    close_all(0);
}

TEST(a_drain_empties_and_closes_what_is_lent)
{
    pws_listener other;

    open_all(2);
    open_shared(&other, &room[0].address);
    lend(&other);
    UNTIL(&r, r.engine.listener_count == 2);
    connect_peers(0, 24);
    pws_engine_drain(&r.engine);
    CHECK(room[0].fd < 0 && room[1].fd < 0);
    CHECK_EQ(r.engine.accepted, 24);
    CHECK_EQ(take_all(&other), 0);
    lend(&other); /* the master has not heard of it yet */
    check_answers(0, 24);
    CHECK_EQ(room[1].fd, -1);
    CHECK_EQ(r.engine.poller.letters, 0);
    pws_listener_close(&other);
    close_all(24);
}

TEST(letters_that_are_not_for_the_engine_are_left)
{
    open_all(1);
    tell(PWS_LETTER_LOOK | PWS_LETTER_LET_GO | 5);
    UNTIL(&r, r.engine.poller.letters != 0);
    CHECK_EQ(r.engine.poller.letters, 5);
    close_all(0);
}

/* The rules for all listeners */

static _Atomic bool waits;

/* A sibling that is woken for a connection and dies before it accepts it. */
static void *
be_woken(void *arg)
{
    struct epoll_event event = {.events = EPOLLIN | EPOLLEXCLUSIVE};
    int set = epoll_create1(EPOLL_CLOEXEC);

    CHECK_EQ(epoll_ctl(set, EPOLL_CTL_ADD, *(int *)arg, &event), 0);
    waits = true;
    CHECK_EQ(epoll_wait(set, &event, 1, -1), 1);
    close(set);
    return NULL;
}

/* Whether the other thread of this process sleeps. */
static bool
other_sleeps(void)
{
    DIR *folder = opendir("/proc/self/task");
    const struct dirent *entry;
    bool sleeps = false;

    while ((entry = readdir(folder)) != NULL) {
        char path[300], line[512], *after;
        FILE *file;

        if (entry->d_name[0] == '.' || atoi(entry->d_name) == getpid()) {
            continue;
        }
        snprintf(path, sizeof(path), "/proc/self/task/%s/stat", entry->d_name);
        file = fopen(path, "r");
        if (file != NULL && fgets(line, sizeof(line), file) != NULL &&
            (after = strrchr(line, ')')) != NULL) {
            sleeps = sleeps || after[2] == 'S';
        }
        if (file != NULL) {
            fclose(file);
        }
    }
    closedir(folder);
    return sleeps;
}

TEST(a_look_finds_whom_a_dead_sibling_was_woken_for)
{
    pthread_t sibling;
    uint64_t before;

    open_all(1);
    /* The sibling comes first in the kernel's queue. */
    pws_poller_remove(&r.engine.poller, room[0].fd);
    waits = false;
    CHECK_EQ(pthread_create(&sibling, NULL, be_woken, &room[0].fd), 0);
    while (!waits || !other_sleeps()) {
        sched_yield();
    }
    CHECK_EQ(pws_accept_watch(&r.engine, &room[0]), 0);
    connect_peers(0, 1);
    CHECK_EQ(pthread_join(sibling, NULL), 0);
    for (int i = 0; i < 10; i++) {
        rig_step(&r, rig_deadline());
    }
    before = r.engine.accepted;
    tell(PWS_LETTER_LOOK);
    check_answers(0, 1);
    CHECK_EQ(before, 0); /* nobody was told */
    close_all(1);
}

TEST(an_event_is_one_accept_where_others_may_be_idle)
{
    static const _Atomic uint32_t processes = 2;

    open_all(1);
    r.config.rivals = &processes;
    connect_peers(0, 5);
    for (unsigned i = 1; i <= 5; i++) {
        CHECK(pws_engine_poll(&r.engine, 100, -1) >= 0);
        CHECK_EQ(r.engine.accepted, i);
    }
    check_answers(0, 5);
    close_all(5);
}

TEST(who_connects_does_not_wait_behind_an_app_of_the_same_batch)
{
    open_all(1);
    connect_peers(0, 1);
    check_answers(0, 1);
    while (r.engine.poller.count > 0) { /* it sleeps in the set now */
        CHECK(pws_engine_poll(&r.engine, 1, 0) >= 0);
    }
    peer_send(&peers[0], request("GET", "/b", ""));
    connect_peers(1, 2);
    CHECK(pws_engine_poll(&r.engine, 1, -1) >= 0);
    CHECK_EQ(r.engine.queued, 1);
    CHECK_EQ(r.engine.accepted, 2);
    check_answers(0, 2);
    close_all(2);
}

TEST(a_drain_takes_a_queue_that_is_longer_than_its_room)
{
    open_all(1);
    connect_peers(0, MANY);
    pws_engine_drain(&r.engine);
    CHECK_EQ(r.engine.accepted, r.engine.slot_count);
    CHECK(room[0].fd >= 0);
    CHECK(!pws_engine_is_drained(&r.engine));
    check_answers(0, MANY);
    CHECK_EQ(r.engine.accepted, MANY);
    CHECK_EQ(room[0].fd, -1);
    UNTIL(&r, pws_engine_is_drained(&r.engine));
    close_all(MANY);
}

TEST(a_drain_without_descriptors_closes_what_is_empty_and_tries_the_rest_again)
{
    struct rlimit old, few;
    int next;

    for (unsigned clients = 0; clients < 2; clients++) {
        open_all(1);
        connect_peers(0, clients);
        next = dup(0);
        close(next);
        CHECK_EQ(getrlimit(RLIMIT_NOFILE, &old), 0);
        few = old;
        few.rlim_cur = (rlim_t)next;
        CHECK_EQ(setrlimit(RLIMIT_NOFILE, &few), 0);
        pws_engine_drain(&r.engine);
        CHECK_EQ(room[0].fd < 0, clients == 0);
        CHECK(pws_engine_poll(&r.engine, 1, 0) >= 0);
        CHECK_EQ(pws_engine_is_drained(&r.engine), clients == 0);
        CHECK_EQ(setrlimit(RLIMIT_NOFILE, &old), 0);
        check_answers(0, clients);
        CHECK_EQ(room[0].fd, -1);
        close_all(clients);
    }
}
