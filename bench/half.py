"""p50 and p99 at half load: how soon a server answers that has time to.

Each is asked at a steady rate, half of what it did just before under full load, and a
latency counts from when its request was due."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import median

from bench import load, paced
from bench.client import BadAnswer, check
from bench.measure import WARM_UP_SECONDS, rotated
from bench.peers import Peer
from bench.process import Machine, ServerError, running
from bench.workloads import Workload


@dataclass(frozen=True)
class Latency:
    """Of one run, or the medians of several."""

    rate: float  # requests a second
    p50_us: float
    p99_us: float


def measured(
    peers: Sequence[Peer],
    workload: Workload,
    machine: Machine,
    *,
    rounds: int,
    seconds: float,
) -> Iterator[tuple[str, Latency | str]]:
    """The figures of each server, or why it has none; interleaved rounds, whose order
    rotates."""
    peers = [peer for peer in peers if peer.takes(workload)]
    found: dict[str, list[Latency]] = {peer.name: [] for peer in peers}
    failed: dict[str, str] = {}
    for number in range(rounds):
        for peer in rotated(peers, number):
            if peer.name in failed:
                continue
            try:
                found[peer.name].append(_once(peer, workload, machine, seconds))
            except (ServerError, BadAnswer, RuntimeError) as error:
                failed[peer.name] = str(error)
    for name, runs in found.items():
        yield name, failed.get(name) or _medians(runs)


def _once(peer: Peer, workload: Workload, machine: Machine, seconds: float) -> Latency:
    with running(peer, workload, machine) as server:
        check(server.address, workload)
        load.run(server, machine, WARM_UP_SECONDS)
        full = load.run(server, machine, seconds)
        rate = max(1, round(full.requests / full.seconds / 2))
        half = paced.run(server, machine, seconds, rate=rate, every=0)
    return Latency(rate, half.p50_us, half.p99_us)


def _medians(runs: Sequence[Latency]) -> Latency:
    return Latency(
        median(run.rate for run in runs),
        median(run.p50_us for run in runs),
        median(run.p99_us for run in runs),
    )
