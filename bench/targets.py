"""What the CPU time of a request is meant to be, beside what it is."""

from __future__ import annotations

from dataclasses import dataclass

from bench.peers import OURS
from bench.samples import Measured

TO_FLOOR = "times the floor"
AHEAD = "best peer by ours"


@dataclass(frozen=True)
class Target:
    """A bound for one row: to the floor, to the best peer, or to another row of ours."""

    workload: str
    bound: float
    against: str

    @property
    def says(self) -> str:
        if self.against in (TO_FLOOR, AHEAD):
            return f"{self.workload}: {self.against}"
        return f"{self.workload}: by {self.against}, both to the floor"

    @property
    def limit(self) -> str:
        return f"{'>=' if self.against == AHEAD else '<='} {self.bound:.2f}"

    def found(self, measured: Measured) -> float | None:
        """The figure, as it is shown."""
        if self.against == AHEAD:
            best = measured.best(self.workload)
            return round(best.by_ours.value, 2) if best else None
        ours = measured.to_floor(self.workload, OURS)
        if ours is None or self.against == TO_FLOOR:
            return round(ours.value, 2) if ours else None
        other = measured.to_floor(self.against, OURS)
        return round(ours.value / other.value, 2) if other else None

    def met(self, found: float) -> bool:
        return found >= self.bound if self.against == AHEAD else found <= self.bound


_AHEAD_OF_ALL = ("close", "10k", "1m", "post-chunked", "flask", "django", "stream")
_FILES = ("file-1k", "file-100k", "file-10m")

TARGETS = (
    Target("hello", 1.10, TO_FLOOR),
    Target("browser", 1.15, TO_FLOOR),
    Target("pipelined", 1.60, TO_FLOOR),
    Target("hello-gevent", 1.35, TO_FLOOR),
    Target("hello-gthread", 1.15, "hello"),
    Target("hello-log", 1.12, "hello"),
    Target("hello-idle", 1.00, "hello"),
    Target("close-defer", 1.40, AHEAD),
    Target("post-1m", 1.60, AHEAD),
    *(Target(name, 1.00, AHEAD) for name in (*_AHEAD_OF_ALL, *_FILES, "uwsgi")),
)


def table(measured: Measured) -> list[list[str]]:
    """The targets whose rows were measured; in bold what is missed."""
    cells = [["CPU time a request", "target", "found", ""]]
    for target in TARGETS:
        found = target.found(measured)
        if found is not None:
            met = "met" if target.met(found) else "**missed**"
            cells.append([target.says, target.limit, f"{found:.2f}", met])
    return cells
