"""USR2: the program is executed anew beside the one that runs, and takes its place.

The protocol is Gunicorn's. The new master finds in its environment who the old one is
(GUNICORN_PID) and the sockets to go on with (GUNICORN_FD; LISTEN_FDS where they are
systemd's). What is ours: PYWSGISERVE_FILES says which files of Unix sockets the last one
of the two is to remove.
"""

from __future__ import annotations

import json
import os
import socket
import stat
import sys
from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass, field
from typing import Any, NoReturn

from pywsgiserve import START, _core, logs, systemd
from pywsgiserve.checks import ConfigError
from pywsgiserve.server import log_exception

OURS = ("GUNICORN_PID", "GUNICORN_FD", "PYWSGISERVE_FILES")
FAMILIES = (socket.AF_INET, socket.AF_INET6, socket.AF_UNIX)

# Path, device and inode of a socket's file.
File = tuple[bytes, int, int]


@dataclass(frozen=True)
class Legacy:
    """What the process that has started this one has left to it."""

    predecessor: int = 0  # The master that has executed us, and lives; 0: none has.
    upgraded: bool = False  # A master has executed us, which may have ended since.
    sockets: Mapping[int, str] = field(default_factory=dict)  # And systemd's names.
    files: Mapping[int, File] = field(default_factory=dict)
    by_systemd: bool = False
    notify: systemd.Notify | None = None
    warnings: tuple[str, ...] = ()

    def inherited(self) -> list[tuple[int, bytes | None, int, int]]:
        """As `_core.Listeners` takes them, each one looked at."""
        for fd in self.sockets:
            why = why_not(fd)
            if why:
                origin = "LISTEN_FDS" if self.by_systemd else "GUNICORN_FD"
                raise ConfigError(f"bind: descriptor {fd} (from {origin}): {why}")
        return [(fd, *self.files.get(fd, (None, 0, 0))) for fd in self.sockets]


def why_not(fd: int) -> str:
    """What keeps us from accepting connections there; "" when nothing does."""
    try:
        if not stat.S_ISSOCK(os.fstat(fd).st_mode):
            return "it is no socket"
        found = socket.socket(fileno=fd)
    except OSError as error:
        return error.strerror or str(error)
    try:
        if found.family not in FAMILIES or found.type != socket.SOCK_STREAM:
            return "it is no TCP or Unix stream socket"
        if not found.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
            return "it does not listen"
    finally:
        found.detach()
    return ""


def read_files(text: str) -> dict[int, File]:
    """Nothing, when somebody else has written it."""
    try:
        return {
            int(fd): (os.fsencode(path), int(device), int(inode))
            for fd, path, device, inode in json.loads(text or "[]")
        }
    except (TypeError, ValueError):
        return {}


def take(environ: MutableMapping[str, str] = os.environ) -> Legacy:
    """Read and remove what is there for this process; `ConfigError` when it cannot be."""
    given = systemd.take(environ, OURS)
    notify = systemd.take_notify(environ)
    sockets = systemd.take_sockets(environ)
    by_systemd = bool(sockets)
    parent = systemd.number(given.get("GUNICORN_PID"))
    words = [word for word in given.get("GUNICORN_FD", "").split(",") if word]
    fds = [systemd.number(word) for word in words]
    is_child = parent == os.getppid()
    warnings = []
    if not is_child and any(fd < 0 or why_not(fd) for fd in fds):
        # An app of Gunicorn has started us, whose environment we have got.
        warnings.append(f"GUNICORN_FD={','.join(words)} is for another process, ignored")
        fds = []
    if -1 in fds:
        raise ConfigError(f"bind: GUNICORN_FD: got {','.join(words)!r}")
    upgraded = is_child or bool(fds)
    return Legacy(
        predecessor=parent if is_child else 0,
        upgraded=upgraded,
        sockets=sockets or dict.fromkeys(fds, ""),
        files=read_files(given.get("PYWSGISERVE_FILES", "")) if upgraded else {},
        by_systemd=by_systemd,
        notify=notify,
        warnings=tuple(warnings),
    )


# In the master that is succeeded


def environment(legacy: Legacy, listeners: _core.Listeners, parent: int) -> dict[str, str]:
    """For the program that this process is about to execute."""
    ours = {*OURS, *systemd.SOCKETS, *systemd.NOTIFY}
    environ = {name: value for name, value in START.environ.items() if name not in ours}
    environ["GUNICORN_PID"] = str(parent)
    open_ones = listeners.inheritable
    as_systemd = None
    if legacy.by_systemd:
        names = legacy.sockets
        as_systemd = systemd.sockets_environment(
            {item[0]: names.get(item[0], "") for item in open_ones}
        )
    environ.update(
        as_systemd or {"GUNICORN_FD": ",".join(str(item[0]) for item in open_ones)}
    )
    files = [
        (fd, os.fsdecode(path), device, inode)
        for fd, path, device, inode in open_ones
        if path is not None
    ]
    if files:
        environ["PYWSGISERVE_FILES"] = json.dumps(files)
    if legacy.notify is not None:
        environ.update(legacy.notify.environment(os.getpid()))
    return environ


def command() -> list[str]:
    """The words that have started this program, options of the interpreter too."""
    if not sys.executable or not sys.orig_argv:
        raise ConfigError("USR2: the command that has started this is not known")
    return [sys.executable, *sys.orig_argv[1:]]


def say_it_in_the_log() -> None:
    """A daemon has no stderr: what the new one cannot start for goes to the log's file."""
    opened = logs.opened.target
    if opened is not None and opened.stream is None:
        fd = opened.open()
        os.dup2(fd, 2)
        os.close(fd)


def execute(server: Any, legacy: Legacy, listeners: _core.Listeners) -> NoReturn:
    """In a child of the master `server`: become its successor."""
    try:
        try:
            if server.cfg.pre_exec is not None:
                server.cfg.pre_exec(server)
        except Exception as error:
            log_exception("Exception in pre_exec hook", error)
            return  # type: ignore[misc]  # It ends below.
        words = command()
        environ = environment(legacy, listeners, server.pid)
        if server.cfg.daemon:
            say_it_in_the_log()
        os.chdir(START.directory)
        for fd, *_ in listeners.inheritable:
            os.set_inheritable(fd, True)
        logs.close()
        os.execve(words[0], words, environ)
    except BaseException as error:
        log_exception("Exception in the process of a new master", error)
    finally:
        logs.close()
        os._exit(1)
