#include "engine/pins.h"

#include <stdint.h>
#include <stdlib.h>

#define FIRST_ROOM 64u

void
pws_pins_init(pws_pins *pins)
{
    pthread_mutex_init(&pins->lock, NULL);
    pins->pins = NULL;
    pins->room = pins->used = 0;
}

void
pws_pins_close(pws_pins *pins)
{
    free(pins->pins);
    pins->pins = NULL;
    pins->room = pins->used = 0;
    pthread_mutex_destroy(&pins->lock);
}

void
pws_pins_abandon(pws_pins *pins)
{
    pws_pins_init(pins);
}

/* Where a search for `object` begins. Objects are aligned: the low bits say nothing. */
static size_t
home(const pws_pins *pins, const void *object)
{
    uint64_t hash = (uint64_t)(uintptr_t)object * UINT64_C(0x9e3779b97f4a7c15);

    return (size_t)(hash >> 32) & (pins->room - 1);
}

/* The place of `object`, or the free one where it belongs. There is always a free one.
 */
static pws_pin *
find(const pws_pins *pins, const void *object)
{
    size_t i = home(pins, object);

    while (pins->pins[i].object != NULL && pins->pins[i].object != object) {
        i = (i + 1) & (pins->room - 1);
    }
    return &pins->pins[i];
}

/* A quarter of the places stays free. */
static int
make_room(pws_pins *pins)
{
    pws_pin *old = pins->pins, *grown;
    size_t old_room = pins->room;

    if (pins->room - pins->room / 4 > pins->used) {
        return 0;
    }
    grown = calloc(old_room > 0 ? old_room * 2 : FIRST_ROOM, sizeof(*grown));
    if (grown == NULL) {
        return -1;
    }
    pins->pins = grown;
    pins->room = old_room > 0 ? old_room * 2 : FIRST_ROOM;
    for (size_t i = 0; i < old_room; i++) {
        if (old[i].object != NULL) {
            *find(pins, old[i].object) = old[i];
        }
    }
    free(old);
    return 0;
}

/* Free a place, and move up those behind it that could not be found any more. */
static void
vacate(pws_pins *pins, pws_pin *pin)
{
    size_t mask = pins->room - 1, hole = (size_t)(pin - pins->pins), i = hole;

    for (;;) {
        size_t from;

        i = (i + 1) & mask;
        if (pins->pins[i].object == NULL) {
            break;
        }
        from = home(pins, pins->pins[i].object);
        if (((i - from) & mask) >= ((i - hole) & mask)) {
            pins->pins[hole] = pins->pins[i];
            hole = i;
        }
    }
    pins->pins[hole] = (pws_pin){NULL, 0, 0};
    pins->used--;
}

bool
pws_pins_has(pws_pins *pins, const void *object)
{
    bool has;

    pthread_mutex_lock(&pins->lock);
    has = pins->room > 0 && find(pins, object)->object != NULL;
    pthread_mutex_unlock(&pins->lock);
    return has;
}

static int
add_locked(pws_pins *pins, const void *object, size_t len, size_t *grown)
{
    pws_pin *pin;

    *grown = 0;
    if (make_room(pins) < 0) {
        return -1;
    }
    pin = find(pins, object);
    if (pin->object == NULL) {
        *pin = (pws_pin){object, len, 0};
        pins->used++;
        *grown = len;
    }
    pin->count++;
    return 0;
}

int
pws_pins_add(pws_pins *pins, const void *object, size_t len, size_t *grown)
{
    int rc;

    pthread_mutex_lock(&pins->lock);
    rc = add_locked(pins, object, len, grown);
    pthread_mutex_unlock(&pins->lock);
    return rc;
}

size_t
pws_pins_drop(pws_pins *pins, const void *object)
{
    size_t freed = 0;

    pthread_mutex_lock(&pins->lock);
    if (pins->room > 0) {
        pws_pin *pin = find(pins, object);

        if (pin->object != NULL && --pin->count == 0) {
            freed = pin->len;
            vacate(pins, pin);
        }
    }
    pthread_mutex_unlock(&pins->lock);
    return freed;
}
