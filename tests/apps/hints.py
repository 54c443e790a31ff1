"""Early hints; the path chooses what is sent and when."""

LINK = ("Link", "</style.css>; rel=preload")
TEXT = ("Content-Type", "text/plain")


def application(environ, start_response):
    hint = environ["wsgi.early_hints"]
    path = environ["PATH_INFO"]
    if path == "/one":
        hint([LINK])
    elif path == "/two":
        hint([LINK])
        hint([("Link", "</code.js>; rel=preload"), ("X-More", "1")])
    elif path == "/bad":
        hint([("X", "1\r\nX-Injected: yes")])
    elif path == "/bad-name":
        hint([("X Y", "1")])
    start_response("200 OK", [TEXT])
    if path == "/late":
        return late(hint)
    return [b"body"]


def late(hint):
    yield b"bo"
    hint([LINK])
    yield b"dy"
