"""Ten megabytes: /shared is one object for all, /pieces and /fresh are made for each; else hello."""

TEXT = ("Content-Type", "text/plain")
SIZE = 10_000_000
SHARED = b"0123456789" * (SIZE // 10)
PIECE = b"0123456789" * 1000


def pieces():
    for _ in range(SIZE // len(PIECE)):
        yield PIECE


def application(environ, start_response):
    path = environ["PATH_INFO"]
    if path == "/shared":
        start_response("200 OK", [TEXT, ("Content-Length", str(SIZE))])
        return [SHARED]
    if path == "/fresh":
        start_response("200 OK", [TEXT, ("Content-Length", str(SIZE))])
        return [b"".join([PIECE] * (SIZE // len(PIECE)))]
    if path == "/pieces":
        start_response("200 OK", [TEXT, ("Content-Length", str(SIZE))])
        return pieces()
    start_response("200 OK", [TEXT, ("Content-Length", "5")])
    return [b"hello"]
