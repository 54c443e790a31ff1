"""`python -m bench.nginx`: behind nginx, by uwsgi beside uWSGI, by HTTP beside Gunicorn.

One worker each, logs off, over a Unix socket, the app's server on one core, nginx and wrk on
the other. Rounds are interleaved and their order rotates; the table has medians, and ratios
within a round. The CPU time is that of the app's server alone, without nginx.
"""

from __future__ import annotations

import argparse
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from bench import load, measure, workloads
from bench.client import BadAnswer, check
from bench.peers import CHECKOUT, Peer
from bench.process import Machine, Server, ServerError, free_port, raise_file_limit
from bench.stats import estimate

PATIENCE_S = 20
PROGRAMS = Path(sys.executable).parent
ROWS = ("hello", "browser", "10k", "post-64k")

CONF = """
daemon off;
worker_processes 1;
{user}
pid {place}/nginx.pid;
error_log {place}/error.log warn;
events {{ worker_connections 1024; }}
http {{
    access_log off;
    keepalive_requests 1000000000;
    client_body_buffer_size 128k;
    client_body_temp_path {place}/body;
    proxy_temp_path {place}/proxy;
    uwsgi_temp_path {place}/uwsgi;
    fastcgi_temp_path {place}/fastcgi;
    scgi_temp_path {place}/scgi;
    upstream site {{
        server unix:{place}/app.sock;
        {keep}
    }}
    server {{
        listen 127.0.0.1:{port} backlog=1024;
        location / {{ {passed} }}
    }}
}}
"""
BY_UWSGI = "include /etc/nginx/uwsgi_params; uwsgi_pass site;"
BY_HTTP = (
    "include /etc/nginx/proxy_params; proxy_http_version 1.1; "
    'proxy_set_header Connection ""; proxy_pass http://site;'
)


def ours(*words: str) -> list[str]:
    program = [sys.executable, "-m", "pywsgiserve", "bench.wsgi:application"]
    return [*program, "--log-level", "warning", "--backlog", "1024", *words]


def uwsgi(path: str) -> list[str]:
    options = "--module bench.wsgi:application --master --die-on-term --disable-logging"
    options += " --single-interpreter --need-app --workers 1 --listen 1024"
    # Its default is too small for a browser's header fields.
    options += " --buffer-size 65535"
    return [str(PROGRAMS / "uwsgi"), *options.split(), "--uwsgi-socket", path]


def gunicorn(kind: str) -> Callable[[str], list[str]]:
    def command(path: str) -> list[str]:
        options = f"--bind unix:{path} --workers 1 --log-level warning --keep-alive 75"
        options += f" --worker-class {kind} --backlog 1024"
        if kind == "gthread":
            options += " --threads 4"
        program = [sys.executable, "-m", "gunicorn"]
        return [*program, *options.split(), "bench.wsgi:application"]

    return command


@dataclass(frozen=True)
class Contender:
    name: str
    command: Callable[[str], list[str]]
    passed: str
    keep: str = ""  # connections of nginx to it

    @property
    def peer(self) -> Peer:
        return Peer(self.name, lambda workload, port, scratch: [])


UWSGI_OURS, HTTP_OURS = "uwsgi to us", "HTTP to us"
CONTENDERS = (
    Contender(
        UWSGI_OURS, lambda path: ours("--uwsgi-socket", f"unix:{path}"), BY_UWSGI
    ),
    Contender("uwsgi to uWSGI", uwsgi, BY_UWSGI),
    Contender(
        HTTP_OURS,
        lambda path: ours("--bind", f"unix:{path}", "--keep-alive", "75"),
        BY_HTTP,
        "keepalive 64;",
    ),
    Contender("HTTP to Gunicorn sync", gunicorn("sync"), BY_HTTP, "keepalive 64;"),
    Contender(
        "HTTP to Gunicorn gthread", gunicorn("gthread"), BY_HTTP, "keepalive 64;"
    ),
)


@contextmanager
def process(command: list[str], cpu: int, log: Path, app: str) -> Iterator[int]:
    """A session of its own on one core; asked to end at the end."""
    environ = {**os.environ, "BENCH_APP": app, "PYTHONPATH": str(CHECKOUT)}
    with log.open("wb") as output:
        started = subprocess.Popen(
            ["taskset", "-c", str(cpu), *command],
            cwd=CHECKOUT,
            env=environ,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    try:
        yield started.pid
    finally:
        started.terminate()
        try:
            started.wait(PATIENCE_S)
        except subprocess.TimeoutExpired:
            os.killpg(started.pid, signal.SIGKILL)
            started.wait()


def wait_for(family: int, address: str | tuple[str, int], log: Path) -> None:
    until = time.monotonic() + PATIENCE_S
    while time.monotonic() < until:
        with socket.socket(family) as probe:
            try:
                probe.connect(address)
                return
            except OSError:
                time.sleep(0.02)  # no two servers tell in the same way that they listen
    raise ServerError(f"it does not listen: {log.read_text(errors='replace')[-300:]}")


@contextmanager
def fronted(
    contender: Contender, workload: workloads.Workload, machine: Machine
) -> Iterator[Server]:
    """The app's server, with the port of the nginx in front of it."""
    with tempfile.TemporaryDirectory(dir=machine.scratch) as name:
        place, port = Path(name), free_port()
        path, log = str(place / "app.sock"), place / "log"
        conf = CONF.format(
            place=place,
            port=port,
            user="user root root;" if os.geteuid() == 0 else "",
            keep=contender.keep,
            passed=contender.passed,
        )
        (place / "nginx.conf").write_text(conf)
        front = ["nginx", "-p", name, "-c", str(place / "nginx.conf")]
        with (
            process(
                contender.command(path), machine.server_cpu, log, workload.app
            ) as pid,
            process(front, machine.load_cpu, place / "nginx.log", workload.app),
        ):
            wait_for(socket.AF_UNIX, path, log)
            wait_for(socket.AF_INET, ("127.0.0.1", port), place / "nginx.log")
            yield Server(contender.peer, workload, port, pid, log)


def sample(
    contender: Contender,
    workload: workloads.Workload,
    machine: Machine,
    number: int,
    seconds: float,
) -> measure.Sample:
    with fronted(contender, workload, machine) as server:
        check(server.port, workload)
        load.run(server, machine, measure.WARM_UP_SECONDS)
        return measure.window(server, machine, number, seconds)


Rows = dict[str, list[measure.Sample]]
FIGURES: tuple[tuple[Callable[[measure.Sample], float], str], ...] = (
    (lambda sample: sample.cpu_us, ".1f"),
    (lambda sample: sample.rps, ".0f"),
)


def measured(
    workload: workloads.Workload, machine: Machine, options: argparse.Namespace
) -> tuple[Rows, dict[str, str]]:
    """Samples by contender, and why there are none of some."""
    chosen = [c for c in CONTENDERS if c.name.split()[0] in options.by]
    rows: Rows = {contender.name: [] for contender in chosen}
    trouble: dict[str, str] = {}
    for number in range(options.rounds):
        turn = number % len(chosen)
        for contender in [*chosen[turn:], *chosen[:turn]]:
            if contender.name in trouble:
                continue
            try:
                one = sample(contender, workload, machine, number, options.seconds)
            except (ServerError, BadAnswer, FileNotFoundError) as error:
                trouble[contender.name] = str(error)
                continue
            rows[contender.name].append(one)
            told = f"{one.cpu_us:7.2f} us {one.rps:7.0f}/s busy {one.busy:4.0%}"
            print(f"  {workload.name} {number + 1} {contender.name:<24} {told}",
                  file=sys.stderr, flush=True)  # fmt: skip
    return rows, trouble


def against(rows: Rows, name: str, figure: Callable[[measure.Sample], float]) -> str:
    """A figure as a multiple of ours by the same protocol."""
    base = UWSGI_OURS if name.startswith("uwsgi") else HTTP_OURS
    theirs = {one.round: one for one in rows[base]}
    pairs = [(one, theirs[one.round]) for one in rows[name] if one.round in theirs]
    if name == base or not pairs:
        return "1" if pairs else "-"
    found = estimate([figure(one) / figure(other) for one, other in pairs])
    return f"{found.value:.2f} ({found.low:.2f} to {found.high:.2f})"


def main() -> None:
    options = _options()
    raise_file_limit()
    os.sched_setaffinity(0, {options.load_cpu})
    with tempfile.TemporaryDirectory(prefix="bench-") as scratch:
        machine = Machine(Path(scratch), options.server_cpu, options.load_cpu)
        print("| | | CPU us a request | by ours | requests/s | by ours |")
        print("| --- | --- | --- | --- | --- | --- |")
        for name in options.only:
            workload = workloads.named(name)
            rows, trouble = measured(workload, machine, options)
            for contender, samples in rows.items():
                if contender in trouble:
                    why = trouble[contender]
                    print(
                        f"| {name} | {contender} | invalid: {why} | | | |", flush=True
                    )
                    continue
                cells = [f"| {name} | {contender} "]
                for figure, form in FIGURES:
                    middle = median(figure(one) for one in samples)
                    ratio = against(rows, contender, figure)
                    cells.append(f"| {middle:{form}} | {ratio} ")
                print("".join(cells) + "|", flush=True)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser("python -m bench.nginx", description=__doc__)
    add = parser.add_argument
    add("--rounds", type=int, default=8, help="over all servers (%(default)s)")
    add("--seconds", type=float, default=3, help="of load in a round (%(default)s)")
    add("--only", nargs="+", default=ROWS, metavar="WORKLOAD", help="only these rows")
    add("--by", nargs="+", default=["uwsgi", "HTTP"], choices=["uwsgi", "HTTP"],
        help="only what is asked in this way")  # fmt: skip
    add("--server-cpu", type=int, default=0, help="(%(default)s)")
    add("--load-cpu", type=int, default=1, help="(%(default)s)")
    return parser.parse_args()


if __name__ == "__main__":
    main()
