"""Answers with the pages that the kernel had to bring for a deep call of this request."""

import resource


def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt


def deep(n):
    a = b = c = d = e = f = g = h = n  # A frame of some size.
    return deep(n - 1) if n else a + b + c + d + e + f + g + h


def app(environ, start_response):
    before = faults()
    deep(200)
    brought = faults() - before
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [str(brought).encode()]


application = app
