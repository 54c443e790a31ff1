#include "proc/signals.h"

#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <unistd.h>

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))
#define HIGHEST 32

static const int caught[] = {SIGHUP,  SIGINT,  SIGQUIT,  SIGTERM, SIGTTIN, SIGTTOU,
                             SIGUSR1, SIGUSR2, SIGWINCH, SIGCHLD, SIGPIPE};

static volatile sig_atomic_t flags[HIGHEST];
static volatile int wake_pipe[2] = {-1, -1};
static struct sigaction previous[COUNT(caught)];

static void
on_signal(int signum)
{
    int saved = errno;

    flags[signum] = 1;
    /* A full pipe is fine: the reader wakes anyway. */
    while (write(wake_pipe[1], "", 1) < 0 && errno == EINTR) {
    }
    errno = saved;
}

static int
open_pipe(void)
{
    int ends[2];

    if (pipe2(ends, O_NONBLOCK | O_CLOEXEC) < 0) {
        return -1;
    }
    wake_pipe[0] = ends[0];
    wake_pipe[1] = ends[1];
    return 0;
}

int
pws_signals_open(void)
{
    struct sigaction action = {.sa_handler = on_signal, .sa_flags = SA_RESTART};

    if (wake_pipe[0] >= 0) {
        errno = EBUSY;
        return -1;
    }
    if (open_pipe() < 0) {
        return -1;
    }
    sigfillset(&action.sa_mask);
    for (size_t i = 0; i < COUNT(caught); i++) {
        flags[caught[i]] = 0;
        (void)sigaction(caught[i], &action, &previous[i]);
    }
    return wake_pipe[0];
}

void
pws_signals_close(void)
{
    if (wake_pipe[0] < 0) {
        return;
    }
    for (size_t i = 0; i < COUNT(caught); i++) {
        (void)sigaction(caught[i], &previous[i], NULL);
        flags[caught[i]] = 0;
    }
    close(wake_pipe[0]);
    close(wake_pipe[1]);
    wake_pipe[0] = wake_pipe[1] = -1;
}

bool
pws_signals_take(int signum)
{
    if (flags[signum] == 0) {
        return false;
    }
    flags[signum] = 0; /* one that comes now is acted upon with this one */
    return true;
}

void
pws_signals_swallow(void)
{
    char bytes[64];
    ssize_t n;

    do {
        n = read(wake_pipe[0], bytes, sizeof(bytes));
    } while (n == (ssize_t)sizeof(bytes) || (n < 0 && errno == EINTR));
}

void
pws_signals_hold(sigset_t *before)
{
    sigset_t all;

    sigfillset(&all);
    (void)pthread_sigmask(SIG_SETMASK, &all, before);
}

void
pws_signals_release(const sigset_t *before)
{
    (void)pthread_sigmask(SIG_SETMASK, before, NULL);
}

void
pws_signals_default(void)
{
    const struct sigaction plain = {.sa_handler = SIG_DFL};
    sigset_t none;

    pws_signals_close();
    for (int signum = 1; signum <= SIGRTMAX; signum++) {
        (void)sigaction(signum, &plain, NULL); /* some cannot be changed */
    }
    sigemptyset(&none);
    (void)pthread_sigmask(SIG_SETMASK, &none, NULL);
}

const char *
pws_signals_name(int signum)
{
    static const struct {
        int number;
        const char *name;
    } names[] = {
        {SIGHUP, "HUP"},   {SIGINT, "INT"},   {SIGQUIT, "QUIT"},   {SIGILL, "ILL"},
        {SIGTRAP, "TRAP"}, {SIGABRT, "ABRT"}, {SIGBUS, "BUS"},     {SIGFPE, "FPE"},
        {SIGKILL, "KILL"}, {SIGUSR1, "USR1"}, {SIGSEGV, "SEGV"},   {SIGUSR2, "USR2"},
        {SIGPIPE, "PIPE"}, {SIGALRM, "ALRM"}, {SIGTERM, "TERM"},   {SIGCHLD, "CHLD"},
        {SIGTTIN, "TTIN"}, {SIGTTOU, "TTOU"}, {SIGXCPU, "XCPU"},   {SIGXFSZ, "XFSZ"},
        {SIGSYS, "SYS"},   {SIGPROF, "PROF"}, {SIGWINCH, "WINCH"},
    };

    for (size_t i = 0; i < COUNT(names); i++) {
        if (names[i].number == signum) {
            return names[i].name;
        }
    }
    return NULL;
}
