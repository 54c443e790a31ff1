"""Answers as frameworks make them: one piece of declared length behind a close().

/slow waits for a line on the pipe that the query names; /closes-slowly does so in close(),
/goes-on after its piece, /writes after it has written it. /takes-socket does that in close().
"""

import os
import signal


class Answer:
    def __init__(self, pieces, at_close=lambda: None):
        self.pieces = iter(pieces)
        self.close = at_close

    def __iter__(self):
        return self

    def __next__(self):
        return next(self.pieces)


def wait_for(pipe):
    with open(pipe + ".here", "w") as here:
        here.write("in the app\n")
    with open(pipe) as lines:
        lines.readline()


def then_wait(body, pipe):
    yield body
    wait_for(pipe)


def application(environ, start_response):
    path, pipe = environ["PATH_INFO"], environ["QUERY_STRING"]
    if path == "/stop":
        os.kill(os.getpid(), signal.SIGTERM)
    if path == "/slow":
        wait_for(pipe)
    body = path.encode() * (5_000 if path.startswith("/large") else 1)
    write = start_response(
        "200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))]
    )
    if path.startswith("/list"):
        return [body]
    if path == "/goes-on":
        return then_wait(body, pipe)
    if path == "/writes":
        write(body)
        wait_for(pipe)
        return []
    if path == "/closes-slowly":
        return Answer([body], lambda: wait_for(pipe))
    if path == "/takes-socket":
        return Answer([body], lambda: environ["gunicorn.socket"].fileno())
    return Answer([body])
