"""CPU time a request: rounds over all servers in rotating order, each run between two of
the floor, and compared round by round."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from statistics import fmean, median
from typing import TypeVar

from bench import load, packets
from bench.client import BadAnswer, Client, check
from bench.peers import FLOOR, FLOOR_AGAIN, Peer
from bench.process import Machine, Server, ServerError, running
from bench.stats import Estimate, estimate
from bench.workloads import Workload

WARM_UP_SECONDS = 1
ATTEMPTS = 3  # at a quiet run, each round
MOST_STEAL = 0.01
MOST_FOREIGN = 0.03
T = TypeVar("T")
Drive = Callable[[Server, Machine, float], load.Counts]  # loads it for so many seconds
_TICK_NS = 1_000_000_000 // os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Sample:
    """One run of one server in one round."""

    round: int
    cpu_us: float  # CPU time of the whole server a request
    rps: float
    busy: float  # the server's share of its core
    p50_us: float
    p99_us: float
    steal: float  # of both cores, taken by the hypervisor
    foreign: float  # of the server's core, taken by other processes
    p999_us: float = 0.0  # where it is measured
    floor_us: float = 0.0  # what the floor used just before and after; 0: not measured

    @property
    def relative(self) -> float:
        """What a round's ratios are formed of: a machine that is slower for some
        seconds is that for the floor, too."""
        return self.cpu_us / self.floor_us if self.floor_us else self.cpu_us

    @property
    def quiet(self) -> bool:
        return self.steal <= MOST_STEAL and self.foreign <= MOST_FOREIGN


@dataclass(frozen=True)
class Row:
    """What all rounds of one server on one workload came to."""

    peer: str
    workload: str
    samples: tuple[Sample, ...]
    trouble: str = ""  # why there are no figures

    @property
    def valid(self) -> bool:
        return bool(self.samples) and not self.trouble

    @property
    def used(self) -> tuple[Sample, ...]:
        """The quiet rounds; all of them when fewer than half were quiet."""
        quiet = tuple(sample for sample in self.samples if sample.quiet)
        return quiet if len(quiet) * 2 >= len(self.samples) else self.samples

    @property
    def noisy(self) -> bool:
        return any(not sample.quiet for sample in self.used)

    @property
    def cpu_us(self) -> float:
        return median(sample.cpu_us for sample in self.used)

    def ratio_to(self, other: Row) -> Estimate | None:
        """CPU time as a multiple of the other's, round by round: the quiet ones if
        they are at least half."""
        theirs = {sample.round: sample for sample in other.samples}
        pairs = [(s, theirs[s.round]) for s in self.samples if s.round in theirs]
        quiet = [(s, t) for s, t in pairs if s.quiet and t.quiet]
        used = quiet if len(quiet) * 2 >= len(pairs) else pairs
        return estimate([s.relative / t.relative for s, t in used]) if used else None


@dataclass(frozen=True)
class _Ticks:
    """The kernel's own account of the cores, in nanoseconds (sampled by tick)."""

    busy: int  # of the server's core
    steal: int  # of both

    @classmethod
    def now(cls, machine: Machine) -> _Ticks:
        busy = steal = 0
        for line in Path("/proc/stat").read_text().splitlines():
            name, *words = line.split()
            if name not in (f"cpu{machine.server_cpu}", f"cpu{machine.load_cpu}"):
                continue
            user, nice, system, _, _, irq, softirq, stolen = map(int, words[:8])
            steal += stolen
            if name == f"cpu{machine.server_cpu}":
                busy = user + nice + system + irq + softirq
        return cls(busy * _TICK_NS, steal * _TICK_NS)


def rotated(peers: Sequence[T], number: int) -> list[T]:
    """The order in the round of this number: each begins in turn."""
    turn = number % len(peers) if peers else 0
    return [*peers[turn:], *peers[:turn]]


def workload_rows(
    workload: Workload,
    peers: Sequence[Peer],
    machine: Machine,
    *,
    rounds: int,
    seconds: float,
    attempts: int = ATTEMPTS,
) -> Iterator[Row | str]:
    """Measure who has this row; yields a line of text as it goes, and the rows at the end.

    One failed round makes the row invalid: figures with errors in them mislead."""
    peers = [peer for peer in peers if peer.takes(workload)]
    floor = next(peer for peer in peers if peer.name == FLOOR)
    others = [peer for peer in peers if peer is not floor]
    samples: dict[str, list[Sample]] = {peer.name: [] for peer in peers}
    trouble: dict[str, str] = {}
    for number in range(rounds):
        with _needed(), _loaded(floor, workload, machine) as measured:
            floor_run = _needed()(partial(measured, number, seconds))
            floors = [floor_run()]
            for peer in rotated(others, number):
                if peer.name in trouble:
                    continue
                run = partial(_one_run, peer, workload, machine, number, seconds)
                try:
                    sample = _between_floors(run, floor_run, floors, attempts)
                except (ServerError, BadAnswer) as error:
                    trouble[peer.name] = str(error)
                    yield f"  {peer.name}: {error}"
                    continue
                samples[peer.name].append(sample)
                yield _told(peer, number, sample)
        samples[FLOOR].append(_middle(floors))
        yield _told(floor, number, samples[FLOOR][-1])
    for peer in peers:
        yield Row(
            peer.name,
            workload.name,
            tuple(samples[peer.name]),
            trouble.get(peer.name, ""),
        )


def _told(peer: Peer, number: int, sample: Sample) -> str:
    noise = ""
    if not sample.quiet:
        noise = f"  noisy: steal {sample.steal:.1%}, others {sample.foreign:.1%}"
    return (
        f"  round {number + 1}  {peer.name:<17} {sample.cpu_us:9.2f} us"
        f"  {sample.rps:9.0f}/s  busy {sample.busy:4.0%}{noise}"
    )


@contextmanager
def _needed() -> Iterator[None]:
    """Around what is the floor's: when that fails, nothing can be compared."""
    try:
        yield
    except (ServerError, BadAnswer) as error:
        raise SystemExit(f"{FLOOR}: {error}") from error


def _between_floors(
    run: Callable[[], Sample],
    floor_run: Callable[[], Sample],
    floors: list[Sample],
    attempts: int,
) -> Sample:
    """A run between two of the floor, which are kept in `floors`; again while others
    disturb it. The last attempt counts in any case."""
    for _ in range(attempts):
        before, sample, after = floors[-1], run(), floor_run()
        floors.append(after)
        three = (before, sample, after)
        if all(one.quiet for one in three):
            break
    return replace(
        sample,
        floor_us=fmean((before.cpu_us, after.cpu_us)),
        steal=max(one.steal for one in three),
        foreign=max(one.foreign for one in three),
    )


def _middle(floors: Sequence[Sample]) -> Sample:
    """Of the runs of the floor in a round the one in the middle, which is 1 to itself."""
    quiet = [sample for sample in floors if sample.quiet] or floors
    middle = sorted(quiet, key=lambda sample: sample.cpu_us)[len(quiet) // 2]
    return replace(middle, floor_us=middle.cpu_us)


@contextmanager
def _loaded(
    peer: Peer, workload: Workload, machine: Machine
) -> Iterator[Callable[[int, float], Sample]]:
    """A new process of that server, warm; call what comes to measure it, as often as
    you like. In between it has nothing to do, and no connections."""
    drive = packets.run if workload.uwsgi else load.run
    with running(peer, workload, machine) as server:
        check(server.address, workload)
        drive(server, machine, WARM_UP_SECONDS)

        def measured(number: int, seconds: float) -> Sample:
            with idle_connections(server, workload.idle):
                return window(server, machine, number, seconds, drive)

        yield measured
    if workload.access_log and peer.name not in (FLOOR, FLOOR_AGAIN):
        _see_log(server.log)


def _one_run(
    peer: Peer, workload: Workload, machine: Machine, number: int, seconds: float
) -> Sample:
    with _loaded(peer, workload, machine) as measured:
        return measured(number, seconds)


def _see_log(log: Path) -> None:
    """A server that wrote no access log has no place in that row."""
    with log.open("rb") as written:
        if b"GET /" not in written.read(65_536):
            raise BadAnswer("wrote no access log")


def window(
    server: Server,
    machine: Machine,
    number: int,
    seconds: float,
    drive: Drive = load.run,
) -> Sample:
    """Load the server; what it used in that time, by what the load got for it."""
    ticks, cpu, began = _Ticks.now(machine), server.cpu_ns(), time.monotonic_ns()
    counts = drive(server, machine, seconds)
    used = server.cpu_ns() - cpu
    elapsed = time.monotonic_ns() - began
    after = _Ticks.now(machine)
    if counts.trouble:
        raise BadAnswer(f"under load: {counts.trouble}")
    if counts.requests == 0:
        raise BadAnswer("under load: no request completed")
    return Sample(
        round=number,
        cpu_us=used / counts.requests / 1000,
        rps=counts.requests / counts.seconds,
        busy=used / elapsed,
        p50_us=counts.p50_us,
        p99_us=counts.p99_us,
        steal=(after.steal - ticks.steal) / (2 * elapsed),
        foreign=max(0.0, (after.busy - ticks.busy - used) / elapsed),
        p999_us=counts.p999_us,
    )


@contextmanager
def idle_connections(server: Server, count: int) -> Iterator[list[socket.socket]]:
    """Hold that many keep-alive connections, each of which made one request."""
    held: list[socket.socket] = []
    try:
        for _ in range(count):
            client = Client(server.address)
            client.exchange(server.workload.requests[0])
            if client.connection is None:
                raise BadAnswer("closes its connections: none can be idle")
            held.append(client.connection)
        yield held
    except OSError as error:
        raise BadAnswer(f"at {len(held)} idle connections: {error}") from error
    finally:
        for connection in held:
            connection.close()


def floor_of(rows: Sequence[Row]) -> Row | None:
    return next((row for row in rows if row.peer == FLOOR and row.valid), None)
