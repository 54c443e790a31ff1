"""wsgi.file_wrapper with all sorts of files; the path chooses, the query has arguments.

?path=...&offset=...&length=...&block=...
"""

import gzip
import io
import os
from urllib.parse import parse_qsl

TEXT = ("Content-Type", "text/plain")


def real(arguments):
    return open(arguments["path"], "rb")


def unbuffered(arguments):
    return open(arguments["path"], "rb", buffering=0)


def partly_read(arguments):
    """Ten bytes are read; the buffer behind has taken far more from the descriptor."""
    file = open(arguments["path"], "rb")
    file.read(10)
    return file


def in_memory(arguments):
    with open(arguments["path"], "rb") as file:
        return io.BytesIO(file.read())


def unzipped(arguments):
    """Its descriptor reads what is compressed, its read() what is not."""
    return gzip.open(arguments["path"], "rb")


class OnlyReads:
    def __init__(self, path):
        self.file = open(path, "rb")

    def read(self, size=-1):
        return self.file.read(size)


def only_reads(arguments):
    return OnlyReads(arguments["path"])


class Upper(io.FileIO):
    """A real file whose read() says something else than its descriptor."""

    def read(self, size=-1):
        return super().read(size).upper()


def overriding(arguments):
    return Upper(arguments["path"])


def pipe(arguments):
    """A descriptor that sendfile cannot take."""
    reader, writer = os.pipe()
    os.write(writer, b"through a pipe")
    os.close(writer)
    return os.fdopen(reader, "rb")


def proc(arguments):
    """A file that says its size is 0 and is not."""
    return open("/proc/self/cmdline", "rb")


class Lying:
    """fileno() says what is no descriptor."""

    def __init__(self, number):
        self.number = number
        self.left = [b"read", b""]

    def fileno(self):
        if isinstance(self.number, Exception):
            raise self.number
        return self.number

    def read(self, size=-1):
        return self.left.pop(0)


def bad_descriptor(arguments):
    return Lying(-1)


def closed_descriptor(arguments):
    return Lying(9999)


def text_descriptor(arguments):
    return Lying("three")


def no_descriptor(arguments):
    return Lying(io.UnsupportedOperation("fileno"))


class FailsLater:
    def __init__(self):
        self.reads = 0

    def read(self, size=-1):
        self.reads += 1
        if self.reads > 1:
            raise OSError("the disk is gone")
        return b"sent"


def fails_later(arguments):
    return FailsLater()


def application(environ, start_response):
    arguments = dict(parse_qsl(environ["QUERY_STRING"]))
    file = globals()[environ["PATH_INFO"][1:]](arguments)
    if "offset" in arguments:
        file.seek(int(arguments["offset"]))
    fields = [TEXT]
    if "length" in arguments:
        fields.append(("Content-Length", arguments["length"]))
    start_response("200 OK", fields)
    wrapper = environ["wsgi.file_wrapper"]
    if "block" in arguments:
        return wrapper(file, int(arguments["block"]))
    return wrapper(file)


def iterated(environ, start_response):
    """Middleware may iterate a wrapper itself: the sizes of its blocks are the answer."""
    arguments = dict(parse_qsl(environ["QUERY_STRING"]))
    wrapper = environ["wsgi.file_wrapper"](real(arguments), int(arguments["block"]))
    sizes = [str(len(block)) for block in wrapper]
    wrapper.close()
    start_response("200 OK", [TEXT])
    return [" ".join(sizes).encode()]


def shrinking(environ, start_response):
    """The file is cut after its length was promised."""
    arguments = dict(parse_qsl(environ["QUERY_STRING"]))
    file = real(arguments)
    size = os.path.getsize(arguments["path"])
    os.truncate(arguments["path"], size // 2)
    start_response("200 OK", [TEXT, ("Content-Length", str(size))])
    return environ["wsgi.file_wrapper"](file)
