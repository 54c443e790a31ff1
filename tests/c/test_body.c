/* Where a body is kept, and how it is read back; files without a name. */
#include "harness.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "engine/body.h"
#include "engine/tempfile.h"

#define LEN 300000u

static pws_body body;
static pws_body_shared shared;
static char data[LEN], got[LEN + 1];

static void
prepare(void)
{
    for (size_t i = 0; i < LEN; i++) {
        data[i] = (char)(i * 11 + i / 1021);
    }
    shared = (pws_body_shared){
        .spool_dir = "/tmp", .memory_max = 100000, .memory_all_max = 1000000};
    pws_body_init(&body);
}

static void
add(size_t from, size_t to, size_t step)
{
    for (; from < to; from += step) {
        CHECK_EQ(pws_body_add(&body, &shared, data + from,
                              step < to - from ? step : to - from),
                 0);
    }
}

static void
check_content(size_t len, size_t step)
{
    size_t n = 0;
    ssize_t more;

    while ((more = pws_body_read(&body, NULL, got + n, step)) > 0) {
        n += (size_t)more;
        CHECK(n <= len);
    }
    CHECK_EQ(more, 0);
    CHECK_EQ(n, len);
    CHECK(memcmp(got, data, len) == 0);
    pws_body_reset(&body, &shared);
    CHECK_EQ(shared.memory_all, 0);
    CHECK_EQ(body.store, PWS_STORE_NONE);
}

TEST(a_short_body_grows_in_memory)
{
    prepare();
    CHECK_EQ(pws_body_open(&body, &shared, 0), 0);
    add(0, 100000, 999);
    CHECK_EQ(body.store, PWS_STORE_MEMORY);
    CHECK(shared.memory_all >= 100000);
    check_content(100000, 7);
}

TEST(a_body_that_outgrows_memory_goes_to_a_file)
{
    static const size_t steps[] = {100, 20000, LEN};

    for (int i = 0; i < 3; i++) {
        prepare();
        CHECK_EQ(pws_body_open(&body, &shared, 0), 0);
        add(0, LEN, 7777);
        CHECK_EQ(body.store, PWS_STORE_FILE);
        CHECK_EQ(shared.memory_all, 0);
        check_content(LEN, steps[i]);
    }
}

TEST(a_body_known_to_be_long_goes_to_a_file_at_once)
{
    prepare();
    CHECK_EQ(pws_body_open(&body, &shared, LEN), 0);
    CHECK_EQ(body.store, PWS_STORE_FILE);
    add(0, LEN, LEN);
    check_content(LEN, 20000);
}

TEST(a_body_known_to_fit_is_received_in_place)
{
    size_t room;
    char *space;

    prepare();
    CHECK_EQ(pws_body_open(&body, &shared, 5000), 0);
    space = pws_body_space(&body, &room);
    CHECK_EQ(room, 5000);
    memcpy(space, data, 3000);
    pws_body_received(&body, 3000);
    space = pws_body_space(&body, &room);
    CHECK_EQ(room, 2000);
    memcpy(space, data + 3000, 2000);
    pws_body_received(&body, 2000);
    check_content(5000, 20000);
}

TEST(all_bodies_together_have_a_bound)
{
    pws_body other;

    prepare();
    shared.memory_all_max = 150000;
    pws_body_init(&other);
    CHECK_EQ(pws_body_open(&other, &shared, 100000), 0);
    CHECK_EQ(pws_body_open(&body, &shared, 100000), 0);
    CHECK_EQ(body.store, PWS_STORE_FILE);
    pws_body_reset(&other, &shared);
    check_content(0, 100);
}

TEST(the_memory_of_a_body_serves_the_next)
{
    const char *memory;

    prepare();
    shared.spare_max = 50000;
    CHECK_EQ(pws_body_open(&body, &shared, 50000), 0);
    memory = body.memory;
    add(0, 50000, 50000);
    check_content(50000, 1000);
    CHECK(shared.spare == memory);

    CHECK_EQ(pws_body_open(&body, &shared, 0), 0);
    CHECK(body.memory == memory);
    CHECK_EQ(shared.memory_all, 50000);
    CHECK(shared.spare == NULL);
    add(0, 60000, 1000);
    check_content(60000, 1000);
    CHECK(shared.spare == NULL); /* it has grown beyond what may be kept */
}

TEST(the_larger_memory_is_kept)
{
    pws_body other;

    prepare();
    shared.spare_max = 50000;
    pws_body_init(&other);
    CHECK_EQ(pws_body_open(&body, &shared, 40000), 0);
    CHECK_EQ(pws_body_open(&other, &shared, 30000), 0);
    pws_body_reset(&other, &shared);
    CHECK_EQ(shared.spare_room, 30000);
    pws_body_reset(&body, &shared);
    CHECK_EQ(shared.spare_room, 40000);
    CHECK_EQ(pws_body_open(&body, &shared, 45000), 0); /* too small for it */
    CHECK_EQ(body.room, 45000);
    CHECK_EQ(shared.spare_room, 40000);
    pws_body_reset(&body, &shared);
    CHECK_EQ(shared.spare_room, 45000);
    CHECK_EQ(shared.memory_all, 0);
    pws_body_drop_spare(&shared);
    CHECK(shared.spare == NULL);
}

TEST(kept_memory_does_not_widen_the_bound_of_all_bodies)
{
    prepare();
    shared.spare_max = 50000;
    CHECK_EQ(pws_body_open(&body, &shared, 50000), 0);
    pws_body_reset(&body, &shared);
    shared.memory_all_max = 49999;
    CHECK_EQ(pws_body_open(&body, &shared, 20000), 0);
    CHECK_EQ(body.room, 20000);
    pws_body_reset(&body, &shared);
    pws_body_drop_spare(&shared);
}

static pws_body_block block;
static char block_memory[80000];

static void
put_block(void)
{
    block = (pws_body_block){block_memory, sizeof(block_memory), NULL};
    pws_body_block_put(&shared.blocks, &block);
}

static bool
has_block(void)
{
    pws_body_block *taken = pws_body_block_take(&shared.blocks, 0, UINT64_MAX);

    if (taken != NULL) {
        pws_body_block_put(&shared.blocks, taken);
    }
    return taken == &block;
}

TEST(a_whole_body_is_given_away_with_its_block)
{
    pws_slice bytes;

    prepare();
    put_block();
    CHECK_EQ(pws_body_open(&body, &shared, 50000), 0);
    CHECK(body.memory == block_memory);
    CHECK_EQ(shared.memory_all, sizeof(block_memory));
    CHECK(!has_block());
    add(0, 50000, 50000);
    CHECK(pws_body_give(&body) == NULL); /* nobody has said that this is all */
    body.complete = true;
    CHECK(pws_body_give(&body) == &block);
    CHECK(memcmp(block_memory, data, 50000) == 0);
    CHECK(pws_body_give(&body) == NULL);
    CHECK_EQ(pws_body_peek(&body, NULL, &bytes), 0);
    CHECK_EQ(pws_body_read(&body, NULL, got, 1), 0);
    pws_body_reset(&body, &shared);
    CHECK_EQ(shared.memory_all, 0);
    CHECK(!has_block());
}

TEST(a_body_that_is_not_given_away_leaves_its_block)
{
    static const size_t taken[] = {0, 1, 50000};

    for (int i = 0; i < 3; i++) {
        prepare();
        put_block();
        CHECK_EQ(pws_body_open(&body, &shared, 50000), 0);
        add(0, 50000, 777);
        body.complete = true;
        CHECK_EQ(pws_body_read(&body, NULL, got, taken[i]), taken[i]);
        CHECK(taken[i] == 0 || pws_body_give(&body) == NULL);
        pws_body_reset(&body, &shared);
        CHECK_EQ(shared.memory_all, 0);
        CHECK(has_block());
    }
}

TEST(a_block_is_for_bodies_that_fill_half_of_it)
{
    prepare();
    put_block();
    CHECK_EQ(pws_body_open(&body, &shared, 39999), 0);
    CHECK(body.block == NULL);
    add(0, 39999, 777);
    check_content(39999, 500);

    CHECK_EQ(pws_body_open(&body, &shared, 80001), 0);
    CHECK(body.block == NULL);
    add(0, 80001, 777);
    check_content(80001, 500);

    CHECK_EQ(pws_body_open(&body, &shared, 0), 0); /* who knows how long it will be */
    CHECK(body.block == &block);
    add(0, 39999, 777);
    body.complete = true;
    CHECK(pws_body_give(&body) == NULL);
    check_content(39999, 500);
    CHECK(has_block());
}

TEST(a_body_outgrows_its_block)
{
    prepare();
    put_block();
    CHECK_EQ(pws_body_open(&body, &shared, 0), 0);
    add(0, 90000, 999);
    CHECK_EQ(body.store, PWS_STORE_MEMORY);
    CHECK(body.block == NULL);
    CHECK(has_block());
    check_content(90000, 500);

    CHECK_EQ(pws_body_open(&body, &shared, 0), 0);
    add(0, LEN, 999);
    CHECK_EQ(body.store, PWS_STORE_FILE);
    CHECK(has_block());
    check_content(LEN, 5000);
}

TEST(what_outgrows_its_block_takes_the_memory_of_another_body)
{
    const char *memory;

    prepare();
    shared.spare_max = 95000;
    CHECK_EQ(pws_body_open(&body, &shared, 95000), 0);
    memory = body.memory;
    pws_body_reset(&body, &shared);
    put_block();
    CHECK_EQ(pws_body_open(&body, &shared, 0), 0);
    add(0, 70000, 999);
    CHECK(body.block == &block);
    add(70000, 90000, 999);
    CHECK(body.memory == memory);
    CHECK(has_block());
    check_content(90000, 500);
    pws_body_drop_spare(&shared);
}

TEST(a_block_does_not_widen_the_bounds)
{
    prepare();
    put_block();
    shared.memory_all_max = sizeof(block_memory) - 1;
    CHECK_EQ(pws_body_open(&body, &shared, 50000), 0);
    CHECK(body.block == NULL);
    CHECK(has_block());
    pws_body_reset(&body, &shared);
}

TEST(without_a_folder_memory_takes_more_but_has_a_bound)
{
    prepare();
    shared.spool_dir = NULL;
    CHECK_EQ(pws_body_open(&body, &shared, 0), 0);
    add(0, LEN, 7777);
    CHECK_EQ(body.store, PWS_STORE_MEMORY);
    check_content(LEN, 20000);

    CHECK_EQ(pws_body_open(&body, &shared, (uint64_t)PWS_BODY_NO_SPOOL_MAX + 1), 413);
    pws_body_reset(&body, &shared);
    CHECK_EQ(pws_body_open(&body, &shared, shared.memory_all_max + 1), 413);
    pws_body_reset(&body, &shared);
    CHECK_EQ(shared.memory_all, 0);
}

TEST(a_folder_that_cannot_be_written_is_a_500)
{
    prepare();
    shared.spool_dir = "/nonexistent";
    CHECK_EQ(pws_body_open(&body, &shared, LEN), 500);
    pws_body_reset(&body, &shared);
    CHECK_EQ(pws_body_open(&body, &shared, 0), 0);
    CHECK_EQ(pws_body_add(&body, &shared, data, LEN), 500);
    pws_body_reset(&body, &shared);
    CHECK_EQ(shared.memory_all, 0);
}

TEST(a_look_takes_nothing)
{
    pws_slice a, b;

    prepare();
    CHECK_EQ(pws_body_open(&body, &shared, LEN), 0);
    add(0, LEN, LEN);
    CHECK_EQ(pws_body_peek(&body, NULL, &a), 1);
    CHECK_EQ(pws_body_peek(&body, NULL, &b), 1);
    CHECK(a.at == b.at && a.len == b.len && a.len > 100);
    CHECK(memcmp(a.at, data, a.len) == 0);
    pws_body_take(&body, 100);
    CHECK_EQ(pws_body_peek(&body, NULL, &b), 1);
    CHECK(b.at == a.at + 100);
    CHECK_EQ(pws_body_read(&body, NULL, got, 50000), (long)a.len - 100);
    CHECK_EQ(pws_body_read(&body, NULL, got, 50000), 50000);
    CHECK(memcmp(got, data + a.len, 50000) == 0);
    pws_body_reset(&body, &shared);
}

TEST(a_file_that_was_cut_behind_our_back_is_an_error)
{
    pws_slice bytes;

    prepare();
    CHECK_EQ(pws_body_open(&body, &shared, LEN), 0);
    add(0, LEN, LEN);
    CHECK_EQ(ftruncate(body.fd, 0), 0);
    CHECK_EQ(pws_body_peek(&body, NULL, &bytes), -1);
    CHECK_EQ(errno, EIO);
    CHECK_EQ(pws_body_read(&body, NULL, got, LEN), -1);
    pws_body_reset(&body, &shared);
}

TEST(no_body_is_empty)
{
    pws_slice bytes;

    prepare();
    CHECK_EQ(pws_body_peek(&body, NULL, &bytes), 0);
    CHECK_EQ(pws_body_read(&body, NULL, got, 100), 0);
    pws_body_reset(&body, &shared);
}

TEST(a_file_without_a_name_holds_what_was_written)
{
    struct stat st;
    int fd = pws_tempfile_open("/tmp");

    prepare();
    CHECK(fd >= 0);
    CHECK_EQ(fstat(fd, &st), 0);
    CHECK_EQ(st.st_nlink, 0);
    CHECK_EQ(st.st_mode & 0777, 0600);
    CHECK((fcntl(fd, F_GETFD) & FD_CLOEXEC) != 0);
    CHECK_EQ(pws_tempfile_write(fd, data, LEN, 10), 0);
    CHECK_EQ(pws_tempfile_read(fd, got, LEN, 10), LEN);
    CHECK(memcmp(got, data, LEN) == 0);
    CHECK_EQ(pws_tempfile_read(fd, got, LEN, LEN + 10), 0);
    close(fd);
    CHECK_EQ(pws_tempfile_write(-1, data, 1, 0), -1);
    CHECK_EQ(pws_tempfile_read(-1, got, 1, 0), -1);
    CHECK_EQ(pws_tempfile_open(NULL), -1);
    CHECK_EQ(errno, ENOENT);
}

/* A full disk, as it were. */
TEST(a_file_that_cannot_grow_is_a_503)
{
    struct rlimit old, small;
    void (*handler)(int) = signal(SIGXFSZ, SIG_IGN);
    int first, second;

    prepare();
    CHECK_EQ(getrlimit(RLIMIT_FSIZE, &old), 0);
    small = old;
    small.rlim_cur = 150000;
    CHECK_EQ(pws_body_open(&body, &shared, 0), 0);
    CHECK_EQ(setrlimit(RLIMIT_FSIZE, &small), 0);
    first = pws_body_add(&body, &shared, data, 100000);
    second = pws_body_add(&body, &shared, data, 100000);
    CHECK_EQ(setrlimit(RLIMIT_FSIZE, &old), 0);
    signal(SIGXFSZ, handler);
    CHECK_EQ(first, 0);
    CHECK_EQ(second, 503);
    pws_body_reset(&body, &shared);
    CHECK_EQ(shared.memory_all, 0);
}
