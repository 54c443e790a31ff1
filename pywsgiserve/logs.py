"""The error log, for Python code: the same lines in the same place as those of the core."""

from __future__ import annotations

import os

from pywsgiserve import _core

# As the core counts them.
LEVELS = {"DEBUG": 0, "INFO": 1, "WARNING": 2, "ERROR": 3, "CRITICAL": 4}


def line(level: str, text: str) -> None:
    """One record in Gunicorn's format. Further lines of `text` stay lines."""
    _core.log_record(LEVELS[level], text)


def fill_standard_descriptors() -> None:
    """Give 0, 1 and 2 to /dev/null where they are closed.

    Else they would be the next sockets' numbers, and what is printed would go to clients.
    """
    fd = os.open(os.devnull, os.O_RDWR)
    while fd <= 2:
        os.set_inheritable(fd, True)
        fd = os.open(os.devnull, os.O_RDWR)
    os.close(fd)


def open_stderr() -> None:
    """Log to what is stderr now, whatever an app does to descriptor 2 later."""
    fill_standard_descriptors()
    _core.log_open(2, LEVELS["INFO"])
