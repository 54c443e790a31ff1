"""Processes that wait for something, and are not alive: they are found and replaced."""

import os
import signal

import pytest

from tests.process import TIMEOUT, WORKERS, wait_until
from tests.server.test_preload import molds, those_at_work
from tests.server.test_reuse_port import halt

pytestmark = pytest.mark.skipif(WORKERS > 0, reason="chooses its workers itself")

APP = """
import os

def app(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [str(os.getpid()).encode()]
"""

SHAPES = [(), ("--preload",), ("--reuse-port",), ("--preload", "--reuse-port")]
TOLD = r"\[CRITICAL\] WORKER TIMEOUT \(pid:{}\)$"


@pytest.fixture
def site(place):
    (place / "main.py").write_text(APP)
    return place


def wait_for(server, count, but=()):
    """So many serve, and those that are to go have gone."""
    gone = set(but)
    wait_until(
        lambda: len(those_at_work(server)) == count and not server.workers() & gone,
        lambda: f"{server.workers()}\n{server.stderr}",
    )
    return those_at_work(server)


@pytest.mark.contract(cases=1)
@pytest.mark.parametrize("words", SHAPES)
def test_an_idle_worker_that_is_stopped_is_replaced(deploy, site, words):
    with deploy("--timeout", TIMEOUT, *words, workers=2) as server:
        victim = min(wait_for(server, 2))
        halt(victim)
        server.wait_for(TOLD.format(victim))
        server.wait_for(rf"Worker \(pid:{victim}\) is idle and gives no sign of life$")
        server.wait_for(rf"Stacks of process {victim}: it does not tell them$")
        wait_until(lambda: len(those_at_work(server) - {victim}) == 2)
        told = rf"Worker \(pid:{victim}\) was sent SIGKILL! \(timed out\)$"
        server.wait_for(told)
        now = wait_for(server, 2, but=[victim])

        assert int(server.get().body) in now


def test_a_worker_that_goes_on_before_it_is_killed_ends_in_peace(deploy, site):
    with deploy("--timeout", TIMEOUT, workers=2) as server:
        victim = min(wait_for(server, 2))
        halt(victim)
        server.wait_for(TOLD.format(victim))
        os.kill(victim, signal.SIGCONT)
        server.wait_for(rf"Worker \(pid:{victim}\) has ended \(timed out\)$")
        wait_for(server, 2, but=[victim])


def test_a_stopped_mold_is_replaced(deploy, site):
    with deploy("--preload", "--timeout", TIMEOUT, workers=2) as server:
        first = wait_for(server, 2)
        (mold,) = molds(server)
        halt(mold)
        victim = min(first)
        os.kill(victim, signal.SIGKILL)
        server.wait_for(TOLD.format(mold))
        server.wait_for(rf"Mold \(pid:{mold}\) is idle and gives no sign of life$")
        wait_until(lambda: len(those_at_work(server) - {victim}) == 2)
        server.wait_for(rf"Mold \(pid:{mold}\) was sent SIGKILL! \(timed out\)$")
        now = wait_for(server, 2, but=[mold, victim])

        assert max(first) in now
        assert int(server.get().body) in now


HANGS_ONCE = """
import os, time
def pre_fork(server, worker):
    if worker.age == 3 and not os.path.exists({flag!r}):
        open({flag!r}, "w").close()
        time.sleep(600)
"""


def test_a_mold_that_hangs_in_pre_fork_is_replaced(deploy, site):
    flag = site / "flag"
    (site / "gunicorn.conf.py").write_text(HANGS_ONCE.format(flag=str(flag)))
    with deploy("--preload", "--timeout", TIMEOUT, workers=2) as server:
        first = wait_for(server, 2)
        (mold,) = molds(server)
        victim = min(first)
        os.kill(victim, signal.SIGKILL)
        wait_until(flag.exists)
        server.wait_for(TOLD.format(mold))
        server.wait_for(rf"Mold \(pid:{mold}\) does not end forking$")
        now = wait_for(server, 2, but=[mold, victim])

        assert max(first) in now
        assert len(molds(server)) == 1


HANGS_IN_CHILD = """
import os, time
def hang():
    with open({forks!r}, "a") as forks:
        print(os.getpid(), file=forks)
    while os.path.exists({flag!r}):
        time.sleep(0.05)
os.register_at_fork(after_in_child=hang)
"""


def test_a_worker_that_hangs_before_it_says_who_it_is_is_asked_for_anew(deploy, site):
    flag, forks = site / "flag", site / "forks"
    texts = {"flag": str(flag), "forks": str(forks)}
    (site / "main.py").write_text(HANGS_IN_CHILD.format(**texts) + APP)
    with deploy("--preload", "--timeout", TIMEOUT, workers=2) as server:
        first = wait_for(server, 2)
        before = forks.read_text()
        flag.touch()
        victim = min(first)
        os.kill(victim, signal.SIGKILL)
        wait_until(lambda: forks.read_text() != before)
        server.wait_for(r"WORKER TIMEOUT: one that mold \d+ has forked gives no sign")
        flag.unlink()
        now = wait_for(server, 2, but=[victim])

        assert max(first) in now
