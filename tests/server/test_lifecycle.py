"""Addresses to listen on, settings that are wrong, and how a server starts and ends."""

import re
import signal
import socket
import stat

import pytest

from tests.client import Truncated, eventually
from tests.process import Pipe, Server, ServerFailed

GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"


# Addresses


def test_a_port_of_the_kernels_choice_is_told(serve):
    with serve("hello", bind="127.0.0.1:0") as server, server.connect() as client:
        assert re.fullmatch(r"http://127\.0\.0\.1:[1-9]\d*", server.url)
        assert client.get().body == b"hello"


def test_ipv6_is_listened_on(serve):
    with serve("hello", bind="[::1]:0") as server, server.connect() as client:
        assert re.fullmatch(r"http://\[::1\]:[1-9]\d*", server.url)
        assert client.get().body == b"hello"


def test_a_name_is_listened_on(serve):
    with serve("hello", bind="localhost:0") as server, server.connect() as client:
        assert client.get().body == b"hello"


def test_every_address_is_listened_on(serve):
    with serve("hello", bind="0.0.0.0:0") as server:
        with server.connect(f"http://127.0.0.1:{server.port}") as client:
            assert client.get().body == b"hello"


def test_a_unix_socket_is_listened_on_and_removed(serve, short_path):
    path = short_path / "socket"
    with serve("hello", bind=f"unix:{path}") as server, server.connect() as client:
        assert server.url == f"unix:{path}"
        assert stat.S_ISSOCK(path.stat().st_mode)
        assert client.get().body == b"hello"

    assert not path.exists()


def test_a_unix_socket_left_behind_is_replaced(serve, short_path):
    path = short_path / "socket"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    with serve("hello", bind=f"unix:{path}") as server, server.connect() as client:
        assert client.get().body == b"hello"


def test_a_unix_socket_in_use_is_left_alone(serve, short_path):
    path = short_path / "socket"
    with serve("hello", bind=f"unix:{path}") as server:
        assert str(path) in refusal("hello", bind=f"unix:{path}")
        with server.connect() as client:
            assert client.get().body == b"hello"


def test_a_file_that_is_no_socket_is_left_alone(short_path):
    path = short_path / "precious"
    path.write_text("words")

    assert str(path) in refusal("hello", bind=f"unix:{path}")
    assert path.read_text() == "words"


def test_an_inherited_descriptor_is_listened_on(serve):
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        fd, port = listener.fileno(), listener.getsockname()[1]
        with serve("hello", bind=f"fd://{fd}", pass_fds=(fd,)) as server:
            assert server.url == f"http://127.0.0.1:{port}"
            with server.connect() as client:
                assert client.get().body == b"hello"


def test_an_inherited_unix_socket_is_listened_on_and_not_removed(serve, short_path):
    path = short_path / "socket"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        fd = listener.fileno()
        with serve("hello", bind=f"fd://{fd}", pass_fds=(fd,)) as server:
            with server.connect(f"unix:{path}") as client:
                assert client.get().body == b"hello"

    assert path.exists()


def test_several_addresses_are_listened_on(serve, short_path):
    bind = ["127.0.0.1:0", "[::1]:0", f"unix:{short_path}/socket"]
    with serve("hello", bind=bind) as server:
        assert len(server.addresses) == 3
        for address in server.addresses:
            with server.connect(address) as client:
                assert client.get().body == b"hello"


def test_an_address_in_use_is_an_error_that_names_it(serve):
    with serve("hello") as server:
        stderr = refusal("hello", bind=f"127.0.0.1:{server.port}")

        assert f"127.0.0.1:{server.port}" in stderr or f"{server.port}" in stderr
        assert "in use" in stderr


def test_a_port_can_be_shared_by_two_servers(serve):
    with serve("hello", reuse_port=True) as first:
        bind = f"127.0.0.1:{first.port}"
        with serve("hello", bind=bind, reuse_port=True) as second:
            assert first.port == second.port
            for _ in range(20):
                with second.connect() as client:
                    assert client.get().body == b"hello"
        with first.connect() as client:
            assert client.get().body == b"hello"


# Settings


def refusal(app, **settings):
    """The stderr of a server that must not start."""
    server = Server(app, settings)
    try:
        with pytest.raises(ServerFailed, match="is not in stderr"):
            server.wait_until_listening()
        assert server.wait() != 0
        return server.stderr
    finally:
        server.finish(killed=not server.alive())


WRONG = [
    ("bind", "127.0.0.1:port"),
    ("bind", "127.0.0.1:65536"),
    ("bind", "127.0.0.1:-1"),
    ("bind", "[::1"),
    ("bind", "fd://x"),
    ("bind", "fd://-1"),
    ("bind", "unix:"),
    ("bind", "unix:" + "x" * 200),
    ("bind", []),
    ("bind", 8000),
    ("backlog", -1),
    ("backlog", "many"),
    ("worker_connections", -1),
    ("keepalive", -1),
    ("keepalive", "x"),
    ("limit_request_line", -1),
    ("limit_request_line", "long"),
    ("limit_request_fields", -1),
    ("limit_request_fields", 1.5),
    ("limit_request_field_size", -1),
    ("limit_request_body", -1),
    ("limit_request_body", 2**70),
    ("header_timeout", -1),
    ("body_timeout", -1),
    ("send_timeout", "soon"),
    ("request_buffering", "perhaps"),
    ("body_buffer_size", -1),
    ("response_spool_limit", -1),
    ("server_header", "two\r\nlines: 1"),
    ("header_map", "perhaps"),
    ("forwarder_headers", 5),
    ("secure_scheme_headers", ["X-Forwarded-Proto"]),
    ("secure_scheme_headers", {"X-Forwarded-Proto": 1}),
    ("forwarded_allow_ips", "300.1.1.1"),
    ("forwarded_allow_ips", "127.0.0.1/33"),
    ("forwarded_allow_ips", "localhost"),
    ("no_such_setting", 1),
]


@pytest.mark.one_process
@pytest.mark.parametrize(("name", "value"), WRONG)
def test_a_wrong_setting_is_an_error_that_names_it_and_its_value(name, value):
    stderr = refusal("hello", **{name: value})

    error = re.search(r"^(pywsgiserve\.)?(\w+\.)*ConfigError: (.*)", stderr, re.M)
    assert error, stderr
    assert name in error[3]
    if value not in ("", []) and name != "no_such_setting":
        shown = next(iter(value.values())) if isinstance(value, dict) else value
        assert str(shown)[:20] in error[3] or repr(shown)[1:20] in error[3]


def test_a_descriptor_that_is_no_listening_socket_is_refused(tmp_path):
    with open(tmp_path / "file", "w") as file:
        server = Server(
            "hello", {"bind": f"fd://{file.fileno()}"}, pass_fds=(file.fileno(),)
        )
        code = server.wait()
        server.finish(killed=True)

    assert code != 0
    assert "fd://" in server.stderr


# Ends


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_server_and_run_returns(serve, signum):
    with serve("hello", killed=True) as server, server.connect() as client:
        client.get()

        assert server.stop(signum) == 0
        assert client.closed()
        assert "Traceback" not in server.stderr


@pytest.mark.contract
@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
def test_idle_connections_do_not_hold_up_the_end(serve, signum):
    with serve("hello", keepalive=3600, header_timeout=3600, killed=True) as server:
        clients = [server.connect() for _ in range(20)]
        for client in clients[:10]:
            client.get()
        code = server.stop(signum)

        assert code == 0
        assert all(client.gone() for client in clients)
        for client in clients:
            client.close()


def test_a_request_underway_is_answered_before_the_end(serve, short_path):
    pipe, here = Pipe(short_path / "pipe"), Pipe(short_path / "pipe.here")
    with serve("answers:waits_first", killed=True) as server:
        with server.connect() as client:
            client.send(f"GET /?{pipe} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
            assert here.read() == "in the app\n"
            server.process.send_signal(signal.SIGTERM)
            pipe.write("done\n")
            answer = client.response()

            assert answer.body == b"done\n"
            assert client.closed()
        assert server.wait() == 0


@pytest.mark.one_process
def test_an_answer_that_begins_after_the_signal_says_close(serve, short_path):
    pipe, here = Pipe(short_path / "pipe"), Pipe(short_path / "pipe.here")
    with serve("answers:waits_first", killed=True) as server:
        with server.connect() as client:
            client.send(f"GET /?{pipe} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
            assert here.read() == "in the app\n"
            server.process.send_signal(signal.SIGTERM)
            server.wait_for_term()
            pipe.write("done\n")

            assert client.response().says_close
        assert server.wait() == 0


@pytest.mark.contract
@pytest.mark.one_process
def test_what_was_pipelined_before_the_signal_is_answered(serve, short_path):
    """RFC 9112 9.6: only the last answer says close, and none is missing before it."""
    pipe, here = Pipe(short_path / "pipe"), Pipe(short_path / "pipe.here")
    request = f"GET /?{pipe} HTTP/1.1\r\nHost: x\r\n\r\n".encode()
    with serve("answers:waits_first", killed=True) as server:
        with server.connect() as client:
            client.send(2 * request)
            assert here.read() == "in the app\n"
            server.process.send_signal(signal.SIGTERM)
            server.wait_for_term()
            pipe.write("done\n")
            assert not client.response().says_close
            assert here.read() == "in the app\n"
            pipe.write("done again\n")
            last = client.response()

            assert last.body == b"done again\n"
            assert last.says_close
            assert client.closed()
        assert server.wait() == 0


def test_new_clients_are_refused_while_the_last_are_served(serve):
    with serve("slow_readers", killed=True) as server:
        with server.connect(receive_buffer=4096) as client:
            client.send(b"GET /shared HTTP/1.1\r\nHost: x\r\n\r\n")
            client.head()
            server.process.send_signal(signal.SIGTERM)
            server.wait_for("Handling signal: term")
            eventually(lambda: refuses(server), "the listener is closed")

            assert len(client.exactly(10_000_000)) == 10_000_000
        assert server.wait() == 0


def refuses(server):
    try:
        server.connect().close()
    except ConnectionRefusedError:
        return True
    except ConnectionResetError:
        pass  # The listener was closed between this connection's SYN and its ACK.
    return False


def test_a_client_that_the_app_waits_for_does_not_hold_up_a_quick_end(serve):
    with serve("slow_readers", response_spool_limit=0, killed=True) as server:
        with server.connect(receive_buffer=4096) as client:
            client.send(b"GET /pieces HTTP/1.1\r\nHost: x\r\n\r\n")
            client.head()

            assert server.stop(signal.SIGINT) == 0


def test_a_client_that_the_app_waits_for_has_the_graceful_timeout(serve):
    settings = {"response_spool_limit": 0, "send_timeout": 600, "graceful_timeout": 1}
    with serve("slow_readers", killed=True, **settings) as server:
        with server.connect(receive_buffer=4096) as client:
            client.send(b"GET /pieces HTTP/1.1\r\nHost: x\r\n\r\n")
            client.head()

            assert server.stop(signal.SIGTERM) == 0


@pytest.mark.contract
def test_a_slow_reader_gets_its_whole_answer_before_the_end(serve):
    with serve("slow_readers", killed=True) as server:
        with server.connect(receive_buffer=4096) as client:
            client.send(b"GET /shared HTTP/1.1\r\nHost: x\r\n\r\n")
            client.head()
            server.process.send_signal(signal.SIGTERM)

            assert len(client.exactly(10_000_000)) == 10_000_000
            assert client.closed()
        assert server.wait() == 0


def test_a_request_that_was_sent_before_the_end_is_not_lost(serve):
    """What the kernel has accepted for us is ours to answer."""
    with serve("hello", killed=True) as server:
        clients = [server.connect() for _ in range(50)]
        for client in clients:
            client.send(GET)
        code = server.stop()
        answers = []
        for client in clients:
            with client:
                try:
                    answers.append(client.response().status)
                except Truncated as error:
                    answers.append(str(error))

        assert code == 0
        assert answers == [200] * 50


def test_a_second_signal_while_one_is_obeyed_is_harmless(serve):
    """After the last answer the process ends, and signals are its program's again."""
    with serve("slow_readers", killed=True) as server:
        with server.connect(receive_buffer=4096) as client:
            client.send(b"GET /shared HTTP/1.1\r\nHost: x\r\n\r\n")
            client.head()
            for _ in range(5):
                server.process.send_signal(signal.SIGTERM)

            assert len(client.exactly(10_000_000)) == 10_000_000
            assert client.closed()
        assert server.wait() == 0


def test_a_server_can_start_again_on_the_same_port_at_once(serve):
    """Connections of the first one in TIME_WAIT must not stand in the way."""
    with serve("hello") as server:
        with server.connect() as client:
            client.get("/", "Connection: close")
            assert client.closed()
        port = server.port
    with serve("hello", bind=f"127.0.0.1:{port}") as server:
        with server.connect() as client:
            assert client.get().status == 200


def test_a_signal_of_no_meaning_is_survived(serve):
    with serve("hello") as server, server.connect() as client:
        server.process.send_signal(signal.SIGPIPE)
        server.process.send_signal(signal.SIGWINCH)

        assert client.get().status == 200


def test_a_signal_right_behind_other_events_is_obeyed(serve):
    """Its wake-up must not get lost between two looks at the connections."""
    for crowd in range(2, 14):
        with serve("hello") as server:
            clients = [server.connect() for _ in range(crowd)]
            for client in clients:
                client.get()
            for client in clients:
                client.close()
