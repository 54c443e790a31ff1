"""Threads that run the app beside a loop of the main thread: asyncio and tornado with
`threads` (csrc/py/warden.c)."""

from __future__ import annotations

import os
import re
import signal
from pathlib import Path
from typing import Any

import pytest

from tests.process import ROOT, SERVING, TIMEOUT, children, parent_of, wait_until
from tests.server import test_threads
from tests.server.conftest import Deploy
from tests.server.test_hosted import CLASSES, Asking
from tests.server.test_master import Load, ran_s, time_passes
from tests.server.test_reuse_port import queues
from tests.server.test_threads import THREADS, ask, clients, get, wait_inside

pytestmark = pytest.mark.skipif(SERVING > 0, reason="chooses its workers itself")

# What threads do to each other, and what they have a loop for.
APP = (
    test_threads.APP
    + """
import asyncio

in_thread = app
loop = asyncio.get_event_loop()
ticks = 0

async def tick():
    global ticks
    while True:
        ticks += 1
        await asyncio.sleep(0.005)

ticking = None if "TICKLESS" in os.environ else loop.create_task(tick())

async def double(n):
    await asyncio.sleep(0.01)
    return 2 * n

async def hold_up(path):
    open(path).read()

async def spin():
    while True:
        pass

async def leave():
    raise SystemExit(3)

async def fork():
    if os.fork() == 0:
        raise SystemExit(4)

def run(coroutine):
    return asyncio.run_coroutine_threadsafe(coroutine, loop)

def app(environ, start_response):
    path, query = environ["PATH_INFO"], environ["QUERY_STRING"]
    body = None
    if path == "/ticks":
        body = str(ticks)
    if path == "/double":
        body = str(run(double(int(query))).result(60))
    if path == "/late-double":
        open(query).read()
        body = str(run(double(21)).result(60))
    if path == "/hold":
        body = str(run(hold_up(query)).running())
    if path == "/spin":
        body = str(run(spin()).running())
    if path == "/stop-loop":
        body = str(loop.call_soon_threadsafe(loop.stop).cancelled())
    if path == "/exit-in-task":
        body = str(run(leave()).running())
    if path == "/fork-in-task":
        body = str(run(fork()).running())
    if path == "/wait":
        inside.append(1)
        body = open(query).read()
    if body is None:
        return in_thread(environ, start_response)
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [body.encode()]
"""
)


@pytest.fixture(params=CLASSES)
def beside(request: pytest.FixtureRequest, deploy: Deploy, place: Path) -> Deploy:
    """A site with four threads beside a loop."""
    (place / "main.py").write_text(APP)

    def deployed(*words: str, **more: Any) -> Any:
        return deploy("-k", request.param, "--threads", str(THREADS), *words, **more)

    return deployed


# Threads


def test_apps_run_at_the_same_time(beside):
    with beside() as server, clients(server, THREADS) as all_of_them:
        for client in all_of_them:
            ask(client, "/meet")

        assert [client.response().body for client in all_of_them] == [b"True"] * THREADS
        assert get(server, "/multithread") == "True"
        assert get(server, "/thread").startswith("pywsgiserve-")


def test_an_old_name_has_threads_too(deploy, place):
    (place / "main.py").write_text(APP)
    with deploy("-k", "gaiohttp", "--threads", str(THREADS)) as server:
        assert get(server, "/double?4") == "8"
        assert get(server, "/multithread") == "True"


def test_stuck_threads_hold_up_nobody_else(beside):
    with beside() as server, clients(server, THREADS - 1) as stuck:
        for client in stuck:
            ask(client, "/stuck")
        wait_inside(server, THREADS - 1)
        for _ in range(20):
            assert get(server, "/double?5") == "10"
        get(server, "/open")

        assert [client.response().body for client in stuck] == [b"free"] * (THREADS - 1)


def test_an_exit_harms_its_own_request_only(beside):
    with beside() as server:
        pid = get(server, "/")
        for _ in range(2 * THREADS):
            with server.connect() as client:
                assert client.get("/exit").status == 500

        assert get(server, "/") == pid
        server.wait_for("Error handling request GET /exit")
        assert "A task has called" not in server.stderr


def test_a_child_of_an_app_serves_nobody(beside):
    with beside() as server:
        for _ in range(10):
            assert get(server, "/fork") == "7"
        assert get(server, "/fork-and-return") == "1"
        server.wait_for("came back into the server")
        assert get(server, "/double?2") == "4"


def test_workers_share_their_socket(beside):
    """Threads wait in the engine's own set: who is idle gets the connection."""
    with beside(workers=3) as server:
        wait_until(lambda: len(server.workers()) == 3)
        assert len(queues(server.port)) == 1


def test_who_is_idle_sleeps(beside):
    with beside(TICKLESS="1") as server, server.connect() as client:
        assert client.get().status == 200
        assert server.get().status == 200
        (worker,) = server.workers()

        def sleeps():
            before = ran_s(worker)
            time_passes(2)
            return ran_s(worker) - before < 0.2

        wait_until(sleeps, lambda: f"{worker} has run for {ran_s(worker)} s")


# The loop


def test_tasks_of_the_loop_go_on_beside_stuck_threads(beside):
    with beside() as server, clients(server, THREADS - 1) as stuck:
        for client in stuck:
            ask(client, "/stuck")
        wait_inside(server, THREADS - 1)
        first = int(get(server, "/ticks"))
        wait_until(lambda: int(get(server, "/ticks")) > first + 20)
        get(server, "/open")
        for client in stuck:
            assert client.response().status == 200


def test_threads_have_their_work_done_by_the_loop(beside):
    with beside() as server, clients(server, 2 * THREADS) as all_of_them:
        for n, client in enumerate(all_of_them):
            ask(client, f"/double?{n}")

        for n, client in enumerate(all_of_them):
            assert client.response().body == str(2 * n).encode()


@pytest.mark.parametrize("name", CLASSES)
def test_the_page_shows_how(deploy, place, name):
    page = (ROOT / "docs" / "workers.md").read_text()
    (found,) = re.findall(r"```python\n(import asyncio\n.*?)```", page, re.DOTALL)
    (place / "main.py").write_text(found)
    with deploy("-k", name, "--threads", "2") as server:
        assert [get(server, "/") for _ in range(3)] == ["42"] * 3


@pytest.mark.parametrize(
    "hook", ["post_fork(server, worker)", "post_worker_init(worker)"]
)
def test_a_hook_finds_the_loop_that_a_preloaded_app_does_not(beside, place, hook):
    (place / "hook.conf.py").write_text(
        f"""
def {hook}:
    import asyncio, sys
    sys.modules["main"].loop = asyncio.get_event_loop()
"""
    )
    with beside("--preload", "-c", "hook.conf.py", TICKLESS="1") as server:
        assert get(server, "/double?21") == "42"


def test_a_loop_that_the_app_stops_goes_on(beside):
    with beside() as server, server.connect() as client:
        for _ in range(3):
            assert client.get("/stop-loop").status == 200
            assert client.get("/double?3").body == b"6"


def test_a_task_that_exits_is_succeeded_and_harms_nobody(beside):
    with beside() as server, server.connect() as client:
        before = server.workers()
        assert client.get("/exit-in-task").status == 200
        server.wait_for(r"A task has called sys.exit\(3\)")
        assert client.get("/double?4").body == b"8"
        server.wait_for_workers(1, but=before)


def test_a_task_that_forks_and_exits_harms_nobody(deploy, place):
    """Not on uvloop, whose loops stand still in a child."""
    (place / "main.py").write_text(APP)
    words = ("-k", "tornado", "--threads", str(THREADS))
    with deploy(*words) as server, server.connect() as client:
        before = server.workers()
        assert client.get("/fork-in-task").status == 200
        wait_until(lambda: not any(children(pid) for pid in before))
        assert client.get("/double?4").body == b"8"
        assert server.workers() == before
        assert "sys.exit" not in server.stderr


# Held up


@pytest.mark.parametrize("busy", [False, True], ids=["idle", "busy"])
def test_a_loop_that_is_held_up_is_found_and_shown(beside, place, busy):
    """Threads serve on meanwhile, which is no sign of life of the loop."""
    os.mkfifo(place / "pipe")
    with beside("--timeout", TIMEOUT) as server:
        before = server.workers()
        assert get(server, "/hold?pipe")
        if busy:
            with Load(server) as load:
                server.wait_for(r"WORKER TIMEOUT")
                seen = load.answers
                wait_until(lambda: load.answers > seen + 20)
                server.wait_for("was sent SIGKILL")
            assert load.losses == []
        server.wait_for(r'main.py", line \d+ in hold_up')
        server.wait_for("was sent SIGKILL")
        server.wait_for_workers(1, but=before)
        assert get(server, "/double?4") == "8"


def test_a_loop_that_computes_for_ever_is_found(beside):
    """It shares the GIL with the threads, which have their turns."""
    with beside("--timeout", TIMEOUT) as server:
        before = server.workers()
        assert get(server, "/spin")
        assert int(get(server, "/")) in before
        server.wait_for(r"WORKER TIMEOUT")
        server.wait_for(r'main.py", line \d+ in spin')
        server.wait_for_workers(1, but=before)
        assert get(server, "/double?4") == "8"


def test_no_request_is_interrupted_for_a_loop_that_is_held_up(beside, place):
    os.mkfifo(place / "loop")
    os.mkfifo(place / "thread")
    with beside("--timeout", TIMEOUT) as server, server.connect() as client:
        ask(client, "/wait?thread")
        wait_inside(server, 1)
        assert get(server, "/hold?loop")
        server.wait_for(r"WORKER TIMEOUT")
        with open(place / "thread", "w") as pipe:
            server.wait_for(r'main.py", line \d+ in hold_up')
            pipe.write("unharmed")
        assert client.response().body == b"unharmed"
        server.wait_for("was sent SIGKILL")


def test_a_stop_of_a_worker_whose_loop_is_held_up(beside, place):
    os.mkfifo(place / "pipe")
    words = ("--timeout", "0", "--graceful-timeout", "2")
    with beside(*words, killed=True) as server:
        with server.connect() as client, server.connect() as idle:
            assert idle.get().status == 200
            assert client.get("/hold?pipe").status == 200
            assert client.get("/").status == 200
            server.process.send_signal(signal.SIGTERM)
            assert idle.closed()
        assert server.wait() == 0


# Time


def test_the_time_of_a_request_is_over_for_it_alone(beside):
    with (
        beside("--request-timeout", "1", "--timeout", "0") as server,
        server.connect() as late,
        server.connect() as neighbour,
    ):
        assert neighbour.get("/double?1").body == b"2"
        ask(late, "/stuck")

        assert late.response().status == 504
        assert neighbour.get("/double?1").body == b"2"
        server.wait_for(r"WORKER REQUEST TIMEOUT \(pid:\d+\): GET /stuck, \d+\.\d s$")
        server.wait_for(r"Error handling request GET /stuck$")
        server.wait_for(r"Worker exiting \(pid: \d+\)$")


def test_busy_threads_are_no_late_worker(beside, place):
    os.mkfifo(place / "pipe")
    words = ("--timeout", TIMEOUT, "--slow-request-timeout", str(2 * int(TIMEOUT)))
    with beside(*words) as server, clients(server, THREADS) as stuck:
        for client in stuck:
            ask(client, "/wait?pipe")
        server.wait_for(r"(SLOW REQUEST[\s\S]*){4}", 4 * int(TIMEOUT))
        with open(place / "pipe", "w"):
            pass

        assert [client.response().status for client in stuck] == [200] * THREADS
        assert "WORKER TIMEOUT" not in server.stderr


def test_more_threads_than_are_minded_are_refused(beside):
    words = ("--threads", "200", "--request-timeout", "1")
    with beside(*words, ready=False, killed=True) as server:
        assert server.wait() == 1
        assert "request_timeout: minds up to 128 threads, got threads = 200" in (
            server.stderr
        )


# Ends


def test_the_loop_runs_on_while_threads_finish(beside, place):
    os.mkfifo(place / "pipe")
    with beside(killed=True) as server:
        with server.connect() as idle, server.connect() as client:
            assert idle.get().status == 200
            ask(client, "/late-double?pipe")
            with open(place / "pipe", "w"):  # The app has opened it.
                server.process.send_signal(signal.SIGTERM)
                server.wait_for("Handling signal: term")
                assert idle.closed()
            answer = client.response()
            assert (answer.status, answer.body) == (200, b"42")
        assert server.wait() == 0


def test_what_does_not_end_in_time_is_answered_for(beside):
    with beside("--graceful-timeout", "1", killed=True) as server:
        with server.connect() as client, server.connect() as other:
            ask(client, "/asleep")
            wait_inside(server, 1)
            assert other.get("/double?1").status == 200
            server.process.send_signal(signal.SIGTERM)

            assert client.response().status == 504
        assert server.wait() == 0
        assert re.search("1 threads are still in the app: left behind", server.stderr)


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT, signal.SIGQUIT])
def test_a_signal_to_a_worker_ends_it(beside, signum):
    with beside() as server:
        before = server.workers()
        assert server.get().status == 200
        os.kill(min(before), signum)
        server.wait_for_workers(1, but=before)
        assert server.get().status == 200


def test_a_delay_before_a_stop_passes(beside):
    """Nothing else happens there: it is time that brings the next step."""
    with beside("--drain-delay", "1") as server:
        before = server.workers()
        assert server.get().status == 200
        os.kill(min(before), signal.SIGTERM)
        wait_until(lambda: not any(parent_of(pid) for pid in before))
        assert server.get().status == 200


def test_a_signal_ends_a_worker_whose_threads_are_all_busy(beside):
    """Nobody polls, but the relief after a while; the loop itself sees the signal."""
    with beside() as server, clients(server, THREADS) as stuck:
        before = server.workers()
        for client in stuck[1:]:
            ask(client, "/stuck")
        wait_inside(server, THREADS - 1)
        ask(stuck[0], "/open-late")
        os.kill(min(before), signal.SIGTERM)

        assert [client.response().body for client in stuck[1:]] == [b"free"] * 3
        server.wait_for_workers(1, but=before)


def test_the_end_of_the_master_is_that_of_the_worker(beside):
    with beside(killed=True) as server:
        (worker,) = server.workers()
        assert get(server, "/double?1") == "2"
        os.kill(server.pid, signal.SIGKILL)
        wait_until(lambda: parent_of(worker) == 0)


@pytest.mark.parametrize("preload", [(), ("--preload",)], ids=["alone", "preload"])
def test_hup_under_load_loses_no_request(beside, preload):
    with beside(*preload, workers=2) as server, Asking(server) as load:
        for count in (2, 3, 4):
            server.process.send_signal(signal.SIGHUP)
            server.wait_for(rf"(Workers are ready: 2[\s\S]*){{{count}}}")
            load.go_on()

        assert load.losses == []


def test_max_requests_under_load_loses_no_request(beside):
    with beside("--max-requests", "50", workers=2) as server, Load(server) as load:
        wait_until(lambda: server.stderr.count("Autorestarting worker") >= 4)

        assert load.losses == []


def test_a_killed_worker_is_replaced(beside):
    with beside(workers=2) as server:
        before = server.workers()
        victim = min(before)
        os.kill(victim, signal.SIGKILL)
        server.wait_for_workers(2, but={victim})
        for _ in range(20):
            assert get(server, "/double?2") == "4"


# Tornado's own


def test_an_application_of_tornados_has_no_threads(deploy, place):
    (place / "main.py").write_text(
        """
import os, threading
from tornado.web import Application, RequestHandler

class Main(RequestHandler):
    def get(self):
        here = threading.current_thread() is threading.main_thread()
        self.write(f"{os.getpid()} {here}")

app = Application([("/", Main)])
"""
    )
    words = ("-k", "tornado", "--threads", "4")
    with deploy(*words, workers=2) as server:
        server.wait_for(r"threads: a tornado.web.Application is served by Tornado")
        seen = set()

        def ask_another():
            pid, here = get(server, "/").split()
            assert here == "True"
            seen.add(int(pid))
            return seen == server.workers()

        wait_until(ask_another)
