"""The load client: each end of a request is told from the others."""

from __future__ import annotations

import contextlib
import re
import socket
import struct
import threading
import zlib

import pytest

from tests.load import Load
from tests.load_terms import CLOSING, STYLES, Counts, Style

TARGET = re.compile(rb"(GET|POST) /([^/ ]+)/(\d+)/(\S*) HTTP/1\.1\r\n")
LENGTH = re.compile(rb"Content-Length: (\d+)")
ONCE = Style("once", requests=1)
TWICE = Style("twice", requests=2)
IDLE_TWICE = Style("twice, with a pause", requests=2, think_s=1.0)
A_BATCH = Style("a batch", requests=8, batch=8)


class Connection:
    """The toy server's side of one: requests are read one by one."""

    def __init__(self, sock: socket.socket, number: int) -> None:
        self.socket = sock
        self.number = number
        self._in = b""

    def _more(self) -> bool:
        data = self.socket.recv(65536)
        self._in += data
        return bool(data)

    def read(self) -> tuple[bytes, int, bytes]:
        """Nonce, size and body of the next request; the script ends with the stream."""
        while b"\r\n\r\n" not in self._in:
            if not self._more():
                raise EOFError
        head, _, self._in = self._in.partition(b"\r\n\r\n")
        length = LENGTH.search(head)
        while length and len(self._in) < int(length[1]):
            assert self._more()
        count = int(length[1]) if length else 0
        body, self._in = self._in[:count], self._in[count:]
        found = TARGET.match(head)
        assert found is not None, head
        return found[2], int(found[3]), body

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def serve(self, count: int = 10**9, close: bool = False) -> None:
        for _ in range(count):
            self.send(right(*self.read(), close=close))

    def reset(self) -> None:
        nothing = struct.pack("ii", 1, 0)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, nothing)
        self.socket.close()


def framed(body: bytes, close: bool = False) -> bytes:
    said = "Connection: close\r\n" if close else ""
    head = f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\n{said}\r\n"
    return head.encode() + body


def right(nonce: bytes, size: int, body: bytes, close: bool = False) -> bytes:
    line = nonce + b" 7 1 %08x\n" % zlib.crc32(body)
    missing = max(size - len(line), 0)
    return framed(line + (nonce * missing)[:missing], close)


@contextlib.contextmanager
def toy(script, family=socket.AF_INET, name=("127.0.0.1", 0)):
    """A server that does with each connection what the script says."""
    threads = []
    with socket.socket(family) as listener:
        listener.bind(name)
        listener.listen(512)

        def attend(sock, number):
            with sock, contextlib.suppress(EOFError, OSError):
                script(Connection(sock, number))

        def accept():
            with contextlib.suppress(OSError):
                while True:
                    sock = listener.accept()[0]
                    work = (sock, len(threads))
                    threads.append(threading.Thread(target=attend, args=work))
                    threads[-1].start()

        acceptor = threading.Thread(target=accept)
        acceptor.start()
        try:
            address = listener.getsockname()
            if family == socket.AF_INET:
                yield f"http://127.0.0.1:{address[1]}"
            else:
                yield f"unix:{address}"
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            acceptor.join()
            for thread in threads:
                thread.join()


def asked(address, *styles: Style, each: int = 1, patience_s: float = 60) -> Load:
    """A load that has ended by itself."""
    with Load(address, styles, each, patience_s) as load:
        load.join()
    return load


def ends(script, style: Style = ONCE, **settings) -> dict[str, int]:
    """What one client makes of a toy."""
    with toy(script) as address:
        load = asked(address, style, **settings)
    assert load.surprises == []
    return dict(load.counts().ends)


def test_right_answers_are_right():
    with toy(Connection.serve) as address:
        load = asked(address, Style("some", requests=50), each=3)

    assert load.counts() == Counts(load.counts().ends)
    assert dict(load.counts().ends) == {"right": 150}
    assert load.answers == 150
    assert load.losses == load.surprises == []
    assert load.workers == {7: 150}
    assert load.versions == {"1": 150}


@pytest.mark.parametrize("style", STYLES, ids=lambda style: style.name)
def test_every_style_gets_its_answers(style, short_path):
    unix = short_path / "socket"
    closing = style is CLOSING
    with (
        toy(lambda c: c.serve(close=closing)) as address,
        toy(lambda c: c.serve(close=closing), socket.AF_UNIX, str(unix)) as other,
        Load([address, other], [style], each=2, patience_s=60) as load,
    ):
        while load.answers < 20:
            threading.Event().wait(0.01)

    assert load.counts().lost == load.counts().cut == 0
    assert load.counts().ends["right"] == load.started >= 20
    assert load.surprises == []


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 500 Oh\r\nContent-Length: 2\r\n\r\nno",
        b"HTTP/1.1 500 Oh\r\n\r\nto the end",
        b"HTTP/1.1 503 Oh\r\nConnection: close\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 204 Nothing\r\n\r\n",
        b"nonsense\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\nx",
        framed(b"another 7 1 00000000\n"),
        framed(b""),
    ],
)
def test_another_answer_is_wrong(answer):
    def script(connection):
        connection.read()
        connection.send(answer)

    assert ends(script) == {"wrong": 1}


@pytest.mark.parametrize("spoil", [lambda b: b[:-1], lambda b: b + b"x", bytes.upper])
def test_other_bytes_are_wrong(spoil):
    def script(connection):
        answer = right(*connection.read())
        connection.send(framed(spoil(answer.partition(b"\r\n\r\n")[2])))

    assert ends(script, Style("a", requests=1, size=500)) == {"wrong": 1}


def test_an_answer_to_another_body_is_wrong():
    def script(connection):
        nonce, size, body = connection.read()
        connection.send(right(nonce, size, body[1:]))

    assert ends(script, Style("a", requests=1, body=50)) == {"wrong": 1}


def test_the_status_that_is_wanted_is_right():
    def script(connection):
        connection.read()
        connection.send(b"HTTP/1.1 500 Oh\r\nContent-Length: 2\r\n\r\nno")

    assert ends(script, Style("a", requests=1, status=500)) == {"right": 1}


def test_an_answer_in_the_name_of_1xx_is_not_the_end():
    def script(connection):
        request = connection.read()
        connection.send(
            b"HTTP/1.1 103 Early\r\nContent-Length: 0\r\n\r\n" + right(*request)
        )

    assert ends(script) == {"right": 1}


@pytest.mark.parametrize("sent", [0, 1, 40, -1])
def test_a_close_before_the_whole_answer_is_short(sent):
    def script(connection):
        connection.send(right(*connection.read())[:sent])

    assert ends(script) == {"short": 1}


@pytest.mark.parametrize("sent", [0, 40])
def test_a_reset_before_the_whole_answer_is_reset(sent):
    def script(connection):
        connection.send(right(*connection.read())[:sent])
        connection.reset()

    assert ends(script) == {"reset": 1}


def test_a_close_before_the_request_is_short():
    """The connection was made, so somebody has promised to serve it."""
    style = Style("waits", requests=1, wait_s=60, size=100)

    assert ends(lambda connection: None, style) == {"short": 1}


def test_who_is_not_there_refuses(short_path):
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{nobody.getsockname()[1]}"
        load = asked([address, f"unix:{short_path}/none"], ONCE, each=2)

    assert dict(load.counts().ends) == {"refused": 2}
    assert {loss.connected for loss in load.losses} == {0}
    assert all(loss.began_after(loss.at) for loss in load.losses)


def test_who_never_answers_is_timed_out():
    def script(connection):
        connection.read()
        connection.socket.recv(1)  # Until the client has had enough.

    assert ends(script, patience_s=0.3) == {"timed out": 1}


def test_a_full_queue_of_a_unix_socket_is_waited_for(short_path):
    """A client that may wait would wait; TCP's clients do."""
    path = str(short_path / "socket")
    with socket.socket(socket.AF_UNIX) as full, socket.socket(socket.AF_UNIX) as first:
        full.bind(path)
        full.listen(0)
        first.connect(path)
        load = asked(f"unix:{path}", ONCE, patience_s=0.5)

        assert dict(load.counts().ends) == {"timed out": 1}


@pytest.mark.parametrize("end", [lambda connection: None, Connection.reset])
def test_a_connection_that_ends_while_idle_is_no_error(end):
    def script(connection):
        connection.serve(1)
        end(connection)

    with toy(script) as address:
        load = asked(address, IDLE_TWICE)

    assert dict(load.counts().ends) == {"right": 2}
    assert load.counts().lost == 0


@pytest.mark.parametrize("end", [lambda connection: None, Connection.reset])
def test_a_request_that_crosses_the_close_is_raced_and_sent_again(end):
    def script(connection):
        if connection.number > 0:
            connection.serve()
        connection.serve(1)
        connection.read()
        end(connection)

    with toy(script) as address:
        load = asked(address, TWICE)

    assert dict(load.counts().ends) == {"right": 2}
    assert load.counts().raced == load.counts().lost == 1
    assert [(loss.end, loss.worker) for loss in load.losses] == [("raced", 7)]


def test_a_part_of_an_answer_on_a_used_connection_is_not_raced():
    def script(connection):
        connection.serve(1)
        connection.send(right(*connection.read())[:1])

    assert ends(script, TWICE) == {"right": 1, "short": 1}


def test_an_answer_that_says_close_ends_the_connection():
    with toy(lambda connection: connection.serve(1, close=True)) as address:
        load = asked(address, Style("some", requests=5))

    assert dict(load.counts().ends) == {"right": 5}
    assert load.counts() == Counts(load.counts().ends)


def test_what_is_pipelined_behind_a_close_is_cut_and_sent_again():
    def script(connection):
        connection.serve(2)
        connection.serve(1, close=True)

    with toy(script) as address:
        load = asked(address, A_BATCH)

    assert dict(load.counts().ends) == {"right": 8}
    assert load.counts().cut == 5 + 2
    assert load.counts().lost == 0


def test_what_is_pipelined_and_closed_upon_without_a_word_is_short():
    assert ends(lambda connection: connection.serve(3), A_BATCH) == {
        "right": 3,
        "short": 5,
    }


def test_bytes_that_nobody_has_asked_for_are_told():
    def script(connection):
        connection.send(right(*connection.read()) + b"more")

    with toy(script) as address:
        load = asked(address, ONCE)

    assert load.surprises == ["once: more than was asked for: bytearray(b'more')"]


def test_bytes_behind_a_close_are_told():
    def script(connection):
        connection.send(right(*connection.read(), close=True) + b"more")

    with toy(script) as address:
        load = asked(address, ONCE)

    assert load.surprises == ["once: bytes behind an answer that said close"]


def test_an_answer_before_the_end_of_the_request_is_judged():
    """It is read even when the rest of the request cannot be sent any more."""

    def script(connection):
        connection.socket.recv(1)
        connection.send(
            b"HTTP/1.1 408 Slow\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
        )
        while connection.socket.recv(65536):
            pass

    style = Style("slow", requests=1, body=5000, pieces=5, piece_s=0.02)

    assert ends(script, style) == {"wrong": 1}


def test_a_slow_sender_sends_a_piece_at_a_time():
    came = []
    style = Style("slow", requests=1, body=800, pieces=8, piece_s=3600)

    def script(connection):
        came.append(len(connection.socket.recv(65536)))

    assert ends(script, style) == {"short": 1}
    assert 100 <= came[0] <= 130


def test_a_slow_reader_leaves_the_rest_in_the_kernel():
    taken = []
    style = Style("slow", requests=1, read=1000, read_s=3600, window=8192)

    def script(connection):
        connection.read()
        connection.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 8192)
        connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: 4000000\r\n\r\n")
        for _ in range(4000):
            taken.append(connection.socket.send(bytes(1000)))

    assert ends(script, style, patience_s=0.5) == {"timed out": 1}
    assert sum(taken) < 4_000_000


def test_who_was_connected_before_is_known():
    def script(connection):
        connection.read()

    with toy(script) as address:
        load = asked(address, ONCE)
    (loss,) = load.losses

    assert loss.end == "short"
    assert 0 < loss.connecting <= loss.connected <= loss.at
    assert loss.began_after(loss.connecting)
    assert not loss.began_after(loss.at + 1)
    assert loss.key[0] == "tcp"


def test_counts_add_up():
    one = asked_counts({"right": 3, "reset": 1}, raced=2, cut=1)
    total = one + asked_counts({"right": 1}, raced=0, cut=4)

    assert total.requests == 5
    assert total.lost == 3
    assert str(total) == "right 4, reset 1, raced 2, cut 5"


def asked_counts(found, raced, cut):
    counts = Counts(raced=raced, cut=cut)
    counts.ends.update(found)
    return counts
