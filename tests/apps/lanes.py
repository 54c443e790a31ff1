"""Requests meet here, in as many threads or greenlets; each tells what it was handed."""

import gc
import json
import threading

barriers = {}
values = {}
kept = []


def environs():
    """How many dicts there are that look like one, templates and all."""
    return sum(
        type(found) is dict and "wsgi.input" in found for found in gc.get_objects()
    )


def app(environ, start_response):
    if environ["PATH_INFO"] == "/environs":
        kept.clear()
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [str(environs()).encode()]

    who = environ["HTTP_X_WHO"]
    count = int(environ["QUERY_STRING"])
    barriers.setdefault(count, threading.Barrier(count)).wait(120)
    before = values.get(who)
    values[who] = environ["HTTP_X_WHO"]
    environ["wsgi.early_hints"]([("Link", f"</{who}>")])
    answer = {
        "who": [who, environ["HTTP_COOKIE"], environ["wsgi.input"].read().decode()],
        "port": [environ["REMOTE_PORT"], environ["gunicorn.socket"].getpeername()[1]],
        "target": [environ["RAW_URI"], environ["PATH_INFO"]],
        "keys": len(environ),
        # The very object: it was not made for this request.
        "known": before is who,
    }
    if environ["PATH_INFO"] == "/keep":
        kept.append(environ)
    elif environ["PATH_INFO"] == "/clear":
        environ.clear()
    else:
        environ["wsgi.input"] = environ["wsgi.early_hints"] = environ["HTTP_COOKIE"] = 1
    start_response("200 OK", [("Content-Type", "application/json")])
    return [json.dumps(answer).encode()]
