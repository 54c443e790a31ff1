#include "proc/cause.h"

#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>

#include "proc/signals.h"

/* A SIGKILL that was not ours. */
static void
explain_kill(pws_master *m, char words[PWS_CAUSE_ROOM])
{
    int64_t before, now = pws_oom_read(&m->oom, &before);

    if (now < 0 || before < 0) {
        (void)snprintf(words, PWS_CAUSE_ROOM, "Perhaps out of memory?");
    }
    else if (now > before) {
        (void)snprintf(words, PWS_CAUSE_ROOM,
                       "out of memory: the cgroup's oom_kill count went from %" PRId64
                       " to %" PRId64,
                       before, now);
    }
    else {
        (void)snprintf(words, PWS_CAUSE_ROOM,
                       "somebody else's SIGKILL: the cgroup's oom_kill count is still "
                       "%" PRId64,
                       now);
    }
}

/* What was decided about it while it lived. */
static void
add_decision(const pws_worker *w, int status, char words[PWS_CAUSE_ROOM])
{
    const char *text = "";
    size_t len = strlen(words);

    switch (w->cause) {
    case PWS_CAUSE_NONE:
    case PWS_CAUSE_STOP:
    case PWS_CAUSE_LATE: /* "timed out" is there already */
        return;
    case PWS_CAUSE_RECYCLED:
        text = "recycled: ";
        break;
    case PWS_CAUSE_RELOAD:
        text = "retired by reload";
        break;
    case PWS_CAUSE_GIVEN_UP:
        text = "its reload was given up";
        break;
    case PWS_CAUSE_SURPLUS:
        text = "fewer workers are wanted";
        break;
    case PWS_CAUSE_OWN:
        if (status != 0 || len > 0) {
            return; /* that says it all */
        }
        text = "not told to by the master";
        break;
    }
    (void)snprintf(words + len, PWS_CAUSE_ROOM - len, "%s%s%s", len > 0 ? "; " : "",
                   text, w->cause == PWS_CAUSE_RECYCLED ? w->reason : "");
}

void
pws_cause_words(pws_master *m, const pws_worker *w, int status,
                char words[PWS_CAUSE_ROOM])
{
    words[0] = '\0';
    if (w->timed_out) {
        (void)snprintf(words, PWS_CAUSE_ROOM, "timed out");
    }
    else if (w->last_signal != 0) {
        (void)snprintf(words, PWS_CAUSE_ROOM, "it did not end in time");
    }
    else if (WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL) {
        explain_kill(m, words);
    }
    add_decision(w, status, words);
}

static pws_log_level
level_of(int signum)
{
    if (signum == SIGKILL) {
        return PWS_LOG_ERROR;
    }
    return signum == SIGTERM ? PWS_LOG_INFO : PWS_LOG_WARNING;
}

static void
log_signal(const pws_master *m, const pws_worker *w, int signum, const char *tail)
{
    const char *what = w->kind == PWS_KIND_MOLD ? "Mold" : "Worker";
    const char *name = pws_signals_name(signum);

    if (name == NULL) {
        pws_master_say(m, PWS_LOG_WARNING, "%s (pid:%d) was sent signal %d!%s", what,
                       (int)w->pid, signum, tail);
        return;
    }
    pws_master_say(m, level_of(signum), "%s (pid:%d) was sent SIG%s!%s", what,
                   (int)w->pid, name, tail);
}

void
pws_cause_log(const pws_master *m, const pws_worker *w, int status, const char *words)
{
    const char *what = w->kind == PWS_KIND_MOLD ? "Mold" : "Worker";
    char tail[PWS_CAUSE_ROOM + 4] = "";

    if (words[0] != '\0') { /* Gunicorn's own question is as Gunicorn writes it */
        bool asks = words[strlen(words) - 1] == '?';

        (void)snprintf(tail, sizeof(tail), asks ? " %s" : " (%s)", words);
    }
    if (WIFSIGNALED(status)) {
        log_signal(m, w, WTERMSIG(status), tail);
    }
    else if (WEXITSTATUS(status) != 0) {
        pws_master_say(m, PWS_LOG_ERROR, "%s (pid:%d) exited with code %d.%s", what,
                       (int)w->pid, WEXITSTATUS(status), tail);
    }
    else if (tail[0] != '\0') {
        pws_master_say(m, PWS_LOG_INFO, "%s (pid:%d) has ended%s", what, (int)w->pid,
                       tail);
    }
}
