"""A client that sends given bytes and reads answers whole: for checks and exact counts."""

from __future__ import annotations

import socket
from collections.abc import Iterable
from dataclasses import dataclass, field

from bench.workloads import Workload


class BadAnswer(Exception):
    """The server closed too early, or sent what cannot be understood."""


@dataclass(frozen=True)
class Answer:
    status: int
    body: bytes
    keeps: bool  # the connection stays open


def connected(address: int | str, timeout: float) -> socket.socket:
    """To that port of this machine, or to the Unix socket at that path."""
    if isinstance(address, int):
        return socket.create_connection(("127.0.0.1", address), timeout=timeout)
    connection = socket.socket(socket.AF_UNIX)
    try:
        connection.settimeout(timeout)
        connection.connect(address)
    except OSError:
        connection.close()
        raise
    return connection


@dataclass
class Client:
    """One connection, opened again whenever the server closes it.

    By a Unix socket we speak uwsgi, where that is after each answer."""

    address: int | str
    timeout: float = 10
    connection: socket.socket | None = field(default=None, repr=False)
    _input: bytearray = field(default_factory=bytearray, repr=False)

    def exchange(self, request: bytes, answers: int = 1) -> list[Answer]:
        """Send these bytes and read that many answers."""
        if self.connection is None:
            self.connection = connected(self.address, self.timeout)
            if isinstance(self.address, int):
                self.connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._input.clear()
        try:
            self.connection.sendall(request)
        except (BrokenPipeError, ConnectionResetError) as error:
            raise BadAnswer("closed while we sent") from error
        got = [self._answer() for _ in range(answers)]
        once = b"\r\nConnection: close\r\n" in request[:1024]
        if once or not got[-1].keeps or isinstance(self.address, str):
            self.close()
        return got

    def close(self) -> None:
        if self.connection is not None:
            self.connection.close()
            self.connection = None

    def _more(self) -> bool:
        assert self.connection is not None
        try:
            data = self.connection.recv(1 << 18)
        except TimeoutError as error:
            raise BadAnswer(f"no answer within {self.timeout:g} s") from error
        except ConnectionResetError as error:
            raise BadAnswer("connection reset") from error
        self._input += data
        return bool(data)

    def _until(self, mark: bytes) -> bytes:
        while (end := self._input.find(mark)) < 0:
            if not self._more():
                raise BadAnswer("closed in the middle of an answer")
        return self._take(end + len(mark))

    def _take(self, count: int) -> bytes:
        while len(self._input) < count:
            if not self._more():
                raise BadAnswer("closed in the middle of a body")
        taken = bytes(self._input[:count])
        del self._input[:count]
        return taken

    def _answer(self) -> Answer:
        lines = self._until(b"\r\n\r\n").decode("latin-1").split("\r\n")
        version, status = lines[0].split(" ")[:2]
        fields = _fields(lines[1:])
        connection = fields.get("connection", "").lower()
        keeps = connection != "close" and (
            version == "HTTP/1.1" or connection == "keep-alive"
        )
        if fields.get("transfer-encoding", "").lower() == "chunked":
            body = b"".join(self._chunks())
        elif "content-length" in fields:
            body = self._take(int(fields["content-length"]))
        else:
            body, keeps = self._rest(), False
        return Answer(int(status), body, keeps)

    def _chunks(self) -> Iterable[bytes]:
        while size := int(self._until(b"\r\n").split(b";")[0], 16):
            yield self._take(size)
            self._take(2)
        self._until(b"\r\n")

    def _rest(self) -> bytes:
        while self._more():
            pass
        return self._take(len(self._input))


def _fields(lines: list[str]) -> dict[str, str]:
    pairs = (line.partition(":") for line in lines if line)
    return {name.lower(): value.strip() for name, _, value in pairs}


def check(address: int | str, workload: Workload, timeout: float = 10) -> None:
    """Raise BadAnswer unless the server answers this workload as the app means it."""
    client = Client(address, timeout)
    try:
        for _ in range(2):
            request = workload.requests[0] * workload.pipeline
            for answer in client.exchange(request, workload.pipeline):
                _check_answer(answer, workload)
    except (OSError, ValueError) as error:
        raise BadAnswer(str(error)) from error
    finally:
        client.close()


def _check_answer(answer: Answer, workload: Workload) -> None:
    if answer.status != 200:
        raise BadAnswer(f"answered {answer.status}")
    if len(answer.body) != workload.expected_length:
        raise BadAnswer(f"a body of {len(answer.body)} bytes")
    if isinstance(workload.expect, bytes) and answer.body != workload.expect:
        raise BadAnswer(f"answered {answer.body[:40]!r}")
