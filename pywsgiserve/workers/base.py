"""A worker of one's own: `Worker` is what Gunicorn's `gunicorn.workers.base.Worker` is.

A subclass is handed the sockets, the app, the settings and the log, and owns the process
from there; there need not be any HTTP in it. docs/workers.md has an example.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from random import randint
from typing import Any, ClassVar

ERROR_PAGE = (
    b"HTTP/1.1 500 Internal Server Error\r\nConnection: close\r\n"
    b"Content-Type: text/plain\r\nContent-Length: 22\r\n\r\nInternal Server Error\n"
)


class WorkerTmp:
    """Gunicorn's file for signs of life: its time is that of the last one.

    `on_notify` tells them to who waits for them, and has nobody to tell at first.
    """

    def __init__(self, cfg: object = None) -> None:
        self.on_notify: Callable[[], object] | None = None
        self._fd = os.memfd_create("worker-tmp", os.MFD_CLOEXEC)

    def notify(self) -> None:
        now = time.monotonic()
        os.utime(self._fd, (now, now))
        if self.on_notify is not None:
            self.on_notify()

    def last_update(self) -> float:
        return os.fstat(self._fd).st_mtime

    def fileno(self) -> int:
        return self._fd

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
        self._fd = -1


class Worker:
    """Override `run()`, which ends when `alive` is False; and what else is to differ.

    `notify()` is to be called every `timeout` seconds (half of the setting), or the
    worker is killed. The first call, once `run()` has begun, says that it serves: those
    that it succeeds end then.
    """

    SIGNALS: ClassVar[list[signal.Signals]] = [
        signal.SIGABRT,
        signal.SIGHUP,
        signal.SIGQUIT,
        signal.SIGINT,
        signal.SIGTERM,
        signal.SIGUSR1,
        signal.SIGUSR2,
        signal.SIGWINCH,
        signal.SIGCHLD,
    ]
    PIPE: Sequence[int] = ()  # Its read end, and its write end.

    def __init__(
        self,
        age: int,
        ppid: int,
        sockets: list[Any],
        app: Any,
        timeout: float,
        cfg: Any,
        log: Any,
    ) -> None:
        """In the worker's process already, and before it has another user."""
        self.age = age
        self.pid: int | str = "[booting]"
        self.ppid = ppid
        self.sockets = sockets
        self.app = app
        self.timeout = timeout
        self.cfg = cfg
        self.log = log
        self.booted = False
        self.aborted = False
        self.alive = True
        self.reloader = None
        self.wsgi: Any = None
        self.nr = 0
        self.max_requests = sys.maxsize
        if cfg.max_requests > 0:
            self.max_requests = cfg.max_requests + randint(0, cfg.max_requests_jitter)
        self.tmp = WorkerTmp(cfg)
        self.ask_successor: Callable[[], object] = lambda: None

    def __str__(self) -> str:
        return f"<Worker {self.pid}>"

    def notify(self) -> None:
        """It lives."""
        self.tmp.notify()

    def served(self) -> None:
        """It has served one request more. After `max_requests` it is succeeded: it gets
        SIGTERM when the other one serves."""
        self.nr += 1
        if self.nr == self.max_requests:
            self.ask_successor()

    def run(self) -> None:
        """Serve until `alive` is False."""
        raise NotImplementedError(f"{type(self).__name__} has no run()")

    def init_process(self) -> None:
        """Get ready, and run. Who overrides it calls this last."""
        self.PIPE = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self.wait_fds = [*self.sockets, self.PIPE[0]]
        self.init_signals()
        self.load_wsgi()
        self.cfg.post_worker_init(self)
        self.booted = True
        self.run()

    def load_wsgi(self) -> None:
        """Load the app; it need not be a WSGI app for this class."""
        self.wsgi = self.app.wsgi()

    # Signals. They come from the master, too: TERM, QUIT and, when it is late, ABRT.

    def init_signals(self) -> None:
        """One that comes makes PIPE[0] readable, and so ends a wait for `wait_fds`."""
        for signum in self.SIGNALS:
            signal.signal(signum, signal.SIG_DFL)
        signal.signal(signal.SIGQUIT, self.handle_quit)
        signal.signal(signal.SIGTERM, self.handle_exit)
        signal.signal(signal.SIGINT, self.handle_quit)
        signal.signal(signal.SIGWINCH, self.handle_winch)
        signal.signal(signal.SIGUSR1, self.handle_usr1)
        signal.signal(signal.SIGABRT, self.handle_abort)
        signal.siginterrupt(signal.SIGTERM, False)
        signal.siginterrupt(signal.SIGUSR1, False)
        signal.set_wakeup_fd(self.PIPE[1], warn_on_full_buffer=False)

    def handle_exit(self, sig: int, frame: Any) -> None:
        """Finish what has begun, then end."""
        self.alive = False

    def handle_quit(self, sig: int, frame: Any) -> None:
        """End now."""
        self.alive = False
        self.cfg.worker_int(self)
        sys.exit(0)

    def handle_abort(self, sig: int, frame: Any) -> None:
        """It has given no sign of life for too long."""
        self.alive = False
        self.cfg.worker_abort(self)
        sys.exit(1)

    def handle_usr1(self, sig: int, frame: Any) -> None:
        self.log.reopen_files()

    def handle_winch(self, sig: int, frame: Any) -> None:
        """It is for the master."""

    def handle_error(
        self, req: Any, client: Any, addr: Any, exc: BaseException
    ) -> None:
        """Log what has gone wrong with a request, and answer it, if that is HTTP."""
        what = [getattr(req, name, "") for name in ("method", "uri")]
        shown = " ".join(word for word in what if word) or "(no URI read)"
        self.log.error(f"Error handling request {shown}", exc_info=exc)
        try:
            client.sendall(ERROR_PAGE)
        except OSError:
            self.log.debug("Failed to send error message.")
