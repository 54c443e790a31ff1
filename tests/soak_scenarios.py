"""What is done to a server under load, so that the losses can be counted.

A scenario starts the server, does its action so often, and leaves the account in the
site. The full size is what `tests/run soak` does; the suite does a part of it.
"""

from __future__ import annotations

import os
import random
import re
import signal
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from tests.client import SANITIZED
from tests.holders import queued_at
from tests.load import Load
from tests.load_terms import STYLES, Style
from tests.process import content, wait_for_end
from tests.soak_peers import OURS
from tests.soak_site import VARIANTS, NotReached, Site, Variant

BACKLOG = 8
NEVER_FULL = "it lets nobody wait in the queue"
QUEUED = Style("queued", close=True, how="nap0.05")
IN_A_LONG_QUEUE = Style("queued", close=True, how="nap0.02", requests=1)
EXITS = Style("sys.exit", how="exit", status=500, think_s=0.005)
LEAKS = Style("leak", how="leak", think_s=0.005)
RSS_MIB = 600 if SANITIZED else 64
GATE = """
import os, time
with open({mark!r}, "a") as file:
    print("import", os.getpid(), file=file)
while not os.path.exists({gate!r}):
    time.sleep(0.01)
"""

Run = Callable[[Site, int], None]


@dataclass(frozen=True)
class Scenario:
    """Something that happens to servers."""

    name: str
    run: Run
    full: int  # So often in a whole soak.
    part: int  # So often in the suite.
    action: str  # What is counted.
    quiet: bool = False  # Nothing in it is worth a complaint in the log.
    variants: tuple[Variant, ...] = VARIANTS

    def happen(self, site: Site, count: int) -> None:
        site.quiet = self.quiet
        self.run(site, count)


# Death


def kill_workers(site: Site, count: int) -> None:
    with site.running(), site.loaded():
        for _ in range(count):
            victim = site.victim()
            site.kill(victim)
            site.settled(2, but=[victim])
            site.served()
            site.actions += 1


def kill_the_master(site: Site, count: int) -> None:
    """Its workers finish what they have, and leave."""
    for _ in range(count):
        with site.running(), site.loaded():
            workers = site.everybody()
            site.excuse_the_late()
            site.signal(signal.SIGKILL)
            site.until(
                lambda workers=workers: all(wait_for_end(pid, 0) for pid in workers),
                "the end of the workers",
            )
            site.actions += 1


def exit_in_requests(site: Site, count: int) -> None:
    with site.running(), site.loaded([*STYLES, EXITS]) as load:
        for n in range(count):
            site.until(
                lambda n=n: load.counts(EXITS.name).requests > n, f"exit {n + 1}"
            )
        site.served()
        site.actions += count


# Stuck workers


def stop_and_continue(site: Site, count: int) -> None:
    with site.running(), site.loaded():
        for _ in range(count):
            victim = site.victim()
            site.freeze(victim)
            site.served_or(0.5)
            os.kill(victim, signal.SIGCONT)
            site.served()
            site.actions += 1


def stuck(how: str, stopped: bool, ends: str) -> Run:
    """A request gets stuck; it is timed out, and what becomes of it is known.

    A worker that can be interrupted serves what is in it, and loses none of that. One
    that cannot turns it away or takes it along.
    """

    def run(site: Site, count: int) -> None:
        with site.running(timeout=2), site.loaded():
            for _ in range(count):
                seen = len(site.marks())
                style = Style(how, how=how, requests=1)
                with Load(site.server.addresses[0], [style], 1) as one:
                    site.until(lambda seen=seen: len(site.marks()) > seen, how)
                    worker = site.marks()[-1][1]
                    if stopped:
                        site.freeze(worker)
                    if site.peer is OURS and not stopped and how == "hang":
                        site.until(lambda pid=worker: wait_for_end(pid, 0), "its end")
                    else:
                        site.excuse_until_gone(worker)
                    one.join()
                (loss,) = one.losses
                said = f"{loss.end} {loss.detail}"
                site.notes[f"{how}: {said}"] += 1
                site.promise(bool(re.fullmatch(ends, said)), f"{how} ends with {said}")
                site.settled(2, but=[worker])
                site.served()
                site.actions += 1

    return run


# Reloads


def reload(site: Site, count: int) -> None:
    with site.running(), site.loaded():
        for _ in range(count):
            before = site.everybody()
            version = site.write_app()
            site.signal(signal.SIGHUP)
            site.at_work(version)
            site.settled(2, but=before)
            site.actions += 1


def _try_in_vain(site: Site) -> None:
    """HUP, and wait until the server has found out that it cannot be done."""
    said = site.peer.reload_failed
    seen, end = site.server.stderr.count(said or "\0"), time.monotonic() + 3
    site.signal(signal.SIGHUP)
    site.until(
        lambda: (
            site.server.stderr.count(said) > seen
            if said
            else time.monotonic() > end or not site.server.alive()
        ),
        "the failure of the reload",
    )
    if not site.server.alive():
        raise NotReached("the server has ended")
    site.served()


def _put_right(site: Site) -> None:
    """All the new workers have loaded the app before it may be broken again."""
    before = site.everybody()
    version = site.write_app()
    site.write_config()
    site.signal(signal.SIGHUP)
    site.at_work(version)
    site.settled(2, but=before)


def reload_a_broken_app(site: Site, count: int) -> None:
    with site.running(), site.loaded():
        _put_right(site)  # One has answered: the others may be loading the app still.
        for _ in range(count):
            site.break_app()
            _try_in_vain(site)
            _put_right(site)
            site.actions += 1


def reload_a_broken_config(site: Site, count: int) -> None:
    with site.running(), site.loaded():
        for _ in range(count):
            site.write_config("timeout = 'soon'")
            _try_in_vain(site)
            _put_right(site)
            site.actions += 1


def reload_a_slow_app(site: Site, count: int) -> None:
    """The import takes until we let it go on: four seconds."""
    with site.running(), site.loaded():
        for number in range(count):
            before, seen = site.everybody(), len(site.marks())
            gate = str(site.place / f"gate{number}")
            version = site.write_app(GATE.format(mark=str(site.mark), gate=gate))
            site.signal(signal.SIGHUP)
            site.until(lambda seen=seen: len(site.marks()) > seen, "an import")
            site.served_for(4)
            open(gate, "w").close()
            site.at_work(version)
            site.settled(2, but=before)
            site.actions += 1


# Recycling


def recycle(reason: str, styles: tuple[Style, ...] = STYLES, **settings: object) -> Run:
    """By what the log says; who does not say it has new workers for this reason only."""

    def run(site: Site, count: int) -> None:
        with site.running(**settings), site.loaded(styles) as load:

            def recycled() -> int:
                said = site.peer.recycled
                if said:
                    lines = rf"{said}.*\b{reason} \d"
                    return len(re.findall(lines, site.server.stderr))
                return len(load.workers) - 2

            for n in range(count):
                site.until(lambda n=n: recycled() > n, f"recycling {n + 1}")
            site.served()
            site.actions += recycled()

    return run


def storm(site: Site, count: int) -> None:
    """TTIN and TTOU, faster than workers start or end."""

    def asked_for() -> int:
        """Workers, by the signals that were handled: some of those sent may be merged."""
        wanted = 2
        for more in re.findall(r"Handling signal: tt(in)?", site.server.stderr):
            wanted = wanted + 1 if more else max(1, wanted - 1)
        return wanted

    def handled() -> int:
        return site.server.stderr.count("Handling signal: ttou")

    with site.running(), site.loaded():
        for number in range(count):
            fewer = random.random() < 0.5
            site.signal(signal.SIGTTOU if fewer else signal.SIGTTIN)
            if number % 5 == 4:
                site.served()
            site.actions += 1
        while asked_for() > 1:
            before = handled()
            site.signal(signal.SIGTTOU)
            site.until(lambda before=before: handled() > before, "TTOU is handled")
            site.until(
                lambda: len(site.everybody()) == asked_for(),
                "as many workers as were asked for",
            )
        site.signal(signal.SIGTTIN)
        site.settled(2)
        site.served()


# Upgrades


def upgrade(site: Site, count: int) -> None:
    """USR2; then the old master goes, or, every other time, the new one."""
    pidfile = site.place / "pid"
    with site.running(pidfile=str(pidfile)), site.loaded():
        for number in range(count):
            version = site.write_app()
            old = site.server.pid
            site.signal(signal.SIGUSR2)
            new = site.master_in(site.place / "pid.2")
            site.at_work(version)
            gone, stays = (new, old) if number % 2 else (old, new)
            os.kill(gone, signal.SIGTERM)
            site.until(lambda gone=gone: wait_for_end(gone, 0), "the end of a master")
            site.server.pid = stays
            site.until(
                lambda stays=stays: content(pidfile).strip() == str(stays).encode(),
                "its pidfile",
            )
            site.served()
            site.actions += 1


# Stops


def _stop(site: Site, stopped: Iterable[int] = ()) -> None:
    """TERM; workers that are stopped go on then."""
    site.excuse_the_late()
    site.signal(signal.SIGTERM)
    for pid in stopped:
        os.kill(pid, signal.SIGCONT)
    site.gone()
    code = site.server.process.wait()
    site.promise(code == 0, f"exit code {code} after TERM")
    site.actions += 1


def stop(site: Site, count: int) -> None:
    for _ in range(count):
        with site.running(), site.loaded():
            _stop(site)


def stop_with_a_full_queue(site: Site, count: int) -> None:
    """What the kernel has accepted is the server's to answer."""
    for _ in range(count):
        with site.running(backlog=BACKLOG):
            port = int(site.server.addresses[0].rpartition(":")[2])
            with site.loaded([QUEUED], each=60, first=0) as load:
                while queued_at(port) < BACKLOG:
                    if load.answers > 300:
                        site.notes[NEVER_FULL] += 1
                        break
                _stop(site)


def stop_with_a_long_queue(site: Site, count: int) -> None:
    """Workers that may have few connections at a time take the rest by and by."""
    for _ in range(count):
        with site.running(backlog=300, worker_connections=4):
            port = int(site.server.addresses[0].rpartition(":")[2])
            with site.loaded():
                site.until(lambda: len(site.workers()) == 2, "two workers that serve")
            workers = site.everybody()
            for pid in workers:
                site.freeze(pid)
            with site.loaded([IN_A_LONG_QUEUE], each=300, first=0):
                site.until(lambda port=port: queued_at(port) >= 100, "a long queue")
                _stop(site, workers)


CUT = "(reset|short) .* before the answer"

SCENARIOS = (
    Scenario("kill -9 of a worker", kill_workers, 100, 10, "kills"),
    Scenario("kill -9 of the master", kill_the_master, 20, 2, "kills"),
    Scenario("sys.exit in requests", exit_in_requests, 1000, 100, "exits"),
    Scenario("HUP", reload, 100, 10, "reloads", quiet=True),
    Scenario("HUP, broken app", reload_a_broken_app, 20, 2, "reloads"),
    Scenario("HUP, broken config", reload_a_broken_config, 20, 2, "reloads"),
    Scenario("HUP, slow app", reload_a_slow_app, 10, 1, "reloads"),
    Scenario(
        "max_requests",
        recycle("max_requests", max_requests=50, max_requests_jitter=25),
        1000,
        100,
        "recyclings",
        quiet=True,
    ),
    Scenario(
        "max_worker_lifetime",
        recycle("max_worker_lifetime", max_worker_lifetime=1),
        100,
        10,
        "recyclings",
        quiet=True,
    ),
    Scenario(
        "max_worker_rss",
        recycle("max_worker_rss", (*STYLES, LEAKS), max_worker_rss=RSS_MIB),
        100,
        10,
        "recyclings",
        quiet=True,
    ),
    Scenario("TTIN and TTOU", storm, 500, 50, "signals", quiet=True),
    Scenario("TERM", stop, 20, 2, "stops", quiet=True),
    Scenario("TERM, full queue", stop_with_a_full_queue, 20, 2, "stops", quiet=True),
    Scenario(
        "TERM, few connections", stop_with_a_long_queue, 20, 2, "stops", quiet=True
    ),
    Scenario("USR2 and back", upgrade, 20, 2, "upgrades", quiet=True),
    Scenario("stopped and continued", stop_and_continue, 20, 3, "stops"),
    Scenario("stopped, then timed out", stuck("hang", True, CUT), 10, 1, "time-outs"),
    Scenario(
        "an app that hangs",
        stuck("hang", False, "wrong status 500"),
        10,
        1,
        "time-outs",
    ),
    Scenario(
        "an app that keeps the GIL",
        stuck("hold", False, "wrong status 504"),
        10,
        1,
        "time-outs",
    ),
)
