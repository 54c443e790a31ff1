#include "harness.h"

#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

struct mapping {
    void *at;
    size_t size;
    struct mapping *next;
};

static struct harness_test *first;
static struct harness_test **last = &first;
static struct mapping *mappings;
static jmp_buf end_of_test;

/* Readable pages for n bytes with an unreadable page before and after. */
static char *
map_guarded(size_t n, size_t *room)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    struct mapping *mapping = malloc(sizeof(*mapping));
    char *at;

    *room = (n + page) / page * page;
    at = mmap(NULL, *room + 2 * page, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (mapping == NULL || at == MAP_FAILED ||
        mprotect(at + page, *room, PROT_READ | PROT_WRITE) < 0) {
        perror("guarded");
        abort();
    }
    *mapping = (struct mapping){at, *room + 2 * page, mappings};
    mappings = mapping;
    return at + page;
}

static void
print_bytes(const char *label, const char *bytes, size_t n)
{
    printf("    %s %zu bytes \"", label, n);
    for (size_t i = 0; i < n; i++) {
        unsigned char byte = (unsigned char)bytes[i];
        if (byte >= 0x20 && byte < 0x7f && byte != '"' && byte != '\\') {
            putchar(byte);
        }
        else {
            printf("\\x%02x", byte);
        }
    }
    printf("\"\n");
}

static int
run(const struct harness_test *test)
{
    int failed = setjmp(end_of_test);

    if (failed == 0) {
        test->run();
    }
    guarded_release();
    printf("%s %s\n", failed ? "FAIL" : "ok  ", test->name);
    return failed;
}

static int
wanted(const struct harness_test *test, int count, char **names)
{
    for (int i = 0; i < count; i++) {
        if (strcmp(test->name, names[i]) == 0) {
            return 1;
        }
    }
    return count == 0;
}

char *
guarded(const void *data, size_t n)
{
    size_t room;
    char *at = map_guarded(n, &room);

    if (n > 0) {
        memcpy(at + room - n, data, n);
    }
    return at + room - n;
}

char *
guarded_start(const void *data, size_t n)
{
    size_t room;
    char *at = map_guarded(n, &room);

    if (n > 0) {
        memcpy(at, data, n);
    }
    return at;
}

void
guarded_release(void)
{
    while (mappings != NULL) {
        struct mapping *mapping = mappings;
        mappings = mapping->next;
        munmap(mapping->at, mapping->size);
        free(mapping);
    }
}

void
harness_add(struct harness_test *test)
{
    *last = test;
    last = &test->next;
}

void
harness_fail(const char *file, int line, const char *what)
{
    printf("%s:%d: %s\n", file, line, what);
    longjmp(end_of_test, 1);
}

void
harness_equal(const char *file, int line, const char *what, long long got,
              long long want)
{
    if (got != want) {
        printf("    got %lld, want %lld\n", got, want);
        harness_fail(file, line, what);
    }
}

void
harness_bytes(const char *file, int line, const char *what, const char *got,
              size_t got_len, const char *want, size_t want_len)
{
    if (got_len != want_len || (want_len > 0 && memcmp(got, want, want_len) != 0)) {
        print_bytes("got ", got, got_len);
        print_bytes("want", want, want_len);
        harness_fail(file, line, what);
    }
}

static int
list(void)
{
    for (struct harness_test *test = first; test != NULL; test = test->next) {
        puts(test->name);
    }
    return 0;
}

/* Run all tests, or those named; or print their names (--list). Exits 0 when each
 * passed and there was one. */
int
main(int argc, char **argv)
{
    int passed = 0, failed = 0;

    if (argc == 2 && strcmp(argv[1], "--list") == 0) {
        return list();
    }
    setvbuf(stdout, NULL, _IOLBF, 0);
    signal(SIGPIPE, SIG_IGN); /* as Python does */
    for (struct harness_test *test = first; test != NULL; test = test->next) {
        if (!wanted(test, argc - 1, argv + 1)) {
            continue;
        }
        if (run(test) == 0) {
            passed++;
        }
        else {
            failed++;
        }
    }
    printf("%d passed, %d failed\n", passed, failed);
    return failed == 0 && passed > 0 ? 0 : 1;
}
