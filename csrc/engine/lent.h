/* lent.h - listeners that come and go while an engine serves.
 *
 * Where each worker has sockets of its own (reuse_port), those of a worker that has
 * gone are lent to a sibling, until a successor has them: their queues are served. They
 * come as descriptors with a letter of the master; the socket stays the master's. The
 * engine keeps the letters that are for it to itself. */
#ifndef PWS_ENGINE_LENT_H
#define PWS_ENGINE_LENT_H

#include "engine/engine.h"

/* Let go of all that is lent; look whether somebody waits at any listener, since one
 * who was woken for it has died. */
#define PWS_LETTER_LET_GO 0x40u
#define PWS_LETTER_LOOK 0x80u

/* After each wait of the poller: do what the letters to the engine say. Descriptors
 * that cannot be taken are closed, and noted as PWS_LETTER_LOST. */
void pws_lent_heed(pws_engine *e);

/* The engine ends: close what is lent. */
void pws_lent_close(pws_engine *e);

#endif
