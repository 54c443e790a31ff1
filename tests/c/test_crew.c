/* engine/crew.c: threads that lead in turn, with an app in C.
 *
 * PWS_HANDOVERS says how often a connection goes from one thread to the other in the
 * test for that: a million under ThreadSanitizer. */
#include "peer.h"

#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "engine/crew.h"
#include "engine/io.h"

#define SEATS_MAX 8

static rig r;
static pws_crew crew;
static pthread_t threads[SEATS_MAX];
static _Atomic unsigned inside, most_inside, handovers;
static _Atomic(pws_seat *) last_seat;
static pws_poller *ring;  /* the bell of a crew beside a loop, or NULL */
static bool buffers;      /* bodies are received before the app has them */
static _Atomic bool gate; /* closed for apps that wait for it */

/* CHECK is for the test's own thread. */
static void
sure(bool well, int line)
{
    if (!well) {
        (void)fprintf(stderr, "%s:%d: wrong in a thread\n", __FILE__, line);
        abort();
    }
}
#define SURE(condition) sure((condition), __LINE__)

static void
note_inside(void)
{
    unsigned now = atomic_fetch_add(&inside, 1) + 1, most = atomic_load(&most_inside);

    while (now > most && !atomic_compare_exchange_weak(&most_inside, &most, now)) {
    }
}

/* Read a streamed body to its end, parked where there is nothing. Returns its length,
 * or -1. */
static ssize_t
read_body(pws_exchange *x)
{
    const pws_crew_wish wish = {
        .x = x, .what = PWS_READABLE | PWS_PEER_DONE, .deadline_ms = PWS_NEVER};
    char bytes[16];
    ssize_t n, got = 0;

    while ((n = pws_exchange_read(x, bytes, sizeof(bytes))) != 0) {
        if (n > 0) {
            got += n;
        }
        else if (n != PWS_IO_AGAIN || pws_crew_park(&crew, &wish) == PWS_PARK_OVER) {
            return -1;
        }
    }
    return got;
}

static void
app(pws_seat *seat, pws_exchange *x)
{
    pws_slice target = pws_request_slice(&x->request, x->request.target);
    char body[64];
    ssize_t got;

    if (atomic_exchange(&last_seat, seat) != seat) {
        atomic_fetch_add(&handovers, 1);
    }
    note_inside();
    switch (target.at[1]) {
    case 'g':
        while (atomic_load(&gate)) {
            (void)poll(NULL, 0, 1);
        }
        break;
    case 's':
        (void)poll(NULL, 0, 3);
        break;
    default:
        break;
    }
    got = read_body(x);
    atomic_fetch_sub(&inside, 1);
    SURE(got >= 0 || x->engine->park.end_ms == 0);
    snprintf(body, sizeof(body), "%.*s", (int)target.len, target.at);
    rig_begin(x, "200 OK", strlen(body));
    SURE(pws_exchange_write(x, body, strlen(body), NULL) == 0);
    SURE(pws_exchange_finish(x) == 0);
}

static void *
work(void *arg)
{
    pws_seat *seat = arg;
    bool goes_on = true;

    while (goes_on) {
        pws_exchange *x;

        pws_crew_take(&crew);
        x = pws_crew_next(&crew, seat);
        if (x == NULL) {
            goes_on = pws_crew_wait(&crew, seat);
            continue;
        }
        pws_crew_enter(&crew, seat, x);
        app(seat, x);
        pws_crew_done(seat, x);
    }
    pws_crew_leave(&crew);
    return NULL;
}

static void
start(unsigned count, bool relieved)
{
    rig_prepare(&r);
    r.config.request_buffering = buffers;
    rig_open(&r);
    CHECK_EQ(pws_crew_init(&crew, &r.engine, count), 0);
    crew.bell = ring;
    if (relieved) {
        CHECK_EQ(pws_relief_start(&r.engine.relief, &r.engine), 0);
        pws_hold_allow_crew(&r.engine.hold, &r.engine.relief);
    }
    for (unsigned i = 0; i < count; i++) {
        pws_crew_join(&crew);
        CHECK_EQ(pthread_create(&threads[i], NULL, work, &crew.seats[i]), 0);
    }
    pws_crew_begin(&crew);
}

static void
finish(void)
{
    uint32_t seen = 0;

    pws_crew_end(&crew);
    while (atomic_load(&crew.present) > 0) {
        seen = pws_crew_wait_call(&crew, seen, 100);
    }
    for (unsigned i = 0; i < crew.count; i++) {
        pthread_join(threads[i], NULL);
    }
    pws_relief_end(&r.engine.relief);
    CHECK_EQ(crew.out, 0);
    CHECK_EQ(crew.coming, 0);
    rig_close(&r);
    pws_crew_free(&crew);
}

static int
dial(void)
{
    const pws_address *to = &r.listeners[0].address;
    int fd = socket(to->sa.any.sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0);

    SURE(fd >= 0);
    SURE(connect(fd, &to->sa.any, to->len) == 0);
    return fd;
}

static void
say(int fd, const char *text)
{
    SURE(send(fd, text, strlen(text), MSG_NOSIGNAL) == (ssize_t)strlen(text));
}

/* The answer to a request for `target` comes within reason. */
static void
hear(int fd, const char *target)
{
    struct pollfd p = {.fd = fd, .events = POLLIN};
    char answer[1024];
    size_t len = 0, want = strlen(target);

    do {
        ssize_t n;

        SURE(poll(&p, 1, 20000) == 1);
        n = recv(fd, answer + len, sizeof(answer) - len, 0);
        SURE(n > 0);
        len += (size_t)n;
    } while (len < want + 4 || memcmp(answer + len - want, target, want) != 0 ||
             memcmp(answer + len - want - 4, "\r\n\r\n", 4) != 0);
    SURE(memcmp(answer, "HTTP/1.1 200", 12) == 0);
}

static void
ask(int fd, const char *target)
{
    char text[128];

    snprintf(text, sizeof(text), "GET %s HTTP/1.1\r\nHost: x\r\n\r\n", target);
    say(fd, text);
}

TEST(requests_are_served_by_whoever_leads)
{
    int fd;

    start(4, true);
    fd = dial();
    for (int i = 0; i < 200; i++) {
        ask(fd, "/quick");
        hear(fd, "/quick");
    }
    close(fd);
    finish();
}

/* Nothing but its own end is to come to the poller then. */
TEST(the_last_thing_of_a_drain_is_told_by_the_bell)
{
    pws_poller bell;
    int fd;

    CHECK_EQ(pws_poller_init(&bell), 0);
    ring = &bell;
    start(2, true);
    fd = dial();
    atomic_store(&gate, true);
    ask(fd, "/gate");
    for (int64_t until = rig_deadline(); atomic_load(&inside) < 1;) {
        CHECK(poll(NULL, 0, 1) == 0 && rig_deadline() - until < 20000);
    }
    pws_crew_take(&crew);
    pws_engine_drain(&r.engine);
    CHECK(!pws_engine_is_drained(&r.engine));
    pws_lease_drop(&r.engine.lease);
    atomic_store(&gate, false);
    hear(fd, "/gate");
    close(fd);
    for (bool drained = false; !drained;) {
        CHECK_EQ(poll(&(struct pollfd){.fd = bell.fd, .events = POLLIN}, 1, 20000), 1);
        CHECK_EQ(pws_poller_wait(&bell, 0), 0);
        CHECK(bell.woken);
        pws_crew_take(&crew);
        drained = pws_engine_is_drained(&r.engine);
        pws_lease_drop(&r.engine.lease);
    }
    finish();
    ring = NULL;
    pws_poller_close(&bell);
}

static void
hand_over(unsigned long times)
{
    int fd;

    start(2, false);
    pws_lease_take(&r.engine.lease);
    crew.lasts_ns = 0; /* so another is woken to lead before each call */
    pws_lease_drop(&r.engine.lease);
    fd = dial();
    atomic_store(&handovers, 0);
    while (atomic_load(&handovers) < times) {
        ask(fd, "/quick");
        hear(fd, "/quick");
    }
    close(fd);
    finish();
}

/* Most of it on one processor: another one that sleeps takes long to wake up. */
TEST(a_connection_goes_from_thread_to_thread)
{
    const char *wanted = getenv("PWS_HANDOVERS");
    unsigned long times = wanted != NULL ? strtoul(wanted, NULL, 10) : 5000;
    cpu_set_t one;

    hand_over(times / 50);
    CPU_ZERO(&one);
    CPU_SET((unsigned)sched_getcpu(), &one);
    CHECK_EQ(sched_setaffinity(0, sizeof(one), &one), 0);
    hand_over(times);
}

TEST(a_stuck_leader_is_replaced_until_all_are)
{
    enum { N = 4 };
    int fds[N], behind;
    unsigned lasting = 0;

    start(N, true);
    atomic_store(&gate, true);
    for (int i = 0; i < N; i++) { /* each is taken by the next leader */
        fds[i] = dial();
        ask(fds[i], "/gate");
    }
    for (int64_t until = rig_deadline(); atomic_load(&inside) < N;) {
        CHECK(poll(NULL, 0, 1) == 0 && rig_deadline() - until < 20000);
    }
    /* Who looks for a leader knows that these calls last, though none has ended. */
    for (int64_t until = rig_deadline(); lasting == 0;) {
        CHECK(poll(NULL, 0, 1) == 0 && rig_deadline() - until < 20000);
        CHECK(!pws_crew_promote(&crew));
        pws_crew_take(&crew);
        lasting = crew.lasting;
        pws_lease_drop(&r.engine.lease);
    }
    /* One that wants a page of our own shows that the relief polls. */
    behind = dial();
    say(behind, "GET / HTTP/1.1\r\n\r\n"); /* no Host */
    for (int64_t until = rig_deadline();
         atomic_load(&r.engine.relief.word) != PWS_RELIEF_POLLS;) {
        CHECK(poll(NULL, 0, 1) == 0 && rig_deadline() - until < 20000);
    }
    atomic_store(&gate, false);
    for (int i = 0; i < N; i++) {
        hear(fds[i], "/gate");
        close(fds[i]);
    }
    CHECK_EQ(poll(&(struct pollfd){.fd = behind, .events = POLLIN}, 1, 20000), 1);
    close(behind);
    finish();
}

/* A client that sends a body as fast as it can, until it is told to stop. */
static void *
upload(void *stop)
{
    static const char bytes[65536];
    int fd = dial();

    say(fd, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000000000\r\n\r\n");
    while (!atomic_load((_Atomic bool *)stop)) {
        (void)send(fd, bytes, sizeof(bytes), MSG_NOSIGNAL | MSG_DONTWAIT);
    }
    close(fd);
    return NULL;
}

/* It finds more to read in each turn, and does not wait. */
TEST(a_leader_that_always_has_something_to_do_lets_others_have_the_lease)
{
    enum { N = 4 };
    static _Atomic bool stop;
    pthread_t clients[N];

    buffers = true;
    start(2, true);
    for (int i = 0; i < N; i++) {
        CHECK_EQ(pthread_create(&clients[i], NULL, upload, &stop), 0);
    }
    for (unsigned turns = 0; turns < 20;) {
        pws_crew_take(&crew);
        turns += pws_engine_open(&r.engine) == N;
        pws_lease_drop(&r.engine.lease);
    }
    atomic_store(&stop, true);
    for (int i = 0; i < N; i++) {
        pthread_join(clients[i], NULL);
    }
    finish();
    buffers = false;
}

static unsigned
pick(unsigned *seed, unsigned n)
{
    return (unsigned)rand_r(seed) % n;
}

/* A client of the storm: requests of all kinds, one after the other. */
static void *
rage(void *arg)
{
    unsigned seed = (unsigned)(uintptr_t)arg, rounds = 150;

    while (rounds > 0) {
        int fd = dial();

        for (unsigned i = pick(&seed, 20); i > 0 && rounds > 0; i--, rounds--) {
            switch (pick(&seed, 4)) {
            case 0:
                ask(fd, "/sleep");
                hear(fd, "/sleep");
                break;
            case 1:
                say(fd, "POST /body HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n");
                (void)poll(NULL, 0, (int)pick(&seed, 3));
                say(fd, "a");
                (void)poll(NULL, 0, (int)pick(&seed, 3));
                say(fd, "b");
                hear(fd, "/body");
                break;
            case 2: /* pipelined */
                ask(fd, "/one");
                ask(fd, "/two");
                hear(fd, "/two");
                break;
            default:
                ask(fd, "/quick");
                hear(fd, "/quick");
            }
        }
        close(fd);
    }
    return NULL;
}

/* As around forks. */
static void *
pause_now_and_then(void *stop)
{
    while (!atomic_load((_Atomic bool *)stop)) {
        pws_relief_pause(&r.engine.relief);
        pws_relief_pause(&r.engine.relief);
        pws_relief_go_on(&r.engine.relief);
        pws_relief_go_on(&r.engine.relief);
        (void)poll(NULL, 0, 7);
    }
    return NULL;
}

/* Of two forks that overlap the first began before there was a crew: its end is not the
 * other one's. */
TEST(a_crew_is_held_until_the_last_fork_is_done)
{
    pws_relief *relief = &r.engine.relief;

    rig_prepare(&r);
    rig_open(&r);
    pws_relief_pause(relief);
    CHECK_EQ(pws_crew_init(&crew, &r.engine, 2), 0);
    pws_relief_pause(relief);
    pws_relief_go_on(relief);
    CHECK(!pws_lease_try_take(&r.engine.lease));
    pws_relief_go_on(relief);
    CHECK(pws_lease_try_take(&r.engine.lease));
    pws_lease_drop(&r.engine.lease);
    rig_close(&r);
    pws_crew_free(&crew);
}

TEST(a_storm_of_clients_is_served)
{
    enum { N = 12 };
    static _Atomic bool stop;
    pthread_t clients[N], forks;

    start(4, true);
    CHECK_EQ(pthread_create(&forks, NULL, pause_now_and_then, &stop), 0);
    for (uintptr_t i = 0; i < N; i++) {
        CHECK_EQ(pthread_create(&clients[i], NULL, rage, (void *)(i + 1)), 0);
    }
    for (int i = 0; i < N; i++) {
        pthread_join(clients[i], NULL);
    }
    atomic_store(&stop, true);
    pthread_join(forks, NULL);
    CHECK(atomic_load(&most_inside) > 1);
    finish();
}

TEST(those_who_wait_for_a_client_end_with_the_rest)
{
    int fd;

    start(2, true);
    fd = dial();
    say(fd, "POST /body HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n");
    for (int64_t until = rig_deadline(); atomic_load(&inside) < 1;) {
        CHECK(poll(NULL, 0, 1) == 0 && rig_deadline() - until < 20000);
    }
    pws_crew_take(&crew);
    pws_park_end_at(&r.engine, 0);
    pws_lease_drop(&r.engine.lease);
    finish();
    close(fd);
}
