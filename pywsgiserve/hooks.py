"""What hooks are handed: the worker, a request and its response, as Gunicorn shows them.

All take attributes of the hook's own: a start time on the request, say.
"""

from __future__ import annotations

import io
import os
import re
import socket
import sys
import time
import traceback
from collections.abc import Callable, Mapping
from typing import Any

from pywsgiserve import logs
from pywsgiserve.checks import ConfigError, accepts
from pywsgiserve.config import Config

# By uwsgi, beside the names without HTTP_.
SAID_TWICE = ("HTTP_CONTENT_TYPE", "HTTP_CONTENT_LENGTH")

LogWriter = Callable[[str, str], None]


def call_safely(config: Config, name: str, *given: object) -> None:
    """Call a hook, if there is one, that must not stop what goes on."""
    hook = getattr(config, name)
    if hook is not None:
        try:
            hook(*given)
        except BaseException as error:
            logs.exception(f"Exception in {name} hook", error)


def call_needed(config: Config, name: str, *given: object) -> None:
    """Call a hook, if there is one, without which there is no start."""
    hook = getattr(config, name)
    if hook is None:
        return
    try:
        hook(*given)
    except Exception as error:
        logs.exception(f"Exception in {name} hook", error)
        said = f"{type(error).__name__}: {error}"
        raise ConfigError(f"{name}: the hook has failed: {said}") from None


class Log:
    """The error log, with the methods of Gunicorn's logger."""

    def __init__(self, write: LogWriter) -> None:
        self._write = write

    def _record(self, level: str, text: object, args: Any, more: Any) -> None:
        """`more` is what logging knows; of that, exc_info shows."""
        shown = str(text) % args if args else str(text)
        exc_info = more.get("exc_info")
        if isinstance(exc_info, tuple):
            exc_info = exc_info[1]
        if isinstance(exc_info, BaseException):
            shown += "\n" + "".join(traceback.format_exception(exc_info)).rstrip()
        elif exc_info:
            shown += "\n" + traceback.format_exc().rstrip()
        self._write(level, shown)

    def debug(self, text: object, *args: Any, **more: Any) -> None:
        self._record("DEBUG", text, args, more)

    def info(self, text: object, *args: Any, **more: Any) -> None:
        self._record("INFO", text, args, more)

    def warning(self, text: object, *args: Any, **more: Any) -> None:
        self._record("WARNING", text, args, more)

    def error(self, text: object, *args: Any, **more: Any) -> None:
        self._record("ERROR", text, args, more)

    def critical(self, text: object, *args: Any, **more: Any) -> None:
        self._record("CRITICAL", text, args, more)

    def exception(self, text: object, *args: Any, **more: Any) -> None:
        self._record("ERROR", text, args, {"exc_info": True, **more})


class Listener:
    """A listening socket of the server, for as long as this process has it."""

    def __init__(self, address: str, fileno: Callable[[], int]) -> None:
        self._address = address
        self._fileno = fileno

    def __str__(self) -> str:
        return self._address

    def fileno(self) -> int:
        return self._fileno()

    @property
    def sock(self) -> socket.socket:
        """A socket object of the caller's own, to be let go of: while somebody holds
        one, clients can connect and wait, even when nobody accepts any more."""
        return socket.socket(fileno=os.dup(self.fileno()))

    def getsockname(self) -> Any:
        with self.sock as sock:
            return sock.getsockname()


class Heartbeat:
    """Gunicorn's `worker.tmp`, which is a file there: signs of life."""

    def __init__(self, notify: Callable[[], object]) -> None:
        self._notify = notify
        self._last = time.monotonic()

    def notify(self) -> None:
        """The call in hand has come further: its time begins anew."""
        self._last = time.monotonic()
        self._notify()

    def last_update(self) -> float:
        return self._last

    def fileno(self) -> int:
        raise io.UnsupportedOperation("worker.tmp is no file: call its notify()")

    def close(self) -> None:
        """There is nothing to close."""


class Application:
    """Gunicorn's `app`: the settings, and the way to the WSGI callable."""

    def __init__(self, config: Any, load: Callable[[], Any]) -> None:
        self.cfg = config
        self._load = load
        self.callable: Any = None

    def wsgi(self) -> Any:
        """Load the app in this process, or return what was loaded."""
        if self.callable is None:
            self.callable = self._load()
        return self.callable


class Pidfile:
    """Where the master's number is written."""

    def __init__(self, fname: str, pid: int) -> None:
        self.fname = fname
        self.pid = pid


class Worker:
    """A worker, in the master (before the fork) and in itself."""

    def __init__(self, age: int, config: Config, log: Log) -> None:
        self.age = age
        self.pid: int | str = "[booting]"
        self.ppid = os.getpid()
        self.cfg = config
        self.log = log
        self.timeout = config.timeout / 2  # As Gunicorn hands it to a worker.
        self.booted = False
        self.aborted = False
        self.alive = True
        self.max_requests = sys.maxsize
        self.reason = ""  # Why it has ended, when the master knows: in child_exit.
        self.reloader = None
        self.sockets: list[Listener] = []
        self.app: Application | None = None
        self.wsgi: Any = None
        self.tmp = Heartbeat(lambda: None)
        self.count: Callable[[], int] = lambda: 0

    @property
    def nr(self) -> int:
        """How many requests have come."""
        return self.count()

    @property
    def counted_requests(self) -> int:
        """As the core has it: 0 for no limit."""
        return 0 if self.max_requests >= sys.maxsize else self.max_requests

    def notify(self) -> None:
        self.tmp.notify()

    def __str__(self) -> str:
        return f"<Worker {self.pid}>"


class Request:
    """The request in hand. Everything is read from its environ when it is asked for."""

    def __init__(self, environ: Mapping[str, Any], config: Config) -> None:
        self._environ = environ
        self.cfg = config

    @property
    def method(self) -> str:
        return str(self._environ["REQUEST_METHOD"])

    @property
    def uri(self) -> str:
        return str(self._environ["RAW_URI"])

    @property
    def path(self) -> str:
        """As the client has written it, without the query."""
        return self.uri.partition("?")[0].partition("#")[0]

    @property
    def query(self) -> str:
        return str(self._environ["QUERY_STRING"])

    @property
    def fragment(self) -> str:
        return self.uri.partition("#")[2]

    @property
    def scheme(self) -> str:
        return str(self._environ["wsgi.url_scheme"])

    @property
    def version(self) -> tuple[int, int]:
        """The client's, so behind nginx also 2.0; 1.0 where that says nothing."""
        text = self._environ["SERVER_PROTOCOL"]
        match = re.fullmatch(r"HTTP/([0-9])(?:\.([0-9]))?", text)
        return (1, 0) if match is None else (int(match[1]), int(match[2] or 0))

    @property
    def remote_addr(self) -> tuple[str, int] | str:
        host = self._environ.get("REMOTE_ADDR", "")
        port = self._environ.get("REMOTE_PORT", "")
        number = int(port) if re.fullmatch("[0-9]{1,5}", port) else 0
        return (host, number) if host else ""

    peer_addr = remote_addr

    @property
    def body(self) -> Any:
        return self._environ["wsgi.input"]

    def should_close(self) -> bool:
        """Whether the client asks for the end of the connection after this."""
        options = self._environ.get("HTTP_CONNECTION", "").lower().split(",")
        asked = {option.strip() for option in options}
        return "close" in asked or (
            self.version <= (1, 0) and "keep-alive" not in asked
        )

    @property
    def headers(self) -> list[tuple[str, str]]:
        found = []
        for name, value in self._environ.items():
            if name in ("CONTENT_TYPE", "CONTENT_LENGTH"):
                found.append((name.replace("_", "-"), value))
            elif name.startswith("HTTP_") and name not in SAID_TWICE:
                found.append((name[5:].replace("_", "-"), value))
        return found


class Response:
    """What the app has answered."""

    def __init__(
        self,
        environ: Mapping[str, Any],
        status: str | None,
        headers: tuple[tuple[str, str], ...],
        sent: int,
    ) -> None:
        self.version = str(environ["SERVER_SOFTWARE"])  # So in Gunicorn, too.
        self.status = status  # None: the app has failed before it had one.
        self.headers = list(headers)
        self.sent = sent
        self.headers_sent = status is not None
        self.chunked = False
        self.must_close = True  # The connection ends with this response.

    @property
    def status_code(self) -> int | None:
        return None if self.status is None else int(self.status[:3])

    @property
    def response_length(self) -> int | None:
        for name, value in self.headers:
            if name.lower() == "content-length":
                return int(value)
        return None


BeforeRequest = Callable[[Mapping[str, Any]], Request]
AfterRequest = Callable[
    [
        "Request | None",
        Mapping[str, Any],
        "str | None",
        "tuple[tuple[str, str], ...] | None",
        int,
        bool,
        bool,
    ],
    None,
]


def before_request(worker: Worker) -> BeforeRequest | None:
    """What the core calls before the app, if there is such a hook."""
    hook = worker.cfg.pre_request
    if hook is None:
        return None

    def before(environ: Mapping[str, Any]) -> Request:
        request = Request(environ, worker.cfg)
        hook(worker, request)
        return request

    return before


def after_request(worker: Worker) -> AfterRequest | None:
    """What the core calls after the app, if there is such a hook."""
    hook = worker.cfg.post_request
    if hook is None:
        return None
    count = next(n for n in (4, 3, 2) if accepts(hook, n))

    def after(
        request: Request | None,
        environ: Mapping[str, Any],
        status: str | None,
        headers: tuple[tuple[str, str], ...] | None,
        sent: int,
        chunked: bool,
        closes: bool,
    ) -> None:
        response = Response(environ, status, headers or (), sent)
        response.chunked, response.must_close = chunked, closes
        request = request or Request(environ, worker.cfg)
        given = (worker, request, environ, response)
        try:
            hook(*given[:count])
        except Exception:
            worker.log.exception("Exception in post_request hook")

    return after
