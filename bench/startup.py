"""`python -m bench.startup`: time from the command to the first answer, beside Gunicorn.

Wall time from the start of the process until a new connection gets its 200, for each
number of workers; rounds are interleaved, and ratios formed within a round.
"""

from __future__ import annotations

import argparse
import os
import signal
import socket
import subprocess
import sys
import time
from importlib.util import find_spec
from statistics import median

from bench.peers import CHECKOUT
from bench.process import ServerError, free_port

REQUEST = b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
PATIENCE_S = 60
LOOK_AGAIN_S = 0.001
SERVERS = ("pywsgiserve", "gunicorn")


def main() -> None:
    options = _options()
    names = [name for name in SERVERS if find_spec(name)]
    print(f"Milliseconds to the first answer, median of {options.rounds} rounds")
    for workers in options.workers:
        rounds = [
            {name: first_answer_ms(name, workers) for name in names}
            for _ in range(options.rounds)
        ]
        shown = [f"{name} {median(r[name] for r in rounds):.0f}" for name in names]
        ratios = [r[names[-1]] / r[names[0]] for r in rounds]
        print(
            f"{workers:>3} workers: {', '.join(shown)}; ratio {median(ratios):.2f} "
            f"({min(ratios):.2f} to {max(ratios):.2f})"
        )


def first_answer_ms(name: str, workers: int) -> float:
    """Start it, ask until it answers, stop it."""
    port = free_port()
    command = [sys.executable, "-m", name, "--workers", str(workers)]
    command += ["--bind", f"127.0.0.1:{port}", "bench.wsgi:application"]
    began = time.perf_counter()
    process = subprocess.Popen(
        command,
        cwd=CHECKOUT,
        env={**os.environ, "BENCH_APP": "hello", "PYTHONPATH": str(CHECKOUT)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        while not _answers(port):
            if process.poll() is not None or time.perf_counter() - began > PATIENCE_S:
                raise ServerError(f"{name} does not answer: {' '.join(command)}")
            time.sleep(LOOK_AGAIN_S)
        return (time.perf_counter() - began) * 1000
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(PATIENCE_S)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _answers(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), PATIENCE_S) as client:
            client.sendall(REQUEST)
            return client.recv(65536).startswith(b"HTTP/1.1 200 ")
    except OSError:
        return False


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser("python -m bench.startup", description=__doc__)
    add = parser.add_argument
    add("--rounds", type=int, default=8, help="(%(default)s)")
    add("--workers", type=int, nargs="+", default=[1, 16], help="(1 16)")
    return parser.parse_args()


if __name__ == "__main__":
    main()
