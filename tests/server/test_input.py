"""wsgi.input behaves like io.BytesIO with the body in it, however the body comes."""

import contextlib
import hashlib
import io
import json
import os
from urllib.parse import quote

import pytest

from tests.apps.reader import take
from tests.client import Truncated

BODIES = {
    "nothing": b"",
    "one byte": b"a",
    "a line": b"one line\n",
    "lines": b"one\ntwo\r\n\nfour",
    "only line ends": b"\n\n\n",
    "all bytes": bytes(range(256)),
    "many lines": b"".join(b"line %d\n" % n for n in range(3000)),
    "one long line": b"x" * 100_000,
    "big": b"".join(b"%d " % n + b"y" * (n % 700) + b"\n" for n in range(2000)),
}

STEPS = {
    "read": [["read"], ["read"]],
    "read -1": [["read", -1], ["read", -1]],
    "read None": [["read", None]],
    "read 0": [["read", 0], ["read"]],
    "read 1": [["read", 1], ["read", 1], ["read", 2], ["read"]],
    "read too much": [["read", 10**7], ["read", 1]],
    "read 4096 by 4096": [["all-by", 4096], ["read", 5]],
    "read 1000 by 1000": [["all-by", 1000]],
    "readline": [["readline"], ["readline"], ["readline"], ["read"], ["readline"]],
    "readline n": [["readline", 2], ["readline", 100], ["readline", 0], ["read"]],
    "readline -1": [["readline", -1], ["readline", None], ["read"]],
    "readlines": [["readlines"], ["readlines"], ["read"]],
    "readlines hint": [["readlines", 5], ["readlines", 1], ["readlines"]],
    "iterate": [["iterate"], ["iterate"], ["read"]],
    "next": [["next"], ["next"], ["read", 3], ["next"], ["readline"], ["iterate"]],
    "mixed": [["read", 2], ["readline"], ["read", 3], ["readlines", 4], ["read"]],
}

# Around what the receive buffer holds, and what is kept in memory.
LONG = [65_000, 66_000, 100_000, 500_000, 1_000_000, 1 << 20, (1 << 20) + 1]

WAYS = {
    "in memory": {},
    "spooled": {"body_buffer_size": 1024},
    "streamed": {"request_buffering": False},
}


def chunked(body):
    """The body in chunks of growing size, with an extension here and there."""
    pieces, at, size = [], 0, 1
    while at < len(body):
        piece = body[at : at + size]
        mark = b";x=y" if size % 3 == 0 else b""
        pieces.append(b"%x%s\r\n%s\r\n" % (len(piece), mark, piece))
        at += size
        size = size * 2 + 1
    return b"".join(pieces) + b"0\r\n\r\n"


def message(target, body, coding):
    if coding == "chunked":
        fields, sent = b"Transfer-Encoding: chunked", chunked(body)
    else:
        fields, sent = b"Content-Length: %d" % len(body), body
    return b"POST %s HTTP/1.1\r\nHost: x\r\n%s\r\n\r\n" % (target, fields) + sent


@pytest.mark.contract(cases=8)
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("coding", ["length", "chunked"])
@pytest.mark.parametrize("steps", STEPS)
def test_input_reads_like_a_file(standing, way, coding, steps):
    server = standing("reader", **WAYS[way])
    target = b"/?" + quote(json.dumps(STEPS[steps])).encode()
    for name, body in BODIES.items():
        expected = take(io.BytesIO(body), STEPS[steps])
        with server.connect() as client:
            client.send(message(target, body, coding))
            answer = client.response()

            assert answer.status == 200
            assert answer.json()["results"] == expected, name


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("coding", ["length", "chunked"])
def test_input_that_comes_byte_by_byte_reads_the_same(standing, way, coding):
    steps = [["read", 1], ["readline"], ["readline", 3], ["readlines"], ["read"]]
    body = b"one\ntwo\r\nthree\n" * 20
    target = b"/?" + quote(json.dumps(steps)).encode()
    with standing("reader", **WAYS[way]).connect() as client:
        client.send_each_byte(message(target, body, coding))

        assert client.response().json()["results"] == take(io.BytesIO(body), steps)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("coding", ["length", "chunked"])
@pytest.mark.parametrize("steps", [[], [["read", 1]], [["readline"]], [["read"]]])
def test_an_unread_body_never_becomes_a_request(standing, way, coding, steps):
    """It is passed over or the connection ends; the next answer is the next request's."""
    body = b"GET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n" * 2000
    target = b"/?" + quote(json.dumps(steps)).encode()
    with standing("reader", **WAYS[way]).connect() as client:
        client.send(message(target, body, coding))
        first = client.response()
        client.send(b"GET /? HTTP/1.1\r\nHost: x\r\n\r\n")
        try:
            second = client.response()
        except Truncated:
            second = None

        assert first.json()["results"] == take(io.BytesIO(body), steps)
        if second is None:
            assert way == "streamed"
        else:
            assert second.json()["calls"] == first.json()["calls"] + 1
            client.get("/?", "Connection: close")
            assert client.closed()


@pytest.mark.parametrize("arguments", [["x"], [1.5], [1, 2], [[]]])
@pytest.mark.parametrize("name", ["read", "readline"])
def test_a_wrong_argument_is_a_type_error(standing, name, arguments):
    steps = [[name, *arguments], ["read"]]
    with standing("reader").connect() as client:
        answer = client.post(f"/?{quote(json.dumps(steps))}", b"abc")

        assert answer.json()["results"] == ["raised TypeError", "abc"]


@pytest.mark.parametrize("size", [2**31 - 1, 2**31, 2**62, 2**63 - 1])
def test_a_huge_size_reads_what_is_there(standing, size):
    """It must not be allocated."""
    steps = [["read", size], ["readline", size]]
    with standing("reader").connect() as client:
        answer = client.post(f"/?{quote(json.dumps(steps))}", b"abc")

        assert answer.json()["results"] == ["abc", ""]


@pytest.mark.parametrize("size", [2**63, 10**30, -(10**30)])
def test_a_size_beyond_any_integer_harms_nobody(standing, size):
    steps = [["read", size]]
    with standing("reader").connect() as client:
        answer = client.post(f"/?{quote(json.dumps(steps))}", b"abc")

        assert answer.json()["results"][0] in ("abc", "raised OverflowError")


@pytest.mark.contract
@pytest.mark.parametrize("way", WAYS)
def test_a_large_upload_arrives_whole(standing, way):
    body = os.urandom(1 << 20) * 30
    settings = {**WAYS[way], "body_buffer_size": 65536}
    with standing("echo", **settings).connect() as client:
        client.send(message(b"/", body, "length"))

        assert client.response().body == body


@pytest.mark.contract(cases=2)
@pytest.mark.parametrize("coding", ["length", "chunked"])
@pytest.mark.parametrize(
    "sizes",
    [LONG, LONG[::-1], LONG[3:4] * 5],
    ids=["growing", "shrinking", "alike"],
)
def test_bodies_that_an_app_keeps_do_not_change(standing, coding, sizes):
    """Whoever reads one whole may get the memory that it was received in."""
    server = standing("hoarding")
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(server.connect()) for _ in sizes]
        for _ in range(8):
            bodies = [os.urandom(size) for size in sizes]
            sent = [message(b"/", body, coding) for body in bodies]
            for client, data in zip(clients, sent, strict=True):
                client.send(data[:60_000])
            for client, data in zip(clients, sent, strict=True):
                client.send(data[60_000:])
            for client, body in zip(clients, bodies, strict=True):
                assert client.response().json() == hashlib.sha256(body).hexdigest()
        for client in clients:
            answer = client.get("/").json()

            assert answer["kept"] >= 8
            assert answer["changed"] == []


@pytest.mark.parametrize("coding", ["length", "chunked"])
def test_who_reads_a_body_again_finds_its_end(standing, coding):
    """Also where the memory of the one before was given away."""
    steps = [["read"], ["read"], ["readline"], ["readlines"]]
    target = b"/?" + quote(json.dumps(steps)).encode()
    with standing("reader").connect() as client:
        for number in range(5):
            body = b"%d" % number * 300_000
            client.send(message(target, body, coding))

            assert client.response().json()["results"] == take(io.BytesIO(body), steps)


def test_a_spooled_body_leaves_no_name_behind(serve, tmp_path):
    """The file is unlinked from the start: no crash can leave it."""
    settings = {"body_buffer_size": 1024, "tmp_upload_dir": str(tmp_path)}
    with serve("echo", **settings) as server, server.connect() as client:
        client.send(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 200000\r\n\r\n")
        client.send(b"x" * 150_000)
        with server.connect() as other:
            other.get("/")
        names = os.listdir(tmp_path)
        client.send(b"x" * 50_000)

        assert client.response().body == b"x" * 200_000
        assert names == os.listdir(tmp_path) == []


@pytest.mark.contract
def test_a_slow_upload_does_not_hold_the_app(standing):
    server = standing("echo")
    with server.connect() as slow, server.connect() as client:
        slow.send(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 6\r\n\r\nabc")
        for _ in range(100):
            assert client.post("/", b"fast").body == b"fast"
        slow.send(b"def")

        assert slow.response().body == b"abcdef"


# request_buffering = False


def test_a_streamed_body_is_read_as_it_comes(standing):
    server = standing("reader:in_turns", request_buffering=False)
    with server.connect() as client:
        client.send(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 15\r\n\r\n")
        turns = []
        for piece in (b"01234", b"56789", b"abcde"):
            client.send(piece)
            if not turns:
                client.head()
            turns.append(client.chunk())
        turns.append(client.chunk())

        assert turns == [b"01234", b"56789", b"abcde", b""]


def test_a_streamed_chunked_body_is_read_as_it_comes(standing):
    server = standing("reader:in_turns", request_buffering=False)
    with server.connect() as client:
        client.send(
            b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
            b"5\r\n01234\r\n"
        )
        client.head()
        first = client.chunk()
        client.send(b"5;x\r\n56789\r\n0\r\nX-T: 1\r\n\r\n")

        assert first == b"01234"
        assert client.chunk() == b"56789"
        assert client.chunk() == b""
        assert client.fields() == []
        assert client.get().status == 200


def test_a_streamed_request_waits_for_100_only_until_the_body_is_read(standing):
    server = standing("reader:in_turns", request_buffering=False)
    with server.connect() as client:
        client.send(
            b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n"
            b"Expect: 100-continue\r\n\r\n"
        )
        first = client.response()
        client.send(b"hello")

        assert first.status == 100
        assert client.response().body == b"hello"


@pytest.mark.parametrize(
    "sent",
    [
        b"Content-Length: 10\r\n\r\n01234",
        b"Transfer-Encoding: chunked\r\n\r\n5\r\n01234\r\n",
        b"Transfer-Encoding: chunked\r\n\r\n5\r\n012",
        b"Transfer-Encoding: chunked\r\n\r\n5\r\n01234\r\n0\r\n",
    ],
)
def test_a_streamed_body_that_is_cut_raises_and_is_no_end(serve, sent):
    """A short read would pass for a whole upload."""
    with serve("reader:raises", request_buffering=False) as server:
        with server.connect() as client:
            client.send(b"POST / HTTP/1.1\r\nHost: x\r\n" + sent)
            client.half_close()
            try:
                assert client.response().status >= 400
            except Truncated:
                pass
        server.wait_for(r"\[(ERROR|WARNING|INFO)\].*")
        with server.connect() as client:
            assert client.get("/calls").status == 200


@pytest.mark.parametrize(
    "sent", [b"5\r\n01234X\r\n", b"xyz\r\n", b"5\r\n01234\r\n\r\n", b"-1\r\n"]
)
def test_a_streamed_body_that_is_malformed_ends_the_connection(standing, sent):
    """Also when the app catches the error: the rest is no request."""
    server = standing("reader:in_turns", request_buffering=False)
    smuggled = b"GET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n"
    with server.connect() as client:
        client.send(
            b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
            + sent
            + smuggled
        )
        try:
            answer = client.response()
            assert answer.status == 400 or b"raised " in answer.body
        except Truncated:
            pass

        assert client.gone()


def test_a_body_that_is_cut_never_reaches_a_buffered_app(serve):
    with serve("reader:raises") as server:
        with server.connect() as client:
            client.send(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n01")
            client.half_close()
            client.drop_rest()
        with server.connect() as client:
            assert client.get("/calls").body == b"0"
