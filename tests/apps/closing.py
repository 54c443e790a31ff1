"""Iterables that count the calls of their close(); /closes tells the count."""

import io
import itertools

TEXT = ("Content-Type", "text/plain")
closes = 0
apps = 0


class Pieces:
    def __init__(self, pieces):
        self.pieces = iter(pieces)

    def __iter__(self):
        return self

    def __next__(self):
        return next(self.pieces)

    def close(self):
        global closes
        closes += 1


class CountingFile(io.BytesIO):
    def close(self):
        global closes
        closes += 1
        super().close()  # Else its finalizer calls close() once more.


def failing():
    yield b"sent"
    raise ValueError("in the middle")


def exiting():
    yield b"sent"
    raise SystemExit


def application(environ, start_response):
    global apps
    path = environ["PATH_INFO"]
    if path == "/closes":
        body = str(closes).encode()
        start_response("200 OK", [TEXT, ("Content-Length", str(len(body)))])
        return [body]
    apps += 1
    if path == "/bad-head":
        start_response("200 OK", [("X", "\n")])
    if path != "/no-start":
        fields = [TEXT]
        if path in ("/too-long", "/too-short", "/sized"):
            length = {"/too-long": "2", "/too-short": "9", "/sized": "4"}[path]
            fields.append(("Content-Length", length))
        status = "204 No Content" if path == "/no-content" else "200 OK"
        start_response(status, fields)
    if path == "/endless":
        return Pieces(itertools.repeat(b"x" * 65536))
    if path == "/large":
        return Pieces([b"x" * 50_000_000])
    if path == "/fails":
        return Pieces(failing())
    if path == "/exits":
        return Pieces(exiting())
    if path == "/text":
        return Pieces(["text"])
    if path == "/empty":
        return Pieces([])
    if path == "/file":
        return environ["wsgi.file_wrapper"](CountingFile(b"from a file"))
    return Pieces([b"bo", b"dy"])
