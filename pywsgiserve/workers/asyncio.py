"""`worker_class = "asyncio"`: a WSGI app in a thread that has an asyncio loop running.

The app is called from the loop, so it can start tasks there, and while it runs, nothing
else does; with `threads`, it is called in these, and the loop runs beside them. The loop
is uvloop's, where that is installed.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from pywsgiserve import logs
from pywsgiserve.workers.loop import Host, Setup, close

if TYPE_CHECKING:
    from pywsgiserve import _core
    from pywsgiserve.config import Config
    from pywsgiserve.worker import Life

loops = Setup()


def new_loop() -> asyncio.AbstractEventLoop:
    try:
        import uvloop  # Optional.
    except ImportError:
        return asyncio.new_event_loop()
    logs.line("INFO", "The loop is uvloop's")
    loop: asyncio.AbstractEventLoop = uvloop.new_event_loop()
    return loop


def setup(config: Config) -> None:
    """Let there be a loop when the app is imported: what it begins there will run."""
    loops.make(config, new_loop)


def serve(engine: _core.Server, app: Any, life: Life) -> None:
    loop = loops.take()
    try:
        Host(loop, engine, life).run(app)
    finally:
        close(loop)
