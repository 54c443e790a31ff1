"""What runs have kept by `--json`, to be shown again."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bench.classes.rounds import Result
from bench.classes.rows import Run


def read(files: Sequence[Path]) -> tuple[list[str], dict[str, Result]]:
    """The headings, and results by row: of one that two files have, the later's."""
    heading: list[str] = []
    found: dict[str, Result] = {}
    for path in files:
        run = json.loads(path.read_text())
        results = [_result(row) for row in run["rows"]]
        found |= {result.row: result for result in results}
        heading += run["heading"]
        if len(files) > 1:
            names = ", ".join(result.row for result in results)
            heading.append(f"Rows:    {names}")
    return heading, found


def _result(row: Mapping[str, Any]) -> Result:
    runs = {name: [Run(**run) for run in them] for name, them in row["runs"].items()}
    return Result(row["row"], runs, row["trouble"])
