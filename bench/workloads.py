"""What is asked of the servers: an app, the bytes of the request, the load."""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

from bench import apps

PIPELINE = 16
VARIANTS = 4096  # more than any memo of ours or of a peer holds

TWO_LINE = b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
CLOSE = b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n"


def browser(number: int = 0) -> bytes:
    """What a browser sends: 11 header fields, a query, cookies; 8 digits differ."""
    return (
        b"GET /items/list?page=2&order=name&filter=%08d HTTP/1.1\r\n"
        b"Host: 127.0.0.1\r\n"
        b"Connection: keep-alive\r\n"
        b"Cache-Control: max-age=0\r\n"
        b"Upgrade-Insecure-Requests: 1\r\n"
        b"User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, "
        b"like Gecko) Chrome/126.0.0.0 Safari/537.36\r\n"
        b"Accept: text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8\r\n"
        b"Sec-Fetch-Site: same-origin\r\n"
        b"Referer: http://127.0.0.1/items/?page=1\r\n"
        b"Accept-Encoding: gzip, deflate, br\r\n"
        b"Accept-Language: en-GB,en;q=0.9,de;q=0.8\r\n"
        b"Cookie: sessionid=k3v9s0x1q7w5e2r8t4y6%08d; csrftoken=a8b7c6d5e4f3; theme=dark\r\n"
        b"\r\n"
    ) % (number, number)


@cache
def varied() -> tuple[bytes, ...]:
    return tuple(browser(number) for number in range(VARIANTS))


def upload(size: int) -> bytes:
    head = b"POST / HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: %d\r\n\r\n" % size
    return head + b"u" * size


def chunked_upload(size: int, chunk: int) -> bytes:
    head = b"POST / HTTP/1.1\r\nHost: 127.0.0.1\r\nTransfer-Encoding: chunked\r\n\r\n"
    piece = b"%x\r\n" % chunk + b"u" * chunk + b"\r\n"
    return head + piece * (size // chunk) + b"0\r\n\r\n"


def uwsgi_packet(request: bytes) -> bytes:
    """The same request as nginx passes it with its uwsgi_params."""
    head = request.partition(b"\r\n\r\n")[0]
    line, *fields = head.split(b"\r\n")
    method, target, version = line.split(b" ")
    path, _, query = target.partition(b"?")
    variables = [
        (b"QUERY_STRING", query),
        (b"REQUEST_METHOD", method),
        (b"CONTENT_TYPE", b""),
        (b"CONTENT_LENGTH", b""),
        (b"REQUEST_URI", target),
        (b"PATH_INFO", path),
        (b"DOCUMENT_ROOT", b"/usr/share/nginx/html"),
        (b"SERVER_PROTOCOL", version),
        (b"REQUEST_SCHEME", b"http"),
        (b"REMOTE_ADDR", b"127.0.0.1"),
        (b"REMOTE_PORT", b"40000"),
        (b"SERVER_PORT", b"80"),
        (b"SERVER_NAME", b"localhost"),
    ]
    for field in fields:
        name, _, value = field.partition(b":")
        key = b"HTTP_" + name.upper().replace(b"-", b"_")
        variables.append((key, value.strip()))
    sized = (struct.pack("<H", len(w)) + w for pair in variables for w in pair)
    body = b"".join(sized)
    return struct.pack("<BHB", 0, len(body), 0) + body


@dataclass(frozen=True)
class Workload:
    """One row of the table."""

    name: str
    app: str
    expect: bytes | int  # the body, or how long it is when it is large
    says: str
    connections: int = 32
    make: Callable[[], tuple[bytes, ...]] = lambda: (TWO_LINE,)
    pipeline: int = 1
    close: bool = False
    chunked: bool = False  # how the floor answers
    file: int = 0  # bytes of the file that the floor sends
    idle: int = 0  # connections open beside the load
    threads: int = 4  # of gthread
    peers: tuple[str, ...] = ()  # the only ones that have this row; none: all
    worker_class: str = "sync"  # ours
    access_log: bool = False
    defer_accept: bool = False  # ours and the floor's; others do what they always do
    uwsgi: bool = False  # asked by its packets, over a Unix socket

    @property
    def requests(self) -> tuple[bytes, ...]:
        """The requests as they are sent, all of one length; several are sent in turn."""
        made = self.make()
        return tuple(map(uwsgi_packet, made)) if self.uwsgi else made

    @property
    def upload(self) -> int:
        """Bytes behind the head of a request, as they are sent."""
        return len(self.requests[0].partition(b"\r\n\r\n")[2])

    @property
    def expected_length(self) -> int:
        return self.expect if isinstance(self.expect, int) else len(self.expect)


_UPLOAD = 1_048_576
_GUNICORNS = ("gunicorn-sync", "gunicorn-gthread", "gunicorn-gevent")

ALL = (
    Workload("hello", "hello", apps.HELLO, "two-line request, keep-alive"),
    Workload(
        "browser",
        "hello",
        apps.HELLO,
        "11 header fields, query and cookies, always the same",
        make=lambda: (browser(),),
    ),
    Workload(
        "browser-new",
        "hello",
        apps.HELLO,
        f"the same, with query and cookie new each time ({VARIANTS} in turn)",
        make=varied,
    ),
    Workload(
        "close",
        "hello",
        apps.HELLO,
        "a connection for each request",
        make=lambda: (CLOSE,),
        close=True,
    ),
    Workload(
        "close-defer",
        "hello",
        apps.HELLO,
        "a connection for each request, ours with defer_accept",
        make=lambda: (CLOSE,),
        close=True,
        defer_accept=True,
    ),
    Workload(
        "pipelined",
        "hello",
        apps.HELLO,
        f"{PIPELINE} requests in one write",
        pipeline=PIPELINE,
    ),
    Workload(
        "hello-nolen",
        "hello_nolen",
        apps.HELLO,
        "the app leaves Content-Length to the server",
    ),
    Workload(
        "hello-idle",
        "hello",
        apps.HELLO,
        "hello beside 10,000 idle keep-alive connections",
        idle=10_000,
    ),
    Workload(
        "hello-log",
        "hello",
        apps.HELLO,
        "hello with the access log on, into a file",
        peers=("granian", "uwsgi", *_GUNICORNS),
        access_log=True,
    ),
    Workload(
        "hello-gthread",
        "hello",
        apps.HELLO,
        "hello by our gthread, 4 threads, beside others with threads",
        peers=("granian", "gunicorn-gthread", "waitress", "cheroot"),
        worker_class="gthread",
    ),
    Workload(
        "hello-gevent",
        "hello",
        apps.HELLO,
        "hello by our gevent, beside others with greenlets",
        peers=("meinheld", "gunicorn-gevent"),
        worker_class="gevent",
    ),
    Workload(
        "uwsgi",
        "hello",
        apps.HELLO,
        "the browser's request as uwsgi packets over a Unix socket",
        make=lambda: (browser(),),
        peers=("uwsgi",),
        close=True,
        uwsgi=True,
    ),
    Workload("flask", "flask", apps.HELLO, "hello from Flask", connections=16),
    Workload(
        "django",
        "django",
        apps.HELLO,
        "hello from Django with its default middleware",
        connections=16,
    ),
    Workload("10k", "10k", 10_000, "a response of 10 KB", connections=8),
    Workload("1m", "1m", 1_000_000, "a response of 1 MB", connections=8),
    Workload(
        "post-64k",
        "post",
        b"65536",
        "64 KiB posted, read whole",
        connections=8,
        make=lambda: (upload(65_536),),
    ),
    Workload(
        "post-1m",
        "post",
        b"1048576",
        "1 MiB posted, read whole",
        connections=8,
        make=lambda: (upload(_UPLOAD),),
    ),
    Workload(
        "post-chunked",
        "post",
        b"1048576",
        "1 MiB posted in chunks of 4 KiB, read whole",
        connections=8,
        make=lambda: (chunked_upload(_UPLOAD, 4096),),
    ),
    Workload(
        "stream",
        "stream",
        apps.CHUNKS * len(apps.CHUNK),
        "a generator of 100 chunks of 1 KiB",
        connections=8,
        chunked=True,
    ),
    *(
        Workload(
            name.replace("_", "-"),
            name,
            size,
            f"wsgi.file_wrapper, {size:,} bytes",
            connections=8,
            file=size,
        )
        for name, size in apps.FILE_SIZES.items()
    ),
)


def named(name: str) -> Workload:
    for workload in ALL:
        if workload.name == name:
            return workload
    known = ", ".join(workload.name for workload in ALL)
    raise SystemExit(f"bench: no workload {name!r}; there are: {known}")
