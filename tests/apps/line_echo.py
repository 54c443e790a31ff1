"""A worker that is no HTTP server at all: each line of a client comes back to it."""

import selectors
import time

from pywsgiserve.workers import Worker


class LineEcho(Worker):
    def run(self):
        self.clients = set()
        self.watched = selectors.DefaultSelector()
        for listener in self.sockets:
            self.watched.register(listener, selectors.EVENT_READ, self.accept)
        # A signal makes this one readable, so that it ends the wait.
        self.watched.register(self.PIPE[0], selectors.EVENT_READ, lambda pipe: None)
        while self.alive:
            self.turn(self.timeout or None)
        self.drain()
        self.log.info("%s has sent %d lines back", self, self.nr)

    def turn(self, seconds):
        self.notify()
        for key, _ in self.watched.select(seconds):
            key.data(key.fileobj)

    def drain(self):
        """Others accept now; who is connected is served on, for a while."""
        for listener in self.sockets:
            self.watched.unregister(listener)
            listener.close()
        self.watched.unregister(self.PIPE[0])
        end = time.monotonic() + self.cfg.graceful_timeout
        while self.clients and time.monotonic() < end:
            self.turn(1)

    def accept(self, listener):
        try:
            client, _ = listener.accept()
        except BlockingIOError:
            return  # Another worker was faster.
        client.settimeout(5)
        self.clients.add(client)
        self.watched.register(client, selectors.EVENT_READ, self.echo)

    def echo(self, client):
        try:
            line = client.makefile("rb").readline()
            client.sendall(line)
        except OSError:
            line = b""
        if line:
            self.served()
        else:
            self.close(client)

    def close(self, client):
        self.watched.unregister(client)
        self.clients.discard(client)
        client.close()
