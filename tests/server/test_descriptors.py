"""Open files: how far the server raises its limit, and who has what then."""

import contextlib
import os
import resource
import signal

import pytest

from pywsgiserve import descriptors
from pywsgiserve.checks import MOST_WORKERS
from pywsgiserve.config import Config
from tests.process import WORKERS, Deployed
from tests.server.test_preload import those_at_work

pytestmark = pytest.mark.skipif(WORKERS > 0, reason="chooses its workers itself")

FEW = 100
MANY = 20000


@pytest.fixture
def limited(place):
    """limited(SOFT, HARD, *words): a server that is started with these limits."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    if most != resource.RLIM_INFINITY and most < MANY:
        pytest.skip("the limit here is too low")

    @contextlib.contextmanager
    def start(soft, hard, *words):
        given = ("main:app", "-b", "127.0.0.1:0", *words)
        prefix = ("prlimit", f"--nofile={soft}:{hard}")
        server = Deployed(*given, cwd=place, prefix=prefix)
        try:
            server.wait_until_ready()
            yield server
        finally:
            server.finish()

    return start


def limit(pid):
    return resource.prlimit(pid, resource.RLIMIT_NOFILE)


@pytest.mark.parametrize("words", [(), ("--preload",)])
def test_master_and_workers_may_open_what_the_settings_need(limited, words):
    wanted = descriptors.needed(Config(worker_connections=3000, bind=("x",)))
    with limited(FEW, MANY, "--worker-connections", "3000", *words) as server:
        (worker,) = those_at_work(server)

        assert 6000 < wanted < 7000
        assert limit(server.pid) == limit(worker) == (wanted, MANY)


def test_as_many_clients_as_are_allowed_can_stay(limited):
    with limited(FEW, MANY, "--keep-alive", "600") as server:
        (worker,) = server.workers()
        with contextlib.ExitStack() as stack:
            clients = [
                stack.enter_context(server.connect()) for _ in range(FEW + FEW // 2)
            ]
            for _ in range(2):
                for client in clients:
                    assert int(client.get().body) == worker
        assert "Too many open files" not in server.stderr


def test_a_reload_with_more_connections_raises_the_limit_again(limited, place):
    (place / "settings.py").write_text("worker_connections = 2000\n")
    with limited(FEW, MANY, "-c", "settings.py") as server:
        (old,) = server.workers()
        before, _ = limit(old)
        (place / "settings.py").write_text("worker_connections = 5000\n")
        os.kill(server.pid, signal.SIGHUP)
        (new,) = server.wait_for_workers(1, but=[old])

        assert limit(new)[0] == limit(server.pid)[0] == before + 2 * 3000


def test_a_limit_that_is_higher_stays(limited):
    with limited(MANY, MANY) as server:
        (worker,) = server.workers()
        assert limit(server.pid) == limit(worker) == (MANY, MANY)


def test_what_the_hard_limit_does_not_allow_is_said(limited):
    with limited(FEW, 2 * FEW) as server:
        assert limit(server.pid) == (2 * FEW, 2 * FEW)
        server.wait_for(
            rf"\[WARNING\] worker_connections: 1000 do not fit into {2 * FEW} "
            r"descriptors, the hard limit of RLIMIT_NOFILE$"
        )
        assert server.get().status == 200


def test_a_master_needs_some_for_each_worker_and_each_socket():
    few = Config(worker_connections=1, bind=("x",))
    shared = descriptors.needed(few)
    own = descriptors.needed(Config(worker_connections=1, bind=("x",), reuse_port=True))

    assert shared > 2 * MOST_WORKERS
    assert own == shared + MOST_WORKERS - 1
