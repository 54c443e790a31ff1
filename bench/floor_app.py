"""The app call's own cost: call it with a prebuilt environ, and nothing else.

    python -m bench.floor_app WORKLOAD CALLS [--fresh | --loop]

prints nanoseconds of CPU a call. The loop runs in C, so that it adds next to nothing;
with --fresh each call gets a copy of the environ, as it would from a server; with
--loop nothing is called, to tell what the loop itself costs."""

from __future__ import annotations

import io
import sys
import time
from collections import deque
from collections.abc import Iterable, Iterator
from itertools import chain, repeat
from operator import is_ as start_response  # any C function of two arguments will do
from typing import Any

from bench import apps
from bench.workloads import Workload, named

Environ = dict[str, Any]


def environ_of(request: bytes) -> Environ:
    """What PEP 3333 asks for, from the head of a request."""
    head, _, body = request.partition(b"\r\n\r\n")
    line, *fields = head.decode("latin-1").split("\r\n")
    method, target, version = line.split(" ")
    path, _, query = target.partition("?")
    environ: Environ = {
        "REQUEST_METHOD": method,
        "SCRIPT_NAME": "",
        "PATH_INFO": path,
        "QUERY_STRING": query,
        "SERVER_NAME": "127.0.0.1",
        "SERVER_PORT": "8000",
        "SERVER_PROTOCOL": version,
        "REMOTE_ADDR": "127.0.0.1",
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": "http",
        "wsgi.input": io.BytesIO(body),
        "wsgi.errors": sys.stderr,
        "wsgi.multithread": False,
        "wsgi.multiprocess": False,
        "wsgi.run_once": False,
    }
    for field in fields:
        name, _, value = field.partition(":")
        key = name.upper().replace("-", "_")
        key = key if key in ("CONTENT_LENGTH", "CONTENT_TYPE") else "HTTP_" + key
        environ[key] = value.strip()
    return environ


def closed(results: Iterable[Iterable[bytes]]) -> Iterator[Iterable[bytes]]:
    """Each result, closed after it was read, as PEP 3333 wants it."""
    for result in results:
        yield result
        result.close()  # type: ignore[attr-defined]


def prepared(
    workload: Workload, calls: int, *, fresh: bool, loop: bool
) -> Iterable[Any]:
    """That many calls and all they give, for the taking; lists are there already."""
    app = apps.load(workload.app)
    environ = environ_of(workload.make()[0])
    result = app(dict(environ), start_response)
    environs: Iterable[Environ] = repeat(environ, calls)
    if fresh:
        environs = map(dict.copy, environs)
    called: Any = start_response if loop else app
    results: Iterable[Any] = map(called, environs, repeat(start_response))
    if not loop and hasattr(result, "close"):
        results = chain.from_iterable(closed(results))
    elif not loop and not isinstance(result, list):
        results = chain.from_iterable(results)
    return results


def main() -> None:
    workload, calls = named(sys.argv[1]), int(sys.argv[2])
    fresh, loop = "--fresh" in sys.argv, "--loop" in sys.argv
    results = prepared(workload, calls, fresh=fresh, loop=loop)
    began = time.process_time_ns()
    deque(results, maxlen=0)
    print((time.process_time_ns() - began) / calls)


if __name__ == "__main__":
    main()
