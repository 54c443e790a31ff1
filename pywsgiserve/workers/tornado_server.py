"""Tornado's HTTP server as a part of a worker: it counts, logs and ends like ours."""

from __future__ import annotations

import asyncio
import os
import re
import select
import socket
import time
from collections.abc import Awaitable
from typing import TYPE_CHECKING, Any

from tornado import httputil
from tornado.http1connection import HTTP1Connection, HTTP1ServerConnection
from tornado.httpserver import HTTPServer
from tornado.web import Application, RequestHandler

from pywsgiserve import logs
from pywsgiserve.config import Config, is_set

if TYPE_CHECKING:
    from pywsgiserve import _core

# In a stop, for the next request of a connection that is idle: as the engine has it.
IDLE_S = 5.0
# And for what waits in the kernel's queue, should more and more come.
EMPTY_S = 1.0

# What is done by the engine, or by what calls WSGI apps.
IDLE_SETTINGS = (
    "body_buffer_size",
    "body_timeout",
    "forwarded_allow_ips",
    "forwarder_headers",
    "header_map",
    "header_timeout",
    "limit_request_field_size",
    "limit_request_fields",
    "limit_request_line",
    "post_request",
    "pre_request",
    "request_timeout",
    "response_spool_limit",
    "secure_scheme_headers",
    "send_timeout",
    "sendfile",
    "server_header",
    "slow_request_timeout",
    "threads",
    "worker_connections",
)


def warn_of_idle_settings(config: Config) -> None:
    for name in IDLE_SETTINGS:
        if is_set(name, getattr(config, name)):
            logs.line(
                "WARNING",
                f"{name}: a tornado.web.Application is served by Tornado, it has no "
                "effect",
            )


def options(config: Config) -> dict[str, Any]:
    """What Tornado can do of what is set."""
    return {
        "no_keep_alive": config.keepalive <= 0,
        "idle_connection_timeout": config.keepalive or None,
        "max_body_size": config.limit_request_body or None,
    }


class Watch(httputil.HTTPMessageDelegate):
    """Sees when a request begins."""

    def __init__(
        self,
        server: Server,
        ends: tuple[HTTP1ServerConnection, HTTP1Connection],
        delegate: httputil.HTTPMessageDelegate,
    ) -> None:
        self._server = server
        self._ends = ends
        self._delegate = delegate

    def headers_received(
        self,
        start_line: httputil.RequestStartLine | httputil.ResponseStartLine,
        headers: httputil.HTTPHeaders,
    ) -> Awaitable[None] | None:
        self._server.begin_request(*self._ends)
        return self._delegate.headers_received(start_line, headers)

    def data_received(self, chunk: bytes) -> Awaitable[None] | None:
        return self._delegate.data_received(chunk)

    def finish(self) -> None:
        self._delegate.finish()

    def on_connection_close(self) -> None:
        self._delegate.on_connection_close()


class Server(HTTPServer):
    """Knows which connections are at a request, so that it can end gracefully."""

    def join(self, engine: _core.Server, config: Config) -> None:
        self._engine = engine
        self._grace_s = config.graceful_timeout
        self._busy: dict[HTTP1ServerConnection, HTTP1Connection] = {}
        self._waiting: list[socket.socket] = []
        self._ending: asyncio.Task[None] | None = None
        self._changed = asyncio.Event()
        app = self.request_callback
        assert isinstance(app, Application)
        if config.accesslog is not None and "log_function" not in app.settings:
            app.settings["log_function"] = AccessLog(engine, config.access_log_format)

    @property
    def connections(self) -> set[HTTP1ServerConnection]:
        return self._connections

    def add_sockets(self, sockets: Any) -> None:
        self._waiting = list(sockets)
        super().add_sockets(self._waiting)

    # Each connection, from request to request

    def start_request(
        self, server_conn: object, request_conn: httputil.HTTPConnection
    ) -> httputil.HTTPMessageDelegate:
        assert isinstance(server_conn, HTTP1ServerConnection)
        assert isinstance(request_conn, HTTP1Connection)
        self._end_request(server_conn)
        delegate = super().start_request(server_conn, request_conn)
        return Watch(self, (server_conn, request_conn), delegate)

    def begin_request(
        self, connection: HTTP1ServerConnection, request: HTTP1Connection
    ) -> None:
        self._busy[connection] = request

    def _end_request(self, connection: HTTP1ServerConnection) -> None:
        if self._busy.pop(connection, None) is not None:
            if not self._engine.is_done():  # Else it is cut off, and nobody counts.
                self._engine.count_request()
            self._changed.set()

    def on_close(self, server_conn: object) -> None:
        assert isinstance(server_conn, HTTP1ServerConnection)
        self._end_request(server_conn)
        super().on_close(server_conn)
        self._changed.set()

    # The end

    def look(self) -> None:
        """After each step of the engine: do as it does."""
        if self._engine.says_close() and not self.conn_params.no_keep_alive:
            self.conn_params.no_keep_alive = True
            for request in self._busy.values():
                request._disconnect_on_finish = True
        if self._engine.is_draining() and self._ending is None:
            self._ending = asyncio.get_running_loop().create_task(self._end())

    async def _end(self) -> None:
        """Take what waits, answer what has begun, for as long as there is time."""
        now = time.monotonic()
        await self._empty(now + min(EMPTY_S, self._grace_s))
        self.stop()
        until = now + min(IDLE_S, self._grace_s)
        while self._connections and time.monotonic() < now + self._grace_s:
            if time.monotonic() >= until:
                for connection in self._connections - self._busy.keys():
                    connection.stream.close()
            self._changed.clear()
            later = until if time.monotonic() < until else now + self._grace_s
            left = max(0.0, later - time.monotonic())
            try:
                await asyncio.wait_for(self._changed.wait(), left)
            except asyncio.TimeoutError:
                pass
        self._engine.stop(graceful=False)

    async def _empty(self, until: float) -> None:
        """Let Tornado accept who is in the kernel's queue."""
        while time.monotonic() < until:
            there = select.poll()
            for sock in self._waiting:
                there.register(sock, select.POLLIN)
            if not there.poll(0):
                return
            await asyncio.sleep(0)


class Atoms(dict[str, object]):
    """What stands in a line; an atom that there is not is a dash."""

    def __init__(self, handler: RequestHandler) -> None:
        super().__init__()
        self._handler = handler
        request = handler.request
        seconds = request.request_time()
        query = request.query
        length = handler._headers.get("Content-Length", "-")
        now = time.localtime()
        self.update(
            h=request.remote_ip,
            t=time.strftime("[%d/%b/%Y:%H:%M:%S %z]", now),
            r=f"{request.method} {request.uri} {request.version}",
            m=request.method,
            U=request.path,
            q=query,
            H=request.version,
            s=handler.get_status(),
            B=length,
            b=length,
            f=request.headers.get("Referer", "-"),
            a=request.headers.get("User-Agent", "-"),
            T=int(seconds),
            D=int(seconds * 1e6),
            M=int(seconds * 1e3),
            L=f"{seconds:.6f}",
            p=f"<{os.getpid()}>",
        )

    def __missing__(self, key: str) -> object:
        name, kind = key[1:-2], key[-1:]
        if not key.startswith("{") or key[-2:-1] != "}":
            return "-"
        fields = {"i": self._handler.request.headers, "o": self._handler._headers}
        return fields[kind].get(name, "-") if kind in fields else "-"


class AccessLog:
    """What an Application calls when it has answered a request."""

    ATOM = re.compile(r"%(%|\((?P<name>[^)]*)\)[sd])")
    # As in the other lines: nothing there can end one, or drive a terminal.
    UNSAFE = re.compile(r'[\x00-\x1f\x7f-\x9f"\\]')

    def __init__(self, engine: _core.Server, line: str) -> None:
        self._engine = engine
        self._line = line

    def __call__(self, handler: RequestHandler) -> None:
        if self._engine.is_done():  # The time was over, and the logs with it.
            return
        atoms = Atoms(handler)

        def value(found: re.Match[str]) -> str:
            if found["name"] is None:
                return "%"
            text = str(atoms[found["name"]])
            return self.UNSAFE.sub(lambda char: f"\\x{ord(char[0]):02x}", text)

        line = self.ATOM.sub(value, self._line)
        self._engine.log_access(line.encode("utf-8", "backslashreplace"))
