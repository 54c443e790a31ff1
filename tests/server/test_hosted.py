"""The engine in somebody else's loop, whichever: what clients and operators see of it."""

import os
import signal

import pytest

from tests import uwsgi_client
from tests.client import eventually
from tests.process import SERVING, TIMEOUT, children, wait_until
from tests.server.test_master import Load
from tests.server.test_reuse_port import held, queues

pytestmark = pytest.mark.skipif(SERVING > 0, reason="chooses its workers itself")


class Asking(Load):
    def go_on(self):
        seen = self.answers
        wait_until(lambda: self.answers > seen + 20)


# Tasks that go on beside requests, and ways to hold the loop up.
APP = """
import asyncio, os, time

ticks = 0

async def tick():
    global ticks
    while True:
        ticks += 1
        await asyncio.sleep(0.005)

async def hold_up(path):
    open(path).read()

async def leave():
    raise SystemExit(3)

async def fork():
    if os.fork() == 0:
        raise SystemExit(4)

started = None

def app(environ, start_response):
    global started
    loop = asyncio.get_running_loop()
    started = started or loop.create_task(tick())
    path, query = environ["PATH_INFO"], environ["QUERY_STRING"]
    body = str(os.getpid()).encode()
    if path == "/ticks":
        body = str(ticks).encode()
    if path == "/hold":
        loop.create_task(hold_up(query))
    if path == "/stuck":
        open(query).read()
    if path == "/stop":
        loop.call_soon(loop.stop)
    if path == "/exit":
        loop.create_task(leave())
    if path == "/fork":
        loop.create_task(fork())
    if path == "/run":
        asyncio.run(asyncio.sleep(0))
    if path == "/big":
        body = b"x" * (8 << 20)
    if path == "/echo":
        body = environ["wsgi.input"].read()
    if path == "/pieces":
        start_response("200 OK", [("Content-Type", "text/plain")])
        return (b"%d " % i for i in range(1000))
    start_response("200 OK", [("Content-Type", "text/plain"),
                              ("Content-Length", str(len(body)))])
    return [body]
"""

CLASSES = ("asyncio", "tornado")


@pytest.fixture(params=(*CLASSES, "asyncio without uvloop"))
def host(request, deploy, place):
    """deploy() with an app that uses its loop."""
    (place / "main.py").write_text(APP)
    name, _, without = request.param.partition(" without ")
    if without:
        (place / f"{without}.py").write_text("raise ImportError")

    def hosted(*words, **given):
        return deploy("-k", name, *words, **given)

    return hosted


# HTTP


def test_requests_follow_each_other_on_a_connection(host):
    with host() as server, server.connect() as client:
        bodies = {client.get().body for _ in range(20)}
        assert len(bodies) == 1
        client.send(b"GET /ticks HTTP/1.1\r\nHost: x\r\n\r\n" * 50)
        for _ in range(50):
            assert client.response().status == 200


def test_bodies_of_any_length_arrive(host):
    with host() as server, server.connect() as client:
        for size in (0, 1, 70_000, 3 << 20):
            body = os.urandom(size)
            assert client.post("/echo", body).body == body


def test_a_generator_is_streamed(host):
    with host() as server, server.connect() as client:
        want = b"".join(b"%d " % i for i in range(1000))
        assert client.get("/pieces").body == want


def test_slow_clients_do_not_hold_the_loop_up(host):
    """A thousand that send a letter at a time, and one that is served meanwhile."""
    with host("--worker-connections", "1500", "--timeout", "0") as server:
        slow = [server.connect() for _ in range(1000)]
        for letter in b"GET / HTTP":
            for client in slow:
                client.send(bytes([letter]))
            assert server.get().status == 200
        for client in slow:
            client.send(b"/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        for client in slow:
            assert client.response().status == 200
            client.close()


def test_slow_readers_do_not_hold_the_loop_up(host):
    with host() as server:
        slow = [server.connect(receive_buffer=4096) for _ in range(8)]
        for client in slow:
            client.send(b"GET /big HTTP/1.1\r\nHost: x\r\n\r\n")
        for client in slow:
            assert client.head().status == 200
        assert server.get().status == 200
        for client in slow:
            assert client.exactly(8 << 20) == b"x" * (8 << 20)
            client.close()


def test_uwsgi_is_spoken(host, short_path):
    path = short_path / "uwsgi"
    with host("--uwsgi-socket", f"unix:{path}") as server:
        for _ in range(3):
            with server.connect(f"unix:{path}") as client:
                client.send(uwsgi_client.request("/"))
                assert int(client.response().body) in server.workers()


# The loop


def test_tasks_of_the_loop_go_on_beside_requests(host):
    with host() as server, Load(server):
        first = int(server.get("/ticks").body)
        wait_until(lambda: int(server.get("/ticks").body) > first + 20)


def test_uvloop_is_taken_where_it_is_installed(host, request):
    installed = request.node.callspec.params["host"] == "asyncio"
    with host() as server:
        assert server.get().status == 200
        assert ("The loop is uvloop's" in server.stderr) == installed


def test_a_loop_that_the_app_stops_goes_on(host):
    with host() as server, server.connect() as client:
        for _ in range(3):
            assert client.get("/stop").status == 200
            assert client.get().status == 200


def test_a_loop_within_the_loop_is_refused_by_asyncio(host):
    with host() as server:
        assert server.get("/run").status == 500
        server.wait_for("cannot be called from a running event loop")
        assert server.get().status == 200


def test_a_task_that_exits_is_succeeded_and_harms_nobody(host):
    with host() as server, server.connect() as client:
        before = server.workers()
        assert client.get("/exit").status == 200
        server.wait_for(r"A task has called sys.exit\(3\)")
        assert client.get().status == 200
        server.wait_for_workers(1, but=before)


def test_a_task_that_forks_and_exits_harms_nobody(deploy, place):
    """Not on uvloop, whose loops stand still in a child."""
    (place / "main.py").write_text(APP)
    with deploy("-k", "tornado") as server, server.connect() as client:
        before = server.workers()
        assert client.get("/fork").status == 200
        wait_until(lambda: not any(children(pid) for pid in before))
        assert client.get().status == 200
        assert server.workers() == before
        assert "sys.exit" not in server.stderr


# Held up


def test_a_loop_that_is_held_up_is_found_and_shown(host, place):
    os.mkfifo(place / "pipe")
    with host("--timeout", TIMEOUT) as server:
        before = server.workers()
        assert server.get("/hold?pipe").status == 200
        server.wait_for(r"WORKER TIMEOUT")
        server.wait_for(r'main.py", line \d+ in hold_up')
        assert int(server.get().body) not in before
        server.wait_for("was sent SIGKILL")


def test_clients_have_their_answers_and_time_outs_while_an_app_is_stuck(host, place):
    os.mkfifo(place / "pipe")
    with host("--timeout", "0", "--header-timeout", "1") as server:
        slow, late, stuck = (server.connect() for _ in range(3))
        slow.send(b"GET /big HTTP/1.1\r\nHost: x\r\n\r\n")
        assert slow.head().status == 200
        assert late.get().status == 200
        late.send(b"GET / HT")
        stuck.send(b"GET /stuck?pipe HTTP/1.1\r\nHost: x\r\n\r\n")
        with open(place / "pipe", "w"):  # The app has opened it.
            assert slow.exactly(8 << 20) == b"x" * (8 << 20)
            assert late.response().status == 408
        assert stuck.response().status == 200
        for client in (slow, late, stuck):
            client.close()


def test_clients_have_their_time_outs_while_the_loop_is_held_up(host, place):
    os.mkfifo(place / "pipe")
    with host("--timeout", "0", "--header-timeout", "1") as server:
        with server.connect() as late, server.connect() as client:
            late.send(b"GET / HT")
            assert client.get("/hold?pipe").status == 200
            with open(place / "pipe", "w"):  # The task has opened it.
                assert late.response().status == 408
            assert client.get().status == 200


def test_a_request_that_takes_too_long_is_answered_for(host, place):
    os.mkfifo(place / "pipe")
    with host("--request-timeout", "1") as server:
        assert server.get("/stuck?pipe").status == 504
        server.wait_for("WORKER REQUEST TIMEOUT")
        assert server.get().status == 200


def test_who_waits_too_long_for_the_app_is_sent_elsewhere(host, place):
    os.mkfifo(place / "pipe")
    with host("--timeout", "0", "--queue-timeout", "1") as server:
        with server.connect() as stuck, server.connect() as waiting:
            assert waiting.get().status == 200
            stuck.send(b"GET /stuck?pipe HTTP/1.1\r\nHost: x\r\n\r\n")
            with open(place / "pipe", "w"):  # The app has opened it.
                answer = waiting.get()
                assert answer.status == 503
                assert int(answer["Retry-After"]) > 0
            assert stuck.response().status == 200
        assert server.get().status == 200


# Ends


@pytest.mark.parametrize("preload", [(), ("--preload",)], ids=["alone", "preload"])
def test_hup_under_load_loses_no_request(host, preload):
    with host(*preload, workers=2) as server, Asking(server) as load:
        for count in (2, 3, 4):
            server.process.send_signal(signal.SIGHUP)
            server.wait_for(rf"(Workers are ready: 2[\s\S]*){{{count}}}")
            load.go_on()

        assert load.losses == []


def test_max_requests_under_load_loses_no_request(host):
    with host("--max-requests", "50", workers=2) as server, Load(server) as load:
        wait_until(lambda: server.stderr.count("Autorestarting worker") >= 4)

        assert load.losses == []


def test_a_killed_worker_is_replaced(host):
    with host(workers=2) as server:
        before = server.workers()
        victim = min(before)
        os.kill(victim, signal.SIGKILL)
        server.wait_for_workers(2, but={victim})
        for _ in range(20):
            assert server.get().status == 200


def test_what_has_begun_is_answered_at_a_stop(host, place):
    os.mkfifo(place / "pipe")
    with host(killed=True) as server:
        with server.connect() as idle, server.connect() as client:
            assert idle.get().status == 200
            client.send(b"GET /stuck?pipe HTTP/1.1\r\nHost: x\r\n\r\n")
            with open(place / "pipe", "w"):  # The app has opened it.
                server.process.send_signal(signal.SIGTERM)
                server.wait_for("Handling signal: term")
            answer = client.response()
            assert answer.status == 200
            assert idle.closed()
        assert server.wait() == 0


@pytest.mark.parametrize(
    ("signum", "code"), [(signal.SIGTERM, 0), (signal.SIGINT, 0), (signal.SIGQUIT, 0)]
)
def test_a_signal_to_a_worker_ends_it(host, signum, code):
    """Whoever has the descriptor that wakes up for signals, loops have their own."""
    with host() as server:
        before = server.workers()
        assert server.get().status == 200
        os.kill(min(before), signum)
        server.wait_for_workers(1, but=before)
        assert server.get().status == 200


def test_logs_are_reopened(host, place):
    with host("--access-logfile", "log") as server:
        server.get("/first")
        log = place / "log"
        eventually(lambda: "/first" in log.read_text() or None, "a line")
        log.rename(place / "old")
        server.process.send_signal(signal.SIGUSR1)
        wait_until(log.exists)
        wait_until(lambda: server.get("/second") and "/second" in log.read_text())


# Sockets


def test_each_worker_has_a_tcp_socket_of_its_own(host):
    with host(workers=3) as server:
        wait_until(lambda: len(server.workers()) == 3)
        assert len(queues(server.port)) == 3
        for pid in server.workers():
            assert len(held(pid, server.port)) == 1
        assert "reuse_port" not in server.stderr


def test_a_second_server_at_the_port_is_refused(host):
    with host() as server:
        with host("-b", f"127.0.0.1:{server.port}", ready=False, killed=True) as other:
            assert other.wait() == 1
            assert "Connection in use" in other.stderr
        assert server.get().status == 200


def test_a_unix_socket_is_shared_and_so_is_the_work(host, short_path):
    path = short_path / "socket"
    with host("-b", f"unix:{path}", workers=3) as server:
        seen = set()

        def ask():
            with server.connect(f"unix:{path}") as client:
                seen.add(int(client.get("/", "Connection: close").body))
            return seen == server.workers()

        wait_until(ask)


# Settings


@pytest.mark.parametrize("threads", ["1", "4"])
def test_streaming_request_bodies_are_refused_by_name(host, threads):
    words = ("--no-request-buffering", "--threads", threads)
    with host(*words, ready=False, killed=True) as server:
        assert server.wait() == 1
        assert "request_buffering: " in server.stderr
