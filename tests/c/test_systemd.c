/* What systemd is told, and when: here it is a socket of the test's. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "harness.h"
#include "proc/systemd.h"

static char dir[64], path[96], got[512];
static pws_systemd systemd;
static pws_workers workers;
static int manager;

static void
listen_at(const struct sockaddr_un *address, socklen_t len)
{
    manager = socket(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK, 0);
    CHECK_EQ(bind(manager, (const struct sockaddr *)address, len), 0);
}

static void
begin_with_watchdog(uint64_t watchdog_usec)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};

    snprintf(dir, sizeof(dir), "/tmp/pywsgiserve-test.XXXXXX");
    CHECK(mkdtemp(dir) != NULL);
    snprintf(path, sizeof(path), "%s/notify", dir);
    memcpy(address.sun_path, path, strlen(path) + 1);
    listen_at(&address, sizeof(address));
    CHECK_EQ(pws_workers_init(&workers), 0);
    pws_systemd_init(&systemd);
    CHECK_EQ(pws_systemd_open(&systemd, path, watchdog_usec), 0);
}

static void
begin(void)
{
    begin_with_watchdog(0);
}

static void
end(void)
{
    pws_systemd_close(&systemd);
    pws_workers_close(&workers);
    close(manager);
    unlink(path);
    CHECK_EQ(rmdir(dir), 0);
}

/* The next datagram; "" when there is none. */
static const char *
heard(void)
{
    ssize_t n = recv(manager, got, sizeof(got) - 1, 0);

    got[n > 0 ? n : 0] = '\0';
    return got;
}

#define CHECK_HEARD(text) CHECK(strcmp(heard(), text) == 0)

static pws_worker *
add_worker(void)
{
    int order_fd;
    pws_worker *w = pws_workers_take(&workers, PWS_KIND_WORKER, &order_fd);

    CHECK(w != NULL);
    close(order_fd);
    w->state = PWS_WORKER_SERVING;
    w->pid = 1;
    pws_cell_ready(pws_worker_cell(&workers, w));
    return w;
}

static void
turn(void)
{
    pws_systemd_turn(&systemd, &workers, false);
}

TEST(nobody_is_told_where_nobody_listens)
{
    pws_systemd_init(&systemd);
    pws_systemd_ready(&systemd);
    pws_systemd_reloading(&systemd);
    pws_systemd_settled(&systemd, true);
    pws_systemd_hand_over(&systemd, 7);
    pws_systemd_turn(&systemd, &workers, false);
    CHECK_EQ(pws_systemd_due_ms(&systemd), PWS_NEVER);
    pws_systemd_close(&systemd);
}

TEST(an_address_is_a_path_or_an_abstract_name)
{
    static const char *const wrong[] = {"", "/", "@", "relative", "vsock:2:1234"};
    char longest[200];

    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
        pws_systemd_init(&systemd);
        CHECK_EQ(pws_systemd_open(&systemd, wrong[i], 0), -1);
        CHECK_EQ(errno, EINVAL);
        CHECK_EQ(systemd.fd, -1);
    }
    memset(longest, 'x', sizeof(longest));
    longest[0] = '/';
    longest[sizeof(longest) - 1] = '\0';
    CHECK_EQ(pws_systemd_open(&systemd, longest, 0), -1);
}

TEST(an_abstract_socket_is_reached)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    char name[64];
    int len = snprintf(name, sizeof(name), "@pywsgiserve-test-%ld", (long)getpid());

    memcpy(address.sun_path, name, (size_t)len);
    address.sun_path[0] = '\0';
    listen_at(&address,
              (socklen_t)(offsetof(struct sockaddr_un, sun_path) + (size_t)len));
    pws_systemd_init(&systemd);
    CHECK_EQ(pws_systemd_open(&systemd, name, 0), 0);
    CHECK((fcntl(systemd.fd, F_GETFD) & FD_CLOEXEC) != 0);
    pws_systemd_ready(&systemd);
    CHECK_HEARD("READY=1\nSTATUS=Serving");
    pws_systemd_close(&systemd);
    close(manager);
}

TEST(a_start_is_told_and_how_the_workers_are)
{
    begin();
    add_worker();
    pws_cell_begin(pws_worker_cell(&workers, add_worker()));
    turn();
    CHECK_HEARD(""); /* the start is not over */
    pws_systemd_ready(&systemd);
    CHECK_HEARD("READY=1\nSTATUS=Serving");
    turn();
    CHECK_HEARD("STATUS=Serving; workers: 1 busy, 1 idle");
    turn();
    CHECK_HEARD("");
    end();
}

TEST(a_status_is_said_again_when_it_has_changed_and_not_too_often)
{
    pws_worker *w;

    begin();
    w = add_worker();
    pws_systemd_ready(&systemd);
    turn();
    CHECK(heard()[0] != '\0');
    CHECK_HEARD("STATUS=Serving; workers: 0 busy, 1 idle");
    CHECK_EQ(pws_systemd_due_ms(&systemd), PWS_NEVER); /* an idle server sleeps */
    pws_cell_begin(pws_worker_cell(&workers, w));
    turn();
    CHECK_HEARD("");
    CHECK(pws_systemd_due_ms(&systemd) > pws_clock_now_ms());
    CHECK(pws_systemd_due_ms(&systemd) != PWS_NEVER);
    systemd.status_ms -= 5000;
    turn();
    CHECK_HEARD("STATUS=Serving; workers: 1 busy, 0 idle");
    /* What is busy will not be for ever: it is looked at again. */
    CHECK(pws_systemd_due_ms(&systemd) != PWS_NEVER);
    pws_cell_end(pws_worker_cell(&workers, w));
    systemd.status_ms -= 5000;
    turn();
    CHECK_HEARD("STATUS=Serving; workers: 0 busy, 1 idle");
    CHECK_EQ(pws_systemd_due_ms(&systemd), PWS_NEVER);
    end();
}

TEST(a_reload_is_told_with_the_time_and_its_outcome)
{
    long long before_usec = pws_clock_ns() / 1000, at_usec = 0;

    begin();
    pws_systemd_reloading(&systemd);
    pws_systemd_settled(&systemd, true);
    CHECK_HEARD(""); /* systemd waits for the start */
    pws_systemd_ready(&systemd);
    CHECK(heard()[0] != '\0');
    pws_systemd_reloading(&systemd);
    CHECK_EQ(sscanf(heard(), "RELOADING=1\nMONOTONIC_USEC=%lld\nSTATUS=R", &at_usec),
             1);
    CHECK(at_usec >= before_usec && at_usec <= pws_clock_ns() / 1000);
    pws_systemd_settled(&systemd, true);
    CHECK_HEARD("READY=1\nSTATUS=Reloaded");
    pws_systemd_reloading(&systemd);
    CHECK(heard()[0] != '\0');
    pws_systemd_settled(&systemd, false);
    CHECK_HEARD("READY=1\nSTATUS=Reload failed: as it was before it");
    turn();
    CHECK_HEARD("STATUS=Reload failed: as it was before it; workers: 0 busy, 0 idle");
    end();
}

TEST(a_stop_is_told_with_the_time_that_it_may_take)
{
    begin();
    pws_systemd_ready(&systemd);
    CHECK(heard()[0] != '\0');
    pws_systemd_stopping(&systemd, 35000);
    CHECK_HEARD("STOPPING=1\nEXTEND_TIMEOUT_USEC=35000000\nSTATUS=Stopping");
    pws_systemd_settled(&systemd, true);
    CHECK_HEARD("");
    end();
}

TEST(the_watchdog_hears_of_us_in_half_its_time)
{
    begin_with_watchdog(10000000);
    add_worker();
    turn();
    CHECK_EQ(pws_systemd_due_ms(&systemd), PWS_NEVER);
    pws_systemd_ready(&systemd);
    CHECK(heard()[0] != '\0');
    CHECK(pws_systemd_due_ms(&systemd) <= pws_clock_now_ms());
    turn();
    CHECK_HEARD("WATCHDOG=1");
    CHECK(heard()[0] != '\0');
    CHECK(pws_systemd_due_ms(&systemd) <= pws_clock_now_ms() + 5000);
    CHECK(pws_systemd_due_ms(&systemd) > pws_clock_now_ms());
    turn();
    CHECK_HEARD("");
    systemd.watchdog_due_ms -= 5000;
    turn();
    CHECK_HEARD("WATCHDOG=1");
    end();
}

TEST(the_watchdog_is_not_told_that_all_is_well_when_nobody_serves)
{
    pws_worker *w;

    begin_with_watchdog(2);
    w = add_worker();
    pws_systemd_ready(&systemd);
    CHECK(heard()[0] != '\0');
    w->last_signal = 6; /* it was late */
    turn();
    CHECK_HEARD("STATUS=Serving; workers: 0 busy, 0 idle");
    CHECK_HEARD("");
    systemd.watchdog_due_ms = 0;
    pws_systemd_turn(&systemd, &workers, true); /* none is wanted */
    CHECK_HEARD("WATCHDOG=1");
    systemd.watchdog_due_ms = 0;
    w->last_signal = 0;
    turn();
    CHECK_HEARD("WATCHDOG=1");
    end();
}

/* Whether the manager is told now that all is well. */
static bool
is_told(void)
{
    bool told = false;

    systemd.watchdog_due_ms = 0;
    turn();
    while (heard()[0] != '\0') {
        told = told || strcmp(got, "WATCHDOG=1") == 0;
    }
    return told;
}

TEST(the_watchdog_is_not_told_that_all_is_well_when_all_hang)
{
    pws_worker *w, *other;
    int64_t now_ms = pws_clock_now_ms();

    begin_with_watchdog(60000000);
    w = add_worker();
    other = add_worker();
    pws_systemd_ready(&systemd);
    CHECK(is_told());
    w->late.stage = PWS_LATE_TOLD;
    CHECK(is_told());
    other->sign.in_vain = 1;
    CHECK(!is_told());
    CHECK(pws_systemd_due_ms(&systemd) <= pws_clock_now_ms() + 1000); /* it looks on */
    other->sign.in_vain = 0;
    atomic_store(&pws_worker_cell(&workers, other)->busy_since_ms, now_ms - 30000);
    CHECK(is_told()); /* half of the time is no reason yet */
    atomic_store(&pws_worker_cell(&workers, other)->busy_since_ms, now_ms - 60000);
    CHECK(!is_told());
    atomic_store(&pws_worker_cell(&workers, w)->busy_since_ms, now_ms - 60000);
    w->late.stage = PWS_LATE_OVER;
    CHECK(!is_told());
    pws_cell_end(pws_worker_cell(&workers, w));
    CHECK(is_told());
    end();
}

TEST(a_successor_is_silent_until_it_is_alone)
{
    char text[96];

    begin_with_watchdog(10000000);
    systemd.silent = true;
    add_worker();
    pws_systemd_ready(&systemd);
    turn();
    CHECK_HEARD("");
    CHECK_EQ(pws_systemd_due_ms(&systemd), PWS_NEVER);
    pws_systemd_take_over(&systemd);
    snprintf(text, sizeof(text), "MAINPID=%ld\nREADY=1\nSTATUS=Serving",
             (long)getpid());
    CHECK_HEARD(text);
    turn();
    CHECK_HEARD("WATCHDOG=1");
    pws_systemd_take_over(&systemd);
    CHECK(strncmp(heard(), "STATUS=", 7) == 0);
    CHECK_HEARD("");
    end();
}

TEST(one_that_is_alone_before_it_is_ready_says_that_later)
{
    char text[96];

    begin();
    systemd.silent = true;
    pws_systemd_take_over(&systemd);
    snprintf(text, sizeof(text), "MAINPID=%ld\nSTATUS=Starting", (long)getpid());
    CHECK_HEARD(text);
    pws_systemd_ready(&systemd);
    CHECK_HEARD("READY=1\nSTATUS=Serving");
    end();
}

TEST(one_that_stops_when_it_is_alone_does_not_call_itself_ready)
{
    begin();
    systemd.silent = true;
    pws_systemd_ready(&systemd);
    pws_systemd_stopping(&systemd, 1000);
    pws_systemd_take_over(&systemd);
    CHECK(strstr(heard(), "\nSTOPPING=1\n") != NULL);
    end();
}

TEST(last_words_name_the_successor)
{
    begin();
    pws_systemd_ready(&systemd);
    CHECK(heard()[0] != '\0');
    pws_systemd_hand_over(&systemd, 4711);
    CHECK_HEARD("MAINPID=4711\nSTATUS=Succeeded by the master 4711");
    end();
}

/* Fill the manager's queue. Returns how many fit. */
static int
fill(void)
{
    int n = 0;

    while (sendto(systemd.fd, "x", 1, MSG_DONTWAIT,
                  (const struct sockaddr *)&systemd.manager,
                  systemd.manager_len) == 1) {
        n++;
    }
    CHECK_EQ(errno, EAGAIN);
    return n;
}

TEST(a_manager_that_is_held_up_hears_what_matters_later)
{
    int n;

    begin_with_watchdog(2000);
    add_worker();
    n = fill();
    pws_systemd_ready(&systemd); /* does not wait */
    pws_systemd_reloading(&systemd);
    turn();
    CHECK(pws_systemd_due_ms(&systemd) <= pws_clock_now_ms() + 1000);
    CHECK(pws_systemd_due_ms(&systemd) >= systemd.retry_ms); /* it does not spin */
    systemd.retry_ms = 0;
    turn();
    CHECK(pws_systemd_due_ms(&systemd) > pws_clock_now_ms());
    for (; n > 0; n--) {
        CHECK_HEARD("x");
    }
    CHECK_HEARD("");
    systemd.retry_ms = 0;
    turn();
    CHECK_HEARD("READY=1\nSTATUS=Serving");
    CHECK(strncmp(heard(), "RELOADING=1\n", 12) == 0);
    end();
}

TEST(more_than_can_be_kept_loses_the_oldest)
{
    int n;

    begin();
    n = fill();
    pws_systemd_ready(&systemd);
    for (int i = 0; i < PWS_SYSTEMD_UNSENT; i++) {
        pws_systemd_settled(&systemd, i % 2 == 0);
    }
    for (; n > 0; n--) {
        CHECK_HEARD("x");
    }
    systemd.retry_ms = 0;
    turn();
    CHECK_HEARD("READY=1\nSTATUS=Reloaded");
    end();
}

TEST(a_manager_that_has_gone_is_no_matter)
{
    begin();
    close(manager);
    pws_systemd_ready(&systemd);
    pws_systemd_stopping(&systemd, 1000);
    turn();
    CHECK_EQ(systemd.unsent_count, 0);
    end();
}
