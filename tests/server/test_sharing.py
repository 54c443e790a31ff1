"""Threads of the app, late users and onlookers of what belongs to one request."""

import pytest


def test_each_request_has_its_own_context(serve):
    with serve("sharing") as server, server.connect() as client:
        assert client.get("/context").body == b"nothing"
        assert client.get("/context").body == b"nothing"


def test_a_file_behind_another_object_is_not_sent_in_its_place(serve, tmp_path):
    """What reads a part of a file, or decrypts it, has the say."""
    path = tmp_path / "file"
    path.write_bytes(b"publicSECRET")
    with serve("sharing") as server, server.connect() as client:
        assert client.get(f"/limited?{path}").body == b"public"


def test_reading_too_late_raises_and_harms_nobody(serve):
    with serve("sharing") as server, server.connect() as client:
        assert client.get("/late").body == b"ok"
        assert client.get("/results").body == b"['ValueError']"


@pytest.mark.one_process
def test_a_thread_that_waits_for_a_body_ends_with_its_request(serve):
    with serve("sharing", request_buffering=False) as server:
        with server.connect() as client:
            client.send(
                b"POST /reader HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nabc"
            )
            assert client.response().body == b"ok"
        with server.connect() as client:
            assert client.get("/results").body == b"['ValueError']"


def test_writes_of_several_threads_come_whole(serve):
    with serve("sharing") as server, server.connect() as client:
        assert client.get("/writers").body == b"x" * 800_000


def test_looking_at_the_socket_does_not_take_it(serve):
    with serve("sharing") as server, server.connect() as client:
        assert client.get("/look").body == b"[False, '127.0.0.1']"
        assert client.get("/context").status == 200


def test_a_huge_announced_length_takes_no_memory(serve):
    with serve("echo", request_buffering=False, body_timeout=60) as server:
        with server.connect() as client:
            client.send(
                b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 9223372036854775806\r\n\r\nabc"
            )
            client.half_close()
            assert client.response().status == 400
