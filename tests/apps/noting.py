"""Writes the query of each request into a file of the test's, before it answers."""

import os
import time


def application(environ, start_response):
    length = int(environ["CONTENT_LENGTH"] or 0)
    body = environ["wsgi.input"].read(length)
    with open(os.environ["NOTES"], "a") as notes:
        notes.write(environ["QUERY_STRING"] + "\n")
    time.sleep(0.01)  # So that a stop finds some in hand.
    start_response("200 OK", [("Content-Length", str(len(body)))])
    return [body]
