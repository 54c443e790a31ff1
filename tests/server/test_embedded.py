"""pywsgiserve.Server: a server in a thread, beside whatever else a process does."""

import subprocess
import sys
import textwrap

import pytest

from tests.process import DISASTERS, ROOT, environment

PREAMBLE = """
import os, signal, sys, threading, urllib.request
from pywsgiserve import ConfigError, Server, run

def app(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [environ["PATH_INFO"].encode()]

def get(server, path="/"):
    return urllib.request.urlopen(server.addresses[0] + path, timeout=60).read()

def raised(kind, call, *args, **settings):
    try:
        call(*args, **settings)
    except kind as error:
        return str(error)

HERE = {"bind": "127.0.0.1:0"}
"""


@pytest.fixture
def outcome():
    """outcome(code): what a program of its own prints; it must end well."""

    def run(code):
        done = subprocess.run(
            [sys.executable, "-c", PREAMBLE + textwrap.dedent(code)],
            cwd=ROOT,
            env=environment({}),
            capture_output=True,
            text=True,
            timeout=150,
        )
        assert done.returncode == 0, done.stderr
        assert not any(sign in done.stderr for sign in DISASTERS), done.stderr
        return done.stdout

    return run


def test_a_block_is_served_in_and_its_end_is_the_servers(outcome):
    code = """
    with Server(app, **HERE) as server:
        print(get(server, "/one"), get(server, "/two"))
        threads = threading.active_count()
    print(threads, threading.active_count(), raised(OSError, get, server) is not None)
    """
    assert outcome(code) == "b'/one' b'/two'\n2 1 True\n"


def test_it_listens_as_soon_as_it_is_made(outcome):
    """Who connects before start() is answered after it."""
    code = """
    import socket
    server = Server(app, **HERE)
    port = int(server.addresses[0].rpartition(":")[2])
    with socket.create_connection(("127.0.0.1", port), 60) as client:
        client.sendall(b"GET /early HTTP/1.0\\r\\n\\r\\n")
        server.start()
        print(client.makefile("rb").read().endswith(b"/early"))
    server.stop()
    """
    assert outcome(code) == "True\n"


def test_run_serves_in_a_thread_of_the_callers(outcome):
    code = """
    server = Server(app, **HERE)
    thread = threading.Thread(target=server.run)
    thread.start()
    print(get(server))
    server.stop()
    thread.join(60)
    print(thread.is_alive())
    """
    assert outcome(code) == "b'/'\nFalse\n"


def test_a_graceful_stop_finishes_the_request_in_hand(outcome):
    code = """
    entered, leave = threading.Event(), threading.Event()
    def slow(environ, start_response):
        entered.set()
        leave.wait(60)
        return app(environ, start_response)
    server = Server(slow, **HERE)
    server.start()
    got = []
    client = threading.Thread(target=lambda: got.append(get(server, "/slow")))
    client.start()
    entered.wait(60)
    stopper = threading.Thread(target=server.stop)
    stopper.start()
    leave.set()
    stopper.join(60)
    client.join(60)
    print(got)
    """
    assert outcome(code) == "[b'/slow']\n"


@pytest.mark.parametrize("when", ["before it has begun", "twice", "at once"])
def test_stop_is_harmless(outcome, when):
    code = f"""
    server = Server(app, **HERE)
    if {when!r} != "before it has begun":
        server.start()
    server.stop(graceful={when!r} != "at once")
    server.stop()
    print(raised(RuntimeError, server.start), "/", raised(OSError, get, server) is None)
    """
    assert outcome(code) == "a Server serves once: make another one / False\n"


def test_the_app_may_stop_its_server(outcome):
    code = """
    def last(environ, start_response):
        server.stop()
        return app(environ, start_response)
    server = Server(last, **HERE)
    server.start()
    print(get(server, "/last"))
    server.stop()
    """
    assert outcome(code) == "b'/last'\n"


def test_two_serve_beside_each_other(outcome):
    code = """
    with Server(app, **HERE) as one, Server(app, **HERE) as other:
        print(get(one, "/1"), get(other, "/2"), get(one, "/3"))
    """
    assert outcome(code) == "b'/1' b'/2' b'/3'\n"


def test_signals_are_left_alone(outcome):
    code = """
    asked = (signal.SIGTERM, signal.SIGINT)
    before = [signal.getsignal(s) for s in asked], signal.set_wakeup_fd(-1)
    with Server(app, **HERE) as server:
        get(server)
        print(before == ([signal.getsignal(s) for s in asked], signal.set_wakeup_fd(-1)))
        try:
            signal.raise_signal(signal.SIGINT)
        except KeyboardInterrupt:
            print(get(server))
    """
    assert outcome(code) == "True\nb'/'\n"


def test_a_forked_child_lets_go_and_leaves_the_block_unhurt(outcome):
    """multiprocessing does that: a fixture's end must not hang in each child."""
    code = """
    pid = None
    with Server(app, **HERE) as server:
        get(server)
        pid = os.fork()
        if pid:
            print(os.waitpid(pid, 0)[1], get(server, "/still"), flush=True)
    if pid == 0:
        os._exit(0)
    """
    assert outcome(code) == "0 b'/still'\n"


def test_a_process_may_end_while_it_serves(outcome):
    code = """
    server = Server(app, **HERE)
    server.start()
    print(get(server))
    """
    assert outcome(code) == "b'/'\n"


def test_a_unix_socket_is_removed_at_the_end(outcome, short_path):
    code = f"""
    path = "{short_path}/socket"
    with Server(app, bind="unix:" + path) as server:
        print(server.addresses == ("unix:" + path,), os.path.exists(path))
    print(os.path.exists(path))
    """
    assert outcome(code) == "True True\nFalse\n"


def test_the_access_log_is_written_and_closed(outcome, tmp_path):
    code = f"""
    files = len(os.listdir("/proc/self/fd"))
    with Server(app, accesslog="{tmp_path}/log", access_log_format="%(U)s", **HERE) as s:
        get(s, "/logged")
    print(open("{tmp_path}/log").read(), len(os.listdir("/proc/self/fd")) - files)
    """
    assert outcome(code) == "/logged\n 0\n"


@pytest.mark.parametrize(
    ("settings", "error"),
    [
        ({"bind": "127.0.0.1:99999"}, "bind: '127.0.0.1:99999'"),
        ({"workers": 2}, "workers: "),
        ({"wrokers": 1}, "wrokers: no such setting; did you mean workers?"),
    ],
)
def test_what_cannot_be_had_is_refused_and_leaves_nothing_open(
    outcome, settings, error
):
    code = f"""
    files = len(os.listdir("/proc/self/fd"))
    print(raised(ConfigError, Server, app, **{settings!r}))
    print(len(os.listdir("/proc/self/fd")) - files)
    print(raised(ConfigError, Server, None))
    """
    said, left, no_app = outcome(code).splitlines()

    assert said.startswith(error)
    assert left == "0"
    assert no_app == "app: expected a WSGI callable, got None"


def test_what_breaks_the_server_is_raised_by_stop(outcome):
    code = """
    server = Server(app, **HERE)
    server.start()
    for fd in os.listdir("/proc/self/fd"):
        try:
            what = os.readlink("/proc/self/fd/" + fd)
        except FileNotFoundError:  # It has been closed since.
            continue
        if what == "anon_inode:[eventpoll]":
            os.close(int(fd))
    raised(OSError, get, server)
    for thread in threading.enumerate():
        if thread is not threading.main_thread():
            thread.join(60)
    print(raised(OSError, server.stop), "/", raised(OSError, server.stop))
    """
    first, second = outcome(code).split(" / ")

    assert first.startswith("[Errno ")
    assert second == "None\n"


def test_run_in_the_main_thread_is_interrupted_as_any_call(outcome):
    code = """
    server = Server(app, **HERE)
    def client():
        get(server)
        os.kill(os.getpid(), signal.SIGINT)
    threading.Thread(target=client).start()
    print(raised(KeyboardInterrupt, server.run), raised(OSError, get, server) is None)
    """
    assert outcome(code) == " False\n"
