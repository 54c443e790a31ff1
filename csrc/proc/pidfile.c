#include "proc/pidfile.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#define MODE 0644

static int
fail(char *why, size_t why_room, const char *what)
{
    snprintf(why, why_room, "%s: %s", what, strerror(errno));
    return -1;
}

/* The number in the file; 0 when there is none. */
static pid_t
read_number(int fd)
{
    char text[32], *end;
    ssize_t n = pread(fd, text, sizeof(text) - 1, 0);
    long number;

    if (n <= 0) {
        return 0;
    }
    text[n] = '\0';
    number = strtol(text, &end, 10);
    return end != text && number > 0 && number <= INT32_MAX ? (pid_t)number : 0;
}

/* Whether the path still leads to the file that we have open. */
static bool
is_at(int fd, const char *path)
{
    struct stat here, there;

    return fstat(fd, &here) == 0 && lstat(path, &there) == 0 &&
           here.st_ino == there.st_ino && here.st_dev == there.st_dev;
}

static int
refuse(pid_t number, char *why, size_t why_room)
{
    if (number > 0) {
        snprintf(
            why, why_room,
            "already running on PID %ld (if that is another program, remove the file)",
            (long)number);
    }
    else {
        snprintf(why, why_room, "another server holds it");
    }
    return -1;
}

/* Returns 1 when the file is ours to write, 0 when it has been replaced meanwhile, -1
 * with a sentence when somebody else has it. */
static int
claim(int fd, const char *path, char *why, size_t why_room)
{
    struct stat st;
    pid_t number;

    if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode)) {
        snprintf(why, why_room, "it is no regular file");
        return -1;
    }
    /* A file system without locks leaves the number. */
    if (flock(fd, LOCK_EX | LOCK_NB) < 0 && errno == EWOULDBLOCK) {
        return refuse(read_number(fd), why, why_room);
    }
    if (!is_at(fd, path)) {
        return 0;
    }
    number = read_number(fd);
    if (number > 0 && number != getpid() && (kill(number, 0) == 0 || errno == EPERM)) {
        return refuse(number, why, why_room);
    }
    return 1;
}

/* The new number before the old one goes: a reader finds one or the other. */
static int
write_number(int fd)
{
    char text[32];
    int len = snprintf(text, sizeof(text), "%ld\n", (long)getpid());

    if (pwrite(fd, text, (size_t)len, 0) != len || ftruncate(fd, len) < 0) {
        return -1;
    }
    return fchmod(fd, MODE);
}

int
pws_pidfile_open(pws_pidfile *file, const char *path, char *why, size_t why_room)
{
    int rc;

    file->fd = -1;
    file->path = strdup(path);
    if (file->path == NULL) {
        return fail(why, why_room, "memory");
    }
    do {
        if (file->fd >= 0) {
            close(file->fd);
        }
        file->fd =
            open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, MODE);
        rc = file->fd < 0 ? fail(why, why_room, "cannot be written")
                          : claim(file->fd, path, why, why_room);
    } while (rc == 0);
    if (rc > 0) {
        rc = write_number(file->fd) < 0 ? fail(why, why_room, "write") : 0;
    }
    if (rc < 0) {
        pws_pidfile_forget(file);
    }
    return rc;
}

void
pws_pidfile_close(pws_pidfile *file)
{
    if (file->fd >= 0 && is_at(file->fd, file->path) &&
        read_number(file->fd) == getpid()) {
        (void)unlink(file->path); /* while it is locked: nobody has claimed it */
    }
    pws_pidfile_forget(file);
}

void
pws_pidfile_forget(pws_pidfile *file)
{
    if (file->fd >= 0) {
        close(file->fd);
    }
    file->fd = -1;
    free(file->path);
    file->path = NULL;
}
