"""User instructions a request: callgrind counts two runs, and the difference is divided.

The counts repeat within half a percent on any machine, however busy, which makes them
the figures to guard in CI. Kernel work is not in them."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from bench.client import Client, check
from bench.peers import CHECKOUT, Peer
from bench.process import Machine, running
from bench.workloads import Workload

FEW, MANY = 200, 2200
PATIENCE = 180  # a server under valgrind is slow to start


def a_request(peer: Peer, workload: Workload, machine: Machine) -> float:
    """Instructions that the server's processes need for a request."""
    with running(peer, workload, machine) as server:
        check(server.address, workload)  # and all modules are compiled from here on
    few, many = (_run(peer, workload, machine, n) for n in (FEW, MANY))
    return (many - few) / (MANY - FEW) / workload.pipeline


def an_app_call(workload: Workload, machine: Machine, *, fresh: bool) -> float:
    """Instructions that the app itself needs, its environ reused or copied."""
    how = ["--fresh"] if fresh else []
    return _calls(workload, machine, how) - _calls(workload, machine, ["--loop"])


def _calls(workload: Workload, machine: Machine, how: list[str]) -> float:
    few, many = (_run_app(workload, machine, n, how) for n in (FEW, MANY))
    return (many - few) / (MANY - FEW)


def _run(peer: Peer, workload: Workload, machine: Machine, requests: int) -> int:
    under = _callgrind(machine)
    with running(peer, workload, machine, under=under, patience=PATIENCE) as server:
        client = Client(server.address, timeout=PATIENCE)
        variants = workload.requests
        for number in range(requests):
            request = variants[number % len(variants)] * workload.pipeline
            client.exchange(request, workload.pipeline)
        client.close()
    return _counted(machine)


def _run_app(workload: Workload, machine: Machine, calls: int, how: list[str]) -> int:
    command = [*_callgrind(machine), sys.executable, "-m", "bench.floor_app"]
    command += [workload.name, str(calls), *how]
    environ = {**os.environ, "PYTHONHASHSEED": "0"}
    subprocess.run(command, cwd=CHECKOUT, env=environ, check=True, capture_output=True)
    return _counted(machine)


def _outputs(machine: Machine) -> Sequence[Path]:
    return list(machine.scratch.glob("callgrind.*"))


def _callgrind(machine: Machine) -> list[str]:
    for old in _outputs(machine):
        old.unlink()
    # Not among the words: a server that writes its title there would make it nameless.
    output = f"VALGRIND_OPTS=--callgrind-out-file={machine.scratch}/callgrind.%p"
    return ["env", output, "valgrind", "-q", "--tool=callgrind", "--trace-children=yes"]


def _counted(machine: Machine) -> int:
    """The sum over all processes."""
    total = 0
    for output in _outputs(machine):
        for line in output.read_text(errors="replace").splitlines():
            if line.startswith("totals:"):
                total += int(line.split()[1])
    if total == 0:
        raise RuntimeError("callgrind counted nothing")
    return total
