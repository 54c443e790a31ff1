/* Writing to what may be full, stopped or gone, without being held up by it. */
#include "base/sink.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <pty.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

#include "harness.h"

static char block[64 * 1024];

static size_t
put(pws_sink *sink, const char *text)
{
    return pws_sink_write(sink, text, strlen(text));
}

/* Lines of `width` until it is full. Returns how many it took. */
static size_t
fill(pws_sink *sink, size_t width)
{
    size_t n = 0;

    memset(block, 'x', width - 1);
    block[width - 1] = '\n';
    while (pws_sink_write(sink, block, width) == width) {
        n++;
        CHECK(n < 100000);
    }
    return n;
}

/* What is in a pipe, socket or terminal now. */
static size_t
take(int fd, char *dst, size_t room)
{
    size_t n = 0;
    ssize_t got;

    CHECK(fcntl(fd, F_SETFL, O_NONBLOCK) == 0);
    while (n < room && (got = read(fd, dst + n, room - n)) > 0) {
        n += (size_t)got;
    }
    CHECK(fcntl(fd, F_SETFL, 0) == 0);
    return n;
}

static bool
is_blocking(int fd)
{
    return (fcntl(fd, F_GETFL) & O_NONBLOCK) == 0;
}

TEST(a_full_pipe_is_given_up_and_used_again)
{
    static char got[2 * sizeof(block)];
    pws_sink sink = PWS_SINK_ON(-1);
    int ends[2];
    size_t n;

    CHECK_EQ(pipe(ends), 0);
    CHECK_EQ(pws_sink_open(&sink, ends[1]), 0);
    CHECK(is_blocking(ends[1]));
    CHECK(fill(&sink, 100) > 0);
    errno = EDOM;
    CHECK_EQ(put(&sink, "no\n"), 0);
    CHECK_EQ(errno, EDOM);
    n = take(ends[0], got, sizeof(got));
    CHECK(n > 0 && n % 100 == 0);
    CHECK_EQ(put(&sink, "yes\n"), 4);
    n = take(ends[0], got, sizeof(got));
    CHECK_BYTES(got, n, "yes\n");
    pws_sink_close(&sink);
    close(ends[0]);
    close(ends[1]);
}

/* As long as somebody reads, nothing is lost. */
static void *
read_all(void *fd)
{
    static char got[4096];
    static size_t total;
    ssize_t n;

    total = 0;
    while ((n = read(*(int *)fd, got, sizeof(got))) > 0) {
        total += (size_t)n;
    }
    return &total;
}

TEST(a_pipe_that_is_read_takes_everything)
{
    pws_sink sink = PWS_SINK_ON(-1);
    pthread_t reader;
    void *total;
    int ends[2];

    CHECK_EQ(pipe(ends), 0);
    CHECK_EQ(pws_sink_open(&sink, ends[1]), 0);
    close(ends[1]);
    CHECK_EQ(pthread_create(&reader, NULL, read_all, &ends[0]), 0);
    memset(block, 'x', sizeof(block));
    for (size_t i = 99; i < sizeof(block); i += 100) {
        block[i] = '\n';
    }
    for (size_t left = 20 * 60000; left > 0;) {
        size_t len = left % 60000 != 0 ? left % 60000 : 60000;

        /* Not all of it, where the reader gets no processor for a while. */
        left -= pws_sink_write(&sink, block + (60000 - len), len);
    }
    pws_sink_close(&sink);
    CHECK_EQ(pthread_join(reader, &total), 0);
    CHECK_EQ(*(size_t *)total, 20 * 60000);
    close(ends[0]);
}

TEST(a_pipe_without_a_reader_kills_nobody)
{
    pws_sink sink = PWS_SINK_ON(-1);
    sigset_t pending;
    int ends[2];

    signal(SIGPIPE, SIG_DFL);
    CHECK_EQ(pipe(ends), 0);
    CHECK_EQ(pws_sink_open(&sink, ends[1]), 0);
    close(ends[0]);
    CHECK_EQ(put(&sink, "x\n"), 0);
    sigpending(&pending);
    CHECK(!sigismember(&pending, SIGPIPE));
    pws_sink_close(&sink);
    close(ends[1]);
}

/* A line that was cut off does not run into the next one. */
TEST(a_torn_line_is_ended)
{
    static char got[2 * sizeof(block)];
    pws_sink sink = PWS_SINK_ON(-1);
    int ends[2];
    size_t n;

    CHECK_EQ(pipe(ends), 0);
    CHECK_EQ(pws_sink_open(&sink, ends[1]), 0);
    memset(block, 'x', sizeof(block));
    while (pws_sink_write(&sink, block, 3 * PIPE_BUF) == 3 * PIPE_BUF) {
    }
    CHECK(take(ends[0], got, sizeof(got)) % (3 * PIPE_BUF) != 0);
    CHECK_EQ(put(&sink, "next\n"), 5);
    n = take(ends[0], got, sizeof(got));
    CHECK_BYTES(got, n, "\nnext\n");
    CHECK_EQ(put(&sink, "last\n"), 5);
    n = take(ends[0], got, sizeof(got));
    CHECK_BYTES(got, n, "last\n");
    pws_sink_close(&sink);
    close(ends[0]);
    close(ends[1]);
}

TEST(a_socket_that_nobody_reads_is_given_up)
{
    pws_sink sink = PWS_SINK_ON(-1);
    int ends[2];

    signal(SIGPIPE, SIG_DFL);
    CHECK_EQ(socketpair(AF_UNIX, SOCK_STREAM, 0, ends), 0);
    CHECK_EQ(pws_sink_open(&sink, ends[1]), 0);
    CHECK(fill(&sink, 1000) > 0);
    CHECK(is_blocking(ends[1]));
    close(ends[0]);
    CHECK_EQ(put(&sink, "x\n"), 0);
    pws_sink_close(&sink);
    close(ends[1]);
}

TEST(a_stopped_terminal_is_given_up)
{
    static char got[2 * sizeof(block)];
    pws_sink sink = PWS_SINK_ON(-1);
    int ours, theirs;

    CHECK_EQ(openpty(&ours, &theirs, NULL, NULL, NULL), 0);
    CHECK_EQ(pws_sink_open(&sink, theirs), 0);
    CHECK_EQ(tcflow(theirs, TCOOFF), 0);
    CHECK_EQ(put(&sink, "no\n"), 0);
    CHECK_EQ(tcflow(theirs, TCOON), 0);
    CHECK_EQ(put(&sink, "yes\n"), 4);
    CHECK_BYTES(got, take(ours, got, sizeof(got)), "yes\r\n");
    CHECK(fill(&sink, 100) > 0);
    CHECK(is_blocking(theirs));
    pws_sink_close(&sink);
    close(theirs);
    close(ours);
}

TEST(a_full_disk_is_no_error)
{
    pws_sink sink = PWS_SINK_ON(-1);
    int full = open("/dev/full", O_WRONLY);

    CHECK_EQ(pws_sink_open(&sink, full), 0);
    CHECK_EQ(put(&sink, "x\n"), 0);
    CHECK_EQ(put(&sink, "x\n"), 0);
    pws_sink_close(&sink);
    CHECK_EQ(put(&sink, "x\n"), 0);
    close(full);
}

/* What an app closes, and what takes the number then, is none of its business. */
TEST(its_descriptor_is_its_own)
{
    pws_sink sink = PWS_SINK_ON(-1);
    FILE *file = tmpfile(), *other = tmpfile();
    int number, fd;
    char got[10];

    CHECK(file != NULL && other != NULL);
    fd = dup(fileno(file));
    CHECK_EQ(pws_sink_open(&sink, fd), 0);
    number = atomic_load(&sink.fd);
    CHECK(number > 2 && number != fd);
    CHECK_EQ(fcntl(number, F_GETFD), FD_CLOEXEC);
    CHECK_EQ(dup2(fileno(other), fd), fd);
    CHECK_EQ(put(&sink, "x\n"), 2);
    CHECK_EQ(pread(fileno(file), got, sizeof(got), 0), 2);

    /* Another file under the same number: a write meanwhile goes to one of them. */
    CHECK_EQ(pws_sink_open(&sink, fd), 0);
    CHECK_EQ(atomic_load(&sink.fd), number);
    CHECK_EQ(put(&sink, "y\n"), 2);
    CHECK_EQ(pread(fileno(other), got, sizeof(got), 0), 2);

    CHECK(pws_sink_open(&sink, -1) < 0);
    CHECK_EQ(put(&sink, "z\n"), 2);
    pws_sink_close(&sink);
    CHECK(fcntl(number, F_GETFD) < 0);
    close(fd);
    fclose(file);
    fclose(other);
}

/* Before a sink has a descriptor of its own, it writes just as carefully. */
TEST(a_borrowed_descriptor_is_looked_at_first)
{
    int ends[2];

    CHECK_EQ(pipe(ends), 0);
    {
        pws_sink sink = PWS_SINK_ON(ends[1]);

        CHECK(fill(&sink, 100) > 0);
        pws_sink_close(&sink); /* not the sink's to close */
    }
    CHECK(fcntl(ends[1], F_GETFD) >= 0);
    close(ends[0]);
    close(ends[1]);
}
