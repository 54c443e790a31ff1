/* The four outcomes of moving bytes. */
#include "harness.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/socket.h>
#include <unistd.h>

#include "engine/io.h"

static int pair[2];

static void
connect_both(void)
{
    CHECK_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, pair), 0);
}

static void
close_both(void)
{
    close(pair[0]);
    close(pair[1]);
}

TEST(receiving_has_four_outcomes)
{
    char got[8];

    connect_both();
    CHECK_EQ(pws_io_recv(pair[0], got, sizeof(got)), PWS_IO_AGAIN);
    CHECK_EQ(pws_io_send(pair[1], "hello", 5, false), 5);
    CHECK_EQ(pws_io_recv(pair[0], got, sizeof(got)), 5);
    CHECK_BYTES(got, 5, "hello");
    CHECK_EQ(shutdown(pair[1], SHUT_WR), 0);
    CHECK_EQ(pws_io_recv(pair[0], got, sizeof(got)), 0);
    CHECK_EQ(pws_io_recv(-1, got, sizeof(got)), PWS_IO_ERROR);
    close_both();
}

TEST(sending_to_nobody_is_an_error_and_no_signal)
{
    struct iovec part = {(char[]){"x"}, 1};
    int file = open("/tmp", O_TMPFILE | O_RDWR, 0600);
    sigset_t pending;

    CHECK(signal(SIGPIPE, SIG_DFL) != SIG_ERR);
    CHECK_EQ(write(file, "x", 1), 1);
    connect_both();
    close(pair[1]);
    CHECK_EQ(pws_io_send(pair[0], "x", 1, true), PWS_IO_ERROR);
    CHECK_EQ(pws_io_sendv(pair[0], &part, 1, false), PWS_IO_ERROR);
    CHECK_EQ(pws_io_sendfile(pair[0], file, 0, 1), PWS_IO_ERROR);
    CHECK_EQ(sigpending(&pending), 0);
    CHECK(!sigismember(&pending, SIGPIPE));
    close(pair[0]);
    close(file);
}

TEST(a_full_socket_says_again)
{
    static char bytes[100000];
    struct iovec parts[2] = {{bytes, 1000}, {bytes, 1000}};

    connect_both();
    CHECK_EQ(pws_io_sendv(pair[0], parts, 2, true), 2000);
    while (pws_io_send(pair[0], bytes, sizeof(bytes), false) > 0) {
    }
    CHECK_EQ(pws_io_send(pair[0], bytes, sizeof(bytes), false), PWS_IO_AGAIN);
    CHECK_EQ(pws_io_sendv(pair[0], parts, 2, false), PWS_IO_AGAIN);
    close_both();
}

TEST(a_file_is_sent_from_its_place)
{
    char got[8];
    int file = open("/tmp", O_TMPFILE | O_RDWR, 0600);

    connect_both();
    CHECK_EQ(write(file, "0123456789", 10), 10);
    CHECK_EQ(pws_io_sendfile(pair[1], file, 3, 4), 4);
    CHECK_EQ(pws_io_recv(pair[0], got, sizeof(got)), 4);
    CHECK_BYTES(got, 4, "3456");
    CHECK_EQ(pws_io_sendfile(pair[1], file, 10, 4), 0);
    CHECK_EQ(pws_io_sendfile(pair[1], -1, 0, 4), PWS_IO_ERROR);
    close(file);
    close_both();
}
