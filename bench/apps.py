"""The WSGI apps that every server is measured with."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

App = Callable[[dict[str, Any], Any], Iterable[bytes]]

HELLO = b"Hello, world!"
CHUNK = b"c" * 1024
CHUNKS = 100
NAP_S = 0.01
SLOW_S = 0.2
EVENT = b"data: {}\n\n"
EVENT_S = 0.1
FILE_SIZES = {"file_1k": 1_000, "file_100k": 100_000, "file_10m": 10_000_000}


def hello(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", "13")])
    return [HELLO]


def hello_nolen(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
    """Leaves the length to the server: some then answer in two packets."""
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [HELLO]


def body_of(size: int) -> App:
    """An app that answers with so many bytes, made once."""
    body = b"x" * size
    headers = [("Content-Type", "text/plain"), ("Content-Length", str(size))]

    def app(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        start_response("200 OK", headers)
        return [body]

    return app


def post(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
    """Reads the whole body at once and answers how long it was."""
    answer = b"%d" % len(environ["wsgi.input"].read())
    start_response(
        "200 OK",
        [("Content-Type", "text/plain"), ("Content-Length", str(len(answer)))],
    )
    return [answer]


def stream(environ: dict[str, Any], start_response: Any) -> Iterator[bytes]:
    start_response("200 OK", [("Content-Type", "text/plain")])
    for _ in range(CHUNKS):
        yield CHUNK


def nap(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
    """Waits as for a database that is quick."""
    time.sleep(NAP_S)
    return hello(environ, start_response)


def compute(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
    """Keeps the interpreter busy for about a millisecond."""
    total = 0
    for number in range(20_000):
        total += number
    return hello(environ, start_response)


def mix(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
    """Waits long for one path, and not at all for others."""
    if environ["PATH_INFO"] == "/slow":
        time.sleep(SLOW_S)
    return hello(environ, start_response)


def events(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
    """Server-sent events without an end, as often as the query says."""
    if not environ["QUERY_STRING"]:
        return hello(environ, start_response)
    start_response("200 OK", [("Content-Type", "text/event-stream")])
    return _one_after_another(float(environ["QUERY_STRING"]))


def _one_after_another(pause_s: float) -> Iterator[bytes]:
    while True:
        yield EVENT
        time.sleep(pause_s)


def sample_file(size: int) -> Path:
    """A file of that size, made on first use and shared by all servers."""
    path = Path(tempfile.gettempdir()) / f"pywsgiserve-bench-{os.getuid()}-{size}"
    if not path.exists() or path.stat().st_size != size:
        path.write_bytes(b"f" * size)
    return path


def _blocks(file: BinaryIO) -> Iterator[bytes]:
    with file:
        while block := file.read(65536):
            yield block


def file_of(size: int) -> App:
    """An app that hands a file to the server; as PEP 3333 shows it, with a fallback."""
    path = str(sample_file(size))
    headers = [("Content-Type", "text/plain"), ("Content-Length", str(size))]

    def app(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        start_response("200 OK", headers)
        file = open(path, "rb")  # closed by the server, through the iterable
        if "wsgi.file_wrapper" in environ:
            return environ["wsgi.file_wrapper"](file, 65536)  # type: ignore[no-any-return]
        return _blocks(file)

    return app


def flask_hello() -> App:
    from flask import Flask, Response  # only for its own row

    app = Flask("bench")

    @app.get("/")
    def index() -> Response:
        return Response(HELLO, mimetype="text/plain")

    return app


def django_hello() -> App:
    """Django as `startproject` sets it up, every default middleware included."""
    import django  # only for its own row
    from django.conf import settings
    from django.core.wsgi import get_wsgi_application
    from django.http import HttpRequest, HttpResponse
    from django.urls import path

    def index(request: HttpRequest) -> HttpResponse:
        return HttpResponse(HELLO, content_type="text/plain")

    settings.configure(
        ALLOWED_HOSTS=["*"],
        SECRET_KEY="only for the benchmark",
        ROOT_URLCONF=(path("", index),),
        SESSION_ENGINE="django.contrib.sessions.backends.signed_cookies",
        INSTALLED_APPS=[
            "django.contrib.contenttypes",
            "django.contrib.auth",
            "django.contrib.sessions",
            "django.contrib.messages",
        ],
        MIDDLEWARE=[
            "django.middleware.security.SecurityMiddleware",
            "django.contrib.sessions.middleware.SessionMiddleware",
            "django.middleware.common.CommonMiddleware",
            "django.middleware.csrf.CsrfViewMiddleware",
            "django.contrib.auth.middleware.AuthenticationMiddleware",
            "django.contrib.messages.middleware.MessageMiddleware",
            "django.middleware.clickjacking.XFrameOptionsMiddleware",
        ],
    )
    django.setup()
    return get_wsgi_application()  # type: ignore[no-any-return]


_FACTORIES: dict[str, Callable[[], App]] = {
    "hello": lambda: hello,
    "hello_nolen": lambda: hello_nolen,
    "10k": lambda: body_of(10_000),
    "1m": lambda: body_of(1_000_000),
    "post": lambda: post,
    "stream": lambda: stream,
    "nap": lambda: nap,
    "compute": lambda: compute,
    "mix": lambda: mix,
    "events": lambda: events,
    "flask": flask_hello,
    "django": django_hello,
    **{name: partial(file_of, size) for name, size in FILE_SIZES.items()},
}


def load(name: str) -> App:
    return _FACTORIES[name]()
