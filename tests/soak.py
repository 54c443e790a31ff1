"""`python -m tests.soak`: everything that happens to servers, at full size, as a table.

PWS_SOAK_SIZE is a factor for all sizes (default 1: 1,000 recyclings, 100 reloads, ...).
PWS_SOAK_PEERS and PWS_SOAK_ONLY choose servers and scenarios, by parts of their names
with commas between; PWS_SOAK_OUT is the file to write to (default: standard output).
"""

from __future__ import annotations

import os
import platform
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from tests.load_terms import ENDS
from tests.process import ServerFailed
from tests.soak_peers import OURS, PEERS, Peer
from tests.soak_scenarios import SCENARIOS, Scenario
from tests.soak_site import PLAIN, NotReached, Site, Variant

HEAD = [
    "server",
    "actions",
    "requests",
    *ENDS,
    "raced",
    "cut",
    "excused",
    "lost",
    "remarks",
]


FAILED = ("given up: ", "broken: ")  # Remarks that say that ours has.


def chosen(variable: str, names: Iterable[str]) -> set[str]:
    """Those that the variable names by a part of the name; all when it is not set."""
    value = os.environ.get(variable, "")
    parts = [part for part in value.split(",") if part]
    found = {name for name in names if not parts or any(part in name for part in parts)}
    if not found:
        raise SystemExit(f"{variable}: nothing is called {value}")
    return found


def size_of(scenario: Scenario, factor: float) -> int:
    return max(1, round(scenario.full * factor))


def account(name: str, site: Site, remarks: list[str]) -> list[str]:
    """A row of the table."""
    counts = site.counts
    remarks = [*remarks, *(f"broken: {text} ({n})" for text, n in site.broken.items())]
    remarks += [f"{text} ({n})" for text, n in site.notes.most_common(3)]
    excused = site.excused.total()
    return [
        name,
        str(site.actions),
        str(counts.requests),
        *(str(counts.ends[end]) for end in ENDS),
        str(counts.raced),
        str(counts.cut),
        str(excused),
        str(counts.lost - excused),
        "; ".join(remarks),
    ]


def row_of(peer: Peer, scenario: Scenario, variant: Variant, count: int) -> list[str]:
    """Let it happen to this server; what it makes of it."""
    name = peer.name if variant is PLAIN else f"{peer.name}, {variant.name}"
    why = peer.cannot.get(scenario.name, "")
    if why:
        return [name, *["-"] * (len(HEAD) - 2), why]
    remarks = []
    with tempfile.TemporaryDirectory(prefix="soak") as place:
        site = Site(peer, Path(place), variant)
        try:
            scenario.happen(site, count)
        except NotReached as error:
            remarks.append(f"given up: {error}")
        except (ServerFailed, AssertionError) as error:
            remarks.append(f"given up: {str(error).splitlines()[0]}")
        return account(name, site, remarks)


def table(rows: list[list[str]]) -> str:
    def line(cells: list[str]) -> str:
        return f"| {' | '.join(cells)} |"

    return "\n".join([line(HEAD), line(["---"] * len(HEAD)), *map(line, rows)])


def rows_of(scenario: Scenario, peers: list[Peer], count: int) -> list[list[str]]:
    rows = []
    for peer in peers:
        for variant in scenario.variants if peer is OURS else (PLAIN,):
            now = time.strftime("%H:%M:%S")
            said = f"{now} {scenario.name} ({count}): {peer.name}, {variant.name}"
            print(said, file=sys.stderr)
            rows.append(row_of(peer, scenario, variant, count))
    return rows


def heading(peers: list[Peer], factor: float) -> list[str]:
    """What was measured."""
    found = [f"{peer.name} {peer.version()}" for peer in peers if peer.version()]
    missing = [f"{peer.name}: not installed" for peer in PEERS if not peer.version()]
    python = f"{platform.python_implementation()} {platform.python_version()}"
    lines = [f"Size {factor:g}; {python}; {', '.join(found)}."]
    return lines + [f"Without {name}." for name in missing]


def main(say: Callable[[str], None]) -> int:
    factor = float(os.environ.get("PWS_SOAK_SIZE", "1"))
    names = chosen("PWS_SOAK_PEERS", (peer.name for peer in PEERS))
    peers = [peer for peer in PEERS if peer.version() and peer.name in names]
    wanted = chosen("PWS_SOAK_ONLY", (scenario.name for scenario in SCENARIOS))
    lost = 0
    say("\n".join([*heading(peers, factor), ""]))
    for scenario in SCENARIOS:
        if scenario.name not in wanted:
            continue
        count = size_of(scenario, factor)
        rows = rows_of(scenario, peers, count)
        say(f"### {scenario.name}: {count} {scenario.action}\n\n{table(rows)}\n")
        ours = [row for row in rows if row[0].startswith(OURS.name)]
        lost += sum(
            row[-2] != "0" or any(sign in row[-1] for sign in FAILED) for row in ours
        )
    return min(lost, 1)


def to_file(path: str) -> Callable[[str], None]:
    """Append, so that what was measured is there even when the rest is not."""
    Path(path).write_text("")

    def say(text: str) -> None:
        with open(path, "a") as file:
            print(text, file=file)

    return say


if __name__ == "__main__":
    out = os.environ.get("PWS_SOAK_OUT", "")
    sys.exit(main(to_file(out) if out else lambda text: print(text, flush=True)))
