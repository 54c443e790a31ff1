"""Several threads in a worker: gthread, or sync with `threads`."""

import contextlib
import os
import re
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.client import DEADLINE_S, Client, eventually
from tests.process import TIMEOUT, WORKER_CLASS, WORKERS, Deployed
from tests.server.conftest import Deploy

pytestmark = pytest.mark.skipif(
    WORKERS > 0 or bool(WORKER_CLASS), reason="chooses its workers itself"
)

THREADS = 4

# What threads can do to each other, and to the server.
APP = """
import ctypes, os, signal, sys, threading, time

local = threading.local()
barrier = threading.Barrier(4)
gate = threading.Event()
inside = []
order = []

class Closing:
    def __init__(self, close):
        self.close = close
        self.items = iter([b"closing"])
    def __iter__(self):
        return self
    def __next__(self):
        return next(self.items)

def stuck():
    while not gate.is_set():
        gate.wait(0.02)  # Python code, where an exception can be raised.

def stream():
    for n in range(10**6):
        yield b"x" * 65536

def events():
    n = 0
    while not gate.is_set():
        yield b"data: %d\\n\\n" % n
        n += 1
        gate.wait(0.01)

def app(environ, start_response):
    path = environ["PATH_INFO"]
    headers = [("Content-Type", "text/plain")]
    body = str(os.getpid())
    if path == "/multithread":
        body = str(environ["wsgi.multithread"])
    elif path == "/meet":
        body = str(barrier.wait(60) >= 0)
    elif path == "/thread":
        thread = threading.current_thread()
        local.count = getattr(local, "count", 0) + 1
        body = f"{thread.name} {local.count} {thread in threading.enumerate()}"
    elif path == "/names":
        body = " ".join(sorted(t.name for t in threading.enumerate()))
    elif path == "/stuck":
        inside.append(1)
        stuck()
        body = "free"
    elif path == "/inside":
        body = str(len(inside))
    elif path == "/open-late":
        time.sleep(float(environ["QUERY_STRING"] or 6))
        gate.set()
    elif path == "/open":
        gate.set()
    elif path == "/asleep":
        inside.append(1)
        time.sleep(600)
    elif path == "/exit":
        sys.exit(3)
    elif path == "/interrupt":
        raise KeyboardInterrupt
    elif path == "/exit-in-close":
        start_response("200 OK", headers)
        return Closing(lambda: sys.exit(3))
    elif path == "/late-close":
        start_response("200 OK", headers + [("Content-Length", "7")])
        return Closing(stuck)
    elif path == "/stream":
        start_response("200 OK", headers)
        return stream()
    elif path == "/events":
        start_response("200 OK", headers)
        return events()
    elif path == "/read":
        body = str(len(environ["wsgi.input"].read()))
    elif path == "/compute":
        order.append(threading.get_ident())
        until = time.perf_counter() + 0.02
        while time.perf_counter() < until:
            pass
    elif path == "/changes":
        last = order[-80:]
        body = str(sum(a != b for a, b in zip(last, last[1:])))
    elif path == "/switch-never":
        sys.setswitchinterval(1000)
    elif path == "/gil":
        mutex = ctypes.create_string_buffer(64)
        ctypes.PyDLL(None).pthread_mutex_lock(mutex)
        ctypes.PyDLL(None).pthread_mutex_lock(mutex)
    elif path == "/fork":
        child = os.fork()
        if child == 0:
            os._exit(7)
        body = str(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
    elif path == "/fork-and-return":
        child = os.fork()
        if child == 0:
            start_response("200 OK", headers)
            return [b"child"]
        body = str(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
    start_response("200 OK", headers)
    return [body.encode()]
"""


@pytest.fixture
def threaded(place: Path, deploy: Deploy) -> Deploy:
    """A site with four threads, unless the words say otherwise."""
    (place / "main.py").write_text(APP)

    def deployed(*words: str, **more: Any) -> Any:
        return deploy("--threads", str(THREADS), *words, **more)

    return deployed


def ask(client: Client, target: str) -> None:
    client.send(f"GET {target} HTTP/1.1\r\nHost: x\r\n\r\n".encode())


@contextlib.contextmanager
def clients(server: Deployed, count: int) -> Iterator[list[Client]]:
    with contextlib.ExitStack() as stack:
        yield [stack.enter_context(server.connect()) for _ in range(count)]


def get(server: Deployed, target: str) -> str:
    with server.connect() as client:
        return client.get(target).body.decode()


def wait_inside(server: Deployed, count: int) -> None:
    eventually(lambda: int(get(server, "/inside")) >= count, f"{count} in the app")


@pytest.mark.parametrize("words", [(), ("-k", "gthread")])
def test_apps_run_at_the_same_time(threaded: Deploy, words: tuple[str, ...]) -> None:
    with threaded(*words) as server, clients(server, THREADS) as all_of_them:
        for client in all_of_them:
            ask(client, "/meet")

        assert [client.response().body for client in all_of_them] == [b"True"] * THREADS
        assert get(server, "/multithread") == "True"
        server.wait_for("Using worker: gthread")


def test_gthread_with_one_thread_is_what_gunicorn_makes_of_it(deploy: Deploy) -> None:
    with deploy("-k", "gthread", "--threads", "1") as server:
        assert get(server, "/").isdigit()


def test_connections_are_for_the_worker_that_has_threads_left(
    place: Path, deploy: Deploy
) -> None:
    """One whose threads are all busy takes none, not even late."""
    (place / "main.py").write_text(
        "import os, pathlib, time\n"
        "def app(environ, start_response):\n"
        "    if environ['PATH_INFO'] == '/stay':\n"
        "        pathlib.Path(f'inside.{os.getpid()}.{time.monotonic_ns()}').touch()\n"
        "        while not pathlib.Path('open').exists():\n"
        "            time.sleep(0.05)\n"
        "    start_response('200 OK', [])\n"
        "    return [b'%d' % os.getpid()]\n"
    )
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(deploy("--threads", "2", workers=3))
        staying = []
        for count in range(1, 6):
            staying.append(stack.enter_context(server.connect()))
            ask(staying[-1], "/stay")
            eventually(
                lambda count=count: len(list(place.glob("inside.*"))) == count,
                f"{count} in the app",
            )
        at_work = [path.name.split(".")[1] for path in place.glob("inside.*")]
        free = {get(server, "/") for _ in range(30)}
        (place / "open").touch()
        for client in staying:
            assert client.response().status == 200

    assert len(free) == 1
    assert at_work.count(free.pop()) == 1


def test_threads_that_compute_take_turns(threaded: Deploy) -> None:
    """Python would leave the GIL with the one that has requests all the time."""
    stop = threading.Event()
    served = [0] * 2 * THREADS

    def compute(number: int, client: Client) -> None:
        while not stop.is_set():
            assert client.get("/compute").status == 200
            served[number] += 1

    with threaded() as server, clients(server, len(served)) as all_of_them:
        get(server, "/switch-never")
        at_work = [
            threading.Thread(target=compute, args=each)
            for each in enumerate(all_of_them)
        ]
        for thread in at_work:
            thread.start()
        try:
            eventually(lambda: sum(served) >= 100, "they are served")
            changes = int(get(server, "/changes"))
        finally:
            stop.set()
            for thread in at_work:
                thread.join()

    assert changes > 20  # From one thread to another, of 79.


def test_threads_live_on_and_keep_what_is_theirs(threaded: Deploy) -> None:
    with threaded() as server:
        seen: dict[str, int] = {}
        for _ in range(50):
            name, count, known = get(server, "/thread").split()
            assert known == "True"
            seen[name] = max(seen.get(name, 0), int(count))

        assert sum(seen.values()) == 50
        names = get(server, "/names").split()
        assert {f"pywsgiserve-{n}" for n in range(THREADS)} <= set(names)
        assert set(seen) <= set(names)


def test_stuck_threads_hold_up_nobody_else(threaded: Deploy) -> None:
    with threaded() as server, clients(server, THREADS - 1) as stuck:
        for client in stuck:
            ask(client, "/stuck")
        wait_inside(server, THREADS - 1)
        for _ in range(20):
            assert get(server, "/").isdigit()
        get(server, "/open")

        assert [client.response().body for client in stuck] == [b"free"] * (THREADS - 1)


def test_with_all_threads_stuck_others_move_on(threaded: Deploy) -> None:
    """The relief polls: it refuses what is no request, and answers time-outs."""
    with (
        threaded("--header-timeout", "1", "--graceful-timeout", "1") as server,
        server.connect() as refused,
        server.connect() as silent,
        clients(server, THREADS) as stuck,
    ):
        assert refused.get("/").status == 200
        for client in stuck[1:]:
            ask(client, "/stuck")
        wait_inside(server, THREADS - 1)
        ask(stuck[0], "/stuck")
        silent.send(b"GET / HT")
        refused.send(b"GET / HTTP/1.1\r\n\r\n")

        assert refused.response().status == 400
        assert silent.response().status == 408


def test_the_time_of_a_request_is_over_for_it_alone(threaded: Deploy) -> None:
    with (
        threaded("--request-timeout", "1", "--timeout", "0") as server,
        server.connect() as late,
        server.connect() as neighbour,
    ):
        ask(neighbour, "/read")
        assert neighbour.response().body == b"0"
        ask(late, "/stuck")

        assert late.response().status == 504
        assert neighbour.get("/").status == 200
        server.wait_for(r"WORKER REQUEST TIMEOUT \(pid:\d+\): GET /stuck, \d+\.\d s$")
        server.wait_for(r"^  File .* in stuck$")  # where it was
        server.wait_for(r"Error handling request GET /stuck$")  # and interrupted
        server.wait_for("SystemExit")
        server.wait_for(READY_AGAIN)


READY_AGAIN = r"Worker exiting \(pid: \d+\)$"


def test_two_requests_may_be_late_at_once(threaded: Deploy) -> None:
    with (
        threaded("--request-timeout", "1", "--timeout", "0") as server,
        clients(server, 2) as late,
    ):
        for client in late:
            ask(client, "/stuck")

        assert [client.response().status for client in late] == [504, 504]
        eventually(
            lambda: server.stderr.count("WORKER REQUEST TIMEOUT") == 2,
            "both are told of",
        )
        server.wait_for(READY_AGAIN)
        assert server.stderr.count("Error handling request GET /stuck") == 2


def test_a_thread_that_cannot_be_interrupted_is_killed_when_others_are_done(
    threaded: Deploy,
) -> None:
    with (
        threaded("--request-timeout", "1", "--timeout", "0") as server,
        server.connect() as late,
    ):
        first = server.workers()
        ask(late, "/asleep")

        assert late.response().status == 504
        eventually(lambda: not first & server.workers(), "it is replaced")
        assert int(get(server, "/")) not in first


def test_slow_requests_are_told_of(threaded: Deploy) -> None:
    with threaded("--slow-request-timeout", "0.5") as server, server.connect() as slow:
        ask(slow, "/stuck")

        server.wait_for(r"SLOW REQUEST \(pid:\d+\): GET /stuck")
        get(server, "/open")
        assert slow.response().body == b"free"


def test_busy_threads_are_no_late_worker(threaded: Deploy) -> None:
    """As in Gunicorn, `timeout` is for a worker that gives no sign."""
    with (
        threaded(
            "--timeout", TIMEOUT, "--slow-request-timeout", str(int(TIMEOUT) + 1)
        ) as server,
        clients(server, THREADS) as stuck,
    ):
        for client in stuck[1:]:
            ask(client, "/stuck")
        wait_inside(server, THREADS - 1)
        ask(stuck[0], f"/open-late?{int(TIMEOUT) + 6}")
        eventually(
            lambda: server.stderr.count("SLOW REQUEST") == THREADS, "all are slow"
        )

        assert [client.response().body for client in stuck[1:]] == [b"free"] * 3
        assert "WORKER TIMEOUT" not in server.stderr


def test_an_app_that_holds_the_gil_is_found_out(threaded: Deploy) -> None:
    with (
        threaded("--timeout", TIMEOUT, "--keep-alive", "60") as server,
        server.connect() as holder,
        server.connect() as behind,
    ):
        assert behind.get("/").status == 200
        first = server.workers()
        ask(holder, "/gil")
        server.wait_for(r"WORKER TIMEOUT \(pid:\d+\)")
        ask(behind, "/")

        assert behind.response().status == 503
        eventually(lambda: not first & server.workers(), "it is replaced")


@pytest.mark.parametrize("target", ["/exit", "/interrupt"])
def test_an_exit_harms_its_own_request_only(threaded: Deploy, target: str) -> None:
    with threaded() as server:
        pid = get(server, "/")
        for _ in range(2 * THREADS):
            with server.connect() as client:
                assert client.get(target).status == 500
        assert get(server, "/exit-in-close") == "closing"

        assert get(server, "/") == pid
        assert len(re.findall("pywsgiserve-", get(server, "/names"))) == THREADS
        server.wait_for(f"Error handling request GET {target}")


def test_a_response_does_not_wait_for_its_close(threaded: Deploy) -> None:
    with threaded() as server, server.connect() as client:
        ask(client, "/late-close")

        assert client.response().body == b"closing"
        get(server, "/open")


def test_slow_clients_cost_no_thread_before_and_after_the_app(threaded: Deploy) -> None:
    with threaded() as server, clients(server, 5 * THREADS) as slow:
        for client in slow:
            client.send(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\na")

        for _ in range(10):
            assert get(server, "/").isdigit()
        for client in slow:
            client.send(b"bc")
            assert client.response().status == 200


def test_a_streamed_body_costs_only_its_thread(threaded: Deploy) -> None:
    with (
        threaded("--no-request-buffering") as server,
        clients(server, THREADS - 1) as slow,
    ):
        for client in slow:
            client.send(b"POST /read HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\na")
        for _ in range(10):
            assert get(server, "/").isdigit()
        for client in slow:
            client.send(b"bc")

        assert [client.response().body for client in slow] == [b"3"] * len(slow)


def test_readers_that_stop_are_cut_in_time(threaded: Deploy) -> None:
    """With no room in the spool each waits in its thread, for as long as it may."""
    with (
        threaded("--response-spool-limit", "0", "--send-timeout", "1") as server,
        clients(server, THREADS) as readers,
    ):
        for reader in readers:
            ask(reader, "/stream")

        for reader in readers:
            assert reader.head().status == 200
        assert get(server, "/").isdigit()  # there is a thread again


def test_as_many_streams_as_threads_end_with_a_stop(threaded: Deploy) -> None:
    with (
        threaded("--threads", "64", "--graceful-timeout", "2", killed=True) as server,
        clients(server, 64) as listeners,
    ):
        for client in listeners:
            ask(client, "/events")
        for client in listeners:
            assert client.head().status == 200
        for client in listeners:
            assert client.chunk().startswith(b"data: ")
        server.process.send_signal(signal.SIGTERM)

        for client in listeners:
            client.drop_rest()
        assert server.wait() == 0


def test_a_reload_loses_nothing_that_has_begun(threaded: Deploy) -> None:
    with threaded() as server, clients(server, 2) as held:
        for client in held:
            ask(client, "/stuck")
        wait_inside(server, 2)
        first = server.workers()
        with server.connect() as free:
            assert free.get("/").status == 200
            server.process.send_signal(signal.SIGHUP)
            eventually(lambda: server.workers() - first, "a successor")
            ask(free, "/open")
            assert free.response().status == 200

        assert [client.response().body for client in held] == [b"free"] * 2


def test_max_requests_count_for_all_threads(threaded: Deploy) -> None:
    with threaded("--max-requests", "10") as server:
        first = get(server, "/")
        for _ in range(9):
            get(server, "/")

        server.wait_for("Autorestarting worker after current request")
        eventually(lambda: get(server, "/") != first, "a successor serves")


def test_a_child_of_an_app_serves_nobody(threaded: Deploy) -> None:
    with threaded() as server:
        found: list[str] = []

        def fork_now_and_then() -> None:
            for _ in range(5):
                found.append(get(server, "/fork"))

        forkers = [threading.Thread(target=fork_now_and_then) for _ in range(4)]
        for thread in forkers:
            thread.start()
        for _ in range(30):
            assert get(server, "/").isdigit()
        for thread in forkers:
            thread.join(DEADLINE_S)

        assert found == ["7"] * 20
        assert get(server, "/fork-and-return") == "1"
        server.wait_for("came back into the server")


def test_the_queue_has_a_time_limit(threaded: Deploy) -> None:
    with (
        threaded("--queue-timeout", "1") as server,
        clients(server, THREADS) as stuck,
        server.connect() as waiting,
    ):
        assert waiting.get("/").status == 200
        for client in stuck[1:]:
            ask(client, "/stuck")
        wait_inside(server, THREADS - 1)
        ask(stuck[0], "/asleep")
        eventually(lambda: turned_away(waiting), "all threads are busy")
        os.kill(next(iter(server.workers())), signal.SIGKILL)


def turned_away(client: Client) -> bool:
    """Whether the answer is that of the queue; the connection ends with it."""
    response = client.get("/")
    if response.status == 503:
        assert int(response["Retry-After"]) > 0
    return response.status == 503


def test_the_queue_of_a_sync_worker_has_one_too(place: Path, deploy: Deploy) -> None:
    (place / "main.py").write_text(APP)
    with deploy("--queue-timeout", "1") as server, server.connect() as stuck:
        with server.connect() as waiting:
            assert waiting.get("/").status == 200
            ask(stuck, "/asleep")
            ask(waiting, "/")

            assert waiting.response().status == 503
        os.kill(next(iter(server.workers())), signal.SIGKILL)


def test_a_thread_that_cannot_be_started_is_named(place: Path, deploy: Deploy) -> None:
    (place / "main.py").write_text(
        APP
        + """
def fail(self):
    if self.name == "pywsgiserve-2":
        raise RuntimeError("can't start new thread")
    start(self)

start = threading.Thread.start
threading.Thread.start = fail
"""
    )
    with deploy("--threads", "4", ready=False, killed=True) as server:
        assert server.wait() != 0

        assert "threads: number 3 of 4 cannot be started" in server.stderr
