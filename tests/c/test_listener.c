/* Listening sockets, above all the files of Unix ones. */
#include "harness.h"

#include <fcntl.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "engine/listener.h"

static char dir[64], path[96], why[256];
static pws_listener first, second;

static void
make_dir(void)
{
    snprintf(dir, sizeof(dir), "/tmp/pywsgiserve-test.XXXXXX");
    CHECK(mkdtemp(dir) != NULL);
    snprintf(path, sizeof(path), "%s/socket", dir);
}

static int
open_with(pws_listener *listener, const char *text, pws_listener_options options)
{
    pws_address address;

    CHECK_EQ(pws_address_parse(&address, text, why, sizeof(why)), 0);
    why[0] = '\0';
    return pws_listener_open(listener, &address, &options, why, sizeof(why));
}

static int
open_text(pws_listener *listener, const char *text)
{
    const pws_listener_options options = {
        .backlog = 16, .uid = (uid_t)-1, .gid = (gid_t)-1};

    return open_with(listener, text, options);
}

static int
open_path(pws_listener *listener)
{
    char text[128];

    snprintf(text, sizeof(text), "unix:%s", path);
    return open_text(listener, text);
}

/* Whether a client reaches somebody at the address. */
static bool
answers(const pws_address *address)
{
    int fd = socket(address->sa.any.sa_family, SOCK_STREAM, 0);
    bool reached = connect(fd, &address->sa.any, address->len) == 0;

    close(fd);
    return reached;
}

static int
flag(int fd, int level, int name)
{
    int value = 0;
    socklen_t len = sizeof(value);

    CHECK_EQ(getsockopt(fd, level, name, &value, &len), 0);
    return value;
}

TEST(a_tcp_listener_knows_its_port)
{
    int accepted;
    struct sockaddr_in6 peer;
    socklen_t len = sizeof(peer);
    int client = socket(AF_INET, SOCK_STREAM, 0);

    CHECK_EQ(open_text(&first, "127.0.0.1:0"), 0);
    CHECK(first.address.sa.v4.sin_port != 0);
    CHECK(!pws_listener_is_unix(&first));
    CHECK((fcntl(first.fd, F_GETFL) & O_NONBLOCK) != 0);
    CHECK((fcntl(first.fd, F_GETFD) & FD_CLOEXEC) != 0);
    CHECK_EQ(connect(client, &first.address.sa.any, first.address.len), 0);
    accepted = accept(first.fd, (struct sockaddr *)(void *)&peer, &len);
    CHECK(flag(accepted, IPPROTO_TCP, TCP_NODELAY) != 0);
    close(accepted);
    close(client);
    pws_listener_close(&first);
    pws_listener_close(&first);
    CHECK_EQ(first.fd, -1);
}

TEST(an_ipv6_listener_answers)
{
    if (open_text(&first, "[::1]:0") == 0) { /* there are machines without IPv6 */
        CHECK(answers(&first.address));
        pws_listener_close(&first);
    }
}

TEST(a_port_in_use_is_refused)
{
    char text[PWS_ADDRESS_ROOM];

    CHECK_EQ(open_text(&first, "127.0.0.1:0"), 0);
    pws_address_format(&first.address, text, sizeof(text));
    CHECK_EQ(open_text(&second, text), -1);
    CHECK(strstr(why, "in use") != NULL);
    CHECK_EQ(second.fd, -1);
    pws_listener_close(&first);
    CHECK_EQ(open_text(&second, text), 0);
    pws_listener_close(&second);
}

/* Who gives workers sockets of their own unasked must not join a stranger's. */
TEST(a_port_that_is_shared_from_now_on_was_nobodys_before)
{
    const pws_listener_options joins = {.backlog = 16, .reuse_port = true};
    pws_listener_options founds = joins;
    char text[PWS_ADDRESS_ROOM];

    founds.alone = true;
    CHECK_EQ(open_with(&first, "127.0.0.1:0", founds), 0);
    CHECK(pws_listener_can_share(&first));
    pws_address_format(&first.address, text, sizeof(text));
    CHECK_EQ(open_with(&second, text, founds), -1);
    CHECK(strstr(why, "in use") != NULL);
    CHECK_EQ(open_with(&second, text, joins), 0);
    pws_listener_close(&second);
    pws_listener_close(&first);

    CHECK_EQ(open_with(&first, text, joins), 0);
    CHECK_EQ(open_with(&second, text, founds), -1);
    pws_listener_close(&first);
}

TEST(an_address_of_another_machine_is_refused)
{
    CHECK_EQ(open_text(&first, "192.0.2.1:0"), -1);
    CHECK(strncmp(why, "bind: ", 6) == 0);
}

TEST(a_unix_socket_goes_with_its_listener)
{
    make_dir();
    CHECK_EQ(open_path(&first), 0);
    CHECK(pws_listener_is_unix(&first));
    CHECK_EQ(strcmp(first.address.sa.local.sun_path, path), 0);
    CHECK(answers(&first.address));
    pws_listener_close(&first);
    CHECK_EQ(access(path, F_OK), -1);
    CHECK_EQ(rmdir(dir), 0);
}

TEST(a_live_servers_unix_socket_is_never_taken)
{
    make_dir();
    CHECK_EQ(open_path(&first), 0);
    CHECK_EQ(open_path(&second), -1);
    CHECK(strstr(why, "in use") != NULL);
    CHECK(answers(&first.address));
    pws_listener_close(&first);
    CHECK_EQ(rmdir(dir), 0);
}

TEST(a_live_server_with_a_full_backlog_is_live)
{
    int clients[64], count = 0;

    make_dir();
    CHECK_EQ(open_path(&first), 0);
    for (; count < 64; count++) {
        clients[count] = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0);
        if (connect(clients[count], &first.address.sa.any, first.address.len) < 0) {
            break;
        }
    }
    CHECK(count < 64);
    CHECK_EQ(open_path(&second), -1);
    for (; count >= 0; count--) {
        close(clients[count]);
    }
    pws_listener_close(&first);
    CHECK_EQ(rmdir(dir), 0);
}

TEST(a_stale_unix_socket_is_taken)
{
    make_dir();
    CHECK_EQ(open_path(&first), 0);
    close(first.fd); /* as after a crash: the file stays */
    CHECK_EQ(access(path, F_OK), 0);
    CHECK_EQ(open_path(&second), 0);
    CHECK(answers(&second.address));
    first.fd = -1;
    pws_listener_close(&first); /* not its file any more */
    CHECK(answers(&second.address));
    pws_listener_close(&second);
    CHECK_EQ(rmdir(dir), 0);
}

/* Returns 7 when the path could be had; ends when all have tried. */
static int
try_path(int go, const int done[2])
{
    char byte;
    int rc;

    (void)!read(go, &byte, 1);
    rc = open_path(&first);
    close(done[1]);
    (void)!read(done[0], &byte, 1);
    return rc == 0 ? 7 : 0;
}

TEST(of_many_that_want_a_stale_socket_at_once_one_has_it)
{
    enum { CROWD = 16 };
    int go[2], done[2], status, won = 0;

    make_dir();
    CHECK_EQ(open_path(&first), 0);
    close(first.fd); /* its server has died */
    CHECK(pipe(go) == 0 && pipe(done) == 0);
    for (int i = 0; i < CROWD; i++) {
        if (fork() == 0) {
            close(go[1]);
            _exit(try_path(go[0], done));
        }
    }
    close(go[0]);
    close(go[1]);
    close(done[0]);
    close(done[1]);
    for (int i = 0; i < CROWD; i++) {
        CHECK(wait(&status) > 0);
        won += WIFEXITED(status) && WEXITSTATUS(status) == 7;
    }
    CHECK_EQ(won, 1);
    CHECK_EQ(unlink(path), 0);
    CHECK_EQ(rmdir(dir), 0);
}

TEST(the_file_of_a_socket_has_the_mode_that_is_wanted)
{
    const pws_listener_options options = {
        .backlog = 16, .umask = 027, .uid = getuid(), .gid = getgid()};
    char text[128];
    pws_address address;
    struct stat st;

    make_dir();
    snprintf(text, sizeof(text), "unix:%s", path);
    CHECK_EQ(pws_address_parse(&address, text, why, sizeof(why)), 0);
    CHECK_EQ(pws_listener_open(&first, &address, &options, why, sizeof(why)), 0);
    CHECK(stat(path, &st) == 0 && (st.st_mode & 0777) == 0750);
    pws_listener_close(&first);
    CHECK_EQ(rmdir(dir), 0);
}

TEST(a_file_that_is_no_socket_is_left_alone)
{
    int fd;

    make_dir();
    fd = open(path, O_CREAT | O_WRONLY, 0600);
    CHECK_EQ(open_path(&first), -1);
    CHECK(strstr(why, "not a socket") != NULL);
    CHECK_EQ(access(path, F_OK), 0);
    close(fd);
    unlink(path);
    CHECK_EQ(rmdir(dir), 0);
}

TEST(a_folder_that_is_not_there_is_refused)
{
    snprintf(path, sizeof(path), "/nonexistent/socket");
    CHECK_EQ(open_path(&first), -1);
    CHECK(strlen(why) > 6);
}

TEST(an_inherited_descriptor_is_adopted)
{
    char text[32];
    int fd, flags;

    CHECK_EQ(open_text(&first, "127.0.0.1:0"), 0);
    fd = dup(first.fd);
    flags = fcntl(fd, F_GETFL);
    CHECK_EQ(fcntl(fd, F_SETFL, flags & ~O_NONBLOCK), 0);
    snprintf(text, sizeof(text), "fd://%d", fd);
    CHECK_EQ(open_text(&second, text), 0);
    CHECK_EQ(second.fd, fd);
    CHECK_EQ(second.address.sa.v4.sin_port, first.address.sa.v4.sin_port);
    CHECK((fcntl(fd, F_GETFL) & O_NONBLOCK) != 0);
    CHECK((fcntl(fd, F_GETFD) & FD_CLOEXEC) != 0);
    pws_listener_close(&first);
    CHECK(answers(&second.address));
    pws_listener_close(&second);
}

TEST(an_inherited_unix_socket_keeps_its_file)
{
    char text[32];

    make_dir();
    CHECK_EQ(open_path(&first), 0);
    snprintf(text, sizeof(text), "fd://%d", dup(first.fd));
    CHECK_EQ(open_text(&second, text), 0);
    pws_listener_close(&second);
    CHECK_EQ(access(path, F_OK), 0);
    pws_listener_close(&first);
    CHECK_EQ(rmdir(dir), 0);
}

TEST(an_inherited_socket_may_not_listen_yet)
{
    const struct sockaddr_in any = {.sin_family = AF_INET};
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    char text[32];

    CHECK_EQ(bind(fd, (const struct sockaddr *)&any, sizeof(any)), 0);
    snprintf(text, sizeof(text), "fd://%d", fd);
    CHECK_EQ(open_text(&first, text), 0);
    CHECK(flag(fd, SOL_SOCKET, SO_ACCEPTCONN) != 0);
    pws_listener_close(&first);
}

TEST(what_cannot_listen_is_not_adopted)
{
    int ends[2];
    char text[32];

    CHECK_EQ(pipe(ends), 0);
    snprintf(text, sizeof(text), "fd://%d", ends[0]);
    CHECK_EQ(open_text(&first, text), -1);
    CHECK_EQ(open_text(&first, "fd://999999"), -1);
    CHECK_EQ(fcntl(ends[0], F_GETFD), 0); /* still its owner's */
    close(ends[0]);
    close(ends[1]);
}

/* What a server after us gets of `first`: the descriptor, and whose file it is. */
static void
pass_on(void)
{
    char text[32];

    snprintf(text, sizeof(text), "fd://%d", dup(first.fd));
    CHECK_EQ(open_text(&second, text), 0);
    pws_listener_inherit_file(&second, path, first.device, first.inode);
}

TEST(a_shared_unix_socket_goes_with_the_last_of_two_servers)
{
    for (int i = 0; i < 2; i++) {
        make_dir();
        CHECK_EQ(open_path(&first), 0);
        pass_on();
        CHECK_EQ(strcmp(second.address.sa.local.sun_path, path), 0);
        first.shared = true;
        pws_listener_close(i == 0 ? &first : &second);
        CHECK(answers(&first.address));
        pws_listener_close(i == 0 ? &second : &first);
        CHECK_EQ(access(path, F_OK), -1);
        CHECK_EQ(rmdir(dir), 0);
    }
}

TEST(a_shared_unix_socket_goes_when_both_end_at_the_same_time)
{
    make_dir();
    CHECK_EQ(open_path(&first), 0);
    pass_on();
    first.shared = true;
    pws_listener_leave(&first);
    pws_listener_leave(&second);
    CHECK_EQ(access(path, F_OK), 0);
    pws_listener_close(&first);
    pws_listener_close(&second);
    CHECK_EQ(access(path, F_OK), -1);
    CHECK_EQ(rmdir(dir), 0);
}

TEST(a_file_that_was_left_stays_when_it_is_another_one_by_now)
{
    make_dir();
    CHECK_EQ(open_path(&first), 0);
    pass_on();
    second.inode++;
    pws_listener_leave(&first);
    pws_listener_close(&second);
    CHECK_EQ(access(path, F_OK), 0);
    pws_listener_close(&first);
    CHECK_EQ(access(path, F_OK), -1);
    CHECK_EQ(rmdir(dir), 0);
}

TEST(no_file_is_inherited_with_a_tcp_socket)
{
    CHECK_EQ(open_text(&first, "127.0.0.1:0"), 0);
    pws_listener_inherit_file(&first, "/tmp", 1, 1);
    CHECK_EQ(first.inode, 0);
    CHECK(first.address.sa.v4.sin_port != 0);
    pws_listener_close(&first);
}

TEST(an_abstract_name_is_shown)
{
    static const struct sockaddr_un abstract = {AF_UNIX, "\0pywsgiserve-test-name"};
    char text[PWS_ADDRESS_ROOM], number[32];
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);

    CHECK_EQ(bind(fd, (const struct sockaddr *)&abstract,
                  offsetof(struct sockaddr_un, sun_path) + 22),
             0);
    snprintf(number, sizeof(number), "fd://%d", fd);
    CHECK_EQ(open_text(&first, number), 0);
    pws_address_format(&first.address, text, sizeof(text));
    CHECK_EQ(strcmp(text, "unix:@pywsgiserve-test-name"), 0);
    pws_listener_close(&first);
}
