"""Apps under wsgiref.validate, which asserts what PEP 3333 says of the server."""

import io
from wsgiref.validate import validator

TEXT = [("Content-Type", "text/plain")]


@validator
def reading(environ, start_response):
    """Reads as WSGI 1.0.1 allows: each call with a size."""
    stream = environ["wsgi.input"]
    body = stream.read(3)
    body += stream.readline()
    body += stream.readline(100)
    body += b"".join(stream.readlines(10))
    body += stream.read(100_000)
    start_response("200 OK", TEXT)
    return [body]


@validator
def iterating(environ, start_response):
    body = b"".join(environ["wsgi.input"])
    start_response("200 OK", TEXT)
    return [body]


@validator
def generating(environ, start_response):
    start_response("200 OK", TEXT)
    return (piece for piece in [b"a", b"b", b"c"])


@validator
def writing(environ, start_response):
    write = start_response("200 OK", TEXT)
    write(b"a")
    write(b"b")
    return [b"c"]


@validator
def erring(environ, start_response):
    errors = environ["wsgi.errors"]
    errors.write("written to wsgi.errors \u20ac\n")
    errors.writelines(["one line\n", "another line\n"])
    errors.flush()
    start_response("200 OK", TEXT)
    return [b"abc"]


@validator
def empty(environ, start_response):
    start_response("204 No Content", [])
    return []


@validator
def wrapping(environ, start_response):
    start_response("200 OK", TEXT)
    return environ["wsgi.file_wrapper"](io.BytesIO(b"abc"))


@validator
def failing(environ, start_response):
    import sys

    start_response("200 OK", TEXT)
    try:
        raise ValueError
    except ValueError:
        start_response("503 Sorry", TEXT, sys.exc_info())
    return [b"abc"]
