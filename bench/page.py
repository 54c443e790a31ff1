"""What `python -m bench --write` puts into docs/performance.md, and the chart beside it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from bench import chart, table, targets
from bench.peers import CHECKOUT, FLOOR, FLOOR_AGAIN, OURS
from bench.samples import Measured
from bench.stats import Estimate
from bench.syscalls import Calls

PAGE = CHECKOUT / "docs" / "performance.md"
BEGIN = "<!-- From here to the end mark: python -m bench --write -->"
END = "<!-- End of bench -->"
PICTURE = "performance.svg"


def ready(page: Path = PAGE) -> None:
    """Fail now rather than after hours, when the page has no place for the tables."""
    table.replaced(page.read_text(), "", BEGIN, END)


def write(measured: Measured, page: Path = PAGE) -> None:
    """The page gets its tables anew; the picture is made when there is one to make."""
    text = table.replaced(page.read_text(), made(measured), BEGIN, END)
    if measured.rows:
        page.with_name(PICTURE).write_text(chart.svg(measured))
    page.write_text(text)


def made(measured: Measured) -> str:
    """All that goes between the marks."""
    parts: list[str] = []
    if measured.rows:
        parts.append(f"![CPU time a request, by row and server]({PICTURE})")
        parts += [
            _table(_ratios(measured)),
            *_notes(measured),
            _table(_asked(measured)),
        ]
        met = targets.table(measured)
        parts += [_table(met)] if len(met) > 1 else []
    parts += _others(measured)
    for heading in measured.headings:
        parts.append("\n".join(f"    {line}" for line in heading))
    return "\n\n".join(parts)


def _table(cells: list[list[str]]) -> str:
    return table.drawn(cells, markdown=True)


def _ratios(measured: Measured) -> list[list[str]]:
    """Rows by servers, as multiples of the floor; bold where a peer needs less."""
    peers = measured.peers
    cells = [["times the floor's CPU", OURS, *peers, "best peer by ours [95 %]"]]
    for workload in measured.workloads:
        line = [workload.name]
        for peer in (OURS, *peers):
            found = measured.to_floor(workload.name, peer)
            noisy = found and measured.rows[workload.name, peer].noisy
            line.append(f"{found.value:.2f}{'~' if noisy else ''}" if found else "-")
        best = measured.best(workload.name)
        cell = f"{_interval(best.by_ours)} {best.peer}" if best else "-"
        line.append(f"**{cell}**" if best and not best.ahead else cell)
        cells.append(line)
    return cells


def _interval(found: Estimate) -> str:
    return f"{found.value:.2f} [{found.low:.2f}-{found.high:.2f}]"


def _notes(measured: Measured) -> Iterator[str]:
    """Who has no figures, and why."""
    failed = [row for row in measured.rows.values() if row.trouble]
    if failed:
        yield "\n".join(
            f"- {row.workload}: {row.peer} is invalid: {_one_line(row.trouble)}."
            for row in failed
        )


def _one_line(text: str) -> str:
    return re.sub(r"\s+", " ", text).strip().rstrip(".")


def _asked(measured: Measured) -> list[list[str]]:
    """What each row is, and what it costs in microseconds; the floor a second time
    tells how far two runs of one program differ."""
    heading = "row, what is asked, connections, floor us, floor again, app us, ours us"
    cells = [heading.split(", ")]
    for workload in measured.workloads:
        name = workload.name
        line = [name, workload.says, str(workload.connections)]
        again = measured.to_floor(name, FLOOR_AGAIN)
        app_us = measured.app_us.get(name)
        line.append(_cost(measured, name, FLOOR))
        line.append(_interval(again) if again else "-")
        line.append(table.in_short(app_us) if app_us is not None else "-")
        line.append(_cost(measured, name, OURS))
        cells.append(line)
    return cells


def _cost(measured: Measured, workload: str, peer: str) -> str:
    row = measured.rows.get((workload, peer))
    return table.in_short(row.cpu_us) if row and row.valid else "-"


def _others(measured: Measured) -> Iterator[str]:
    """What was counted rather than timed."""
    if found := measured.others.get("instructions"):
        yield _table(table.beyond_the_app(found))
    for workload, servers in measured.others.get("syscalls", {}).items():
        calls = {peer: Calls(**counted) for peer, counted in servers.items()}
        yield _table(table.system_calls(workload, calls))
    if found := measured.others.get("memory_bytes"):
        yield _table(table.memory(found))
    if found := measured.others.get("half_load"):
        yield _table(table.half_load(found))
