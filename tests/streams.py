"""Servers whose standard streams the test chooses, broken ones among them.

They listen on a socket that they inherit: a test needs no log to find them.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from tests.client import Client
from tests.process import ROOT, START_S, STOP_S, environment

Address = tuple[str, int]
# Descriptors to be kept open, and the one to write to.
Broken = tuple[list[int], int]


@contextlib.contextmanager
def launched(
    app: str,
    settings: Mapping[str, object] = {},
    command: list[str] | None = None,
    **process: Any,
) -> Iterator[tuple[subprocess.Popen[bytes], Address]]:
    """The server and its address; killed at the end.

    `run(app, **settings)`, or with a `command` the command with these arguments.
    """
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        fd = listener.fileno()
        settings = {"bind": f"fd://{fd}", "keepalive": 60, **settings}
        module = ["tests.launch", app, json.dumps(settings)]
        if command is not None:
            module = ["pywsgiserve", "-b", f"fd://{fd}", *command, app]
        server = subprocess.Popen(
            [sys.executable, "-m", *module],
            cwd=ROOT,
            env=environment({}),
            pass_fds=(fd,),
            start_new_session=True,
            **process,
        )
        try:
            yield server, listener.getsockname()
        finally:
            server.kill()
            server.wait()


def served(address: Address, path: str = "/fine") -> int:
    """The status of a request."""
    with socket.create_connection(address, timeout=START_S) as connection:
        client = Client(connection)
        connection.settimeout(START_S)
        return client.get(path).status


def nobody_reads() -> Broken:
    """A pipe that is full and stays so."""
    ours, theirs = os.pipe()
    os.set_blocking(theirs, False)
    with contextlib.suppress(BlockingIOError):
        while os.write(theirs, b"x" * 4096):
            pass
    os.set_blocking(theirs, True)
    return [ours], theirs


def gone() -> Broken:
    ours, theirs = os.pipe()
    os.close(ours)
    return [], theirs


def full_disk() -> Broken:
    return [], os.open("/dev/full", os.O_WRONLY)


def reset_socket() -> Broken:
    ours, theirs = socket.socketpair()
    ours.close()
    return [], theirs.detach()


BROKEN: list[Callable[[], Broken]] = [nobody_reads, gone, full_disk, reset_socket]


def finish(server: subprocess.Popen[bytes], signum: int = signal.SIGTERM) -> None:
    """Ask it to end; it must do so well."""
    server.send_signal(signum)
    assert server.wait(STOP_S) == 0
