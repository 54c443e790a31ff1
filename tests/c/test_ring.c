/* Lines in memory that outlives their producer: none is lost, whenever it is killed. */
#include "base/ring.h"

#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "harness.h"

#define SIZE 512

static pws_ring ring;
static pws_sink sink;
static FILE *file;
static char text[1024 * 1024];

/* A ring on guarded memory: what is beyond it dies. The file is in append mode. */
static void
start(size_t size)
{
    static const char zeros[PWS_RING_SIZE];
    char name[] = "/tmp/pws-ring-XXXXXX";
    int fd = mkostemp(name, O_APPEND | O_CLOEXEC);

    CHECK(fd >= 0);
    unlink(name);
    file = fdopen(fd, "r+");
    sink = (pws_sink)PWS_SINK_ON(-1);
    CHECK_EQ(pws_sink_open(&sink, fd), 0);
    pws_ring_open(&ring, guarded(zeros, size), size);
}

static void
finish(void)
{
    pws_sink_close(&sink);
    fclose(file);
}

static pws_slice
content(void)
{
    ssize_t n = pread(fileno(file), text, sizeof(text), 0);

    CHECK(n >= 0 && n < (ssize_t)sizeof(text));
    return (pws_slice){text, (size_t)n};
}

static bool
put(const char *line)
{
    return pws_ring_put(&ring, pws_slice_of(line));
}

TEST(lines_come_out_as_they_went_in)
{
    start(SIZE);
    CHECK(pws_ring_write(&ring, &sink));
    CHECK_EQ(pws_ring_waiting(&ring), 0);
    CHECK(put("one\n") && put("\n") && put("three\n"));
    CHECK_EQ(pws_ring_waiting(&ring), 11);
    CHECK_EQ(content().len, 0);
    CHECK(pws_ring_write(&ring, &sink));
    CHECK_EQ(pws_ring_waiting(&ring), 0);
    CHECK(pws_ring_write(&ring, &sink));
    CHECK_BYTES(content().at, content().len, "one\n\nthree\n");
    finish();
}

/* Of each length, at each place: lines are never split by the end of the room. */
TEST(lines_of_every_length_fit_everywhere)
{
    static char want[sizeof(text)];
    char line[SIZE / 2];
    size_t total = 0;

    start(SIZE);
    for (size_t i = 0; i < 4000; i++) {
        size_t len = 1 + i * 7 % 200;

        memset(line, 'a' + (int)(i % 26), len);
        line[len - 1] = '\n';
        while (!pws_ring_put(&ring, (pws_slice){line, len})) {
            CHECK(pws_ring_waiting(&ring) > 0);
            CHECK(pws_ring_write(&ring, &sink));
        }
        memcpy(want + total, line, len);
        total += len;
    }
    CHECK(pws_ring_write(&ring, &sink));
    CHECK(pws_slice_eq(content(), (pws_slice){want, total}));
    finish();
}

TEST(a_full_ring_takes_no_more_and_loses_nothing)
{
    size_t n = 0;

    start(SIZE);
    while (put("0123456789\n")) {
        n++;
    }
    CHECK(n >= (SIZE - 64) / 11);
    CHECK(put("x\n") || pws_ring_waiting(&ring) + 2 > SIZE - 64);
    CHECK(!pws_ring_put(&ring, (pws_slice){text, 2 * SIZE}));
    CHECK(pws_ring_write(&ring, &sink));
    CHECK(content().len >= n * 11);
    CHECK(put("0123456789\n"));
    finish();
}

TEST(a_detached_ring_takes_nothing)
{
    start(SIZE);
    ring.memory = NULL;
    CHECK(!put("x\n"));
    CHECK(pws_ring_write(&ring, &sink));
    CHECK_EQ(pws_ring_waiting(&ring), 0);
    finish();
}

/* A pipe that is full takes a part: the rest stays, in whole lines. */
TEST(what_could_not_be_written_waits)
{
    pws_sink pipe_sink = PWS_SINK_ON(-1);
    char want[32];
    size_t got = 0, lines = 0;
    int ends[2];
    ssize_t n;

    CHECK_EQ(pipe2(ends, O_NONBLOCK), 0);
    CHECK_EQ(pws_sink_open(&pipe_sink, ends[1]), 0);
    start(PWS_RING_SIZE);
    do {
        snprintf(want, sizeof(want), "%06zu\n", lines++);
        CHECK(put(want));
    } while (lines % 1000 != 0 || pws_ring_write(&ring, &pipe_sink));
    CHECK(pws_ring_waiting(&ring) > 0 && pws_ring_waiting(&ring) % 7 == 0);
    while ((n = read(ends[0], text + got, sizeof(text) - got)) > 0) {
        got += (size_t)n;
        (void)pws_ring_write(&ring, &pipe_sink);
    }
    CHECK_EQ(got, lines * 7);
    for (size_t i = 0; i < lines; i++) {
        snprintf(want, sizeof(want), "%06zu\n", i);
        CHECK(memcmp(text + i * 7, want, 7) == 0);
    }
    pws_sink_close(&pipe_sink);
    close(ends[0]);
    close(ends[1]);
    finish();
}

/* A disk that becomes full within a line: that line comes again, as a whole. */
TEST(a_line_that_was_written_in_part_is_written_again)
{
    struct rlimit before, low;

    start(SIZE);
    signal(SIGXFSZ, SIG_IGN);
    CHECK_EQ(getrlimit(RLIMIT_FSIZE, &before), 0);
    low = (struct rlimit){6, before.rlim_max};
    CHECK(put("one\n") && put("two\n"));
    CHECK_EQ(setrlimit(RLIMIT_FSIZE, &low), 0);
    CHECK(!pws_ring_write(&ring, &sink));
    CHECK_EQ(pws_ring_waiting(&ring), 4);
    CHECK_EQ(setrlimit(RLIMIT_FSIZE, &before), 0);
    CHECK(pws_ring_write(&ring, &sink));
    CHECK_BYTES(content().at, content().len, "one\ntw\ntwo\n");
    finish();
}

TEST(what_the_dead_have_left_is_written)
{
    start(SIZE);
    CHECK(put("a\n") && put("b\n"));
    CHECK(pws_ring_drain(ring.memory, SIZE, fileno(file)));
    CHECK(pws_ring_drain(ring.memory, SIZE, fileno(file)));
    CHECK_BYTES(content().at, content().len, "a\nb\n");
    CHECK(put("c\n"));
    CHECK(pws_ring_drain(ring.memory, SIZE, fileno(file)));
    CHECK_BYTES(content().at, content().len, "a\nb\nc\n");
    finish();
}

/* The positions, as ring.c has them. */
static _Atomic uint64_t *
positions(void)
{
    return (_Atomic uint64_t *)ring.memory;
}

TEST(a_write_that_was_cut_short_does_not_spoil_the_next_line)
{
    start(SIZE);
    CHECK(put("a\n") && put("b\n"));
    CHECK_EQ(write(fileno(file), "a\nto", 4), 4); /* the kernel came so far */
    positions()[2] = 4;                           /* and the write() was noted */
    CHECK(pws_ring_drain(ring.memory, SIZE, fileno(file)));
    CHECK_BYTES(content().at, content().len, "a\nto\na\nb\n");

    CHECK(put("c\n"));
    positions()[2] = 6;
    CHECK(pws_ring_drain(ring.memory, SIZE, fileno(file)));
    CHECK_BYTES(content().at, content().len, "a\nto\na\nb\nc\n");
    finish();
}

/* An app can write anywhere in its memory, this included. */
TEST(spoilt_memory_harms_nobody)
{
    static const uint64_t values[] = {
        0, 1, 5, 100, SIZE, SIZE - 24, 1000, 1u << 31, UINT64_MAX - 3, UINT64_MAX,
    };
    enum { COUNT = sizeof(values) / sizeof(values[0]) };

    start(SIZE);
    for (size_t i = 0; i < COUNT * COUNT * COUNT * 3; i++) {
        static const char bytes[] = {'\0', 'x', '\n'};

        memset((char *)ring.memory + 24, bytes[i % 3], SIZE - 24);
        positions()[0] = values[i / 3 % COUNT];
        positions()[1] = values[i / 3 / COUNT % COUNT];
        positions()[2] = values[i / 3 / COUNT / COUNT % COUNT];
        CHECK(pws_ring_drain(ring.memory, SIZE, fileno(file)));
        CHECK_EQ(pws_ring_waiting(&ring), 0);
        CHECK(put("ok\n"));
        CHECK(pws_ring_drain(ring.memory, SIZE, fileno(file)));
    }
    CHECK(memcmp(text + content().len - 4, "\nok\n", 4) == 0);
    finish();
}

/* Of a producer, shared with the one that kills it. */
typedef struct {
    _Atomic unsigned long lines;
    _Alignas(64) char memory[4096];
} stage;

#define BATCH 20

/* More would not fit into `text`. */
#define MOST 20000

/* Put numbered lines and write them in batches, until it is killed. */
static void
produce(stage *s)
{
    char line[64];

    pws_ring_open(&ring, s->memory, sizeof(s->memory));
    for (unsigned long i = 0; i < MOST; i++) {
        int len = snprintf(line, sizeof(line), "%08lu-%.*s\n", i, (int)(i % 40),
                           "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx");

        while (!pws_ring_put(&ring, (pws_slice){line, (size_t)len})) {
            (void)pws_ring_write(&ring, &sink);
        }
        atomic_store(&s->lines, i + 1);
        if (i % BATCH == 0) {
            (void)pws_ring_write(&ring, &sink);
        }
    }
    for (;;) {
        pause();
    }
}

/* Start a producer, wait until it has put `least` lines, kill it at whatever it does.
 * Returns how many lines it had put, or one more. */
static unsigned long
kill_producer(stage *s, unsigned long least)
{
    int status;
    pid_t child = fork();

    CHECK(child >= 0);
    if (child == 0) {
        produce(s);
    }
    while (atomic_load(&s->lines) < least) {
        sched_yield();
    }
    CHECK_EQ(kill(child, SIGKILL), 0);
    CHECK_EQ(waitpid(child, &status, 0), child);
    CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
    return atomic_load(&s->lines);
}

/* Whether `line` is the line of this number, whole. */
static bool
is_line(pws_slice line, unsigned long number)
{
    char want[64];
    int len = snprintf(want, sizeof(want), "%08lu-%.*s", number, (int)(number % 40),
                       "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx");

    return pws_slice_eq(line, (pws_slice){want, (size_t)len});
}

/* Every line in its order; one run of lines may come again, and a piece of a line
 * before that: what became of the write() in which the producer was killed. */
static void
check_lines(pws_slice all, unsigned long lines)
{
    unsigned long next = 0, again = 0, torn = 0;

    CHECK(all.len == 0 || all.at[all.len - 1] == '\n');
    while (all.len > 0) {
        size_t len = (size_t)((char *)memchr(all.at, '\n', all.len) - all.at);
        pws_slice line = {all.at, len};
        unsigned long number = strtoul(line.at, NULL, 10);

        if (len >= 9 && is_line(line, number)) {
            CHECK(number == next || (number < next && again++ == 0));
            next = number + 1;
        }
        else {
            CHECK_EQ(torn++, 0);
        }
        all.at += len + 1;
        all.len -= len + 1;
    }
    CHECK(next == lines || next == lines + 1); /* put, and killed before it said so */
}

TEST(a_killed_producer_loses_no_line)
{
    stage *s = mmap(NULL, sizeof(*s), PROT_READ | PROT_WRITE,
                    MAP_SHARED | MAP_ANONYMOUS, -1, 0);

    CHECK(s != MAP_FAILED);
    srand((unsigned)getpid());
    for (int round = 0; round < 200; round++) {
        unsigned long lines;

        memset(s, 0, sizeof(*s));
        start(SIZE);
        lines = kill_producer(s, (unsigned long)rand() % 2000);
        CHECK(pws_ring_drain(s->memory, sizeof(s->memory), fileno(file)));
        check_lines(content(), lines);
        finish();
        guarded_release();
    }
    munmap(s, sizeof(*s));
}

/* The same into a pipe, whose reader is another thread of the one that drains. */
static size_t read_count;

static void *
read_pipe(void *fd)
{
    ssize_t n;

    read_count = 0;
    while ((n = read(*(int *)fd, text + read_count, sizeof(text) - read_count)) > 0) {
        read_count += (size_t)n;
    }
    return NULL;
}

TEST(a_killed_producer_of_a_pipe_loses_no_line)
{
    stage *s = mmap(NULL, sizeof(*s), PROT_READ | PROT_WRITE,
                    MAP_SHARED | MAP_ANONYMOUS, -1, 0);

    CHECK(s != MAP_FAILED);
    srand((unsigned)getpid());
    for (int round = 0; round < 60; round++) {
        unsigned long lines;
        pthread_t reader;
        int ends[2];

        memset(s, 0, sizeof(*s));
        CHECK_EQ(pipe2(ends, O_CLOEXEC), 0);
        sink = (pws_sink)PWS_SINK_ON(-1);
        CHECK_EQ(pws_sink_open(&sink, ends[1]), 0);
        close(ends[1]);
        CHECK_EQ(pthread_create(&reader, NULL, read_pipe, &ends[0]), 0);
        lines = kill_producer(s, (unsigned long)rand() % 2000);
        while (!pws_ring_drain(s->memory, sizeof(s->memory), atomic_load(&sink.fd))) {
        }
        pws_sink_close(&sink);
        CHECK_EQ(pthread_join(reader, NULL), 0);
        close(ends[0]);
        check_lines((pws_slice){text, read_count}, lines);
    }
    munmap(s, sizeof(*s));
}

#define OLD "old line\n"
#define FIRST "first line\n"
#define SECOND "2nd line\n"

/* Such a small ring that the second line begins at the front, where the old one was. */
#define TIGHT (24 + 26)

/* The child of the next test: what it does between its two stops is looked at. */
static void
be_traced(stage *s)
{
    pws_ring_open(&ring, s->memory, TIGHT);
    CHECK_EQ(ptrace(PTRACE_TRACEME, 0, NULL, NULL), 0);
    CHECK(put(OLD));
    CHECK(pws_ring_write(&ring, &sink));
    CHECK(put(FIRST));
    raise(SIGSTOP);
    (void)put(SECOND);
    raise(SIGSTOP);
    _exit(0);
}

/* Let a child go on for `steps` instructions, and kill it. Returns whether there were
 * so many. */
static bool
kill_after(stage *s, unsigned steps)
{
    int status;
    bool alive = true;
    pid_t child = fork();

    CHECK(child >= 0);
    if (child == 0) {
        be_traced(s);
    }
    CHECK_EQ(waitpid(child, &status, 0), child);
    CHECK(WIFSTOPPED(status) && WSTOPSIG(status) == SIGSTOP);
    for (unsigned i = 0; alive && i < steps; i++) {
        CHECK_EQ(ptrace(PTRACE_SINGLESTEP, child, NULL, NULL), 0);
        CHECK_EQ(waitpid(child, &status, 0), child);
        CHECK(WIFSTOPPED(status));
        alive = WSTOPSIG(status) == SIGTRAP;
    }
    kill(child, SIGKILL);
    CHECK_EQ(waitpid(child, &status, 0), child);
    return alive;
}

TEST(a_producer_killed_at_any_instruction_of_a_put_leaves_whole_lines)
{
    stage *s = mmap(NULL, sizeof(*s), PROT_READ | PROT_WRITE,
                    MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    unsigned since = 0; /* after so many steps the second line was there */
    bool alive = true;

    CHECK(s != MAP_FAILED);
    for (unsigned steps = 0; alive; steps++) {
        memset(s, 0, sizeof(*s));
        start(SIZE);
        alive = kill_after(s, steps);
        CHECK(pws_ring_drain(s->memory, TIGHT, fileno(file)));
        if (content().len > strlen(OLD FIRST)) {
            CHECK_BYTES(content().at, content().len, OLD FIRST SECOND);
            since = since > 0 ? since : steps;
        }
        else {
            CHECK_BYTES(content().at, content().len, OLD FIRST);
            CHECK_EQ(since, 0);
        }
        finish();
        guarded_release();
    }
    CHECK(since > 0);
    munmap(s, sizeof(*s));
}
