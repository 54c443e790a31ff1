"""The engine on an asyncio loop of the main thread, whoever has brought the loop."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pywsgiserve import logs
from pywsgiserve.server import end_process

if TYPE_CHECKING:
    from pywsgiserve import _core
    from pywsgiserve.config import Config
    from pywsgiserve.worker import Life

# For the tasks of an app that is over, to see that they are cancelled.
LAST_S = 5.0


@dataclass
class Setup:
    """The loop of this process, from before the app is imported until it serves.

    A mold has none: a loop must not go through a fork.
    """

    _loop: asyncio.AbstractEventLoop | None = None
    _mold: int = 0

    def make(
        self, config: Config, new_loop: Callable[[], asyncio.AbstractEventLoop]
    ) -> None:
        """What the app begins in the current loop while it is imported will run."""
        if config.preload_app and self._mold in (0, os.getpid()):
            self._mold = os.getpid()
            return
        self._loop = new_loop()
        asyncio.set_event_loop(self._loop)

    def take(self) -> asyncio.AbstractEventLoop:
        """The loop, once; an asyncio.run() of the app may have made it not current."""
        assert self._loop is not None, "setup() comes first"
        loop, self._loop = self._loop, None
        asyncio.set_event_loop(loop)
        return loop


@dataclass
class Host:
    """A loop that runs until its engine has ended."""

    loop: asyncio.AbstractEventLoop
    engine: _core.Server
    life: Life
    on_step: Callable[[], None] | None = None
    _error: BaseException | None = field(default=None, init=False)

    def run(self, app: Any) -> None:
        self.engine.begin(app)
        try:
            self.loop.add_reader(self.engine.fileno(), self._step)
            self._run()
        finally:
            if not self.loop.is_closed():
                self.loop.remove_reader(self.engine.fileno())
            self.engine.end()

    def _step(self) -> None:
        try:
            self.engine.step()
        except BaseException as error:  # The loop would log some, and go on.
            self._error = error
            self.loop.stop()
            return
        if self.engine.is_done():
            self.loop.remove_reader(self.engine.fileno())
            self.loop.stop()
        elif self.on_step is not None:
            self.on_step()

    def _run(self) -> None:
        """The app may stop the loop, too, or call sys.exit: that is not the end."""
        while not self.engine.is_done():
            try:
                self.loop.run_forever()
                if self._error is not None:
                    error, self._error = self._error, None
                    raise error
            except SystemExit as asked:
                self._leave(asked)

    def _leave(self, asked: SystemExit) -> None:
        """Where the app is not in a request, others must not be harmed by its exit."""
        if os.getpid() != self.life.worker.pid:  # A task has forked: this is its child.
            code = asked.code
            end_process(code if isinstance(code, int) else int(code is not None))
        if self.life.worker.alive:
            logs.line(
                "WARNING",
                f"A task has called sys.exit({asked.code!r}): this worker goes when "
                "another one serves in its place",
            )
            self.life.core.ask_successor()


def complete(loop: asyncio.AbstractEventLoop, work: Coroutine[Any, Any, Any]) -> None:
    """Run it, whoever calls stop() meanwhile."""
    task = loop.create_task(work)
    while not task.done() and not loop.is_closed():
        with contextlib.suppress(RuntimeError):
            loop.run_until_complete(task)


def close(loop: asyncio.AbstractEventLoop) -> None:
    """End what the app has left in the loop, then the loop, as asyncio.run() does it.

    A task that does not let itself be cancelled is left behind.
    """
    if loop.is_closed():
        return
    try:
        tasks = asyncio.all_tasks(loop)
        for task in tasks:
            task.cancel()
        if tasks:
            complete(loop, asyncio.wait(tasks, timeout=LAST_S))
        complete(loop, loop.shutdown_asyncgens())
    finally:
        asyncio.set_event_loop(None)
        loop.close()
