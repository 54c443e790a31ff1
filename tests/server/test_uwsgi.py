"""The uwsgi protocol, spoken by a client of our own."""

import os
import re
import socket
import stat
import struct

import pytest

from tests import uwsgi_client as uwsgi
from tests.client import Client, Truncated, splits
from tests.process import WORKER_CLASS, WORKERS, Pipe

PING = b"\x64\x00\x00\x00"
PONG = b"\x64\x00\x00\x01"


@pytest.fixture
def ask(standing):
    """ask(app, request bytes, **settings): the answer, on a connection of its own."""

    def asked(app, data, method="GET", **settings):
        server = standing(app, protocol="uwsgi", **settings)
        with server.connect() as client:
            client.send(data)
            answer = client.response(method)
            assert client.gone()
            return answer

    return asked


def environ_of(answer):
    return answer.json()["environ"]


def test_the_address_says_what_is_spoken(standing):
    assert standing("hello", protocol="uwsgi").url.startswith("uwsgi://127.0.0.1:")


@pytest.mark.contract
def test_the_environ_is_what_the_front_end_says(ask):
    sent = uwsgi.variables(
        "/a%20b?q=1", HTTP_X_Y="z", MY_PARAM="caf\xe9", EMPTY_PARAM="",
        HTTP_CONTENT_TYPE="a/b", HTTP_CONTENT_LENGTH="0", PATH_INFO="/a b",
    )  # fmt: skip
    environ = environ_of(ask("environ", uwsgi.packet(sent)))

    assert {name: environ.get(name) for name in sent} == sent
    expected = {
        "RAW_URI": "/a%20b?q=1",
        "SCRIPT_NAME": "",
        "wsgi.version": [1, 0],
        "wsgi.url_scheme": "http",
        "wsgi.multithread": WORKER_CLASS != "" and environ["wsgi.multithread"],
        "wsgi.multiprocess": WORKERS > 1,
        "wsgi.run_once": False,
        "wsgi.input_terminated": True,
    }
    assert {name: environ.get(name) for name in expected} == expected
    assert environ["SERVER_SOFTWARE"].startswith("pywsgiserve")
    for name in ("wsgi.input", "wsgi.errors", "wsgi.file_wrapper", "gunicorn.socket"):
        assert environ[name].startswith("<")
    assert set(environ) == {*sent, *expected, "SERVER_SOFTWARE", "wsgi.input",
                            "wsgi.errors", "wsgi.file_wrapper", "wsgi.early_hints",
                            "gunicorn.socket"}  # fmt: skip


def test_variables_may_come_in_any_two_pieces(standing):
    server = standing("echo", protocol="uwsgi")
    data = uwsgi.packet({"REQUEST_METHOD": "POST", "CONTENT_LENGTH": "2",
                         "REQUEST_URI": "/x"}) + b"ab"  # fmt: skip
    for first, second in splits(data):
        with server.connect() as client:
            client.send(first)
            client.send(second)
            assert client.response().body == b"ab"


@pytest.mark.contract
def test_variables_may_come_byte_by_byte(standing):
    with standing("echo", protocol="uwsgi").connect() as client:
        client.send_each_byte(uwsgi.request("/x", "POST", b"body"))

        assert client.response().body == b"body"


def test_what_is_missing_is_made_up(standing):
    """PEP 3333 wants SERVER_NAME and SERVER_PORT, and they may not be empty."""
    server = standing("environ", protocol="uwsgi")
    with server.connect() as client:
        port = client.socket.getsockname()[1]
        client.send(uwsgi.packet({"REQUEST_METHOD": "GET", "SERVER_NAME": ""}))
        environ = environ_of(client.response())

    expected = {
        "SERVER_NAME": "127.0.0.1",
        "SERVER_PORT": str(server.port),
        "SERVER_PROTOCOL": "HTTP/1.0",
        "REMOTE_ADDR": "127.0.0.1",
        "REMOTE_PORT": str(port),
        "PATH_INFO": "",
        "QUERY_STRING": "",
        "SCRIPT_NAME": "",
    }
    assert {name: environ.get(name) for name in expected} == expected


def test_a_port_without_an_address_is_not_the_clients(standing):
    """Beside the front end's address it would name a connection that never was."""
    server = standing("environ", protocol="uwsgi")
    with server.connect() as client:
        port = client.socket.getsockname()[1]
        client.send(uwsgi.packet({"REQUEST_METHOD": "GET", "REMOTE_PORT": "4711"}))
        environ = environ_of(client.response())

    assert environ["REMOTE_ADDR"] == "127.0.0.1"
    assert environ["REMOTE_PORT"] == str(port)


def test_a_target_is_made_of_its_parts(ask):
    sent = {"REQUEST_METHOD": "GET", "SCRIPT_NAME": "/app", "PATH_INFO": "/a b%?\xe9",
            "QUERY_STRING": "c=d"}  # fmt: skip
    environ = environ_of(ask("environ", uwsgi.packet(sent)))

    assert environ["REQUEST_URI"] == "/app/a%20b%25%3F%E9?c=d"
    assert environ["RAW_URI"] == environ["REQUEST_URI"]


def test_a_path_is_made_of_the_target(ask):
    sent = {"REQUEST_METHOD": "GET", "REQUEST_URI": "/a%20b?c=d"}
    environ = environ_of(ask("environ", uwsgi.packet(sent)))

    assert environ["PATH_INFO"] == "/a b"
    assert environ["QUERY_STRING"] == "c=d"


@pytest.mark.parametrize("uri", [{}, {"REQUEST_URI": ""}])
@pytest.mark.parametrize(
    ("more", "target"),
    [({"SCRIPT_NAME": "/app"}, "/app"), ({"QUERY_STRING": "c=d"}, "?c=d")],
)
def test_a_target_that_is_made_up_is_not_the_path(ask, uri, more, target):
    data = uwsgi.packet({"REQUEST_METHOD": "GET", **uri, **more})
    environ = environ_of(ask("environ", data))

    assert environ["PATH_INFO"] == ""
    assert environ["REQUEST_URI"] == target


def test_a_rewritten_path_as_long_as_the_target_is_kept(ask):
    environ = environ_of(ask("environ", uwsgi.request("/abc", PATH_INFO="/xyz")))

    assert environ["PATH_INFO"] == "/xyz"
    assert environ["REQUEST_URI"] == "/abc"


def test_the_last_of_two_values_counts(ask):
    pairs = [("REQUEST_METHOD", "GET"), ("HTTP_X_UNKNOWN", "1"), ("PARAM", "1"),
             ("HTTP_COOKIE", "a=1"), ("HTTP_X_UNKNOWN", "2"), ("PARAM", "2"),
             ("HTTP_COOKIE", "a=2"), ("PATH_INFO", "/1"),
             ("PATH_INFO", "/2")]  # fmt: skip
    environ = environ_of(ask("environ", uwsgi.packet(pairs)))

    names = ("HTTP_X_UNKNOWN", "PARAM", "HTTP_COOKIE", "PATH_INFO")
    assert [environ[name] for name in names] == ["2", "2", "a=2", "/2"]


@pytest.mark.parametrize(
    ("modifier1", "script_name", "path", "left"),
    [
        (0, "/app", "/app/x", "/app/x"),
        (0, "/app", "/x", "/x"),
        (30, "/app", "/app/x", "/x"),
        (30, "/app", "/app", ""),
        (30, "/app", "/application", "/application"),
    ],
)
def test_script_name_is_the_front_ends(ask, modifier1, script_name, path, left):
    data = uwsgi.request(path, modifier1=modifier1, SCRIPT_NAME=script_name)
    environ = environ_of(ask("environ", data))

    assert environ["SCRIPT_NAME"] == script_name
    assert environ["PATH_INFO"] == left


def test_an_empty_script_name_wins_over_the_servers(serve):
    with serve("environ", protocol="uwsgi", env={"SCRIPT_NAME": "/ours"}) as server:
        with server.connect() as client:
            client.send(uwsgi.request("/x", SCRIPT_NAME=""))
            environ = environ_of(client.response())
        assert (environ["SCRIPT_NAME"], environ["PATH_INFO"]) == ("", "/x")
        with server.connect() as client:
            client.send(uwsgi.request("/ours/x"))
            environ = environ_of(client.response())
        assert (environ["SCRIPT_NAME"], environ["PATH_INFO"]) == ("/ours", "/x")


@pytest.mark.parametrize(
    ("more", "scheme"),
    [
        ({}, "http"),
        ({"REQUEST_SCHEME": "https"}, "https"),
        ({"HTTPS": "on"}, "https"),
        ({"HTTPS": "off", "REQUEST_SCHEME": "https"}, "http"),
        ({"HTTPS": "on", "UWSGI_SCHEME": "http"}, "http"),
        ({"UWSGI_SCHEME": "https"}, "https"),
        ({"HTTP_X_FORWARDED_PROTO": "https"}, "http"),
        ({"HTTP_X_FORWARDED_PROTO": "https", "REQUEST_SCHEME": ""}, "https"),
    ],
)
def test_the_scheme_is_the_front_ends(ask, more, scheme):
    environ = environ_of(ask("environ", uwsgi.request(**more)))

    assert environ["wsgi.url_scheme"] == scheme


def test_a_forwarded_coding_is_not_for_the_app(ask):
    data = uwsgi.request("/", "POST", b"abc", HTTP_TRANSFER_ENCODING="chunked")
    environ = environ_of(ask("environ", data))

    assert "HTTP_TRANSFER_ENCODING" not in environ
    assert environ["CONTENT_LENGTH"] == "3"


@pytest.mark.contract
def test_chunks_are_decoded_where_there_is_no_length(ask):
    sent = {"REQUEST_METHOD": "POST", "HTTP_TRANSFER_ENCODING": "chunked"}
    answer = ask("echo", uwsgi.packet(sent) + b"3\r\nabc\r\n0\r\n\r\n")

    assert answer.body == b"abc"


def test_objects_of_the_server_cannot_be_replaced(ask):
    sent = {"REQUEST_METHOD": "GET", "wsgi.input": "x", "gunicorn.socket": "x",
            "SERVER_SOFTWARE": "x", "RAW_URI": "x"}  # fmt: skip
    environ = environ_of(ask("environ", uwsgi.packet(sent)))

    assert environ["wsgi.input"] != "x"
    assert environ["gunicorn.socket"] != "x"
    assert environ["SERVER_SOFTWARE"].startswith("pywsgiserve")
    assert environ["RAW_URI"] == ""


def test_variables_that_load_code_do_nothing_but_get_a_line(serve):
    with serve("environ", protocol="uwsgi") as server:
        for name in ("UWSGI_FILE", "UWSGI_CHDIR", "UWSGI_FILE"):
            with server.connect() as client:
                client.send(uwsgi.request(**{name: "exec://false"}))
                assert environ_of(client.response())[name] == "exec://false"
        server.wait_for(r"The uwsgi variable UWSGI_FILE has come")
    assert server.stderr.count("The uwsgi variable") == 1


# Bodies


@pytest.mark.contract
@pytest.mark.parametrize("size", [0, 1, 70_000, 3_000_000])
def test_a_body_is_received(ask, size):
    body = os.urandom(size)

    assert ask("echo", uwsgi.request("/", "POST", body)).body == body


@pytest.mark.parametrize("length", ["x", "-1", "+1", "1,1", "1 ", "9" * 20])
def test_a_length_is_digits(ask, length):
    data = uwsgi.packet({"REQUEST_METHOD": "POST", "CONTENT_LENGTH": length})

    assert ask("hello", data).status == 400


@pytest.mark.contract
@pytest.mark.parametrize("sent", [b"", b"1234"])
def test_a_short_body_is_a_400(standing, sent):
    server = standing("echo", protocol="uwsgi")
    with server.connect() as client:
        client.send(uwsgi.packet(uwsgi.variables("/", "POST", b"12345")) + sent)
        client.half_close()

        assert client.response().status == 400


def test_a_large_body_is_a_413(ask):
    data = uwsgi.request("/", "POST", b"x" * 11)

    assert ask("echo", data, limit_request_body=10).status == 413


def test_an_unread_body_does_not_reset_the_answer(standing):
    """uWSGI closes with bytes unread, and nginx makes a 502 of the reset."""
    server = standing("hello", protocol="uwsgi", request_buffering=False)
    with server.connect() as client:
        client.send(uwsgi.request("/", "POST", b"x" * 300_000))

        assert client.response().status == 200


def test_a_streamed_body_is_read_as_it_comes(standing):
    server = standing("echo:streaming", protocol="uwsgi", request_buffering=False)
    with server.connect() as client:
        client.send(uwsgi.packet(uwsgi.variables("/", "POST", b"0123456789")))
        client.send(b"01234")
        assert client.head().status == 200
        assert client.exactly(5) == b"01234"
        client.send(b"56789")
        assert client.to_end() == b"56789"


# Responses


def test_a_response_of_unknown_length_ends_with_the_connection(ask):
    """nginx does not decode chunks from uwsgi."""
    answer = ask("answers:generator", uwsgi.request())

    assert answer.framing == "close"
    assert answer.version == "1.1"
    assert answer.body == b"a few pieces"


def test_a_known_length_is_said(ask):
    answer = ask("answers:one_item", uwsgi.request())

    assert answer["Content-Length"] == "8"
    assert "Date" in answer
    assert "Server" in answer


def test_head_has_no_body(ask):
    answer = ask("answers:declared", uwsgi.request(method="HEAD"), method="HEAD")

    assert answer["Content-Length"] == "10"


def test_a_body_cut_short_is_told_by_a_reset(standing):
    with standing("failing", protocol="uwsgi").connect() as client:
        client.send(uwsgi.request("/after_a_piece"))

        with pytest.raises(Truncated):
            client.response()


@pytest.mark.contract
def test_one_request_a_connection(standing):
    with standing("hello", protocol="uwsgi").connect() as client:
        client.send(uwsgi.request() + uwsgi.request())
        answer = client.response()

        assert answer.status == 200
        assert answer.says_close
        assert client.closed()


def test_nobody_is_asked_to_continue(standing):
    server = standing("echo", protocol="uwsgi")
    with server.connect() as client:
        client.send(uwsgi.packet(uwsgi.variables("/", "POST", b"abc",
                                                 HTTP_EXPECT="100-continue")))  # fmt: skip
        client.send(b"abc")

        assert client.response().status == 200


def test_early_hints_are_left_out(ask):
    """nginx would take a 103 for the response."""
    assert ask("hints", uwsgi.request("/one")).status == 200


def test_a_large_head_gets_a_line_with_advice(serve):
    with serve("answers:many_fields", protocol="uwsgi") as server:
        for _ in range(3):
            with server.connect() as client:
                client.send(uwsgi.request())
                assert client.response().status == 200
        server.wait_for(r"A response head of \d+ bytes by uwsgi: .*uwsgi_buffer_size")
    assert server.stderr.count("A response head of") == 1


# What is no request


@pytest.mark.parametrize(
    ("data", "status", "reason"),
    [
        (b"\x00\x00\x00\x00", 400, "no REQUEST_METHOD in the uwsgi variables"),
        (b"\x00\x01\x00\x00x", 400, "name of a uwsgi variable beyond its block"),
        (b"\x00\x05\x00\x00\x01\x00A\xff\xff", 400, "value of a uwsgi variable beyond"),
        (b"\x00\x04\x00\x00\x00\x00\x00\x00", 400, "malformed name of a uwsgi variab"),
        (b"\x16\x00\x00\x00", 501, "uwsgi modifier1 other than 0, 30 and 100"),
        (b"\xad\x00\x00\x00", 501, "uwsgi modifier1 other than 0, 30 and 100"),
        (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", 400, "HTTP spoken to a uwsgi socket"),
        (b"\x16\x03\x01\x02\x00\x01", 400, "TLS spoken to a uwsgi socket"),
    ],
)
def test_a_packet_that_is_none_is_refused_and_logged(serve, data, status, reason):
    with serve("hello", protocol="uwsgi") as server, server.connect() as client:
        client.send(data)

        assert client.response().status == status
        server.wait_for(rf"Invalid request from ip=127\.0\.0\.1: {re.escape(reason)}")


def test_nothing_forges_a_line_of_the_error_log(serve):
    forged = "/x\n[2026-01-31 12:00:00 +0000] [1] [INFO] forged\0\x1b[2J"
    with serve("failing", protocol="uwsgi") as server:
        for uri in ("/at_once", "/after_a_piece"):
            with server.connect() as client:
                client.send(uwsgi.request(forged, PATH_INFO=uri))
                client.gone()
        server.wait_for(
            r"Error handling request GET /x\\x0a\[2026.*forged\\x00\\x1b\[2J"
        )
    assert "\n[2026-01-31" not in server.stderr


@pytest.mark.parametrize("length", [1, 4, 20])
def test_a_packet_that_ends_early_is_a_400(serve, length):
    with serve("hello", protocol="uwsgi") as server, server.connect() as client:
        client.send(uwsgi.request()[:length])
        client.half_close()

        assert client.response().status == 400
        server.wait_for(r"Invalid request from ip=127\.0\.0\.1: the packet is shorter")


@pytest.mark.parametrize(("count", "status"), [(1000, 200), (1001, 431)])
def test_a_thousand_variables_are_taken(ask, count, status):
    names = {f"HTTP_N{n}": "" for n in range(count - 1)}

    assert (
        ask("hello", uwsgi.packet({"REQUEST_METHOD": "GET", **names})).status == status
    )


def test_more_are_taken_where_fields_may_be_more(ask):
    names = {f"HTTP_N{n}": "" for n in range(1999)}
    data = uwsgi.packet({"REQUEST_METHOD": "GET", **names})

    assert ask("hello", data, limit_request_fields=2000).status == 200


def test_a_block_of_65535_bytes_is_taken(ask):
    sent = {"REQUEST_METHOD": "POST", "CONTENT_LENGTH": "3"}
    room = 65535 + 4 - len(uwsgi.packet(sent)) - len("HTTP_X") - 4
    data = uwsgi.packet({**sent, "HTTP_X": "v" * room})
    assert data[:4] == b"\x00\xff\xff\x00"

    assert ask("echo", data + b"abc").body == b"abc"


def test_a_ping_is_answered(standing):
    with standing("hello", protocol="uwsgi").connect() as client:
        client.send(PING)

        assert client.to_end() == PONG


@pytest.mark.contract
def test_a_packet_that_does_not_come_is_a_408(standing):
    server = standing("hello", protocol="uwsgi", header_timeout=0.2)
    with server.connect() as client:
        client.send(b"\x00\x50\x00\x00\x0e\x00REQUEST")

        assert client.response().status == 408


@pytest.mark.contract
def test_a_client_that_goes_away_hurts_nobody(standing):
    server = standing("hello", protocol="uwsgi")
    whole = uwsgi.request("/", "POST", b"body")
    for length in (0, 2, 4, 30, len(whole) - 2, len(whole)):
        client = server.connect()
        client.send(whole[:length])
        client.abort()
    with server.connect() as client:
        client.send(uwsgi.request())
        assert client.response().status == 200


# Who may


def test_others_get_a_403_and_a_line(serve):
    with serve("hello", protocol="uwsgi", uwsgi_allow_ips="192.0.2.0/24,::1") as server:
        with server.connect() as client:
            assert client.response().status == 403
        with server.connect() as client:
            client.send(uwsgi.request())
            assert client.response().status == 403
        server.wait_for(r"ip=127\.0\.0\.1: it may not speak uwsgi to us, see uwsgi_all")


@pytest.mark.parametrize("allowed", ["127.0.0.0/8", "*", "10.0.0.0/8,127.0.0.1"])
def test_networks_may_be_admitted(ask, allowed):
    assert ask("hello", uwsgi.request(), uwsgi_allow_ips=allowed).status == 200


@pytest.mark.parametrize(
    ("allowed", "status"),
    [("127.0.0.0/30", 200), ("::ffff:127.0.0.0/126", 200), ("::1,10.0.0.0/8", 403)],
)
def test_an_ipv4_peer_of_an_ipv6_socket_is_one(serve, allowed, status):
    with serve("hello", uwsgi_bind="[::]:0", uwsgi_allow_ips=allowed) as server:
        port = server.addresses[-1].rpartition(":")[2]
        with Client(socket.create_connection(("127.0.0.1", int(port)))) as client:
            client.send(uwsgi.request())
            assert client.response().status == status


@pytest.mark.parametrize(
    ("allowed", "status"), [("::/64", 200), ("::1", 200), ("::2,127.0.0.0/8", 403)]
)
def test_networks_of_ipv6_may_be_admitted(serve, allowed, status):
    with serve("hello", uwsgi_bind="[::1]:0", uwsgi_allow_ips=allowed) as server:
        with server.connect(server.addresses[-1]) as client:
            client.send(uwsgi.request())
            assert client.response().status == status


def test_unix_peers_are_always_admitted(serve, short_path):
    where = f"unix:{short_path}/sock"
    with serve("environ", uwsgi_bind=where, uwsgi_allow_ips="192.0.2.1") as server:
        assert server.addresses[1:] == [f"uwsgi://{where}"]
        with server.connect(server.addresses[1]) as client:
            client.send(uwsgi.request("/x"))
            environ = environ_of(client.response())

    assert environ["REMOTE_ADDR"] == "192.0.2.7"
    assert environ["SERVER_NAME"] == "front.example"


def test_a_unix_socket_makes_names_up_too(serve, short_path):
    with serve("environ", uwsgi_bind=f"unix:{short_path}/sock") as server:
        with server.connect(server.addresses[1]) as client:
            sent = {"REQUEST_METHOD": "GET", "HTTP_HOST": "site.example:81"}
            client.send(uwsgi.packet(sent))
            environ = environ_of(client.response())

    assert environ["SERVER_NAME"] == "site.example"
    assert environ["SERVER_PORT"] == "81"
    assert environ["REMOTE_ADDR"] == ""


# Listeners


def test_http_and_uwsgi_are_spoken_side_by_side(serve):
    with serve("hello", bind="127.0.0.1:0", uwsgi_bind="127.0.0.1:0") as server:
        http, other = server.addresses
        assert http.startswith("http://127.0.0.1:")
        assert other.startswith("uwsgi://127.0.0.1:")
        with server.connect(http) as client:
            assert client.get().status == 200
        with server.connect(other) as client:
            client.send(uwsgi.request())
            assert client.response().status == 200
        with server.connect(http) as client:
            client.send(uwsgi.request())
            assert client.response().status == 400
        server.wait_for("uwsgi spoken to an HTTP socket")


def test_a_ping_to_an_http_socket_is_told_so(serve):
    """It has no end of a line that could be waited for."""
    with serve("hello") as server, server.connect() as client:
        client.send(PING)

        assert client.response().status == 400
        server.wait_for(r"ip=127\.0\.0\.1: uwsgi spoken to an HTTP socket")


def test_uwsgi_is_spoken_over_ipv6(serve):
    with serve("hello", uwsgi_bind="[::1]:0") as server:
        with server.connect(server.addresses[-1]) as client:
            client.send(uwsgi.request())
            assert client.response().status == 200


def test_an_inherited_socket_can_speak_uwsgi(serve):
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        with serve(
            "hello", uwsgi_bind=f"fd://{listener.fileno()}",
            pass_fds=(listener.fileno(),),
        ) as server:  # fmt: skip
            with server.connect(server.addresses[-1]) as client:
                client.send(uwsgi.request())
                assert client.response().status == 200


def test_the_rights_of_a_socket_file_can_be_chosen(serve, short_path):
    http, front = short_path / "http", short_path / "front"
    settings = {"socket_mode": 0o640, "umask": 0o077}
    if os.geteuid() == 0:
        settings |= {"socket_user": 12, "socket_group": 34}
    with serve(
        "hello", bind=f"unix:{http}", uwsgi_bind=[f"unix:{front}"], **settings
    ) as server:
        for path in (http, front):
            found = path.stat()
            assert stat.S_IMODE(found.st_mode) == 0o640
            assert found.st_uid == settings.get("socket_user", os.geteuid())
            assert found.st_gid == settings.get("socket_group", os.getegid())
        with server.connect(f"unix:{http}") as client:
            assert client.get().status == 200


def test_rights_without_a_socket_file_are_named(serve):
    with serve("hello", socket_mode=0o600) as server:
        server.wait_for("socket_mode: no Unix socket is made, it has no effect")
        assert "socket_user" not in server.stderr


# The log


def test_the_access_log_knows_the_client(serve, tmp_path):
    log = tmp_path / "access"
    settings = {
        "accesslog": str(log),
        "access_log_format": "%(h)s %(m)s %(U)s %(q)s %(H)s %(s)s %(B)s "
        "%({x-y}i)s %({document-root}i)s %(u)s | %(r)s",
    }
    with serve("hello", protocol="uwsgi", **settings) as server:
        more = {"PATH_INFO": "/a%b", "SERVER_PROTOCOL": "HTTP/2.0", "HTTP_X_Y": "z",
                "HTTP_AUTHORIZATION": "Basic bWU6cHc="}  # fmt: skip
        for data in (
            uwsgi.request("/a%25b?q=1", **more),
            uwsgi.packet({"REQUEST_METHOD": "GET", "PATH_INFO": "/x",
                          "QUERY_STRING": "y", "SCRIPT_NAME": "/s"}),
            b"\x00\x00\x00\x00",
        ):  # fmt: skip
            with server.connect() as client:
                client.send(data)
                size = len(client.response().body)
    lines = log.read_text().splitlines()  # Workers write theirs in any order.
    [refused] = [line for line in lines if line.endswith("| -")]

    assert sorted(lines) == sorted(
        [
            "192.0.2.7 GET /a%b q=1 HTTP/2.0 200 5 z - me | GET /a%25b?q=1 HTTP/2.0",
            "127.0.0.1 GET /x y HTTP/1.0 200 5 - - - | GET /s/x?y HTTP/1.0",
            refused,
        ]
    )
    assert refused.startswith("127.0.0.1 - ")
    assert f" 400 {size} " in refused


# Life


@pytest.mark.contract
def test_a_stop_waits_for_a_request_by_uwsgi(serve, tmp_path):
    pipe = Pipe(tmp_path / "pipe")
    here = Pipe(tmp_path / "pipe.here")
    with serve("answers:waits_first", protocol="uwsgi", killed=True) as server:
        with server.connect() as client:
            client.send(uwsgi.request(f"/?{pipe}"))
            here.read()
            server.process.terminate()
            server.wait_for("Handling signal: term")
            pipe.write("done\n")

            assert client.response().body == b"done\n"
        assert server.wait() == 0


@pytest.mark.contract
def test_a_client_that_is_slow_is_waited_for_as_by_http(standing):
    server = standing("answers:large", protocol="uwsgi")
    with server.connect(receive_buffer=4096) as client:
        client.send(uwsgi.request())
        answer = client.response()

        assert len(answer.body) == 50_000_000


def test_the_packet_of_the_tests_is_nginxs():
    """A number of bytes that nginx would send, written out."""
    data = uwsgi.packet({"A": "bc"}, 30)

    assert data == b"\x1e\x07\x00\x00\x01\x00A\x02\x00bc"
    assert struct.unpack("<BHB", data[:4]) == (30, 7, 0)
