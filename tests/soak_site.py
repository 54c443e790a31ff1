"""A server at work on tests/apps/loaded.py, with a load on it, and things to do to it.

What is done here works for any prefork server: a worker is who has answered, and a new
app has been loaded when an answer says so.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tests.client import SANITIZED
from tests.holders import Key, half_open_at, held_by, is_stopped
from tests.load import Load
from tests.load_terms import STYLES, Counts, Loss, Style
from tests.process import DISASTERS, wait_for_end
from tests.soak_peers import OURS, Peer, Served

APP = Path(__file__).parent / "apps" / "loaded.py"
EACH = 2  # Connections of each style.
LONG_S = 240.0 if SANITIZED else 60.0
BROKEN = "raise RuntimeError('a bad deployment')\n"
KILLED, LATE = "in a killed worker", "handshake after the end"
TURNED_AWAY = "status 503"  # By a worker that will be killed.
COMPLAINT = re.compile(r"\[(?:ERROR|CRITICAL)\] (.*)")
BUSY = 30  # Answers that show that the load goes on.


class NotReached(AssertionError):
    """What had to come did not come in time."""


@dataclass
class Variant:
    """How the server is set up."""

    name: str
    settings: dict[str, object] = field(default_factory=dict)


PLAIN = Variant("plain")
PRELOAD = Variant("preload", {"preload_app": True})
REUSE_PORT = Variant("reuse_port", {"reuse_port": True})
BOTH = Variant("preload and reuse_port", {**PRELOAD.settings, **REUSE_PORT.settings})
VARIANTS = (PLAIN, PRELOAD, REUSE_PORT, BOTH)


@dataclass
class Excuses:
    """What may be lost, said before it is: the exceptions to zero."""

    held: dict[Key, float] = field(default_factory=dict)  # In killed workers; when.
    half_open: set[Key] = field(default_factory=set)
    late: float = float("inf")  # When the server was told to end.

    def why(self, loss: Loss) -> str:
        """In which exception a loss falls; empty: in none."""
        if loss.end == "wrong" and loss.detail != TURNED_AWAY:
            return ""
        if loss.key in self.held and loss.connecting <= self.held[loss.key]:
            return KILLED
        if loss.began_after(self.late) or loss.key in self.half_open:
            return LATE
        return ""


class Site:
    """A server, its directory, and the load on it."""

    def __init__(self, peer: Peer, place: Path, variant: Variant = PLAIN) -> None:
        self.peer = peer
        self.place = place
        self.variant = variant
        self.version = 0
        self.settings: dict[str, object] = {"workers": 2, **variant.settings}
        self.excuses = Excuses()
        self.mark = place / "mark"
        self.server: Served
        self.load: Load
        self.quiet = False  # Whether nothing happens that is worth a complaint.
        self.actions = 0  # What has been done so far, and its account:
        self.counts = Counts()
        self.excused: Counter[str] = Counter()
        self.lost: list[Loss] = []
        self.notes: Counter[str] = Counter()
        self.broken: Counter[str] = Counter()  # What a server of ours never does.
        self.write_app()

    # What is deployed

    def write_app(self, before: str = "") -> str:
        """The next version of the app; returns its name."""
        self.version += 1
        version = f"v{self.version}"
        text = f"{before}{APP.read_text()}\nVERSION = {version!r}\n"
        (self.place / "main.py").write_text(text)
        return version

    def break_app(self) -> None:
        (self.place / "main.py").write_text(BROKEN)

    def write_config(self, text: str = "") -> None:
        lines = [f"{name} = {value!r}" for name, value in self.settings.items()]
        (self.place / "gunicorn.conf.py").write_text("\n".join([*lines, text, ""]))

    # Starting and ending

    @contextlib.contextmanager
    def running(self, **settings: object) -> Iterator[Site]:
        """The server without a load; killed at the end if it is still there."""
        self.settings.update(settings)
        self.write_config()
        self.server = self.peer.start(self.place, self.settings, str(self.mark))
        try:
            self.server.wait_until_serving(int(str(self.settings["workers"])))
            yield self
        finally:
            self.server.end()
            self._read_log()

    def _read_log(self) -> None:
        said = self.server.stderr
        for sign in DISASTERS:
            self.promise(sign not in said, f"{sign!r} in the log")
        if self.quiet:
            for complaint in COMPLAINT.findall(said):
                self.promise(False, complaint)

    def promise(self, kept: bool, otherwise: str) -> None:
        """What else ours does; of another server it is only noted."""
        if not kept:
            (self.broken if self.peer is OURS else self.notes)[otherwise] += 1

    @contextlib.contextmanager
    def loaded(
        self, styles: Iterable[Style] = STYLES, each: int = EACH, first: int = BUSY
    ) -> Iterator[Load]:
        """A load on it, all of whose requests are accounted for at the end."""
        self.excuses = Excuses()
        load = self.load = Load(self.server.addresses, styles, each, LONG_S)
        try:
            with load:
                self.until(lambda: load.answers >= first, "the first answers")
                yield load
        finally:
            self._settle(load)

    def _settle(self, load: Load) -> None:
        self.counts += load.counts()
        for surprise in load.surprises:
            self.promise(False, surprise)
        for loss in load.losses:
            why = self.excuses.why(loss)
            if why:
                self.excused[why] += 1
            else:
                self.lost.append(loss)

    # Waiting

    def until(self, true: Callable[[], object], what: str) -> None:
        end = time.monotonic() + LONG_S
        while not true():
            if time.monotonic() > end:
                ended = "" if self.server.alive() else "; the server has ended"
                raise NotReached(f"{what}: not in {LONG_S:g} s{ended}")
            time.sleep(0.005)

    def served(self, count: int = BUSY) -> None:
        """Wait until so many more requests have been answered."""
        seen = self.load.answers
        self.until(lambda: self.load.answers >= seen + count, f"{count} more answers")

    def served_for(self, seconds: float) -> None:
        """So long, and until some requests have been answered."""
        end = time.monotonic() + seconds
        self.served()
        self.until(lambda: time.monotonic() > end, f"{seconds:g} s")

    def served_or(self, seconds: float, count: int = 100) -> None:
        """The same, where nobody has promised that anybody serves meanwhile."""
        seen, end = self.load.answers, time.monotonic() + seconds
        self.until(
            lambda: self.load.answers >= seen + count or time.monotonic() > end, ""
        )

    def everybody(self) -> set[int]:
        """The workers, ready or not."""
        return self.peer.workers(self.server.pid)

    def workers(self) -> set[int]:
        """Those that have served."""
        return self.everybody() & set(self.load.workers)

    def settled(self, count: int, but: Iterable[int] = ()) -> None:
        """Wait until so many workers are at work, none of those that are to be gone."""
        gone = set(but)

        def so() -> bool:
            at_work = self.everybody()
            return len(at_work) == count and not at_work & gone

        self.until(so, f"{count} workers, without {sorted(gone)}")

    def gone(self) -> None:
        """Wait for the end of the master."""
        self.until(lambda: not self.server.alive(), "the end of the server")

    def at_work(self, version: str) -> None:
        self.until(lambda: self.load.versions[version] > BUSY, f"answers of {version}")

    def master_in(self, pidfile: Path) -> int:
        """Wait for a master to say who it is."""
        self.until(lambda: pidfile.exists() and pidfile.read_text().strip(), "a master")
        return int(pidfile.read_text())

    def victim(self) -> int:
        """A worker that has served."""
        self.until(self.workers, "a worker that has served")
        return min(self.workers(), key=lambda pid: self.load.workers[pid])

    # Doing

    def signal(self, signum: int) -> None:
        os.kill(self.server.pid, signum)

    def freeze(self, pid: int) -> None:
        """Stop a process, and wait until it is."""
        os.kill(pid, signal.SIGSTOP)
        self.until(lambda: is_stopped(pid), "SIGSTOP")

    def excuse(self, pid: int) -> None:
        """What is in this worker now may be lost."""
        now = time.monotonic()
        self.excuses.held.update(dict.fromkeys(held_by(pid), now))

    def excuse_the_late(self) -> None:
        """The server will be ended now: later handshakes may be lost."""
        self.excuses.late = time.monotonic()
        port = int(self.server.addresses[0].rpartition(":")[2])
        self.excuses.half_open = half_open_at(port)

    def kill(self, pid: int) -> None:
        """kill -9, with note taken of what is in the worker at that moment."""
        self.freeze(pid)
        self.excuse(pid)
        os.kill(pid, signal.SIGKILL)
        self.until(lambda: wait_for_end(pid, 0), f"the end of {pid}")

    def excuse_until_gone(self, pid: int) -> None:
        """What is in this worker until it ends may be lost."""

        def gone() -> bool:
            self.excuse(pid)
            return wait_for_end(pid, 0)

        self.until(gone, f"the end of worker {pid}")

    def marks(self) -> list[tuple[str, int]]:
        """What the app has said about itself: a word and a process id."""
        if not self.mark.exists():
            return []
        lines = self.mark.read_text().splitlines()
        return [(word, int(pid)) for word, pid in (line.split() for line in lines)]
