"""The class eventlet, where it is not like gevent; the rest is in test_greenlets.py."""

import pytest

from tests.client import SANITIZED
from tests.process import WORKER_CLASS, WORKERS
from tests.server.test_greenlets import APP

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
