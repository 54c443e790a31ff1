/* forks.h - whether a child process may have copies of our descriptors.
 *
 * A descriptor that no child has a copy of ends with its close: the connection, and
 * what epoll knows of it. Children that execute another program at once (vfork,
 * posix_spawn) are none: ours are closed by that. */
#ifndef PWS_BASE_FORKS_H
#define PWS_BASE_FORKS_H

#include <stdbool.h>

/* Look out for forks, once a process and before its first connection. Until then, and
 * when there is no memory to do so, any descriptor may have a copy. */
void pws_forks_watch(void);

/* Close `fd`, which this process opened after it began, unless it has forked since:
 * then nothing is done, and false is returned. No fork comes in between. */
bool pws_forks_close(int fd);

#endif
