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
#include <sys/syscall.h>
#include <unistd.h>

#define MODE 0644

/* RENAME_NOREPLACE: the C library may be older than the kernel. */
#define NO_REPLACE 1

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

/* Whether there is such a process; one that is dead and not reaped yet is none. */
static bool
is_alive(pid_t number)
{
    char name[32], text[512];
    const char *state;
    ssize_t n;
    int fd;

    if (kill(number, 0) < 0 && errno != EPERM) {
        return false;
    }
    snprintf(name, sizeof(name), "/proc/%ld/stat", (long)number);
    fd = open(name, O_RDONLY | O_CLOEXEC);
    n = fd >= 0 ? read(fd, text, sizeof(text) - 1) : -1;
    if (fd >= 0) {
        close(fd);
    }
    text[n > 0 ? n : 0] = '\0';
    state = strrchr(text, ')'); /* behind the name, which may hold anything */
    return state == NULL ||
           (strncmp(state, ") Z", 3) != 0 && strncmp(state, ") X", 3) != 0);
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

/* Returns 1 when the file may be replaced, 0 when it has been meanwhile, -1 with a
 * sentence when somebody else has it. */
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
    if (number > 0 && number != getpid() && is_alive(number)) {
        return refuse(number, why, why_room);
    }
    return 1;
}

static int
write_number(int fd)
{
    char text[32];
    int len = snprintf(text, sizeof(text), "%ld\n", (long)getpid());

    if (write(fd, text, (size_t)len) != len) {
        return -1;
    }
    return fchmod(fd, MODE);
}

/* A file beside `path` with our number, locked, under a name that nobody can have
 * guessed. `name` is the caller's to free. Returns its descriptor, or -1 with errno. */
static int
make_file(const char *path, char **name)
{
    int fd = -1, saved;

    if (asprintf(name, "%s.XXXXXX", path) < 0) {
        *name = NULL;
        return -1;
    }
    fd = mkostemp(*name, O_CLOEXEC); /* O_EXCL: no link is followed */
    if (fd < 0) {
        return -1;
    }
    (void)flock(fd, LOCK_EX | LOCK_NB);
    if (write_number(fd) < 0) {
        saved = errno;
        (void)unlink(*name);
        close(fd);
        errno = saved;
        return -1;
    }
    return fd;
}

/* Rename it, unless something has that name. Returns 0, or -1 with errno. */
static int
rename_to_free(const char *name, const char *path)
{
#ifdef SYS_renameat2
    if (syscall(SYS_renameat2, AT_FDCWD, name, AT_FDCWD, path, NO_REPLACE) == 0) {
        return 0;
    }
    if (errno != EINVAL && errno != ENOSYS) {
        return -1;
    }
#endif
    /* A file system, or a kernel, that cannot do that. */
    if (link(name, path) < 0) {
        return -1;
    }
    (void)unlink(name);
    return 0;
}

/* Give the file `name` the name `path`, which is free. Returns 1, 0 when it is not any
 * more, -1 with errno. */
static int
take_free_path(const char *name, const char *path)
{
    if (rename_to_free(name, path) == 0) {
        return 1;
    }
    if (errno == EEXIST) {
        return 0;
    }
    /* It has no links either: two that start at the same moment may both have it. */
    return (errno == EPERM || errno == EOPNOTSUPP) && rename(name, path) == 0 ? 1 : -1;
}

/* Give the file `name` the name `path`, unless a living server has that. Returns 1, 0
 * to try again, -1 with a sentence. */
static int
take_path(const char *name, const char *path, char *why, size_t why_room)
{
    int old = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    int rc;

    if (old < 0) {
        rc = errno == ENOENT ? take_free_path(name, path) : -1;
        return rc < 0 ? fail(why, why_room, "cannot be written") : rc;
    }
    rc = claim(old, path, why, why_room);
    if (rc > 0 && rename(name, path) < 0) { /* while the old one is locked */
        rc = fail(why, why_room, "cannot be written");
    }
    close(old);
    return rc;
}

int
pws_pidfile_open(pws_pidfile *file, const char *path, char *why, size_t why_room)
{
    char *name = NULL;
    int rc = 0;

    file->path = strdup(path);
    file->fd = file->path != NULL ? make_file(path, &name) : -1;
    if (file->fd < 0) {
        rc = fail(why, why_room, "cannot be written");
    }
    while (rc == 0) {
        rc = take_path(name, path, why, why_room);
        if (rc < 0) {
            (void)unlink(name);
        }
    }
    free(name);
    if (rc < 0) {
        pws_pidfile_forget(file);
    }
    return rc < 0 ? -1 : 0;
}

int
pws_pidfile_move(pws_pidfile *file, const char *path, char *why, size_t why_room)
{
    char *name = strdup(path);
    int rc = name == NULL ? fail(why, why_room, "memory") : 0;

    if (rc == 0 && !is_at(file->fd, file->path)) {
        snprintf(why, why_room, "the file is not ours any more");
        rc = -1;
    }
    while (rc == 0) {
        rc = take_path(file->path, path, why, why_room);
    }
    if (rc < 0) {
        free(name);
        return -1;
    }
    free(file->path);
    file->path = name;
    return 0;
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
