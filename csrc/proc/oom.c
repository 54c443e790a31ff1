#include "proc/oom.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Files of the kernel's, of some lines: longer ones are cut. Returns the length, or -1.
 */
static ssize_t
read_text(const char *path, char *text, size_t room)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    size_t len = 0;
    ssize_t n = 0;

    if (fd < 0) {
        return -1;
    }
    while (len < room - 1) {
        n = read(fd, text + len, room - 1 - len);
        if (n <= 0 && !(n < 0 && errno == EINTR)) {
            break;
        }
        len += n > 0 ? (size_t)n : 0;
    }
    close(fd);
    text[len] = '\0';
    return n < 0 ? -1 : (ssize_t)len;
}

/* The number behind "oom_kill " at the beginning of a line; -1: there is none. */
static int64_t
read_count(const char *path)
{
    char text[4096];
    const char *line = text;

    if (path[0] == '\0' || read_text(path, text, sizeof(text)) < 0) {
        return -1;
    }
    while (line != NULL) {
        line += line == text ? 0 : 1;
        if (strncmp(line, "oom_kill ", 9) == 0) {
            return strtoll(line + 9, NULL, 10);
        }
        line = strchr(line, '\n');
    }
    return -1;
}

/* Whether `names`, with commas between, up to its colon, has this one. */
static bool
names_controller(const char *names, const char *wanted)
{
    size_t len = strlen(wanted);

    for (;;) {
        size_t n = strcspn(names, ",:");

        if (n == len && memcmp(names, wanted, len) == 0) {
            return true;
        }
        if (names[n] != ',') {
            return false;
        }
        names += n + 1;
    }
}

/* Try the file of one place; then, since a container may see its own cgroup as the
 * root, that of the root. */
static bool
try_places(pws_oom *oom, const char *mount, const char *group, const char *file)
{
    const char *groups[2] = {group, ""};

    for (int i = 0; i < 2; i++) {
        int n =
            snprintf(oom->path, sizeof(oom->path), "%s%s/%s", mount, groups[i], file);

        oom->count = n > 0 && n < (int)sizeof(oom->path) ? read_count(oom->path) : -1;
        if (oom->count >= 0) {
            return true;
        }
    }
    oom->path[0] = '\0';
    return false;
}

/* A line is "NUMBER:CONTROLLERS:PATH", without controllers in version 2. */
static bool
try_line(pws_oom *oom, const char *line, const char *mounts)
{
    const char *names = strchr(line, ':');
    const char *group = names != NULL ? strchr(names + 1, ':') : NULL;
    char mount[PWS_OOM_PATH_MAX];

    if (group == NULL) {
        return false;
    }
    group++;
    if (names_controller(names + 1, "memory")) {
        (void)snprintf(mount, sizeof(mount), "%s/memory", mounts);
        return try_places(oom, mount, group, "memory.oom_control");
    }
    return names[1] == ':' && try_places(oom, mounts, group, "memory.events");
}

void
pws_oom_open(pws_oom *oom, const char *self, const char *mounts)
{
    char text[8192], *rest = text, *line;

    oom->path[0] = '\0';
    oom->count = -1;
    if (read_text(self, text, sizeof(text)) < 0) {
        return;
    }
    while ((line = strtok_r(rest, "\n", &rest)) != NULL) {
        if (try_line(oom, line, mounts)) {
            return;
        }
    }
}

int64_t
pws_oom_read(pws_oom *oom, int64_t *before)
{
    *before = oom->count;
    oom->count = read_count(oom->path);
    return oom->count;
}
