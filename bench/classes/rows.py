"""What is measured of the classes: the load, the figures that tell, and who is left out."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from functools import partial

from bench import apps, events, load, measure, memory, paced, workloads
from bench.classes.columns import Column
from bench.client import check
from bench.peers import Peer
from bench.process import Machine, Server, running
from bench.workloads import Workload

ONE_CALL = "runs one call at a time"
SILENT_S = 60  # between the events of a client that is only held


@dataclass(frozen=True)
class Sizes:
    """How much of it; `--quick` takes less."""

    threads: int = 64  # of gthread, where calls wait
    listeners: int = 1000  # to events; gthread has one a thread
    idle: int = 2000
    active: int = 500


QUICK = Sizes(threads=16, listeners=200, idle=500, active=100)


@dataclass(frozen=True)
class Figure:
    """One line of the table: a figure, by its name in a run."""

    name: str
    says: str
    shown: str = ".0f"
    scale: float = 1  # from the run to what is shown
    more_is_better: bool = False

    def ratio(self, ours: float, theirs: float) -> float:
        """Over 1 where we are ahead."""
        return ours / theirs if self.more_is_better else theirs / ours


@dataclass(frozen=True)
class Run:
    """One server in one round."""

    round: int
    figures: dict[str, float]
    quiet: bool = True


@dataclass(frozen=True)
class Turn:
    """Whose turn it is, in which round, for how long."""

    column: Column
    peer: Peer
    machine: Machine
    number: int
    seconds: float


@dataclass(frozen=True)
class Row:
    """One workload in all classes that can have it."""

    name: str
    says: str
    figures: tuple[Figure, ...]
    run: Callable[[Turn], Run]
    without: Callable[[Column], str] = lambda column: ""  # why a class is left out
    most_rounds: int = 1_000


CPU = Figure("cpu_us", "CPU, us a request", ".1f")
RATE = Figure("rps", "requests/s", more_is_better=True)
P50 = Figure("p50_us", "p50, ms", ".2f", 0.001)
P99 = Figure("p99_us", "p99, ms", ".2f", 0.001)
P999 = Figure("p999_us", "p99.9, ms", ".2f", 0.001)
MEMORY = Figure("bytes", "KiB", ".2f", 1 / 1024)


def _of_window(sample: measure.Sample) -> Run:
    return Run(sample.round, asdict(sample), sample.quiet)


@contextmanager
def _warm(turn: Turn, workload: Workload) -> Iterator[Server]:
    with running(turn.peer, workload, turn.machine) as server:
        check(server.port, workload)
        yield server


def _by_wrk(workload: Workload, turn: Turn) -> Run:
    with _warm(turn, workload) as server:
        load.run(server, turn.machine, measure.WARM_UP_SECONDS)
        check(server.port, workload)  # behind the requests whose clients have gone
        sample = measure.window(server, turn.machine, turn.number, turn.seconds)
        return _of_window(sample)


def _napping(connections: int, sizes: Sizes, turn: Turn) -> Run:
    workload = Workload(
        f"nap-{connections}",
        "nap",
        apps.HELLO,
        "",
        connections=connections,
        threads=sizes.threads,
    )
    return _by_wrk(workload, turn)


def _mixed(turn: Turn) -> Run:
    """A window of four, so that there is one in a thousand."""
    workload = Workload("mix", "mix", apps.HELLO, "", connections=64)
    drive = partial(paced.run, rate=500 if turn.column.green else 200)
    with _warm(turn, workload) as server:
        drive(server, turn.machine, measure.WARM_UP_SECONDS)
        seconds = 4 * turn.seconds
        return _of_window(
            measure.window(server, turn.machine, turn.number, seconds, drive)
        )


def _listening(sizes: Sizes, turn: Turn) -> Run:
    count = sizes.listeners if turn.column.green else sizes.threads
    workload = Workload("events", "events", apps.HELLO, "", threads=sizes.threads)
    with _warm(turn, workload) as server, events.listening(server, count) as audience:
        drive = audience.run
        drive(server, turn.machine, measure.WARM_UP_SECONDS)
        return _of_window(
            measure.window(server, turn.machine, turn.number, turn.seconds, drive)
        )


def _idle(sizes: Sizes, turn: Turn) -> Run:
    workload, count = workloads.named("hello"), sizes.idle
    hold = measure.idle_connections
    found = memory.held(turn.peer, workload, turn.machine, count, hold)
    return Run(turn.number, {"bytes": found})


def _active(sizes: Sizes, turn: Turn) -> Run:
    count = sizes.active if turn.column.green else sizes.threads
    workload = Workload("events", "events", apps.HELLO, "", threads=sizes.threads)
    hold = partial(events.listening, pause_s=SILENT_S)
    found = memory.held(turn.peer, workload, turn.machine, count, hold)
    return Run(turn.number, {"bytes": found})


def _not_inline(column: Column) -> str:
    return ONE_CALL if column.inline else ""


def rows(sizes: Sizes) -> tuple[Row, ...]:
    """All of them, in the table's order."""
    compute = Workload("compute", "compute", apps.HELLO, "", connections=8)
    napping = [
        Row(
            f"nap-{count}",
            f"the app sleeps 10 ms, {count} connections",
            (CPU, RATE, P50, P99),
            partial(_napping, count, sizes),
            _not_inline if count > 64 else lambda column: "",
        )
        for count in (8, 64, 512)
    ]
    named = workloads.named
    message = replace(CPU, says="CPU, us a message")
    return (
        Row("hello", "hello world", (CPU,), partial(_by_wrk, named("hello"))),
        Row(
            "browser",
            "a browser's request",
            (CPU,),
            partial(_by_wrk, named("browser-new")),
        ),
        *napping,
        Row(
            "compute",
            "the app computes for 1 ms, 8 connections",
            (CPU, RATE, P99),
            partial(_by_wrk, compute),
        ),
        Row(
            "mix",
            f"1 in {paced.EVERY} takes 200 ms; of the others",
            (CPU, P50, P99, P999),
            _mixed,
            _not_inline,
        ),
        Row(
            "events",
            "server-sent events",
            (message,),
            partial(_listening, sizes),
            _not_inline,
        ),
        Row(
            "idle",
            "memory of an idle connection",
            (MEMORY,),
            partial(_idle, sizes),
            most_rounds=2,
        ),
        Row(
            "active",
            "memory of a call that waits",
            (MEMORY,),
            partial(_active, sizes),
            _not_inline,
            most_rounds=2,
        ),
    )
