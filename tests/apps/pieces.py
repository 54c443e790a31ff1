"""Bodies in pieces that come in quick succession; what comes then is named by the path.

Where something is to be waited for, that is a line on the pipe that the query names.
"""

import os
import threading
import time

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
    yield from failing(PIECES)


def forks(pipe, write):
    yield from PIECES
    if (pid := os.fork()) == 0:
        os._exit(0)
    os.waitpid(pid, 0)
    yield next_line(pipe)


class Closing:
    """Like a generator; its close() waits."""

    make = iter

    def __init__(self, pipe, write):
        self.pieces = self.make(PIECES)
        self.pipe = pipe

    def __iter__(self):
        return self.pieces

    def close(self):
        next_line(self.pipe)


def failing(pieces):
    yield from pieces
    raise ValueError("after its pieces")


class ClosingFailed(Closing):
    make = staticmethod(failing)


def beside(pipe, write):
    """Another thread writes long pieces; some of ours are empty."""
    end = time.monotonic() + 0.5

    def write_long():
        while time.monotonic() < end:
            write(b"B" * 400 * 1024)
            time.sleep(0.001)

    thread = threading.Thread(target=write_long)
    yield b"first"
    thread.start()
    while time.monotonic() < end:
        yield b"o" * 64
        yield b"o" * 64
        yield from [b""] * 300
    thread.join()


def fails_beside(pipe, write):
    """It fails while another thread is in its write()."""
    begun = threading.Event()

    def write_long():
        begun.set()
        write(b"B" * 3000 * 1024)

    yield b"first"
    threading.Thread(target=write_long).start()
    begun.wait()
    time.sleep(0.0007)
    raise ValueError("while another thread writes")


def lasts(pipe, write):
    """Longer than a call that is not relieved, with a pause in the middle."""
    for _ in range(2):
        end = time.monotonic() + 0.2
        while time.monotonic() < end:
            yield b"some "
        yield b"end."
        yield next_line(pipe)


def many(pipe, write):
    for number in range(100):
        yield b"%04d" % number * 256


class Piece(bytes):
    """One that says how many there are."""

    alive = most = 0

    def __new__(cls, text):
        Piece.alive += 1
        Piece.most = max(Piece.most, Piece.alive)
        return super().__new__(cls, text)

    def __del__(self):
        Piece.alive -= 1


def long(pipe, write):
    for _ in range(1000):
        yield Piece(b"x" * 65536)
    yield b"%d" % Piece.most


def long_in_write(pipe, write):
    for _ in range(1000):
        write(Piece(b"x" * 65536))
    yield b"%d" % Piece.most


def pauses(pipe, write):
    """More than any socket takes, and then nothing for a long time."""
    for _ in range(160):
        yield b"x" * 65536
    yield b"end."
    yield next_line(pipe)


def pauses_in_write(pipe, write):
    for _ in range(160):
        write(b"x" * 65536)
    write(b"end.")
    yield next_line(pipe)


def pauses_at_its_end(pipe, write):
    return PausesAtItsEnd(pipe)


class PausesAtItsEnd:
    def __init__(self, pipe):
        self.pipe = pipe

    def __iter__(self):
        for _ in range(160):
            yield b"x" * 65536
        yield b"end."

    def close(self):
        next_line(self.pipe)


MAKERS = (
    waits,
    writes,
    fails,
    forks,
    Closing,
    ClosingFailed,
    beside,
    fails_beside,
    lasts,
    many,
    long,
    long_in_write,
    pauses,
    pauses_in_write,
    pauses_at_its_end,
)
PATHS = {f"/{make.__name__}": make for make in MAKERS}


def application(environ, start_response):
    write = start_response("200 OK", [("Content-Type", "text/plain")])
    return PATHS[environ["PATH_INFO"]](environ["QUERY_STRING"], write)
