/* What a line of the error log may hold, and how many of them there may be. */
#include "base/log.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <unistd.h>

#include "base/clock.h"
#include "harness.h"

static bool
contains(pws_slice text, const char *part)
{
    return memmem(text.at, text.len, part, strlen(part)) != NULL;
}

static int log_pipe[2];

static void
open_log(pws_log_level level)
{
    CHECK(pipe(log_pipe) == 0);
    CHECK_EQ(pws_log_open(log_pipe[1], level), 0);
}

/* All that was logged; "%" stands for time and process. */
static pws_slice
close_log(void)
{
    static char text[70000];
    char expected[64];
    ssize_t n;
    size_t len = 0;
    pws_slice s;

    CHECK_EQ(pws_log_open(2, PWS_LOG_INFO), 0);
    close(log_pipe[1]);
    while ((n = read(log_pipe[0], text + len, sizeof(text) - len)) > 0) {
        len += (size_t)n;
    }
    close(log_pipe[0]);
    s = (pws_slice){text, len};
    if (len == 0) {
        return s;
    }
    /* [2026-01-31 12:00:00 +0000] [PID] */
    snprintf(expected, sizeof(expected), "] [%ld] ", (long)getpid());
    CHECK(len > 26 + strlen(expected));
    CHECK(text[0] == '[' && text[5] == '-' && text[8] == '-' && text[11] == ' ');
    CHECK(text[14] == ':' && text[17] == ':' && text[20] == ' ' && text[26] == ']');
    CHECK(memcmp(text + 26, expected, strlen(expected)) == 0);
    s.at += 26 + strlen(expected);
    s.len -= 26 + strlen(expected);
    return s;
}

TEST(a_log_line_is_one_line)
{
    pws_slice line;

    open_log(PWS_LOG_DEBUG);
    pws_log(PWS_LOG_ERROR, "from %s:%d", "1.2.3.4", 5);
    line = close_log();
    CHECK_BYTES(line.at, line.len, "[ERROR] from 1.2.3.4:5\n");
}

TEST(levels_have_their_names)
{
    static const char *const names[] = {"[DEBUG] x\n", "[INFO] x\n", "[WARNING] x\n",
                                        "[ERROR] x\n", "[CRITICAL] x\n"};

    for (int level = PWS_LOG_DEBUG; level <= PWS_LOG_CRITICAL; level++) {
        open_log(PWS_LOG_DEBUG);
        pws_log((pws_log_level)level, "x");
        CHECK(pws_slice_eq(close_log(), pws_slice_of(names[level])));
    }
}

TEST(lines_below_the_level_are_not_written)
{
    pws_slice line;

    open_log(PWS_LOG_WARNING);
    pws_log(PWS_LOG_INFO, "no");
    CHECK_EQ(close_log().len, 0);
    open_log(PWS_LOG_WARNING);
    pws_log(PWS_LOG_WARNING, "yes");
    line = close_log();
    CHECK_BYTES(line.at, line.len, "[WARNING] yes\n");
}

TEST(controls_are_escaped_in_a_log_line)
{
    pws_slice line;

    open_log(PWS_LOG_INFO);
    pws_log(PWS_LOG_INFO, "%s", "a\r\n[forged]\x1b[2J\x7f\tb\x01");
    line = close_log();
    CHECK_BYTES(line.at, line.len, "[INFO] a\\x0d\\x0a[forged]\\x1b[2J\\x7f\tb\\x01\n");
}

TEST(a_long_log_line_is_cut)
{
    char text[5001];
    pws_slice line;

    memset(text, '\n', 5000);
    text[5000] = '\0';
    open_log(PWS_LOG_INFO);
    pws_log(PWS_LOG_INFO, "%s", text);
    line = close_log();
    CHECK_EQ(line.len, 7 + 4 * 4000 + 4);
    CHECK(memcmp(line.at + line.len - 8, "\\x0a...\n", 8) == 0);

    text[4000] = '\0';
    open_log(PWS_LOG_INFO);
    pws_log(PWS_LOG_INFO, "%s", text);
    line = close_log();
    CHECK_EQ(line.len, 7 + 4 * 4000 + 1);
}

TEST(a_log_that_cannot_be_written_is_no_error)
{
    int full = open("/dev/full", O_WRONLY);

    CHECK_EQ(pws_log_open(full, PWS_LOG_INFO), 0);
    errno = EDOM;
    pws_log(PWS_LOG_ERROR, "x");
    pws_log_record(PWS_LOG_ERROR, PWS_SLICE("x"));
    pws_log_text(PWS_SLICE("x"));
    CHECK_EQ(errno, EDOM);
    open_log(PWS_LOG_INFO);
    pws_log(PWS_LOG_INFO, "y");
    {
        pws_slice lines = close_log();

        CHECK(contains(lines, "[WARNING] 3 records are missing here"));
        CHECK(contains(lines, "[INFO] y\n"));
    }
    close(full);
}

TEST(a_log_that_cannot_be_opened_leaves_the_old_one)
{
    pws_slice line;

    open_log(PWS_LOG_INFO);
    CHECK(pws_log_open(-1, PWS_LOG_CRITICAL) < 0);
    CHECK_EQ(errno, EBADF);
    pws_log(PWS_LOG_INFO, "x");
    line = close_log();
    CHECK_BYTES(line.at, line.len, "[INFO] x\n");
}

TEST(a_record_may_have_many_lines)
{
    pws_slice line;

    open_log(PWS_LOG_INFO);
    pws_log_record(PWS_LOG_DEBUG, PWS_SLICE("no"));
    pws_log_record(PWS_LOG_ERROR, PWS_SLICE("a\n\tb\x1b\0c \xc3\xa4\xc2\x9b"));
    line = close_log();
    CHECK_BYTES(line.at, line.len, "[ERROR] a\n\tb\\x1b\\x00c \xc3\xa4\\xc2\\x9b\n");
}

TEST(text_is_written_as_it_is)
{
    int ends[2];
    char got[20];

    CHECK_EQ(pipe(ends), 0);
    CHECK_EQ(pws_log_open(ends[1], PWS_LOG_INFO), 0);
    pws_log_text(PWS_SLICE("\x1b[1mbold\n"));
    CHECK_EQ(pws_log_open(2, PWS_LOG_INFO), 0);
    CHECK_EQ(read(ends[0], got, sizeof(got)), 9);
    CHECK(memcmp(got, "\x1b[1mbold\n", 9) == 0);
    close(ends[0]);
    close(ends[1]);
}

/* As many lines of a kind as a client likes. */
static void
log_many(pws_log_kind kind, unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        pws_log_limited(kind, PWS_LOG_WARNING, "from %u", i);
    }
}

static unsigned
count_lines(pws_slice text)
{
    unsigned n = 0;

    for (size_t i = 0; i < text.len; i++) {
        n += text.at[i] == '\n';
    }
    return n;
}

TEST(lines_that_clients_cause_are_limited_and_the_rest_is_counted)
{
    pws_clock clock;
    pws_slice text;

    pws_clock_read(&clock);
    open_log(PWS_LOG_INFO);
    CHECK_EQ(pws_log_tick(clock.now_ms), -1);
    log_many(PWS_LOG_REFUSED, PWS_LOG_BURST + 7);
    pws_clock_read(&clock);                /* not before the first of them */
    CHECK(pws_log_tick(clock.now_ms) > 0); /* not yet */
    CHECK(pws_log_tick(clock.now_ms) <= PWS_LOG_WINDOW_MS);
    log_many(PWS_LOG_CUT, 1); /* each kind for itself */
    CHECK_EQ(pws_log_tick(clock.now_ms + 2 * PWS_LOG_WINDOW_MS), -1);
    text = close_log();
    CHECK(contains(text, "[WARNING] from 0\n"));
    CHECK(contains(text, "[WARNING] from 19\n"));
    CHECK(!contains(text, "[WARNING] from 20\n"));
    CHECK(contains(text, "[WARNING] Invalid request: 7 similar lines left out\n"));
    CHECK_EQ(count_lines(text), PWS_LOG_BURST + 2);
}

TEST(after_the_window_lines_are_written_again)
{
    pws_clock clock;
    pws_slice text;

    pws_clock_read(&clock);
    log_many(PWS_LOG_STORAGE, PWS_LOG_BURST + 1);
    CHECK_EQ(pws_log_tick(clock.now_ms + 2 * PWS_LOG_WINDOW_MS), -1);
    open_log(PWS_LOG_INFO);
    log_many(PWS_LOG_STORAGE, PWS_LOG_BURST);
    text = close_log();
    CHECK_EQ(count_lines(text), PWS_LOG_BURST);
}

TEST(what_was_left_out_is_said_at_the_end)
{
    pws_slice text;

    log_many(PWS_LOG_LENGTH, PWS_LOG_BURST + 3);
    open_log(PWS_LOG_INFO);
    pws_log_flush();
    pws_log_flush();
    text = close_log();
    CHECK(contains(text, "Content-Length: 3 similar lines left out\n"));
    CHECK_EQ(count_lines(text), 1);
}

TEST(lines_below_the_level_do_not_use_up_the_limit)
{
    pws_slice text;

    open_log(PWS_LOG_ERROR);
    log_many(PWS_LOG_RESOURCES, 2 * PWS_LOG_BURST);
    pws_log_flush();
    CHECK_EQ(close_log().len, 0);
    open_log(PWS_LOG_INFO);
    log_many(PWS_LOG_RESOURCES, 1);
    text = close_log();
    CHECK_EQ(count_lines(text), 1);
}

/* All threads together may write a burst, and nothing is counted twice. */
static void *
log_from_thread(void *unused)
{
    log_many(PWS_LOG_UNLOGGED, 1000);
    return unused;
}

TEST(threads_share_a_limit)
{
    pthread_t threads[4];
    pws_slice text;

    open_log(PWS_LOG_INFO);
    for (int i = 0; i < 4; i++) {
        CHECK_EQ(pthread_create(&threads[i], NULL, log_from_thread, NULL), 0);
    }
    for (int i = 0; i < 4; i++) {
        CHECK_EQ(pthread_join(threads[i], NULL), 0);
    }
    pws_log_flush();
    text = close_log();
    CHECK_EQ(count_lines(text), PWS_LOG_BURST + 1);
    CHECK(contains(text, "3980 similar lines left out\n"));
}
