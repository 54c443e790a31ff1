"""Starting a server on one core, finding all that belongs to it, stopping it."""

from __future__ import annotations

import os
import resource
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from bench.client import connected
from bench.peers import CHECKOUT, Peer, uwsgi_socket
from bench.workloads import Workload


class ServerError(Exception):
    """The server did not start, died, or answered something else."""


@dataclass(frozen=True)
class Machine:
    """Which core serves, which one loads, and where temporary files go."""

    scratch: Path
    server_cpu: int = 0
    load_cpu: int = 1


@dataclass
class Server:
    """A running server: a session of processes, all started by us."""

    peer: Peer
    workload: Workload
    port: int
    root: int  # the process we started, which leads the session
    log: Path
    wrapper: bool = False  # the root is strace, not the server
    path: str = ""  # of its Unix socket, which is in place of the port then
    _stopped: bool = field(default=False, repr=False)

    @property
    def address(self) -> int | str:
        return self.path or self.port

    def processes(self) -> list[int]:
        """The ids of all its processes; without the tool that watches them."""
        found = [pid for pid in _all_processes() if _session_of(pid) == self.root]
        return [pid for pid in found if not (self.wrapper and pid == self.root)]

    def cpu_ns(self) -> int:
        """CPU time so far of all its processes and threads, user and system."""
        total = 0
        for pid in self.processes():
            for task in Path(f"/proc/{pid}/task").glob("*/schedstat"):
                try:
                    total += int(task.read_text().split()[0])
                except OSError:
                    continue  # a thread that just ended
        return total

    def memory(self) -> int:
        """Bytes in RAM, all processes together, without what is a file's: who else has
        that open changes its share."""
        total = 0
        for pid in self.processes():
            for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
                if line.startswith(("Pss_Anon:", "Pss_Shmem:")):
                    total += int(line.split()[1]) * 1024
        return total

    def last_words(self) -> str:
        lines = self.log.read_text(errors="replace").strip().splitlines()
        return lines[-1].strip()[:160] if lines else "it said nothing"


def _all_processes() -> Iterator[int]:
    return (int(name) for name in os.listdir("/proc") if name.isdigit())


def _session_of(pid: int) -> int:
    try:
        status = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return 0
    fields = status.rpartition(")")[2].split()
    return 0 if fields[0] == "Z" else int(fields[3])


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def raise_file_limit() -> int:
    """Allow as many descriptors as we may; children inherit it."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


@contextmanager
def running(
    peer: Peer,
    workload: Workload,
    machine: Machine,
    *,
    under: Sequence[str] = (),
    wrapper: bool = False,
    patience: float = 20,
) -> Iterator[Server]:
    """Start the server, pinned, perhaps under a tool, and stop it at the end."""
    port = free_port()
    log = machine.scratch / f"log-{peer.name}"
    environ = {
        **os.environ,
        "BENCH_APP": workload.app,
        "PYTHONPATH": str(CHECKOUT),
        "PYTHONHASHSEED": "0",
    }
    command = ["taskset", "-c", str(machine.server_cpu), *under]
    command += peer.command(workload, port, machine.scratch)
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            cwd=CHECKOUT,
            env=environ,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    path = str(uwsgi_socket(port, machine.scratch)) if workload.uwsgi else ""
    server = Server(peer, workload, port, process.pid, log, wrapper, path)
    try:
        _wait_until_it_listens(server, process, patience)
        yield server
    finally:
        _stop(server, process, patience)


def _wait_until_it_listens(
    server: Server, process: subprocess.Popen[bytes], patience: float
) -> None:
    until = time.monotonic() + patience
    while time.monotonic() < until:
        if process.poll() is not None:
            raise ServerError(f"it ended at once: {server.last_words()}")
        try:
            connected(server.address, timeout=1).close()
            return
        except OSError:
            time.sleep(0.02)  # no two servers tell in the same way that they listen
    raise ServerError(f"it did not listen within {patience:g} s: {server.last_words()}")


def _stop(server: Server, process: subprocess.Popen[bytes], patience: float) -> None:
    """Ask all of its processes to end; kill what is left after a while."""
    _signal(server.processes(), signal.SIGTERM)
    until = time.monotonic() + patience
    while time.monotonic() < until and (process.poll() is None or server.processes()):
        time.sleep(0.01)  # most are not our children: there is nothing to wait for
    server.wrapper = False
    _signal(server.processes(), signal.SIGKILL)
    process.wait()


def _signal(pids: Sequence[int], number: int) -> None:
    for pid in pids:
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            continue
