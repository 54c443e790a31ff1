"""The class gevent: the engine on gevent's hub, each request in a greenlet."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING, Any

import gevent
from gevent import event, monkey

from pywsgiserve.workers.greenlets import Host, Loop, Turns, end, take_signals, wait

if TYPE_CHECKING:
    from pywsgiserve import _core
    from pywsgiserve.config import Config
    from pywsgiserve.worker import Life

READ = 1  # As libev has it, and gevent for all its loops.


def setup(config: Config) -> None:
    """Patch the standard library, once; a hub from before a fork begins anew."""
    monkey.patch_all()
    gevent.reinit()


def listen_for_children(hub: Any) -> None:
    """Hear of a child that ends before gevent watches it, too.

    gevent begins to listen with its first watcher, thus after the first fork:
    `os.waitpid` would not return if the child has ended by then. Where nobody forks it
    does not listen: it would take the status of children that others wait for, such as
    multiprocessing, or a library in a thread of its own.
    """
    pid = os.getpid()

    def listen() -> None:
        ours = os.getpid() == pid and gevent.get_hub() is hub
        if ours and signal.getsignal(signal.SIGCHLD) != signal.SIG_IGN:
            hub.loop.install_sigchld()

    if not gevent.config.disable_watch_children:
        os.register_at_fork(before=listen)


def serve(engine: _core.Server, app: Any, life: Life) -> None:
    hub = gevent.get_hub()
    loop = Loop(hub.loop.run_callback, gevent.sleep, gevent.spawn)

    def throw(who: Any, error: BaseException) -> None:
        hub.loop.run_callback(who.throw, error)

    ended = event.Event()
    turns = Turns(engine, ended.set)
    engine.begin(app, Host(hub, life.worker.cfg.worker_connections, throw))
    watcher = hub.loop.io(engine.fileno(), READ)
    # In the child the number of the descriptor may soon be that of any file.
    os.register_at_fork(after_in_child=watcher.stop)
    take_signals(life, hub, loop)
    listen_for_children(hub)
    watcher.start(turns)
    try:
        wait(ended.wait, turns, life)
    finally:
        if turns.is_child():
            os._exit(1)  # It has run out of things to do.
        watcher.stop()
        end(engine, loop)
        watcher.close()
    if turns.failure is not None:
        raise turns.failure
