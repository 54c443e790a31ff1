"""Greenlets under valgrind: the stacks that they switch are not for AddressSanitizer."""

import contextlib
import os
import re
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.client import SANITIZED
from tests.process import READY, WORKER_CLASS, WORKERS, Deployed

pytestmark = [
    pytest.mark.skipif(
        WORKERS > 0 or bool(WORKER_CLASS), reason="chooses its workers itself"
    ),
    pytest.mark.skipif(SANITIZED, reason="another tool for the same"),
]

VALGRIND = (
    "valgrind",
    "--error-limit=no",
    "--leak-check=no",
    "--max-stackframe=8388608",
    "--num-callers=8",
    "--fullpath-after=",
)
BOOT_S = 150

APP = """
import sys

def app(environ, start_response):
    import {0}
    path = environ["PATH_INFO"]
    if path == "/exit":
        sys.exit(1)
    if path == "/error":
        raise ValueError("no")
    {0}.sleep(0.02)
    headers = [("Content-Type", "text/plain")]
    if path == "/echo":
        start_response("200 OK", headers)
        return [environ["wsgi.input"].read()]
    if path == "/pieces":
        start_response("200 OK", headers)
        return pieces({0}.sleep)
    if path == "/impatient":
        start_response("200 OK", headers)
        return impatient(environ["wsgi.input"], {0}.Timeout)
    if path == "/duplex":
        # Both are inside of the request at a time: one of them naps.
        lines = []
        reader = {0}.spawn(lambda: lines.extend(environ["wsgi.input"]))
        write = start_response("200 OK", headers)
        for _ in range(20):
            write(b"a" * 70_000)
        reader.{1}()
        return lines
    if path == "/events":
        start_response("200 OK", headers)
        return events({0}.sleep)
    start_response("200 OK", headers + [("Content-Length", "2")])
    return [b"ok"]

def impatient(body, timeout):
    try:
        with timeout(0.05):
            body.read()
    except timeout:
        yield b"patience "
    yield body.read()

def events(sleep):
    while True:
        yield b"event"
        sleep(0.02)

def pieces(sleep):
    for _ in range(20):
        yield b"a" * 70_000
        sleep(0)
"""


def faults(stderr):
    """What valgrind has found, with our code among the innermost frames."""
    lines: dict[str, list[str]] = {}
    for pid, text in re.findall(r"(?m)^==(\d+)== ?(.*)$", stderr):
        lines.setdefault(pid, []).append(text)
    blocks = [b for ls in lines.values() for b in re.split(r"\n\s*\n", "\n".join(ls))]
    return [b for b in blocks if "/csrc/" in "\n".join(b.splitlines()[:5])]


def converse(server):
    """What touches a greenlet's stack: waits, a client that goes, an exit, an error."""
    with server.connect() as client:
        for _ in range(10):
            assert client.get("/").body == b"ok"
        body = os.urandom(300_000)
        assert client.post("/echo", body).body == body
        assert len(client.get("/pieces").body) == 1_400_000
    with server.connect(receive_buffer=4096) as client:
        client.send(b"GET /pieces HTTP/1.1\r\nHost: x\r\n\r\n")
        assert client.head().status == 200
    with server.connect() as client:
        client.send(b"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nhalf")
    assert server.get("/error").status == 500
    assert server.get("/exit").status == 500


def stream(server):
    """Waits that park a request: for a body in parts, with a Timeout that is thrown into
    one, and for a slow reader, while another greenlet reads."""
    with server.connect() as client:
        client.send(b"POST /impatient HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\n")
        assert client.head().status == 200
        assert client.chunk() == b"patience "
        client.send(b"ab")
        client.send(b"cd")
        assert client.chunk() == b"abcd"
    with server.connect(receive_buffer=4096) as client:
        client.send(
            b"POST /duplex HTTP/1.1\r\nHost: x\r\nContent-Length: 8\r\n\r\none\n"
        )
        assert client.head().status == 200
        assert len(client.chunk()) == 70_000
        client.send(b"two\n")
        rest = b"".join(iter(client.chunk, b""))
        assert rest == 19 * 70_000 * b"a" + b"one\ntwo\n"
    with server.connect(receive_buffer=4096) as client:
        client.send(
            b"POST /duplex HTTP/1.1\r\nHost: x\r\nContent-Length: 8\r\n\r\none\n"
        )
        assert client.head().status == 200


def burst(server):
    """More greenlets than are kept, so that some are let go of."""
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(server.connect()) for _ in range(60)]
        for client in clients:
            client.send(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        for client in clients:
            assert client.response().body == b"ok"


def at_a_time(count, conversation, server):
    with ThreadPoolExecutor(count) as pool:
        for done in [pool.submit(conversation, server) for _ in range(count)]:
            done.result()


JOINS = {"gevent": "join", "eventlet": "wait"}


@pytest.fixture(params=JOINS)
def watched(request, place):
    """watched(*words): a server of a class that runs under valgrind; judged at its end."""
    kind = request.param
    (place / "main.py").write_text(APP.format(kind, JOINS[kind]))

    @contextlib.contextmanager
    def watch(*words):
        given = ("main:app", "-b", "127.0.0.1:0", "-k", kind, "--timeout", "0", *words)
        server = Deployed(*given, cwd=place, prefix=VALGRIND, PYTHONMALLOC="malloc")
        try:
            server.wait_for(READY, BOOT_S)
            server.wait_until_listening()
            yield server
        finally:
            server.finish()
        found = faults(server.stderr)
        known = [fault for fault in found if "set_title" in fault]
        assert known  # It does not know the room that the kernel has for a title.
        assert [fault for fault in found if fault not in known] == []

    return watch


@pytest.mark.timeout(600)
def test_greenlets_touch_no_memory_that_is_not_theirs(watched):
    with watched() as server:
        at_a_time(4, converse, server)


@pytest.mark.timeout(600)
def test_nor_do_those_that_wait_for_their_clients(watched):
    words = ("--no-request-buffering", "--response-spool-limit", "0")
    with contextlib.ExitStack() as stack:
        with watched(*words, "--graceful-timeout", "5") as server:
            at_a_time(2, stream, server)
            burst(server)
            at_a_time(2, stream, server)
            listener = stack.enter_context(server.connect())
            listener.send(b"GET /events HTTP/1.1\r\nHost: x\r\n\r\n")
            assert listener.head().status == 200
            assert listener.chunk() == b"event"

        listener.drop_rest()  # It is called off.
