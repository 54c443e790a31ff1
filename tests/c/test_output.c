/* The output chain: order, memory, spool, and what is given back. */
#include "harness.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "engine/io.h"
#include "engine/output.h"

#define LEN (3u << 20)

static pws_output_shared shared;
static pws_output out;
static char block[PWS_BLOCK_SIZE], data[LEN], got[LEN + 1];
static int pair[2], references;

static void
prepare(bool with_block)
{
    for (size_t i = 0; i < LEN; i++) {
        data[i] = (char)(i * 7 + i / 1013);
    }
    pws_output_shared_init(&shared, 4u << 20);
    shared.spool_dir = "/tmp";
    shared.spool_limit = 1 << 20;
    shared.spool_limit_all = 1 << 21;
    pws_output_init(&out, &shared);
    out.block = with_block ? block : NULL;
    references = 0;
    CHECK_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, pair), 0);
}

static unsigned
take_released(void)
{
    pws_segment *segment = pws_released_take(&shared.released);
    unsigned n = 0;

    while (segment != NULL) {
        pws_segment *next = segment->next;

        CHECK(segment->object == &references);
        n++;
        free(segment);
        segment = next;
    }
    return n;
}

static void
finish(void)
{
    pws_output_clear(&out);
    (void)take_released();
    CHECK_EQ(out.pending, 0);
    CHECK_EQ(atomic_load(&shared.spooled_all), 0);
    CHECK_EQ(atomic_load(&shared.memory_all), 0);
    pws_output_shared_close(&shared);
    close(pair[0]);
    close(pair[1]);
}

/* Send and receive by turns until nothing waits; what comes must be `len` bytes of
 * data. */
static void
check_sent(size_t len)
{
    uint64_t sent = 0;
    size_t n = 0;
    int rc;

    CHECK_EQ(out.pending, len);
    do {
        ssize_t more;

        rc = pws_output_send(&out, pair[0], &sent);
        CHECK(rc == 0 || rc == PWS_IO_AGAIN || rc == PWS_IO_MORE);
        while ((more = pws_io_recv(pair[1], got + n, sizeof(got) - n)) > 0) {
            n += (size_t)more;
        }
    } while (rc != 0);
    CHECK_EQ(n, len);
    CHECK_EQ(sent, len);
    CHECK(memcmp(got, data, len) == 0);
    CHECK_EQ(out.in_memory, 0);
    CHECK(out.first == NULL && out.last == NULL);
    CHECK_EQ(out.spool_fd, -1);
}

TEST(small_bytes_go_into_the_block)
{
    prepare(true);
    CHECK_EQ(pws_output_copy(&out, data, 1000), 0);
    CHECK_EQ(pws_output_copy(&out, data + 1000, 0), 0);
    CHECK_EQ(pws_output_copy(&out, data + 1000, 500), 0);
    CHECK(out.first == NULL);
    CHECK_EQ(pws_output_block_room(&out), PWS_BLOCK_SIZE - 1500);
    check_sent(1500);
    CHECK_EQ(pws_output_block_room(&out), PWS_BLOCK_SIZE);
    finish();
}

TEST(without_a_block_bytes_go_into_segments)
{
    prepare(false);
    CHECK_EQ(pws_output_block_room(&out), 0);
    for (size_t at = 0; at < 100000; at += 1000) {
        CHECK_EQ(pws_output_copy(&out, data + at, 1000), 0);
    }
    check_sent(100000);
    finish();
}

/* A file that holds `data` from byte 5 on. */
static int
make_file(void)
{
    int fd = open("/tmp", O_TMPFILE | O_RDWR, 0600);

    CHECK_EQ(write(fd, "-----", 5), 5);
    CHECK_EQ(write(fd, data, LEN), LEN);
    return fd;
}

TEST(all_kinds_go_out_in_their_order)
{
    size_t at = 0;
    int fd;

    prepare(true);
    fd = make_file();
    srand(7);
    while (at < LEN) {
        size_t n = 1 + (size_t)rand() % 90000;
        int kind = rand() % 4, rc = 0;

        n = n < LEN - at ? n : LEN - at;
        if (kind == 1) {
            references++;
            rc = pws_output_pin(&out, data + at, n, &references);
        }
        else if (kind == 2) {
            rc = pws_output_file(&out, fd, at + 5, n, false);
        }
        else if (kind == 3 && out.spool_end + n <= shared.spool_limit) {
            rc = pws_output_spool(&out, data + at, n);
        }
        else {
            rc = pws_output_copy(&out, data + at, n);
        }
        CHECK_EQ(rc, 0);
        at += n;
    }
    CHECK(references > 3);
    check_sent(LEN);
    CHECK_EQ(take_released(), references);
    CHECK_EQ(take_released(), 0);
    close(fd);
    finish();
}

TEST(what_is_dropped_is_given_back_too)
{
    prepare(true);
    CHECK_EQ(pws_output_copy(&out, data, 100), 0);
    CHECK_EQ(pws_output_pin(&out, data, 50000, &references), 0);
    CHECK_EQ(pws_output_spool(&out, data, 50000), 0);
    CHECK_EQ(pws_output_file(&out, dup(pair[0]), 0, 10, true), 0);
    CHECK_EQ(atomic_load(&shared.spooled_all), 50000);
    pws_output_clear(&out);
    CHECK_EQ(out.pending, 0);
    CHECK_EQ(out.in_memory, 0);
    CHECK_EQ(take_released(), 1);
    CHECK_EQ(pws_output_copy(&out, data, 100), 0);
    check_sent(100);
    finish();
}

TEST(the_spool_has_a_limit_for_each_and_for_all)
{
    static pws_output other;

    prepare(true);
    pws_output_init(&other, &shared);
    CHECK_EQ(pws_output_spool(&out, data, (1 << 20) + 1), -1);
    CHECK_EQ(pws_output_spool(&out, data, 1 << 20), 0);
    CHECK_EQ(pws_output_spool(&out, data, 1), -1);
    CHECK_EQ(out.shortage, PWS_SHORT_OF_OWN);
    shared.spool_limit_all = (1 << 20) + 1000;
    CHECK_EQ(pws_output_spool(&other, data, 1001), -1);
    CHECK_EQ(other.shortage, PWS_SHORT_OF_ALL);
    CHECK_EQ(pws_output_spool(&other, data, 1000), 0);
    pws_output_clear(&other);
    CHECK_EQ(atomic_load(&shared.spooled_all), 1 << 20);
    check_sent(1 << 20);
    CHECK_EQ(pws_output_spool(&out, data, 1 << 20),
             0); /* empty again: it counts anew */
    finish();
}

TEST(no_folder_means_no_spool)
{
    prepare(true);
    shared.spool_dir = NULL;
    CHECK_EQ(pws_output_spool(&out, data, 1), -1);
    CHECK_EQ(out.shortage, PWS_SHORT_OF_OWN);
    shared.spool_dir = "/nonexistent";
    CHECK_EQ(pws_output_spool(&out, data, 1), -1);
    CHECK_EQ(out.shortage, PWS_SHORT_OF_OWN); /* no other output can help */
    CHECK_EQ(out.pending, 0);
    finish();
}

TEST(lent_descriptors_can_be_made_our_own)
{
    int fd;

    prepare(true);
    fd = make_file();
    CHECK_EQ(pws_output_file(&out, fd, 5, 70000, false), 0);
    CHECK_EQ(pws_output_spool(&out, data + 70000, 30000), 0);
    CHECK_EQ(pws_output_own_files(&out), 0);
    CHECK_EQ(pws_output_own_files(&out), 0);
    close(fd);
    check_sent(100000);
    finish();
}

TEST(a_file_that_has_become_shorter_is_an_error)
{
    uint64_t sent = 0;
    int fd;

    prepare(true);
    fd = make_file();
    CHECK_EQ(pws_output_file(&out, fd, LEN, 100, true), 0);
    CHECK_EQ(pws_output_send(&out, pair[0], &sent), PWS_IO_ERROR);
    CHECK_EQ(sent, 5);
    finish();
}

/* Into a sink that takes everything, so that only the step ends a call. */
TEST(one_call_sends_no_more_than_its_step)
{
    int sink = open("/dev/null", O_WRONLY), fd = open("/tmp", O_TMPFILE | O_RDWR, 0600);
    uint64_t sent = 0, len = 2 * (uint64_t)PWS_OUTPUT_STEP + 100;

    prepare(true);
    CHECK_EQ(ftruncate(fd, (off_t)len), 0);
    CHECK_EQ(pws_output_file(&out, fd, 0, len, true), 0);
    CHECK_EQ(pws_output_send(&out, sink, &sent), PWS_IO_MORE);
    CHECK_EQ(sent, PWS_OUTPUT_STEP);
    CHECK_EQ(pws_output_send(&out, sink, &sent), PWS_IO_MORE);
    CHECK_EQ(pws_output_send(&out, sink, &sent), 0);
    CHECK_EQ(sent, len);
    close(sink);
    finish();
}

/* A full disk, as it were. */
TEST(a_spool_that_cannot_grow_takes_nothing)
{
    struct rlimit old, small;
    void (*handler)(int) = signal(SIGXFSZ, SIG_IGN);
    int first, second;

    prepare(true);
    CHECK_EQ(getrlimit(RLIMIT_FSIZE, &old), 0);
    small = old;
    small.rlim_cur = 150000;
    CHECK_EQ(setrlimit(RLIMIT_FSIZE, &small), 0);
    first = pws_output_spool(&out, data, 100000);
    second = pws_output_spool(&out, data, 100000);
    CHECK_EQ(setrlimit(RLIMIT_FSIZE, &old), 0);
    signal(SIGXFSZ, handler);
    CHECK_EQ(first, 0);
    CHECK_EQ(second, -1);
    CHECK_EQ(atomic_load(&shared.spooled_all), 100000);
    check_sent(100000);
    finish();
}

TEST(memory_of_all_outputs_has_a_bound)
{
    static long objects[2];
    pws_output other;

    prepare(true);
    pws_output_init(&other, &shared);
    shared.memory_limit_all = 300000;
    CHECK_EQ(pws_output_pin(&out, data, 150000, &objects[0]), 0);
    CHECK(pws_output_may_hold(&other, 150000, NULL));
    CHECK(!pws_output_may_hold(&other, 150001, NULL));
    CHECK(!pws_output_may_hold(&other, 200000, &objects[1]));
    CHECK(pws_output_may_hold(&other, 200000, &objects[0])); /* costs nothing more */
    CHECK_EQ(pws_output_pin(&other, data, 150000, &objects[0]), 0);
    CHECK_EQ(atomic_load(&shared.memory_all), 150000);
    other.block = block;
    pws_output_clear(&other);
    CHECK_EQ(atomic_load(&shared.memory_all), 150000);
    CHECK_EQ(pws_output_copy(&other, data, 150000), 0);
    CHECK(!pws_output_may_hold(&other, 1, NULL));
    pws_output_clear(&other);
    shared.memory_limit_all = 0;
    CHECK(pws_output_may_hold(&other, PWS_BLOCK_SIZE, NULL)); /* the block is its own */
    CHECK(!pws_output_may_hold(&other, PWS_BLOCK_SIZE + 1, NULL));
    other.block = NULL;
    CHECK(pws_output_may_hold(&other, PWS_BLOCK_SIZE, NULL)); /* nothing else waits */
    CHECK(!pws_output_may_hold(&other, PWS_BLOCK_SIZE + 1, NULL));
    CHECK_EQ(pws_output_copy(&other, data, 1), 0);
    CHECK(!pws_output_may_hold(&other, 1, NULL));
    pws_output_clear(&other);
    references = -1;
    pws_output_clear(&out);
    for (pws_segment *s = pws_released_take(&shared.released), *next; s != NULL;
         s = next) {
        next = s->next;
        free(s);
    }
    finish();
}
