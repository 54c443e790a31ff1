/* A line for each response, nothing in it that the client could have forged. */
#include "engine/access_log.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/log.h"
#include "base/ring.h"
#include "peer.h"

static rig r;
static peer p;
static FILE *file;
static char lines[128 * 1024];

static void
start(const char *format)
{
    file = tmpfile();
    CHECK(file != NULL);
    rig_prepare(&r);
    r.config.access_log = pws_access_log_new(format, fileno(file));
    CHECK(r.config.access_log != NULL);
    rig_open(&r);
    r.serve = true;
    peer_connect(&p, &r, 0);
}

/* What has been written, as a string. */
static const char *
written(void)
{
    ssize_t n = pread(fileno(file), lines, sizeof(lines) - 1, 0);

    CHECK(n >= 0);
    lines[n] = '\0';
    return lines;
}

static void
finish(void)
{
    peer_close(&p);
    UNTIL(&r, pws_engine_open(&r.engine) == 0);
    rig_close(&r);
    pws_access_log_free(r.config.access_log);
    fclose(file);
}

/* The line that one request leaves. */
static void
check_line(const char *format, const char *text, const char *want)
{
    start(format);
    peer_send(&p, text);
    (void)peer_response(&p);
    pws_access_log_flush(r.config.access_log);
    if (strcmp(written(), want) != 0) {
        printf("    got  %s    want %s", lines, want);
    }
    CHECK(strcmp(lines, want) == 0);
    finish();
}

#define GET(target, fields) "GET " target " HTTP/1.1\r\nHost: x\r\n" fields "\r\n"

TEST(atoms_of_a_request_are_written)
{
    check_line("%(m)s|%(U)s|%(q)s|%(H)s|%(r)s", GET("/a%20b?c=%20", ""),
               "GET|/a b|c=%20|HTTP/1.1|GET /a%20b?c=%20 HTTP/1.1\n");
    check_line("%(h)s %(l)s %(s)s %(b)s %(B)s", GET("/abc", ""),
               "127.0.0.1 - 200 4 4\n");
    check_line("%(f)s %(a)s", GET("/", "Referer: r\r\nUser-Agent: u a\r\n"), "r u a\n");
    check_line("%({x-y}i)s %({X-Y}i)s %({z}i)s", GET("/", "X-y: 1\r\n"), "1 1 -\n");
    check_line("%({content-type}o)s %({none}o)s", GET("/", ""), "- -\n");
}

TEST(an_unknown_atom_is_a_dash_and_text_stays)
{
    check_line("100%% %(nope)s %({a}z)s %x %(", GET("/", ""), "100% - - %x %(\n");
    check_line("", GET("/", ""), "\n");
}

TEST(what_could_forge_a_line_is_escaped)
{
    check_line("%(U)s", GET("/%0a%22%5c%00%7f%1b", ""),
               "/\\x0a\\x22\\x5c\\x00\\x7f\\x1b\n");
    check_line("%(a)s", GET("/", "User-Agent: a\"b\\c\td\r\n"),
               "a\\x22b\\x5cc\\x09d\n");
    check_line("%(a)s", GET("/", "User-Agent: \xc2\x9b \x9b \xff\r\n"),
               "\\xc2\\x9b \\x9b \\xff\n");
    check_line("%(a)s", GET("/", "User-Agent: \xc3\xa4\xe2\x82\xac\r\n"),
               "\xc3\xa4\xe2\x82\xac\n");
}

TEST(the_user_of_basic_credentials_is_written)
{
    check_line("%(u)s", GET("/", "Authorization: Basic dXNlcjpwYXNz\r\n"), "user\n");
    check_line("%(u)s", GET("/", "Authorization: basic dXNlcjpwYXNz\r\n"), "user\n");
    check_line("%(u)s", GET("/", "Authorization: Bearer dXNlcjpwYXNz\r\n"), "-\n");
    check_line("%(u)s", GET("/", "Authorization: Basic !!!\r\n"), "-\n");
    check_line("%(u)s", GET("/", ""), "-\n");
}

TEST(a_refused_request_has_a_line)
{
    check_line("%(s)s %(r)s %(D)s", "BAD\r\n\r\n", "400 - 0\n");
    check_line("%(s)s %(m)s", "GET / HTTP/1.1\r\n\r\n", "400 GET\n");
}

TEST(a_note_is_kept_for_the_log)
{
    pws_exchange *x;

    start("%({Server-Timing}o)s %({a.b}e)s");
    r.serve = false;
    peer_send(&p, GET("/", ""));
    x = rig_request(&r);
    {
        const pws_header field = {PWS_SLICE("server-timing"), PWS_SLICE("t\n1")};
        const pws_header clean = {PWS_SLICE("server-timing"), PWS_SLICE("t 1")};
        const char *why;

        CHECK(pws_exchange_start(x, PWS_SLICE("200 OK"), &field, 1, 0, &why) < 0);
        CHECK_EQ(pws_exchange_start(x, PWS_SLICE("200 OK"), &clean, 1, 0, &why), 0);
    }
    pws_exchange_note(x, 1, PWS_SLICE("v"));
    CHECK_EQ(pws_exchange_finish(x), 0);
    pws_exchange_done(x);
    CHECK_EQ(peer_response(&p), 200);
    pws_access_log_flush(r.config.access_log);
    CHECK(strcmp(written(), "t 1 v\n") == 0);
    finish();
}

TEST(lines_are_written_in_batches_and_not_late)
{
    start("%(U)s");
    for (int i = 0; i < 3; i++) {
        peer_send(&p, GET("/x", ""));
        CHECK_EQ(peer_response(&p), 200);
    }
    UNTIL(&r, strcmp(written(), "/x\n/x\n/x\n") == 0); /* without another event */
    finish();
}

/* One request after the other, each with a line of some 3,000 bytes. */
static void
request_much(int count)
{
    static char target[3000], text[3100];

    memset(target, 'a', sizeof(target) - 1);
    snprintf(text, sizeof(text), "GET /%s HTTP/1.1\r\nHost: x\r\n\r\n", target);
    for (int i = 0; i < count; i++) {
        peer_send(&p, text);
        CHECK_EQ(peer_response(&p), 200);
    }
}

TEST(much_is_written_before_a_second_has_passed)
{
    start("%(U)s");
    request_much(40);
    CHECK(strlen(written()) >= 32 * 1024);
    finish();
}

TEST(a_pipe_gets_whole_lines)
{
    int ends[2];
    char got[8192];
    ssize_t n;

    CHECK_EQ(pipe2(ends, O_NONBLOCK), 0);
    start("%(U)s");
    CHECK_EQ(pws_access_log_reopen(r.config.access_log, ends[1]), 0);
    for (int i = 0; i < 500; i++) {
        peer_send(&p, GET("/0123456789", ""));
        CHECK_EQ(peer_response(&p), 200);
    }
    pws_access_log_flush(r.config.access_log);
    n = read(ends[0], got, sizeof(got));
    CHECK_EQ(n, 500 * 12);
    CHECK_EQ(got[n - 1], '\n');
    close(ends[0]);
    close(ends[1]);
    finish();
}

/* Lines wait in the ring, then are lost, which is said; then all goes on. */
TEST(a_log_that_cannot_be_written_stops_nobody)
{
    int full = open("/dev/full", O_WRONLY), ends[2];
    char said[4096];
    ssize_t n;

    CHECK(full >= 0);
    CHECK_EQ(pipe2(ends, O_NONBLOCK), 0);
    start("%(U)s");
    CHECK_EQ(pws_log_open(ends[1], PWS_LOG_INFO), 0);
    CHECK_EQ(pws_access_log_reopen(r.config.access_log, full), 0);
    request_much(60);
    pws_access_log_flush(r.config.access_log);
    CHECK_EQ(pws_log_open(2, PWS_LOG_INFO), 0);
    n = read(ends[0], said, sizeof(said));
    CHECK(n > 0 && memmem(said, (size_t)n, " lines lost, it cannot be", 25) != NULL);

    CHECK_EQ(pws_access_log_reopen(r.config.access_log, fileno(file)), 0);
    CHECK_EQ(written()[0], '\0');
    peer_send(&p, GET("/last", ""));
    CHECK_EQ(peer_response(&p), 200);
    UNTIL(&r, strlen(written()) > 32 * 1024); /* what had waited; the last is lost */
    peer_send(&p, GET("/again", ""));
    CHECK_EQ(peer_response(&p), 200);
    UNTIL(&r, strstr(written(), "/again\n") != NULL);
    close(full);
    close(ends[0]);
    close(ends[1]);
    finish();
}

TEST(lines_may_be_shared_with_who_writes_them_for_the_dead)
{
    char *memory = mmap(NULL, PWS_RING_SIZE, PROT_READ | PROT_WRITE,
                        MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    int status;
    pid_t child;

    CHECK(memory != MAP_FAILED);
    start("%(U)s");
    child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        pws_access_log_share(r.config.access_log, memory);
        peer_send(&p, GET("/one", ""));
        (void)peer_response(&p);
        peer_send(&p, GET("/two", ""));
        (void)peer_response(&p);
        kill(getpid(), SIGKILL);
    }
    CHECK_EQ(waitpid(child, &status, 0), child);
    CHECK(WIFSIGNALED(status));
    CHECK(strcmp(written(), "") == 0);
    CHECK(pws_ring_drain(memory, PWS_RING_SIZE, fileno(file)));
    CHECK(strcmp(written(), "/one\n/two\n") == 0);
    finish();
    munmap(memory, PWS_RING_SIZE);
}

/* A child of an app has the parent's memory, and must not take lines out of it. */
TEST(a_forked_child_leaves_the_lines_alone)
{
    char *memory = mmap(NULL, PWS_RING_SIZE, PROT_READ | PROT_WRITE,
                        MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    int status;
    pid_t child;

    CHECK(memory != MAP_FAILED);
    start("%(U)s");
    pws_access_log_share(r.config.access_log, memory);
    peer_send(&p, GET("/mine", ""));
    CHECK_EQ(peer_response(&p), 200);
    child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        pws_access_log_discard(r.config.access_log);
        pws_access_log_free(r.config.access_log);
        _exit(0);
    }
    CHECK_EQ(waitpid(child, &status, 0), child);
    CHECK_EQ(status, 0);
    CHECK(strcmp(written(), "") == 0);
    pws_access_log_flush(r.config.access_log);
    CHECK(strcmp(written(), "/mine\n") == 0);
    finish();
    munmap(memory, PWS_RING_SIZE);
}
