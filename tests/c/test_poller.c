/* What ends a wait beside events: wakes, and pipes of two kinds. */
#include <sys/socket.h>
#include <unistd.h>

#include "engine/poller.h"
#include "harness.h"

static pws_poller poller;
static int ends[2];

static void
open_poller(void)
{
    CHECK_EQ(pws_poller_init(&poller), 0);
    CHECK_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, ends), 0);
}

static void
close_poller(void)
{
    pws_poller_close(&poller);
    close(ends[0]);
    if (ends[1] >= 0) {
        close(ends[1]);
    }
}

TEST(a_wake_ends_one_wait)
{
    open_poller();
    pws_poller_wake(&poller);
    CHECK_EQ(pws_poller_wait(&poller, -1), 0);
    CHECK(poller.woken);
    CHECK_EQ(pws_poller_wait(&poller, 0), 0);
    CHECK(!poller.woken);
    close_poller();
}

TEST(what_comes_by_a_wake_pipe_is_thrown_away)
{
    open_poller();
    CHECK_EQ(pws_poller_add_pipe(&poller, ends[0]), 0);
    CHECK_EQ(write(ends[1], "\7", 1), 1);
    CHECK_EQ(pws_poller_wait(&poller, -1), 0);
    CHECK(poller.woken);
    CHECK_EQ(poller.letters, 0);
    close_poller();
}

TEST(letters_are_added_up_until_they_are_taken)
{
    open_poller();
    CHECK_EQ(pws_poller_add_letters(&poller, ends[0]), 0);
    CHECK_EQ(write(ends[1], "\1\4", 2), 2);
    CHECK_EQ(pws_poller_wait(&poller, -1), 0);
    CHECK(poller.woken);
    CHECK_EQ(poller.letters, 5);
    CHECK_EQ(write(ends[1], "\2", 1), 1);
    CHECK_EQ(pws_poller_wait(&poller, -1), 0);
    CHECK_EQ(poller.letters, 7);
    poller.letters = 0;
    CHECK_EQ(pws_poller_wait(&poller, 0), 0);
    CHECK(!poller.woken);
    CHECK_EQ(poller.letters, 0);
    close_poller();
}

TEST(a_question_for_a_sign_is_answered_and_told_to_nobody)
{
    _Atomic uint32_t signs = 0;

    open_poller();
    CHECK_EQ(pws_poller_add_letters(&poller, ends[0]), 0);
    CHECK_EQ(write(ends[1], "\x20", 1), 1);
    CHECK_EQ(pws_poller_wait(&poller, -1), 0);
    CHECK(!poller.woken);
    CHECK_EQ(poller.letters, 0); /* and nobody counts */
    poller.signs = &signs;
    CHECK_EQ(write(ends[1], "\x20", 1), 1);
    CHECK_EQ(pws_poller_wait(&poller, -1), 0);
    CHECK(!poller.woken);
    CHECK_EQ(write(ends[1], "\x20\1", 2), 2);
    CHECK_EQ(pws_poller_wait(&poller, -1), 0);
    CHECK(poller.woken);
    CHECK_EQ(poller.letters, 1);
    CHECK_EQ(atomic_load(&signs), 2);
    close_poller();
}

TEST(who_does_not_speak_for_others_owes_a_sign)
{
    _Atomic uint32_t signs = 0;
    _Atomic bool owing = false;

    open_poller();
    CHECK_EQ(pws_poller_add_letters(&poller, ends[0]), 0);
    poller.signs = &signs;
    poller.owing = &owing;
    poller.mute = true;
    CHECK_EQ(write(ends[1], "\x20", 1), 1);
    CHECK_EQ(pws_poller_wait(&poller, -1), 0);
    CHECK(poller.owes_sign);
    CHECK(atomic_load(&owing));
    CHECK_EQ(atomic_load(&signs), 0);
    poller.mute = false;
    pws_poller_give_owed_sign(&poller);
    pws_poller_give_owed_sign(&poller);
    CHECK(!poller.owes_sign);
    CHECK(!atomic_load(&owing));
    CHECK_EQ(atomic_load(&signs), 1);
    close_poller();
}

TEST(more_letters_than_are_read_at_once_all_arrive)
{
    open_poller();
    CHECK_EQ(pws_poller_add_letters(&poller, ends[0]), 0);
    for (int i = 0; i < 40; i++) {
        CHECK_EQ(write(ends[1], i < 39 ? "\1" : "\2", 1), 1);
    }
    for (int i = 0; i < 3; i++) {
        CHECK_EQ(pws_poller_wait(&poller, -1), 0);
    }
    CHECK_EQ(poller.letters, 3);
    close_poller();
}

TEST(the_end_of_the_letters_is_one_and_wakes_once)
{
    open_poller();
    CHECK_EQ(pws_poller_add_letters(&poller, ends[0]), 0);
    CHECK_EQ(write(ends[1], "\1", 1), 1);
    close(ends[1]);
    ends[1] = -1;
    CHECK_EQ(pws_poller_wait(&poller, -1), 0);
    if ((poller.letters & PWS_LETTER_END) == 0) {
        CHECK_EQ(pws_poller_wait(&poller, -1), 0);
    }
    CHECK_EQ(poller.letters, 1 | PWS_LETTER_END);
    CHECK_EQ(pws_poller_wait(&poller, 0), 0);
    CHECK(!poller.woken);
    close_poller();
}
