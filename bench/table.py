"""Aligned text and markdown tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from bench import memory as idle
from bench.measure import Row
from bench.peers import FLOOR, Peer
from bench.stats import Estimate
from bench.syscalls import Calls
from bench.workloads import Workload

APP_REUSED, APP_COPIED = "app, environ reused", "app, environ copied"


def drawn(cells: Sequence[Sequence[str]], *, markdown: bool = False) -> str:
    """A table whose first row is its heading and whose first column is text."""
    widths = [max(len(row[i]) for row in cells) for i in range(len(cells[0]))]
    lines = []
    for number, row in enumerate(cells):
        padded = [cell.rjust(width) for cell, width in zip(row, widths, strict=True)]
        padded[0] = row[0].ljust(widths[0])
        line = "  ".join(padded)
        lines.append("| " + " | ".join(padded) + " |" if markdown else line)
        if number == 0:
            rule = ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])]
            plain = "-" * (sum(widths) + 2 * (len(widths) - 1))
            lines.append("| " + " | ".join(rule) + " |" if markdown else plain)
    return "\n".join(lines)


def in_short(value: float) -> str:
    return f"{value:.2f}" if value < 100 else f"{value:.0f}"


def ratio(found: Estimate | None) -> str:
    if found is None:
        return "-"
    return f"{found.value:.2f}x [{found.low:.2f}-{found.high:.2f}]"


def overview(
    rows: Sequence[Row],
    workloads: Sequence[Workload],
    peers: Sequence[Peer],
    app_us: dict[str, float],
    against: str,
) -> list[list[str]]:
    """Workloads by servers: CPU time a request, and its ratio to one of the servers."""
    found = {(row.workload, row.peer): row for row in rows}
    cells = [["us a request", "app alone", *(peer.name for peer in peers)]]
    for workload in workloads:
        base = found[workload.name, against]
        line = [workload.name, in_short(app_us[workload.name])]
        there = (found.get((workload.name, peer.name)) for peer in peers)
        line += [_compared(row, base) if row else "" for row in there]
        cells.append(line)
    return cells


def _compared(row: Row, base: Row) -> str:
    if not row.valid:
        return "invalid"
    cell = in_short(row.cpu_us) + ("~" if row.noisy else "")
    to_base = row.ratio_to(base) if base.valid else None
    return f"{cell} {to_base.value:.2f}x" if to_base else cell


def details(rows: Sequence[Row], floor: Row | None) -> list[list[str]]:
    """One workload: everything that was measured, a line a server."""
    heading = "server, us a request, to the floor [95 %], requests/s, busy"
    heading += ", p50 us, p99 us, rounds"
    cells = [heading.split(", ")]
    for row in rows:
        if not row.valid:
            continue
        used = row.used
        middle = sorted(used, key=lambda sample: sample.cpu_us)[len(used) // 2]
        cells.append(
            [
                row.peer + (" ~" if row.noisy else ""),
                in_short(row.cpu_us),
                ratio(row.ratio_to(floor)) if floor else "-",
                f"{middle.rps:.0f}",
                f"{middle.busy:.0%}",
                f"{middle.p50_us:.0f}" if middle.p50_us else "-",
                f"{middle.p99_us:.0f}" if middle.p99_us else "-",
                f"{len(used)} of {len(row.samples)}",
            ]
        )
    return cells


def instructions(found: Mapping[str, Sequence[float | None]]) -> list[list[str]]:
    """User instructions a request, and those of the app call alone."""
    rows = [[name, *map(whole, counts)] for name, counts in _counted(found).items()]
    return [["instructions a request", *map(str, found["workloads"])], *rows]


def beyond_the_app(found: Mapping[str, Sequence[float | None]]) -> list[list[str]]:
    """Those that are the server's own."""
    cells = [
        [
            "instructions beyond the app call (environ reused)",
            *map(str, found["workloads"]),
        ]
    ]
    for name, counts in _counted(found).items():
        if name not in (FLOOR, APP_REUSED, APP_COPIED):
            pairs = zip(counts, found[APP_REUSED], strict=True)
            more = [n - own if n and own else None for n, own in pairs]
            cells.append([name, *map(whole, more)])
    return cells


def _counted(
    found: Mapping[str, Sequence[float | None]],
) -> dict[str, Sequence[float | None]]:
    return {name: counts for name, counts in found.items() if name != "workloads"}


def system_calls(workload: str, found: Mapping[str, Calls]) -> list[list[str]]:
    """How many a request, how many of them fail, and which they are."""
    cells = [[f"{workload}: system calls a request", "calls", "failing", "by name"]]
    for name, calls in found.items():
        failing = sum(calls.failed.values())
        cells.append([name, f"{calls.total:.2f}", f"{failing:.2f}", calls.told()])
    return cells


def memory(found: Mapping[str, float | None]) -> list[list[str]]:
    """What an idle connection holds."""
    cells = [[f"{idle.CONNECTIONS} idle connections", "KiB each"]]
    for name, size in found.items():
        cells.append([name, "-" if size is None else f"{size / 1024:.2f}"])
    return cells


def half_load(found: Mapping[str, Mapping[str, float] | None]) -> list[list[str]]:
    """How soon each server answers at half of its own full load."""
    cells = [["at half load", "requests/s", "p50 us", "p99 us"]]
    for name, figures in found.items():
        wanted = ("rate", "p50_us", "p99_us")
        cells.append([name, *(whole(figures[w] if figures else None) for w in wanted)])
    return cells


def whole(number: float | None) -> str:
    return "-" if number is None else f"{number:,.0f}"


def replaced(text: str, made: str, begin: str, end: str) -> str:
    """The document with this between its marks."""
    if text.count(begin) != 1 or text.count(end) != 1:
        raise SystemExit(f"bench: the document has no place: {begin}")
    before, _, rest = text.partition(begin)
    after = rest.partition(end)[2]
    return f"{before}{begin}\n\n{made}\n\n{end}{after}"
