"""Reads wsgi.input as the query says and answers with what came, as JSON.

The query is JSON: a list of steps such as ["read", 5], ["readline"], ["readlines"], ["iterate"].
A long result is told by its length and digest.
"""

import hashlib
import json
from urllib.parse import unquote

calls = 0


def shown(data):
    if isinstance(data, list):
        return [shown(line) for line in data]
    if len(data) > 1000:
        return [len(data), hashlib.sha256(data).hexdigest()]
    return data.decode("latin-1")


def take(stream, steps):
    """What each step returns, or the name of what it raises."""
    results = []
    for name, *arguments in steps:
        try:
            if name == "iterate":
                result = list(stream)
            elif name == "next":
                result = next(iter(stream), b"")
            elif name == "all-by":
                result = b""
                while piece := stream.read(*arguments):
                    result += piece
            else:
                result = getattr(stream, name)(*arguments)
            results.append(shown(result))
        except Exception as error:
            results.append(f"raised {type(error).__name__}")
    return results


def application(environ, start_response):
    global calls
    calls += 1
    steps = json.loads(unquote(environ["QUERY_STRING"]) or "[]")
    body = json.dumps(
        {"results": take(environ["wsgi.input"], steps), "calls": calls}
    ).encode()
    start_response(
        "200 OK",
        [("Content-Type", "application/json"), ("Content-Length", str(len(body)))],
    )
    return [body]


def raises(environ, start_response):
    """Lets whatever read() raises out; /calls tells of the past."""
    global calls
    if environ["PATH_INFO"] == "/calls":
        body = str(calls).encode()
    else:
        calls += 1
        body = environ["wsgi.input"].read()
    start_response(
        "200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))]
    )
    return [body]


def in_turns(environ, start_response):
    """Answers each five bytes as they come, and says how the input ended."""
    start_response("200 OK", [("Content-Type", "text/plain")])
    stream = environ["wsgi.input"]
    try:
        while piece := stream.read(5):
            yield piece
    except OSError as error:
        yield f"raised {type(error).__name__}".encode()


def whole(environ, start_response):
    """How long the body is that it reads at once."""
    answer = b"%d" % len(environ["wsgi.input"].read())
    start_response("200 OK", [("Content-Length", str(len(answer)))])
    return [answer]
