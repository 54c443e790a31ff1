#include "engine/tempfile.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/statvfs.h>
#include <sys/types.h>
#include <unistd.h>

/* For file systems that do not know O_TMPFILE. */
static int
open_and_unlink(const char *dir)
{
    char path[4096];
    int len = snprintf(path, sizeof(path), "%s/pywsgiserve.XXXXXX", dir);
    int fd;

    if (len < 0 || (size_t)len >= sizeof(path)) {
        errno = ENAMETOOLONG;
        return -1;
    }
    fd = mkostemp(path, O_CLOEXEC);
    if (fd >= 0) {
        unlink(path);
    }
    return fd;
}

int
pws_tempfile_open(const char *dir)
{
    int fd;

    if (dir == NULL) {
        errno = ENOENT;
        return -1;
    }
    fd = open(dir, O_TMPFILE | O_RDWR | O_CLOEXEC | O_EXCL, 0600);
    if (fd < 0 && (errno == EOPNOTSUPP || errno == EISDIR || errno == EINVAL)) {
        fd = open_and_unlink(dir);
    }
    return fd;
}

/* Whether `len` more bytes leave the reserve alone. A file system that cannot say has
 * room. */
static bool
leaves_reserve(int fd, size_t len)
{
    uint64_t unit, size, spare, reserve;
    struct statvfs st;

    if (fstatvfs(fd, &st) < 0 || st.f_blocks == 0) {
        return true;
    }
    unit = st.f_frsize;
    size = st.f_blocks * unit;
    spare = st.f_bavail * unit;
    reserve = size / 20 < PWS_TEMPFILE_RESERVE ? size / 20 : PWS_TEMPFILE_RESERVE;
    return spare >= reserve && spare - reserve >= len;
}

int
pws_tempfile_write(int fd, const char *data, size_t len, uint64_t offset)
{
    if (!leaves_reserve(fd, len)) {
        errno = ENOSPC;
        return -1;
    }
    while (len > 0) {
        ssize_t n = pwrite(fd, data, len, (off_t)offset);

        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n <= 0) {
            return -1;
        }
        data += n;
        len -= (size_t)n;
        offset += (uint64_t)n;
    }
    return 0;
}

long
pws_tempfile_read(int fd, char *dst, size_t room, uint64_t offset)
{
    ssize_t n;

    do {
        n = pread(fd, dst, room, (off_t)offset);
    } while (n < 0 && errno == EINTR);
    return (long)n;
}
