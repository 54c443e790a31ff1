"""Answers with the body of the request; its target comes back in a field."""


def application(environ, start_response):
    body = environ["wsgi.input"].read()
    start_response(
        "200 OK",
        [
            ("Content-Type", "application/octet-stream"),
            ("Content-Length", str(len(body))),
            ("X-Method", environ["REQUEST_METHOD"]),
            ("X-Target", environ["REQUEST_URI"]),
        ],
    )
    return [body]


def streaming(environ, start_response):
    """Sends each piece back as soon as it has come."""
    start_response("200 OK", [("Content-Type", "application/octet-stream")])
    while piece := environ["wsgi.input"].read(5):
        yield piece


def pieces(environ, start_response):
    """The body again, a line a piece."""
    start_response("200 OK", [("Content-Type", "application/octet-stream")])
    yield from environ["wsgi.input"]
