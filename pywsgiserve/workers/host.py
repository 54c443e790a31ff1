"""The life of a worker that is a class of somebody else: it owns the process.

No engine is opened here. The class hears of the master's orders by signals, as with
Gunicorn, and what it tells by `notify()` goes to the master: the first time, that it
serves, then that it lives.
"""

from __future__ import annotations

import fcntl
import inspect
import os
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from types import CodeType
from typing import TYPE_CHECKING, Any

from pywsgiserve import hooks
from pywsgiserve.workers import base, classes, logger, settings, sockets

if TYPE_CHECKING:
    from pywsgiserve.worker import Life

# As pywsgiserve/worker.py has them.
RETIRE, QUICK, REOPEN, GONE = 1, 2, 4, 0x100

IGNORED = (signal.SIGHUP, signal.SIGUSR2)
ENDING = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT)


def codes(cls: type) -> Iterator[CodeType]:
    for parent in cls.__mro__:
        if parent.__module__ not in classes.BASES:
            for value in vars(parent).values():
                function = getattr(value, "__func__", value)
                if inspect.isfunction(function):
                    yield function.__code__


def mentions(code: CodeType, name: str) -> bool:
    return name in code.co_names or any(
        mentions(inner, name) for inner in code.co_consts if isinstance(inner, CodeType)
    )


def notifies(cls: type) -> bool:
    """Whether there is anything in it that gives signs of life."""
    return any(mentions(code, "notify") for code in codes(cls))


def ordered(fd: int) -> int:
    """The orders that wait there. Sockets that come with one are closed."""
    orders = 0
    try:
        while letters := os.read(fd, 4096):
            for letter in letters:
                orders |= letter
    except BlockingIOError:
        return orders
    return orders | GONE


@dataclass
class Host:
    """A worker's life, and the object of the class that is that worker."""

    life: Life
    worker: Any
    ready: bool = False

    # What the worker tells.

    def be_ready(self) -> None:
        if not self.ready:
            self.ready = True
            self.life.tell_ready()

    def beat(self) -> None:
        self.life.core.beat()
        if self.worker.booted:
            self.be_ready()

    # What it is told.

    def take_orders(self) -> None:
        """From now on, at any moment between two lines of Python."""
        fd = self.life.core.order_fd

        def on_order(signum: int, frame: object) -> None:
            self.obey(ordered(fd))

        signal.signal(signal.SIGIO, on_order)
        signal.siginterrupt(signal.SIGIO, False)
        fcntl.fcntl(fd, fcntl.F_SETOWN, os.getpid())
        flags = fcntl.fcntl(fd, fcntl.F_GETFL)
        fcntl.fcntl(fd, fcntl.F_SETFL, flags | os.O_ASYNC)
        self.obey(ordered(fd))  # What has come before.

    def obey(self, orders: int) -> None:
        if orders & REOPEN:
            self.life.reopen_logs()
            signal.raise_signal(signal.SIGUSR1)  # It may have logs of its own.
        if orders & GONE:
            self.worker.log.info("Parent changed, shutting down: %s", self.worker)
        if orders & QUICK:
            signal.raise_signal(signal.SIGQUIT)
        if orders & (RETIRE | GONE):
            signal.raise_signal(signal.SIGTERM)

    def on_end(self, signum: int, frame: object) -> None:
        self.worker.alive = False
        raise SystemExit(0)

    def fill_in_signals(self) -> None:
        """Where the class leaves a signal to the kernel, that would kill without a word."""
        ours: dict[signal.Signals, Any] = {
            **dict.fromkeys(ENDING, self.on_end),
            **dict.fromkeys(IGNORED, self.life.on_other),
            signal.SIGUSR1: self.life.on_usr1,
            signal.SIGABRT: self.life.on_abort,
        }
        for signum, handler in ours.items():
            if signal.getsignal(signum) == signal.SIG_DFL:
                signal.signal(signum, handler)

    # Its life.

    def attach(self) -> None:
        """Be between the worker and what it calls."""
        worker = self.worker
        worker.tmp.close()
        worker.tmp = base.WorkerTmp()
        if self.life.owner is not None:  # Who else could not set its time.
            os.fchown(worker.tmp.fileno(), *self.life.owner[:2])
        worker.tmp.on_notify = self.beat
        worker.ask_successor = self.life.core.ask_successor
        init_signals, run = worker.init_signals, worker.run

        def signals_first() -> None:
            init_signals()
            self.fill_in_signals()

        def ready_first() -> Any:
            self.be_ready()
            return run()

        worker.init_signals = signals_first
        if not notifies(type(worker)):
            worker.run = ready_first

    def take_no_more_orders(self) -> None:
        """It ends already. Without an interpreter the signal would kill."""
        for signum in ENDING:
            signal.signal(signum, self.life.on_other)
        fd = self.life.core.order_fd
        flags = fcntl.fcntl(fd, fcntl.F_GETFL)
        fcntl.fcntl(fd, fcntl.F_SETFL, flags & ~os.O_ASYNC)

    def live(self) -> None:
        self.take_orders()
        try:
            self.worker.init_process()
        finally:
            self.take_no_more_orders()
            signal.set_wakeup_fd(-1)
            for sock in self.worker.sockets:
                sock.close()
            if self.ready:
                self.life.core.leave()


def made(life: Life, cls: type) -> Host:
    """An object of the class, in place of what the master's hooks have seen of it."""
    shown, config = life.worker, life.worker.cfg
    life.core.be_foreign()
    cfg = settings.Settings(config, [])
    log = logger.Logger(shown.log, cfg, life.access_log, life.reopen_logs)
    listeners = sockets.taken(life.listeners, cfg, log)
    cfg.address.extend(listener.cfg_addr for listener in listeners)
    check_config = getattr(cls, "check_config", None)
    if callable(check_config):
        check_config(cfg, log)
    app = hooks.Application(cfg, life.load_app)
    worker = cls(shown.age, shown.ppid, listeners, app, shown.timeout, cfg, log)
    worker.pid = shown.pid
    usual = vars(hooks.Worker(0, config, shown.log))
    for name, value in vars(shown).items():
        if name not in usual:  # By pre_fork.
            setattr(worker, name, value)
    host = Host(life, worker)
    host.attach()
    return host
