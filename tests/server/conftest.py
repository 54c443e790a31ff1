"""`deploy` starts the command as a user would, in a directory with an app of theirs."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.process import Deployed

# What the tests ask of an app: who answers, and some ways to go wrong.
APP = """
import os, signal, sys, time

def app(environ, start_response):
    path = environ["PATH_INFO"]
    if path == "/hang":
        time.sleep(600)
    if path == "/loop":
        while True:
            pass
    if path == "/die":
        os._exit(9)
    if path == "/kill":
        os.kill(os.getpid(), signal.SIGKILL)
    body = str(os.getpid())
    if path == "/orphan":
        ends = os.pipe()
        child = os.fork()
        if child == 0:
            if os.fork() == 0:
                while os.getppid() == child:  # Until its parent has gone.
                    pass
            os._exit(0)
        os.waitpid(child, 0)
        os.close(ends[1])
        os.read(ends[0], 1)  # Its end comes when the orphan has ended, too.
        os.close(ends[0])
    if path == "/fork":
        ends = os.pipe()
        child = os.fork()
        if child == 0:
            os.write(ends[1], b"here")
            signal.pause()
        os.read(ends[0], 4)
        os.close(ends[0])
        os.close(ends[1])
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [str(child).encode()]
    if path == "/environ":
        body = repr({key: environ[key] for key in sorted(environ)})
    if path == "/seen":
        body = open(environ["QUERY_STRING"]).read()
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [body.encode()]
"""

Deploy = Callable[..., contextlib.AbstractContextManager[Deployed]]


@pytest.fixture
def place(short_path: Path) -> Path:
    """A directory with the app main:app, where deploy() starts the command."""
    (short_path / "main.py").write_text(APP)
    return short_path


@pytest.fixture
def deploy(place: Path) -> Deploy:
    """deploy(*words, workers=1, ready=True, killed=False, **env): judged at its end.

    The words go behind `main:app -b 127.0.0.1:0 -w WORKERS`. With ready=False nothing
    is waited for; with killed=True the test ends it, and judges that end.
    """

    @contextlib.contextmanager
    def deployed(
        *words: str,
        workers: int = 1,
        ready: bool = True,
        killed: bool = False,
        **env: str,
    ) -> Iterator[Deployed]:
        given = ["main:app", "-b", "127.0.0.1:0", "-w", str(workers)]
        server = Deployed(*given, *words, cwd=place, **env)
        try:
            if ready:
                server.wait_until_ready(workers)
            yield server
        except BaseException as error:
            try:
                server.finish(killed and not server.alive())
            except AssertionError as also:
                raise also from error
            print(f"--- stderr ---\n{server.stderr}")
            raise
        server.finish(killed)

    return deployed
