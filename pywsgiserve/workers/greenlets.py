"""What gevent and eventlet have in common: each request in a pooled greenlet.

The core switches to the greenlets (csrc/py/greenlets.h); here is what it asks of the
loop that it is hosted in.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from types import FrameType
from typing import TYPE_CHECKING, Any

import greenlet

from pywsgiserve import frames, logs

if TYPE_CHECKING:
    from pywsgiserve import _core
    from pywsgiserve.worker import Life

Callback = Callable[[greenlet.greenlet], object]

# For requests that are called off at the end of the time to stop in, to end: the master
# kills who is there a second after that time.
CALLED_OFF_S = 0.5

SLOW = ("WARNING", "SLOW REQUEST")
OVERDUE = ("CRITICAL", "WORKER REQUEST TIMEOUT")


class RequestGreenlet(greenlet.greenlet):  # type: ignore[misc]  # It has no types.
    """One that serves request after request, and looks new to each of them.

    What gevent.local and others keep for a greenlet until its end is linked to that; as
    this one does not end, the links are called at the end of the request.
    """

    def throw(self, *error: Any) -> Any:
        """One that has returned for good has no more to do with it."""
        return None if self.dead else super().throw(*error)

    def rawlink(self, callback: Callback) -> None:
        self.__dict__.setdefault("_links", []).append(callback)

    def unlink(self, callback: Callback) -> None:
        links = self.__dict__.get("_links", ())
        if callback in links:
            links.remove(callback)


def forget(who: greenlet.greenlet) -> None:
    """The end of a request, for those that have left something in its greenlet."""
    links = who.__dict__.pop("_links", ())
    who.__dict__.clear()
    for callback in links:
        try:
            callback(who)
        except BaseException as error:
            # The others are called all the same: gevent.local forgets the request so.
            logs.exception("Error at the end of a request's greenlet", error)


def tell_late(who: greenlet.greenlet, overdue: bool, text: str) -> None:
    """A line about the request of a greenlet that waits, and where it does."""
    level, what = OVERDUE if overdue else SLOW
    stack = "".join(traceback.format_stack(who.gr_frame)).rstrip()
    logs.line(level, f"{what} (pid:{os.getpid()}): {text}\n{stack}")


@dataclass(frozen=True)
class Host:
    """The names are those that the core reads."""

    hub: greenlet.greenlet
    connections: int
    # Throws into a greenlet, soon: in a turn of the loop, and not in the caller's.
    throw: Callable[[greenlet.greenlet, BaseException], object]
    # Has a step taken before more of the greenlets go on that are due: the next requests
    # of those that have been answered would wait for the last one.
    look: Callable[[], object] | None = None

    settle = staticmethod(frames.begin_greenlet)  # Nothing may lie between.

    def make(self, run: Callable[[], None]) -> RequestGreenlet:
        return RequestGreenlet(run, self.hub)

    def forget(self, who: greenlet.greenlet) -> None:
        forget(who)

    def late(self, who: greenlet.greenlet, overdue: bool, text: str) -> None:
        tell_late(who, overdue, text)

    def overdue(self, who: greenlet.greenlet) -> None:
        """As on the other classes, the app sees SystemExit."""
        self.throw(who, SystemExit("request_timeout is over"))

    def call_off(self, who: greenlet.greenlet) -> None:
        self.throw(who, greenlet.GreenletExit("the worker ends"))

    def stray(self, error: BaseException) -> None:
        """What a greenlet of the app's has ended with: as if the hub had gone on with it."""
        if isinstance(error, greenlet.GreenletExit):
            raise error  # No greenlet ends with that: somebody ends the hub.
        if isinstance(error, (SystemExit, KeyboardInterrupt)):
            self.throw(self.hub.parent, error)
        else:
            logs.exception("A greenlet has ended with an exception", error)


class Turns:
    """Steps of the engine in turns of the hub, until there are no more."""

    def __init__(self, engine: _core.Server, on_end: Callable[[], object]) -> None:
        self.engine = engine
        self.failure: BaseException | None = None
        self._on_end = on_end
        self._pid = os.getpid()

    def is_child(self) -> bool:
        """Whether this is a process that the app has forked."""
        return os.getpid() != self._pid

    def __call__(self, *_: object) -> None:
        try:
            self.engine.step()
        except BaseException as error:
            # The hub would print it, or end, and call us again.
            self.failure = error
        if self.failure is not None or self.engine.is_done():
            self._on_end()


@dataclass(frozen=True)
class Loop:
    """What is different in gevent and eventlet."""

    run_soon: Callable[[Callable[[], object]], object]
    sleep: Callable[[float], object]
    spawn: Callable[..., object]


def wait(until_ended: Callable[[], object], turns: Turns, life: Life) -> None:
    """In the main greenlet, which the hubs throw a SystemExit of any greenlet into:
    requests must not be harmed by what is none of theirs."""
    while True:
        try:
            until_ended()
            return
        except SystemExit as asked:
            if turns.is_child():
                raise
            if life.worker.alive:
                logs.line(
                    "WARNING",
                    f"A greenlet has called sys.exit({asked.code!r}): this worker goes "
                    "when another one serves in its place",
                )
                life.core.ask_successor()


def end(engine: _core.Server, loop: Loop) -> None:
    """Call off what has not ended in time, and let it end."""
    until = time.monotonic() + CALLED_OFF_S
    while engine.call_off() and time.monotonic() < until:
        loop.run_soon(engine.step)
        with contextlib.suppress(SystemExit):  # As in wait().
            loop.sleep(0.01)
    engine.end()


def take_signals(life: Life, hub: greenlet.greenlet, loop: Loop) -> None:
    """Let signals find the worker's handlers where these may run.

    Those that may call hooks get a greenlet of their own, since hooks may wait, and the
    hub must not. SIGABRT is for the greenlet that does not let go of the thread: that is
    the one that it interrupts.
    """
    main = greenlet.getcurrent()

    def later(handler: Any) -> Callable[[int, FrameType | None], None]:
        def handle(signum: int, frame: FrameType | None) -> None:
            loop.spawn(handler, signum, None)

        return handle

    def on_abort(signum: int, frame: FrameType | None) -> None:
        if greenlet.getcurrent() in (hub, main):
            life.stop(graceful=True)
        else:
            life.interrupt()

    for signum in (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGUSR1):
        handler = signal.getsignal(signum)
        if callable(handler):
            life.take_signal(signum, later(handler))
    life.take_signal(signal.SIGABRT, on_abort)
