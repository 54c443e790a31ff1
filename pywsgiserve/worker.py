"""The life of a worker process: from the fork to its exit code."""

from __future__ import annotations

import faulthandler
import mmap
import os
import random
import signal
from collections.abc import Callable
from dataclasses import dataclass, field
from types import FrameType
from typing import Any, NoReturn, Protocol

from pywsgiserve import _core, frames, logs
from pywsgiserve.app import BOOT_FAILED, AppError
from pywsgiserve.checks import ConfigError
from pywsgiserve.cli import complain
from pywsgiserve.config import Config
from pywsgiserve.hooks import Heartbeat, call_needed, call_safely
from pywsgiserve.server import App, Owner, end_process, native, running
from pywsgiserve.workers import Kind

FAILED = 255  # As Gunicorn's worker, when something breaks after the start.
ABORTED = 1

# Orders of the master, as csrc/proc/workers.h and csrc/engine/poller.h have them; another
# one is for the core.
RETIRE, QUICK, REOPEN, DRAIN, GONE, LOST = 1, 2, 4, 16, 0x100, 0x200

# Signals that tell a master something and must not end a worker.
FOR_MASTERS = (
    signal.SIGHUP,
    signal.SIGUSR2,
    signal.SIGTTIN,
    signal.SIGTTOU,
    signal.SIGWINCH,
)


Handler = Callable[[int, FrameType | None], object]


class Loader(Protocol):
    """Who loads the app: a worker or a mold."""

    cfg: Config
    alive: bool  # Nobody has told it to end.
    aborted: bool  # It was late.


def why_no_app(core: _core.Master, who: Loader, error: AppError) -> int:
    """Say it, once for all workers, unless we have interrupted it; the exit code."""
    if who.aborted:
        limit = f"{who.cfg.timeout:g} s"
        logs.explain(
            f"timeout: the app took longer than {limit} to load", error.details
        )
    elif who.alive and core.may_complain():
        logs.explain(str(error), error.details)
    return error.exit_code if who.alive else 0


def tell_stacks(core: _core.Master) -> None:
    """When the master asks, write where all threads are, even while C holds the GIL."""
    faulthandler.register(_core.STACKS_SIGNAL, file=core.stacks_fd)
    core.tells_stacks()


@dataclass
class Life:
    """What a worker is given, and where it stands."""

    server: Any  # The Arbiter, for hooks.
    worker: Any  # A Worker, or an object of a class that owns this process.
    core: _core.Master
    listeners: _core.Listeners
    load_app: Callable[[], App]
    access_log: logs.AccessLog
    rings: mmap.mmap
    owner: Owner | None
    on_ready: Callable[[], None] | None
    kind: Kind
    engine: _core.Server | None = field(default=None, init=False)
    config: Config = field(init=False)
    _handlers: dict[int, Handler] = field(default_factory=dict, init=False)
    _ends: bool = field(default=False, init=False)
    _pooled: bool = field(default=False, init=False)  # Threads of ours run the app.

    def __post_init__(self) -> None:
        self.config = self.worker.cfg

    def _live(self) -> int:
        code = 0
        try:
            self.take_signals()
            code = self.serve()
        except AppError as error:
            code = why_no_app(self.core, self.worker, error)
        except ConfigError as error:
            if self.core.may_complain():
                logs.explain(str(error), error.details)
            code = BOOT_FAILED
        except SystemExit as error:
            code = error.code if isinstance(error.code, int) else 1
            code = 0 if error.code is None else code
        except BaseException as error:
            logs.exception("Exception in worker process", error)
            code = FAILED if self.worker.booted else BOOT_FAILED
            if not self.worker.booted and self.core.may_complain():
                say = f"{type(error).__name__}: {error}"
                complain(f"a worker cannot start: {say}", "")
        finally:
            self._ends = True
            if self.engine is not None:
                self._leave()
        return ABORTED if self.worker.aborted else code

    def live(self) -> int:
        """Serve until we are told to end; returns an exit code."""
        code = self._live()
        logs.line("INFO", f"Worker exiting (pid: {self.worker.pid})")
        call_safely(self.config, "worker_exit", self.server, self.worker)
        logs.close()
        if self.engine is not None and self.engine.left_behind:
            end_process(code)  # The interpreter must not end beneath those threads.
        return code

    def serve(self) -> int:
        config, worker = self.config, self.worker
        logs.line("INFO", f"Booting worker with pid: {worker.pid}")
        worker.tmp = Heartbeat(self.core.notify)
        self.kind.setup(config)
        host = self.kind.host(self)
        if host is not None:
            worker = self.worker = host.worker
        call_needed(config, "post_fork", self.server, worker)
        if self.owner is not None:
            become(self.owner)
        if config.no_new_privs:
            forbid_new_privileges()
        if host is not None:
            host.live()
            return 0
        app = worker.wsgi = self.load_app()
        if config.max_requests:
            jitter = random.randint(0, config.max_requests_jitter)
            worker.max_requests = config.max_requests + jitter
        call_needed(config, "post_worker_init", worker)
        ring = logs.ring(self.rings, self.core.place)
        fit = self.kind.fit(config, app)
        settings = native(fit, self.access_log.fd, ring, worker=worker)
        try:
            engine = _core.Server(
                settings, logs.exception, self.listeners, self.core, self.heed
            )
        except ValueError as error:
            raise ConfigError(str(error)) from None
        self.engine = engine
        self._pooled = settings.threads > 1 and not settings.hosted
        worker.count = lambda: engine.requests
        worker.booted = True
        running.append(engine)
        try:
            signal.set_wakeup_fd(engine.wakeup_fd, warn_on_full_buffer=False)
            engine.prepare(app)
            self.tell_ready()
            frames.in_thread(self.kind.serve, engine, app, self)
        finally:
            signal.set_wakeup_fd(-1)
            running.remove(engine)
            engine.close()
            self.listeners.close()  # Nobody accepts here any more.
        return 0

    def tell_ready(self) -> None:
        if self.on_ready is not None:
            self.on_ready()
        self.core.ready()

    # Signals, and the orders of the master

    def take_signal(self, signum: int, handler: Handler) -> None:
        self._handlers[signum] = handler
        signal.signal(signum, handler)

    def take_signals(self) -> None:
        handlers: dict[int, Handler] = {
            signal.SIGTERM: self.on_term,
            signal.SIGINT: self.on_quit,
            signal.SIGQUIT: self.on_quit,
            signal.SIGABRT: self.on_abort,
            signal.SIGUSR1: self.on_usr1,
            **dict.fromkeys(FOR_MASTERS, self.on_other),
        }
        for signum, handler in handlers.items():
            self.take_signal(signum, handler)
        tell_stacks(self.core)

        def let_go() -> None:
            """A child that the app forks is no worker."""
            for signum, handler in self._handlers.items():
                if signal.getsignal(signum) == handler:
                    signal.signal(signum, signal.SIG_DFL)

        os.register_at_fork(after_in_child=let_go)
        self.core.release_signals()

    def _leave(self) -> None:
        """Not a child of the app's, which has the worker's place before its eyes."""
        if os.getpid() == self.worker.pid:
            self.core.leave()

    def stop(self, graceful: bool) -> None:
        self.worker.alive = False
        if self.engine is not None:
            self._leave()
            self.engine.stop(graceful=graceful)
        elif not self._ends:
            raise SystemExit(0)  # Nothing has begun that could be lost.

    def on_term(self, signum: int, frame: object) -> None:
        """Not from the master, who would say when the time of draining is over."""
        delay = self.config.drain_delay
        if self.engine is None or not delay or not self.worker.alive:
            self.stop(graceful=True)
            return
        self.worker.alive = False
        self.core.ask_successor()
        self.engine.stop(graceful=True, delay=delay)

    def on_quit(self, signum: int, frame: object) -> None:
        call_safely(self.config, "worker_int", self.worker)
        self.stop(graceful=False)

    def on_abort(self, signum: int, frame: object) -> None:
        """The app has taken too long: it sees an exception there, and the log where.

        The other clients are served to the end. A request that the signal is not for is
        left alone: the one it was for has ended meanwhile.
        """
        serving = self.engine is not None and self.worker.booted and not self._ends
        if serving and self.engine is not None and self._pooled:
            self.abort_in_threads(self.engine)
            return
        if serving and not self.core.may_interrupt():
            self.stop(graceful=True)
            return
        self.interrupt()

    def interrupt(self) -> NoReturn:
        """Raise in what runs now; a worker that serves ends when its clients are."""
        serving = self.engine is not None and self.worker.booted and not self._ends
        self.worker.aborted = True
        call_safely(self.config, "worker_abort", self.worker)
        if serving:
            self.stop(graceful=True)
        raise SystemExit(ABORTED)

    def abort_in_threads(self, engine: _core.Server) -> None:
        """No request runs here, in the main thread, where signals are taken."""
        if engine.interrupt(SystemExit):
            self.worker.aborted = True
            call_safely(self.config, "worker_abort", self.worker)
        self.stop(graceful=True)

    def on_usr1(self, signum: int, frame: object) -> None:
        self.reopen_logs()

    def on_other(self, signum: int, frame: object) -> None:
        """It is for the master."""

    def heed(self, orders: int) -> None:
        if orders & REOPEN:
            self.reopen_logs()
        if orders & GONE and self.worker.alive:
            logs.line("INFO", f"Parent changed, shutting down: {self.worker}")
        if orders & DRAIN and self.engine is not None:
            self.engine.say_close()
        if orders & QUICK:
            self.stop(graceful=False)
        if orders & LOST:
            logs.line("ERROR", "A sibling's sockets need a successor of this worker")
        if orders & (RETIRE | GONE | LOST):
            self.stop(graceful=True)

    def reopen_logs(self) -> None:
        logs.reopen()
        self.access_log.reopen(self.engine)


def forbid_new_privileges() -> None:
    try:
        _core.forbid_new_privileges()
    except PermissionError as error:
        raise ConfigError(f"no_new_privs: {error}") from None


def become(owner: Owner) -> None:
    try:
        _core.drop_privileges(*owner)
    except PermissionError as error:
        raise ConfigError(f"user: {error}") from None
