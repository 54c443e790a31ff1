"""`python -m bench.serve PEER PORT`: become that server, for the app BENCH_APP names.

For the servers that are started by a call; the others have a command of their own.
One process, access log off, and no limit that the workloads would run into. Ours takes
further settings, as JSON."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from typing import Any

from bench.wsgi import application

CONNECTIONS = 20_000
KEEPALIVE = 60


def pywsgiserve(app: Any, port: int, **more: Any) -> None:
    from pywsgiserve import run

    settings = {
        "bind": f"127.0.0.1:{port}",
        "worker_connections": CONNECTIONS,
        "keepalive": KEEPALIVE,
    }
    run(app, **(settings | more))


def bjoern(app: Any, port: int) -> None:
    import bjoern

    bjoern.run(app, "127.0.0.1", port)


def fastwsgi(app: Any, port: int) -> None:
    import fastwsgi

    fastwsgi.run(wsgi_app=app, host="127.0.0.1", port=port, workers=1)


def fastpysgi(app: Any, port: int) -> None:
    import fastpysgi

    fastpysgi.run(app, host="127.0.0.1", port=port, workers=1)


def meinheld(app: Any, port: int) -> None:
    from meinheld import server

    server.set_access_logger(None)
    server.set_keepalive(KEEPALIVE)
    server.listen(("127.0.0.1", port))
    server.run(app)


def waitress(app: Any, port: int) -> None:
    import waitress

    waitress.serve(
        app,
        host="127.0.0.1",
        port=port,
        connection_limit=CONNECTIONS,
        asyncore_use_poll=True,
        _quiet=True,
    )


def cheroot(app: Any, port: int) -> None:
    from cheroot.wsgi import Server

    server = Server(
        ("127.0.0.1", port), app, timeout=KEEPALIVE, request_queue_size=1024
    )
    server.keep_alive_conn_limit = CONNECTIONS
    server.start()


STARTERS: dict[str, Callable[..., None]] = {
    starter.__name__: starter
    for starter in (
        pywsgiserve,
        bjoern,
        fastwsgi,
        fastpysgi,
        meinheld,
        waitress,
        cheroot,
    )
}

if __name__ == "__main__":
    name, port, *settings = sys.argv[1:]
    STARTERS[name](
        application, int(port), **(json.loads(*settings) if settings else {})
    )
