#include "proc/title.h"

#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

/* proc(5): where the words begin is field 48 of /proc/self/stat, their end is 49. The
 * name, field 2, may hold spaces and parentheses. */
#define FIELDS_BETWEEN_NAME_AND_WORDS 45

/* Returns the memory of the command line and its size, or NULL. */
static char *
find_words(size_t *size)
{
    char text[2048], *at, *rest;
    unsigned long long from, to;
    int fd = open("/proc/self/stat", O_RDONLY | O_CLOEXEC);
    ssize_t n = fd >= 0 ? read(fd, text, sizeof(text) - 1) : -1;

    if (fd >= 0) {
        close(fd);
    }
    if (n <= 0) {
        return NULL;
    }
    text[n] = '\0';
    at = strrchr(text, ')');
    for (int i = 0; at != NULL && i <= FIELDS_BETWEEN_NAME_AND_WORDS; i++) {
        at = strchr(at + 1, ' ');
    }
    if (at == NULL) {
        return NULL;
    }
    from = strtoull(at, &rest, 10);
    to = strtoull(rest, NULL, 10);
    if (from == 0 || to <= from) {
        return NULL;
    }
    *size = (size_t)(to - from);
    return (char *)(uintptr_t)from;
}

void
pws_title_set(const char *name, const char *text)
{
    size_t room = 0, len = strlen(text);
    char *words = find_words(&room);

    (void)prctl(PR_SET_NAME, name);
    if (words == NULL) {
        return;
    }
    /* A last byte that is not NUL would make the kernel read on into the environment.
     */
    len = len < room ? len : room - 1;
    memcpy(words, text, len);
    memset(words + len, 0, room - len);
}
