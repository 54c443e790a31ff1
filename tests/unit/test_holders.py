"""Whose connections are in which process."""

import os
import signal
import socket
import subprocess

import pytest

from tests.holders import half_open_at, held_by, is_stopped, queued_at
from tests.process import wait_until


def listening(family, name):
    listener = socket.socket(family)
    listener.bind(name)
    listener.listen(5)
    return listener


def key_of(sock):
    if sock.family == socket.AF_UNIX:
        return "unix", os.fstat(sock.fileno()).st_ino
    return "tcp", sock.getsockname()[1]


@pytest.fixture(params=["tcp", "unix"])
def listener(request, short_path):
    unix = request.param == "unix"
    name = str(short_path / "socket") if unix else ("127.0.0.1", 0)
    with listening(socket.AF_UNIX if unix else socket.AF_INET, name) as sock:
        yield sock


def test_a_connection_is_with_who_has_accepted_it(listener):
    with socket.socket(listener.family) as client:
        client.connect(listener.getsockname())
        key = key_of(client)
        with listener.accept()[0] as accepted:
            with subprocess.Popen(["cat"], stdin=accepted) as holder:
                accepted.close()
                wait_until(lambda: key in held_by(holder.pid))
                client.shutdown(socket.SHUT_WR)
        assert held_by(holder.pid) == set()


def test_a_queue_is_counted():
    with listening(socket.AF_INET, ("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        clients = [socket.create_connection(("127.0.0.1", port)) for _ in range(3)]

        assert queued_at(port) == 3
        assert half_open_at(port) == set()
        for client in clients:
            client.close()


def test_a_stopped_process_is_stopped():
    with subprocess.Popen(["sleep", "600"]) as process:
        assert not is_stopped(process.pid)
        process.send_signal(signal.SIGSTOP)
        wait_until(lambda: is_stopped(process.pid))
        process.kill()
        wait_until(lambda: is_stopped(process.pid))
