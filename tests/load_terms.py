"""What the load client (tests/load.py) speaks of: styles, requests, their ends, counts."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field

ENDS = ("right", "wrong", "reset", "refused", "short", "timed out")

STATUS_LINE = re.compile(rb"HTTP/1\.[01] ([1-5]\d\d) [^\r\n]*\Z")
LENGTH = re.compile(rb"content-length:[ \t]*(\d{1,12})[ \t]*\Z", re.IGNORECASE)
CLOSE = re.compile(rb"connection:.*\bclose\b", re.IGNORECASE)
IDENTITY = re.compile(rb"(\S+) (\d+) (\S+) ([0-9a-f]{8})\n")


@dataclass(frozen=True)
class Style:
    """What a client does with its connections."""

    name: str
    close: bool = False  # Each request has a connection of its own.
    batch: int = 1  # Requests that are written at once.
    size: int = 60  # Bytes of an answer, at least.
    body: int = 0  # Bytes of a request's body.
    think_s: float = 0  # Mean pause between an answer and the next request.
    wait_s: float = 0  # Between the handshake and the first byte.
    pieces: int = 1  # A request is sent in so many,
    piece_s: float = 0  # with such pauses.
    read: int = 262144  # Bytes that are received at once,
    read_s: float = 0  # with such pauses.
    window: int = 0  # The size of the receive buffer.
    how: str = ""  # What the app is to do.
    status: int = 200  # What is the right answer then.
    requests: int = 0  # Each client ends after so many; 0: when it is stopped.


KEEP = Style("keep-alive", think_s=0.002)
IDLE = Style("idle", think_s=0.3)
CLOSING = Style("close", close=True, think_s=0.005)
PIPELINED = Style("pipelined", batch=8, think_s=0.01)
SLOW_SENDER = Style(
    "slow sender", body=20_000, wait_s=0.03, pieces=8, piece_s=0.02, think_s=0.02
)
SLOW_READER = Style("slow reader", size=400_000, read=32768, read_s=0.01, window=8192)
STYLES = (KEEP, IDLE, CLOSING, PIPELINED, SLOW_SENDER, SLOW_READER)


@dataclass
class Request:
    """One request, from its first try to its end."""

    nonce: bytes
    body: bytes
    began: float
    tries: int = 0


@dataclass(frozen=True)
class Loss:
    """A request that had no right answer, or was raced."""

    end: str
    style: str
    detail: str
    at: float
    connecting: float  # When its connection was begun,
    connected: float  # and when that was established; 0: never.
    key: tuple[str, int]  # The connection: its port, or the inode of a Unix socket.
    worker: int  # Who answered on this connection before; 0: nobody.

    def began_after(self, moment: float) -> bool:
        """Whether the handshake was not known to be over at that moment."""
        return (self.connected or self.at) >= moment


@dataclass
class Counts:
    """What has become of the requests of one style, or of all."""

    ends: Counter[str] = field(default_factory=Counter)
    raced: int = 0
    cut: int = 0
    reopened: int = 0  # Connections that the server closed while nothing was asked.

    @property
    def requests(self) -> int:
        return self.ends.total()

    @property
    def lost(self) -> int:
        return self.requests - self.ends["right"] + self.raced

    def __add__(self, other: Counts) -> Counts:
        return Counts(
            self.ends + other.ends,
            self.raced + other.raced,
            self.cut + other.cut,
            self.reopened + other.reopened,
        )

    def __str__(self) -> str:
        said = [f"{end} {self.ends[end]}" for end in ENDS if self.ends[end]]
        return ", ".join([*said, f"raced {self.raced}", f"cut {self.cut}"])


@dataclass
class Answer:
    """The head of the answer that is being received."""

    status: int
    close: bool
    body_at: int
    end: int | None  # None: it ends with the connection.


class NotHttp(Exception):
    """What came is no answer."""


def read_head(data: bytearray) -> Answer | None:
    """The head at the start of `data`; None when it is not all there."""
    end = data.find(b"\r\n\r\n")
    if end < 0:
        if len(data) > 65536:
            raise NotHttp("a head without an end")
        return None
    status_line, *lines = bytes(data[:end]).split(b"\r\n")
    status = STATUS_LINE.match(status_line)
    if status is None:
        raise NotHttp(f"status line {status_line[:60]!r}")
    lengths = [int(found[1]) for line in lines if (found := LENGTH.match(line))]
    if len(lengths) > 1:
        raise NotHttp("two lengths")
    close = status_line.startswith(b"HTTP/1.0") or any(map(CLOSE.match, lines))
    whole = end + 4 + lengths[0] if lengths else None
    if int(status[1]) in (204, 304):
        whole = end + 4
    return Answer(int(status[1]), close, end + 4, whole)
