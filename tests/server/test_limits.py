"""Limits of size, number and time: each has its status, and none holds up the others."""

import os
import select

import pytest

from tests.client import DEADLINE_S, Truncated, eventually

GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
SECOND = b"GET /second HTTP/1.1\r\nHost: x\r\n\r\n"


def refused(server, data, manner="whole"):
    """The status of the one refusal that comes back before the close."""
    with server.connect() as client:
        if manner == "each byte":
            client.send_each_byte(data)
        else:
            client.send(data if manner == "whole" else data + SECOND)
        answer = client.response()

        assert answer.says_close
        assert client.closed()
        return answer.status


def answered(server, data):
    with server.connect() as client:
        client.send(data)
        return client.response().status


# Sizes


def test_a_request_line_within_the_limit_is_taken(standing):
    server = standing("hello", limit_request_line=200)

    assert (
        answered(server, b"GET /%s HTTP/1.1\r\nHost: x\r\n\r\n" % (b"a" * 180)) == 200
    )


@pytest.mark.contract
def test_a_request_line_beyond_the_limit_is_414(standing, manner):
    server = standing("hello", limit_request_line=200)
    data = b"GET /%s HTTP/1.1\r\nHost: x\r\n\r\n" % (b"a" * 250)

    assert refused(server, data, manner) == 414


def test_a_request_line_without_an_end_is_414(standing):
    server = standing("hello", limit_request_line=200)

    assert refused(server, b"GET /" + b"a" * 1000) == 414


def test_the_default_request_line_limit_is_gunicorns(standing):
    server = standing("hello")

    assert (
        answered(server, b"GET /%s HTTP/1.1\r\nHost: x\r\n\r\n" % (b"a" * 4070)) == 200
    )
    assert (
        refused(server, b"GET /%s HTTP/1.1\r\nHost: x\r\n\r\n" % (b"a" * 4100)) == 414
    )


def test_as_many_fields_as_the_limit_are_taken(standing):
    server = standing("hello", limit_request_fields=10)

    assert answered(server, GET[:-2] + b"X: 1\r\n" * 9 + b"\r\n") == 200


@pytest.mark.contract
def test_more_fields_than_the_limit_are_431(standing, manner):
    server = standing("hello", limit_request_fields=10)

    assert refused(server, GET[:-2] + b"X: 1\r\n" * 10 + b"\r\n", manner) == 431


def test_a_field_within_the_limit_is_taken(standing):
    server = standing("hello", limit_request_field_size=200)

    assert answered(server, GET[:-2] + b"X-A: " + b"v" * 190 + b"\r\n\r\n") == 200


def test_a_field_beyond_the_limit_is_431(standing, manner):
    server = standing("hello", limit_request_field_size=200)
    data = GET[:-2] + b"X-A: " + b"v" * 220 + b"\r\n\r\n"

    assert refused(server, data, manner) == 431


def test_a_field_without_an_end_is_431(standing):
    server = standing("hello", limit_request_field_size=200)

    assert refused(server, GET[:-2] + b"X-A: " + b"v" * 1000) == 431


def test_a_field_name_without_an_end_is_431(standing):
    server = standing("hello", limit_request_field_size=200)

    assert refused(server, GET[:-2] + b"v" * 1000) == 431


def test_a_head_at_every_limit_is_taken(standing):
    """A hundred fields of eight thousand bytes are a head of 800 KB."""
    fields = b"".join(b"X-%d: %s\r\n" % (n, b"v" * 8000) for n in range(99))

    assert answered(standing("hello"), GET[:-2] + fields + b"\r\n") == 200


def post(length):
    return b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % length


def test_a_body_within_the_limit_is_taken(standing):
    server = standing("echo", limit_request_body=1000)

    assert answered(server, post(1000) + b"x" * 1000) == 200


@pytest.mark.contract
def test_a_body_beyond_the_limit_is_413(standing, manner):
    server = standing("echo", limit_request_body=1000)

    assert refused(server, post(1001) + b"x" * 1001, manner) == 413


def test_a_declared_length_beyond_the_limit_is_413_at_once(standing):
    assert refused(standing("echo", limit_request_body=1000), post(10**15)) == 413


def test_a_length_beyond_the_limit_gets_no_100(standing):
    server = standing("echo", limit_request_body=1000)
    data = post(1001)[:-2] + b"Expect: 100-continue\r\n\r\n"

    assert refused(server, data) == 413


@pytest.mark.parametrize("buffering", [True, False])
def test_a_chunked_body_beyond_the_limit_is_413(standing, buffering):
    server = standing("echo", limit_request_body=1000, request_buffering=buffering)
    head = b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"

    assert refused(server, head + b"64\r\n%s\r\n" % (b"x" * 100) * 11) == 413
    assert refused(server, head + b"3E9\r\n") == 413


def test_a_chunked_body_within_the_limit_is_taken(standing):
    server = standing("echo", limit_request_body=1000)
    head = b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    chunks = b"64\r\n%s\r\n" % (b"x" * 100) * 10

    assert answered(server, head + chunks + b"0\r\n\r\n") == 200


def test_tiny_chunks_with_long_extensions_are_bounded(standing):
    """Each is small; together they would be megabytes for nothing."""
    head = b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    chunk = b"1;" + b"e" * 200 + b"\r\nx\r\n"
    with standing("echo").connect() as client:
        client.send(head)
        assert endless(client, chunk * 300) in (400, 413, 431, 0)


# Endless input


def endless(client, block):
    """Send the block again and again until an answer or the end comes; 64 MB at most."""
    for _ in range(64_000_000 // len(block)):
        readable, writable, _ = select.select(
            [client.socket], [client.socket], [], DEADLINE_S
        )
        assert readable or writable, "the server neither reads nor answers"
        if readable:
            break
        client.send(block)
    else:
        raise AssertionError("the server reads without end")
    try:
        return client.response().status
    except Truncated:
        return 0  # More was underway than a server has to wait for.


ENDLESS = {
    "a request line": (b"GET /", b"a" * 10_000, {414}),
    "a method": (b"", b"A" * 10_000, {400, 414}),
    "empty lines": (b"", b"\r\n" * 5000, {400}),
    "fields": (GET[:-2], b"X: 1\r\n" * 1000, {431}),
    "dropped fields": (GET[:-2], b"X_A: 1\r\n" * 1000, {431}),
    "a field": (GET[:-2] + b"X: ", b"1" * 10_000, {431}),
    "spaces in a field": (GET[:-2] + b"X:", b" " * 10_000, {431}),
    "a field name": (GET[:-2], b"X" * 10_000, {431}),
    "a chunk size": (
        b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"0" * 10_000,
        {400},
    ),
    "a chunk extension": (
        b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n1;",
        b"a" * 10_000,
        {400},
    ),
    "trailers": (
        b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n",
        b"X: 1\r\n" * 1000,
        {400, 431},
    ),
    "a trailer": (
        b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX: ",
        b"1" * 10_000,
        {400, 431},
    ),
}


@pytest.mark.parametrize(("start", "block", "statuses"), ENDLESS.values(), ids=ENDLESS)
def test_endless_input_is_refused(standing, start, block, statuses):
    server = standing("echo")
    before = server.rss_kib()
    with server.connect() as client:
        client.send(start)
        status = endless(client, block)

    assert status in statuses | {0}
    assert server.rss_kib() < before + 30_000
    assert answered(server, GET) == 200


def test_endless_chunks_are_refused_at_the_body_limit(standing):
    server = standing("echo", limit_request_body=1_000_000)
    with server.connect() as client:
        client.send(b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")

        assert endless(client, b"1\r\nx\r\n" * 1000) in (413, 400, 0)


# Times. A limit of one second; the deadline for it to strike is that of any answer.


@pytest.mark.contract(cases=2)
@pytest.mark.parametrize(
    "data",
    [
        b"G",
        b"GET / HTTP/1.1",
        b"GET / HTTP/1.1\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\n\r",
    ],
)
def test_an_unfinished_head_is_408(standing, data):
    assert refused(standing("echo", header_timeout=1), data) == 408


@pytest.mark.contract
def test_a_silent_connection_is_closed(standing):
    """It asked for nothing: an answer may come, and the close must."""
    with standing("echo", header_timeout=1).connect() as client:
        try:
            assert client.response().status == 408
        except Truncated:
            pass

        assert client.closed()


def test_a_head_that_dribbles_in_is_408(standing):
    """The limit is for the whole head: single bytes do not buy more time."""
    with standing("echo", header_timeout=1).connect() as client:
        client.send(b"GET / HTTP/1.1\r\nHost: x\r\nX-A: ")
        for _ in range(200):
            if select.select([client.socket], [], [], 0.1)[0]:
                break
            client.send(b"a")

        assert client.response().status == 408


def test_an_unfinished_second_head_is_408_or_closed(standing):
    server = standing("echo", header_timeout=1, keepalive=30)
    with server.connect() as client:
        client.send(GET + b"GET / HTT")

        assert client.response().status == 200
        assert client.response().status == 408
        assert client.closed()


@pytest.mark.contract(cases=2)
@pytest.mark.parametrize(
    "rest",
    [
        b"Content-Length: 10\r\n\r\n",
        b"Content-Length: 10\r\n\r\n01234",
        b"Transfer-Encoding: chunked\r\n\r\n",
        b"Transfer-Encoding: chunked\r\n\r\n5\r\n012",
        b"Transfer-Encoding: chunked\r\n\r\n5\r\n01234\r\n",
        b"Transfer-Encoding: chunked\r\n\r\n5\r\n01234\r\n0\r\n",
        b"Transfer-Encoding: chunked\r\n\r\n5\r\n01234\r\n0\r\nX: 1\r\n",
    ],
)
def test_an_unfinished_body_is_408(standing, rest):
    data = b"POST / HTTP/1.1\r\nHost: x\r\n" + rest

    assert refused(standing("echo", body_timeout=1), data) == 408


def test_a_body_that_moves_is_waited_for(standing):
    """The body's limit is for silence: a slow upload lasts longer than it."""
    with standing("echo", body_timeout=2).connect() as client:
        client.send(post(40))
        for _ in range(40):
            assert not select.select([client.socket], [], [], 0.1)[0]
            client.send(b"x")

        assert client.response().body == b"x" * 40


@pytest.mark.contract
def test_an_idle_connection_is_closed_without_a_word(standing):
    with standing("hello", keepalive=1).connect() as client:
        assert client.get().status == 200
        assert client.closed()


def test_a_busy_connection_is_not_closed(standing):
    with standing("hello", keepalive=2).connect() as client:
        for _ in range(40):
            assert not select.select([client.socket], [], [], 0.1)[0]
            assert client.get().status == 200


@pytest.mark.contract
def test_keepalive_0_closes_after_each_answer(standing):
    with standing("hello", keepalive=0).connect() as client:
        client.send(GET + GET)
        answer = client.response()

        assert answer.says_close
        assert client.closed()


@pytest.mark.one_process
def test_a_reader_that_stopped_is_cut(serve):
    with serve("closing", send_timeout=1) as server:
        with server.connect(receive_buffer=4096) as client:
            client.send(b"GET /large HTTP/1.1\r\nHost: x\r\n\r\n")
            client.exactly(10)
            before = server.open_files()
            with server.connect() as other:
                eventually(
                    lambda: other.get("/closes") and server.open_files() <= before,
                    "the server lets go of the connection",
                )

            assert client.drop_rest() < 50_000_000


@pytest.mark.one_process
def test_a_reader_of_an_endless_answer_that_stopped_is_cut(serve):
    """The app makes no more than response_spool_limit ahead of its reader."""
    settings = {"send_timeout": 1, "response_spool_limit": 1_000_000}
    with serve("closing", **settings) as server:
        with server.connect(receive_buffer=4096) as client:
            client.send(b"GET /endless HTTP/1.1\r\nHost: x\r\n\r\n")
            client.exactly(10)
            with server.connect() as other:
                other.socket.settimeout(3 * DEADLINE_S)
                eventually(
                    lambda: other.get("/closes").body == b"1", "close() is called"
                )
            client.drop_rest()


# Connections


@pytest.mark.contract
def test_connections_beyond_the_limit_wait_for_a_place(serve):
    with serve("hello", worker_connections=2) as server:
        with server.connect() as first, server.connect() as second:
            assert first.get().status == second.get().status == 200
            with server.connect() as third:
                third.send(GET)
                first.close()

                assert third.response().status == 200


def test_a_burst_beyond_the_limit_is_answered(serve):
    with serve("hello", worker_connections=5, backlog=100) as server:
        clients = [server.connect() for _ in range(50)]
        for client in clients:
            client.send(b"GET / HTTP/1.0\r\n\r\n")
        answers = []
        for client in clients:
            with client:
                answers.append(client.response().status)

        assert answers == [200] * 50


def test_a_full_table_of_idle_connections_is_not_for_ever(serve):
    with serve("hello", worker_connections=2, keepalive=1) as server:
        with server.connect() as first, server.connect() as second:
            first.get()
            second.get()
            with server.connect() as third:
                assert third.get().status == 200


# Spooling of answers


@pytest.mark.contract
def test_a_large_answer_to_a_slow_reader_does_not_hold_the_app(serve, tmp_path):
    """Ten megabytes of a generator are put aside, in a file without a name."""
    with serve("slow_readers", tmp_upload_dir=str(tmp_path)) as server:
        with server.connect(receive_buffer=4096) as slow, server.connect() as client:
            slow.send(b"GET /pieces HTTP/1.1\r\nHost: x\r\n\r\n")
            slow.head()
            for _ in range(100):
                assert client.get().body == b"hello"
            names = os.listdir(tmp_path)
            rest = slow.exactly(10_000_000)

        assert rest == b"0123456789" * 1_000_000
        assert names == []
