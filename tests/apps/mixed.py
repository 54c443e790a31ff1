"""Different kinds of request in one app, for the memory test."""

TEXT = ("Content-Type", "text/plain")


def application(environ, start_response):
    path = environ["PATH_INFO"]
    if path == "/stream":
        start_response("200 OK", [TEXT])
        return (piece for piece in (b"a", b"b"))
    if path == "/post":
        body = environ["wsgi.input"].read()
        start_response("200 OK", [TEXT])
        return [body]
    if path == "/write":
        start_response("200 OK", [TEXT, ("X-Query", environ["QUERY_STRING"])])(b"w")
        return []
    if path == "/hints":
        environ["wsgi.early_hints"]([("Link", "</a>")])
    start_response("200 OK", [TEXT, ("Content-Length", "5")])
    return [b"hello"]
