/* Descriptors that go from process to process. */
#include <errno.h>
#include <fcntl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/passing.h"
#include "harness.h"

static int ends[2], pipes[2], fds[PWS_PASS_MAX + 1];
static char text[8];

static void
open_all(void)
{
    CHECK_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, ends), 0);
    CHECK_EQ(pipe2(pipes, O_CLOEXEC), 0);
}

static void
close_all(void)
{
    close(ends[0]);
    close(ends[1]);
    close(pipes[0]);
    close(pipes[1]);
}

static ssize_t
receive(pws_parcel *parcel)
{
    *parcel = (pws_parcel){.text = text, .size = sizeof(text), .fds = fds};
    return pws_pass_receive(ends[0], parcel);
}

TEST(what_is_sent_arrives_with_its_descriptors)
{
    char word[] = "ab", byte;
    pws_parcel sent = {.text = word, .size = 2, .fds = pipes, .count = 2}, got;

    open_all();
    CHECK_EQ(pws_pass_send(ends[1], &sent), 0);
    CHECK_EQ(receive(&got), 2);
    CHECK_BYTES(text, 2, "ab");
    CHECK_EQ(got.count, 2);
    CHECK(!got.lost);
    CHECK((fcntl(fds[0], F_GETFD) & FD_CLOEXEC) != 0);
    CHECK_EQ(write(fds[1], "x", 1), 1);
    CHECK(read(pipes[0], &byte, 1) == 1 && byte == 'x');
    close(fds[0]);
    close(fds[1]);
    close_all();
}

TEST(descriptors_come_in_their_order_among_plain_bytes)
{
    char word[] = "b";
    pws_parcel sent = {.text = word, .size = 1, .fds = pipes, .count = 1}, got;
    unsigned count = 0;
    size_t len = 0;

    open_all();
    CHECK_EQ(write(ends[1], "a", 1), 1);
    CHECK_EQ(pws_pass_send(ends[1], &sent), 0);
    CHECK_EQ(pws_pass_send(ends[1], &sent), 0);
    CHECK_EQ(write(ends[1], "a", 1), 1);
    while (len < 4) {
        ssize_t n = receive(&got);

        CHECK(n > 0);
        CHECK(got.count <= 1); /* never those of two messages at once */
        for (unsigned i = 0; i < got.count; i++) {
            close(fds[i]);
        }
        len += (size_t)n;
        count += got.count;
    }
    CHECK_EQ(count, 2);
    CHECK_EQ(receive(&got), -1);
    CHECK_EQ(errno, EAGAIN);
    close_all();
}

TEST(the_end_is_no_bytes_and_no_descriptors)
{
    pws_parcel got;

    open_all();
    close(ends[1]);
    CHECK_EQ(receive(&got), 0);
    CHECK_EQ(got.count, 0);
    ends[1] = dup(ends[0]);
    close_all();
}

TEST(too_many_are_refused)
{
    pws_parcel sent = {.text = text, .size = 1, .fds = fds, .count = PWS_PASS_MAX + 1};

    open_all();
    CHECK_EQ(pws_pass_send(ends[1], &sent), -1);
    CHECK_EQ(errno, EINVAL);
    close_all();
}

TEST(what_cannot_be_had_is_told)
{
    pws_parcel sent = {.text = text, .size = 1, .fds = pipes, .count = 2}, got;
    struct rlimit old, few;
    int next;

    open_all();
    CHECK_EQ(pws_pass_send(ends[1], &sent), 0);
    next = dup(0);
    close(next);
    CHECK_EQ(getrlimit(RLIMIT_NOFILE, &old), 0);
    few = old;
    few.rlim_cur = (rlim_t)next;
    CHECK_EQ(setrlimit(RLIMIT_NOFILE, &few), 0);
    CHECK_EQ(receive(&got), 1);
    CHECK_EQ(setrlimit(RLIMIT_NOFILE, &old), 0);
    CHECK(got.lost);
    CHECK_EQ(got.count, 0);
    close_all();
}

TEST(who_sends_never_waits_and_gets_no_signal)
{
    pws_parcel sent = {.text = text, .size = 1, .fds = pipes, .count = 1};
    int rc = 0;

    open_all();
    for (int i = 0; i < 100000 && rc == 0; i++) {
        rc = pws_pass_send(ends[1], &sent);
    }
    CHECK_EQ(rc, -1);
    close(ends[0]);
    CHECK_EQ(pws_pass_send(ends[1], &sent), -1);
    CHECK_EQ(errno, EPIPE);
    ends[0] = dup(ends[1]);
    close_all();
}
