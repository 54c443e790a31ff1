"""`worker_class = "tornado"`: apps in a thread that has Tornado's IOLoop running.

A WSGI app is called from the loop or in threads beside it, as on asyncio. A `tornado.web.Application` is served
by Tornado's own HTTP server, on our sockets: its connections are Tornado's, and what is
set for ours has no effect there, which is said.
"""

from __future__ import annotations

import asyncio
import os
import socket
from typing import TYPE_CHECKING, Any

from tornado.ioloop import IOLoop
from tornado.web import Application

from pywsgiserve.checks import ConfigError
from pywsgiserve.workers import tornado_server
from pywsgiserve.workers.loop import Host, Setup, close

if TYPE_CHECKING:
    from pywsgiserve import _core
    from pywsgiserve.config import Config
    from pywsgiserve.worker import Life

loops = Setup()


def new_loop() -> asyncio.AbstractEventLoop:
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    IOLoop.current()  # Makes its own of the loop, for who looks for it.
    return loop


def setup(config: Config) -> None:
    """Let there be a loop when the app is imported: what it begins there will run."""
    loops.make(config, new_loop)


def serve(engine: _core.Server, app: Any, life: Life) -> None:
    loop = loops.take()
    try:
        if isinstance(app, Application):
            serve_application(engine, app, life, loop)
        else:
            Host(loop, engine, life).run(app)
    finally:
        close(loop)


def serve_application(
    engine: _core.Server,
    app: Application,
    life: Life,
    loop: asyncio.AbstractEventLoop,
) -> None:
    if "uwsgi" in engine.protocols:
        raise ConfigError("protocol: a tornado.web.Application speaks HTTP, not uwsgi")
    tornado_server.warn_of_idle_settings(life.worker.cfg)
    sockets = [
        socket.socket(fileno=os.dup(fd)) for fd in life.listeners.filenos if fd >= 0
    ]
    server = tornado_server.Server(app, **tornado_server.options(life.worker.cfg))
    server.join(engine, life.worker.cfg)
    host = Host(loop, engine, life, server.look)
    loop.call_soon(server.add_sockets, sockets)
    try:
        host.run(None)
    finally:
        server.stop()
        for connection in list(server.connections):
            connection.stream.close()
