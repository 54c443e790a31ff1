/* pins.h - which objects the outputs of an engine keep alive, each counted once.
 *
 * One object can wait in many outputs (900 slow readers of one cached page): it costs
 * its memory once. Segments of any thread come and go, so a lock guards the table. */
#ifndef PWS_ENGINE_PINS_H
#define PWS_ENGINE_PINS_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>

typedef struct {
    const void *object; /* NULL: free */
    size_t len;         /* bytes that it was counted with */
    size_t count;       /* of segments that hold it */
} pws_pin;

typedef struct {
    pthread_mutex_t lock;
    pws_pin *pins; /* `room` places, a power of two, or NULL */
    size_t room, used;
} pws_pins;

void pws_pins_init(pws_pins *pins);
void pws_pins_close(pws_pins *pins);

/* In a forked child: another thread may have held the lock. All is forgotten. */
void pws_pins_abandon(pws_pins *pins);

/* Whether some segment holds `object`. */
bool pws_pins_has(pws_pins *pins, const void *object);

/* One more segment holds `len` bytes of `object`. Returns 0, or -1 without memory.
 * `grown`: how many bytes of memory are kept alive by it that were not before. */
int pws_pins_add(pws_pins *pins, const void *object, size_t len, size_t *grown);

/* One segment less holds it. Returns how many bytes are not kept alive any more; 0 also
 * for an object that was forgotten. */
size_t pws_pins_drop(pws_pins *pins, const void *object);

#endif
