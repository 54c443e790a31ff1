"""Bodies in pieces that come in quick succession; what comes then is named by the path.

Where something is to be waited for, that is a line on the pipe that the query names.
"""

import os

PIECES = (b"one ", b"two ", b"", b"three ", b"")


def next_line(pipe):
    with open(pipe) as lines:
        return lines.readline().encode()


def waits(pipe, write):
    yield from PIECES
    yield next_line(pipe)


def writes(pipe, write):
    yield from PIECES
    write(b"four ")
    yield next_line(pipe)


def fails(pipe, write):
    yield from PIECES
    raise ValueError("after its pieces")


def forks(pipe, write):
    yield from PIECES
    if (pid := os.fork()) == 0:
        os._exit(0)
    os.waitpid(pid, 0)
    yield next_line(pipe)


class Closing:
    """Like a generator; its close() waits."""

    def __init__(self, pipe, write):
        self.pieces = iter(PIECES)
        self.pipe = pipe

    def __iter__(self):
        return self.pieces

    def close(self):
        next_line(self.pipe)


def many(pipe, write):
    for number in range(100):
        yield b"%04d" % number * 256


PATHS = {
    f"/{make.__name__}": make for make in (waits, writes, fails, forks, Closing, many)
}


def application(environ, start_response):
    write = start_response("200 OK", [("Content-Type", "text/plain")])
    return PATHS[environ["PATH_INFO"]](environ["QUERY_STRING"], write)
