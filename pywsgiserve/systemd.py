"""What systemd says to a service in its environment: sockets to take, whom to notify.

See sd_listen_fds(3), sd_notify(3) and sd_watchdog_enabled(3). What is read is removed: it
is for one process, and not for its children.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass

from pywsgiserve import logs
from pywsgiserve.checks import ConfigError

FIRST_FD = 3
SOCKETS = ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES", "LISTEN_PIDFDID")
NOTIFY = ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID")


def number(text: str | None) -> int:
    """Digits and nothing else; -1 for anything that is no number."""
    return int(text) if text and text.isascii() and text.isdigit() else -1


@dataclass(frozen=True)
class Notify:
    """Whom to tell how the service is, and within which time at least once."""

    address: str
    watchdog_usec: int = 0  # 0: it need not be told.

    def environment(self, pid: int) -> dict[str, str]:
        """For the process `pid`, which is to notify in our place."""
        found = {"NOTIFY_SOCKET": self.address}
        if self.watchdog_usec:
            found["WATCHDOG_USEC"] = str(self.watchdog_usec)
            found["WATCHDOG_PID"] = str(pid)
        return found

    def tell(self, text: str) -> None:
        """For one process without a master, whose core does it (csrc/proc/systemd.c)."""
        address = self.address
        if address.startswith("@"):
            address = "\0" + address[1:]
        flags = socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC
        try:
            with socket.socket(socket.AF_UNIX, flags) as sender:
                sender.sendto(text.encode(), os.fsencode(address))
        except OSError as error:
            logs.line("WARNING", f"NOTIFY_SOCKET: {self.address!r}: {error}")


def take(environ: MutableMapping[str, str], names: tuple[str, ...]) -> dict[str, str]:
    return {name: environ.pop(name) for name in names if name in environ}


def take_notify(environ: MutableMapping[str, str]) -> Notify | None:
    given = take(environ, NOTIFY)
    address = given.get("NOTIFY_SOCKET", "")
    if not address:
        return None
    for_us = given.get("WATCHDOG_PID", "") in ("", str(os.getpid()))
    watchdog = number(given.get("WATCHDOG_USEC"))
    return Notify(address, watchdog if for_us and watchdog > 0 else 0)


def take_sockets(environ: MutableMapping[str, str]) -> dict[int, str]:
    """The descriptors that are handed to this very process, and their names."""
    given = take(environ, SOCKETS)
    count = number(given.get("LISTEN_FDS"))
    if number(given.get("LISTEN_PID")) != os.getpid() or count == 0:
        return {}
    if not 0 < count <= 1024:
        raise ConfigError(f"bind: LISTEN_FDS: got {given.get('LISTEN_FDS')!r}")
    names = given.get("LISTEN_FDNAMES", "").split(":")
    names += [""] * (count - len(names))
    return {FIRST_FD + i: names[i] for i in range(count)}


def sockets_environment(fds: Mapping[int, str]) -> dict[str, str] | None:
    """The same for this process, which is to execute a program; None: they are not in
    the places that the protocol has for them."""
    if list(fds) != list(range(FIRST_FD, FIRST_FD + len(fds))):
        return None
    found = {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": str(len(fds))}
    if any(fds.values()):
        found["LISTEN_FDNAMES"] = ":".join(fds.values())
    return found
