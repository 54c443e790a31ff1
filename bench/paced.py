"""Driving paced, which asks at a steady rate, and reading what it counted."""

from __future__ import annotations

import subprocess

from bench.client import BadAnswer
from bench.load import Counts
from bench.peers import built
from bench.process import Machine, Server

EVERY = 20  # asks for what is slow


def run(
    server: Server, machine: Machine, seconds: float, *, rate: int, every: int = EVERY
) -> Counts:
    """Ask this server so often a second; the latencies are those of the fast answers."""
    whole = max(1, round(seconds))
    command = ["taskset", "-c", str(machine.load_cpu)]
    command += [str(built("paced", machine.scratch)), "-p", str(server.port)]
    command += ["-r", str(rate), "-s", str(whole), "-n", str(every)]
    command += ["-c", str(server.workload.connections)]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    if ended.returncode:
        raise BadAnswer(f"at a steady rate: {ended.stderr.strip()}")
    fast, slow, *percentiles = map(int, ended.stdout.split()[1:])
    p50, p99, p999 = percentiles
    return Counts(fast + slow, whole, p50, p99, trouble="", p999_us=p999)
