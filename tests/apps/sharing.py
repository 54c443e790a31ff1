"""Apps that use the objects of a request in unusual ways; the case is the path."""

import contextvars
import threading

TEXT = [("Content-Type", "text/plain")]
seen = contextvars.ContextVar("seen", default="nothing")
results = []


class Limited:
    """Reads the beginning of a file only, though it has the whole file inside."""

    def __init__(self, path):
        self.file = open(path, "rb")
        self.left = 6

    def read(self, size=-1):
        size = self.left if size < 0 else min(size, self.left)
        self.left -= size
        return self.file.read(size)

    def close(self):
        self.file.close()


class Late:
    """A size that is known only when the request of `stream` is over."""

    def __init__(self, over):
        self.over = over

    def __index__(self):
        self.over.wait(60)
        return 5


def read_late(stream, over):
    try:
        results.append(stream.read(Late(over)))
    except ValueError as error:
        results.append(type(error).__name__)


def read_for_ever(stream):
    try:
        while stream.read(1):
            pass
        results.append("end")
    except (ValueError, OSError) as error:
        results.append(type(error).__name__)


threads = []


def start(function, *arguments):
    threads.append(threading.Thread(target=function, args=arguments))
    threads[-1].start()


def write_from_threads(start_response):
    write = start_response("200 OK", TEXT)
    own = [threading.Thread(target=write, args=(b"x" * 100_000,)) for _ in range(8)]
    for thread in own:
        thread.start()
    for thread in own:
        thread.join()
    return []


over = threading.Event()


def application(environ, start_response):
    path = environ["PATH_INFO"]
    body = b"ok"
    if path == "/context":
        body = seen.get().encode()
        seen.set("the last request")
    elif path == "/limited":
        start_response("200 OK", TEXT)
        return environ["wsgi.file_wrapper"](Limited(environ["QUERY_STRING"]))
    elif path == "/late":
        start(read_late, environ["wsgi.input"], over)
    elif path == "/reader":
        start(read_for_ever, environ["wsgi.input"])
    elif path == "/writers":
        return write_from_threads(start_response)
    elif path == "/results":
        over.set()
        while threads:
            threads.pop().join(60)
        body = repr(results).encode()
    elif path == "/look":
        sock = environ["gunicorn.socket"]
        body = repr([hasattr(sock, "__html__"), sock.getpeername()[0]]).encode()
    start_response("200 OK", TEXT)
    return [body]
