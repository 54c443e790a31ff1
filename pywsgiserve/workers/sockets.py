"""The sockets that a class of workers is handed."""

from __future__ import annotations

import os
import socket
from typing import Any

from pywsgiserve import _core
from pywsgiserve.server import describe


class Listener:
    """A listening socket, and what Gunicorn shows beside it. It does not block."""

    def __init__(self, address: str, fd: int, cfg: Any, log: Any) -> None:
        self.sock: socket.socket = socket.socket(fileno=fd)
        self.sock.setblocking(False)
        self.cfg_addr = self.sock.getsockname()
        self.FAMILY = self.sock.family
        self.conf = cfg
        self.log = log
        self._address = address

    def __str__(self) -> str:
        return self._address

    def __getattr__(self, name: str) -> Any:
        return getattr(self.__dict__["sock"], name)


def taken(listeners: _core.Listeners, cfg: Any, log: Any) -> list[Listener]:
    """The sockets of this process, which `listeners` has no more."""
    found = [
        Listener(describe(*shown), os.dup(fd), cfg, log)
        for *shown, fd in zip(
            listeners.addresses, listeners.protocols, listeners.filenos, strict=True
        )
    ]
    listeners.close()
    return found
