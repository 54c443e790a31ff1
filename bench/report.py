"""The sections of a report: each measures, prints its tables and keeps the figures."""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from bench import instructions, memory, syscalls, table
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

    def draw(self, cells: Sequence[Sequence[str]]) -> None:
        print("\n" + table.drawn(cells, markdown=self.options.markdown), flush=True)


def say(line: str) -> None:
    """Progress goes to stderr, so that stdout holds only the results."""
    print(line, file=sys.stderr, flush=True)


def cpu(report: Report, workloads: list[Workload]) -> None:
    """CPU time a request: a table a workload, then one of all."""
    rows: list[Row] = []
    app_us = {w.name: _app_us(w, report.machine) for w in workloads}
    for workload in workloads:
        rows += _workload(report, workload)
        report.data["cpu"] = [asdict(row) for row in rows]
    report.data["app_us"] = app_us
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
    counts: dict[str, list[float | None]] = {}
    reused, copied = "app, environ reused", "app, environ copied"
    for name, fresh in ((reused, False), (copied, True)):
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
    names = [workload.name for workload in workloads]
    rows = [[name, *map(_whole, found)] for name, found in counts.items()]
    report.draw([["instructions a request", *names], *rows])
    beyond = [["beyond the app call", *names]]
    for peer in report.exact_peers:
        if peer.name != FLOOR:
            pairs = zip(counts[peer.name], counts[reused], strict=True)
            more = [n - own if n and own else None for n, own in pairs]
            beyond.append([peer.name, *map(_whole, more)])
    report.draw(beyond)
    report.data["instructions"] = {"workloads": names, **counts}


def system_calls(report: Report, workloads: list[Workload]) -> None:
    """System calls a request, counted and by name."""
    kept = report.data.setdefault("syscalls", {})
    for workload in workloads:
        cells = [[f"{workload.name}: system calls a request", "calls", "failing"]]
        by_name = [f"\n{workload.name}, by name:"]
        for peer in report.exact_peers:
            calls = _figure(syscalls.a_request, peer, workload, report.machine)
            if calls is not None:
                failing = sum(calls.failed.values())
                cells.append([peer.name, f"{calls.total:.2f}", f"{failing:.2f}"])
                by_name.append(f"  {peer.name}: {calls.told()}")
                kept.setdefault(workload.name, {})[peer.name] = asdict(calls)
        report.draw(cells)
        print("\n".join(by_name), flush=True)


def memory_of_idle(report: Report, workloads: list[Workload]) -> None:
    """Memory that a waiting connection holds."""
    found = {
        peer.name: _figure(memory.a_connection, peer, workloads[0], report.machine)
        for peer in report.exact_peers
    }
    rows = [
        [name, "-" if size is None else f"{size / 1024:.2f}"]
        for name, size in found.items()
    ]
    report.draw([[f"{memory.CONNECTIONS} idle connections", "KiB each"], *rows])
    report.data["memory_bytes"] = found


def _figure(
    measure: Callable[[Peer, Workload, Machine], Any],
    peer: Peer,
    workload: Workload,
    machine: Machine,
) -> Any:
    """What it measures, or None after saying why there is nothing."""
    say(f"{peer.name}: {workload.name}")
    try:
        return measure(peer, workload, machine)
    except (ServerError, BadAnswer, RuntimeError) as error:
        print(f"{peer.name}: {workload.name}: invalid: {error}", flush=True)
        return None


def _whole(number: float | None) -> str:
    return "-" if number is None else f"{number:,.0f}"
