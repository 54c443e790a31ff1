/* harness.h - the C unit tests' own small framework.
 *
 *     TEST(an_empty_line_is_refused)
 *     {
 *         const char *text = guarded("\r\n", 2);
 *         CHECK_EQ(parse(text, 2), 400);
 *     }
 *
 * Tests register themselves; harness.c has main(). The first CHECK that fails ends its
 * test, the next test runs. Guarded memory lives until the end of its test. */
#ifndef PWS_TESTS_HARNESS_H
#define PWS_TESTS_HARNESS_H

#include <stddef.h>
#include <stdnoreturn.h>

struct harness_test {
    const char *name;
    void (*run)(void);
    struct harness_test *next;
};

/* Define a test. Tests run in the order of the file. */
#define TEST(name)                                                                     \
    static void test_##name(void);                                                     \
    static struct harness_test entry_##name = {#name, test_##name, NULL};              \
    __attribute__((constructor)) static void enter_##name(void)                        \
    {                                                                                  \
        harness_add(&entry_##name);                                                    \
    }                                                                                  \
    static void test_##name(void)

/* End the test as failed unless cond holds. */
#define CHECK(cond) ((cond) ? (void)0 : harness_fail(__FILE__, __LINE__, #cond))

/* The same for two integers, which are shown. */
#define CHECK_EQ(got, want)                                                            \
    harness_equal(__FILE__, __LINE__, #got, (long long)(got), (long long)(want))

/* The same for bytes and a string literal, both shown with escapes. */
#define CHECK_BYTES(got, len, literal)                                                 \
    harness_bytes(__FILE__, __LINE__, #got, (got), (len), (literal),                   \
                  sizeof("" literal) - 1)

/* A copy of n bytes whose end is the end of readable memory: one byte further dies. */
char *guarded(const void *data, size_t n);

/* A copy of n bytes whose start is the start of readable memory. */
char *guarded_start(const void *data, size_t n);

/* Give all guarded memory back now: for tests that make thousands of copies. */
void guarded_release(void);

void harness_add(struct harness_test *test);

noreturn void harness_fail(const char *file, int line, const char *what);

void harness_equal(const char *file, int line, const char *what, long long got,
                   long long want);

void harness_bytes(const char *file, int line, const char *what, const char *got,
                   size_t got_len, const char *want, size_t want_len);

#endif
