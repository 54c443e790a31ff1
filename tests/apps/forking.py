"""Forks children of its own; a child lives until the pipe that the query names has a writer."""

import contextlib
import os
import subprocess
import sys
import threading

TEXT = ("Content-Type", "text/plain")
children = []


def child_waits(pipe):
    """Opens the pipe, which blocks until the test opens its other end."""
    with open(pipe):
        os._exit(0)


def read(body, begun):
    body.read(1)
    begun.set()
    with contextlib.suppress(ValueError, OSError):
        body.read()


def application(environ, start_response):
    path, pipe = environ["PATH_INFO"], environ["QUERY_STRING"]
    body = b"hello"
    if path == "/fork":
        pid = os.fork()
        if pid == 0:
            child_waits(pipe)
        children.append(pid)
    elif path == "/spawn":
        code = f"open({pipe!r}).close()"
        process = subprocess.Popen([sys.executable, "-c", code], close_fds=False)
        children.append(process.pid)
    elif path == "/reap":
        while children:
            os.waitpid(children.pop(), 0)
        body = b"reaped"
    elif path == "/child-returns":
        # Both processes come back into the server; only one of them may answer.
        pid = os.fork()
        if pid:
            os.waitpid(pid, 0)
        body = b"parent" if pid else b"child"
    elif path == "/child-beside-a-reader":
        # A thread waits for the client, and does not come with the child.
        begun = threading.Event()
        threading.Thread(target=read, args=(environ["wsgi.input"], begun)).start()
        begun.wait()
        pid = os.fork()
        if pid:
            os.waitpid(pid, 0)
        body = b"parent" if pid else b"child"
    elif path == "/child-raises":
        pid = os.fork()
        if pid == 0:
            raise ValueError("in the child")
        os.waitpid(pid, 0)
        body = b"parent"
    start_response("200 OK", [TEXT, ("Content-Length", str(len(body)))])
    return [body]
