/* The harness itself: that the rest of the C tests mean something. */
#include "harness.h"

#include <string.h>
#include <unistd.h>

TEST(guarded_memory_holds_the_bytes)
{
    char *end = guarded("abc", 3);
    char *start = guarded_start("abc", 3);

    CHECK_BYTES(end, 3, "abc");
    CHECK_BYTES(start, 3, "abc");
}

TEST(guarded_memory_ends_at_a_page)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE);

    CHECK_EQ((size_t)(guarded("abc", 3) + 3) % page, 0);
    CHECK_EQ((size_t)guarded_start("abc", 3) % page, 0);
}

TEST(guarded_memory_may_be_empty_or_a_page)
{
    char block[65536];

    memset(block, 'x', sizeof(block));
    CHECK(guarded(NULL, 0) != NULL);
    CHECK(memcmp(guarded(block, sizeof(block)), block, sizeof(block)) == 0);
    CHECK(memcmp(guarded_start(block, sizeof(block)), block, sizeof(block)) == 0);
}

TEST(guarded_memory_can_be_given_back_early)
{
    for (int i = 0; i < 100000; i++) {
        guarded("abc", 3);
        if (i % 1000 == 0) {
            guarded_release();
        }
    }
}
