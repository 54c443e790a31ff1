"""Every shape of answer, right and wrong; a function a shape."""

import time

TEXT = ("Content-Type", "text/plain")


def one_item(environ, start_response):
    start_response("200 OK", [TEXT])
    return [b"one item"]


def one_empty_item(environ, start_response):
    start_response("200 OK", [TEXT])
    return [b""]


def no_items(environ, start_response):
    start_response("200 OK", [TEXT])
    return []


def two_items(environ, start_response):
    start_response("200 OK", [TEXT])
    return [b"two ", b"items"]


def generator(environ, start_response):
    start_response("200 OK", [TEXT])
    yield b"a "
    yield b""
    yield b"few "
    yield b"pieces"


def late_start(environ, start_response):
    """A generator: nothing of it runs before the first piece is asked for."""
    start_response("200 OK", [TEXT])
    yield b"late"


def empty_before_start(environ, start_response):
    """An iterable whose first piece calls start_response when it is asked for."""

    class Pieces:
        def __init__(self):
            self.left = [b"", b"x", b"y"]

        def __iter__(self):
            return self

        def __next__(self):
            if len(self.left) == 3:
                start_response("200 OK", [TEXT])
            if not self.left:
                raise StopIteration
            return self.left.pop(0)

    return Pieces()


def declared(environ, start_response):
    start_response("200 OK", [TEXT, ("Content-Length", "10")])
    yield b"01234"
    yield b"56789"


def too_short(environ, start_response):
    start_response("200 OK", [TEXT, ("Content-Length", "10")])
    return [b"short"]


def too_short_generator(environ, start_response):
    start_response("200 OK", [TEXT, ("Content-Length", "10")])
    yield b"sh"
    yield b"ort"


def too_short_nothing(environ, start_response):
    start_response("200 OK", [TEXT, ("Content-Length", "10")])
    return []


def too_long(environ, start_response):
    start_response("200 OK", [TEXT, ("Content-Length", "5")])
    return [b"12345HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"]


def too_long_generator(environ, start_response):
    start_response("200 OK", [TEXT, ("Content-Length", "5")])
    yield b"123"
    yield b"4567"
    yield b"89"


def no_content(environ, start_response):
    start_response("204 No Content", [])
    return []


def no_content_with_body(environ, start_response):
    start_response("204 No Content", [("Content-Length", "4")])
    return [b"body"]


def no_content_generator(environ, start_response):
    start_response("204 No Content", [TEXT])
    yield b"body"


def not_modified(environ, start_response):
    start_response("304 Not Modified", [("ETag", '"x"'), ("Content-Length", "4")])
    return [b"body"]


def not_modified_generator(environ, start_response):
    start_response("304 Not Modified", [("ETag", '"x"')])
    yield b"body"


def hop_by_hop(environ, start_response):
    start_response(
        "200 OK",
        [
            TEXT,
            ("Connection", "x-app"),
            ("Keep-Alive", "timeout=99"),
            ("Proxy-Authenticate", "Basic"),
            ("Proxy-Authorization", "Basic eA=="),
            ("TE", "trailers"),
            ("Trailer", "X-End"),
            ("Trailers", "X-End"),
            ("Transfer-Encoding", "gzip"),
            ("Upgrade", "x-app"),
            ("X-Kept", "yes"),
        ],
    )
    return [b"body"]


def own_date_and_server(environ, start_response):
    start_response(
        "200 OK",
        [TEXT, ("Date", "Sun, 06 Nov 1994 08:49:37 GMT"), ("Server", "the-app")],
    )
    return [b"body"]


def many_fields(environ, start_response):
    start_response(
        "200 OK",
        [TEXT, *[(f"X-Field-{n}", "v" * n) for n in range(300)]],
    )
    return [b"body"]


def large_head(environ, start_response):
    start_response("200 OK", [TEXT, *[(f"X-Field-{n}", "v" * 1000) for n in range(8)]])
    return [b"body"]


def cookies(environ, start_response):
    start_response("200 OK", [TEXT, ("Set-Cookie", "a=1"), ("Set-Cookie", "b=2")])
    return [b"body"]


def unusual_status(environ, start_response):
    start_response("299 Something Else (ö)", [TEXT, ("X-Latin", "caf\xe9\ttab")])
    return [b"body"]


def no_reason(environ, start_response):
    start_response("200 ", [TEXT])
    return [b"body"]


def large(environ, start_response):
    """Fifty megabytes in one object."""
    body = b"0123456789" * 5_000_000
    start_response("200 OK", [TEXT, ("Content-Length", str(len(body)))])
    return [body]


def large_generator(environ, start_response):
    """Ten megabytes in pieces of every size."""
    start_response("200 OK", [TEXT])
    left = 10_000_000
    size = 1
    while left:
        size = min(size * 2 if size < 1_000_000 else 1, left)
        yield b"x" * size
        left -= size


def many_pieces(environ, start_response):
    start_response("200 OK", [TEXT])
    return [b"0123456789"] * 100_000


def small_pieces(environ, start_response):
    start_response("200 OK", [TEXT])
    yield b"a"
    yield b"b"
    yield b"c"


def waits_between(environ, start_response):
    """Sends a piece, then waits for a line on the pipe that the query names."""
    start_response("200 OK", [TEXT])
    yield b"first"
    with open(environ["QUERY_STRING"]) as pipe:
        yield pipe.readline().encode()


def waits_first(environ, start_response):
    """Waits for a line on the pipe that the query names, then answers with it."""
    with open(environ["QUERY_STRING"] + ".here", "w") as here:
        here.write("in the app\n")
    with open(environ["QUERY_STRING"]) as pipe:
        line = pipe.readline().encode()
    start_response("200 OK", [TEXT])
    return [line]


def clock(environ, start_response):
    start_response("200 OK", [TEXT])
    return [str(time.time()).encode()]


def refuses_connect(environ, start_response):
    body = f"{environ['REQUEST_METHOD']} {environ['REQUEST_URI']}".encode()
    start_response("405 Method Not Allowed", [TEXT])
    return [body]
