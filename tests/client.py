"""A raw HTTP client: sends the bytes it is given, parses answers strictly, waits never for ever.

It repairs nothing. What RFC 9112 forbids a server to send raises Malformed, and an
answer that ends before its own framing says so raises Truncated.
"""

from __future__ import annotations

import json
import os
import re
import socket
import struct
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any

SANITIZED = os.environ.get("PWS_SANITIZE") == "1"
DEADLINE_S = 60.0 if SANITIZED else 30.0

STATUS_LINE = re.compile(
    rb"HTTP/(1\.[01]) ([1-5][0-9][0-9]) ([\t \x21-\x7e\x80-\xff]*)\Z"
)
FIELD_NAME = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+\Z")
FIELD_VALUE = re.compile(rb"[\t \x21-\x7e\x80-\xff]*\Z")
LONGEST_LINE = 65536
FIELDS_THAT_FRAME = ("content-length", "transfer-encoding", "date", "connection")


class Malformed(AssertionError):
    """The server sent what no server may send."""


class Truncated(AssertionError):
    """The answer ended, by close or reset, before its framing said so."""

    def __init__(self, why: str, body: bytes = b"") -> None:
        super().__init__(why)
        self.body = body


@dataclass
class Response:
    """One answer as it came over the wire, body decoded."""

    version: str
    status: int
    reason: str
    headers: list[tuple[str, str]]
    body: bytes = b""
    framing: str = "none"  # none, length, chunked or close
    chunks: list[bytes] = field(default_factory=list)
    trailers: list[tuple[str, str]] = field(default_factory=list)

    def all(self, name: str) -> list[str]:
        """Every value of a field, in order."""
        return [value for key, value in self.headers if key.lower() == name.lower()]

    def __getitem__(self, name: str) -> str:
        values = self.all(name)
        assert len(values) == 1, f"{name} came {len(values)} times: {self.headers}"
        return values[0]

    def __contains__(self, name: str) -> bool:
        return bool(self.all(name))

    def json(self) -> Any:
        """The body, read as JSON; the test apps answer with it."""
        return json.loads(self.body)

    @property
    def says_close(self) -> bool:
        """Whether the answer announces the end of its connection."""
        options = ",".join(self.all("connection")).lower().split(",")
        return "close" in [option.strip() for option in options]


class Client:
    """One connection. Every operation on it has a deadline."""

    def __init__(self, sock: socket.socket) -> None:
        self.socket = sock
        sock.settimeout(DEADLINE_S)
        if sock.family != socket.AF_UNIX:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._in = bytearray()
        self._at = 0  # how much of _in is used up

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    # Sending

    def send(self, data: bytes) -> None:
        """Send all of it; a server that closed early is found out by reading."""
        try:
            self.socket.sendall(data)
        except (BrokenPipeError, ConnectionResetError):
            pass

    def send_each_byte(self, data: bytes) -> None:
        """Send byte by byte, each in a segment of its own."""
        try:
            for at in range(len(data)):
                self.socket.send(data[at : at + 1])
        except (BrokenPipeError, ConnectionResetError):
            pass

    def half_close(self) -> None:
        """Say that nothing more will be sent; go on reading."""
        self.socket.shutdown(socket.SHUT_WR)

    def abort(self) -> None:
        """Reset the connection instead of closing it."""
        self.socket.setsockopt(
            socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)
        )
        self.socket.close()

    def close(self) -> None:
        self.socket.close()

    # Receiving

    def _fill(self) -> bool:
        """Receive once; False at the end of the stream."""
        if self._at > 65536:
            del self._in[: self._at]
            self._at = 0
        data = self.socket.recv(262144)
        self._in += data
        return bool(data)

    def _fill_or_cut(self, what: str) -> None:
        try:
            more = self._fill()
        except ConnectionResetError:
            raise Truncated(f"reset in the middle of {what}") from None
        if not more:
            raise Truncated(f"closed in the middle of {what}: {self._rest()[:200]!r}")

    def _rest(self) -> bytes:
        return bytes(self._in[self._at :])

    def line(self) -> bytes:
        """One line, without its CRLF. A bare CR or LF in it is Malformed."""
        looked = 0
        while (end := self._in.find(b"\n", self._at + looked)) < 0:
            looked = len(self._in) - self._at
            if looked > LONGEST_LINE:
                raise Malformed(f"a line without an end: {self._rest()[:200]!r}")
            self._fill_or_cut("a line")
        line = bytes(self._in[self._at : end])
        self._at = end + 1
        if not line.endswith(b"\r") or b"\r" in line[:-1]:
            raise Malformed(f"bare CR or LF: {line!r}")
        return line[:-1]

    def exactly(self, count: int) -> bytes:
        """That many bytes."""
        while len(self._in) - self._at < count:
            try:
                self._fill_or_cut("a body")
            except Truncated as error:
                error.body = self._rest()
                raise
        data = bytes(self._in[self._at : self._at + count])
        self._at += count
        return data

    def to_end(self) -> bytes:
        """Everything up to a clean close."""
        try:
            while self._fill():
                pass
        except ConnectionResetError:
            raise Truncated("reset, not closed", self._rest()) from None
        data = self._rest()
        self._at = len(self._in)
        return data

    def fields(self) -> list[tuple[str, str]]:
        """Header or trailer fields with the empty line after them."""
        found = []
        while line := self.line():
            name, colon, value = line.partition(b":")
            if not colon or not FIELD_NAME.match(name) or not FIELD_VALUE.match(value):
                raise Malformed(f"field line {line!r}")
            found.append((name.decode(), value.strip(b" \t").decode("latin-1")))
        return found

    def head(self) -> Response:
        """Status line and fields of the next answer, its body still unread."""
        line = self.line()
        match = STATUS_LINE.match(line)
        if match is None:
            raise Malformed(f"status line {line!r}")
        version, status, reason = match.groups()
        answer = Response(
            version.decode(), int(status), reason.decode("latin-1"), self.fields()
        )
        for name in FIELDS_THAT_FRAME:
            if len(answer.all(name)) > 1:
                raise Malformed(f"{name} came twice: {answer.headers}")
        if "content-length" in answer and "transfer-encoding" in answer:
            raise Malformed(f"two framings: {answer.headers}")
        bodiless = answer.status < 200 or answer.status == 204
        if bodiless and ("content-length" in answer or "transfer-encoding" in answer):
            raise Malformed(f"{answer.status} with framing (RFC 9110 8.6, 9112 6.1)")
        return answer

    def chunk(self) -> bytes:
        """The data of one chunk; empty for the last one, whose trailers are unread."""
        size = self.line()
        if not re.fullmatch(rb"[0-9A-Fa-f]{1,15}", size):
            raise Malformed(f"chunk size line {size!r}")
        length = int(size, 16)
        if length == 0:
            return b""
        data = self.exactly(length)
        if self.exactly(2) != b"\r\n":
            raise Malformed("no CRLF after chunk data")
        return data

    def response(self, method: str = "GET") -> Response:
        """The next answer, 1xx answers included."""
        answer = self.head()
        if method == "HEAD" or answer.status < 200 or answer.status in (204, 304):
            return answer
        if "transfer-encoding" in answer:
            if answer["transfer-encoding"].lower() != "chunked":
                raise Malformed(f"transfer coding {answer['transfer-encoding']!r}")
            if answer.version == "1.0":
                raise Malformed("chunked in an HTTP/1.0 answer")
            answer.framing = "chunked"
            try:
                while piece := self.chunk():
                    answer.chunks.append(piece)
            except Truncated as error:
                error.body = b"".join(answer.chunks) + error.body
                raise
            answer.trailers = self.fields()
            answer.body = b"".join(answer.chunks)
        elif "content-length" in answer:
            length = answer["content-length"]
            if not re.fullmatch(r"[0-9]{1,18}", length):
                raise Malformed(f"Content-Length {length!r}")
            answer.framing = "length"
            answer.body = self.exactly(int(length))
        else:
            answer.framing = "close"
            answer.body = self.to_end()
        return answer

    def final_response(self, method: str = "GET") -> Response:
        """The next answer that is not a 1xx one."""
        while (answer := self.response(method)).status < 200:
            pass
        return answer

    def get(self, target: str = "/", *lines: str) -> Response:
        """An ordinary GET on this connection, and its answer."""
        fields = "".join(line + "\r\n" for line in ("Host: x", *lines))
        self.send(f"GET {target} HTTP/1.1\r\n{fields}\r\n".encode("latin-1"))
        return self.response()

    def post(self, target: str, body: bytes, *lines: str) -> Response:
        """An ordinary POST on this connection, and its answer."""
        fields = "".join(line + "\r\n" for line in ("Host: x", *lines))
        head = f"POST {target} HTTP/1.1\r\n{fields}Content-Length: {len(body)}\r\n\r\n"
        self.send(head.encode("latin-1") + body)
        return self.response()

    # How a connection ended

    def closed(self) -> bool:
        """Whether the server closes cleanly now, without another byte."""
        if self._rest():
            return False
        try:
            return not self._fill()
        except ConnectionResetError:
            return False

    def reset(self) -> bool:
        """Whether the server ends the connection by a reset, without another byte."""
        if self._rest():
            return False
        try:
            return not self._fill() and False
        except ConnectionResetError:
            return True

    def gone(self) -> bool:
        """Whether the connection ends, cleanly or not, without another byte."""
        if self._rest():
            return False
        try:
            return not self._fill()
        except ConnectionResetError:
            return True

    def drop_rest(self) -> int:
        """Read to the end, however it ends; returns the count of bytes."""
        count = len(self._rest())
        self._at = len(self._in)
        try:
            while data := self.socket.recv(262144):
                count += len(data)
        except ConnectionResetError:
            pass
        return count


def splits(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Every way to cut the bytes in two."""
    for at in range(1, len(data)):
        yield data[:at], data[at:]


def eventually(claim: Callable[[], Any], what: str, deadline_s: float = 0) -> Any:
    """Ask until the claim holds, and leave the machine to the server in between."""
    end = time.monotonic() + (deadline_s or 2 * DEADLINE_S)
    while not (result := claim()):
        assert time.monotonic() < end, f"never came true: {what}"
        time.sleep(0.001)
    return result
