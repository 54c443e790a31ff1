"""What signals do to a master that serves, drains or stops, and to a server without one."""

import os
import re
import signal
from pathlib import Path

import pytest

from tests.process import LISTENING, START_S, WORKERS, Deployed, content, wait_until
from tests.server.test_deployment import Daemon, ask
from tests.server.test_master import Load

chooses = pytest.mark.skipif(WORKERS > 0, reason="chooses its workers itself")
both_ways = pytest.mark.parametrize("preload", [(), ("--preload",)])

HANG = b"GET /hang HTTP/1.1\r\nHost: x\r\n\r\n"


def workers_of(pid):
    """The workers of a master that is not our child."""
    found = set()
    for task in Path(f"/proc/{pid}/task").iterdir():
        found |= set(map(int, content(task / "children").split()))
    return {p for p in found if b"worker" in content(Path(f"/proc/{p}/cmdline"))}


# A second signal


@pytest.mark.contract
@chooses
@pytest.mark.parametrize("second", [signal.SIGTERM, signal.SIGINT, signal.SIGQUIT])
def test_a_second_signal_shortens_a_stop(deploy, second):
    with deploy("--graceful-timeout", "600", killed=True) as server:
        with server.connect() as client:
            client.send(HANG)
            server.process.send_signal(signal.SIGTERM)
            server.wait_for("Handling signal: term")
            server.process.send_signal(second)

            assert server.wait() == 0
            server.wait_for("Quick shutdown requested")


def test_a_second_signal_shortens_a_stop_of_any_server(serve):
    """The app waits for the body, and the server for the app."""
    with serve(
        "echo", graceful_timeout=600, request_buffering=False, killed=True
    ) as server:
        with server.connect() as client:
            client.send(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n")
            server.process.send_signal(signal.SIGTERM)
            server.wait_for("Handling signal: term")
            server.process.send_signal(signal.SIGTERM)

            assert server.wait() == 0
            server.wait_for("Quick shutdown requested")


# drain_delay


@pytest.mark.contract
def test_connections_are_accepted_while_a_server_drains(serve):
    with serve("hello", drain_delay=600, killed=True) as server:
        with server.connect() as old:
            assert not old.get().says_close
            server.process.send_signal(signal.SIGTERM)
            server.wait_for(r"Draining: connections are accepted for 600 s more$")
            wait_until(lambda: says_close(server))

            answer = old.get()
            assert answer.status == 200
            assert answer.says_close
            assert old.closed()
        for _ in range(20):
            assert says_close(server)
        assert server.alive()
        assert server.stop() == 0


def says_close(server):
    with server.connect() as client:
        answer = client.get()
        assert answer.status == 200
        return answer.says_close


def test_a_delay_is_over_when_its_time_has_come(serve):
    with serve("hello", drain_delay=0.5, killed=True) as server:
        assert server.stop() == 0


def test_what_was_asked_for_in_a_delay_is_answered_after_it(serve):
    with serve("quick", drain_delay=600, keepalive=600, killed=True) as server:
        server.process.send_signal(signal.SIGTERM)
        server.wait_for("Draining")
        clients = [server.connect() for _ in range(20)]
        for client in clients:
            client.send(b"GET /list HTTP/1.1\r\nHost: x\r\n\r\n")
        server.process.send_signal(signal.SIGTERM)

        assert [client.response().status for client in clients] == [200] * 20
        assert server.wait() == 0
        for client in clients:
            client.close()


@chooses
def test_a_second_term_ends_the_delay_and_a_third_all_waiting(deploy):
    words = ("--drain-delay", "600", "--graceful-timeout", "600")
    with deploy(*words, killed=True) as server, server.connect() as client:
        client.send(HANG)
        server.process.send_signal(signal.SIGTERM)
        server.wait_for("Draining")
        server.process.send_signal(signal.SIGTERM)
        server.wait_for("(?s)Handling signal: term.*Handling signal: term")
        assert "Quick shutdown requested" not in server.stderr
        server.process.send_signal(signal.SIGTERM)

        assert server.wait() == 0
        assert "Quick shutdown requested" in server.stderr


@chooses
def test_int_ends_a_delay_at_once(deploy):
    with deploy("--drain-delay", "600", killed=True) as server:
        server.process.send_signal(signal.SIGTERM)
        server.wait_for("Draining")

        assert server.stop(signal.SIGINT) == 0


@chooses
@both_ways
def test_workers_that_die_in_a_delay_are_replaced(deploy, preload):
    words = ("--drain-delay", "600", *preload)
    with deploy(*words, workers=2, killed=True) as server:
        server.process.send_signal(signal.SIGTERM)
        server.wait_for("Draining")
        first = {pid for pid in server.workers() if is_worker(pid)}
        for pid in first:
            os.kill(pid, signal.SIGKILL)
        wait_until(lambda: len(
            {pid for pid in server.workers() if is_worker(pid)} - first
        ) == 2)  # fmt: skip

        wait_until(lambda: says_close(server))
        assert server.stop() == 0


def is_worker(pid):
    return b"worker" in content(Path(f"/proc/{pid}/cmdline"))


@chooses
def test_a_reload_that_is_tried_ends_with_a_delay(deploy, place):
    with deploy("--drain-delay", "600", workers=2, killed=True) as server:
        first = server.workers()
        (place / "main.py").write_text("import time; time.sleep(600)")
        server.process.send_signal(signal.SIGHUP)
        server.wait_for_workers(4)
        server.process.send_signal(signal.SIGTERM)
        server.wait_for("Draining")
        server.wait_for_workers(2)

        assert server.workers() == first
        assert server.get().status == 200
        server.process.send_signal(signal.SIGHUP)  # Of no effect any more.
        server.wait_for("(?s)Hang up.*Hang up")
        assert server.stop() == 0


@chooses
def test_a_worker_drains_as_well_when_it_is_told_itself(deploy):
    """As by a service manager that tells each process of the service."""
    with deploy("--drain-delay", "600", workers=2, killed=True) as server:
        first = server.workers()
        server.process.send_signal(signal.SIGTERM)
        server.wait_for("Draining")
        for pid in first:
            os.kill(pid, signal.SIGTERM)
        for _ in range(20):
            assert says_close(server) or server.workers() == first

        assert server.workers() == first
        assert server.stop() == 0


@chooses
def test_a_worker_that_is_told_alone_is_succeeded_first(deploy):
    with deploy("--drain-delay", "600", workers=1, killed=True) as server:
        (first,) = server.workers()
        with Load(server) as load:
            os.kill(first, signal.SIGTERM)
            server.wait_for_workers(1, but=[first])
        server.wait_for(rf"(?s)ready.*Booting worker.*Worker exiting \(pid: {first}\)")

        assert load.losses == []
        assert server.stop(signal.SIGINT) == 0


# WINCH


@chooses
def test_winch_means_nothing_with_a_terminal(deploy):
    with deploy("--log-level", "debug", workers=2) as server:
        first = server.workers()
        server.process.send_signal(signal.SIGWINCH)
        server.wait_for(r"\[DEBUG\] SIGWINCH ignored\. Not daemonized$")

        assert server.workers() == first


@chooses
@both_ways
@pytest.mark.parametrize("back", [signal.SIGHUP, signal.SIGTTIN])
def test_winch_sends_the_workers_of_a_daemon_home(place, back, preload):
    log = place / "log"
    words = ("-w", "2", "--log-file", "log", *preload)
    with Daemon(place, *words) as daemon:
        assert daemon.pid
        os.kill(daemon.pid, signal.SIGWINCH)
        wait_until(lambda: not workers_of(daemon.pid), log.read_text)
        assert "Handling signal: winch" in log.read_text()
        os.kill(daemon.pid, back)
        count = 2 if back == signal.SIGHUP else 1
        wait_until(lambda: len(workers_of(daemon.pid)) == count, log.read_text)

        assert b"200 OK" in ask(place / "socket")


# Numbers


@chooses
def test_a_reload_resets_the_number(deploy):
    with deploy(workers=2) as server:
        server.process.send_signal(signal.SIGTTIN)
        first = server.wait_for_workers(3)
        server.process.send_signal(signal.SIGHUP)

        server.wait_for_workers(2, but=first)


# Workers by themselves


@chooses
def test_auto_says_how_it_was_decided(deploy):
    with deploy("-w", "auto", ready=False) as server:
        found = server.wait_for(r"\[INFO\] workers: auto is (\d+): \d+ CPUs? by .*$")
        server.wait_until_ready(int(found[1]))

        assert int(found[1]) % 2 == 1


@chooses
def test_auto_may_come_from_the_environment(place):
    server = Deployed(
        "main:app", "-b", "127.0.0.1:0", cwd=place, WEB_CONCURRENCY="auto"
    )
    try:
        server.wait_for(r"workers: auto is \d+: ")
        server.wait_for(r"Workers are ready: \d+$")
    finally:
        server.finish()


# Rights


@chooses
@both_ways
@pytest.mark.parametrize("wanted", [(), ("--no-new-privs",)])
def test_workers_may_be_kept_from_new_rights(deploy, wanted, preload):
    with deploy(*wanted, *preload, workers=2) as server:
        assert no_new_privs(server.pid) == 0
        for pid in server.workers():
            assert no_new_privs(pid) == len(wanted)


def no_new_privs(pid):
    status = Path(f"/proc/{pid}/status").read_text()
    return int(re.search(r"^NoNewPrivs:\s+(\d)$", status, re.M)[1])


# Nothing to write to

READ_ONLY = """
awk '{ print $2 }' /proc/self/mounts | sort -u | while read -r point; do
    mount --bind "$point" "$point" 2> /dev/null
done
awk '{ print $2 }' /proc/self/mounts | sort -u | while read -r point; do
    mount -o remount,bind,ro "$point" 2> /dev/null
done
touch "$0/try" 2> /dev/null && exit 99
exec "$@"
"""


@chooses
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
@both_ways
def test_no_directory_needs_to_be_writable(place, preload):
    server = Deployed(
        "main:app",
        "-b",
        "127.0.0.1:0",
        "-w",
        "2",
        *preload,
        cwd=place,
        prefix=("unshare", "--mount", "sh", "-c", READ_ONLY, str(place)),
        TMPDIR=str(place / "nothing"),
        PYTHONDONTWRITEBYTECODE="1",
    )
    try:
        server.addresses = [server.wait_for(LISTENING.pattern, START_S)[2]]
        server.wait_for("Workers are ready: 2", START_S)
        server.wait_for("No directory is writable: long bodies are kept in memory")
        with server.connect() as client:
            assert client.post("/", b"x" * 3_000_000).status == 200
        server.process.send_signal(signal.SIGHUP)
        server.wait_for("(?s)(Workers are ready: 2.*){2}")
        assert server.get().status == 200
    finally:
        server.finish()
