/* base/board.c: who looks at a request while others come sees one of them, or none. */
#include <pthread.h>
#include <string.h>

#include "base/board.h"
#include "harness.h"

#define ROUNDS 200000

static pws_cell cell;

static void *
write_all(void *unused)
{
    char target[100];

    for (int i = 0; i < ROUNDS; i++) {
        memset(target, 'a' + i % 26, sizeof(target));
        pws_hand_begin(&cell.hands[0], PWS_SLICE("GET"),
                       (pws_slice){target, 20 + (size_t)i % 80}, 1);
    }
    return unused;
}

TEST(a_look_never_mixes_two_requests)
{
    unsigned seen = 0;
    pthread_t writer;
    pws_hand_view view;

    pws_cell_assign(&cell);
    CHECK_EQ(pthread_create(&writer, NULL, write_all, NULL), 0);
    do {
        if (pws_hand_look(&cell.hands[0], 1, &view)) {
            size_t len = strlen(view.text);

            seen++;
            CHECK(len >= 24 && memcmp(view.text, "GET ", 4) == 0);
            CHECK_EQ(strspn(view.text + 4, (char[]){view.text[4], '\0'}), len - 4);
        }
    } while (view.number < 2 * ROUNDS);
    CHECK_EQ(pthread_join(writer, NULL), 0);
    CHECK(seen > 0);
}
