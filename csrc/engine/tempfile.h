/* tempfile.h - files without a name, for what does not fit into memory. */
#ifndef PWS_ENGINE_TEMPFILE_H
#define PWS_ENGINE_TEMPFILE_H

#include <stddef.h>
#include <stdint.h>

/* Of a file system, this many bytes or a twentieth, whichever is less, stay free. */
#define PWS_TEMPFILE_RESERVE (256u * 1024 * 1024)

/* Open a file in `dir` that no other process can find. Returns a descriptor that the
 * caller closes, or -1 with errno (ENOENT when dir is NULL). */
int pws_tempfile_open(const char *dir);

/* Write all bytes at `offset`. Returns 0 or -1 with errno: ENOSPC before the file
 * system is quite full, since others need it too (see PWS_TEMPFILE_RESERVE). */
int pws_tempfile_write(int fd, const char *data, size_t len, uint64_t offset);

/* Read up to `room` bytes at `offset`. Returns the count, 0 at the end, or -1 with
 * errno. */
long pws_tempfile_read(int fd, char *dst, size_t room, uint64_t offset);

#endif
