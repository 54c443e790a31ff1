"""The master and its workers, as far as they are Python: hooks, settings, decisions.

The loop itself is `_core.Master`, which asks an `Arbiter`. It forks out of `run()`, so that
`serve` goes on in the master and in each worker, and returns an exit code in all of them.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import os
import sys
from collections.abc import Callable, Sequence

from pywsgiserve import _core, descriptors, logs, upgrade
from pywsgiserve._version import __version__
from pywsgiserve.checks import MOST_WORKERS, ConfigError, Decided
from pywsgiserve.config import Config
from pywsgiserve.generation import FIXED, Generation, LoadApp, Place, Reread, Timing
from pywsgiserve.hooks import (
    Application,
    Listener,
    Log,
    Pidfile,
    Worker,
    call_needed,
    call_safely,
)
from pywsgiserve.inheritance import Inheritance, take
from pywsgiserve.mold import Mold
from pywsgiserve.server import (
    App,
    describe,
    native,
    warn_of_idle_settings,
)
from pywsgiserve.worker import Life

PROGRAM = "pywsgiserve"


def set_title(role: str, config: Config, suffix: str = "") -> None:
    name = config.proc_name or config.wsgi_app or "app"
    text = f"{PROGRAM}: {role} [{name}{suffix}]".replace("\0", "?")
    _core.set_title(PROGRAM, text.encode("utf-8", "replace").decode())


def pid_file(path: str) -> _core.Pidfile:
    try:
        return _core.Pidfile(os.path.abspath(path))
    except ValueError as error:
        raise ConfigError(f"pidfile: {path!r}: {error}") from None


def listeners(
    generation: Generation, inherited: Sequence[tuple[int, bytes | None, int, int, str]]
) -> _core.Listeners:
    warn_of_idle_settings(generation.config)
    try:
        settings = native(generation.config, -1, owner=generation.owner)
        return _core.Listeners(settings, inherited)
    except ValueError as error:
        raise ConfigError(str(error)) from None


class Outcome:
    """Of a daemon's start: its caller waits for it, and reads our stderr until then."""

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def tell(self, code: int) -> None:
        if self._fd >= 0:
            silence()
            with contextlib.suppress(BrokenPipeError):  # It was killed: we go on.
                os.write(self._fd, bytes([code]))
            self.forget()

    def forget(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    @property
    def is_due(self) -> bool:
        return self._fd >= 0


def silence() -> None:
    """From now on nobody reads what a daemon writes to stderr."""
    if sys.stderr is not None:
        with contextlib.suppress(OSError):
            sys.stderr.flush()
    null = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
    os.dup2(null, 2)
    os.close(null)
    logs.reopen()  # A log that was stderr has kept the old one.


class Arbiter:
    """The master: what hooks know as `server`, and what decides for `_core.Master`."""

    def __init__(
        self, first: Generation, reread: Reread | None, inheritance: Inheritance
    ) -> None:
        self._generation = first
        self.inheritance = inheritance
        self.reexec_pid = 0  # The new master that USR2 has started.
        self.systemd = inheritance.by_systemd
        self.pid_lock: _core.Pidfile | None = None
        self.pid_path = os.path.abspath(first.config.pidfile or "")
        self._before: Generation | None = None  # While another one is tried.
        self._read_again = reread
        self._listeners: _core.Listeners | None = None
        self.next_worker: Worker | None = None
        self.rings = logs.shared_rings(_core.PLACES)
        self._logs: dict[int, logs.AccessLog] = {}  # By worker's process.
        self.log = Log(logs.line)
        self.pid = os.getpid()
        self.master_pid = inheritance.predecessor  # While that lives.
        self.master_name = "Master.2" if self.master_pid else "Master"
        self._num_workers = first.config.workers
        self.worker_age = 0
        self.worker_class = Worker
        self.address: list[str] = []
        self.LISTENERS: list[Listener] = []
        self.WORKERS: dict[int, Worker] = {}
        self.core: _core.Master | None = None  # While it runs, in the master.
        self.outcome = Outcome(-1)

    @property
    def cfg(self) -> Config:
        return self._generation.config

    @property
    def timeout(self) -> float:
        return self.cfg.timeout

    @property
    def proc_name(self) -> str:
        return (self.cfg.proc_name or self.cfg.wsgi_app or "") + self.suffix

    @property
    def pidfile(self) -> Pidfile | None:
        if not self.cfg.pidfile:
            return None
        return Pidfile(self.pid_path + self.suffix, self.pid)

    @property
    def suffix(self) -> str:
        """What tells a new master from the old one while both live."""
        return ".2" if self.master_pid else ""

    def show_title(self) -> None:
        set_title("master", self.cfg, self.suffix)

    @property
    def app(self) -> Application:
        return Application(self.cfg, self._generation.load_app)

    @property
    def num_workers(self) -> int:
        return self._num_workers

    @num_workers.setter
    def num_workers(self, value: int) -> None:
        """As TTIN and TTOU do it, for hooks: it holds until the next reload."""
        if isinstance(value, bool) or not isinstance(value, int):
            raise TypeError(f"num_workers: expected a whole number, got {value!r}")
        if not 0 <= value <= MOST_WORKERS:
            raise ValueError(f"num_workers: expected 0 to {MOST_WORKERS}, got {value}")
        if self.core is not None:
            self.core.resize(value)
        self.counted(value)

    # What hooks may call. The loop does it when they have returned.

    def reload(self) -> None:
        if self.core is not None:
            self.core.ask_reload()

    def wakeup(self) -> None:
        if self.core is not None:
            self.core.wake()

    manage_workers = wakeup

    def spawn_worker(self) -> None:
        """Fork who is missing, without a pause; for one more, set `num_workers`."""
        if self.core is not None:
            self.core.hurry()

    def kill_worker(self, pid: int, sig: int) -> None:
        if pid in self.WORKERS:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, sig)

    def kill_workers(self, sig: int) -> None:
        for pid in list(self.WORKERS):
            self.kill_worker(pid, sig)

    @property
    def generation(self) -> Generation:
        return self._generation

    def listen(self) -> _core.Listeners:
        sockets = listeners(self._generation, self.inheritance.inherited(self.cfg))
        self._listeners = sockets
        self.address = sockets.addresses
        self.LISTENERS = [
            Listener(describe(*shown), functools.partial(fileno, sockets, place))
            for place, shown in enumerate(
                zip(self.address, sockets.protocols, strict=True)
            )
        ]
        if self.inheritance.sockets:
            self.inheritance.say(self.cfg, self.address)
            self._share()
        return sockets

    def _share(self) -> None:
        """Whether the master before or after this one has the sockets, too."""
        assert self._listeners is not None
        self._listeners.share(bool(self.master_pid or self.reexec_pid))

    # What the core asks and tells.

    def before_fork(self, number: int) -> bool:
        self.worker_age = number
        self.next_worker = self._worker(number)
        for stream in (sys.stdout, sys.stderr):
            if stream is not None:
                stream.flush()  # Else the worker writes it once more.
        if self.cfg.pre_fork is not None:
            try:
                self.cfg.pre_fork(self, self.next_worker)
            except BaseException as error:
                logs.exception("Exception in pre_fork hook", error)
                return False
        return True

    def _worker(self, number: int) -> Worker:
        worker = Worker(number, self.cfg, self.log)
        worker.ppid = self.pid
        worker.sockets = self.LISTENERS
        worker.app = self.app
        return worker

    def forked(self, pid: int, number: int) -> None:
        worker, self.next_worker = self.next_worker, None
        if worker is None:  # A mold has made its own.
            worker = self._worker(number)
        worker.pid = pid
        self.WORKERS[pid] = worker
        self.worker_age = number
        self._logs[pid] = self._generation.access_log

    def reaped(
        self, pid: int, status: int, place: int, timed_out: bool, reason: str
    ) -> None:
        """A worker has ended; what it left in shared memory is ours to finish."""
        worker = self.WORKERS.pop(pid, None)
        log = self._logs.pop(pid, None)
        if log is not None:
            log.drain(logs.ring(self.rings, place))
        if worker is not None:
            worker.alive = False
            worker.aborted = timed_out
            worker.reason = reason
            call_safely(self.cfg, "child_exit", self, worker)

    def counted(self, workers: int) -> None:
        """The number of workers is set, to another one or not."""
        old, self._num_workers = self._num_workers, workers
        call_safely(self.cfg, "nworkers_changed", self, workers, old)

    def reread(self) -> Timing | None:
        """Read the settings anew; None when they cannot be used."""
        # Not where we are: a deployment may have put another directory in its place.
        directory = self._generation.place.directory
        place = Place(directory, dict(os.environ), tuple(sys.path))
        try:
            config, load_app = self.cfg, self._generation.load_app
            if self._read_again is not None:
                config, load_app = self._read_again()
            new = Generation.here(self._keep_fixed(config), load_app)
            try:
                logs.open(config)
            except ConfigError:
                new.access_log.close()
                raise
        except BaseException as error:
            place.enter_again()
            if isinstance(error, ConfigError):
                details = f"\n{error.details}" if error.details else ""
                logs.line("ERROR", f"Reload failed: {error}{details}")
            else:
                logs.exception("Reload failed", error)
            return None
        if self._before is None:
            self._before = self._generation
        else:
            self._generation.access_log.close()
        self._generation = new
        say_how_many(new.config)
        descriptors.allow(new.config)
        self.counted(new.config.workers)
        call_safely(self.cfg, "on_reload", self)
        return Timing.of(new.config, self._num_workers)

    def _keep_fixed(self, config: Config) -> Config:
        fixed = {n: getattr(self.cfg, n) for n in FIXED}
        for name, value in fixed.items():
            if getattr(config, name) != value:
                logs.line(
                    "WARNING",
                    f"{name}: changed, which needs a restart: {value!r} stays",
                )
        return dataclasses.replace(config, **fixed)

    def settled(self, kept: bool) -> None:
        if self._before is None:
            return
        if kept:
            self.show_title()
            self._before.access_log.close()
        else:
            self._generation.access_log.close()
            self._generation = self._before
            self._generation.place.enter_again()
            open_again(self.cfg)
        self._before = None

    def reopen(self) -> None:
        logs.reopen()
        self._generation.access_log.reopen()

    def started(self) -> None:
        if self._before is not None:  # It was reloaded before it had started.
            self._before.access_log.close()
            self._before = None
        logs.line("INFO", f"Workers are ready: {self.num_workers}")
        self.outcome.tell(0)

    def stopping(self) -> None:
        """The last one to close a socket is a worker that has emptied its queue."""
        self.LISTENERS = []
        if self._listeners is None:
            return
        if self.master_pid or self.reexec_pid:
            self._listeners.leave()
        else:
            self._listeners.close()

    def successor(self, pid: int) -> None:
        """USR2 has started a new master; 0: that has ended."""
        self.reexec_pid = pid
        self._share()

    def promoted(self) -> None:
        """The master before this one has ended."""
        self.master_pid = 0
        self.master_name = "Master"
        self._share()
        self.show_title()
        if self.pid_lock is not None:
            try:
                self.pid_lock.move(self.pid_path)
            except ValueError as error:
                logs.line("ERROR", f"pidfile: {self.pid_path!r}: {error}")

    # The ends of a master's life.

    def say_goodbye(self) -> None:
        call_safely(self.cfg, "on_exit", self)


def open_again(config: Config) -> None:
    """The error log was open like this before."""
    try:
        logs.open(config)
    except ConfigError as error:
        logs.line("ERROR", str(error))


def say_how_many(config: Config) -> None:
    """Where nobody has named a number of workers, how we have come to it."""
    if isinstance(config.workers, Decided):
        logs.line("INFO", config.workers.why)


def fileno(sockets: _core.Listeners, place: int) -> int:
    return sockets.filenos[place]


def end(arbiter: Arbiter, reason: str | None) -> None:
    level = "INFO" if reason is None else "ERROR"
    logs.line(level, "Shutting down: Master")
    if reason is not None:
        logs.line(level, f"Reason: {reason}")


def supervise(arbiter: Arbiter) -> int:
    """Start, keep workers alive, end. In a forked worker: be that one."""
    call_needed(arbiter.cfg, "nworkers_changed", arbiter, arbiter.num_workers, None)
    call_needed(arbiter.cfg, "on_starting", arbiter)
    sockets = arbiter.listen()
    try:
        where = ",".join(map(describe, arbiter.address, sockets.protocols))
        logs.line("INFO", f"Listening at: {where} ({os.getpid()})")
        logs.line("INFO", f"Using worker: {arbiter.generation.kind.name}")
        call_needed(arbiter.cfg, "when_ready", arbiter)
        arbiter.show_title()
        core = arbiter.core = _core.Master(arbiter, sockets)
        tell_core(arbiter, core)
        code = core.run(Timing.of(arbiter.cfg, arbiter.num_workers))
        arbiter.core = None
        if code is None:
            if arbiter.pid_lock is not None:
                arbiter.pid_lock.forget()
            if core.is_successor:
                upgrade.execute(arbiter, arbiter.inheritance, sockets)
            return live(arbiter, core, sockets)
        end(arbiter, core.reason)
    finally:
        sockets.close()
    return code


def tell_core(arbiter: Arbiter, core: _core.Master) -> None:
    """What the one who has started us has to do with."""
    notify = arbiter.inheritance.notify
    if notify is not None:
        try:
            core.tell_systemd(os.fsencode(notify.address), notify.watchdog_usec)
        except (OSError, ValueError) as error:
            logs.line("WARNING", f"NOTIFY_SOCKET: {notify.address!r}: {error}")
    if arbiter.master_pid:
        core.succeed(arbiter.master_pid)


def live(arbiter: Arbiter, core: _core.Master, sockets: _core.Listeners) -> int:
    """The whole life of a forked process: returns its exit code."""
    on_ready = silence if arbiter.outcome.is_due else None
    arbiter.outcome.forget()
    load_app = arbiter.generation.load_app
    if core.is_mold:
        set_title("mold", arbiter.cfg)
        mold = Mold(
            arbiter.cfg,
            core,
            sockets,
            load_app,
            arbiter.generation.access_log,
            on_ready,
            arbiter.generation.kind,
        )
        code = mold.live()
        if code is not None:
            return code
        app, on_ready = mold.app, None
        assert app is not None  # Else it could not have forked us.

        def load_app() -> App:
            return app

    return work(arbiter, core, sockets, load_app, on_ready)


def work(
    arbiter: Arbiter,
    core: _core.Master,
    sockets: _core.Listeners,
    load_app: LoadApp,
    on_ready: Callable[[], None] | None,
) -> int:
    worker = arbiter.next_worker
    assert worker is not None  # It was made before the fork.
    worker.pid = os.getpid()
    set_title("worker", worker.cfg)
    life = Life(
        server=arbiter,
        worker=worker,
        core=core,
        listeners=sockets,
        load_app=load_app,
        access_log=arbiter.generation.access_log,
        rings=arbiter.rings,
        owner=arbiter.generation.owner,
        on_ready=on_ready,
        kind=arbiter.generation.kind,
    )
    return life.live()


def start_in_background(
    config: Config, inheritance: Inheritance
) -> tuple[int | None, int]:
    """As `_core.daemonize`; a new master is in the background already, without stderr."""
    if not config.daemon:
        return None, -1
    if inheritance.upgraded:
        return None, os.open(os.devnull, os.O_WRONLY)
    return _core.daemonize()


def serve(
    config: Config,
    load_app: LoadApp,
    reread: Reread | None = None,
    inheritance: Inheritance | None = None,
) -> int:
    """Serve with a master and workers until a signal ends it; returns an exit code.

    It returns in the workers, too.
    """
    if inheritance is None:
        inheritance = take()
    code, status_fd = start_in_background(config, inheritance)
    if code is not None:
        return code
    logs.open(config)
    first = Generation.here(config, load_app)
    logs.line("INFO", f"Starting {PROGRAM} {__version__}")
    for warning in inheritance.warnings:
        logs.line("WARNING", warning)
    if config.daemon and inheritance.notify is not None:
        logs.line("WARNING", "daemon: not for Type=notify: systemd takes it for ended")
    say_how_many(config)
    descriptors.allow(config)
    arbiter = Arbiter(first, reread, inheritance)
    arbiter.outcome = Outcome(status_fd)
    if config.pidfile:
        arbiter.pid_lock = pid_file(config.pidfile + arbiter.suffix)
    try:
        code = supervise(arbiter)
    finally:
        if arbiter.pid_lock is not None and os.getpid() == arbiter.pid:
            arbiter.pid_lock.close()
    if os.getpid() == arbiter.pid:
        arbiter.say_goodbye()
        logs.close()
        arbiter.outcome.tell(code)
    return code
