"""Answers as frameworks make them: one piece of declared length behind a close()."""

import os
import signal


class Answer:
    def __init__(self, body):
        self.pieces = iter([body])

    def __iter__(self):
        return self

    def __next__(self):
        return next(self.pieces)

    def close(self):
        pass


def application(environ, start_response):
    path = environ["PATH_INFO"]
    if path == "/stop":
        os.kill(os.getpid(), signal.SIGTERM)
    body = path.encode() * (5_000 if path.startswith("/large") else 1)
    start_response(
        "200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))]
    )
    return [body] if path.startswith("/list") else Answer(body)
