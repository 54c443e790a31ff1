"""What the process that has started this one has left to it: sockets, and duties.

A master that is succeeded by this one says in the environment who it is (GUNICORN_PID) and
which sockets there are to go on with (GUNICORN_FD; LISTEN_FDS where they are systemd's).
That is Gunicorn's protocol. What is ours: PYWSGISERVE_FILES says which files of Unix
sockets the last one of the two is to remove, PYWSGISERVE_UWSGI at which sockets uwsgi is
spoken.
"""

from __future__ import annotations

import json
import os
import socket
import stat
from collections.abc import Mapping, MutableMapping, Sequence
from dataclasses import dataclass, field

from pywsgiserve import _core, logs, systemd
from pywsgiserve.checks import ConfigError
from pywsgiserve.config import Config, is_set

OURS = ("GUNICORN_PID", "GUNICORN_FD", "PYWSGISERVE_FILES", "PYWSGISERVE_UWSGI")
FAMILIES = (socket.AF_INET, socket.AF_INET6, socket.AF_UNIX)

# Path, device and inode of a socket's file.
File = tuple[bytes, int, int]


@dataclass(frozen=True)
class Inheritance:
    """What the process that has started this one has left to it."""

    predecessor: int = 0  # The master that has executed us, and lives; 0: none has.
    upgraded: bool = False  # A master has executed us, which may have ended since.
    sockets: Mapping[int, str] = field(default_factory=dict)  # And systemd's names.
    files: Mapping[int, File] = field(default_factory=dict)
    uwsgi: frozenset[int] | None = None  # Where that is spoken; None: not known.
    by_systemd: bool = False
    notify: systemd.Notify | None = None
    warnings: tuple[str, ...] = ()

    def inherited(
        self, config: Config
    ) -> list[tuple[int, bytes | None, int, int, str]]:
        """As `_core.Listeners` takes them, each one looked at."""
        for fd in self.sockets:
            why = why_not(fd)
            if why:
                origin = "LISTEN_FDS" if self.by_systemd else "GUNICORN_FD"
                raise ConfigError(f"bind: descriptor {fd} (from {origin}): {why}")
        return [
            (fd, *self.files.get(fd, (None, 0, 0)), self.protocol_of(fd, config))
            for fd in self.sockets
        ]

    def protocol_of(self, fd: int, config: Config) -> str:
        """What was spoken there; of systemd's sockets, those named uwsgi are for that."""
        if self.uwsgi is not None:
            return "uwsgi" if fd in self.uwsgi else "http"
        return "uwsgi" if self.sockets[fd] == "uwsgi" else config.protocol

    def say(self, config: Config, addresses: Sequence[str]) -> None:
        """Sockets that are there already stand above `bind`, as Gunicorn has it."""
        if self.by_systemd:
            names = [name for name in self.sockets.values() if name]
            more = f" ({', '.join(names)})" if names else ""
            logs.line("INFO", f"Sockets of systemd: {len(self.sockets)}{more}")
        if not is_set("bind", config.bind):
            return
        there = [*addresses, *(f"fd://{fd}" for fd in self.sockets)]
        missing = [text for text in config.bind if not is_among(text, there)]
        if missing:
            logs.line(
                "WARNING",
                f"bind: the inherited sockets are used, and not: {', '.join(missing)}",
            )


def is_among(bind: str, addresses: Sequence[str]) -> bool:
    """Whether a socket of that address is there; port 0 is any port."""
    try:
        address = _core.check_address(bind)
    except ValueError as error:
        raise ConfigError(str(error)) from None
    host, _, port = address.rpartition(":")
    if port == "0":
        return any(there.rpartition(":")[0] == host for there in addresses)
    return address in addresses


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


def read_uwsgi(text: str | None) -> frozenset[int] | None:
    if text is None:
        return None
    return frozenset(systemd.number(word) for word in text.split(",") if word)


def take(environ: MutableMapping[str, str] = os.environ) -> Inheritance:
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
        warnings.append(
            f"GUNICORN_FD={','.join(words)} is for another process, ignored"
        )
        fds = []
    if -1 in fds:
        raise ConfigError(f"bind: GUNICORN_FD: got {','.join(words)!r}")
    upgraded = is_child or bool(fds)
    return Inheritance(
        predecessor=parent if is_child else 0,
        upgraded=upgraded,
        sockets=sockets or dict.fromkeys(fds, ""),
        files=read_files(given.get("PYWSGISERVE_FILES", "")) if upgraded else {},
        uwsgi=read_uwsgi(given.get("PYWSGISERVE_UWSGI")) if upgraded else None,
        by_systemd=by_systemd,
        notify=notify,
        warnings=tuple(warnings),
    )
