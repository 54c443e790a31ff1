#include "engine/lent.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "engine/accept.h"

/* The engine's own listener at the same address; NULL: there is none. */
static const pws_listener *
find_own(const pws_engine *e, int fd)
{
    pws_address address;

    memset(&address, 0, sizeof(address));
    address.len = sizeof(address.sa);
    if (getsockname(fd, &address.sa.any, &address.len) < 0) {
        return NULL;
    }
    for (unsigned i = 0; i < e->own_listeners; i++) {
        const pws_listener *own = &e->listeners[i];

        if (pws_address_same(&own->address, &address)) {
            return own;
        }
    }
    return NULL;
}

/* A place for another one. One that was used before is taken for the same address only:
 * connections still know where they are from. */
static pws_listener *
find_place(pws_engine *e, unsigned index)
{
    for (unsigned i = e->own_listeners; i < e->listener_count; i++) {
        if (e->listeners[i].fd < 0 && e->listeners[i].index == index) {
            return &e->listeners[i];
        }
    }
    return e->listener_count < e->listener_room ? &e->listeners[e->listener_count++]
                                                : NULL;
}

/* Returns 0, or -1 with errno. */
static int
take(pws_engine *e, int fd)
{
    const pws_listener *own = find_own(e, fd);
    pws_listener *l = own != NULL ? find_place(e, own->index) : NULL;

    if (l == NULL) {
        errno = own != NULL ? ENOBUFS : EADDRNOTAVAIL;
        close(fd);
        return -1;
    }
    *l = (pws_listener){.fd = fd,
                        .protocol = own->protocol,
                        .index = own->index,
                        .address = own->address};
    if (!e->accepting) {
        return 0; /* it is watched with the others, or ends with them */
    }
    if (pws_accept_watch(e, l) < 0) {
        int saved = errno;

        close(fd);
        l->fd = -1;
        errno = saved;
        return -1;
    }
    return 0;
}

static void
take_all(pws_engine *e)
{
    for (unsigned i = 0; i < e->poller.passed_count; i++) {
        if (e->drained || e->elsewhere) {
            close(e->poller.passed[i]); /* another one gets it */
        }
        else if (take(e, e->poller.passed[i]) < 0) {
            pws_log(PWS_LOG_ERROR, "A sibling's socket cannot be served: %s",
                    strerror(errno));
            e->poller.letters |= PWS_LETTER_LOST;
        }
    }
    e->poller.passed_count = 0;
}

static void
let_go(pws_engine *e)
{
    for (unsigned i = e->own_listeners; i < e->listener_count; i++) {
        if (e->listeners[i].fd >= 0) {
            if (!e->suspended) { /* else no wake-up was spent on us */
                (void)pws_accept_empty(e, &e->listeners[i]);
            }
            pws_listener_close(&e->listeners[i]);
        }
    }
}

void
pws_lent_heed(pws_engine *e)
{
    unsigned letters = e->poller.letters & (PWS_LETTER_LET_GO | PWS_LETTER_LOOK);

    e->poller.letters &= ~letters;
    if ((letters & PWS_LETTER_LET_GO) != 0) {
        let_go(e);
    }
    if (e->poller.passed_count > 0) {
        take_all(e);
    }
    if ((letters & PWS_LETTER_LOOK) != 0) {
        pws_accept_look(e);
    }
}

void
pws_lent_close(pws_engine *e)
{
    for (unsigned i = e->own_listeners; i < e->listener_count; i++) {
        pws_listener_close(&e->listeners[i]);
    }
}
