"""Requests and workers that take too long: who is answered, what is logged, who dies."""

import contextlib
import os
import re
import signal

import pytest

import pywsgiserve
from tests import uwsgi_client as uwsgi
from tests.client import DEADLINE_S, Truncated
from tests.process import TIMEOUT, WORKER_CLASS, WORKERS, Pipe
from tests.server.test_preload import molds, those_at_work

pytestmark = pytest.mark.skipif(WORKERS > 0, reason="chooses its workers itself")

# Some ways to be stuck. A path with a query says in that named pipe that it is.
APP = """
import ctypes, os, random, signal, time

def lock_up(library):
    mutex = ctypes.create_string_buffer(64)
    library.pthread_mutex_lock(mutex)
    library.pthread_mutex_lock(mutex)  # No signal ends this.

def in_sleep():
    time.sleep(600)

def in_c_with_gil():
    lock_up(ctypes.PyDLL(None))

def in_c_without_gil():
    lock_up(ctypes.CDLL(None))

def in_spite_of_all():
    while True:
        try:
            time.sleep(600)
        except BaseException:
            pass

def once():
    try:
        time.sleep(600)
    except SystemExit:
        pass

class Late(Exception):
    pass

interrupts = 0

def interrupt(signum, frame):
    global interrupts
    interrupts += 1
    raise Late

def forks():
    signal.signal(signal.SIGALRM, interrupt)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    end = time.monotonic() + 5
    while interrupts < 100 and time.monotonic() < end:
        try:
            signal.setitimer(signal.ITIMER_REAL, random.uniform(1e-5, 6e-4))
            if os.fork() == 0:
                os._exit(0)
            signal.setitimer(signal.ITIMER_REAL, 0)
        except Late:
            pass
    signal.signal(signal.SIGALRM, signal.SIG_IGN)
    assert interrupts > 0

def begun():
    yield b"begun"
    in_spite_of_all()

def endless():
    # Until it is overdue; from then on its client does not let it go on.
    yield b"begun"
    while not os.path.exists("go"):
        time.sleep(0.01)
    while True:
        yield bytes(256 * 1024)

def app(environ, start_response):
    path = environ["PATH_INFO"]
    headers = [("Content-Type", "text/plain")]
    if path == "/big":
        start_response("200 OK", headers)
        return [bytes(8 * 1024 * 1024)]
    if path == "/body":
        body = environ["wsgi.input"].read()
        start_response("200 OK", headers)
        return [body]
    if path == "/held":
        with open(environ["QUERY_STRING"]) as pipe:
            text = pipe.read()
        start_response("200 OK", headers)
        return [text.encode()]
    if path == "/endless":
        start_response("200 OK", headers)
        return endless()
    if path == "/begun":
        start_response("200 OK", headers)
        return begun()
    if path != "/":
        if environ["QUERY_STRING"]:
            with open(environ["QUERY_STRING"], "w") as pipe:
                pipe.write("stuck")
        globals()[path[1:]]()
    start_response("200 OK", headers)
    return [str(os.getpid()).encode()]
"""

# Appended to it: a signal comes while the worker heeds the order to open its logs.
INTERRUPTED_ORDER = """
from pywsgiserve import logs

def interrupt_reopening():
    os.kill(os.getpid(), signal.SIGABRT)

logs.reopen = interrupt_reopening
run = app

def app(environ, start_response):
    environ["wsgi.errors"].write("waits for its client\\n")
    return run(environ, start_response)
"""

SHAPES = [(1, ()), (3, ()), (1, ("--preload",)), (3, ("--preload",))]
TOLD = r"\[CRITICAL\] WORKER REQUEST TIMEOUT \(pid:(\d+)\): GET /{}\S*, \d+\.\d s$"


@pytest.fixture
def site(place):
    (place / "main.py").write_text(APP)
    return place


@pytest.fixture
def pipe(place):
    return Pipe(place / "pipe")


def ask(client, target):
    client.socket.settimeout(6 * DEADLINE_S)
    client.send(f"GET {target} HTTP/1.1\r\nHost: x\r\n\r\n".encode())


def read_all(client):
    while client.chunk():
        pass


@pytest.mark.contract(cases=2)
@pytest.mark.parametrize(("workers", "words"), SHAPES)
def test_a_request_that_takes_too_long_is_a_504_and_a_new_worker(
    deploy, site, workers, words
):
    if WORKER_CLASS in ("gevent", "eventlet"):
        pytest.skip("its greenlet alone is interrupted: test_greenlets.py")
    if WORKER_CLASS == "gthread":
        pytest.skip("sleep() in a thread is not interrupted: test_threads.py")
    given = ("--request-timeout", "1", "--access-logfile", "access.log", *words)
    with deploy(*given, workers=workers) as server:
        first = those_at_work(server)
        with server.connect() as client:
            ask(client, "/in_sleep")
            answer = client.response()

            assert answer.status == 504
            assert answer.says_close
            assert client.closed()
        late = int(server.wait_for(TOLD.format("in_sleep"))[1])
        assert late in first
        server.wait_for(rf"\[ERROR\] Stacks of process {late}:\n(.*\n)*.* in in_sleep$")
        server.wait_for(r"Error handling request GET /in_sleep")
        server.wait_for(rf"Worker \(pid:{late}\) exited with code 1\. \(timed out\)$")
        now = server.wait_for_workers(workers + len(molds(server)), but=[late])
        assert len(now & first) == workers - 1
        assert server.get().status == 200
    lines = (site / "access.log").read_text().splitlines()
    assert [line for line in lines if '"GET /in_sleep HTTP/1.1" 504' in line]
    assert len([line for line in lines if "/in_sleep" in line]) == 1


@pytest.mark.parametrize(
    "where", ["in_c_with_gil", "in_c_without_gil", "in_spite_of_all"]
)
def test_who_cannot_be_interrupted_is_killed(deploy, site, where):
    given = ("--request-timeout", "1", "--access-logfile", "access.log")
    with deploy(*given) as server:
        with server.connect() as client:
            ask(client, f"/{where}")

            assert client.response().status == 504
            assert client.closed()
        late = int(server.wait_for(TOLD.format(where))[1])
        server.wait_for(rf"Stacks of process {late}:\n(.*\n)*.* in {where}$")
        server.wait_for(
            rf"Worker \(pid:{late}\) was sent SIGKILL! \(timed out\)$", 6 * DEADLINE_S
        )
        assert server.get().status == 200
    log = (site / "access.log").read_text()
    assert f'"GET /{where} HTTP/1.1" 504' in log


def test_a_late_result_is_dropped(deploy, site):
    with deploy("--request-timeout", "1") as server, server.connect() as client:
        ask(client, "/once")

        assert client.response().status == 504
        assert client.closed()
        late = server.wait_for(TOLD.format("once"))[1]
        server.wait_for(rf"Worker exiting \(pid: {late}\)$")


def test_an_answer_that_has_begun_is_cut(deploy, site):
    with deploy("--request-timeout", "1") as server, server.connect() as client:
        ask(client, "/begun")
        head = client.head()

        assert head.status == 200
        assert client.chunk() == b"begun"
        assert client.gone()
        server.wait_for(TOLD.format("begun"))
        server.wait_for(r"was sent SIGKILL! \(timed out\)$")


def test_an_overdue_answer_is_cut_though_its_client_does_not_read(deploy, site):
    given = ("--request-timeout", "1", "--graceful-timeout", "600")
    with deploy(*given, "--response-spool-limit", "1") as server:
        (late,) = server.workers()
        with (
            server.connect() as neighbour,
            server.connect(receive_buffer=4096) as client,
        ):
            assert int(neighbour.get().body) == late
            ask(client, "/endless")
            assert client.head().status == 200
            assert client.chunk() == b"begun"
            server.wait_for(TOLD.format("endless"))
            (site / "go").touch()
            ask(neighbour, "/")

            assert int(neighbour.response().body) == late
            server.wait_for(r"Error handling request GET /endless")
            with pytest.raises(Truncated):
                read_all(client)
        server.wait_for(rf"Worker exiting \(pid: {late}\)$")


def test_what_interrupts_a_wait_for_a_client_reaches_the_app(deploy, site):
    """A handler may run while the worker heeds an order, such as to open its logs."""
    with (site / "main.py").open("a") as main:
        main.write(INTERRUPTED_ORDER)
    with deploy("--no-request-buffering") as server, server.connect() as client:
        (worker,) = server.workers()
        client.send(b"POST /body HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\nab")
        server.wait_for("waits for its client")
        server.process.send_signal(signal.SIGUSR1)

        assert client.response().status == 500
        server.wait_for(r"Error handling request POST /body")
        server.wait_for(rf"Worker exiting \(pid: {worker}\)$")
        assert "unraisable" not in server.stderr


@pytest.mark.parametrize("setting", ["--request-timeout", "--timeout"])
def test_requests_behind_one_that_is_interrupted_are_served(
    deploy, site, pipe, setting
):
    with deploy(setting, TIMEOUT) as server:
        (late,) = server.workers()
        with server.connect() as neighbour, server.connect() as client:
            assert int(neighbour.get().body) == late
            ask(client, f"/in_sleep?{pipe}")
            assert pipe.read() == "stuck"
            ask(neighbour, "/")
            answer = neighbour.response()

            assert int(answer.body) == late
            assert answer.says_close
            assert client.response().status in (500, 504)
        server.wait_for(rf"Worker exiting \(pid: {late}\)$")


@pytest.mark.parametrize("setting", ["--request-timeout", "--timeout"])
def test_requests_behind_one_that_does_not_end_are_turned_away(
    deploy, site, pipe, setting
):
    with deploy(setting, TIMEOUT) as server:
        with server.connect() as neighbour, server.connect() as client:
            assert neighbour.get().status == 200
            ask(client, f"/in_spite_of_all?{pipe}")
            assert pipe.read() == "stuck"
            ask(neighbour, "/")
            answer = neighbour.response()

            assert answer.status == 503
            assert answer["Retry-After"] == "1"
            assert answer.says_close
            assert client.response().status == 504
        server.wait_for(r"was sent SIGKILL! \(timed out\)$")
        assert server.get().status == 200


def test_a_slow_reader_of_another_response_gets_all_of_it(deploy, site, pipe):
    with deploy("--request-timeout", "1") as server:
        with server.connect(receive_buffer=4096) as reader, server.connect() as client:
            ask(reader, "/big")
            assert reader.head().status == 200
            ask(client, f"/in_c_with_gil?{pipe}")
            assert pipe.read() == "stuck"

            assert client.response().status == 504
            assert len(reader.exactly(8 * 1024 * 1024)) == 8 * 1024 * 1024
        server.wait_for(r"was sent SIGKILL! \(timed out\)$", 6 * DEADLINE_S)


def test_what_clients_do_not_send_is_still_timed_while_an_app_is_stuck(
    deploy, site, pipe
):
    with deploy("--header-timeout", "1") as server:
        with server.connect() as silent, server.connect() as client:
            silent.send(b"GET / HT")
            ask(client, f"/held?{pipe}")

            assert silent.response().status == 408
            pipe.write("at last")
            assert client.response().body == b"at last"


def test_forks_that_the_app_interrupts_leave_the_relief_at_work(deploy, site, pipe):
    with deploy("--header-timeout", "1") as server:
        with server.connect() as client:
            ask(client, "/forks")
            assert client.response().status == 200
        with server.connect() as silent, server.connect() as client:
            silent.send(b"GET / HT")
            ask(client, f"/held?{pipe}")

            assert silent.response().status == 408
            pipe.write("at last")
            assert client.response().body == b"at last"


def test_connections_go_to_others_while_an_app_is_stuck(deploy, site, pipe):
    with deploy(workers=2) as server, server.connect() as client:
        ask(client, f"/in_sleep?{pipe}")
        assert pipe.read() == "stuck"
        others = {int(server.get().body) for _ in range(20)}

        assert len(others) == 1
        (stuck,) = server.workers() - others
        os.kill(stuck, signal.SIGABRT)
        assert client.response().status == 500


@pytest.mark.contract
def test_a_slow_request_is_told_of_once_and_answered(deploy, site, pipe):
    with deploy("--slow-request-timeout", "1") as server:
        with server.connect() as client:
            (worker,) = server.workers()
            ask(client, f"/held?{pipe}")
            server.wait_for(
                rf"\[WARNING\] SLOW REQUEST \(pid:{worker}\): GET /held\S+, \d+\.\d s$"
            )
            server.wait_for(rf"Stacks of process {worker}:\n(.*\n)*.* in app$")
            pipe.write("at last")

            assert client.response().body == b"at last"
            assert int(client.get().body) == worker
        assert server.stderr.count("SLOW REQUEST") == 1
        assert server.stderr.count("Stacks of") == 1


def test_waiting_for_a_client_takes_no_time_of_a_request(deploy, site):
    words = ("--request-timeout", "1", "--keep-alive", "2", "--no-request-buffering")
    with deploy(*words) as server:
        with server.connect() as clock, server.connect() as client:
            assert clock.get().status == 200
            client.send(
                b"POST /body HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\nab"
            )
            assert clock.closed()  # After two seconds.
            client.send(b"cd")

            assert client.response().body == b"abcd"
        assert "TIMEOUT" not in server.stderr


def test_a_retired_worker_says_close_though_its_app_is_stuck(deploy, site, pipe):
    with deploy("--header-timeout", "3") as server:
        (old,) = server.workers()
        with server.connect() as clock, server.connect() as client:
            assert clock.get().status == 200
            ask(client, f"/held?{pipe}")
            server.process.send_signal(signal.SIGHUP)
            server.wait_for(r"(?s)Hang up: Master.*Workers are ready")
            clock.send(b"GET / HT")
            assert clock.response().status == 408  # It polls, and has read the order.
            pipe.write("at last")
            answer = client.response()

        assert answer.body == b"at last"
        assert answer.says_close
        server.wait_for(rf"Worker exiting \(pid: {old}\)$")


@pytest.mark.parametrize("words", [(), ("--preload",)])
def test_a_boot_that_takes_too_long_tells_where_it_was(deploy, place, words):
    flag = place / "flag"
    (place / "main.py").write_text(
        "import os, time\n"
        "def in_boot():\n"
        "    time.sleep(600)\n"
        f"if not os.path.exists({str(flag)!r}):\n"
        f"    open({str(flag)!r}, 'w').close()\n"
        "    in_boot()\n"
        "from wsgiref.simple_server import demo_app as app\n"
    )
    with deploy("--timeout", TIMEOUT, *words, ready=False) as server:
        late = server.wait_for(r"\[CRITICAL\] WORKER TIMEOUT \(pid:(\d+)\)$")[1]
        server.wait_for(rf"Stacks of process {late}:\n(.*\n)*.* in in_boot$")
        server.wait_until_ready()


def test_the_log_tells_where_each_of_several_late_workers_is(deploy, site, pipe):
    with deploy("--request-timeout", "1", workers=3) as server:
        first = server.workers()
        with contextlib.ExitStack() as stack:
            clients = []
            for _ in range(3):  # Who is stuck accepts no other one.
                clients.append(stack.enter_context(server.connect()))
                ask(clients[-1], f"/in_sleep?{pipe}")
                assert pipe.read() == "stuck"
            for client in clients:
                assert client.response().status == 504
        for worker in first:
            server.wait_for(rf"Stacks of process {worker}:\n(.*\n)*.* in in_sleep$")
        server.wait_for_workers(3, but=first)


def test_one_late_request_behind_another_is_late_too(deploy, site, pipe):
    with deploy("--request-timeout", "1", "--graceful-timeout", "600") as server:
        with server.connect() as neighbour, server.connect() as client:
            assert neighbour.get().status == 200
            ask(client, f"/in_sleep?{pipe}")
            assert pipe.read() == "stuck"
            ask(neighbour, "/once")

            assert client.response().status == 504
            assert neighbour.response().status == 504
        late = server.wait_for(TOLD.format("once"))[1]
        server.wait_for(rf"Worker exiting \(pid: {late}\)$")


# Over uwsgi, where a connection has one request


FRONT = ("--uwsgi-socket", "unix:front")


def front(server, place):
    client = server.connect(f"unix:{place}/front")
    client.socket.settimeout(6 * DEADLINE_S)
    return client


@pytest.mark.parametrize(
    ("setting", "where", "status"),
    [
        ("--request-timeout", "in_sleep", 504),
        ("--request-timeout", "in_c_with_gil", 504),
        ("--timeout", "in_sleep", 500),
        ("--timeout", "in_c_with_gil", 504),
    ],
)
def test_a_front_end_hears_of_a_request_that_takes_too_long(
    deploy, site, setting, where, status
):
    with deploy(setting, TIMEOUT, "--access-logfile", "access.log", *FRONT) as server:
        (late,) = server.workers()
        with front(server, site) as client:
            client.send(uwsgi.request(f"/{where}"))

            assert client.response().status == status
            assert client.gone()
        server.wait_for(rf"TIMEOUT \(pid:{late}\)")
        server.wait_for(rf"GET /{where}, \d+\.\d s$")
        server.wait_for(rf"Stacks of process {late}:\n(.*\n)*.* in {where}$")
        server.wait_for(rf"Worker \(pid:{late}\) .*\(timed out\)$", 6 * DEADLINE_S)
        server.wait_for_workers(1, but=[late])
        with front(server, site) as client:
            client.send(uwsgi.request("/"))
            assert client.response().status == 200
    lines = (site / "access.log").read_text().splitlines()
    assert len([line for line in lines if f'"GET /{where} HTTP/1.1" {status}' in line])


def test_a_front_end_hears_that_it_is_turned_away(deploy, site, pipe):
    with deploy("--request-timeout", "1", "--header-timeout", "600", *FRONT) as server:
        packet = uwsgi.request("/")
        with front(server, site) as neighbour, front(server, site) as client:
            neighbour.send(packet[:10])
            client.send(uwsgi.request(f"/in_spite_of_all?{pipe}"))
            assert pipe.read() == "stuck"
            neighbour.send(packet[10:])
            answer = neighbour.response()

            assert answer.status == 503
            assert answer["Retry-After"] == "1"
            assert client.response().status == 504
        server.wait_for(r"was sent SIGKILL! \(timed out\)$", 6 * DEADLINE_S)


def test_a_front_end_does_not_wait_for_an_app_that_is_stuck(deploy, site, pipe):
    """A time-out, an answer and a body of others, while the app is in a call."""
    with deploy("--header-timeout", "2", *FRONT) as server:
        packet = uwsgi.request("/body", "POST", b"x" * 1_000_000)
        with (
            front(server, site) as reader,
            front(server, site) as late,
            front(server, site) as sender,
            front(server, site) as client,
        ):
            reader.send(uwsgi.request("/big"))
            assert reader.head().status == 200
            late.send(packet[:10])
            sender.send(packet[:500])
            client.send(uwsgi.request(f"/held?{pipe}"))
            assert late.response().status == 408
            assert reader.exactly(8 * 1024 * 1024) == bytes(8 * 1024 * 1024)
            sender.send(packet[500:])  # More than a socket holds.
            pipe.write("at last")

            assert client.response().body == b"at last"
            assert len(sender.response().body) == 1_000_000


def test_a_slow_request_of_a_front_end_is_told_of_and_answered(deploy, site, pipe):
    with deploy("--slow-request-timeout", "1", *FRONT) as server:
        (worker,) = server.workers()
        with front(server, site) as client:
            client.send(uwsgi.request(f"/held?{pipe}"))
            server.wait_for(
                rf"\[WARNING\] SLOW REQUEST \(pid:{worker}\): GET /held\S+, \d+\.\d s$"
            )
            pipe.write("at last")

            assert client.response().body == b"at last"
        assert server.stderr.count("SLOW REQUEST") == 1


def test_a_server_in_a_thread_has_no_request_timeout():
    """It has nobody to end it."""
    with pytest.raises(
        pywsgiserve.ConfigError, match=r"^request_timeout: a Server has"
    ):
        pywsgiserve.Server(lambda environ, start: [], request_timeout=1)


def test_stacks_are_lines_of_the_log(deploy, site):
    """What a process says of itself is no command for a terminal."""
    with deploy("--request-timeout", "1") as server, server.connect() as client:
        ask(client, "/in_sleep")
        assert client.response().status == 504
        text = server.wait_for(r"Stacks of process \d+:\n(?:.*\n)+?.*<module>$")[0]

        assert re.fullmatch(r"[ -~\n]+", text)
