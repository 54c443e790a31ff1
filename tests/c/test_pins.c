/* Pinned objects: each is counted once, however many outputs hold it. */
#include "harness.h"

#include <stdlib.h>

#include "engine/pins.h"

#define OBJECTS 1000

static pws_pins pins;
static long objects[OBJECTS];

TEST(an_object_is_counted_once)
{
    size_t grown;

    pws_pins_init(&pins);
    CHECK(!pws_pins_has(&pins, &objects[0]));
    CHECK_EQ(pws_pins_add(&pins, &objects[0], 500, &grown), 0);
    CHECK_EQ(grown, 500);
    CHECK_EQ(pws_pins_add(&pins, &objects[0], 300, &grown), 0);
    CHECK_EQ(grown, 0);
    CHECK(pws_pins_has(&pins, &objects[0]));
    CHECK(!pws_pins_has(&pins, &objects[1]));
    CHECK_EQ(pws_pins_drop(&pins, &objects[0]), 0);
    CHECK_EQ(pws_pins_drop(&pins, &objects[0]), 500);
    CHECK(!pws_pins_has(&pins, &objects[0]));
    pws_pins_close(&pins);
}

/* Random adds and drops against a plain array of counts. */
TEST(any_order_of_many_objects_gives_the_right_sums)
{
    static unsigned held[OBJECTS];
    size_t sum = 0, expected = 0;

    pws_pins_init(&pins);
    srand(11);
    for (int i = 0; i < 200000; i++) {
        unsigned n = (unsigned)rand() % OBJECTS;
        size_t grown;

        if (rand() % 2 == 0) {
            CHECK_EQ(pws_pins_add(&pins, &objects[n], n + 1, &grown), 0);
            CHECK_EQ(grown, held[n] == 0 ? n + 1 : 0);
            held[n]++;
            sum += grown;
        }
        else if (held[n] > 0) {
            held[n]--;
            sum -= pws_pins_drop(&pins, &objects[n]);
        }
        CHECK_EQ(pws_pins_has(&pins, &objects[n]), held[n] > 0);
    }
    for (unsigned n = 0; n < OBJECTS; n++) {
        expected += held[n] > 0 ? n + 1 : 0;
    }
    CHECK_EQ(sum, expected);
    for (unsigned n = 0; n < OBJECTS; n++) {
        for (; held[n] > 0; held[n]--) {
            sum -= pws_pins_drop(&pins, &objects[n]);
        }
    }
    CHECK_EQ(sum, 0);
    CHECK_EQ(pins.used, 0);
    pws_pins_close(&pins);
}

TEST(what_a_forked_child_has_forgotten_can_be_dropped)
{
    size_t grown;
    pws_pin *table;

    pws_pins_init(&pins);
    CHECK_EQ(pws_pins_add(&pins, &objects[0], 500, &grown), 0);
    table = pins.pins;
    pws_pins_abandon(&pins);
    CHECK_EQ(pws_pins_drop(&pins, &objects[0]), 0);
    CHECK_EQ(pws_pins_add(&pins, &objects[1], 500, &grown), 0);
    CHECK_EQ(pws_pins_drop(&pins, &objects[0]), 0);
    pws_pins_close(&pins);
    free(table);
}
