"""Requests that repeat what their connection has sent, run by several threads or greenlets.

All of them begin with what the server knows of the same few connections; which of them
runs a request of which connection is different each time. What one connection alone
sees is in test_repeats.py.
"""

import contextlib
import re
import shutil

import pytest

from tests.client import SANITIZED
from tests.process import ROOT, WORKER_CLASS, WORKERS

pytestmark = pytest.mark.skipif(
    WORKERS > 0 or bool(WORKER_CLASS), reason="chooses its workers itself"
)

in_greenlets = pytest.mark.skipif(
    SANITIZED, reason="ASan does not know stacks that are moved"
)
CLASSES = [
    pytest.param(("-k", "gthread", "--threads", "4"), id="gthread"),
    pytest.param(("-k", "gevent"), id="gevent", marks=in_greenlets),
    pytest.param(("-k", "eventlet"), id="eventlet", marks=in_greenlets),
]
PATIENCE_S = 120


@pytest.fixture
def start(deploy, place):
    shutil.copy(ROOT / "tests" / "apps" / "lanes.py", place / "main.py")

    return deploy


@contextlib.contextmanager
def clients(server, count):
    with contextlib.ExitStack() as stack:
        found = [stack.enter_context(server.connect()) for _ in range(count)]
        for client in found:
            client.socket.settimeout(PATIENCE_S)
        yield found


def ask(client, number, target):
    """A GET with a body: whoever runs it has an input of its own for that."""
    client.send(
        f"GET {target} HTTP/1.1\r\nHost: x\r\nX-Who: client {number}\r\n"
        f"Cookie: id={number}\r\nContent-Length: 4\r\n\r\n{number:04}".encode()
    )


def check(client, number, target):
    """Returns whether the server began with what it knew."""
    hint = client.response()
    assert (hint.status, hint["link"]) == (103, f"</client {number}>")
    answer = client.response().json()
    port = client.socket.getsockname()[1]
    assert answer["who"] == [f"client {number}", f"id={number}", f"{number:04}"]
    assert answer["port"] == [str(port), port]
    assert answer["target"] == [target, target.partition("?")[0]]
    return answer["known"]


def meet(all_of_them, some, target):
    """These ask at once, and are in the app together."""
    for number in some:
        ask(all_of_them[number], number, target)
    return [check(all_of_them[number], number, target) for number in some]


def turns(count, together):
    """Who meets whom: each one follows others each time."""
    for step in (1, 3, 5, 7):
        order = [(number * step) % count for number in range(count)]
        for at in range(0, count, together):
            yield order[at : at + together]


@pytest.mark.parametrize("words", CLASSES)
@pytest.mark.parametrize("path", ["/clear", "/spoil", "/keep"])
def test_each_request_has_what_is_its_own(start, words, path):
    """Whatever an app does to an environ, and whoever has run the one before."""
    with start(*words) as server, clients(server, 16) as all_of_them:
        for _ in range(3):
            for some in turns(16, 4):
                meet(all_of_them, some, f"{path}?4")


@pytest.mark.parametrize("words", CLASSES)
def test_what_one_has_made_others_begin_with(start, words):
    with start(*words) as server, clients(server, 16) as all_of_them:
        for number in range(16):
            for _ in range(2):  # The second one is kept.
                meet(all_of_them, [number], "/clear?1")

        known = [meet(all_of_them, some, "/other?4") for some in turns(16, 4)]

        assert known == [[True] * 4] * len(known)


@pytest.mark.parametrize("words", CLASSES[1:])
def test_what_is_kept_does_not_grow_with_who_runs_requests(start, words):
    together, places = 100, 256
    with start(*words) as server, clients(server, together) as all_of_them:
        order = list(range(together))
        for turn in range(10):
            meet(all_of_them, order[turn:] + order[:turn], f"/clear?{together}")

        with server.connect() as client:
            count = int(re.fullmatch(rb"\d+", client.get("/environs").body)[0])

        # One or two each: of a listener, and of the request in hand.
        assert count <= places + 2 * together + 10
