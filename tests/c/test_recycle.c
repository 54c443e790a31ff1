/* Who has served enough (proc/recycle.h), and the words of an end (proc/cause.h). */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "harness.h"
#include "proc/cause.h"
#include "proc/recycle.h"
#include "proc/spawn.h"

#define MIB ((uint64_t)1024 * 1024)

/* As waitpid has them. */
#define EXITED(code) ((code) << 8)

static pws_master master;
static char last_line[512];

static void
keep_line(void *context, pws_log_level level, const char *text)
{
    const char *open = strstr(text, "(pid:"), *close;

    (void)context;
    CHECK(open != NULL && (close = strchr(open, ')')) != NULL);
    CHECK_EQ(atoi(open + 5), getpid());
    (void)snprintf(last_line, sizeof(last_line), "%d %.*s(pid:N%s", (int)level,
                   (int)(open - text), text, close);
}

static const pws_master_calls calls = {.log = keep_line};

/* Workers 1 to n that serve. */
static void
open_master(int n)
{
    CHECK_EQ(pws_master_init(&master, &calls, NULL), 0);
    master.phase = PWS_MASTER_SERVING;
    master.settings.workers = (unsigned)n;
    for (int i = 0; i < n; i++) {
        int fd;
        pws_worker *w = pws_workers_take(&master.workers, PWS_KIND_WORKER, &fd);

        CHECK(w != NULL);
        close(fd);
        w->number = (unsigned)i + 1;
        w->pid = getpid();
        w->state = PWS_WORKER_SERVING;
        w->served_ms = 1000;
    }
    last_line[0] = '\0';
}

static void
says(const char *line)
{
    CHECK(strcmp(last_line, line) == 0);
}

TEST(lifetimes_differ_by_a_tenth_at_most)
{
    int buckets[10] = {0};

    for (unsigned i = 1; i <= 1000; i++) {
        int64_t ms = pws_recycle_lifetime_ms(100000, i);

        CHECK(ms >= 100000 && ms < 110000);
        buckets[(ms - 100000) / 1000]++;
    }
    for (int i = 0; i < 10; i++) {
        CHECK(buckets[i] > 90 && buckets[i] < 110);
    }
    CHECK(pws_recycle_lifetime_ms(100000, 1) != pws_recycle_lifetime_ms(100000, 2));
    CHECK_EQ(pws_recycle_lifetime_ms(100000, 7), pws_recycle_lifetime_ms(100000, 7));
}

TEST(who_is_old_is_recycled_when_its_time_has_come)
{
    char text[PWS_REASON_MAX];
    int64_t end_ms;

    open_master(2);
    CHECK_EQ(pws_recycle_due_ms(&master), PWS_NEVER);
    master.settings.lifetime_ms = 100000;
    end_ms = 1000 + pws_recycle_lifetime_ms(100000, 2); /* before that of the first */
    CHECK_EQ(pws_recycle_due_ms(&master), end_ms);
    pws_recycle(&master, end_ms - 1);
    CHECK_EQ(pws_workers_count(&master.workers).spare, 0);
    pws_recycle(&master, end_ms);
    CHECK_EQ(pws_workers_count(&master.workers).spare, 1);
    CHECK_EQ(master.workers.all[1].cause, PWS_CAUSE_RECYCLED);
    CHECK_EQ(pws_cell_reason(&master.workers.board->cells[1], text),
             PWS_CAUSE_RECYCLED);
    CHECK(strcmp(text, "102 s old, max_worker_lifetime 100") == 0);
    says("1 Worker (pid:N) is recycled: 102 s old, max_worker_lifetime 100");
    CHECK_EQ(pws_recycle_due_ms(&master), 1000 + pws_recycle_lifetime_ms(100000, 1));
    pws_master_close(&master);
}

TEST(who_has_much_memory_is_recycled)
{
    uint64_t rss = pws_recycle_rss(getpid());
    char *line = last_line;

    CHECK(rss > 2 * MIB);
    CHECK_EQ(pws_recycle_rss(1 << 30), 0); /* nobody's */
    open_master(1);
    master.settings.rss_max = rss + 1000 * MIB;
    pws_recycle(&master, 50000);
    CHECK_EQ(master.look_ms, 51000);
    CHECK_EQ(pws_recycle_due_ms(&master), 51000);
    CHECK_EQ(last_line[0], '\0');
    master.settings.rss_max = MIB;
    pws_recycle(&master, 50999); /* not yet */
    CHECK_EQ(last_line[0], '\0');
    pws_recycle(&master, 51000);
    CHECK(strstr(line, "is recycled: ") != NULL);
    CHECK(strstr(line, " MiB, max_worker_rss 1") != NULL);
    CHECK_EQ(master.failures, 0);
    pws_master_close(&master);
}

TEST(who_has_too_much_at_once_is_not_recycled_all_the_time)
{
    open_master(1);
    master.settings.rss_max = MIB;
    pws_recycle(&master, 2000); /* it is a second old */
    CHECK_EQ(master.workers.all[0].cause, PWS_CAUSE_RECYCLED);
    CHECK_EQ(master.failures, 1);
    pws_master_close(&master);
}

TEST(who_could_serve_is_replaced_sooner_than_who_cannot_boot)
{
    open_master(1);
    for (int i = 0; i < 10; i++) {
        pws_spawn_lost(&master);
        CHECK(master.spawn_ms <= pws_clock_now_ms() + 500);
    }
    pws_spawn_failed(&master);
    CHECK(master.spawn_ms > master.failed_ms + 500);
    pws_master_close(&master);
}

TEST(who_has_asked_for_a_successor_has_its_reason)
{
    pws_cell *cell;

    open_master(2);
    master.settings.max_requests = 3;
    cell = pws_worker_cell(&master.workers, &master.workers.all[0]);
    atomic_store(&cell->requests, 3);
    pws_recycle(&master, 5000);
    CHECK_EQ(last_line[0], '\0'); /* its jitter: it decides when */
    atomic_store(&cell->leaving, true);
    pws_recycle(&master, 5000);
    says("1 Worker (pid:N) is recycled: max_requests 3");
    last_line[0] = '\0';
    pws_recycle(&master, 5000);
    CHECK_EQ(last_line[0], '\0'); /* once */
    cell = pws_worker_cell(&master.workers, &master.workers.all[1]);
    atomic_store(&cell->leaving, true); /* for another reason */
    pws_recycle(&master, 5000);
    CHECK_EQ(last_line[0], '\0');
    pws_master_close(&master);
}

TEST(nobody_is_recycled_but_while_all_is_well)
{
    open_master(1);
    master.settings.lifetime_ms = 1;
    for (int phase = PWS_MASTER_STARTING; phase <= PWS_MASTER_STOPPING; phase++) {
        if (phase != PWS_MASTER_SERVING) {
            master.phase = (pws_master_phase)phase;
            pws_recycle(&master, 100000);
            CHECK_EQ(master.workers.all[0].cause, PWS_CAUSE_NONE);
            CHECK_EQ(pws_recycle_due_ms(&master), PWS_NEVER);
        }
    }
    pws_master_close(&master);
}

/* What the log says about an end. */
static const char *
told(int status)
{
    char words[PWS_CAUSE_ROOM];

    last_line[0] = '\0';
    pws_cause_words(&master, &master.workers.all[0], status, words);
    pws_cause_log(&master, &master.workers.all[0], status, words);
    return last_line;
}

static void
tells(int status, const char *line)
{
    CHECK(strcmp(told(status), line) == 0);
}

TEST(an_end_is_told_by_code_and_signal)
{
    open_master(1);
    tells(0, "");
    tells(EXITED(3), "3 Worker (pid:N) exited with code 3.");
    tells(SIGTERM, "1 Worker (pid:N) was sent SIGTERM!");
    tells(SIGSEGV, "2 Worker (pid:N) was sent SIGSEGV!");
    tells(40, "2 Worker (pid:N) was sent signal 40!");
    master.workers.all[0].kind = PWS_KIND_MOLD;
    tells(EXITED(3), "3 Mold (pid:N) exited with code 3.");
    pws_master_close(&master);
}

TEST(an_end_is_told_with_what_was_decided)
{
    pws_worker *w;

    open_master(1);
    w = &master.workers.all[0];
    w->cause = PWS_CAUSE_RELOAD;
    tells(0, "1 Worker (pid:N) has ended (retired by reload)");
    tells(EXITED(1), "3 Worker (pid:N) exited with code 1. (retired by reload)");
    w->last_signal = SIGKILL;
    tells(SIGKILL, "3 Worker (pid:N) was sent SIGKILL! (it did not end in time; "
                   "retired by reload)");
    w->timed_out = true;
    w->cause = PWS_CAUSE_NONE;
    tells(SIGKILL, "3 Worker (pid:N) was sent SIGKILL! (timed out)");
    w->cause = PWS_CAUSE_RECYCLED;
    strcpy(w->reason, "max_requests 9");
    w->timed_out = false;
    w->last_signal = 0;
    tells(0, "1 Worker (pid:N) has ended (recycled: max_requests 9)");
    w->cause = PWS_CAUSE_SURPLUS;
    tells(0, "1 Worker (pid:N) has ended (fewer workers are wanted)");
    w->cause = PWS_CAUSE_GIVEN_UP;
    tells(0, "1 Worker (pid:N) has ended (its reload was given up)");
    w->cause = PWS_CAUSE_STOP;
    tells(0, "");
    w->cause = PWS_CAUSE_OWN;
    tells(0, "1 Worker (pid:N) has ended (not told to by the master)");
    tells(EXITED(1), "3 Worker (pid:N) exited with code 1.");
    pws_master_close(&master);
}

static void
set_count(const char *text)
{
    FILE *file = fopen(master.oom.path, "w");

    CHECK(file != NULL && fputs(text, file) >= 0 && fclose(file) == 0);
}

TEST(a_sigkill_that_is_not_ours_is_told_from_want_of_memory)
{
    char path[] = "/tmp/pws-oom-XXXXXX";
    int fd = mkstemp(path);

    CHECK(fd >= 0 && close(fd) == 0);
    open_master(1);
    strcpy(master.oom.path, path);
    master.oom.count = 0;
    set_count("oom_kill 1\n");
    tells(SIGKILL, "3 Worker (pid:N) was sent SIGKILL! (out of memory: the cgroup's "
                   "oom_kill count went from 0 to 1)");
    tells(SIGKILL, "3 Worker (pid:N) was sent SIGKILL! (somebody else's SIGKILL: the "
                   "cgroup's oom_kill count is still 1)");
    CHECK_EQ(unlink(path), 0);
    tells(SIGKILL, "3 Worker (pid:N) was sent SIGKILL! Perhaps out of memory?");
    pws_master_close(&master);
}
