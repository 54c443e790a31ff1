"""Lines of csrc/ that a run with counters has reached: python -m tests.coverage FOLDER...

Each folder holds the .gcda files of one build; a line counts as reached when any of them
has reached it. What was not is named below the table, for the layers given by --lines.
"""

from __future__ import annotations

import argparse
import json
import subprocess
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SOURCES = (ROOT / "csrc").resolve()
AT_A_TIME = 20  # Files that one gcov looks at.

# A file of ours, as csrc/ names it, and for each of its lines how often it ran.
Counts = dict[str, dict[int, int]]


def counted(folders: Iterable[Path]) -> Counts:
    """What gcov reads from the folders, added up."""
    notes = [path.resolve() for f in folders for path in sorted(f.rglob("*.gcda"))]
    counts: Counts = defaultdict(lambda: defaultdict(int))
    for begin in range(0, len(notes), AT_A_TIME):
        command = ["gcov", "--json-format", "--stdout"]
        done = subprocess.run(
            [*command, *notes[begin : begin + AT_A_TIME]],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
        )
        for document in done.stdout.splitlines():
            for file in json.loads(document)["files"]:
                path = (ROOT / file["file"]).resolve()
                if path.is_relative_to(SOURCES):
                    lines = counts[path.relative_to(SOURCES).as_posix()]
                    for line in file["lines"]:
                        lines[line["line_number"]] += line["count"]
    return counts


def ranges(numbers: Iterable[int]) -> str:
    """Line numbers with runs shortened: 3, 7-9."""
    runs: list[list[int]] = []
    for number in sorted(numbers):
        if runs and number == runs[-1][1] + 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    return ", ".join(str(a) if a == b else f"{a}-{b}" for a, b in runs)


def row(name: str, lines: int, reached: int) -> str:
    return f"{name:<26}{lines:>7}{reached:>9}{100 * reached / lines:>8.1f} %"


def table(counts: Counts) -> list[str]:
    """A row for each layer, and below it one for each of its files."""
    told = [f"{'':<26}{'lines':>7}{'reached':>9}"]
    layers: dict[str, list[str]] = defaultdict(list)
    for name in sorted(counts):
        layers[name.partition("/")[0]].append(name)
    for layer, names in layers.items():
        sums = {n: (len(counts[n]), sum(map(bool, counts[n].values()))) for n in names}
        told.append(row(f"{layer}/", *map(sum, zip(*sums.values(), strict=True))))
        told += [row(f"  {n}", *sums[n]) for n in names]
    return told


def not_reached(counts: Counts, layers: Sequence[str]) -> list[str]:
    return [
        f"csrc/{name}: {ranges(n for n, count in lines.items() if not count)}"
        for name, lines in sorted(counts.items())
        if name.partition("/")[0] in layers and not all(lines.values())
    ]


def main() -> None:
    parser = argparse.ArgumentParser("python -m tests.coverage")
    parser.add_argument("folders", nargs="+", type=Path)
    parser.add_argument("--lines", nargs="*", default=["base", "proto"])
    options = parser.parse_args()
    counts = counted(options.folders)
    if not counts:
        raise SystemExit(
            f"no counters of ours in {', '.join(map(str, options.folders))}"
        )
    print("\n".join([*table(counts), "", *not_reached(counts, options.lines)]))


if __name__ == "__main__":
    main()
