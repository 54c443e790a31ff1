/* systemd.h - what a service manager is told: sd_notify(3), without its library.
 *
 * Each message is one datagram, sent without waiting. One that the manager does not
 * take at once is tried again later, unless a newer one of its kind makes it void
 * (status, watchdog). The master tells of each change of its life and calls
 * pws_systemd_turn in each turn of its loop; when nobody listens all of this does
 * nothing.
 *
 * Only the main process of a service is listened to (NotifyAccess=main). So a master
 * that succeeds another one is silent until that one has ended, whose last words say
 * who is the main process now. */
#ifndef PWS_PROC_SYSTEMD_H
#define PWS_PROC_SYSTEMD_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/types.h>
#include <sys/un.h>

#include "proc/workers.h"

#define PWS_SYSTEMD_UNSENT 4
#define PWS_SYSTEMD_LONGEST 256

typedef struct {
    int fd; /* -1: nobody is to be told */
    struct sockaddr_un manager;
    socklen_t manager_len;
    bool silent; /* somebody else is the main process */
    bool ready;  /* workers can serve */
    bool stopping;
    bool withheld;       /* the sign of life, since no worker serves */
    bool complained;     /* that nothing can be sent */
    const char *event;   /* the last one, as the status tells it */
    int64_t watchdog_ms; /* half of what the manager waits for; 0: it does not watch */
    int64_t watchdog_due_ms; /* PWS_NEVER */
    int64_t status_ms;       /* when the last status was sent */
    int64_t status_due_ms;   /* PWS_NEVER: what it said is still so */
    char status[PWS_SYSTEMD_LONGEST];
    int64_t retry_ms; /* PWS_NEVER: all is sent */
    unsigned unsent_count;
    char unsent[PWS_SYSTEMD_UNSENT][PWS_SYSTEMD_LONGEST];
} pws_systemd;

/* Tell nobody. */
void pws_systemd_init(pws_systemd *s);

/* Tell the manager at `address`, as NOTIFY_SOCKET has it: a path, or '@' and an
 * abstract name. `watchdog_usec`: how long it waits for a sign of life; 0: for ever.
 * Returns 0, or -1 with errno. */
int pws_systemd_open(pws_systemd *s, const char *address, uint64_t watchdog_usec);
void pws_systemd_close(pws_systemd *s);

/* The first workers can serve. */
void pws_systemd_ready(pws_systemd *s);

/* A reload has begun; it has ended, with the new settings or with those from before. */
void pws_systemd_reloading(pws_systemd *s);
void pws_systemd_settled(pws_systemd *s, bool kept);

/* The service ends, which takes so long at most. */
void pws_systemd_stopping(pws_systemd *s, int64_t within_ms);

/* The very last words of a master that has a successor: it is the main process now.
 * They alone may wait, a second at most, for a manager that is held up. */
void pws_systemd_hand_over(pws_systemd *s, pid_t successor);

/* By that one, when it is alone: it speaks from now on. */
void pws_systemd_take_over(pws_systemd *s);

/* How the workers are. `excused`: none needs to serve now. The sign of life is withheld
 * while there is no worker that is well; one that is late, silent or in one call for
 * longer than the manager waits is not. It is sent as soon as there is one again. */
void pws_systemd_turn(pws_systemd *s, const pws_workers *workers, bool excused);

/* When the next turn is due; PWS_NEVER. */
int64_t pws_systemd_due_ms(const pws_systemd *s);

#endif
