"""A server beside other things in a process: in a test, a notebook, a desktop program."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from types import TracebackType
from typing import Any

from pywsgiserve import _core, frames, logs
from pywsgiserve.config import Config, ConfigError, is_set
from pywsgiserve.server import (
    App,
    NativeConfig,
    describe,
    native,
    only_for_masters,
    warn_of_idle_settings,
)

# A process has one error log: it is left alone unless one of these is set.
ERROR_LOG = ("errorlog", "loglevel", "capture_output")

# Those that are open; a child that somebody forks lets go of them.
servers: list[_core.Server] = []


def abandon_in_child() -> None:
    for server in servers:
        server.abandon()


os.register_at_fork(after_in_child=abandon_in_child)


def bound(config: NativeConfig) -> _core.Server:
    """Sockets that listen; `ConfigError` when they cannot be had."""
    try:
        return _core.Server(config, logs.exception)
    except ValueError as error:
        raise ConfigError(str(error)) from None


class Server:
    """A server in a thread: listens when it is made, ends when you say so.

        with Server(app, bind="127.0.0.1:0") as server:
            urllib.request.urlopen(server.addresses[0])

    It takes the settings of `run`, has one process, and leaves signals alone. start() and
    stop() are the two ends of that block; run() serves in a thread of yours instead. A
    server serves once.
    """

    def __init__(self, app: App, **settings: Any) -> None:
        if not callable(app):
            raise ConfigError(f"app: expected a WSGI callable, got {app!r}")
        config = Config.from_settings(settings)
        for name in only_for_masters(config):
            raise ConfigError(
                f"{name}: a Server has one process, yours, and no master, "
                f"got {getattr(config, name)!r}; pywsgiserve.run() can do more"
            )
        if config.drain_delay:
            raise ConfigError(
                f"drain_delay: a Server gets no SIGTERM, got {config.drain_delay!r}"
            )
        self._app = app
        self._home = os.getpid()
        self._lock = threading.Lock()
        self._begun = False
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None
        self._error: BaseException | None = None
        with contextlib.ExitStack() as opened:
            if any(is_set(name, getattr(config, name)) for name in ERROR_LOG):
                logs.open(config)
            warn_of_idle_settings(config)
            access_log = logs.AccessLog(config)
            opened.callback(access_log.close)
            self._core = bound(native(config, access_log.fd))
            opened.callback(self._core.close)
            self._opened = opened.pop_all()
        servers.append(self._core)
        self.addresses = tuple(
            map(describe, self._core.addresses, self._core.protocols)
        )

    def run(self) -> None:
        """Serve in this thread, until the app or another thread calls stop()."""
        self._begin()
        self._serve()

    def start(self) -> None:
        """Serve in a thread of its own, which does not keep the process alive."""
        self._begin()
        thread = threading.Thread(target=self._keep_error, daemon=True)
        try:
            thread.start()
        except RuntimeError:  # There are too many.
            self._close()
            raise

    def stop(self, *, graceful: bool = True) -> None:
        """End it and wait for the end. From any thread, and as often as you like.

        A graceful stop finishes the requests that have begun, for `graceful_timeout` at
        most; the app call in hand is finished in any case. When the app calls this, it
        does not wait. A child of a fork has no server to stop: nothing happens.
        """
        if os.getpid() != self._home:
            return
        with self._lock:
            begun, self._begun = self._begun, True
        if not begun:
            self._close()
        self._core.stop(graceful=graceful)
        if self._thread is threading.current_thread():
            return
        self._ended.wait()
        error, self._error = self._error, None
        if error is not None:
            raise error

    def __enter__(self) -> Server:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    def _begin(self) -> None:
        with self._lock:
            if self._begun:
                raise RuntimeError("a Server serves once: make another one")
            self._begun = True

    def _serve(self) -> None:
        self._thread = threading.current_thread()
        try:
            with self._woken_by_signals():
                frames.in_thread(self._core.serve, self._app)
        finally:
            self._close()

    @contextlib.contextmanager
    def _woken_by_signals(self) -> Iterator[None]:
        """In the main thread: one that comes right before a wait ends that wait, too."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = signal.set_wakeup_fd(self._core.wakeup_fd, warn_on_full_buffer=False)
        if before != -1:  # Somebody else's loop has to hear of them.
            signal.set_wakeup_fd(before)
        try:
            yield
        finally:
            if before == -1:
                signal.set_wakeup_fd(-1)

    def _keep_error(self) -> None:
        """What goes wrong in our thread is raised by stop()."""
        try:
            self._serve()
        except BaseException as error:
            self._error = error

    def _close(self) -> None:
        servers.remove(self._core)
        self._opened.close()
        self._ended.set()
