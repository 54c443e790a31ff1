"""Answers no server may send: the case is chosen by the path.

Whatever else is asked for is answered with 200, so that a test can see the server live.
"""

OK = "200 OK"
PLAIN = [("Content-Type", "text/plain")]


class Text(str):
    """Not a plain str, which PEP 3333 asks for."""


HEADS = {
    "status-crlf": ("200 OK\r\nX-Injected: yes", PLAIN),
    "status-lf": ("200 OK\nX-Injected: yes", PLAIN),
    "status-cr": ("200 OK\rX-Injected: yes", PLAIN),
    "status-nul": ("200 O\0K", PLAIN),
    "status-wide": ("200 \u20ac", PLAIN),
    "status-bytes": (b"200 OK", PLAIN),
    "status-int": (200, PLAIN),
    "status-empty": ("", PLAIN),
    "status-word": ("OK", PLAIN),
    "status-two-digits": ("20 OK", PLAIN),
    "status-four-digits": ("2000 OK", PLAIN),
    "status-no-space": ("200OK", PLAIN),
    "status-zero": ("000 OK", PLAIN),
    "status-sign": ("+20 OK", PLAIN),
    "status-leading-space": (" 200 OK", PLAIN),
    "value-crlf": (OK, [("X-A", "1\r\nX-Injected: yes")]),
    "value-lf": (OK, [("X-A", "1\nX-Injected: yes")]),
    "value-cr": (OK, [("X-A", "1\rX-Injected: yes")]),
    "value-nul": (OK, [("X-A", "a\0b")]),
    "value-crlf-at-the-end": (OK, [("X-A", "1\r\n")]),
    "value-fold": (OK, [("X-A", "1\r\n 2")]),
    "value-wide": (OK, [("X-A", "\u20ac")]),
    "value-wide-cr": (OK, [("X-A", "\u0a0d\u010a")]),
    "value-astral": (OK, [("X-A", "\U0001f600")]),
    "value-surrogate": (OK, [("X-A", "\udc80")]),
    "value-bytes": (OK, [("X-A", b"1")]),
    "value-int": (OK, [("X-A", 1)]),
    "value-none": (OK, [("X-A", None)]),
    "name-crlf": (OK, [("X-A\r\nX-Injected", "yes")]),
    "name-lf": (OK, [("X-A\nX-Injected", "yes")]),
    "name-nul": (OK, [("X\0A", "1")]),
    "name-empty": (OK, [("", "1")]),
    "name-space": (OK, [("X A", "1")]),
    "name-trailing-space": (OK, [("X-A ", "1")]),
    "name-colon": (OK, [("X-A:", "1")]),
    "name-latin": (OK, [("X-\xe9", "1")]),
    "name-wide": (OK, [("X-\u20ac", "1")]),
    "name-bytes": (OK, [(b"X-A", "1")]),
    "name-none": (OK, [(None, "1")]),
    "field-of-one": (OK, [("X-A",)]),
    "field-of-three": (OK, [("X-A", "1", "2")]),
    "field-string": (OK, ["XA"]),
    "fields-none": (OK, None),
    "fields-string": (OK, "X-A: 1"),
    "length-word": (OK, [("Content-Length", "abc")]),
    "length-empty": (OK, [("Content-Length", "")]),
    "length-minus": (OK, [("Content-Length", "-1")]),
    "length-plus": (OK, [("Content-Length", "+4")]),
    "length-hex": (OK, [("Content-Length", "0x4")]),
    "length-list": (OK, [("Content-Length", "4, 4")]),
    "length-underscore": (OK, [("Content-Length", "1_0")]),
    "length-huge": (OK, [("Content-Length", "9" * 30)]),
    "length-twice": (OK, [("Content-Length", "4"), ("Content-Length", "4")]),
    "length-twice-unlike": (OK, [("Content-Length", "4"), ("content-length", "5")]),
}


def application(environ, start_response):
    status, fields = HEADS.get(environ["PATH_INFO"][1:], (OK, PLAIN))
    start_response(status, fields)
    return [b"the answer of the app"]


def swallowed(environ, start_response):
    """The same, but the app catches what start_response raises and says nothing."""
    status, fields = HEADS.get(environ["PATH_INFO"][1:], (OK, PLAIN))
    try:
        start_response(status, fields)
    except Exception:
        pass
    return [b"the answer of the app"]
