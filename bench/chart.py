"""The chart of docs/performance.md: a line for each row, a mark for each server, SVG.

CPU time a request as a multiple of the floor's, on a logarithmic axis. It is written
without a library: the same samples give the same file, everywhere."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import ceil, log10
from xml.sax.saxutils import escape

from bench import peers
from bench.peers import FLOOR, FLOOR_AGAIN, OURS
from bench.samples import Measured

WIDTH, LINE, HEADING = 960, 28, 40
LEFT, RIGHT = 180, 70  # of the plot: names; our figures
IN_A_LINE, ENTRY = 6, 155  # of the legend
CROWDED = 12  # marks that are nearer than that
TITLE = "CPU time a request, as a multiple of the floor's: less is better"

# Okabe and Ito's colours, which nearly everybody can tell apart; shapes tell more.
OUR_COLOUR = "#d55e00"
COLOURS = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9")
CIRCLE = "M-{0},0a{0},{0} 0 1,0 {1},0a{0},{0} 0 1,0 -{1},0Z"
SHAPES = (
    "M-5,-5H5V5H-5Z",
    "M0,-6.5L6.5,5H-6.5Z",
    "M0,-7L7,0L0,7L-7,0Z",
    "M0,6.5L6.5,-5H-6.5Z",
)

STYLE = (
    "text{font:13px sans-serif;fill:#222}.end{text-anchor:end}.mid{text-anchor:middle}"
    ".ours,.behind{font-weight:bold}.behind{fill:" + OUR_COLOUR + "}"
    "line{stroke:#ddd}.floor{stroke:#222;stroke-width:2}path{stroke:#fff}"
)


@dataclass(frozen=True)
class Scale:
    """From a multiple of the floor to a place on the axis."""

    low: float
    high: float

    def at(self, value: float) -> float:
        share = log10(value / self.low) / log10(self.high / self.low)
        return LEFT + share * (WIDTH - LEFT - RIGHT)

    def ticks(self) -> list[float]:
        powers = range(-2, ceil(log10(self.high)) + 1)
        every = [digit * 10.0**power for power in powers for digit in (1, 2, 5)]
        return [tick for tick in every if self.low <= tick <= self.high]


@dataclass(frozen=True)
class Mark:
    peer: str
    value: float


@dataclass(frozen=True)
class Line:
    """One row of the benchmark."""

    name: str
    marks: tuple[Mark, ...]
    behind: bool  # a peer needs less


def svg(measured: Measured) -> str:
    """The whole picture. The rows without a floor are not in it."""
    lines = [line for line in _lines(measured) if line.marks]
    values = [mark.value for line in lines for mark in line.marks]
    scale = Scale(0.85 * min([1, *values]), 1.15 * max([2, *values]))
    servers = [OURS, *measured.peers]
    top = HEADING + LINE * ceil((len(servers) + 1) / IN_A_LINE) + LINE
    bottom = top + LINE * len(lines)
    height = bottom + LINE
    size = f'viewBox="0 0 {WIDTH} {height}"'
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img">',
        f"<title>{escape(TITLE)}</title>",
        f"<style>{STYLE}</style>",
        f'<rect width="{WIDTH}" height="{height}" fill="#fff"/>',
        _text(20, 24, TITLE, "ours"),
        *_legend(servers),
        *_grid(scale, top, bottom),
    ]
    for number, line in enumerate(lines):
        parts += _drawn(line, scale, top + LINE * number + LINE // 2)
    return "\n".join([*parts, "</svg>", ""])


def _lines(measured: Measured) -> Iterator[Line]:
    for workload in measured.workloads:
        name, best = workload.name, measured.best(workload.name)
        servers = (*measured.peers, OURS)
        found = [(peer, measured.to_floor(name, peer)) for peer in servers]
        marks = tuple(Mark(peer, ratio.value) for peer, ratio in found if ratio)
        yield Line(name, marks, best is not None and not best.ahead)


def _legend(servers: Sequence[str]) -> Iterator[str]:
    for number, name in enumerate([*servers, FLOOR]):
        x = 20 + ENTRY * (number % IN_A_LINE)
        y = HEADING + LINE * (number // IN_A_LINE) + LINE // 2
        if name == FLOOR:
            yield f'<line class="floor" x1="{x}" x2="{x}" y1="{y - 9}" y2="{y + 9}"/>'
        else:
            yield _shape(name, x, y, name)
        yield _text(x + 12, y + 4, name, "ours" if name == OURS else "")


def _grid(scale: Scale, top: int, bottom: int) -> Iterator[str]:
    """A line across for each row, one down for each tick, the floor's over all."""
    for y in range(top + LINE // 2, bottom, LINE):
        yield f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y}" y2="{y}"/>'
    for tick in sorted(scale.ticks(), key=lambda tick: tick == 1):
        x = scale.at(tick)
        kind = ' class="floor"' if tick == 1 else ""
        yield f'<line{kind} x1="{x:.1f}" x2="{x:.1f}" y1="{top}" y2="{bottom}"/>'
        yield _text(x, bottom + 18, f"{tick:g}", "mid")
    yield _text(WIDTH - 10, top - 8, "ours", "ours end")


def _drawn(line: Line, scale: Scale, y: int) -> Iterator[str]:
    name = f"{line.name} (behind)" if line.behind else line.name
    yield _text(LEFT - 12, y + 4, name, "behind end" if line.behind else "end")
    placed = sorted(_apart(line.marks, scale), key=lambda pair: pair[0].peer == OURS)
    for mark, aside in placed:  # Ours is the last, and so on top.
        says = f"{line.name}: {mark.peer} {mark.value:.2f} times the floor"
        yield _shape(mark.peer, scale.at(mark.value), y + aside, says)
        if mark.peer == OURS:
            yield _text(WIDTH - 10, y + 4, f"{mark.value:.2f}", "ours end")


def _apart(marks: Sequence[Mark], scale: Scale) -> Iterator[tuple[Mark, int]]:
    """With how far each is off its line, where marks would hide each other."""
    asides, turn, last = (0, 6, -6), 0, 0.0
    for mark in sorted(marks, key=lambda mark: mark.value):
        x = scale.at(mark.value)
        turn, last = turn + 1 if x - last < CROWDED else 0, x
        yield mark, asides[turn % len(asides)]


def look(peer: str) -> tuple[str, str]:
    """Shape and colour: the same in every picture, whoever else is in it."""
    if peer == OURS:
        return CIRCLE.format(7, 14), OUR_COLOUR
    others = [p.name for p in peers.ALL if p.name not in (FLOOR, FLOOR_AGAIN, OURS)]
    number = others.index(peer)
    return SHAPES[number % len(SHAPES)], COLOURS[number % len(COLOURS)]


def _shape(peer: str, x: float, y: float, says: str) -> str:
    shape, colour = look(peer)
    place = f'transform="translate({x:.1f} {y:.1f})"'
    return f'<path d="{shape}" fill="{colour}" {place}><title>{escape(says)}</title></path>'


def _text(x: float, y: float, says: str, kind: str = "") -> str:
    named = f' class="{kind}"' if kind else ""
    return f'<text{named} x="{x:.1f}" y="{y:.1f}">{escape(says)}</text>'
