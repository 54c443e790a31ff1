"""The error log of a real server: no client floods it, no reader of it holds up the server."""

import os
import re
import signal
import socket
import subprocess
import time

import pytest

from tests.client import DEADLINE_S, Client
from tests.process import START_S, STOP_S
from tests.streams import BROKEN, finish, launched, served

BURST = 20


# What clients cause


def refuse(server, times):
    for _ in range(times):
        with server.connect() as client:
            client.send(b"BAD\r\n\r\n")
            assert client.response().status == 400


@pytest.mark.one_process
def test_refusals_do_not_flood_the_log_and_are_counted(serve):
    with serve("hello", killed=True) as server:
        refuse(server, BURST + 13)
        assert server.stop() == 0
        server.wait_for(r"\[WARNING\] Invalid request: 13 similar lines left out$")

        lines = re.findall(r"\[WARNING\] Invalid request from", server.stderr)
        assert len(lines) == BURST


@pytest.mark.one_process
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


# Files

PREFIX = r"\[\d{4}-\d\d-\d\d \d\d:\d\d:\d\d [+-]\d{4}\] \[\d+\] "


def said(path, text):
    """Whether this is a line of the log, level and all."""
    return re.search(rf"^{PREFIX}{text}$", path.read_text(), re.MULTILINE) is not None


def ask(at, *requests):
    for request in requests:
        assert served(at, request) == 200


def test_all_that_is_said_comes_into_one_file_in_one_format(tmp_path):
    log = tmp_path / "error.log"
    with launched("failing", {"errorlog": str(log)}, stderr=subprocess.PIPE) as (
        server,
        at,
    ):
        assert served(at) == 200
        assert served(at, "/at_once") == 500
        with socket.create_connection(at, timeout=START_S) as connection:
            Client(connection).send(b"BAD\r\n\r\n")
            assert Client(connection).response().status == 400
        finish(server)
        assert server.stderr.read() == b""

    assert said(log, r"\[INFO\] Listening at: .*")
    assert said(log, r"\[ERROR\] Error handling request GET /at_once")
    assert said(log, r"\[WARNING\] Invalid request from ip=127\.0\.0\.1: .*")
    assert said(log, r"\[INFO\] Handling signal: term")
    assert said(log, r"\[INFO\] Shutting down")


def test_apps_log_with_the_loggers_of_gunicorn(tmp_path):
    log = tmp_path / "error.log"
    with launched("logging_app", {"errorlog": str(log)}) as (server, at):
        ask(at, "/gunicorn-info?one", "/pywsgiserve-error?two", "/borrow?three")
        ask(at, "/gunicorn-debug?no", "/exception?four", "/errors?five")
        finish(server)

    assert said(log, r"\[INFO\] one")
    assert said(log, r"\[ERROR\] two")
    assert said(log, r"\[INFO\] three")
    assert said(log, r"\[ERROR\] caught\nTraceback [^\[]*\nValueError: four")
    assert "\nfive\n" in log.read_text()
    assert "no" not in re.findall(r"\] (\w+)$", log.read_text(), re.MULTILINE)


def test_an_app_may_log_while_it_is_imported(tmp_path):
    log = tmp_path / "error.log"
    command = ["--error-logfile", str(log)]
    with launched("tests.apps.logging_app", command=command) as (server, at):
        ask(at, "/errors?x")
        finish(server)

    assert said(log, r"\[WARNING\] imported")


def test_loglevel_holds_for_the_server_and_for_the_loggers(tmp_path):
    log = tmp_path / "error.log"
    settings = {"errorlog": str(log), "loglevel": "warning"}
    with launched("logging_app", settings) as (server, at):
        ask(at, "/gunicorn-info?one", "/gunicorn-warning?two", "/borrow?three")
        finish(server)

    assert re.fullmatch(rf"{PREFIX}\[WARNING\] two\n", log.read_text())


def test_debug_lines_are_there_when_asked_for(tmp_path):
    log = tmp_path / "error.log"
    settings = {"errorlog": str(log), "loglevel": "debug"}
    with launched("logging_app", settings) as (server, at):
        ask(at, "/gunicorn-debug?one")
        finish(server)

    assert said(log, r"\[DEBUG\] one")


def test_controls_in_what_the_loggers_say_are_escaped(tmp_path):
    log = tmp_path / "error.log"
    with launched("logging_app", {"errorlog": str(log)}) as (server, at):
        ask(at, "/gunicorn-info?\x9b2J")  # As it comes: U+009B, in Latin-1
        finish(server)

    assert said(log, r"\[INFO\] .*\\x9b2J")


@pytest.mark.parametrize("capture", [True, False])
def test_capture_output_sends_what_is_printed_to_the_file(tmp_path, capture):
    log = tmp_path / "error.log"
    settings = {"errorlog": str(log), "capture_output": capture}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    with launched("logging_app", settings, **pipes) as (server, at):
        ask(at, "/print?one", "/stderr?two", "/errors?three")
        seen = log.read_text()  # At once: lines do not wait for a buffer to fill.
        finish(server)
        printed = server.stdout.read().decode()

    assert "\nthree\n" in seen
    assert ("\none\n" in seen, "\ntwo\n" in seen) == (capture, capture)
    assert ("one" in printed, "two" in printed) == (not capture, not capture)


def test_without_a_file_nothing_is_captured():
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
    with launched("logging_app", {"capture_output": True}, **pipes) as (server, at):
        ask(at, "/print?one")
        finish(server)

        assert server.stdout.read() == b"one\n"


def test_streams_have_names(tmp_path):
    """Where stdout is a socket, as with systemd, /dev/stdout cannot be opened."""
    ours, theirs = socket.socketpair()
    settings = {"errorlog": "/dev/stdout"}
    with ours, theirs, launched("hello", settings, stdout=theirs) as (server, at):
        assert served(at) == 200
        finish(server)
        theirs.close()

        assert b"Shutting down" in ours.recv(65536)


def rotate(server, at, log):
    """Rename a log, ask for a new one, and wait until it is there."""
    old = log.with_suffix(".1")
    log.rename(old)
    server.send_signal(signal.SIGUSR1)
    deadline = time.monotonic() + DEADLINE_S
    while not log.exists():
        assert time.monotonic() < deadline
        ask(at, "/errors?between")
    return old


def test_renamed_logs_are_opened_again(tmp_path):
    error, access = tmp_path / "error.log", tmp_path / "access.log"
    settings = {
        "errorlog": str(error),
        "capture_output": True,
        "accesslog": str(access),
        "access_log_format": "%(U)s?%(q)s",
    }
    with launched("logging_app", settings) as (server, at):
        ask(at, "/errors?one", "/print?two")
        old_access = access.rename(tmp_path / "access.1")
        old_error = rotate(server, at, error)
        ask(at, "/errors?three", "/print?four", "/gunicorn-info?five")
        finish(server)

    assert {"one", "two"} <= set(old_error.read_text().splitlines())
    assert {"three", "four"} <= set(error.read_text().splitlines())
    assert not {"three", "four"} & set(old_error.read_text().splitlines())
    assert said(old_error, r"\[INFO\] Handling signal: usr1")
    assert said(error, r"\[INFO\] five")
    lines = (old_access.read_text() + access.read_text()).splitlines()
    assert [line for line in lines if "between" not in line] == [
        *("/errors?one", "/print?two"),
        *("/errors?three", "/print?four", "/gunicorn-info?five"),
    ]
    assert "/gunicorn-info?five\n" in access.read_text()


def test_a_log_that_cannot_be_opened_again_goes_on_in_the_old_file(tmp_path):
    folder = tmp_path / "logs"
    folder.mkdir()
    log = folder / "error.log"
    with launched("logging_app", {"errorlog": str(log)}) as (server, at):
        ask(at, "/errors?one")
        moved = folder.rename(tmp_path / "moved") / "error.log"
        server.send_signal(signal.SIGUSR1)
        deadline = time.monotonic() + DEADLINE_S
        while "cannot write" not in moved.read_text():
            assert time.monotonic() < deadline
            ask(at, "/errors?between")
        ask(at, "/errors?two")
        finish(server)

    assert said(
        moved,
        r"\[ERROR\] errorlog: cannot write to '.*': No such file or directory; "
        r"going on with the old file",
    )
    assert "\ntwo\n" in moved.read_text()


def test_an_unwritable_log_is_an_error_that_names_setting_value_and_source(tmp_path):
    path = tmp_path / "missing" / "error.log"
    command = ["--error-logfile", str(path)]
    with launched("tests.apps.hello", command=command, stderr=subprocess.PIPE) as (
        server,
        _,
    ):
        text = server.stderr.read().decode()

        assert server.wait(STOP_S) == 1
        assert (
            f"Error: errorlog: cannot write to '{path}': No such file or directory "
            "(from the command line)\n"
        ) in text
