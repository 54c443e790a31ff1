"""Clients that listen to server-sent events, all of them in this one thread."""

from __future__ import annotations

import selectors
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from bench import apps
from bench.client import BadAnswer
from bench.load import Counts
from bench.process import Machine, Server

REQUEST = b"GET /?%g HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
MARK = b"{"  # once in each event, and nowhere else
PATIENCE_S = 30
DUE = 0.8  # of all events: the app's pauses are a little longer than told


@dataclass
class Audience:
    """Clients with an open response each, and the events that each has got."""

    pause_s: float
    clients: dict[socket.socket, int]
    _readable: selectors.BaseSelector

    def run(self, server: Server, machine: Machine, seconds: float) -> Counts:
        """Listen for so many seconds; who got too few is trouble."""
        before = dict(self.clients)
        began = time.monotonic()
        while (left := began + seconds - time.monotonic()) > 0:
            self.take(left)
        elapsed = time.monotonic() - began
        got = [count - before[client] for client, count in self.clients.items()]
        due = elapsed / self.pause_s
        late = sum(count < DUE * due - 1 for count in got)
        trouble = f"{late} of {len(got)} clients got less than {DUE:.0%} of {due:.0f}"
        return Counts(sum(got), elapsed, 0, 0, trouble if late else "")

    def take(self, seconds: float) -> None:
        """Count what comes, waiting so long for the first of it."""
        for key, _ in self._readable.select(seconds):
            client = key.fileobj
            assert isinstance(client, socket.socket)
            data = client.recv(65536)
            if not data:
                raise BadAnswer("closed in the middle of a stream")
            self.clients[client] += data.count(MARK)

    def open(self, port: int) -> None:
        client = socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_S)
        self.clients[client] = 0
        client.sendall(REQUEST % self.pause_s)
        self._readable.register(client, selectors.EVENT_READ)

    def wait_until_all_listen(self) -> None:
        until = time.monotonic() + PATIENCE_S
        while not all(self.clients.values()):
            if time.monotonic() > until:
                deaf = sum(not count for count in self.clients.values())
                raise BadAnswer(f"{deaf} of {len(self.clients)} clients got no event")
            self.take(1)


@contextmanager
def listening(
    server: Server, count: int, pause_s: float = apps.EVENT_S
) -> Iterator[Audience]:
    """So many clients, each of which has got its first event."""
    audience = Audience(pause_s, {}, selectors.DefaultSelector())
    try:
        for _ in range(count):
            audience.open(server.port)
        audience.wait_until_all_listen()
        yield audience
    except OSError as error:
        raise BadAnswer(f"at {len(audience.clients)} clients: {error}") from error
    finally:
        for client in audience.clients:
            client.close()
