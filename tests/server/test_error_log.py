"""The error log of a real server: no client floods it, no reader of it holds up the server."""

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys

import pytest

from tests.client import Client
from tests.process import ROOT, START_S, STOP_S, environment

BURST = 20


# What clients cause


def refuse(server, times):
    for _ in range(times):
        with server.connect() as client:
            client.send(b"BAD\r\n\r\n")
            assert client.response().status == 400


def test_refusals_do_not_flood_the_log_and_are_counted(serve):
    with serve("hello", killed=True) as server:
        refuse(server, BURST + 13)
        assert server.stop() == 0
        server.wait_for(r"\[WARNING\] Invalid request: 13 similar lines left out$")

        lines = re.findall(r"\[WARNING\] Invalid request from", server.stderr)
        assert len(lines) == BURST


def test_bodies_cut_under_the_app_do_not_flood_the_log(serve):
    settings = {"request_buffering": False, "killed": True}
    with serve("reader:raises", **settings) as server:
        for _ in range(BURST + 5):
            with server.connect() as client:
                client.send(
                    b"POST /up HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n"
                )
                client.half_close()
                client.gone()
        assert server.stop() == 0
        server.wait_for(r"\[WARNING\] Request cut short: 5 similar lines left out$")

        lines = re.findall(r"\[WARNING\] POST /up: the client has gone$", server.stderr,
                           re.MULTILINE)  # fmt: skip
        assert len(lines) == BURST
        assert "Traceback" not in server.stderr


def test_a_wrong_length_of_the_app_is_said_but_not_for_ever(serve):
    with serve("closing", killed=True) as server, server.connect() as client:
        for _ in range(BURST + 2):
            client.get("/too-long")
        assert server.stop() == 0
        server.wait_for(r"Content-Length: 2 similar lines left out$")

        assert server.stderr.count("GET /too-long: the app's body is longer") == BURST


def test_no_traceback_is_left_out(serve):
    """They are the app's: a client cannot be blamed for them."""
    with serve("failing", killed=True) as server:
        for number in range(3 * BURST):
            with server.connect() as client:
                assert client.get(f"/at_once?{number}").status == 500
        assert server.stop() == 0
        server.wait_for("Shutting down")

        seen = re.findall(r"GET /at_once\?(\d+)\nTraceback", server.stderr)
        assert seen == [str(number) for number in range(3 * BURST)]


@pytest.mark.parametrize(
    ("target", "shown"),
    [
        ("/at_once?\u009b2J", r"/at_once\?\\xc2\\x9b2J"),
        (
            "/at_once?\u0080\u009f\u00a0",
            "/at_once\\?\\\\xc2\\\\x80\\\\xc2\\\\x9f\u00a0",
        ),
        ("/at_once?\u00e4\u20ac\U0001f600", "/at_once\\?\u00e4\u20ac\U0001f600"),
    ],
)
def test_controls_in_a_target_are_escaped_and_text_stays(serve, target, shown):
    """C1 controls drive terminals as much as those that begin with ESC."""
    with serve("failing") as server, server.connect() as client:
        client.send(f"GET {target} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        assert client.response().status == 500

        server.wait_for(f"Error handling request GET {shown}$")


def test_bytes_of_a_target_that_are_no_text_are_escaped(serve):
    with serve("failing") as server, server.connect() as client:
        client.send(b"GET /at_once?\x9b2J\xff HTTP/1.1\r\nHost: x\r\n\r\n")
        assert client.response().status == 500

        server.wait_for(r"Error handling request GET /at_once\?\\x9b2J\\xff$")


# Where it goes


@contextlib.contextmanager
def launched(app, **process):
    """A server on an inherited socket: it needs no log to tell its address."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        fd = listener.fileno()
        settings = {"bind": f"fd://{fd}", "keepalive": 60}
        server = subprocess.Popen(
            [sys.executable, "-m", "tests.launch", app, json.dumps(settings)],
            cwd=ROOT,
            env=environment({}),
            pass_fds=(fd,),
            start_new_session=True,
            **process,
        )
        try:
            yield server, listener.getsockname()
        finally:
            server.kill()
            server.wait()


def served(address, path="/fine"):
    with socket.create_connection(address, timeout=START_S) as connection:
        client = Client(connection)
        connection.settimeout(START_S)
        return client.get(path).status


def nobody_reads():
    """A pipe that is full and stays so."""
    ours, theirs = os.pipe()
    os.set_blocking(theirs, False)
    with contextlib.suppress(BlockingIOError):
        while os.write(theirs, b"x" * 4096):
            pass
    os.set_blocking(theirs, True)
    return [ours], theirs


def gone():
    ours, theirs = os.pipe()
    os.close(ours)
    return [], theirs


def full_disk():
    return [], os.open("/dev/full", os.O_WRONLY)


def reset_socket():
    ours, theirs = socket.socketpair()
    ours.close()
    return [], theirs.detach()


BROKEN = [nobody_reads, gone, full_disk, reset_socket]


@pytest.mark.parametrize("broken", BROKEN, ids=lambda broken: broken.__name__)
@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
def test_a_broken_stderr_stops_nothing(broken, signum):
    kept, stderr = broken()
    try:
        with launched("failing", stderr=stderr, stdout=subprocess.PIPE) as (server, at):
            for _ in range(3):
                assert served(at) == 200
                assert served(at, "/at_once") == 500
            with socket.create_connection(at, timeout=START_S) as connection:
                client = Client(connection)
                client.send(b"BAD\r\n\r\n")
                assert client.response().status == 400
            assert os.get_blocking(stderr), "its flags are not ours to change"
            server.send_signal(signum)

            assert server.wait(STOP_S) == 0
            assert server.stdout.read() == b""
    finally:
        for fd in (*kept, stderr):
            os.close(fd)


def test_closed_standard_descriptors_are_never_a_clients():
    """Else a connection is descriptor 2, and gets what is meant for the log."""

    def close():
        for fd in (0, 1, 2):
            os.close(fd)

    with launched("failing", preexec_fn=close) as (server, at):
        for request in (b"GET /at_once HTTP/1.1\r\nHost: x\r\n\r\n", b"BAD\r\n\r\n"):
            with socket.create_connection(at, timeout=START_S) as connection:
                client = Client(connection)
                connection.settimeout(START_S)
                client.send(request)
                assert client.response().status >= 400
                assert client.to_end() == b""
        for fd in (0, 1, 2):
            assert os.readlink(f"/proc/{server.pid}/fd/{fd}") == "/dev/null"
        server.send_signal(signal.SIGTERM)

        assert server.wait(STOP_S) == 0
