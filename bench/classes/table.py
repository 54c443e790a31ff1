"""The table of the classes, in Markdown, and its place in docs/workers.md."""

from __future__ import annotations

import re
from collections.abc import Sequence

from bench import table
from bench.classes.columns import Column
from bench.classes.rounds import Result
from bench.classes.rows import Figure, Row
from bench.peers import Peer

BEGIN = "<!-- From here to the end mark: python -m bench.classes --write -->"
END = "<!-- End of bench.classes -->"


def page(
    heading: Sequence[str],
    rows: Sequence[Row],
    columns: Sequence[Column],
    results: Sequence[Result],
) -> str:
    """The table, who failed or was left out, and what was measured where."""
    pairs = _pairs(columns)
    cells = [["times ahead (ours, theirs)", *(_title(*pair) for pair in pairs)]]
    for row, result in zip(rows, results, strict=True):
        for figure in row.figures:
            line = [f"{row.says}: {figure.says}"]
            line += [_cell(row, figure, result, *pair) for pair in pairs]
            cells.append(line)
    parts = [table.drawn(cells, markdown=True)]
    notes = _notes(rows, columns, results)
    if notes:
        parts.append("\n".join(notes))
    parts.append("\n".join(f"    {line}" for line in heading))
    return "\n\n".join(parts)


def replaced(text: str, made: str) -> str:
    """The document with this between its marks."""
    return table.replaced(text, made, BEGIN, END)


def _pairs(columns: Sequence[Column]) -> list[tuple[Column, Peer | None]]:
    """A column of the table for each peer, and one for a class that has none."""
    pairs: list[tuple[Column, Peer | None]] = []
    for column in columns:
        there = [peer for peer in column.peers if not peer.missing()]
        pairs += [(column, peer) for peer in there] or [(column, None)]
    return pairs


def _title(column: Column, peer: Peer | None) -> str:
    if peer is None:
        return f"{column.kind} alone"
    return f"{column.kind} to {peer.name.removesuffix(f' {column.kind}')}"


def _cell(
    row: Row, figure: Figure, result: Result, column: Column, peer: Peer | None
) -> str:
    """Times ahead, with both figures; `-` where the class or the peer has none."""
    ours = result.middle(column.ours.name, figure)
    if row.without(column) or ours is None:
        return "-"
    shown = f"{ours:{figure.shown}}"
    if peer is None:
        return f"({shown})"
    theirs = result.middle(peer.name, figure)
    found = result.ratio(column.ours.name, peer.name, figure)
    if theirs is None or found is None:
        return f"({shown}, failed)"
    ahead = _ahead(found.value)
    noise = "~" if result.noisy(column.ours.name, peer.name) else ""
    return f"{ahead}{noise} ({shown}, {theirs:{figure.shown}})"


def _ahead(ratio: float) -> str:
    shown = f"{ratio:.2f}" if ratio < 10 else f"{ratio:.1f}"
    return shown if float(shown) >= 1 else f"**{shown}**"


def _notes(
    rows: Sequence[Row], columns: Sequence[Column], results: Sequence[Result]
) -> list[str]:
    notes = []
    for row, result in zip(rows, results, strict=True):
        left_out: dict[str, list[str]] = {}
        for column in columns:
            if why := row.without(column):
                left_out.setdefault(why, []).append(column.kind)
        for why, kinds in left_out.items():
            notes.append(f"- {row.says}: not for {' and '.join(kinds)} ({why}).")
        for name, trouble in result.trouble.items():
            notes.append(f"- {row.says}: {name} failed: {_one_line(trouble)}.")
    return notes


def _one_line(text: str) -> str:
    return re.sub(r"\s+", " ", text).strip().rstrip(".")
