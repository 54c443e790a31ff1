"""The class eventlet: the engine on eventlet's hub, each request in a greenlet."""

from __future__ import annotations

import heapq
import os
import warnings
from typing import TYPE_CHECKING, Any

with warnings.catch_warnings():
    # It says that it is deprecated; so do we, in the log.
    warnings.simplefilter("ignore")
    import eventlet
    from eventlet import event, hubs
    from eventlet.hubs.timer import Timer

from pywsgiserve import logs
from pywsgiserve.workers.greenlets import Host, Loop, Turns, end, take_signals, wait

if TYPE_CHECKING:
    from pywsgiserve import _core
    from pywsgiserve.config import Config
    from pywsgiserve.worker import Life


def setup(config: Config) -> None:
    """Patch the standard library, once; a hub from before a fork is left to the parent,
    whose descriptor it has."""
    hubs.use_hub()
    eventlet.monkey_patch()


def serve(engine: _core.Server, app: Any, life: Life) -> None:
    logs.line(
        "WARNING",
        "worker_class: eventlet itself is in maintenance mode: it gets no new features, "
        "and its authors advise against new uses; gevent is the nearest",
    )
    hub = hubs.get_hub()
    loop = Loop(
        lambda call: hub.schedule_call_global(0, call), eventlet.sleep, eventlet.spawn
    )

    def throw(who: Any, error: BaseException) -> None:
        hub.schedule_call_global(0, who.throw, error)

    ended = event.Event()

    def on_end() -> None:
        if not ended.ready():
            ended.send()

    turns = Turns(engine, on_end)

    def look() -> None:
        # In the midst of the timers that are due: add_timer() would leave it for the next
        # round of the hub.
        heapq.heappush(hub.timers, (0, Timer(0, turns)))

    most = life.worker.cfg.worker_connections
    engine.begin(app, Host(hub.greenlet, most, throw, look))
    take_signals(life, hub.greenlet, loop)
    watcher = hub.add(hub.READ, engine.fileno(), turns, turns, turns)
    os.register_at_fork(after_in_child=hubs.use_hub)
    try:
        wait(ended.wait, turns, life)
    finally:
        if turns.is_child():
            os._exit(1)  # It has run out of things to do.
        hub.remove(watcher)
        end(engine, loop)
    if turns.failure is not None:
        raise turns.failure
