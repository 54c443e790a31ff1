"""Pieces that an app yields in quick succession, which may go out several at a time."""

import contextlib

import pytest

from tests.apps.pieces import PIECES
from tests.client import Truncated
from tests.process import Pipe

ALL = b"".join(PIECES)
MANY = b"".join(b"%04d" % number * 256 for number in range(100))


def ask(client, target):
    client.send(f"GET {target} HTTP/1.1\r\nHost: x\r\n\r\n".encode())


def read(client, size):
    """So much of a chunked body, whose head was read."""
    body = b""
    while len(body) < size:
        body += client.chunk()
    return body


@pytest.mark.contract
@pytest.mark.parametrize("path", ["/waits", "/forks"])
def test_pieces_arrive_while_the_app_makes_the_next_one(serve, short_path, path):
    pipe = Pipe(short_path / "pipe")
    with serve("pieces") as server:
        for _ in range(3):
            with server.connect() as client:
                ask(client, f"{path}?{pipe}")
                client.head()

                assert read(client, len(ALL)) == ALL
                pipe.write("next\n")
                assert client.chunk() == b"next\n"
                assert client.chunk() == b""


def test_what_is_written_comes_behind_the_pieces_before_it(serve, short_path):
    pipe = Pipe(short_path / "pipe")
    with serve("pieces") as server, server.connect() as client:
        ask(client, f"/writes?{pipe}")
        client.head()

        assert read(client, len(ALL) + 5) == ALL + b"four "
        pipe.write("next\n")
        assert client.chunk() == b"next\n"
        assert client.chunk() == b""


def test_pieces_before_a_failure_arrive(serve):
    with serve("pieces") as server, server.connect() as client:
        ask(client, "/fails")
        client.head()

        assert read(client, len(ALL)) == ALL
        with pytest.raises(Truncated):
            client.chunk()


@pytest.mark.contract
def test_pieces_do_not_wait_for_a_slow_close(serve, short_path):
    pipe = Pipe(short_path / "pipe")
    with serve("pieces") as server, server.connect() as client:
        ask(client, f"/Closing?{pipe}")
        answer = client.response()

        assert answer.body == ALL
        pipe.write("closed\n")


def test_pieces_before_a_failure_do_not_wait_for_a_slow_close(serve, short_path):
    pipe = Pipe(short_path / "pipe")
    with serve("pieces") as server, server.connect() as client:
        ask(client, f"/ClosingFailed?{pipe}")
        client.head()

        assert read(client, len(ALL)) == ALL
        pipe.write("closed\n")
        with pytest.raises(Truncated):
            client.chunk()


def test_pieces_arrive_in_a_call_that_lasts(serve, short_path):
    pipe = Pipe(short_path / "pipe")
    with serve("pieces") as server, server.connect() as client:
        ask(client, f"/lasts?{pipe}")
        client.head()
        for _ in range(2):
            while client.chunk() != b"end.":
                pass
            pipe.write("next\n")
            assert client.chunk() == b"next\n"
        assert client.chunk() == b""


@pytest.mark.contract
@pytest.mark.parametrize("path", ["/long", "/long_in_write"])
def test_pieces_that_were_sent_are_not_kept(serve, path):
    """Only what the client has not taken yet is: 256 KiB, and some."""
    with serve("pieces", response_spool_limit=0) as server:
        with server.connect() as client:
            ask(client, path)
            most = client.response().body.rpartition(b"x")[2]

    assert int(most) < 100


@pytest.mark.contract
@pytest.mark.parametrize("spool", [0, 1 << 30])
@pytest.mark.parametrize("path", ["/pauses", "/pauses_in_write", "/pauses_at_its_end"])
def test_what_a_slow_client_has_not_taken_comes_while_the_app_pauses(
    serve, short_path, path, spool
):
    """PEP 3333, "Buffering and Streaming": transmission goes on in such a pause."""
    pipe = Pipe(short_path / "pipe")
    with serve("pieces", response_spool_limit=spool) as server:
        with server.connect(receive_buffer=4096) as client:
            ask(client, f"{path}?{pipe}")
            client.head()
            while client.chunk() != b"end.":
                pass
            pipe.write("next\n")
            if path == "/pauses_at_its_end":
                assert client.chunk() == b""
            else:
                assert client.chunk() == b"next\n"
                assert client.chunk() == b""


@pytest.mark.contract
@pytest.mark.parametrize("spool", [0, 1 << 30])
@pytest.mark.parametrize("path", ["/beside", "/fails_beside"])
def test_pieces_of_several_threads_stay_apart(serve, path, spool):
    """A thread that sends without the GIL keeps all others from the response; none
    waits for the client when there is nothing left to send."""
    with serve("pieces", response_spool_limit=spool) as server:
        for _ in range(10 if path == "/fails_beside" else 1):
            with server.connect() as client:
                ask(client, path)
                client.head()
                sizes = set()
                with contextlib.suppress(Truncated):
                    while chunk := client.chunk():
                        assert chunk in (b"first", chunk[:1] * len(chunk))
                        sizes.add(len(chunk))

                assert len(sizes) > (path == "/beside")
        with server.connect() as client:
            ask(client, "/many")
            assert client.response().body == MANY


def test_every_request_gets_its_own_pieces(serve):
    with serve("pieces") as server, server.connect() as client:
        for _ in range(200):
            ask(client, "/many")
            answer = client.response()

            assert answer.body == MANY
            assert len([chunk for chunk in answer.chunks if chunk]) == 100
