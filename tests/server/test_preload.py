"""preload_app: a mold loads the app, and the workers share what it has loaded."""

import os
import signal
from pathlib import Path

import pytest

from tests.process import TIMEOUT, WORKERS, parent_of, wait_until
from tests.server.test_master import Load, rewrite, title

pytestmark = pytest.mark.skipif(WORKERS > 0, reason="chooses its workers itself")

APP = """
import os
with open({log!r}, "a") as log:
    print(os.getpid(), file=log)
VERSION = {version!r}
LOADER = os.getpid()

def app(environ, start_response):
    if environ["PATH_INFO"] == "/die":
        os._exit(9)
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [f"{{VERSION}} {{LOADER}} {{os.getpid()}}".encode()]
"""


@pytest.fixture
def site(place):
    """Write another version of the app, which notes who loads it."""

    def write(version):
        text = APP.format(log=str(place / "loads"), version=version)
        rewrite(place / "main.py", text)

    write("one")
    return write


def loads(place):
    return [int(line) for line in (place / "loads").read_text().split()]


def molds(server):
    return {
        pid for pid in server.workers() if title(pid).startswith("pywsgiserve: mold")
    }


def those_at_work(server):
    return server.workers() - molds(server)


def answer(server):
    version, loader, worker = server.get().body.decode().split()
    return version, int(loader), int(worker)


def wait_for(server, count, but=()):
    gone = set(but)
    wait_until(
        lambda: len(those_at_work(server)) == count and len(molds(server)) == 1
        and not server.workers() & gone,
        lambda: f"{server.workers()}, {molds(server)}\n{server.stderr}",
    )  # fmt: skip
    return those_at_work(server)


@pytest.mark.contract
def test_the_app_is_loaded_once_and_not_by_the_master(deploy, place, site):
    with deploy("--preload", workers=3) as server:
        workers = wait_for(server, 3)
        (mold,) = molds(server)

        assert loads(place) == [mold]
        assert answer(server)[:2] == ("one", mold)
        assert answer(server)[2] in workers
        assert {parent_of(pid) for pid in workers} == {server.pid}


def test_a_dead_worker_is_replaced_without_a_load(deploy, place, site):
    with deploy("--preload", workers=2) as server:
        first = wait_for(server, 2)
        victim = min(first)
        os.kill(victim, signal.SIGKILL)
        wait_for(server, 2, but=[victim])

        assert len(loads(place)) == 1
        server.wait_for(rf"Worker \(pid:{victim}\) was sent SIGKILL!")


def test_a_dead_mold_is_replaced_when_it_is_needed(deploy, place, site):
    with deploy("--preload", workers=2) as server:
        first = wait_for(server, 2)
        (mold,) = molds(server)
        os.kill(mold, signal.SIGKILL)
        wait_until(lambda: not molds(server))
        assert answer(server)[2] in first
        victim = min(first)
        os.kill(victim, signal.SIGKILL)
        wait_for(server, 2, but=[victim])

        assert len(loads(place)) == 2


@pytest.mark.contract
def test_hup_loads_the_app_anew(deploy, place, site):
    """Gunicorn keeps the old code for ever, since its master has loaded it."""
    with deploy("--preload", workers=2) as server:
        wait_for(server, 2)
        first = server.workers()
        site("two")
        server.process.send_signal(signal.SIGHUP)
        wait_for(server, 2, but=first)
        (mold,) = molds(server)

        assert answer(server)[:2] == ("two", mold)


def test_hup_with_a_broken_app_changes_nothing(deploy, place, site):
    with deploy("--preload", workers=2) as server:
        wait_for(server, 2)
        first = server.workers()
        rewrite(place / "main.py", "raise RuntimeError('a bad deployment')")
        server.process.send_signal(signal.SIGHUP)
        server.wait_for("Reload failed: the workers from before it stay")
        server.wait_for("RuntimeError: a bad deployment")
        wait_until(lambda: server.workers() == first)
        victim = min(those_at_work(server))
        os.kill(victim, signal.SIGKILL)
        wait_for(server, 2, but=[victim])

        assert answer(server)[0] == "one"


def test_hup_can_begin_and_end_to_preload(deploy, place, site):
    config = place / "gunicorn.conf.py"
    config.write_text("preload_app = True")
    with deploy(workers=2) as server:
        wait_for(server, 2)
        first = server.workers()
        rewrite(config, "")
        server.process.send_signal(signal.SIGHUP)
        second = server.wait_for_workers(2, but=first)
        assert molds(server) == set()
        rewrite(config, "preload_app = True\n")
        server.process.send_signal(signal.SIGHUP)
        wait_for(server, 2, but=second)

        assert answer(server)[0] == "one"


def test_hup_under_load_loses_no_request(deploy, site):
    with deploy("--preload", workers=2) as server, Load(server) as load:
        for _ in range(3):
            before = server.workers()
            seen = load.answers
            server.process.send_signal(signal.SIGHUP)
            wait_for(server, 2, but=before)
            wait_until(lambda seen=seen: load.answers > seen + 20)

        assert load.losses == []


def test_max_requests_under_load_loses_no_request(deploy, place, site):
    words = ("--preload", "--max-requests", "20")
    with deploy(*words, workers=2) as server, Load(server) as load:
        first = those_at_work(server)
        wait_until(lambda: load.answers > 200 and not server.workers() & first)

        assert load.losses == []
        assert len(loads(place)) == 1


@pytest.mark.parametrize(
    ("text", "code", "said"),
    [
        ("import nix", 3, "because it needs 'nix'"),
        ("x = 1", 4, "Error: module 'main' has no 'app'"),
        ("import os; os._exit(7)", 3, "exited with code 7"),
    ],
)
def test_an_app_that_cannot_be_had_ends_the_start(deploy, place, text, code, said):
    (place / "main.py").write_text(text)

    with deploy("--preload", workers=3, ready=False, killed=True) as server:
        assert server.wait() == code
        assert server.stderr.count(said) == 1


def test_a_load_that_hangs_can_be_stopped(deploy, place):
    flag = place / "flag"
    (place / "main.py").write_text(
        f"import time; open({str(flag)!r}, 'w').close(); time.sleep(600)"
    )
    with deploy("--preload", workers=2, ready=False, killed=True) as server:
        wait_until(flag.exists)

        assert server.stop() == 0


def test_a_load_that_hangs_is_given_up(deploy, place):
    flag = place / "flag"
    (place / "main.py").write_text(
        "import os, time\n"
        f"if not os.path.exists({str(flag)!r}):\n"
        f"    open({str(flag)!r}, 'w').close(); time.sleep(600)\n"
        "from wsgiref.simple_server import demo_app as app"
    )
    with deploy("--preload", "--timeout", TIMEOUT, ready=False) as server:
        server.wait_for(r"\[CRITICAL\] WORKER TIMEOUT \(pid:\d+\)$")
        server.wait_for(f"timeout: the app took longer than {TIMEOUT} s to load")
        server.wait_until_ready()


def test_all_end_when_the_master_is_killed(deploy, site):
    with deploy("--preload", workers=2, killed=True) as server:
        wait_for(server, 2)
        pids = server.workers()
        server.process.kill()
        server.wait()
        wait_until(lambda: not any(parent_of(pid) for pid in pids))


def test_hooks_run_where_the_fork_is(deploy, place, site):
    log = place / "log"
    (place / "gunicorn.conf.py").write_text(
        "import os\n"
        "def note(*words):\n"
        f"    with open({str(log)!r}, 'a') as log: print(*words, file=log)\n"
        "def pre_fork(server, worker): note('pre_fork', worker.age, os.getpid())\n"
        "def post_fork(server, worker): note('post_fork', worker.age, os.getpid())\n"
    )
    with deploy("--preload", workers=1) as server:
        (worker,) = wait_for(server, 1)
        (mold,) = molds(server)

        assert log.read_text().splitlines() == [
            f"pre_fork 1 {mold}",
            f"post_fork 1 {worker}",
        ]


def test_a_hook_that_fails_in_the_mold_is_tried_again(deploy, place, site):
    flag = place / "flag"
    (place / "gunicorn.conf.py").write_text(
        "import os\n"
        "def pre_fork(server, worker):\n"
        f"    if not os.path.exists({str(flag)!r}):\n"
        f"        open({str(flag)!r}, 'w').close()\n"
        "        raise ValueError('not now')\n"
    )
    with deploy("--preload", workers=2, ready=False) as server:
        server.wait_for("(?s)Exception in pre_fork hook.*ValueError: not now")
        server.wait_until_ready(2)


def test_a_mold_holds_no_socket_of_the_server(deploy, site):
    """A client could not tell its copy from a server that is slow."""
    with deploy("--preload", workers=2) as server:
        wait_for(server, 2)
        (mold,) = molds(server)
        folder = Path(f"/proc/{mold}/fd")
        links = [os.readlink(fd) for fd in folder.iterdir()]

        assert len([link for link in links if link.startswith("socket:")]) == 1


def test_usr1_reopens_the_log_for_workers_to_come(deploy, place, site):
    log = place / "access.log"
    with deploy("--preload", "--access-logfile", "access.log") as server:
        (first,) = wait_for(server, 1)
        log.rename(place / "access.log.1")
        server.process.send_signal(signal.SIGUSR1)
        (mold,) = molds(server)
        wait_until(
            lambda: (
                str(log)
                in {os.readlink(fd) for fd in Path(f"/proc/{mold}/fd").iterdir()}
            )
        )
        os.kill(first, signal.SIGKILL)
        wait_for(server, 1, but=[first])
        server.get("/after")
        wait_until(lambda: "/after" in log.read_text())


def test_an_app_that_ignores_its_children_is_preloaded(deploy, place):
    text = (place / "main.py").read_text()
    (place / "main.py").write_text(
        text + "signal.signal(signal.SIGCHLD, signal.SIG_IGN)\n"
    )
    with deploy("--preload", workers=2) as server:
        assert server.get().status == 200


def test_the_time_of_a_worker_begins_when_it_is_forked(deploy, place):
    """Four times a third of a timeout in the mold are more than a timeout."""
    (place / "gunicorn.conf.py").write_text(
        f"import time\ndef pre_fork(server, worker): time.sleep({TIMEOUT} / 3)\n"
    )
    with deploy("--preload", "--timeout", TIMEOUT, workers=4) as server:
        assert "WORKER TIMEOUT" not in server.stderr
        assert server.get().status == 200
