"""Rounds over all servers of a row, in rotating order."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import median

from bench.classes.columns import Column
from bench.classes.rows import Figure, Row, Run, Turn
from bench.client import BadAnswer
from bench.measure import rotated
from bench.peers import Peer
from bench.process import Machine, ServerError
from bench.stats import Estimate, estimate


@dataclass(frozen=True)
class Plan:
    """Where, how often and how long."""

    machine: Machine
    rounds: int
    seconds: float
    attempts: int  # at a quiet run, each round


@dataclass
class Result:
    """What all servers of a row came to, by their names."""

    row: str
    runs: dict[str, list[Run]] = field(default_factory=dict)
    trouble: dict[str, str] = field(default_factory=dict)  # why there are no figures

    def used(self, name: str) -> list[Run]:
        """The quiet runs; all of them when fewer than half were quiet."""
        if name in self.trouble:
            return []
        runs = self.runs.get(name, [])
        quiet = [run for run in runs if run.quiet]
        return quiet if len(quiet) * 2 >= len(runs) else runs

    def middle(self, name: str, figure: Figure) -> float | None:
        found = [run.figures[figure.name] for run in self.used(name)]
        return median(found) * figure.scale if found else None

    def ratio(self, ours: str, theirs: str, figure: Figure) -> Estimate | None:
        """How far we are ahead, round by round: the quiet ones if they are half."""
        if ours in self.trouble or theirs in self.trouble:
            return None
        other = {run.round: run for run in self.runs.get(theirs, [])}
        pairs = [(r, other[r.round]) for r in self.runs[ours] if r.round in other]
        quiet = [(r, t) for r, t in pairs if r.quiet and t.quiet]
        used = quiet if len(quiet) * 2 >= len(pairs) else pairs
        name = figure.name
        found = [figure.ratio(r.figures[name], t.figures[name]) for r, t in used]
        return estimate(found) if found else None

    def noisy(self, *names: str) -> bool:
        return any(not run.quiet for name in names for run in self.used(name))


def measured(row: Row, columns: Sequence[Column], plan: Plan) -> Result:
    """All rounds of a row. One that fails ends it for that server: figures with
    errors in them mislead."""
    contenders = [
        (column, peer)
        for column in columns
        if not row.without(column) and not column.ours.missing()
        for peer in (column.ours, *column.peers)
        if not peer.missing()
    ]
    result = Result(row.name, {peer.name: [] for _, peer in contenders})
    _say(f"{row.name}: {row.says}")
    for number in range(min(plan.rounds, row.most_rounds)):
        for column, peer in rotated(contenders, number):
            if peer.name not in result.trouble:
                _one_turn(row, result, column, peer, plan, number)
    return result


def _one_turn(
    row: Row, result: Result, column: Column, peer: Peer, plan: Plan, number: int
) -> None:
    turn = Turn(column, peer, plan.machine, number, plan.seconds)
    try:
        for _ in range(plan.attempts):
            run = row.run(turn)
            if run.quiet:
                break
    except (ServerError, BadAnswer) as error:
        result.trouble[peer.name] = str(error)
        _say(f"  {peer.name}: {error}")
        return
    result.runs[peer.name].append(run)
    told = [f"{run.figures[f.name] * f.scale:{f.shown}} {f.says}" for f in row.figures]
    noise = "" if run.quiet else "  noisy"
    _say(f"  round {number + 1}  {peer.name:<27} {', '.join(told)}{noise}")


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
