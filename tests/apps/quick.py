"""Answers as frameworks make them: one piece of declared length behind a close().

/slow waits for a line on the pipe that the query names, /closes-slowly does so in close().
"""

import os
import signal


class Answer:
    def __init__(self, body, pipe=""):
        self.pieces = iter([body])
        self.pipe = pipe

    def __iter__(self):
        return self

    def __next__(self):
        return next(self.pieces)

    def close(self):
        if self.pipe:
            wait_for(self.pipe)


def wait_for(pipe):
    with open(pipe + ".here", "w") as here:
        here.write("in the app\n")
    with open(pipe) as lines:
        lines.readline()


def application(environ, start_response):
    path = environ["PATH_INFO"]
    if path == "/stop":
        os.kill(os.getpid(), signal.SIGTERM)
    pipe = environ["QUERY_STRING"]
    if path == "/slow":
        wait_for(pipe)
    body = path.encode() * (5_000 if path.startswith("/large") else 1)
    start_response(
        "200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))]
    )
    return (
        [body]
        if path.startswith("/list")
        else Answer(body, pipe if path == "/closes-slowly" else "")
    )
