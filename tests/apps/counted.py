"""Answers with the number of memory blocks that Python has."""

import sys


def application(environ, start_response):
    body = b"%d" % sys.getallocatedblocks()
    start_response(
        "200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))]
    )
    return [body]
