"""The life of a mold: it loads the app once, and its workers share that memory."""

from __future__ import annotations

import gc
import signal
from collections.abc import Callable
from dataclasses import dataclass, field

from pywsgiserve import _core, logs
from pywsgiserve.app import BOOT_FAILED, AppError
from pywsgiserve.checks import ConfigError
from pywsgiserve.config import Config
from pywsgiserve.server import App
from pywsgiserve.worker import (
    ABORTED,
    FOR_MASTERS,
    GONE,
    QUICK,
    REOPEN,
    RETIRE,
    forbid_new_privileges,
    tell_stacks,
    why_no_app,
)
from pywsgiserve.workers import Kind


@dataclass
class Mold:
    """What a mold is given, and what it has loaded."""

    cfg: Config
    core: _core.Master
    listeners: _core.Listeners
    load_app: Callable[[], App]
    access_log: logs.AccessLog
    on_ready: Callable[[], None] | None
    kind: Kind
    app: App | None = field(default=None, init=False)
    alive: bool = field(default=True, init=False)
    aborted: bool = field(default=False, init=False)

    def live(self) -> int | None:
        """Load, and fork until told to end: an exit code. None in a forked worker."""
        self.listeners.close()  # Workers get theirs one by one.
        code: int | None = 0
        try:
            self._take_signals()
            if self.cfg.no_new_privs:
                forbid_new_privileges()
            self.kind.setup(self.cfg)
            self.app = self.load_app()
            # What is there now stays: the collector need not touch, so copy, it again.
            gc.collect()
            gc.freeze()
            if self.on_ready is not None:
                self.on_ready()
            self.core.ready()
            code = self._fork_workers()
        except AppError as error:
            code = why_no_app(self.core, self, error)
        except ConfigError as error:
            if self.core.may_complain():
                logs.explain(str(error), error.details)
            code = BOOT_FAILED
        except SystemExit:
            code = 0
        except Exception as error:
            logs.exception("Exception in mold process", error)
            code = BOOT_FAILED
        return ABORTED if self.aborted else code

    def _fork_workers(self) -> int | None:
        while True:
            orders = self.core.hear()
            if orders is None:
                return None
            if orders & REOPEN:
                logs.reopen()
                self.access_log.reopen()
            if orders & (RETIRE | QUICK | GONE):
                return 0

    def _take_signals(self) -> None:
        for signum in (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT):
            signal.signal(signum, self._on_end)
        signal.signal(signal.SIGABRT, self._on_abort)
        for signum in (*FOR_MASTERS, signal.SIGUSR1):
            signal.signal(signum, self._on_other)
        tell_stacks(self.core)
        self.core.release_signals()

    def _on_end(self, signum: int, frame: object) -> None:
        self.alive = False
        raise SystemExit(0)

    def _on_abort(self, signum: int, frame: object) -> None:
        self.aborted = True
        raise SystemExit(ABORTED)

    def _on_other(self, signum: int, frame: object) -> None:
        """It is for the master, or comes as an order too."""
