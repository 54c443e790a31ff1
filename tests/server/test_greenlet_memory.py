"""Greenlets under valgrind: the stacks that they switch are not for AddressSanitizer."""

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
    start_response("200 OK", headers + [("Content-Length", "2")])
    return [b"ok"]

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


@pytest.mark.parametrize("kind", ["gevent", "eventlet"])
@pytest.mark.timeout(600)
def test_greenlets_touch_no_memory_that_is_not_theirs(place, kind):
    (place / "main.py").write_text(APP.format(kind))
    words = ("main:app", "-b", "127.0.0.1:0", "-k", kind, "--timeout", "0")
    server = Deployed(*words, cwd=place, prefix=VALGRIND, PYTHONMALLOC="malloc")
    try:
        server.wait_for(READY, BOOT_S)
        server.wait_until_listening()
        with ThreadPoolExecutor(4) as pool:
            for done in [pool.submit(converse, server) for _ in range(4)]:
                done.result()
    finally:
        server.finish()

    found = faults(server.stderr)
    known = [fault for fault in found if "set_title" in fault]
    assert known  # It does not know the room that the kernel has for a title.
    assert [fault for fault in found if fault not in known] == []
