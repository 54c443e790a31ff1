"""Driving packets, which sends uwsgi packets, and reading what it counted."""

from __future__ import annotations

import subprocess

from bench.client import BadAnswer
from bench.load import Counts
from bench.peers import built
from bench.process import Machine, Server


def run(server: Server, machine: Machine, seconds: float) -> Counts:
    """Load this server for so many seconds."""
    workload = server.workload
    packet = machine.scratch / f"{workload.name}.packet"
    packet.write_bytes(workload.requests[0])
    command = ["taskset", "-c", str(machine.load_cpu)]
    command += [str(built("packets", machine.scratch)), "-u", str(server.address)]
    command += ["-f", str(packet), "-s", str(max(1, round(seconds)))]
    command += ["-c", str(workload.connections), "-b", str(workload.expected_length)]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    if ended.returncode:
        raise BadAnswer(f"under load: {ended.stderr.strip()}")
    answers, duration_us, p50, p99 = map(int, ended.stdout.split()[1:])
    return Counts(answers, duration_us / 1e6, p50, p99, trouble="")
