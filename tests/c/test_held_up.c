/* engine/relief.c: a loop of somebody else's that has the engine, and does not call. */
#include "peer.h"

#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "engine/relief.h"

static rig r;
static peer p;
static int ends[2];
static _Atomic uint32_t signs;

/* As a step does it. */
static void
begin_step(void)
{
    pws_relief_leave(&r.engine.relief);
    if (!pws_lease_try_take(&r.engine.lease)) {
        pws_relief_hurry(&r.engine.relief);
        pws_lease_take(&r.engine.lease);
    }
    pws_poller_give_owed_sign(&r.engine.poller);
}

static void
end_step(void)
{
    (void)pws_engine_show(&r.engine, true, -1);
    pws_lease_drop(&r.engine.lease);
}

/* A client that is known, and a loop that is away from now on. */
static void
start(void)
{
    rig_prepare(&r);
    r.config.hosted = true;
    r.config.header_timeout_ms = 300;
    rig_open(&r);
    CHECK_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, ends), 0);
    CHECK_EQ(pws_poller_add_letters(&r.engine.poller, ends[0]), 0);
    atomic_store(&signs, 0);
    r.engine.poller.signs = &signs;
    peer_connect(&p, &r, 0);
    UNTIL(&r, rig_in_state(&r, PWS_CONN_IDLE));
    CHECK_EQ(pws_relief_start(&r.engine.relief, &r.engine), 0);
    begin_step();
    end_step();
}

static void
finish(void)
{
    pws_relief_end(&r.engine.relief);
    r.serve = true;
    peer_close(&p);
    UNTIL(&r, pws_engine_open(&r.engine) == 0);
    rig_close(&r);
    close(ends[0]);
    close(ends[1]);
}

static void
check_readable(int fd)
{
    struct pollfd watched = {.fd = fd, .events = POLLIN};

    CHECK_EQ(poll(&watched, 1, 10000), 1);
}

TEST(clients_of_a_loop_that_is_held_up_have_their_time_outs)
{
    start();
    peer_send(&p, "GET / HT");
    check_readable(p.fd);
    begin_step();
    end_step();
    CHECK_EQ(peer_response(&p), 408);
    finish();
}

TEST(a_loop_that_is_held_up_gives_no_sign_of_life_until_it_steps)
{
    start();
    CHECK_EQ(write(ends[1], &(unsigned char){PWS_LETTER_SIGN}, 1), 1);
    peer_send(&p, "GET / HT");
    check_readable(p.fd); /* so the letter was read */
    CHECK_EQ(atomic_load(&signs), 0);
    begin_step();
    CHECK_EQ(atomic_load(&signs), 1);
    end_step();
    CHECK_EQ(peer_response(&p), 408);
    begin_step();
    CHECK_EQ(atomic_load(&signs), 1);
    end_step();
    finish();
}

/* The relief swallows the event; the loop must see all the same that it is to call. */
TEST(what_was_completed_while_a_loop_was_held_up_is_shown)
{
    pws_exchange *x;

    start();
    peer_send(&p, request("GET", "/a", ""));
    for (uint32_t queued = 0; queued == 0;) {
        pws_lease_take(&r.engine.lease);
        queued = r.engine.queued;
        pws_lease_drop(&r.engine.lease);
        (void)poll(NULL, 0, 1);
    }
    for (int i = 0; i < 5; i++) {
        check_readable(r.engine.poller.fd);
    }
    begin_step();
    x = rig_request(&r);
    rig_answer(x);
    CHECK_EQ(peer_response(&p), 200);
    end_step();
    finish();
}
