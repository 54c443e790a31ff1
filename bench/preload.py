"""`python -m bench.preload`: the memory of Django workers, loaded one by one or preloaded.

Eight workers serve the login page of Django's admin, and collect garbage now and then, as
any does in time. Printed, in MiB from smaps_rollup: what a worker has for itself, what it
shares with others, and what all of the server's processes take together (Pss).
"""

from __future__ import annotations

import argparse
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import mean

from bench.peers import CHECKOUT
from bench.process import ServerError, free_port

APP = "tests.apps.django_site:application"
REQUEST = b"GET /admin/login/ HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
PATIENCE_S = 120
MIB = 1024 * 1024
COLLECT = """
import gc
from itertools import count
turns = count(1)
def post_request(worker, req):
    if next(turns) % 20 == 0:
        gc.collect()
"""
VARIANTS = {
    "each worker loads the app": "",
    "preload_app, without gc.freeze()": "preload_app = True\ngc.freeze = lambda: None",
    "preload_app": "preload_app = True",
}


@dataclass(frozen=True)
class Share:
    """Bytes of one process."""

    private: int
    shared: int
    proportional: int

    @classmethod
    def of(cls, pid: int) -> Share:
        text = Path(f"/proc/{pid}/smaps_rollup").read_text()
        sizes = {n: int(k) * 1024 for n, k in re.findall(r"(\w+): +(\d+) kB", text)}
        return cls(
            sizes["Private_Clean"] + sizes["Private_Dirty"],
            sizes["Shared_Clean"] + sizes["Shared_Dirty"],
            sizes["Pss"],
        )


def main() -> None:
    options = _options()
    print(
        f"MiB, {options.workers} workers after {options.requests} requests, "
        f"Python {sys.version.split()[0]}"
    )
    print("| | private, a worker | shared, a worker | all processes (Pss) |")
    print("| --- | --- | --- | --- |")
    for name, settings in VARIANTS.items():
        every, workers = measure(settings, options.workers, options.requests)
        private = mean(share.private for share in workers)
        shared = mean(share.shared for share in workers)
        total = sum(share.proportional for share in every)
        print(
            f"| {name} | {private / MIB:.1f} | {shared / MIB:.1f} | {total / MIB:.0f} |"
        )


def measure(
    settings: str, workers: int, requests: int
) -> tuple[list[Share], list[Share]]:
    """All processes of such a server, and its workers, after so many requests."""
    with tempfile.TemporaryDirectory() as folder:
        conf = Path(folder, "conf.py")
        conf.write_text(f"{COLLECT}{settings}\n")
        with served(conf, workers) as (server, port):
            for _ in range(requests):
                ask(port)
            pids = family(server.pid)
            titles = {pid: Path(f"/proc/{pid}/cmdline").read_bytes() for pid in pids}
            ours = [Share.of(pid) for pid in pids if b": worker" in titles[pid]]
            if len(ours) != workers:
                raise ServerError(f"{len(ours)} workers of {workers}")
            return [Share.of(pid) for pid in pids], ours


@contextmanager
def served(conf: Path, workers: int) -> Iterator[tuple[subprocess.Popen[str], int]]:
    port = free_port()
    command = [sys.executable, "-m", "pywsgiserve", "-c", str(conf), "-w", str(workers)]
    server = subprocess.Popen(
        [*command, "-b", f"127.0.0.1:{port}", APP],
        cwd=CHECKOUT,
        env={**os.environ, "DJANGO_DIR": str(conf.parent)},
        stdin=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert server.stderr is not None
    try:
        for line in server.stderr:
            if "Workers are ready" in line:
                break
        else:
            raise ServerError(f"it does not start: {' '.join(command)}")
        yield server, port
    finally:
        server.send_signal(signal.SIGTERM)
        server.communicate(timeout=PATIENCE_S)


def ask(port: int) -> None:
    with socket.create_connection(("127.0.0.1", port), PATIENCE_S) as client:
        client.sendall(REQUEST)
        if not client.recv(65536).startswith(b"HTTP/1.1 200 "):
            raise ServerError("the login page is not there")


def family(root: int) -> list[int]:
    """The process and its children."""
    children = Path(f"/proc/{root}/task/{root}/children").read_text().split()
    return [root, *map(int, children)]


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser("python -m bench.preload", description=__doc__)
    add = parser.add_argument
    add("--workers", type=int, default=8, help="(%(default)s)")
    add("--requests", type=int, default=1600, help="(%(default)s)")
    return parser.parse_args()


if __name__ == "__main__":
    main()
