"""Requests that repeat what their connection has sent: nothing of it may show.

The server takes over what it knows of header lines that come again (proto/head_memo.c,
engine/memo.c, py/environ_memo.c, py/text.c). Each environ here is compared with the one
of the same request on a connection of its own.
"""

import pytest

from tests.client import Client

LINES = (
    "Host: x",
    "User-Agent: a browser of today",
    "Accept: text/html",
    "Cookie: id=1; theme=dark",
    "X-Own-Thing: 7",
)


def asked(client: Client, start: str, lines: tuple[str, ...]) -> dict[str, object]:
    text = "\r\n".join((start, *lines, "", "")).encode("latin-1")
    client.send(text)
    answer = client.response()
    assert answer.status == 200, answer.body
    environ = answer.json()["environ"]
    assert environ.pop("REMOTE_PORT") == str(client.socket.getsockname()[1])
    return dict(environ)


def alone(server, start, lines):
    with server.connect() as client:
        return asked(client, start, lines)


@pytest.mark.contract(cases=4)
@pytest.mark.parametrize(
    ("start", "changed"),
    [
        ("GET /a?b=c HTTP/1.1", {}),
        ("GET /a?other HTTP/1.1", {}),
        ("GET /a HTTP/1.1", {}),
        ("GET /other?b=c HTTP/1.1", {}),
        ("GET /%61?b=c HTTP/1.1", {}),
        ("GET / HTTP/1.1", {}),
        ("GET /%41%FF HTTP/1.1", {}),
        ("GET http://other/path?q HTTP/1.1", {}),
        ("HEAD-IS-NO-METHOD /a?b=c HTTP/1.1", {}),
        ("POST /a?b=c HTTP/1.1", {}),
        ("OPTIONS * HTTP/1.1", {}),
        ("GET /a?b=c HTTP/1.1", {3: "Cookie: id=2"}),
        ("GET /other HTTP/1.1", {3: "Cookie: "}),
        ("GET /a?b=c HTTP/1.1", {1: "User-Agent: \xe9t\xe9", 3: "cookie: id=22"}),
        ("GET /a?b=c HTTP/1.1", {0: "Host: y"}),
        ("GET /a?b=c HTTP/1.1", {4: "X-Own-Thing: 8"}),
        ("GET /a?b=c HTTP/1.1", {4: "X-Forwarded-Proto: https"}),
        ("GET /a?b=c HTTP/1.1", {4: "Cookie: another"}),
        ("GET /a?b=c HTTP/1.1", {2: "A-C-C-E-P-T: text/html"}),
        ("GET /a?b=c HTTP/1.1", {4: "X_Own_Thing: 7"}),
    ],
    ids=str,
)
def test_an_environ_is_that_of_the_request_alone(standing, start, changed):
    server = standing("environ")
    lines = tuple(changed.get(i, line) for i, line in enumerate(LINES))
    expected = alone(server, start, lines)
    usual = alone(server, "GET /a?b=c HTTP/1.1", LINES)

    with server.connect() as client:
        for _ in range(4):
            assert asked(client, "GET /a?b=c HTTP/1.1", LINES) == usual
        for _ in range(4):
            assert asked(client, start, lines) == expected
            assert asked(client, "GET /a?b=c HTTP/1.1", LINES) == usual


@pytest.mark.contract
def test_a_scheme_that_changes_is_seen(standing):
    """X-Forwarded-Proto is a value that decides on something else."""
    server = standing("environ")
    with server.connect() as client:
        for _ in range(3):
            for scheme in ("http", "https", "https", "http", "http"):
                lines = (*LINES, f"X-Forwarded-Proto: {scheme}")

                environ = asked(client, "GET / HTTP/1.1", lines)

                assert environ["wsgi.url_scheme"] == scheme


def test_a_mount_point_is_cut_off_each_path(serve):
    with serve("environ", env={"SCRIPT_NAME": "/mount"}) as server:
        with server.connect() as client:
            for target in (
                "/mount/a",
                "/mount/a?q",
                "/mount/b?q",
                "/mount",
                "/mount/a",
            ):
                for _ in range(3):
                    environ = asked(client, f"GET {target} HTTP/1.1", LINES)

                    assert environ["SCRIPT_NAME"] == "/mount"
                    path, _, query = target.partition("?")
                    assert environ["PATH_INFO"] == path.removeprefix("/mount")
                    assert environ["QUERY_STRING"] == query
            client.send("\r\n".join(("GET /a HTTP/1.1", *LINES, "", "")).encode())

            assert client.response().status == 500
        server.wait_for("does not begin with SCRIPT_NAME")


def test_more_and_fewer_lines_come_and_go(standing):
    server = standing("environ")
    rows = [LINES, LINES[:3], (*LINES, "Range: bytes=0-1"), LINES[:1], LINES[::-1]]
    expected = [alone(server, "GET / HTTP/1.1", lines) for lines in rows]

    with server.connect() as client:
        for turn in range(30):
            row = turn * turn % len(rows) if turn % 3 else 0

            assert asked(client, "GET / HTTP/1.1", rows[row]) == expected[row]


@pytest.mark.contract
def test_lines_that_come_in_pieces_are_read_as_ever(standing):
    server = standing("environ")
    expected = alone(server, "GET / HTTP/1.1", LINES)
    text = "\r\n".join(("GET / HTTP/1.1", *LINES, "", "")).encode()

    with server.connect() as client:
        for cut in range(1, len(text), 7):
            assert asked(client, "GET / HTTP/1.1", LINES) == expected
            client.send(text[:cut])
            client.send(text[cut:])
            environ = client.response().json()["environ"]

            del environ["REMOTE_PORT"]
            assert environ == expected


@pytest.mark.contract
def test_what_is_pipelined_is_read_as_ever(standing):
    server = standing("environ")
    other = (*LINES[:3], "Cookie: id=2", *LINES[4:])
    expected = [
        alone(server, "GET / HTTP/1.1", LINES),
        alone(server, "GET /b HTTP/1.1", other),
    ]
    first = "\r\n".join(("GET / HTTP/1.1", *LINES, "", "")).encode()
    second = "\r\n".join(("GET /b HTTP/1.1", *other, "", "")).encode()

    with server.connect() as client:
        client.send((first + second) * 8)
        for number in range(16):
            environ = client.response().json()["environ"]

            del environ["REMOTE_PORT"]
            assert environ == expected[number % 2]


def test_refused_lines_are_refused_behind_known_ones(standing):
    server = standing("environ")
    for bad in ("Cookie: a\x01", "Cookie : a", "Content-Length: x", "Host: x y"):
        with server.connect() as client:
            for _ in range(3):
                asked(client, "GET / HTTP/1.1", LINES)
            client.send("\r\n".join(("GET / HTTP/1.1", *LINES, bad, "", "")).encode())

            assert client.response().status == 400
            assert client.closed()


@pytest.mark.contract
def test_connections_do_not_see_each_others_values(standing):
    server = standing("environ")
    cookies = [f"Cookie: id={number}; secret={'s' * number}" for number in range(20)]
    clients = [server.connect() for _ in cookies]
    for _ in range(5):
        for client, cookie in zip(clients, cookies, strict=True):
            environ = asked(client, "GET / HTTP/1.1", (*LINES[:3], cookie))

            assert f"Cookie: {environ['HTTP_COOKIE']}" == cookie
    for client in clients:
        client.close()


@pytest.mark.contract
def test_an_object_that_is_kept_is_replaced_behind_known_lines(standing):
    """What the server knows holds on to the objects that the app is handed."""
    with standing("keeping").connect() as client:
        for _ in range(4):
            assert client.get("/").body == b"nothing was raised"
        for _ in range(3):
            client.get("/keep")
            for _ in range(4):
                assert client.get("/input-read").body == b"raised ValueError"
                assert client.get("/early_hints").body == b"raised RuntimeError"
