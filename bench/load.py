"""Driving wrk with the very bytes of a workload, and reading what it counted."""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass

from bench.process import Machine, Server
from bench.workloads import Workload

PATIENCE_S = 10  # with an answer, before it counts as an error

_SCRIPT = """
local file = io.open("{requests}", "rb")
local bytes = file:read("*a")
file:close()
{how}
function done(summary, latency, requests)
  local e = summary.errors
  io.write(string.format("counted %d %d %d %d %d %d %d %.0f %.0f\\n",
    summary.requests, summary.duration, e.connect, e.read, e.write, e.status, e.timeout,
    latency:percentile(50), latency:percentile(99)))
end
"""

# wrk builds its one request with wrk.format, and sends it from C ever after.
_ALWAYS_THE_SAME = "function wrk.format() return bytes end"

_IN_TURN = """
local size, count, at = {size}, {count}, 0
function request()
  local from = at * size
  at = (at + 1) % count
  return bytes:sub(from + 1, from + size)
end
"""


@dataclass(frozen=True)
class Counts:
    """What the load program saw."""

    requests: int
    seconds: float
    p50_us: float
    p99_us: float
    trouble: str  # errors, in words; empty when there were none
    p999_us: float = 0.0  # wrk is not asked for it


def run(server: Server, machine: Machine, seconds: float) -> Counts:
    """Load this server for so many seconds."""
    workload = server.workload
    script = _script(workload, machine)
    command = ["taskset", "-c", str(machine.load_cpu), "wrk", "-t1"]
    command += [f"-c{workload.connections}", f"-d{max(1, round(seconds))}s"]
    command += ["--timeout", f"{PATIENCE_S}s", "-s", script]
    command.append(f"http://127.0.0.1:{server.port}/")
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    for line in ended.stdout.splitlines():
        if line.startswith("counted "):
            return _counts([int(word) for word in line.split()[1:]])
    raise RuntimeError(f"wrk failed: {(ended.stderr or ended.stdout).strip()[-300:]}")


def _script(workload: Workload, machine: Machine) -> str:
    path = machine.scratch / f"{workload.name}.lua"
    if not path.exists():
        requests = machine.scratch / f"{workload.name}.requests"
        requests.write_bytes(b"".join(workload.requests) * workload.pipeline)
        how = _ALWAYS_THE_SAME
        if len(workload.requests) > 1:
            size, count = len(workload.requests[0]), len(workload.requests)
            how = _IN_TURN.format(size=size, count=count)
        path.write_text(_SCRIPT.format(requests=requests, how=how))
    return os.fspath(path)


def _counts(numbers: list[int]) -> Counts:
    requests, duration_us, *errors, p50, p99 = numbers
    names = ("connect", "read", "write", "status", "timeout")
    trouble = [f"{n} {name} errors" for n, name in zip(errors, names, strict=True) if n]
    return Counts(requests, duration_us / 1e6, p50, p99, ", ".join(trouble))
