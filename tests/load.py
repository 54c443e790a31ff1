"""A client that keeps many connections busy, and knows how each of its requests ended.

It talks to tests/apps/loaded.py, whose answers carry the nonce of the request. Each
request has one end:

    right       the answer, whole, and of this request
    wrong       another status, other bytes, or no HTTP
    reset       the connection was reset before the answer was whole
    refused     there was nobody to connect to
    short       the connection was closed before the answer was whole
    timed out   no whole answer within the patience of this client

Two things may come before the end, since a request may be sent again:

    raced       sent on a connection that had served before, and not a byte came back: it
                crossed the server's close (RFC 9112 9.3.1), or was in a killed process
    cut         pipelined behind a request whose answer said close (RFC 9112 9.6)

Both are tried again on a new connection, and counted. A connection that the server
closes while nothing is asked on it is no event at all: before each request the client
looks whether that has happened, as a connection pool does.
"""

from __future__ import annotations

import errno
import heapq
import itertools
import os
import random
import selectors
import socket
import threading
import time
import zlib
from collections import Counter, deque
from collections.abc import Iterable, Sequence
from types import TracebackType

from tests.client import SANITIZED
from tests.load_terms import (
    IDENTITY,
    STYLES,
    Answer,
    Counts,
    Loss,
    NotHttp,
    Request,
    Style,
    read_head,
)

PATIENCE_S = 120.0 if SANITIZED else 60.0
SWEEP_S = 0.25
# When nobody is there, or a queue is full: doubled each time, up to the longest.
PAUSE_S, LONGEST_PAUSE_S = 0.02, 0.32
# A pause as long as keep-alive (2 s) would now and then cross the server's close.
LONGEST_THOUGHT = 5  # Times the mean.


class Client:
    """One of the connections, made anew as often as it takes."""

    def __init__(self, load: Load, style: Style, address: str) -> None:
        self.load = load
        self.style = style
        self.address = address
        self.counts = Counts()
        self.done = False
        self.token = 0  # The timer that counts; older ones have been overtaken.
        self._left = style.requests
        self._refusals = 0
        self._again: deque[Request] = deque()  # To be sent once more.
        self._forget()

    def _forget(self) -> None:
        self.socket: socket.socket | None = None
        self.watched = 0
        self.pending: deque[Request] = deque()  # Sent, or being sent, not answered.
        self.connecting = self.connected = 0.0
        self.key = ("", 0)
        self.worker = 0
        self._pieces: deque[memoryview] = deque()
        self._in = bytearray()
        self._answer: Answer | None = None
        self._reused = False  # Answers came before this batch was written,
        self._answered = 0  # and so many since.
        self._served = False

    # What to do next

    def begin(self) -> None:
        """Write the next requests, on the connection there is or on a new one."""
        if not self._again and (self.load.stopping or self._is_finished()):
            self._close()
            self.done = True
            return
        if self.socket is not None and self._was_closed():
            self.counts.reopened += 1
            self._close()
        batch = self._next_batch()
        if self.socket is None:
            self.pending.extend(batch)
            self._connect()
        else:
            self.pending.extend(batch)
            self._write()

    def _is_finished(self) -> bool:
        return self.style.requests > 0 and self._left == 0

    def _next_batch(self) -> list[Request]:
        batch = list(self._again)
        self._again.clear()
        if batch:
            return batch
        count = self.style.batch
        if self.style.requests:
            count = min(count, self._left)
            self._left -= count
        return [self._new_request() for _ in range(count)]

    def _new_request(self) -> Request:
        self.load.started += 1
        nonce = self.load.nonce()
        body = (nonce * (self.style.body // len(nonce) + 1))[: self.style.body]
        return Request(nonce, body, self.load.now)

    def _was_closed(self) -> bool:
        """Whether the server has ended the connection while nothing was asked on it."""
        assert self.socket is not None
        try:
            data = self.socket.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            return False
        except OSError:
            return True
        if data:
            self.load.surprise(self, "bytes that nobody has asked for")
        return True

    # Connecting

    def _connect(self) -> None:
        unix = self.address.startswith("unix:")
        family = socket.AF_UNIX if unix else socket.AF_INET
        sock = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        self.socket = sock
        self.connecting = time.monotonic()
        if self.style.window:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, self.style.window)
        if unix:
            code = sock.connect_ex(self.address.removeprefix("unix:"))
        else:
            host, _, port = self.address.removeprefix("http://").rpartition(":")
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            code = sock.connect_ex((host, int(port)))
        if code == 0:
            self._is_connected()
        elif code == errno.EINPROGRESS:
            self._watch(selectors.EVENT_WRITE)
        elif (
            code == errno.EAGAIN
        ):  # A Unix socket with a full queue: others would wait.
            self._try_again_soon()
        else:
            self._not_connected(code)

    def _try_again_soon(self) -> None:
        pending = self.pending
        self._close()
        self._again.extend(pending)
        self._next_after(PAUSE_S)

    def _not_connected(self, code: int) -> None:
        ends = {errno.ECONNREFUSED: "refused", errno.ENOENT: "refused"}
        ends |= {errno.ECONNRESET: "reset", errno.ETIMEDOUT: "timed out"}
        if code not in ends:
            raise OSError(code, f"connect to {self.address}: {os.strerror(code)}")
        self._end_all(ends[code], f"connect: {os.strerror(code)}")
        self._next_after(min(PAUSE_S * 2**self._refusals, LONGEST_PAUSE_S))
        self._refusals = min(self._refusals + 1, 10)

    def _is_connected(self) -> None:
        assert self.socket is not None
        self.connected = time.monotonic()
        self._refusals = 0
        self._watch(selectors.EVENT_READ)
        if self.socket.family == socket.AF_UNIX:
            self.key = ("unix", os.fstat(self.socket.fileno()).st_ino)
        else:
            self.key = ("tcp", self.socket.getsockname()[1])
        if self.style.wait_s:
            self.load.call_at(
                self, self.load.now + random.uniform(0, self.style.wait_s)
            )
        self._write()

    # Sending

    def _bytes_of(self, request: Request) -> bytes:
        method = "POST" if request.body else "GET"
        target = f"/{request.nonce.decode()}/{self.style.size}/{self.style.how}"
        head = f"{method} {target} HTTP/1.1\r\nHost: load\r\n"
        if request.body:
            head += f"Content-Length: {len(request.body)}\r\n"
        if self.style.close:
            head += "Connection: close\r\n"
        return f"{head}\r\n".encode() + request.body

    def _write(self) -> None:
        self._reused = self._served
        self._answered = 0
        for request in self.pending:
            request.tries += 1
        data = memoryview(b"".join(map(self._bytes_of, self.pending)))
        each = -(-len(data) // self.style.pieces)
        self._pieces.extend(data[at : at + each] for at in range(0, len(data), each))
        if not (self.style.wait_s and not self._served):
            self._send()

    def _send(self) -> None:
        """Send the next piece; what cannot be sent may have been answered already."""
        assert self.socket is not None
        while self._pieces:
            piece = self._pieces.popleft()
            try:
                sent = self.socket.send(piece, socket.MSG_NOSIGNAL)
            except BlockingIOError:
                sent = 0
            except OSError:
                self._pieces.clear()
                break
            if sent < len(piece):
                self._pieces.appendleft(piece[sent:])
                self._watch(selectors.EVENT_READ | selectors.EVENT_WRITE)
                return
            if self._pieces and self.style.piece_s:
                self._watch(selectors.EVENT_READ)
                self.load.call_at(self, self.load.now + self.style.piece_s)
                return
        self._watch(selectors.EVENT_READ)

    # Receiving

    def event(self, mask: int) -> None:
        """Something can be done with the socket."""
        assert self.socket is not None
        if self.connected == 0:
            code = self.socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            if code:
                self._not_connected(code)
            else:
                self._is_connected()
            return
        if mask & selectors.EVENT_WRITE:
            self._send()
        if mask & selectors.EVENT_READ:
            self._receive()

    def _receive(self) -> None:
        assert self.socket is not None
        try:
            data = self.socket.recv(self.style.read)
        except BlockingIOError:
            return
        except OSError as error:
            self._cut_off("reset", os.strerror(error.errno or 0))
            return
        if not data:
            self._cut_off("short", "closed")
            return
        self._in += data
        try:
            self._take_answers()
        except NotHttp as error:
            self._end_all("wrong", str(error))
            self._next_after(self._pause())
            return
        if self.socket is not None and self.pending and self.style.read_s:
            self._watch(0)
            self.load.call_at(self, self.load.now + self.style.read_s)

    def _take_answers(self) -> None:
        """Match what has come with what was asked."""
        while self._in:
            if not self.pending:
                self.load.surprise(self, f"more than was asked for: {self._in[:80]!r}")
                self._close()
                self._next_after(self._pause())
                return
            if self._answer is None:
                self._answer = read_head(self._in)
            answer = self._answer
            if answer is None or answer.end is None or len(self._in) < answer.end:
                return
            body = bytes(self._in[answer.body_at : answer.end])
            del self._in[: answer.end]
            self._answer = None
            if answer.status < 200:
                continue
            self._judge(answer, body)
            too_early = bool(self._pieces) and not self.pending
            if answer.close or self.style.close or too_early:
                self._ended_by_answer()
                return
        if not self.pending and self.socket is not None:
            self._next_after(self._pause())

    def _ended_by_answer(self) -> None:
        if self._in:
            self.load.surprise(self, "bytes behind an answer that said close")
        self.counts.cut += len(self.pending)
        again = self.pending
        self._close()
        self._again.extend(again)
        self._next_after(0 if again else self._pause())

    def _judge(self, answer: Answer, body: bytes) -> None:
        request = self.pending.popleft()
        self._served = True
        self._answered += 1
        problem = self._wrong_with(request, answer, body)
        self._end(request, "wrong" if problem else "right", problem)

    def _wrong_with(self, request: Request, answer: Answer, body: bytes) -> str:
        if answer.status != self.style.status:
            return f"status {answer.status}"
        if answer.status != 200:
            return ""
        found = IDENTITY.match(body)
        if found is None or found[1] != request.nonce:
            return f"of another request: {body[:60]!r}"
        if int(found[4], 16) != zlib.crc32(request.body):
            return "of another body"
        missing = max(self.style.size - found.end(), 0)
        filler = request.nonce * (missing // len(request.nonce) + 1)
        if body[found.end() :] != filler[:missing]:
            return f"{len(body)} bytes, not those of this request"
        self.worker = int(found[2])
        self.load.seen(self.worker, found[3].decode())
        return ""

    # How it ends

    def _cut_off(self, end: str, detail: str) -> None:
        """The connection is over, by close or reset."""
        if not self.pending:
            self.counts.reopened += 1
            self._close()
            return
        if self._answer is not None and self._answer.end is None:
            self._end_all("wrong", f"status {self._answer.status}, without a length")
        elif self._reused and not self._answered and not self._in:
            self.counts.raced += len(self.pending)
            for _ in self.pending:
                self.load.lose(self, "raced", detail)
            again = self.pending
            self._close()
            self._again.extend(again)
        else:
            where = "in the answer" if self._in else "before the answer"
            self._end_all(end, f"{detail} {where}")
        self._next_after(self._pause())

    def check_patience(self) -> None:
        requests = self.pending or self._again
        if requests and self.load.now - requests[0].began > self.load.patience_s:
            self.pending.extend(self._again)
            self._again.clear()
            self._end_all("timed out", f"after {self.load.patience_s:g} s")
            self._next_after(0)

    def _end(self, request: Request, end: str, detail: str) -> None:
        self.counts.ends[end] += 1
        if end == "right":
            self.load.answers += 1
        else:
            self.load.lose(self, end, detail)

    def _end_all(self, end: str, detail: str) -> None:
        while self.pending:
            self._end(self.pending.popleft(), end, detail)
        self._close()

    def _pause(self) -> float:
        mean = self.style.think_s
        return min(random.expovariate(1 / mean), LONGEST_THOUGHT * mean) if mean else 0

    def _next_after(self, pause_s: float) -> None:
        self.load.call_at(self, self.load.now + pause_s)

    def timer(self) -> None:
        """The pause is over, whichever it was."""
        if self.socket is not None and self.pending:
            if self._pieces:
                self._send()
            elif self.style.read_s:
                self._watch(selectors.EVENT_READ)
        else:
            self.begin()

    def hurry(self) -> None:
        """The load is being stopped: do not wait for the end of a pause."""
        if not self.pending:
            self.load.call_at(self, self.load.now)

    def _watch(self, events: int) -> None:
        assert self.socket is not None
        self.load.watch(self, self.socket, events)

    def _close(self) -> None:
        if self.socket is not None:
            self.load.watch(self, self.socket, 0)
            self.socket.close()
        self._forget()


class Load:
    """Clients at work, from __enter__ to __exit__, in a thread of their own."""

    def __init__(
        self,
        addresses: str | Sequence[str],
        styles: Iterable[Style] = STYLES,
        each: int = 4,
        patience_s: float = PATIENCE_S,
    ) -> None:
        self.patience_s = patience_s
        self.answers = 0  # The right ones, so far.
        self.started = 0
        self.losses: list[Loss] = []
        self.surprises: list[str] = []
        self.workers: Counter[int] = Counter()
        self.versions: Counter[str] = Counter()
        self.stopping = False
        self.now = time.monotonic()
        self._wanted_stop = False
        self._selector = selectors.DefaultSelector()
        self._timers: list[tuple[float, int, Client]] = []
        self._numbers = itertools.count(1)
        self._prefix = f"{os.getpid():x}-{random.getrandbits(32):08x}"
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="load")
        if isinstance(addresses, str):
            addresses = [addresses]
        self.clients = [
            Client(self, style, address)
            for style in styles
            for address, _ in zip(itertools.cycle(addresses), range(each), strict=False)
        ]

    # For those who look on

    def __enter__(self) -> Load:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """Ask nothing more, wait for the ends of what was asked."""
        self._wanted_stop = True
        if self._thread.is_alive():
            self._thread.join()
        if self._failure is not None:
            raise self._failure
        assert self.started == self.counts().requests, "a request without an end"

    def join(self) -> None:
        """Wait for clients that end by themselves."""
        self._thread.join()
        self.stop()

    def counts(self, style: str = "") -> Counts:
        """Of one style or of all."""
        total = Counts()
        for client in self.clients:
            if not style or client.style.name == style:
                total += client.counts
        return total

    # For the clients

    def nonce(self) -> bytes:
        return f"{self._prefix}-{next(self._numbers):x}".encode()

    def seen(self, worker: int, version: str) -> None:
        self.workers[worker] += 1
        self.versions[version] += 1

    def surprise(self, client: Client, what: str) -> None:
        self.surprises.append(f"{client.style.name}: {what}")

    def lose(self, client: Client, end: str, detail: str) -> None:
        self.losses.append(
            Loss(
                end,
                client.style.name,
                detail,
                time.monotonic(),
                client.connecting,
                client.connected,
                client.key,
                client.worker,
            )
        )

    def call_at(self, client: Client, when: float) -> None:
        """Call client.timer() then, instead of any time said before."""
        client.token = next(self._numbers)
        heapq.heappush(self._timers, (when, client.token, client))

    def watch(self, client: Client, sock: socket.socket, events: int) -> None:
        if client.watched == events:
            return
        if events == 0:
            self._selector.unregister(sock)
        elif client.watched == 0:
            self._selector.register(sock, events, client)
        else:
            self._selector.modify(sock, events, client)
        client.watched = events

    # The loop

    def _run(self) -> None:
        try:
            self._serve_clients()
        except BaseException as error:
            self._failure = error
        finally:
            for client in self.clients:
                client._close()
            self._selector.close()

    def _serve_clients(self) -> None:
        sweep_at = 0.0
        for client in self.clients:
            self.call_at(client, self.now)
        while not all(client.done for client in self.clients):
            self._take_events(min(sweep_at - self.now, SWEEP_S))
            self._run_timers()
            if self.now >= sweep_at:
                sweep_at = self.now + SWEEP_S
                self._sweep()

    def _take_events(self, timeout_s: float) -> None:
        if self._timers:
            timeout_s = min(timeout_s, self._timers[0][0] - self.now)
        for key, mask in self._selector.select(max(timeout_s, 0)):
            client: Client = key.data
            if client.socket is key.fileobj:  # Not closed by an event before this one.
                self.now = time.monotonic()
                client.event(mask)
        self.now = time.monotonic()

    def _run_timers(self) -> None:
        while self._timers and self._timers[0][0] <= self.now:
            _, token, client = heapq.heappop(self._timers)
            if client.token == token and not client.done:
                client.timer()

    def _sweep(self) -> None:
        for client in self.clients:
            client.check_patience()
        if self._wanted_stop and not self.stopping:
            self.stopping = True
            for client in self.clients:
                if not client.done:
                    client.hurry()
