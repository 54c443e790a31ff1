"""A tornado.web.Application: Tornado's own server on our sockets, as a worker of ours."""

import os
import re
import signal

import pytest

from tests.client import eventually
from tests.process import SERVING, TIMEOUT, wait_until
from tests.server.test_hosted import Asking
from tests.server.test_reuse_port import queues

pytestmark = pytest.mark.skipif(SERVING > 0, reason="chooses its workers itself")

APP = """
import asyncio, os, time
from tornado.ioloop import IOLoop
from tornado.web import Application, RequestHandler

class Main(RequestHandler):
    async def get(self, path):
        query = self.request.query
        if path == "wait":
            self.write("begun ")
            await self.flush()
            await asyncio.to_thread(lambda: open(query).read())
        if path == "hold":
            open(query).read()
        self.write(str(os.getpid()))

    def post(self, path):
        self.write(self.request.body)

app = Application([("/(.*)", Main)])
"""


@pytest.fixture
def tornado(deploy, place):
    (place / "main.py").write_text(APP)

    def deployed(*words, **given):
        return deploy("-k", "tornado", *words, **given)

    return deployed


def test_it_is_served_by_tornado(tornado):
    with tornado(workers=2) as server, server.connect() as client:
        for _ in range(3):
            answer = client.get()
            assert answer["Server"].startswith("TornadoServer")
            assert int(answer.body) in server.workers()
        assert client.post("/", b"x" * 100_000).body == b"x" * 100_000
        assert len(queues(server.port)) == 2


def test_lines_of_the_access_log_are_as_ever(tornado, place):
    words = (
        "--access-logfile",
        "log",
        "--access-logformat",
        '%(h)s "%(r)s" %(s)s %(a)s',
    )
    with tornado(*words) as server, server.connect() as client:
        client.get("/a?b", 'User-Agent: "x\\y"')
        line = '127.0.0.1 "GET /a?b HTTP/1.1" 200 \\x22x\\x5cy\\x22\n'
        eventually(lambda: (place / "log").read_text() == line or None, "the line")


def test_what_has_no_effect_is_named(tornado):
    with tornado("--header-timeout", "7") as server:
        server.wait_for(
            r"header_timeout: a tornado.web.Application is served by Tornado"
        )


def test_uwsgi_is_refused(tornado):
    words = ("--protocol", "uwsgi")
    with tornado(*words, ready=False, killed=True) as server:
        server.wait_for("a tornado.web.Application speaks HTTP, not uwsgi")
        server.process.send_signal(signal.SIGTERM)
        server.wait()


def test_what_has_begun_is_finished_at_a_stop(tornado, place):
    os.mkfifo(place / "pipe")
    with tornado(killed=True) as server:
        with server.connect() as idle, server.connect() as client:
            assert idle.get().status == 200
            client.send(b"GET /wait?pipe HTTP/1.1\r\nHost: x\r\n\r\n")
            assert client.head().status == 200
            with open(place / "pipe", "w"):  # The app has opened it.
                server.process.send_signal(signal.SIGTERM)
                server.wait_for("Handling signal: term")
                assert idle.closed()
            assert client.chunk() == b"begun "
            assert client.chunk().isdigit()
            assert client.chunk() == b""
            assert client.fields() == []
            assert client.closed()
        assert server.wait() == 0


def test_what_does_not_end_in_time_is_cut_without_a_complaint(tornado, place):
    """Its connection is closed when the engine has ended."""
    os.mkfifo(place / "pipe")
    words = ("--graceful-timeout", "1", "--access-logfile", "log")
    with tornado(*words, killed=True) as server:
        with server.connect() as client:
            client.send(b"GET /wait?pipe HTTP/1.1\r\nHost: x\r\n\r\n")
            assert client.head().status == 200
            with open(place / "pipe", "w"):  # The app has opened it.
                server.process.send_signal(signal.SIGTERM)
                server.wait_for("Handling signal: term")
                assert client.drop_rest() < 100
        assert server.wait() == 0
        assert "begin()" not in server.stderr
        assert "Traceback" not in server.stderr


def test_what_is_asked_after_a_stop_is_the_last(tornado):
    """An idle connection is given some seconds: a request may be on its way."""
    with tornado(killed=True) as server:
        with server.connect() as client:
            assert not client.get().says_close
            server.process.send_signal(signal.SIGTERM)
            server.wait_for("Handling signal: term")
            eventually(lambda: client.get().says_close or None, "it says close")
            assert client.closed()
        assert server.wait() == 0


def test_hup_under_load_loses_no_request(tornado):
    with tornado(workers=2) as server, Asking(server) as load:
        for count in (2, 3, 4):
            server.process.send_signal(signal.SIGHUP)
            server.wait_for(rf"(Workers are ready: 2[\s\S]*){{{count}}}")
            load.go_on()

        assert load.losses == []


def test_max_requests_under_load_loses_no_request(tornado):
    with tornado("--max-requests", "50", workers=2) as server, Asking(server) as load:
        wait_until(lambda: len(re.findall("Autorestarting", server.stderr)) >= 4)

        assert load.losses == []


def test_a_loop_that_is_held_up_is_found_and_shown(tornado, place):
    os.mkfifo(place / "pipe")
    with tornado("--timeout", TIMEOUT) as server, server.connect() as client:
        before = server.workers()
        client.send(b"GET /hold?pipe HTTP/1.1\r\nHost: x\r\n\r\n")
        server.wait_for(r"WORKER TIMEOUT")
        server.wait_for(r'main.py", line \d+ in get')
        server.wait_for("was sent SIGKILL")
        assert int(server.get().body) not in before


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT, signal.SIGQUIT])
def test_a_signal_to_a_worker_ends_it(tornado, signum):
    with tornado() as server:
        before = server.workers()
        assert server.get().status == 200
        os.kill(min(before), signum)
        server.wait_for_workers(1, but=before)
        assert server.get().status == 200
