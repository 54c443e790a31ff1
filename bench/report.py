"""The sections of a report: each measures, prints its tables and keeps the figures."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from bench import half, instructions, memory, syscalls, table
from bench.client import BadAnswer
from bench.measure import Row, floor_of, workload_rows
from bench.peers import CHECKOUT, FLOOR, FLOOR_AGAIN, OURS, Peer
from bench.process import Machine, ServerError
from bench.workloads import Workload


@dataclass
class Report:
    """How to measure what, and all that was measured."""

    options: argparse.Namespace
    machine: Machine
    peers: list[Peer]
    data: dict[str, Any]

    @property
    def exact_peers(self) -> list[Peer]:
        """For figures that repeat exactly the floor need not be measured twice."""
        return [peer for peer in self.peers if peer.name != FLOOR_AGAIN]

    def keep(self) -> None:
        """Write what there is so far: all of it takes hours."""
        if self.options.json:
            Path(self.options.json).write_text(json.dumps(self.data, indent=1) + "\n")

    def draw(self, cells: Sequence[Sequence[str]]) -> None:
        print("\n" + table.drawn(cells, markdown=self.options.markdown), flush=True)


def say(line: str) -> None:
    """Progress goes to stderr, so that stdout holds only the results."""
    print(line, file=sys.stderr, flush=True)


def cpu(report: Report, workloads: list[Workload]) -> None:
    """CPU time a request: a table a workload, then one of all."""
    rows: list[Row] = []
    app_us = {w.name: _app_us(w, report.machine) for w in workloads}
    report.data["app_us"] = app_us
    for workload in workloads:
        rows += _workload(report, workload)
        report.data["cpu"] = [asdict(row) for row in rows]
        report.keep()
    for against in (FLOOR, OURS):
        if any(peer.name == against for peer in report.peers):
            print(f"\nRatio to {against}, same round, median:")
            cells = table.overview(rows, workloads, report.peers, app_us, against)
            report.draw(cells)


def _workload(report: Report, workload: Workload) -> list[Row]:
    options, rows = report.options, []
    say(f"{workload.name}: {workload.says}")
    for event in workload_rows(
        workload,
        report.peers,
        report.machine,
        rounds=options.rounds,
        seconds=options.seconds,
        attempts=options.attempts,
    ):
        if isinstance(event, Row):
            rows.append(event)
        else:
            say(event)
    print(f"\n{workload.name}: {workload.says}, {workload.connections} connections")
    report.draw(table.details(rows, floor_of(rows)))
    for row in rows:
        if row.trouble:
            print(f"{row.peer}: invalid: {row.trouble}", flush=True)
    return rows


def _app_us(workload: Workload, machine: Machine) -> float:
    """CPU of the app call alone, in microseconds: the best of three."""
    calls = 200_000 if workload.app.startswith("hello") else 1_000
    command = ["taskset", "-c", str(machine.server_cpu), sys.executable]
    command += ["-m", "bench.floor_app", workload.name, str(calls), "--fresh"]
    runs = [
        subprocess.run(
            command, cwd=CHECKOUT, capture_output=True, text=True, check=True
        )
        for _ in range(3)
    ]
    return min(float(run.stdout) for run in runs) / 1000


def instructions_needed(report: Report, workloads: list[Workload]) -> None:
    """User instructions a request, and how many of them are not the app's own."""
    counts: dict[str, Any] = {"workloads": [workload.name for workload in workloads]}
    for name, fresh in ((table.APP_REUSED, False), (table.APP_COPIED, True)):
        say(f"{name}: under callgrind")
        counts[name] = [
            instructions.an_app_call(workload, report.machine, fresh=fresh)
            for workload in workloads
        ]
    for peer in report.exact_peers:
        counts[peer.name] = [
            _figure(instructions.a_request, peer, workload, report.machine)
            for workload in workloads
        ]
    report.draw(table.instructions(counts))
    report.draw(table.beyond_the_app(counts))
    report.data["instructions"] = counts


def system_calls(report: Report, workloads: list[Workload]) -> None:
    """System calls a request, counted and by name."""
    kept = report.data.setdefault("syscalls", {})
    for workload in workloads:
        found = {
            peer.name: _figure(syscalls.a_request, peer, workload, report.machine)
            for peer in report.exact_peers
        }
        found = {name: calls for name, calls in found.items() if calls is not None}
        kept[workload.name] = {name: asdict(calls) for name, calls in found.items()}
        report.draw(table.system_calls(workload.name, found))


def memory_of_idle(report: Report, workloads: list[Workload]) -> None:
    """Memory that a waiting connection holds."""
    found = {
        peer.name: _figure(memory.a_connection, peer, workloads[0], report.machine)
        for peer in report.exact_peers
    }
    report.draw(table.memory(found))
    report.data["memory_bytes"] = found


def latency_at_half_load(report: Report, workloads: list[Workload]) -> None:
    """p50 and p99 when each server is asked half as often as it could answer."""
    kept: dict[str, Any] = {}
    for name, found in half.measured(
        report.exact_peers,
        workloads[0],
        report.machine,
        rounds=report.options.rounds,
        seconds=report.options.seconds,
    ):
        if isinstance(found, str):
            print(f"{name}: at half load: invalid: {found}", flush=True)
        kept[name] = None if isinstance(found, str) else asdict(found)
    report.draw(table.half_load(kept))
    report.data["half_load"] = kept


def _figure(
    measure: Callable[[Peer, Workload, Machine], Any],
    peer: Peer,
    workload: Workload,
    machine: Machine,
) -> Any:
    """What it measures, or None: who does not have this row, or after saying why."""
    if not peer.takes(workload):
        return None
    say(f"{peer.name}: {workload.name}")
    try:
        return measure(peer, workload, machine)
    except (ServerError, BadAnswer, RuntimeError) as error:
        print(f"{peer.name}: {workload.name}: invalid: {error}", flush=True)
        return None
