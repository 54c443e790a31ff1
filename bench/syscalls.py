"""System calls a request: strace counts two runs, and the difference is divided."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from bench.client import Client
from bench.peers import Peer
from bench.process import Machine, running
from bench.workloads import Workload

FEW, MANY = 20, 220
_LEAST = 0.02  # fewer a request than this is housekeeping


@dataclass(frozen=True)
class Calls:
    """How often each call is made a request, and how often it fails."""

    made: dict[str, float]
    failed: dict[str, float]

    @property
    def total(self) -> float:
        return sum(self.made.values())

    def told(self) -> str:
        parts = []
        for name, count in sorted(self.made.items(), key=lambda item: -item[1]):
            part = f"{name} {count:.2f}".replace(".00", "")
            if name in self.failed:
                part += f" ({self.failed[name]:.2f} fail)".replace(".00", "")
            parts.append(part)
        return ", ".join(parts)


def a_request(peer: Peer, workload: Workload, machine: Machine) -> Calls:
    """Calls by all of the server's processes and threads, one client at a time."""
    few_made, few_failed = _run(peer, workload, machine, FEW)
    made, failed = _run(peer, workload, machine, MANY)
    made.subtract(few_made)
    failed.subtract(few_failed)
    return Calls(_share(made), _share(failed))


def _share(counts: Counter[str]) -> dict[str, float]:
    shares = {name: count / (MANY - FEW) for name, count in counts.items()}
    return {name: share for name, share in shares.items() if share >= _LEAST}


def _run(
    peer: Peer, workload: Workload, machine: Machine, requests: int
) -> tuple[Counter[str], Counter[str]]:
    summary = machine.scratch / "strace"
    under = ["strace", "-f", "-c", "-U", "calls,errors,name", "-o", str(summary)]
    with running(peer, workload, machine, under=under, wrapper=True) as server:
        client = Client(server.address)
        for number in range(requests):
            request = workload.requests[number % len(workload.requests)]
            client.exchange(request * workload.pipeline, workload.pipeline)
        client.close()
    return _parsed(summary)


def _parsed(summary: Path) -> tuple[Counter[str], Counter[str]]:
    made: Counter[str] = Counter()
    failed: Counter[str] = Counter()
    for line in summary.read_text().splitlines():
        words = line.split()
        if len(words) < 2 or not words[0].isdigit() or words[-1] == "total":
            continue
        made[words[-1]] += int(words[0])
        if len(words) == 3:
            failed[words[-1]] += int(words[1])
    return made, failed
