"""Many clients at once: the answers of a quick app may be sent together."""

import pytest

from tests.process import Pipe

CLIENTS = 20
ROUNDS = 60
TARGETS = ("/piece", "/list", "/large", "/piece", "/list-too")


def get(target):
    return f"GET {target} HTTP/1.1\r\nHost: x\r\n\r\n".encode()


def body_of(target):
    return target.encode() * (5_000 if target.startswith("/large") else 1)


def warm_up(clients):
    """The app shows that it is quick."""
    for _ in range(ROUNDS):
        for client in clients:
            client.send(get("/piece"))
        for client in clients:
            assert client.response().body == b"/piece"


def test_every_client_of_a_burst_gets_its_own_answer(serve):
    with serve("quick") as server:
        clients = [server.connect() for _ in range(CLIENTS)]
        for number in range(ROUNDS):
            targets = [
                f"{TARGETS[i % len(TARGETS)]}-{i}-{number}" for i in range(CLIENTS)
            ]
            for client, target in zip(clients, targets, strict=True):
                client.send(get(target))
            for client, target in zip(clients, targets, strict=True):
                answer = client.response()

                assert answer.status == 200
                assert answer.body == body_of(target)
        for client in clients:
            client.close()


def test_methods_and_pipelines_may_be_mixed_in_a_burst(serve):
    with serve("quick") as server:
        clients = [server.connect() for _ in range(CLIENTS)]
        for _ in range(ROUNDS):
            for i, client in enumerate(clients):
                if i % 4 == 0:
                    client.send(b"HEAD /head HTTP/1.1\r\nHost: x\r\n\r\n")
                elif i % 4 == 1:
                    client.send(
                        b"POST /post HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nab"
                    )
                elif i % 4 == 2:
                    client.send(get("/one") + get("/two"))
                else:
                    client.send(get("/single"))
            for i, client in enumerate(clients):
                if i % 4 == 0:
                    assert client.response("HEAD")["Content-Length"] == "5"
                elif i % 4 == 1:
                    assert client.response().body == b"/post"
                elif i % 4 == 2:
                    assert client.response().body == b"/one"
                    assert client.response().body == b"/two"
                else:
                    assert client.response().body == b"/single"
        for client in clients:
            client.close()


@pytest.mark.one_process
def test_answers_made_before_a_stop_are_not_lost(serve):
    """The signal comes in the middle of a burst, behind answers that may wait."""
    with serve("quick", killed=True) as server:
        clients = [server.connect() for _ in range(CLIENTS)]
        warm_up(clients)
        for i, client in enumerate(clients):
            client.send(get("/stop" if i == CLIENTS // 2 else "/piece"))
        for i, client in enumerate(clients):
            with client:
                assert client.response().body == (
                    b"/stop" if i == CLIENTS // 2 else b"/piece"
                )
        assert server.wait() == 0


def test_an_app_that_is_slow_all_of_a_sudden_holds_up_no_finished_answer(
    serve, short_path
):
    """Both requests wait behind a third one, so that they come in one batch."""
    with serve("quick") as server:
        clients = [server.connect() for _ in range(CLIENTS)]
        warm_up(clients)
        first, quick, slow = clients[:3]
        pipes = [Pipe(short_path / name) for name in ("first", "slow")]
        heres = [Pipe(short_path / f"{name}.here") for name in ("first", "slow")]
        first.send(get(f"/slow?{pipes[0]}"))
        assert heres[0].read()
        quick.send(get("/piece"))
        slow.send(get(f"/slow?{pipes[1]}"))
        pipes[0].write("go on\n")
        assert heres[1].read()

        assert quick.response().body == b"/piece"
        pipes[1].write("go on\n")
        assert first.response().body == slow.response().body == b"/slow"
        for client in clients:
            client.close()


@pytest.mark.contract
def test_a_pipelined_answer_does_not_wait_for_a_slow_one_behind_it(serve, short_path):
    with serve("quick") as server:
        clients = [server.connect() for _ in range(CLIENTS)]
        warm_up(clients)
        pipe, here = Pipe(short_path / "slow"), Pipe(short_path / "slow.here")
        clients[0].send(get("/piece") + get("/list") + get(f"/slow?{pipe}"))
        assert here.read()

        assert clients[0].response().body == b"/piece"
        assert clients[0].response().body == b"/list"
        pipe.write("go on\n")
        assert clients[0].response().body == b"/slow"
        for client in clients:
            client.close()


def test_a_client_does_not_wait_for_a_slow_close(serve, short_path):
    with serve("quick") as server:
        clients = [server.connect() for _ in range(CLIENTS)]
        warm_up(clients)
        first, closing, behind = clients[:3]
        pipes = [Pipe(short_path / name) for name in ("first", "close")]
        heres = [Pipe(short_path / f"{name}.here") for name in ("first", "close")]
        first.send(get(f"/slow?{pipes[0]}"))
        assert heres[0].read()
        closing.send(get(f"/closes-slowly?{pipes[1]}"))
        behind.send(get("/piece"))
        pipes[0].write("go on\n")
        assert heres[1].read()

        assert closing.response().body == b"/closes-slowly"
        pipes[1].write("go on\n")
        assert first.response().body == b"/slow"
        assert behind.response().body == b"/piece"
        for client in clients:
            client.close()


def test_a_client_has_its_answer_before_the_app_goes_on(serve, short_path):
    """All that was declared has been yielded, or written; what comes then is the app's."""
    for path in ("/goes-on", "/writes"):
        with serve("quick") as server:
            clients = [server.connect() for _ in range(CLIENTS)]
            warm_up(clients)
            first, going, behind = clients[:3]
            names = [f"first{path[1]}", f"on{path[1]}"]
            pipes = [Pipe(short_path / name) for name in names]
            heres = [Pipe(short_path / f"{name}.here") for name in names]
            first.send(get(f"/slow?{pipes[0]}"))
            assert heres[0].read()
            going.send(get(f"{path}?{pipes[1]}"))
            behind.send(get("/piece"))
            pipes[0].write("go on\n")
            assert heres[1].read()

            assert going.response().body == path.encode()
            pipes[1].write("go on\n")
            assert first.response().body == b"/slow"
            assert behind.response().body == b"/piece"
            for client in clients:
                client.close()


def test_a_socket_that_is_taken_in_close_is_sent_the_answer_once(serve):
    with serve("quick") as server:
        clients = [server.connect() for _ in range(CLIENTS)]
        warm_up(clients)
        for client in clients:
            client.send(get("/takes-socket"))
        for client in clients:
            assert client.response().body == b"/takes-socket"
            assert client.closed()
            client.close()
