"""The class eventlet, where it is not like gevent; the rest is in test_greenlets.py."""

import os
import select

import pytest

from tests.client import DEADLINE_S, SANITIZED
from tests.process import WORKER_CLASS, WORKERS
from tests.server.test_greenlets import APP, ask, clients

pytestmark = [
    pytest.mark.skipif(WORKERS > 0 or bool(WORKER_CLASS), reason="chooses for itself"),
    pytest.mark.skipif(SANITIZED, reason="ASan does not know stacks that are moved"),
]

LOCAL = """
from eventlet import corolocal

local = corolocal.local()

def app(environ, start_response):
    found = getattr(local, "mark", "nothing")
    local.mark = "left"
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [found.encode()]
"""


def test_its_state_is_said_once_a_worker(deploy, place):
    (place / "main.py").write_text(APP.replace('"gevent"', '"eventlet"', 1))
    with deploy("-k", "eventlet", workers=2) as server:
        server.wait_for(r"maintenance mode(.*\n)*.*maintenance mode")
        assert server.get("/who").status == 200
        assert "DeprecationWarning" not in server.stderr


def test_what_is_local_to_a_greenlet_is_local_to_its_request(deploy, place):
    (place / "main.py").write_text(LOCAL)
    with deploy("-k", "eventlet") as server, server.connect() as client:
        assert [client.get().body for _ in range(3)] == 3 * [b"nothing"]


CROWD = 64
IN_STEP = """
import io
import eventlet
from eventlet import event

gate = io.FileIO("gate")
go = event.Event()
waiting = []

def app(environ, start_response):
    if environ["PATH_INFO"] == "/wait":
        waiting.append(True)
        go.wait()
        gate.read(1)  # The hub stands still.
    elif environ["PATH_INFO"] == "/go":
        while len(waiting) < int(environ["QUERY_STRING"]):
            eventlet.sleep(0.01)
        go.send()
    start_response("200 OK", [])
    return [b"here"]
"""


def test_a_crowd_that_wakes_at_once_does_not_keep_its_next_requests_waiting(
    deploy, place
):
    os.mkfifo(place / "gate")
    (place / "main.py").write_text(IN_STEP)
    with open(place / "gate", "r+b", buffering=0) as gate:
        with deploy("-k", "eventlet") as server, clients(server, CROWD) as crowd:
            with server.connect() as other:
                for client in crowd:
                    ask(client, "/wait")
                assert other.get(f"/go?{CROWD}").body == b"here"
                gate.write(b".")
                wait_for_one(crowd)  # They are on their way, in one turn of the hub.
                ask(other, "/next")
                gate.write(b"." * (CROWD // 2))

                assert other.response().body == b"here"

                gate.write(b"." * CROWD)
                assert [client.response().body for client in crowd] == CROWD * [b"here"]


def wait_for_one(crowd):
    ready, _, _ = select.select([client.socket for client in crowd], [], [], DEADLINE_S)
    assert ready
