/* proc/late.c and proc/stacks.c: what a master does, step by step, about workers that
 * take too long. The children here are real, and do what the test says. */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "harness.h"
#include "proc/late.h"
#include "proc/unborn.h"

static pws_master m;
static char said[64 * 1024];
static size_t said_len;

static void
say(void *context, pws_log_level level, pws_slice text)
{
    (void)context;
    (void)level;
    CHECK(said_len + text.len + 2 < sizeof(said));
    memcpy(said + said_len, text.at, text.len);
    said_len += text.len;
    memcpy(said + said_len, "\n", 2);
    said_len++;
}

static void
say_line(void *context, pws_log_level level, const char *text)
{
    say(context, level, pws_slice_of(text));
}

static const pws_master_calls calls = {.log = say_line, .record = say};

static bool
has_said(const char *text)
{
    return strstr(said, text) != NULL;
}

static void
start(int64_t timeout_ms)
{
    said_len = 0;
    said[0] = '\0';
    CHECK_EQ(pws_master_init(&m, &calls, NULL), 0);
    m.settings = (pws_master_settings){
        .workers = 1, .timeout_ms = timeout_ms, .graceful_ms = 600000};
    m.workers.generation = 1;
}

static void
answer_stacks(int signum)
{
    (void)signum;
    (void)!write(m.stacks.pipe[1], "Thread 1:\n  in stuck\n", 21);
}

static void
end_at_once(int signum)
{
    (void)signum;
    _exit(9);
}

/* A worker that serves; it answers questions, and ends by SIGABRT if `obeys`. */
static pws_worker *
fork_worker(bool obeys)
{
    int order_fd;
    pws_worker *w = pws_workers_take(&m.workers, PWS_KIND_WORKER, &order_fd);
    pws_cell *cell;

    CHECK(w != NULL);
    cell = pws_worker_cell(&m.workers, w);
    w->pid = fork();
    CHECK(w->pid >= 0);
    if (w->pid == 0) {
        (void)signal(pws_stacks_signal(), answer_stacks);
        (void)signal(SIGABRT, obeys ? end_at_once : SIG_IGN);
        pws_cell_ready(cell);
        atomic_store(&cell->dumps, true);
        for (;;) {
            (void)pause();
        }
    }
    while (!atomic_load(&cell->dumps)) {
        CHECK(poll(NULL, 0, 1) == 0);
    }
    w->number = 1;
    w->state = PWS_WORKER_SERVING;
    m.workers.all[w - m.workers.all].order_fd = w->order_fd;
    close(order_fd);
    return w;
}

/* A request is in its app. */
static uint64_t
begin_request(const pws_worker *w)
{
    pws_cell *cell = pws_worker_cell(&m.workers, w);

    pws_cell_begin(cell);
    pws_hand_begin(&cell->hands[0], PWS_SLICE("GET"), PWS_SLICE("/stuck"),
                   pws_clock_now_ms());
    return atomic_load(&cell->hands[0].sequence);
}

/* One turn of the master's loop, as far as this goes. */
static void
turn(void)
{
    struct pollfd fd = {.fd = m.stacks.pipe[0], .events = POLLIN};

    (void)poll(&fd, 1, 5);
    pws_late_check(&m);
}

#define TURN_UNTIL(condition)                                                          \
    for (int64_t end_ = pws_clock_now_ms() + 20000; !(condition); turn()) {            \
        CHECK(pws_clock_now_ms() < end_);                                              \
    }

static bool
has_ended(pws_worker *w, int *status)
{
    return waitpid(w->pid, status, WNOHANG) == w->pid;
}

static void
finish(pws_worker *w, int want)
{
    int status = 0;

    TURN_UNTIL(has_ended(w, &status));
    CHECK_EQ(WIFSIGNALED(status) ? WTERMSIG(status) : -WEXITSTATUS(status), want);
    pws_workers_give(w);
    pws_master_close(&m);
}

TEST(an_overdue_request_is_told_of_with_its_stacks_and_then_interrupted)
{
    pws_worker *w;
    pws_hand *hand;
    char text[PWS_REASON_MAX];

    start(0);
    (void)signal(SIGPIPE, SIG_IGN);
    w = fork_worker(true);
    hand = &pws_worker_cell(&m.workers, w)->hands[0];
    atomic_store(&hand->overdue, begin_request(w));
    TURN_UNTIL(w->late.stage == PWS_LATE_ABORTED);
    CHECK(has_said("WORKER REQUEST TIMEOUT (pid:"));
    CHECK(has_said("): GET /stuck, "));
    CHECK(has_said("Thread 1:\n  in stuck"));
    CHECK_EQ(atomic_load(&hand->aborted), atomic_load(&hand->sequence));
    CHECK_EQ(w->state, PWS_WORKER_RETIRING);
    CHECK_EQ(pws_cell_reason(pws_worker_cell(&m.workers, w), text), PWS_CAUSE_LATE);
    CHECK_EQ(strncmp(text, "GET /stuck, ", 12), 0);
    finish(w, -9);
}

TEST(a_request_that_ends_in_time_is_not_interrupted)
{
    pws_worker *w;
    pws_hand *hand;

    start(0);
    w = fork_worker(true);
    hand = &pws_worker_cell(&m.workers, w)->hands[0];
    atomic_store(&hand->overdue, begin_request(w));
    turn();
    CHECK_EQ(w->late.stage, PWS_LATE_TOLD);
    (void)begin_request(w); /* the next one */
    TURN_UNTIL(w->late.stage == PWS_LATE_OVER);
    CHECK_EQ(w->last_signal, 0);
    w->end_ms = 0;
    finish(w, SIGKILL);
}

/* Its time is the app's, which is over; no matter whom it waits for now. */
TEST(an_overdue_request_that_waits_for_its_client_is_interrupted)
{
    pws_worker *w;
    pws_cell *cell;

    start(0);
    w = fork_worker(false);
    cell = pws_worker_cell(&m.workers, w);
    atomic_store(&cell->hands[0].overdue, begin_request(w));
    turn();
    CHECK_EQ(w->late.stage, PWS_LATE_TOLD);
    pws_cell_end(cell);
    pws_hand_pause(&cell->hands[0], pws_clock_now_ms());
    TURN_UNTIL(w->late.stage == PWS_LATE_GIVEN_UP);
    CHECK_EQ(w->last_signal, SIGABRT);
    CHECK_EQ(atomic_load(&cell->hands[0].given_up),
             atomic_load(&cell->hands[0].sequence));
    for (int i = 0; i < 3; i++) { /* neighbours are served meanwhile */
        w->late.next_ms = 0;
        turn();
        CHECK_EQ(w->last_signal, SIGABRT);
    }
    pws_cell_begin(cell);
    pws_hand_resume(&cell->hands[0], pws_clock_now_ms());
    w->late.next_ms = 0;
    turn();
    CHECK_EQ(w->last_signal, SIGABRT); /* the relief comes soon */
    finish(w, SIGKILL);
}

TEST(who_waits_for_a_client_after_a_long_call_is_alive)
{
    pws_worker *w;
    pws_cell *cell;

    start(200);
    w = fork_worker(false);
    cell = pws_worker_cell(&m.workers, w);
    (void)begin_request(w);
    TURN_UNTIL(w->late.stage == PWS_LATE_TOLD);
    pws_cell_end(cell);
    pws_hand_pause(&cell->hands[0], pws_clock_now_ms());
    turn();
    CHECK_EQ(w->late.stage, PWS_LATE_OVER);
    CHECK_EQ(w->last_signal, 0);
    w->end_ms = 0;
    finish(w, SIGKILL);
}

TEST(who_is_deserted_is_killed)
{
    pws_worker *w;
    pws_cell *cell;

    start(0);
    w = fork_worker(false);
    cell = pws_worker_cell(&m.workers, w);
    atomic_store(&cell->relieved, true);
    atomic_store(&cell->hands[0].overdue, begin_request(w));
    TURN_UNTIL(w->late.stage == PWS_LATE_GIVEN_UP);
    CHECK(w->late.gives_up);
    CHECK_EQ(w->last_signal, SIGABRT);
    w->late.next_ms = 0; /* its time is over, and somebody is still served */
    turn();
    CHECK_EQ(w->last_signal, SIGABRT);
    atomic_store(&cell->deserted, true);
    turn();
    CHECK_EQ(w->last_signal, SIGKILL);
    finish(w, SIGKILL);
}

TEST(who_has_no_relief_is_not_waited_for)
{
    pws_worker *w;

    start(200);
    w = fork_worker(false);
    (void)begin_request(w);
    TURN_UNTIL(w->late.stage == PWS_LATE_TOLD);
    CHECK(has_said("WORKER TIMEOUT (pid:"));
    CHECK(has_said(" is at GET /stuck, 0."));
    finish(w, SIGKILL);
}

TEST(a_request_that_ends_after_the_interruption_spares_its_worker)
{
    pws_worker *w;
    pws_cell *cell;

    start(0);
    w = fork_worker(false);
    cell = pws_worker_cell(&m.workers, w);
    atomic_store(&cell->hands[0].overdue, begin_request(w));
    TURN_UNTIL(w->late.stage == PWS_LATE_ABORTED);
    pws_hand_end(&cell->hands[0]);
    pws_cell_end(cell);
    TURN_UNTIL(w->late.stage == PWS_LATE_OVER);
    CHECK_EQ(w->last_signal, SIGABRT);
    CHECK(w->end_ms != PWS_NEVER);
    CHECK_EQ(pws_late_due_ms(&m, pws_clock_now_ms()), w->end_ms - 1000);
    atomic_store(&cell->hands[0].overdue, begin_request(w)); /* one behind it */
    TURN_UNTIL(w->late.stage == PWS_LATE_ABORTED);
    CHECK_EQ(atomic_load(&cell->hands[0].aborted), 4);
    w->end_ms = 0;
    finish(w, SIGKILL);
}

TEST(a_slow_request_is_told_of_once)
{
    pws_worker *w;
    pws_hand *hand;
    size_t len;

    start(0);
    w = fork_worker(true);
    hand = &pws_worker_cell(&m.workers, w)->hands[0];
    atomic_store(&hand->slow, begin_request(w));
    TURN_UNTIL(has_said("in stuck"));
    CHECK(has_said("SLOW REQUEST (pid:"));
    len = said_len;
    turn();
    turn();
    CHECK_EQ(said_len, len);
    CHECK_EQ(w->late.stage, PWS_LATE_NOT);
    (void)begin_request(w); /* and what is late to be told has ended */
    (void)begin_request(w);
    atomic_store(&hand->slow, atomic_load(&hand->sequence) - 2);
    turn();
    CHECK(has_said("a request that has ended since"));
    w->end_ms = 0;
    finish(w, SIGKILL);
}

TEST(all_threads_that_are_late_are_interrupted)
{
    pws_worker *w;
    pws_hand *hands;
    uint64_t first, second;

    start(0);
    w = fork_worker(false);
    hands = pws_worker_cell(&m.workers, w)->hands;
    for (unsigned i = 0; i < 3; i++) {
        pws_hand_begin(&hands[i + 5], PWS_SLICE("GET"), PWS_SLICE("/threads"),
                       pws_clock_now_ms());
    }
    first = atomic_load(&hands[5].sequence);
    second = atomic_load(&hands[7].sequence);
    atomic_store(&hands[5].overdue, first);
    TURN_UNTIL(w->late.stage == PWS_LATE_ABORTED);
    CHECK(has_said("WORKER REQUEST TIMEOUT (pid:"));
    CHECK_EQ(atomic_load(&hands[5].aborted), first);
    CHECK_EQ(atomic_load(&hands[6].aborted), 0);
    CHECK_EQ(atomic_load(&hands[7].aborted), 0);
    atomic_store(&hands[7].overdue, second); /* while the first one is being seen to */
    turn();
    CHECK_EQ(atomic_load(&hands[7].aborted), second);
    CHECK_EQ(atomic_load(&hands[6].aborted), 0);
    pws_hand_end(&hands[5]);
    turn();
    CHECK_EQ(w->late.stage, PWS_LATE_ABORTED); /* one is still at it */
    w->late.next_ms = 0;
    turn();
    CHECK_EQ(w->late.stage, PWS_LATE_GIVEN_UP);
    CHECK_EQ(atomic_load(&hands[5].given_up), 0);
    CHECK_EQ(atomic_load(&hands[6].given_up), 0);
    CHECK_EQ(atomic_load(&hands[7].given_up), second);
    pws_hand_end(&hands[7]);
    TURN_UNTIL(w->late.stage == PWS_LATE_OVER);
    CHECK(!w->late.gives_up);
    w->end_ms = 0;
    finish(w, SIGKILL);
}

TEST(who_must_end_is_told_to_give_up_before)
{
    pws_worker *w;

    start(0);
    w = fork_worker(true);
    pws_worker_retire(w, PWS_ORDER_RETIRE, pws_clock_now_ms() + 1500);
    turn();
    CHECK(!w->late.gives_up);
    TURN_UNTIL(w->late.gives_up);
    CHECK_EQ(w->last_signal, 0);
    finish(w, SIGKILL);
}

TEST(a_boot_that_takes_too_long_is_interrupted_and_killed)
{
    pws_worker *w;

    start(200);
    w = fork_worker(false);
    w->state = PWS_WORKER_BOOTING;
    pws_cell_assign(pws_worker_cell(&m.workers, w));
    TURN_UNTIL(w->late.stage == PWS_LATE_TOLD);
    CHECK(pws_late_due_ms(&m, 1000) <= 1000); /* it is not asked for its stacks */
    turn();
    CHECK_EQ(w->last_signal, SIGABRT);
    CHECK_EQ(w->state, PWS_WORKER_BOOTING);
    CHECK(!has_said("Stacks")); /* it has not said that it can tell them */
    finish(w, SIGKILL);
}

/* It has been asked, and has said nothing for a whole time-out. */
static void
be_silent(pws_worker *w)
{
    w->sign = (pws_sign){
        .asked_ms = 1, .next_ms = pws_clock_now_ms(), .in_vain = 1, .sent = true};
}

TEST(an_idle_worker_without_a_sign_has_a_successor_at_once_and_is_killed)
{
    pws_worker *w;

    start(600000);
    w = fork_worker(false);
    be_silent(w);
    pws_late_check(&m);
    CHECK(has_said("WORKER TIMEOUT (pid:"));
    CHECK(has_said(") is idle and gives no sign of life"));
    CHECK_EQ(w->state, PWS_WORKER_RETIRING);
    CHECK(w->timed_out);
    finish(w, SIGKILL);
}

TEST(one_that_gives_its_sign_late_is_not_interrupted)
{
    pws_worker *w;

    start(600000);
    w = fork_worker(false);
    be_silent(w);
    pws_late_check(&m);
    CHECK_EQ(w->late.stage, PWS_LATE_TOLD);
    atomic_fetch_add(&pws_worker_cell(&m.workers, w)->signs, 1);
    pws_late_check(&m);
    CHECK_EQ(w->late.stage, PWS_LATE_OVER);
    CHECK_EQ(w->last_signal, 0);
    w->end_ms = 0;
    finish(w, SIGKILL);
}

static pws_worker *
ask_for_worker(const pws_worker *mold)
{
    int order_fd;
    pws_worker *w = pws_workers_take(&m.workers, PWS_KIND_WORKER, &order_fd);

    CHECK(w != NULL);
    close(order_fd);
    w->asked_of = mold->pid;
    w->asked_ms = 100;
    return w;
}

TEST(what_a_silent_mold_was_asked_for_is_forgotten)
{
    pws_worker *mold, *w, *other;

    start(600000);
    mold = fork_worker(false);
    mold->kind = PWS_KIND_MOLD;
    w = ask_for_worker(mold);
    other = ask_for_worker(mold);
    other->asked_of = 1; /* of the one that came after it */
    be_silent(mold);
    pws_late_check(&m);
    CHECK(has_said("Mold (pid:"));
    CHECK_EQ(mold->state, PWS_WORKER_RETIRING); /* so it is asked for nothing more */
    CHECK_EQ(w->state, PWS_WORKER_NONE);
    CHECK_EQ(other->state, PWS_WORKER_BOOTING);
    finish(mold, SIGKILL);
}

TEST(one_that_was_forked_and_does_not_say_so_is_given_up)
{
    pws_worker *mold, *w;

    start(600000);
    mold = fork_worker(false);
    mold->kind = PWS_KIND_MOLD;
    w = ask_for_worker(mold);
    mold->sign.heard_ms = 100; /* perhaps before it was asked for that */
    pws_late_check(&m);
    CHECK_EQ(w->claim_ms, PWS_NEVER);
    mold->sign.heard_ms = 101;
    pws_late_check(&m);
    CHECK(w->claim_ms != PWS_NEVER);
    CHECK(pws_late_due_ms(&m, pws_clock_now_ms()) <= w->claim_ms);
    CHECK_EQ(w->state, PWS_WORKER_BOOTING);
    w->claim_ms = 1;
    CHECK(pws_cell_claim(pws_worker_cell(&m.workers, w),
                         pws_cell_nonce(pws_worker_cell(&m.workers, w)), 42));
    pws_late_check(&m); /* it has, in the last moment */
    CHECK_EQ(w->state, PWS_WORKER_BOOTING);
    pws_cell_assign(pws_worker_cell(&m.workers, w));
    pws_late_check(&m);
    CHECK_EQ(w->state, PWS_WORKER_NONE);
    CHECK(has_said("has forked gives no sign of life"));
    mold->end_ms = 0;
    finish(mold, SIGKILL);
}

TEST(a_process_that_does_not_answer_is_not_waited_for)
{
    pws_stacks stacks;
    pid_t pid;

    CHECK_EQ(pws_stacks_open(&stacks), 0);
    pid = fork();
    CHECK(pid >= 0);
    if (pid == 0) {
        (void)signal(pws_stacks_signal(), SIG_IGN);
        for (;;) {
            (void)pause();
        }
    }
    CHECK_EQ(write(stacks.pipe[1], "of somebody else", 16), 16);
    CHECK_EQ(pws_stacks_ask(&stacks, pid, 1000), 0);
    CHECK(!pws_stacks_read(&stacks, 1999));
    CHECK_EQ(pws_stacks_due_ms(&stacks), 2000);
    CHECK(pws_stacks_read(&stacks, 2000));
    CHECK_EQ(pws_stacks_take(&stacks).len, 0);
    CHECK_EQ(pws_stacks_due_ms(&stacks), PWS_NEVER);
    (void)kill(pid, SIGKILL);
    CHECK_EQ(waitpid(pid, NULL, 0), pid);
    CHECK_EQ(pws_stacks_ask(&stacks, pid, 1000), -1);
    pws_stacks_close(&stacks);
}

TEST(an_answer_without_end_is_cut)
{
    static char much[4096];
    pws_stacks stacks;
    int64_t now_ms = 1000;
    pws_slice text;

    CHECK_EQ(pws_stacks_open(&stacks), 0);
    (void)signal(pws_stacks_signal(), SIG_IGN);
    CHECK_EQ(pws_stacks_ask(&stacks, getpid(), now_ms), 0);
    memset(much, 'x', sizeof(much));
    for (int i = 0; i < 100; i++) {
        CHECK(write(stacks.pipe[1], much, sizeof(much)) > 0);
        if (pws_stacks_read(&stacks, now_ms += 10)) {
            break;
        }
    }
    text = pws_stacks_take(&stacks);
    CHECK_EQ(text.len, PWS_STACKS_MAX);
    pws_stacks_close(&stacks);
}

TEST(an_overdue_request_that_has_ended_is_told_of_and_interrupts_nobody)
{
    pws_worker *w;
    pws_hand *hand;

    start(0);
    w = fork_worker(true);
    hand = &pws_worker_cell(&m.workers, w)->hands[0];
    atomic_store(&hand->overdue, begin_request(w));
    pws_cell_end(pws_worker_cell(&m.workers, w));
    pws_hand_end(hand);
    pws_late_check(&m);
    CHECK(has_said("GET /stuck, which the app has left since"));
    pws_late_check(&m);
    CHECK_EQ(w->late.stage, PWS_LATE_OVER);
    CHECK_EQ(w->last_signal, 0);
    (void)kill(w->pid, SIGKILL);
    finish(w, SIGKILL);
}

TEST(who_has_booted_before_it_was_interrupted_goes_on)
{
    pws_worker *w;
    pws_cell *cell;

    start(60000);
    w = fork_worker(true);
    cell = pws_worker_cell(&m.workers, w);
    w->state = PWS_WORKER_BOOTING;
    atomic_store(&cell->ready, false);
    atomic_store(&cell->busy_since_ms, pws_clock_now_ms() - 61000);
    pws_late_check(&m);
    CHECK(has_said("WORKER TIMEOUT"));
    CHECK(w->timed_out);

    pws_cell_ready(cell); /* now it can serve, and is at a request at once */
    pws_cell_begin(cell);
    w->state = PWS_WORKER_SERVING;
    (void)begin_request(w);
    TURN_UNTIL(m.stacks.pid == 0 && !w->late.wants_stacks);
    pws_late_check(&m);
    CHECK_EQ(w->last_signal, 0);
    CHECK(!w->timed_out);
    CHECK_EQ(w->state, PWS_WORKER_SERVING);
    CHECK(has_said("has booted all the same"));
    CHECK_EQ(kill(w->pid, SIGKILL), 0);
    finish(w, SIGKILL);
}
