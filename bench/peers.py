"""Which servers are compared, and the command that starts each."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from importlib import metadata
from pathlib import Path

from bench import apps
from bench.workloads import Workload

CHECKOUT = Path(__file__).resolve().parent.parent
FLOOR = "floor"
FLOOR_AGAIN = "floor-again"  # shows how far two runs of one program differ
OURS = "pywsgiserve"

Command = Callable[[Workload, int, Path], list[str]]


@dataclass(frozen=True)
class Peer:
    """A server: its name, how it starts, and how to tell that it is installed."""

    name: str
    command: Command  # (workload, port, scratch folder) -> argv
    probe: str = ""  # Python that fails when the peer is not there
    package: str = ""
    why_not: str = "not installed (python -m pip install {package})"

    def takes(self, workload: Workload) -> bool:
        """Whether it has that row; the floor and we have them all."""
        everywhere = self.name in (FLOOR, FLOOR_AGAIN, OURS)
        return everywhere or not workload.peers or self.name in workload.peers

    def missing(self) -> str:
        """Why it is left out; empty when it is there."""
        return _error_of(self.probe) and self.why_not.format(package=self.package)

    def version(self) -> str:
        try:
            return metadata.version(self.package) if self.package else ""
        except metadata.PackageNotFoundError:
            return "checkout"


@cache
def _error_of(code: str) -> str:
    """Try it in another process: some servers do things when they are imported."""
    if not code:
        return ""
    command = [sys.executable, "-c", code]
    run = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True)
    return run.stderr if run.returncode else ""


def floor_answer(workload: Workload) -> bytes:
    """The bytes that a good server would answer, with Date and Server as usual."""
    fields = ["HTTP/1.1 200 OK", "Server: floor", "Date: Thu, 01 Jan 2026 00:00:00 GMT"]
    fields.append("Content-Type: text/plain")
    if workload.close:
        fields.append("Connection: close")
    if workload.chunked:
        fields.append("Transfer-Encoding: chunked")
        piece = b"%x\r\n" % len(apps.CHUNK) + apps.CHUNK + b"\r\n"
        body = piece * apps.CHUNKS + b"0\r\n\r\n"
    else:
        fields.append(f"Content-Length: {workload.expected_length}")
        body = b"x" * workload.expected_length
        if isinstance(workload.expect, bytes):
            body = workload.expect
        if workload.file:
            body = b""
    return "\r\n".join([*fields, "", ""]).encode() + body


def uwsgi_socket(port: int, scratch: Path) -> Path:
    """Where a server listens that is asked by uwsgi packets, in place of that port."""
    return scratch / f"{port}.sock"


def built(name: str, scratch: Path) -> Path:
    """The C program of that name in this folder, compiled once."""
    program = scratch / name
    if not program.exists():
        source = Path(__file__).with_name(f"{name}.c")
        subprocess.run(["cc", "-O2", "-o", str(program), str(source)], check=True)
    return program


def _floor(workload: Workload, port: int, scratch: Path) -> list[str]:
    answer = scratch / f"answer-{workload.name}"
    answer.write_bytes(floor_answer(workload))
    command = [str(built("floor", scratch)), "-p", str(port), "-a", str(answer)]
    command += ["-b", str(workload.upload)]
    if workload.close:
        command.append("-c")
    if workload.defer_accept:
        command.append("-d")
    if workload.file:
        command += ["-f", str(apps.sample_file(workload.file))]
    if workload.uwsgi:
        command += ["-u", str(uwsgi_socket(port, scratch))]
        command += ["-n", str(len(workload.requests[0]))]
    return command


def _called(name: str) -> Command:
    def command(workload: Workload, port: int, scratch: Path) -> list[str]:
        return [sys.executable, "-m", "bench.serve", name, str(port)]

    return command


def _ours(workload: Workload, port: int, scratch: Path) -> list[str]:
    settings: dict[str, object] = {}
    if workload.worker_class != "sync":
        settings["worker_class"] = workload.worker_class
    if workload.worker_class == "gthread":
        settings["threads"] = workload.threads
    if workload.access_log:
        settings["accesslog"] = "-"
    if workload.defer_accept:
        settings["defer_accept"] = True
    if workload.uwsgi:
        bind = f"unix:{uwsgi_socket(port, scratch)}"
        settings |= {"protocol": "uwsgi", "bind": bind}
    return [*_called(OURS)(workload, port, scratch), json.dumps(settings)]


def _granian(workload: Workload, port: int, scratch: Path) -> list[str]:
    return granian(port, threads=1, access_log=workload.access_log)


def granian(port: int, *, threads: int, access_log: bool = False) -> list[str]:
    options = "--interface wsgi --workers 1 --runtime-threads 1"
    options += f" --blocking-threads {threads} --workers-kill-timeout 1"
    options += " --backpressure 20000"  # connections at a time
    options += f" --no-ws --http 1 --{'' if access_log else 'no-'}access-log"
    options += f" --host 127.0.0.1 --port {port}"
    return [sys.executable, "-m", "granian", *options.split(), "bench.wsgi:application"]


def worker_options(kind: str, workload: Workload, port: int) -> str:
    """What Gunicorn and we are both told."""
    options = f"--bind 127.0.0.1:{port} --workers 1 --worker-class {kind}"
    options += " --worker-connections 20000 --keep-alive 60 --log-level warning"
    options += " --graceful-timeout 1"
    if kind == "gthread":
        options += f" --threads {workload.threads}"
    return options


def gunicorn(kind: str) -> Command:
    def command(workload: Workload, port: int, scratch: Path) -> list[str]:
        options = worker_options(kind, workload, port)
        if workload.access_log:
            options += " --access-logfile -"
        if _gunicorn_has_control_socket():
            options += " --no-control-socket"
        program = [sys.executable, "-m", "gunicorn"]
        return [*program, *options.split(), "bench.wsgi:application"]

    return command


def _gunicorn_has_control_socket() -> bool:
    return int(metadata.version("gunicorn").split(".")[0]) >= 25


def _uwsgi(workload: Workload, port: int, scratch: Path) -> list[str]:
    """Keep-alive is only in its router, a process of its own; it counts too."""
    options = "--module bench.wsgi:application --master --die-on-term"
    options += " --single-interpreter --need-app --workers 1 --listen 1024"
    if not workload.access_log:
        options += " --disable-logging"
    if workload.uwsgi:
        options += f" --uwsgi-socket {uwsgi_socket(port, scratch)}"
    elif workload.close:
        options += f" --http-socket 127.0.0.1:{port} --add-header Connection:close"
    else:
        options += f" --http 127.0.0.1:{port} --http-keepalive=60 --http-auto-chunked"
        options += " --add-header Connection:keep-alive"
    program = Path(sys.executable).with_name("uwsgi")
    return [str(program), *options.split()]


ALL = (
    Peer(FLOOR, _floor),
    Peer(
        OURS,
        _ours,
        "from pywsgiserve import run",
        "pywsgiserve",
        "not built (python setup.py build_ext --inplace)",
    ),
    Peer("bjoern", _called("bjoern"), "import bjoern", "bjoern"),
    Peer("fastwsgi", _called("fastwsgi"), "import fastwsgi", "fastwsgi"),
    Peer("fastpysgi", _called("fastpysgi"), "import fastpysgi", "fastpysgi"),
    Peer("granian", _granian, "import granian", "granian"),
    Peer(
        "meinheld",
        _called("meinheld"),
        "import meinheld.server",
        "meinheld",
        "not installed: what meinheld 1.0.2 requires does not compile on CPython 3.11 "
        "or later; bench/README.md says how to have it with another greenlet",
    ),
    Peer("uwsgi", _uwsgi, "import pyuwsgi", "pyuwsgi"),
    Peer("gunicorn-sync", gunicorn("sync"), "import gunicorn", "gunicorn"),
    Peer("gunicorn-gthread", gunicorn("gthread"), "import gunicorn", "gunicorn"),
    Peer("gunicorn-gevent", gunicorn("gevent"), "import gunicorn, gevent", "gunicorn"),
    Peer("waitress", _called("waitress"), "import waitress", "waitress"),
    Peer("cheroot", _called("cheroot"), "import cheroot.wsgi", "cheroot"),
    Peer(FLOOR_AGAIN, _floor),
)


def chosen(names: list[str]) -> list[Peer]:
    """The peers of these names, in this order; all for none. The floor comes first."""
    known = {peer.name: peer for peer in ALL}
    for name in names:
        if name not in known:
            raise SystemExit(f"bench: no peer {name!r}; there are: {', '.join(known)}")
    wanted = list(known) if not names else [FLOOR, *(n for n in names if n != FLOOR)]
    return [known[name] for name in wanted]
