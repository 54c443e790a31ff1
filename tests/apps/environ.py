"""Answers with its environ as JSON: strings as they are, other values by their type."""

import json

requests = 0


def shown(value):
    if type(value) in (str, bool, int, tuple):
        return value
    return f"<{type(value).__name__}>"


def application(environ, start_response):
    global requests
    requests += 1
    answer = {
        "environ": {key: shown(value) for key, value in environ.items()},
        "type": type(environ).__name__,
        "key_types": sorted({type(key).__name__ for key in environ}),
        "requests": requests,
    }
    body = json.dumps(answer).encode()
    start_response(
        "200 OK",
        [("Content-Type", "application/json"), ("Content-Length", str(len(body)))],
    )
    # What a request leaves in its environ must not be seen by the next one.
    environ["left.behind"] = "yes"
    environ["PATH_INFO"] = "overwritten"
    environ["SERVER_NAME"] = "overwritten"
    return [body]
