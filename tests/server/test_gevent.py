"""The class gevent, where it is not like eventlet; the rest is in test_greenlets.py."""

import os
import signal

import pytest

from tests.client import SANITIZED, eventually
from tests.process import WORKER_CLASS, WORKERS
from tests.server.test_greenlets import APP, MANY, ask, clients
from tests.soak_peers import OURS
from tests.soak_scenarios import SCENARIOS
from tests.soak_site import Site, Variant

pytestmark = [
    pytest.mark.skipif(WORKERS > 0 or bool(WORKER_CLASS), reason="chooses for itself"),
    pytest.mark.skipif(SANITIZED, reason="ASan does not know stacks that are moved"),
]

GEVENT = {"worker_class": "gevent"}
# What a busy site goes through; all of it with sync is in test_lossless.py.
THERE = {
    "kill -9 of a worker": 5,
    "sys.exit in requests": 30,
    "HUP": 5,
    "HUP, slow app": 1,
    "max_requests": 3,
}


@pytest.fixture
def start(deploy, place):
    (place / "main.py").write_text(APP)

    def started(*words, **options):
        return deploy("-k", "gevent", *words, **options)

    return started


@pytest.mark.timeout(300)
def test_a_thousand_listeners_are_served_and_sent_home(start):
    """Server-sent events, which end when the site is reloaded."""
    words = ("--graceful-timeout", "2", "--worker-connections", "1100")
    with start(*words) as server:
        (old,) = server.workers()
        with clients(server, MANY) as listeners:
            for client in listeners:
                ask(client, "/events")
            for client in listeners:
                client.head()
                for _ in range(2):
                    assert client.chunk() == b"data: %d\n\n" % old
            assert server.get("/who").status == 200
            server.process.send_signal(signal.SIGHUP)

            for client in listeners:
                client.drop_rest()
        server.wait_for_workers(1, but=[old])
        assert server.get("/who").status == 200
        for word in ("Traceback", "Error handling", "(timed out)", "SIGKILL"):
            assert word not in server.stderr


def test_the_hooks_may_wait(deploy, place):
    """They are called in a greenlet of their own, as in Gunicorn."""
    (place / "main.py").write_text(APP)
    (place / "gunicorn.conf.py").write_text(
        "import time\n"
        "def post_fork(server, worker):\n"
        "    time.sleep(0.01)\n"
        "    print('post_fork', time.sleep.__module__, flush=True)\n"
        "def worker_int(worker):\n"
        "    time.sleep(0.01)\n"
        "    worker.log.info('worker_int was called')\n"
    )
    with deploy("-k", "gevent") as server:
        (worker,) = server.workers()
        with server.connect() as client:
            assert client.get("/who").status == 200
        os.kill(worker, signal.SIGQUIT)
        server.wait_for("worker_int was called")
        server.wait_for_workers(1, but=[worker])


def test_a_site_with_psycogreen_like_hooks_serves(start, place):
    """Callbacks of C libraries wait by gevent, from a hook as in many config files."""
    (place / "gunicorn.conf.py").write_text(
        "from gevent import monkey; monkey.patch_all()\n"
        "def post_fork(server, worker):\n"
        "    from gevent.socket import wait_read\n"
        "    worker.log.info('patched for %s', worker.cfg.worker_class)\n"
    )
    with start("--preload", workers=2) as server:
        server.wait_for("patched for gevent")
        with server.connect() as client:
            assert client.get("/late").body == b"in time"


def test_workers_are_recycled_without_a_loss_of_streams(start):
    with start("--max-requests", "20") as server, server.connect() as stream:
        (old,) = server.workers()
        ask(stream, "/events")
        stream.head()
        for _ in range(20):
            assert server.get("/who").status == 200
        server.wait_for(r"Autorestarting worker")
        eventually(lambda: int(server.get().body) != old, "a successor")

        assert stream.chunk() == b"data: %d\n\n" % old


@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    "scenario",
    [pytest.param(s, id=s.name) for s in SCENARIOS if s.name in THERE],
)
def test_no_request_is_lost(scenario, short_path):
    site = Site(OURS, short_path, Variant("gevent", dict(GEVENT)))

    scenario.happen(site, THERE[scenario.name])

    assert site.lost == [], f"{site.counts}\n{site.server.stderr}"
    assert not site.broken, site.server.stderr
    assert site.counts.requests > 0
