"""Classes of workers that others have written for Gunicorn, as they are: with Gunicorn
beside us, and without."""

import importlib.util
import os
import re
import signal
from pathlib import Path

import pytest

import pywsgiserve
from tests.client import SANITIZED
from tests.process import START_S, WORKER_CLASS, WORKERS, Pipe, wait_until
from tests.server.test_master import Load, rewrite
from tests.server.test_preload import those_at_work

pytestmark = [
    pytest.mark.skipif(
        WORKERS > 0 or bool(WORKER_CLASS), reason="chooses its workers itself"
    ),
    pytest.mark.skipif(SANITIZED, reason="their C code is not built for sanitizers"),
]

# Finds everything but Gunicorn.
HIDING = """
import sys
from importlib.machinery import PathFinder

class Hiding:
    @staticmethod
    def find_spec(name, path=None, target=None):
        if name.partition(".")[0] != "gunicorn":
            return PathFinder.find_spec(name, path, target)

sys.meta_path[:] = [Hiding if f is PathFinder else f for f in sys.meta_path]
"""

FASTAPI = """
import os, sys, time
from fastapi import FastAPI, Response

app = FastAPI()

def gunicorn():
    return str(getattr(sys.modules.get("gunicorn"), "__file__", None))

@app.get("/")
async def pid():
    return Response(str(os.getpid()))

@app.get("/gunicorn")
async def which():
    return Response(gunicorn())

@app.get("/waits")
def waits(here: str, pipe: str):
    with open(here, "w") as out:
        out.write("in the app")
    with open(pipe) as data:
        return Response(data.read())

@app.get("/hang")
async def hang():
    while True:
        time.sleep(0.1)
"""

ASGI = """
import os, time

async def app(scope, receive, send):
    if scope["type"] != "http":
        return
    while scope["path"] == "/hang":
        time.sleep(0.1)
    start = {"type": "http.response.start", "status": 200, "headers": []}
    await send(start)
    await send({"type": "http.response.body", "body": str(os.getpid()).encode()})
"""

AIOHTTP = """
import asyncio, os, sys, time
from aiohttp import web

async def pid(request):
    return web.Response(text=str(os.getpid()))

async def which(request):
    return web.Response(text=str(getattr(sys.modules.get("gunicorn"), "__file__", None)))

def wait(query):
    with open(query["here"], "w") as out:
        out.write("in the app")
    with open(query["pipe"]) as data:
        return data.read()

async def waits(request):
    loop = asyncio.get_running_loop()
    return web.Response(text=await loop.run_in_executor(None, wait, request.query))

async def hang(request):
    while True:
        time.sleep(0.1)

app = web.Application()
app.router.add_get("/", pid)
app.router.add_get("/gunicorn", which)
app.router.add_get("/waits", waits)
app.router.add_get("/hang", hang)
"""

CLASSES = [
    ("uvicorn_worker.UvicornWorker", FASTAPI),
    ("aiohttp.GunicornWebWorker", AIOHTTP),
]
# What is quickly imported: a boot has its time, too.
QUICK = [
    ("uvicorn_worker.UvicornWorker", ASGI),
    ("aiohttp.GunicornWebWorker", AIOHTTP),
]
# Much the same again; uvicorn's own only some releases of it have.
MORE = [
    ("uvicorn.workers.UvicornWorker", FASTAPI),
    ("aiohttp.GunicornUVLoopWebWorker", AIOHTTP),
]
SIGNS = """
import itertools

def post_worker_init(worker):
    notify, numbers = worker.notify, itertools.count(1)
    def noted():
        notify()
        worker.log.info("sign %d", next(numbers))
    worker.notify = noted
"""


def has(name):
    module = name.rpartition(".")[0]
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:
        return False


class Site:
    """A deployment of such a class, with what it takes to find Gunicorn, or not."""

    def __init__(self, deploy, place, name, with_gunicorn):
        self._deploy = deploy
        self.words = ("-k", name)
        self.place = place
        self.env = {}
        if not with_gunicorn:
            hidden = place / "hiding"
            hidden.mkdir()
            (hidden / "sitecustomize.py").write_text(HIDING)
            package = Path(pywsgiserve.__file__).parents[1]
            self.env["PYTHONPATH"] = f"{hidden}:{package}"

    def deploy(self, *words, **how):
        return self._deploy(*self.words, *words, **how, **self.env)


@pytest.fixture(params=[True, False], ids=["with Gunicorn", "without"])
def with_gunicorn(request):
    return request.param


@pytest.fixture
def site(deploy, place, with_gunicorn, given):
    name, text = given
    if not has(name):
        pytest.skip(f"there is no {name} here")
    (place / "main.py").write_text(text)
    return Site(deploy, place, name, with_gunicorn)


def text(server, path="/"):
    answer = server.get(path)
    assert answer.status == 200
    return answer.body.decode()


def of(classes):
    return pytest.mark.parametrize("given", classes, ids=[name for name, _ in classes])


@of(CLASSES + MORE)
@pytest.mark.parametrize("preload", [(), ("--preload",)])
def test_it_serves_its_app(site, with_gunicorn, preload):
    with site.deploy(*preload, workers=2, killed=True) as server:
        assert int(text(server)) in those_at_work(server)
        assert text(server, "/gunicorn").endswith("/__init__.py") == with_gunicorn
        assert server.stop() == 0

    assert len(re.findall(r"Worker exiting \(pid: \d+\)$", server.stderr, re.M)) == 2
    assert "was sent" not in server.stderr


@of(CLASSES)
@pytest.mark.parametrize("preload", [(), ("--preload",)])
def test_a_reload_loads_its_app_anew(site, preload):
    with site.deploy(*preload) as server:
        first = int(text(server))
        (site.place / "new.py").write_text("")
        main = site.place / "main.py"
        rewrite(main, main.read_text() + "\nimport new\n")
        server.process.send_signal(signal.SIGHUP)
        server.wait_for_workers(1 + len(preload), but=[first])

        assert int(text(server)) != first
        assert server.stderr.count("Booting worker") == 2


@of(CLASSES)
def test_a_request_underway_is_answered_before_the_end(site, short_path):
    here, pipe = Pipe(short_path / "here"), Pipe(short_path / "pipe")
    with site.deploy(killed=True) as server:
        with server.connect() as client:
            target = f"/waits?here={here}&pipe={pipe}"
            client.send(f"GET {target} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
            assert here.read() == "in the app"
            server.process.send_signal(signal.SIGTERM)
            server.wait_for("Handling signal: term")
            pipe.write("done")

            assert client.response().body == b"done"
        assert server.wait() == 0


@of(QUICK)
def test_one_whose_loop_is_stuck_is_replaced(site):
    with site.deploy("--timeout", "8") as server:
        first = int(text(server))
        with server.connect() as client:
            client.send(b"GET /hang HTTP/1.1\r\nHost: x\r\n\r\n")
            server.wait_for(rf"WORKER TIMEOUT \(pid:{first}\)$", 3 * START_S)
            server.wait_for(rf"Worker \(pid:{first}\) does not call notify\(\)$")
            server.wait_for_workers(1, but=[first])

        assert int(text(server)) != first


@of(QUICK)
def test_one_that_is_idle_gives_signs(site, given):
    """uvicorn gives one in half of the time-out, aiohttp one in a second."""
    signs = 3 if given in QUICK[:1] else 10
    (site.place / "gunicorn.conf.py").write_text(SIGNS)
    with site.deploy("--timeout", "8") as server:
        first = text(server)
        server.wait_for(f"sign {signs}$", 3 * START_S)

        assert text(server) == first
        assert "TIMEOUT" not in server.stderr


@of(CLASSES)
def test_a_killed_one_is_replaced(site):
    with site.deploy() as server:
        first = int(text(server))
        os.kill(first, signal.SIGKILL)
        server.wait_for_workers(1, but=[first])

        assert int(text(server)) != first


@of(CLASSES)
def test_its_access_log_is_ours(site):
    with site.deploy("--access-logfile", "log") as server:
        text(server, "/?a=1")
        wait_until(lambda: '"GET /?a=1 ' in (site.place / "log").read_text())
        server.process.send_signal(signal.SIGUSR1)
        (site.place / "log").rename(site.place / "old")
        server.process.send_signal(signal.SIGUSR1)
        wait_until(lambda: (site.place / "log").exists())
        wait_until(
            lambda: text(server, "/?a=2") and (site.place / "log").read_text() != ""
        )


@pytest.mark.parametrize("with_timeout", ["0", "30"])
def test_an_app_that_cannot_start_ends_the_start(
    deploy, place, with_gunicorn, with_timeout
):
    """Its lifespan fails, when the app is loaded and the loop runs."""
    (place / "main.py").write_text(
        "async def app(scope, receive, send):\n"
        "    await receive()\n"
        "    await send({'type': 'lifespan.startup.failed', 'message': 'no'})\n"
    )
    site = Site(deploy, place, "uvicorn_worker.UvicornWorker", with_gunicorn)
    with site.deploy("--timeout", with_timeout, ready=False, killed=True) as server:
        assert server.wait() == 3
        server.wait_for(r"Reason: Worker failed to boot\.$")


def test_a_part_of_gunicorn_that_we_have_not_is_named(deploy, place):
    (place / "more.py").write_text("from gunicorn.workers.ggevent import GeventWorker")
    site = Site(deploy, place, "more.Worker", False)
    with site.deploy(ready=False, killed=True) as server:
        assert server.wait() == 3
        server.wait_for(
            r"worker_class: cannot import 'more.Worker': ModuleNotFoundError: .*; it "
            r"needs more of Gunicorn than we have: pip install gunicorn$"
        )


def test_an_app_elsewhere_is_told_that_there_is_no_gunicorn(deploy, place):
    (place / "main.py").write_text(
        "try:\n    import gunicorn\n    found = b'there'\n"
        "except ImportError:\n    found = b'none'\n"
        "def app(environ, start_response):\n"
        "    start_response('200 OK', [])\n"
        "    return [found]\n"
    )
    with Site(deploy, place, "sync", False).deploy() as server:
        assert text(server) == "none"


# Gunicorn's own classes, below one of somebody's

DERIVED = """
from gunicorn.workers.sync import SyncWorker
from gunicorn.workers.ggevent import GeventWorker
from gunicorn.workers.gthread import ThreadWorker

class Sync(SyncWorker):
    def handle_request(self, listener, req, client, addr):
        self.log.info("handled here")
        return super().handle_request(listener, req, client, addr)

class Thread(ThreadWorker):
    pass

class Gevent(GeventWorker):
    pass
"""


@pytest.mark.parametrize("name", ["Sync", "Thread", "Gevent"])
def test_a_class_made_of_gunicorns_is_served_by_gunicorn(deploy, place, name):
    (place / "derived.py").write_text(DERIVED)
    words = ("-k", f"derived.{name}", "--access-logfile", "log", "--timeout", "8")
    with deploy(*words, workers=2, killed=True) as server:
        with Load(server) as load:
            wait_until(lambda: load.answers > 20)
        assert load.losses == []
        assert '"GET / HTTP/1.1" 200 ' in (place / "log").read_text()
        assert name != "Sync" or "handled here" in server.stderr
        assert server.stop() == 0

    assert "was sent" not in server.stderr
