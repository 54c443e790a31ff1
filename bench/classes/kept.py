"""What runs have kept by `--json`, to be shown again."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bench.classes.rounds import Result
from bench.classes.rows import Run


def read(files: Sequence[Path]) -> tuple[list[str], dict[str, Result]]:
    """The headings, and results by row: of a server that two files have, the later's.

    A server and who it is compared with are in one file: they shared their rounds.
    """
    heading: list[str] = []
    found: dict[str, Result] = {}
    for path in files:
        run = json.loads(path.read_text())
        results = [_result(row) for row in run["rows"]]
        for result in results:
            found[result.row] = _joined(found.get(result.row), result)
        heading += run["heading"]
        if len(files) > 1:
            heading.append(f"Rows:    {', '.join(result.row for result in results)}")
            heading.append(f"Of:      {', '.join(_servers(results))}")
    return heading, found


def _joined(old: Result | None, new: Result) -> Result:
    if old is None:
        return new
    later = new.runs.keys() | new.trouble.keys()
    runs = {name: them for name, them in old.runs.items() if name not in later}
    trouble = {name: why for name, why in old.trouble.items() if name not in later}
    return Result(new.row, runs | new.runs, trouble | new.trouble)


def _servers(results: Sequence[Result]) -> list[str]:
    return sorted(
        {name for result in results for name in (*result.runs, *result.trouble)}
    )


def _result(row: Mapping[str, Any]) -> Result:
    runs = {name: [Run(**run) for run in them] for name, them in row["runs"].items()}
    return Result(row["row"], runs, row["trouble"])
