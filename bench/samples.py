"""What runs of the benchmark have measured, as their `--json` has kept it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bench import peers, workloads
from bench.measure import Row, Sample
from bench.peers import FLOOR, FLOOR_AGAIN, OURS
from bench.stats import Estimate
from bench.workloads import Workload


@dataclass(frozen=True)
class Best:
    """The peer that needs the least, and its CPU time by ours: below 1 we are behind."""

    peer: str
    by_ours: Estimate

    @property
    def ahead(self) -> bool:
        """As far as the figure that is shown tells."""
        return round(self.by_ours.value, 2) >= 1


@dataclass(frozen=True)
class Measured:
    """All that is known, with the machine and the method of each run."""

    headings: tuple[tuple[str, ...], ...]
    rows: Mapping[tuple[str, str], Row]  # by workload and server
    app_us: Mapping[str, float]
    others: Mapping[
        str, Any
    ]  # instructions, syscalls, memory_bytes, half_load: if measured

    @property
    def workloads(self) -> list[Workload]:
        there = {workload for workload, _ in self.rows}
        return [workload for workload in workloads.ALL if workload.name in there]

    @property
    def peers(self) -> list[str]:
        """The servers that ours is compared with."""
        there = {peer for _, peer in self.rows} - {FLOOR, FLOOR_AGAIN, OURS}
        return [peer.name for peer in peers.ALL if peer.name in there]

    def to_floor(self, workload: str, peer: str) -> Estimate | None:
        return self._ratio(workload, peer, FLOOR)

    def best(self, workload: str) -> Best | None:
        found = ((peer, self._ratio(workload, peer, OURS)) for peer in self.peers)
        known = [Best(peer, ratio) for peer, ratio in found if ratio]
        return min(known, key=lambda best: best.by_ours.value, default=None)

    def _ratio(self, workload: str, peer: str, base: str) -> Estimate | None:
        one, other = self.rows.get((workload, peer)), self.rows.get((workload, base))
        if one is None or other is None or not one.valid or not other.valid:
            return None
        return one.ratio_to(other)


def read(runs: Sequence[Mapping[str, Any]]) -> Measured:
    """Of several runs each gives its rows; of one that two have, the later's counts."""
    rows: dict[tuple[str, str], Row] = {}
    app_us: dict[str, float] = {}
    others: dict[str, Any] = {}
    headings = []
    for run in runs:
        new = [_row(row) for row in run.get("cpu", ())]
        names = list(dict.fromkeys(row.workload for row in new))
        for name in names:
            workloads.named(name)  # or it says that there is none
        rows = {key: row for key, row in rows.items() if key[0] not in names}
        rows |= {(row.workload, row.peer): row for row in new}
        app_us |= run.get("app_us", {})
        kinds = ("instructions", "syscalls", "memory_bytes", "half_load")
        others |= {kind: run[kind] for kind in kinds if kind in run}
        names += [kind for kind in kinds if kind in run]
        more = [f"Rows:    {', '.join(names)}"] if len(runs) > 1 and names else []
        headings.append((*run["heading"], *more))
    return Measured(tuple(headings), rows, app_us, others)


def _row(kept: Mapping[str, Any]) -> Row:
    samples = tuple(Sample(**sample) for sample in kept["samples"])
    return Row(kept["peer"], kept["workload"], samples, kept["trouble"])
