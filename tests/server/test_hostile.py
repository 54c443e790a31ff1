"""Clients that mean harm, in numbers, while ordinary requests go on being answered."""

import os
import select
import threading

import pytest

from tests.client import DEADLINE_S, SANITIZED, eventually
from tests.process import Pipe

GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
MANY = 1000


def close_all(clients):
    for client in clients:
        client.close()


# Slow ones


@pytest.mark.timeout(600)
def test_a_thousand_dribbling_clients_hold_up_nobody(serve):
    """Each sends a byte now and then; in between, others are answered."""
    request = b"POST /x HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc"
    settings = {
        "worker_connections": 2 * MANY,
        "backlog": 2048,
        "header_timeout": 600,
        "body_timeout": 600,
        "keepalive": 600,
    }
    with serve("echo", **settings) as server, server.connect() as ordinary:
        clients = [server.connect() for _ in range(MANY)]
        for at in range(len(request)):
            for client in clients:
                client.send(request[at : at + 1])
            if at + 1 < len(request):
                assert ordinary.post("/", b"fast").body == b"fast"
                with server.connect() as new:
                    assert new.get("/").status == 200
        bodies = [client.response().body for client in clients]
        close_all(clients)

        assert bodies == [b"abc"] * MANY


@pytest.mark.heavy
@pytest.mark.timeout(1200)
def test_a_thousand_slow_readers_hold_up_nobody(serve, tmp_path):
    """900 read one shared object, 100 a generator of their own, ten megabytes each."""
    settings = {
        "worker_connections": 2 * MANY,
        "backlog": 2048,
        "send_timeout": 600,
        "keepalive": 600,
        "tmp_upload_dir": str(tmp_path),
    }
    with serve("slow_readers", **settings) as server, server.connect() as ordinary:
        ordinary.get()
        before = server.rss_kib()
        clients = [server.connect(receive_buffer=4096) for _ in range(MANY)]
        for n, client in enumerate(clients):
            path = b"/pieces" if n % 10 == 0 else b"/shared"
            client.send(b"GET %s HTTP/1.1\r\nHost: x\r\n\r\n" % path)
        for client in clients:
            assert client.head()["content-length"] == "10000000"
        for _ in range(10):
            for client in clients:
                assert client.exactly(100) == b"0123456789" * 10
            for _ in range(10):
                assert ordinary.get().body == b"hello"
            with server.connect() as new:
                assert new.get().body == b"hello"
        grown = server.rss_kib() - before
        names = os.listdir(tmp_path)
        for client in clients[:20]:
            assert client.exactly(9_999_000) == b"0123456789" * 999_900
        for client in clients[20:]:
            client.abort()
        close_all(clients[:20])

        assert ordinary.get().body == b"hello"
        assert names == []
        if not SANITIZED:
            assert grown < 300_000, "answers are kept in memory for slow readers"


@pytest.mark.one_process
@pytest.mark.heavy
@pytest.mark.timeout(600)
def test_more_slow_readers_than_there_is_room_for_hold_up_nobody(serve, tmp_path):
    """Generators of 250 readers want more of the disk than all of them may have."""
    with serve("slow_readers", tmp_upload_dir=str(tmp_path)) as server:
        clients = [server.connect(receive_buffer=4096) for _ in range(250)]
        with server.connect() as ordinary:
            ordinary.socket.settimeout(4 * DEADLINE_S)
            for client in clients:
                client.send(b"GET /pieces HTTP/1.1\r\nHost: x\r\n\r\n")
            for _ in range(20):
                assert ordinary.get().body == b"hello"
        server.wait_for("cutting the slowest clients")
        assert server.stderr.count("WARNING") < 5
        for client in clients:
            client.abort()


@pytest.mark.one_process
@pytest.mark.heavy
@pytest.mark.timeout(600)
def test_what_slow_readers_keep_alive_has_a_bound(serve, tmp_path):
    """Sixty readers of ten megabytes each, of an object of its own: not in memory."""
    with serve("slow_readers", tmp_upload_dir=str(tmp_path)) as server:
        with server.connect() as ordinary:
            ordinary.get("/fresh")
            before = server.rss_kib()
            clients = [server.connect(receive_buffer=4096) for _ in range(60)]
            for client in clients:
                client.send(b"GET /fresh HTTP/1.1\r\nHost: x\r\n\r\n")
                client.head()
            grown = server.rss_kib() - before
            assert ordinary.get().body == b"hello"
        with clients[-1] as last:
            assert last.exactly(10_000_000) == b"0123456789" * 1_000_000
        for client in clients[:-1]:
            client.abort()

        assert SANITIZED or grown < 400_000


def test_a_disk_without_room_costs_only_the_slow_reader(serve, tmp_path):
    """The app waits for its reader, but not while others wait for the app."""
    settings = {"tmp_upload_dir": str(tmp_path), "send_timeout": 1}
    with serve("slow_readers", limits={"fsize": 1_000_000}, **settings) as server:
        with server.connect(receive_buffer=4096) as slow, server.connect() as ordinary:
            slow.send(b"GET /pieces HTTP/1.1\r\nHost: x\r\n\r\n")
            slow.head()

            assert ordinary.get().body == b"hello"
            server.wait_for("Cannot keep responses in tmp_upload_dir")


def test_a_trickling_reader_is_not_waited_for_while_others_wait(serve):
    """It takes something within every send_timeout, and would hold the app for ever."""
    with serve("slow_readers", response_spool_limit=0, send_timeout=2) as server:
        with server.connect(receive_buffer=4096) as slow, server.connect() as ordinary:
            slow.send(b"GET /pieces HTTP/1.1\r\nHost: x\r\n\r\n")
            slow.head()
            ordinary.send(GET)
            while not select.select([ordinary.socket], [], [], 0.2)[0]:
                slow.exactly(20_000)

            assert ordinary.response().body == b"hello"


@pytest.mark.contract
@pytest.mark.one_process
@pytest.mark.parametrize("state", ["connected", "in a head", "in a body", "reading"])
def test_clients_that_take_every_connection_give_way(serve, state):
    """More of them than worker_connections allows, at its default."""
    data = {
        "connected": b"",
        "in a head": b"GET / HTTP/1.1\r\nHo",
        "in a body": b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\na",
        "reading": b"GET /shared HTTP/1.1\r\nHost: x\r\n\r\n",
    }[state]
    patient = dict.fromkeys(("header_timeout", "body_timeout", "send_timeout"), 600)
    with serve("slow_readers", backlog=2048, **patient) as server:
        crowd = [server.connect(receive_buffer=4096) for _ in range(1100)]
        for client in crowd:
            client.send(data)
        for _ in range(50):
            with server.connect() as client:
                client.socket.settimeout(4 * DEADLINE_S)
                assert client.get().body == b"hello"
        server.wait_for("No room for new connections")
        log = server.stderr
        for client in crowd:
            client.abort()

    assert log.count("No room for new connections") == 1


# Halves of connections


def test_a_half_closed_reader_does_not_make_the_server_spin(serve):
    """Its descriptor stays readable for ever; that is no reason to look at it for ever."""
    with serve("slow_readers", send_timeout=60) as server:
        with server.connect(receive_buffer=4096) as client:
            client.send(b"GET /shared HTTP/1.1\r\nHost: x\r\n\r\n")
            client.head()
            client.half_close()
            with server.connect() as other:
                other.get()
            began = server.cpu_s()
            select.select([], [], [], 2)
            used = server.cpu_s() - began
            body = client.exactly(10_000_000)

        assert len(body) == 10_000_000
        assert used < 1, "two seconds of waiting cost more than one of CPU"


@pytest.mark.contract
def test_many_half_closes_leave_nothing_behind(serve):
    with serve("hello") as server, server.connect() as ordinary:
        ordinary.get()
        before = server.open_files()
        for data in (b"", b"GE", GET[:-2], b"POST / HTTP/1.1\r\nHost: x\r\nContent-Le"):
            for _ in range(50):
                with server.connect() as client:
                    client.send(data)
                    client.half_close()
                    client.drop_rest()

        eventually(
            lambda: ordinary.get().body == b"hello" and server.open_files() <= before,
            "every half-closed connection is let go of",
        )


# Resets

STATES = {
    "connected": b"",
    "in the request line": b"GET /",
    "in the fields": b"GET / HTTP/1.1\r\nHost: x\r\n",
    "before the body": b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 99\r\n\r\n",
    "in the body": b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 99\r\n\r\nabc",
    "in a spooled body": b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 999999\r\n\r\n"
    + b"x" * 500_000,
    "in a chunk": b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\na",
    "in the trailers": b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    b"0\r\nX: 1\r\n",
    "waiting for 100": b"POST / HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\n"
    b"Content-Length: 9\r\n\r\n",
    "after a request": GET,
    "after many requests": GET * 1000,
    "after half a second request": GET + GET[:10],
    "after a refusal": b"BAD\r\n\r\n",
    "during a lingering close": b"POST / HTTP/1.1\r\nHost: x y\r\n"
    b"Content-Length: 999999\r\n\r\n" + b"x" * 1000,
    "in a shared answer": b"GET /shared HTTP/1.1\r\nHost: x\r\n\r\n",
    "in a generated answer": b"GET /pieces HTTP/1.1\r\nHost: x\r\n\r\n",
    "in many answers": b"GET /shared HTTP/1.1\r\nHost: x\r\n\r\n" * 20,
}


@pytest.mark.contract(cases=8)
@pytest.mark.parametrize("read", [0, 1, 5000])
@pytest.mark.parametrize("data", STATES.values(), ids=list(STATES))
def test_a_reset_in_any_state_harms_nobody(standing, data, read):
    server = standing("slow_readers", keepalive=600)
    with server.connect() as ordinary:
        ordinary.get()
        before = server.open_files()
        for _ in range(20):
            with server.connect() as client:
                client.send(data)
                if read and select.select([client.socket], [], [], 0.01)[0]:
                    client.socket.recv(read)
                client.abort()
        eventually(
            lambda: ordinary.get().body == b"hello" and server.open_files() <= before,
            "every reset connection is let go of",
        )


@pytest.mark.contract
@pytest.mark.one_process
@pytest.mark.parametrize("how", ["reset", "close"])
def test_a_client_that_goes_while_the_app_runs_harms_nobody(serve, short_path, how):
    """Each has a pipe of its own: the next one may run before this one has ended."""
    pipes = [Pipe(short_path / f"pipe{i}") for i in range(6)]
    heres = [Pipe(short_path / f"pipe{i}.here") for i in range(6)]
    with serve("answers:waits_first") as server:
        for pipe, here in zip(pipes[:5], heres, strict=False):
            with server.connect() as client:
                client.send(f"GET /?{pipe} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
                assert here.read() == "in the app\n"
                if how == "reset":
                    client.abort()
                else:
                    client.close()
                pipe.write("too late\n")
        with server.connect() as client:
            client.send(f"GET /?{pipes[5]} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
            heres[5].read()
            pipes[5].write("in time\n")

            assert client.response().body == b"in time\n"


@pytest.mark.contract
@pytest.mark.one_process
def test_a_client_that_goes_between_two_pieces_harms_nobody(serve, short_path):
    """As above: who reads a pipe late would take what is meant for the next one."""
    *pipes, last = [Pipe(short_path / f"pipe{i}") for i in range(4)]
    with serve("answers:waits_between") as server:
        for pipe in pipes:
            with server.connect() as client:
                client.send(f"GET /?{pipe} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
                client.head()
                assert client.chunk() == b"first"
                client.abort()
            pipe.write("too late\n")
        with server.connect() as client:
            client.send(f"GET /?{last} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
            client.head()
            client.chunk()
            last.write("in time\n")

            assert client.chunk() == b"in time\n"


# Pipelines


@pytest.mark.timeout(600)
def test_a_hundred_thousand_requests_in_one_write_are_answered(serve):
    count = 100_000
    with serve("hello") as server, server.connect() as client:
        before = server.rss_kib()
        sender = threading.Thread(target=client.send, args=(GET * count,))
        sender.start()
        for _ in range(count):
            assert client.response().body == b"hello"
        sender.join()

        assert client.get().body == b"hello"
        if not SANITIZED:
            assert server.rss_kib() < before + 20_000


def test_a_pipeline_whose_answers_nobody_reads_is_bounded(serve):
    """The server must stop reading when its answers are not taken."""
    request = b"GET /shared HTTP/1.1\r\nHost: x\r\n\r\n"
    with serve("slow_readers", keepalive=600) as server, server.connect() as ordinary:
        ordinary.get()
        before = server.rss_kib()
        with server.connect(receive_buffer=4096) as client:
            client.socket.setblocking(False)
            sent = 0
            try:
                while sent < 50_000_000:
                    if not select.select([], [client.socket], [], 1)[1]:
                        break
                    sent += client.socket.send(request * 2000)
            except BlockingIOError:
                pass
            for _ in range(10):
                assert ordinary.get().body == b"hello"
            grown = server.rss_kib() - before
            client.abort()

        assert sent < 50_000_000
        assert ordinary.get().body == b"hello"
        if not SANITIZED:
            assert grown < 50_000


@pytest.mark.contract
def test_a_pipeline_holds_up_nobody_else(serve):
    with serve("hello") as server, server.connect() as greedy:
        sender = threading.Thread(target=greedy.send, args=(GET * 20_000,))
        reader = threading.Thread(
            target=lambda: [greedy.response() for _ in range(20_000)]
        )
        sender.start()
        reader.start()
        with server.connect() as ordinary:
            for _ in range(50):
                assert ordinary.get().body == b"hello"
        sender.join()
        reader.join()


# Descriptors


@pytest.mark.timeout(300)
def test_a_server_out_of_descriptors_answers_whoever_asks(serve):
    with serve("hello", limits={"nofile": 64}, keepalive=60, backlog=512) as server:
        crowd = [server.connect() for _ in range(150)]
        for client in crowd:
            client.send(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        answers = []
        for client in crowd:
            with client:
                client.socket.settimeout(3 * DEADLINE_S)
                answers.append(client.response().status)

        assert answers == [200] * 150


@pytest.mark.timeout(300)
def test_a_server_out_of_descriptors_does_not_spin_and_recovers(serve):
    with serve("hello", limits={"nofile": 64}, keepalive=60, backlog=512) as server:
        with server.connect() as old:
            assert old.get().body == b"hello"
            crowd = [server.connect() for _ in range(150)]
            for _ in range(100):
                assert old.get().body == b"hello"
        log = len(server.stderr)
        began = server.cpu_s()
        select.select([], [], [], 2)
        used = server.cpu_s() - began
        flood = server.stderr[log:].count("\n")
        close_all(crowd)

        assert used < 1, "a full table makes the server spin"
        assert flood < 100, "a full table floods the log"
        for _ in range(100):
            with server.connect() as new:
                assert new.get().body == b"hello"


def test_a_crowd_that_only_takes_descriptors_is_let_go_of(serve):
    with serve("hello", limits={"nofile": 64}, header_timeout=1, backlog=512) as server:
        crowd = [server.connect() for _ in range(100)]
        with server.connect() as client:
            client.socket.settimeout(6 * DEADLINE_S)
            assert client.get().body == b"hello"
        close_all(crowd)


def test_a_body_that_needs_a_file_when_there_is_none_harms_nobody(serve, tmp_path):
    settings = {"body_buffer_size": 1024, "tmp_upload_dir": str(tmp_path)}
    with serve("echo", limits={"nofile": 40}, keepalive=60, **settings) as server:
        crowd = [server.connect() for _ in range(60)]
        for client in crowd:
            client.send(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5000\r\n\r\n")
            client.send(b"x" * 4000)
        for client in crowd:
            client.abort()
        with server.connect() as client:
            client.socket.settimeout(3 * DEADLINE_S)
            assert client.post("/", b"x" * 5000).body == b"x" * 5000


# Children of the app


@pytest.mark.parametrize("how", ["fork", "spawn"])
def test_closes_are_seen_though_a_child_of_the_app_lives(serve, short_path, how):
    """A child holds copies of every connection; the clients must not wait for it."""
    pipe = Pipe(short_path / "pipe")
    with serve("forking", keepalive=2) as server:
        clients = [server.connect() for _ in range(10)]
        for client in clients:
            assert client.get().body == b"hello"
        with server.connect() as client:
            assert client.get(f"/{how}?{pipe}").body == b"hello"
        seen = [
            (client.get("/", "Connection: close").body, client.closed())
            for client in clients[:5]
        ]
        idle = [client.closed() for client in clients[5:]]
        with server.connect() as client:
            answer = client.get()
        close_all(clients)
        pipe.write("")
        with server.connect() as client:
            reaped = client.get("/reap").body

        assert seen == [(b"hello", True)] * 5
        assert idle == [True] * 5
        assert answer.body == b"hello"
        assert reaped == b"reaped"


def test_a_server_with_children_of_its_app_ends(serve, short_path):
    pipe = Pipe(short_path / "pipe")
    with serve("forking", killed=True) as server, server.connect() as client:
        client.get(f"/fork?{pipe}")
        code = server.stop()
        ended = client.closed()
        pipe.write("")

        assert code == 0
        assert ended


@pytest.mark.parametrize("case", ["child-returns", "child-raises"])
def test_a_child_that_comes_back_into_the_server_does_not_answer(serve, case):
    """Two processes on one connection would send two answers."""
    with serve("forking", keepalive=600) as server, server.connect() as other:
        other.get()
        with server.connect() as client:
            answer = client.get(f"/{case}", "Connection: close")

            assert answer.body == b"parent"
            assert client.closed()
        for _ in range(10):
            assert other.get().body == b"hello"


def test_a_child_does_not_wait_for_threads_that_are_not_its_own(serve):
    """One of the parent's was inside wsgi.input when the app has forked."""
    with serve("forking", request_buffering=False) as server:
        with server.connect() as client:
            client.send(b"POST /child-beside-a-reader HTTP/1.1\r\nHost: x\r\n")
            client.send(b"Content-Length: 2\r\n\r\na")

            assert client.response().body == b"parent"
        server.wait_for("came back into the server")


# Memory

KINDS = (
    b"GET /?a=b HTTP/1.1\r\nHost: x\r\nUser-Agent: test\r\n\r\n"
    b"GET /stream HTTP/1.1\r\nHost: x\r\n\r\n"
    b"POST /post HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello"
    b"POST /post HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    b"5\r\nhello\r\n0\r\n\r\n"
    b"GET /write?query HTTP/1.1\r\nHost: x\r\nX-Some: field\r\nCookie: a=b\r\n\r\n"
)


def run_mixed(server, count):
    """So many requests of all kinds, 5,000 a connection."""
    done = 0
    while done < count:
        batch = min(5000, count - done)
        with server.connect() as client:
            sender = threading.Thread(target=client.send, args=(KINDS * (batch // 5),))
            sender.start()
            for _ in range(batch):
                assert client.response().status == 200
            sender.join()
        done += batch


@pytest.mark.heavy
@pytest.mark.timeout(1200)
@pytest.mark.skipif(SANITIZED, reason="the sanitizer keeps what is freed")
def test_memory_is_flat_over_two_hundred_thousand_requests(serve):
    with serve("mixed") as server:
        run_mixed(server, 20_000)
        before = server.rss_kib()
        run_mixed(server, 200_000)

        assert server.rss_kib() < before + 1024


@pytest.mark.skipif(SANITIZED, reason="the sanitizer keeps what is freed")
@pytest.mark.parametrize(
    ("app", "data"),
    [
        ("failing", b"GET /at_once HTTP/1.0\r\n\r\n"),
        ("failing", b"GET /after_a_piece HTTP/1.1\r\nHost: x\r\n\r\n"),
        ("invalid", b"GET /value-crlf HTTP/1.0\r\n\r\n"),
        ("hello", b"BAD\r\n\r\n"),
        ("answers:too_short", GET),
        ("answers:too_long", b"GET / HTTP/1.0\r\n\r\n"),
        ("hints", b"GET /two HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"),
        ("sockets", b"GET /raw HTTP/1.1\r\nHost: x\r\n\r\n"),
        ("echo", b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nabc"),
    ],
)
def test_memory_is_flat_over_requests_that_fail(serve, app, data):
    with serve(app) as server:

        def attempts(count):
            for _ in range(count):
                with server.connect() as client:
                    client.send(data)
                    client.half_close()
                    client.drop_rest()

        attempts(500)
        before, files = server.rss_kib(), server.open_files()
        attempts(3000)

        assert server.rss_kib() < before + 1024
        eventually(
            lambda: attempts(1) or server.open_files() <= files + 1,
            "every connection is let go of",
        )
