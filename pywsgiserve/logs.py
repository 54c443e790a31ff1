"""The logs as Python sees them: files, and who writes into them in which format.

The error log has one sink, in the core (csrc/base/log.c). What the core has to say, what
this package has, the loggers `gunicorn.error` and `pywsgiserve.error`, `wsgi.errors` and,
with capture_output, stdout and stderr: all of it comes out there.
"""

from __future__ import annotations

import contextlib
import io
import logging  # Some 2 ms, that any app spends anyway.
import mmap
import os
import sys
import traceback
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pywsgiserve import _core
from pywsgiserve.checks import ConfigError
from pywsgiserve.cli import complain

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

    from pywsgiserve.config import Config

# As the core counts them.
LEVELS = {"DEBUG": 0, "INFO": 1, "WARNING": 2, "ERROR": 3, "CRITICAL": 4}

# Names of streams that are there already; some cannot be opened by name (a socket).
STREAMS = {"/dev/stdout": 1, "/dev/stderr": 2}

RING_SIZE = 64 * 1024  # As csrc/base/ring.h has it.

LOGGERS = ("gunicorn.error", "pywsgiserve.error")
FORMAT = "%(asctime)s [%(process)d] [%(levelname)s] %(message)s"
DATE_FORMAT = "[%Y-%m-%d %H:%M:%S %z]"
CONTROLS = {
    code: f"\\x{code:02x}"
    for code in (*range(0x20), *range(0x7F, 0xA0))
    if chr(code) not in "\t\n"
}


def line(level: str, text: str) -> None:
    """One record in Gunicorn's format. Further lines of `text` stay lines."""
    _core.log_record(LEVELS[level], text)


def exception(text: str, error: BaseException) -> None:
    """The core calls this with whatever an app has raised."""
    lines = "".join(traceback.format_exception(error)).rstrip()
    line("ERROR", f"{text}\n{lines}")


def explain(text: str, details: str = "") -> None:
    """Say on stderr why there is no server, or no worker; in the log, too, if that is
    somewhere else."""
    complain(text, details)
    if opened.target is not None and opened.target.stream is None:
        line("ERROR", f"{text}\n{details}" if details else text)


# Streams and loggers


class Sink(io.RawIOBase):
    """What is written goes into the error log as it is."""

    name = "<error log>"

    def writable(self) -> bool:
        return True

    def write(self, data: ReadableBuffer, /) -> int:
        _core.log_text(data)
        return memoryview(data).nbytes


class Errors(io.TextIOWrapper):
    """`wsgi.errors`: text for the error log, a line at a time. It cannot be closed."""

    def __init__(self) -> None:
        super().__init__(
            Sink(),  # Raw is enough: each write is complete.
            encoding="utf-8",
            errors="backslashreplace",
            line_buffering=True,
        )

    def close(self) -> None:
        self.flush()


class Formatter(logging.Formatter):
    """Lines as the core writes them, no controls in them."""

    def __init__(self) -> None:
        super().__init__(FORMAT, DATE_FORMAT)

    def format(self, record: logging.LogRecord) -> str:
        return super().format(record).translate(CONTROLS)


errors = Errors()
handler = logging.StreamHandler(errors)
handler.setFormatter(Formatter())


def install_loggers(level: str) -> None:
    """Let apps log with Gunicorn's logger, or borrow its handlers, as they do.

    The server itself does not log through it: an app's logging config may disable it.
    """
    for name in LOGGERS:
        logger = logging.getLogger(name)
        logger.setLevel(level)
        logger.propagate = False
        if handler not in logger.handlers:
            logger.addHandler(handler)


# Descriptors and files


def fill_standard_descriptors() -> None:
    """Give 0, 1 and 2 to /dev/null where they are closed.

    Else they would be the next sockets' numbers, and what is printed would go to clients.
    """
    fd = os.open(os.devnull, os.O_RDWR)
    while fd <= 2:
        os.set_inheritable(fd, True)
        fd = os.open(os.devnull, os.O_RDWR)
    os.close(fd)


@dataclass(frozen=True)
class Target:
    """Where a log goes: to a stream that is there, or to a file."""

    setting: str
    stream: int | None
    path: str  # Absolute: it is opened again from wherever the app has gone.
    owner: tuple[int, int]

    def open(self) -> int:
        """A descriptor of the caller's; `ConfigError` when there can be none."""
        try:
            return os.dup(self.stream) if self.stream is not None else self.open_file()
        except OSError as error:
            raise ConfigError(
                f"{self.setting}: cannot write to {self.path!r}: {error.strerror}"
            ) from None

    def open_file(self) -> int:
        """A file made here is its owner's, who may have to open it again. One that was
        there is left as it is: the name may be a link to anything."""
        # O_NONBLOCK, so as not to wait for the reader of a named pipe.
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOCTTY | os.O_NONBLOCK
        made = True
        try:
            fd = os.open(self.path, flags | os.O_EXCL, 0o644)
        except FileExistsError:
            fd = os.open(self.path, flags, 0o644)
            made = False
        try:
            os.set_blocking(fd, True)  # For what is captured: an app knows no EAGAIN.
            if made and os.geteuid() == 0:
                os.fchown(fd, *self.owner)
        except OSError:
            os.close(fd)
            raise
        return fd


def target(config: Config, setting: str, dash: int) -> Target:
    path = getattr(config, setting)
    user, group = (-1 if i is None else i for i in (config.user, config.group))
    if path == "-":
        return Target(setting, dash, path, (user, group))
    return Target(setting, STREAMS.get(path), os.path.abspath(path), (user, group))


def capture_output(fd: int) -> None:
    """Let what is printed go to `fd`, each line when it is complete."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            with contextlib.suppress(OSError):
                stream.flush()
            stream.reconfigure(line_buffering=True)
    os.dup2(fd, 1)
    os.dup2(fd, 2)


@dataclass
class ErrorLog:
    """How the error log of this process is open now."""

    target: Target | None = None
    level: int = LEVELS["INFO"]
    capture: bool = False

    def connect(self) -> None:
        if self.target is None:
            return
        fd = self.target.open()
        try:
            _core.log_open(fd, self.level)
            if self.capture:
                capture_output(fd)
        except OSError as error:
            raise no_log(error) from None
        finally:
            os.close(fd)


def no_log(error: OSError) -> ConfigError:
    return ConfigError(f"errorlog: it cannot be opened: {error.strerror}")


opened = ErrorLog()


def open(config: Config) -> None:
    """Open the error log as the settings have it, and the loggers of Python code.

    `ConfigError` when it cannot be written: then all stays as it was. To be called before
    anything opens sockets or imports the app, and again whenever the settings or the
    descriptors 0 to 2 have changed: the log has a duplicate of what they were.
    """
    global opened
    try:
        fill_standard_descriptors()
    except OSError as error:
        raise no_log(error) from None
    wanted = ErrorLog(
        target(config, "errorlog", 2),
        LEVELS[config.loglevel.upper()],
        # Gunicorn captures nothing where the log is stderr anyway.
        config.capture_output and config.errorlog != "-",
    )
    wanted.connect()
    opened = wanted
    install_loggers(config.loglevel.upper())


def reopen() -> None:
    """Open the error log's file again: it was renamed."""
    try:
        opened.connect()
    except ConfigError as problem:
        line("ERROR", f"{problem}; going on with the old file")


def close() -> None:
    """At the end of a process: say what has not been said yet."""
    errors.flush()
    _core.log_flush()


def shared_rings(count: int) -> mmap.mmap:
    """Memory for the access log lines of `count` workers, one a place of a master.

    It is made before the first fork. The server of a worker gets its `ring` as
    `access_log_memory`; when the worker has been reaped, and before its place is given
    to another one, the master drains it.
    """
    return mmap.mmap(
        -1, count * RING_SIZE
    )  # It is taken page by page, when written to.


def ring(memory: mmap.mmap, place: int) -> memoryview:
    return memoryview(memory)[place * RING_SIZE : (place + 1) * RING_SIZE]


class AccessLog:
    """The access log of a server: a descriptor, which keeps its number, or -1 for none."""

    def __init__(self, config: Config) -> None:
        self._target: Target | None = None
        self.fd = -1
        if config.accesslog is not None:
            self._target = target(config, "accesslog", 1)
            self.fd = self._target.open()

    def reopen(self, server: _core.Server | None = None) -> None:
        """Open the file again, it was renamed, and let the server go on with it."""
        if self._target is None or self.fd < 0:
            return
        try:
            fd = self._target.open()
        except ConfigError as problem:
            line("ERROR", f"{problem}; going on with the old file")
            return
        os.dup2(fd, self.fd, inheritable=False)
        os.close(fd)
        if server is not None:
            server.reopen_access_log(self.fd)

    def drain(self, ring: memoryview) -> None:
        """Write what a dead worker has left in its ring; also after `close()`."""
        if self._target is None:
            return
        try:
            fd = self._target.open() if self.fd < 0 else os.dup(self.fd)
        except (ConfigError, OSError) as problem:
            line("ERROR", f"lines of a worker that has ended are lost: {problem}")
            return
        try:
            if not _core.log_drain(ring, fd):
                line("ERROR", "accesslog: lines of a worker that has ended are lost")
        finally:
            os.close(fd)

    def close(self) -> None:
        if self.fd >= 0:
            os.close(self.fd)
        self.fd = -1
