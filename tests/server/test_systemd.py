"""systemd as a client sees it: sockets that are handed over, and what it is told."""

import contextlib
import os
import re
import select
import signal
import socket
import sys
import time
from pathlib import Path

import pytest

from tests import uwsgi_client as uwsgi
from tests.client import DEADLINE_S, SANITIZED
from tests.process import (
    LISTENING,
    READY,
    START_S,
    WORKERS,
    Deployed,
    children,
    wait_until,
)
from tests.server.test_deployment import Daemon
from tests.server.test_master import rewrite
from tests.server.test_upgrade import BIND, Dance, Inheriting, Load, instead, listening

pytestmark = pytest.mark.skipif(WORKERS > 0, reason="chooses its workers itself")


class Manager:
    """A socket to be notified at, and what has come there."""

    def __init__(self, address):
        self.address = address
        self.heard = []
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(address.replace("@", "\0"))
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self._socket.close()

    def _receive(self, patience):
        if not select.select([self._socket], [], [], patience)[0]:
            return False
        data, extra, *_ = self._socket.recvmsg(4096, 64)
        sender = int.from_bytes(extra[0][2][:4], sys.byteorder)
        said = dict(line.split("=", 1) for line in data.decode().split("\n"))
        self.heard.append({"sender": sender, **said})
        return True

    def wait_for(self, deadline_s=DEADLINE_S, **wanted):
        """Wait for a message with these values; returns it, and forgets those before."""
        end = time.monotonic() + deadline_s
        while True:
            while self.heard:
                message = self.heard.pop(0)
                if all(re.fullmatch(v, message.get(k, "")) for k, v in wanted.items()):
                    return message
            assert self._receive(end - time.monotonic()), f"{wanted} was not said"

    def now(self):
        """All that has been said by now."""
        while self._receive(0):
            pass
        heard, self.heard = self.heard, []
        return heard


@pytest.fixture
def manager(place):
    with Manager(f"{place}/notify") as it:
        yield it


def told(manager):
    return {"NOTIFY_SOCKET": manager.address}


# Whom it tells what


@pytest.mark.parametrize("words", [(), ("--preload",)])
def test_it_is_ready_when_its_workers_are(deploy, place, manager, words):
    os.mkfifo(place / "gate")
    app = (place / "main.py").read_text()
    rewrite(place / "main.py", f"open({str(place / 'gate')!r}).read()\n" + app)
    with deploy(*words, ready=False, **told(manager)) as server:
        server.wait_for(r"Listening at")
        assert manager.now() == []
        (place / "gate").write_text("")
        message = manager.wait_for(READY="1", STATUS="Serving")
        assert message["sender"] == server.pid
        server.wait_for(READY)
        server.addresses = [server.wait_for(LISTENING.pattern)[2]]
        assert server.get().status == 200


def test_it_tells_how_its_workers_are(deploy, manager):
    with deploy(workers=3, **told(manager)):
        manager.wait_for(STATUS="Serving; workers: 0 busy, 3 idle")


def test_busy_workers_are_told_of(deploy, manager):
    with deploy(workers=2, **told(manager)) as server, server.connect() as client:
        manager.wait_for(STATUS=".* 0 busy, 2 idle")
        client.send(b"GET /hang HTTP/1.1\r\nHost: x\r\n\r\n")

        def seen():
            """The master looks when it wakes up: an idle one does not for that alone."""
            server.process.send_signal(signal.SIGUSR1)
            heard = [message.get("STATUS", "") for message in manager.now()]
            return "Serving; workers: 1 busy, 1 idle" in heard

        wait_until(seen)
        server.process.send_signal(signal.SIGQUIT)


def test_an_abstract_socket_is_told(deploy, place):
    with (
        Manager(f"@pywsgiserve-{os.getpid()}") as manager,
        deploy(**told(manager)) as server,
    ):
        assert manager.wait_for(READY="1")["sender"] == server.pid


def test_a_socket_that_nobody_reads_does_not_hold_it_up(deploy, manager):
    """The queue of the manager is short, and it is told much."""
    with deploy(**told(manager)) as server:
        for _ in range(20):
            before = server.stderr.count("Workers are ready")
            server.process.send_signal(signal.SIGHUP)
            wait_until(lambda: server.stderr.count("Workers are ready") > before)  # noqa: B023
        assert server.get().status == 200
        manager.wait_for(READY="1", STATUS="Reloaded")


@pytest.mark.parametrize("address", ["relative", "/nonexistent/notify"])
def test_a_socket_that_is_none_is_said(deploy, address):
    with deploy(NOTIFY_SOCKET=address) as server:
        server.wait_for(r"\[WARNING\] NOTIFY_SOCKET: ")
        assert server.get().status == 200


@pytest.mark.parametrize("words", [(), ("--preload",)])
def test_a_reload_is_told_from_its_begin_to_its_end(deploy, manager, words):
    with deploy(*words, **told(manager)) as server:
        manager.wait_for(READY="1")
        before = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
        server.process.send_signal(signal.SIGHUP)
        begin = manager.wait_for(RELOADING="1")
        assert int(begin["MONOTONIC_USEC"]) >= before
        assert "READY" not in begin
        manager.wait_for(READY="1", STATUS="Reloaded")
        server.wait_for(rf"(?s){READY}.*{READY}")


@pytest.mark.parametrize(
    ("name", "text"), [("main.py", "import nix"), ("gunicorn.conf.py", "1 / 0")]
)
def test_a_reload_that_fails_is_over_too(deploy, place, manager, name, text):
    with deploy(**told(manager)) as server:
        manager.wait_for(READY="1")
        rewrite(place / name, text)
        server.process.send_signal(signal.SIGHUP)
        manager.wait_for(RELOADING="1")
        manager.wait_for(READY="1", STATUS="Reload failed: as it was before it")
        assert server.get().status == 200


def test_a_stop_is_told_when_it_begins(deploy, manager):
    with deploy("--graceful-timeout", "7", **told(manager)) as server:
        manager.wait_for(READY="1")
    message = manager.wait_for(STOPPING="1")
    assert int(message["EXTEND_TIMEOUT_USEC"]) >= 7_000_000
    assert message["sender"] == server.pid


def test_a_stop_may_take_the_drain_delay_longer(deploy, manager):
    words = ("--drain-delay", "600", "--graceful-timeout", "7")
    with deploy(*words, killed=True, **told(manager)) as server:
        manager.wait_for(READY="1")
        server.process.send_signal(signal.SIGTERM)
        message = manager.wait_for(STOPPING="1")
        assert int(message["EXTEND_TIMEOUT_USEC"]) >= 607_000_000
        server.process.send_signal(signal.SIGTERM)  # It ends the delay.
        assert server.wait() == 0


def test_a_start_that_fails_is_never_ready(deploy, place, manager):
    (place / "main.py").write_text("import nix")
    with deploy(ready=False, killed=True, **told(manager)) as server:
        assert server.wait() == 3
    assert not [m for m in manager.now() if "READY" in m]


def test_in_the_background_it_warns(place, manager, monkeypatch):
    monkeypatch.setenv("NOTIFY_SOCKET", manager.address)
    with Daemon(place) as daemon:
        assert "daemon: not for Type=notify" in daemon.done.stderr


# The watchdog


def with_watchdog(manager, usec, pid=None):
    found = {**told(manager), "WATCHDOG_USEC": str(usec)}
    return found if pid is None else {**found, "WATCHDOG_PID": str(pid)}


def test_the_watchdog_hears_of_it(deploy, manager):
    with deploy(**with_watchdog(manager, 200_000)):
        manager.wait_for(READY="1")
        for _ in range(3):
            manager.wait_for(WATCHDOG="1")


def test_the_watchdog_of_another_process_does_not(deploy, manager):
    """Nor does one that never bites; a reload is what we can see that time passes by."""
    with deploy(**with_watchdog(manager, 2, pid=1)) as server:
        manager.wait_for(READY="1")
        server.process.send_signal(signal.SIGHUP)
        server.wait_for(rf"(?s){READY}.*{READY}")
        assert not [m for m in manager.now() if "WATCHDOG" in m]


def test_the_watchdog_is_left_to_bite_when_nobody_serves(deploy, place, manager):
    """The workers cannot be replaced: systemd is to start the whole anew."""
    with deploy(**with_watchdog(manager, 100_000)) as server:
        manager.wait_for(WATCHDOG="1")
        rewrite(place / "main.py", "import nix")
        for worker in server.workers():
            os.kill(worker, signal.SIGKILL)
        server.wait_for(r"\[ERROR\] No worker serves, or all hang: the watchdog of")
        manager.now()
        server.wait_for(r"(?s)(exited with code 3.*){3}")
        assert not [m for m in manager.now() if "WATCHDOG" in m]


def test_the_watchdog_is_left_to_bite_when_all_hang(deploy, manager):
    """They serve as far as the master knows, and no client is served."""
    hang = b"GET /hang HTTP/1.1\r\nHost: x\r\n\r\n"
    given = with_watchdog(manager, 1_000_000)
    with deploy("--timeout", "0", workers=2, **given) as server:
        manager.wait_for(STATUS=".* 0 busy, 2 idle")
        manager.wait_for(WATCHDOG="1")
        with contextlib.ExitStack() as clients:
            for idle in (1, 0):  # Else one worker may accept both.
                clients.enter_context(server.connect()).send(hang)
                manager.wait_for(STATUS=f".* {2 - idle} busy, {idle} idle")
            server.wait_for(r"\[ERROR\] No worker serves, or all hang: the watchdog of")
            manager.now()
            server.process.send_signal(signal.SIGUSR1)
            server.wait_for("Handling signal: usr1")
            assert not [m for m in manager.now() if "WATCHDOG" in m]
            server.process.send_signal(signal.SIGHUP)  # There will be some who serve.
            manager.wait_for(WATCHDOG="1")
            server.process.send_signal(signal.SIGQUIT)


# The environment


ENVIRONMENT = """
import os
def app(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    names = ("LISTEN_", "NOTIFY_", "WATCHDOG_", "GUNICORN_", "PYWSGISERVE_")
    return [repr([name for name in os.environ if name.startswith(names)]).encode()]
"""


@pytest.mark.parametrize("words", [(), ("--preload",)])
def test_none_of_it_is_for_the_app(deploy, place, manager, words):
    (place / "main.py").write_text(ENVIRONMENT)
    with activated(place, *words, fds=["127.0.0.1:0"], manager=manager) as server:
        assert server.get().body == b"[]"
        manager.wait_for(READY="1")
        server.process.send_signal(signal.SIGHUP)
        manager.wait_for(READY="1", STATUS="Reloaded")
        assert server.get().body == b"[]"


# Sockets

# Takes descriptors to the numbers from 3, and says whose they are: us, after the exec.
HAND_OVER = """
import os, sys
given, names = [int(fd) for fd in sys.argv[1].split(",")], sys.argv[2]
free = max(given) + len(given)
for i, fd in enumerate(given):
    os.dup2(fd, free + i)
for i in range(len(given)):
    os.dup2(free + i, 3 + i)
    os.close(free + i)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS=str(len(given)))
if names:
    os.environ["LISTEN_FDNAMES"] = names
os.execv(sys.argv[3], sys.argv[3:])
"""


def opened(text, place):
    if text.startswith("unix:"):
        it = socket.socket(socket.AF_UNIX)
        it.bind(str(place / text[5:]))
    else:
        it = socket.socket(socket.AF_INET6 if "[" in text else socket.AF_INET)
        it.bind((text.rpartition(":")[0].strip("[]"), 0))
    it.listen(64)
    return it


@contextlib.contextmanager
def activated(place, *words, fds, names="", manager=None, program=(), killed=False):
    """The command as systemd starts it for sockets, which are open already."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(opened(text, place)) for text in fds]
        numbers = [it.fileno() for it in sockets]
        given = ",".join(map(str, numbers))
        wrapper = (sys.executable, "-c", HAND_OVER, given, names)
        server = Inheriting(
            "main:app",
            *words,
            cwd=place,
            fds=numbers,
            prefix=(*wrapper, *program),
            **(told(manager) if manager else {}),
        )
        server.sockets = sockets
        try:
            server.wait_until_listening()
            yield server
        except BaseException:
            print(f"--- stderr ---\n{server.stderr}")
            with contextlib.suppress(AssertionError):
                server.finish(killed)
            raise
        server.finish(killed)


def test_sockets_are_taken_with_their_names(place):
    fds = ["127.0.0.1:0", "unix:one", "[::1]:0", "127.0.0.1:0"]
    with activated(place, "-w", "2", fds=fds, names="web:local:six") as server:
        server.wait_for(READY)
        server.wait_for(r"\[INFO\] Sockets of systemd: 4 \(web, local, six\)$")
        assert server.addresses == [
            f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}",
            f"unix:{place}/one",
            f"http://[::1]:{server.sockets[2].getsockname()[1]}",
            f"http://127.0.0.1:{server.sockets[3].getsockname()[1]}",
        ]
        assert "[WARNING]" not in server.stderr
        for address in server.addresses:
            with server.connect(address) as client:
                assert client.get().status == 200
    assert (place / "one").exists()  # It is systemd's.


def test_a_socket_named_uwsgi_is_for_that(place):
    fds = ["unix:front", "127.0.0.1:0"]
    with activated(place, fds=fds, names="uwsgi:web") as server:
        where = server.wait_for(r"Listening at: (\S+) ")[1]
        assert where.startswith("uwsgi://unix:")
        with server.connect(f"unix:{place}/front") as client:
            client.send(uwsgi.request())

            assert client.response().status == 200
        with server.connect(where.split(",")[1]) as client:
            assert client.get().status == 200


def test_bind_is_not_used_then_and_that_is_said(place):
    words = listening("127.0.0.1:1", "unix:mine")
    with activated(place, *words, fds=["unix:one"]) as server:
        server.wait_for(
            r"\[WARNING\] bind: the inherited sockets are used, and not: "
            r"127\.0\.0\.1:1, unix:mine$"
        )
        assert server.get().status == 200
        assert not (place / "mine").exists()


def test_sockets_of_another_process_are_not_taken(deploy):
    with deploy(LISTEN_PID="1", LISTEN_FDS="1") as server:
        assert server.get().status == 200
        assert "Sockets of systemd" not in server.stderr


def test_what_cannot_be_accepted_from_is_refused(place):
    wrapper = HAND_OVER.replace("len(given)))", "2))")
    with socket.create_server(("127.0.0.1", 0)) as ours:
        server = Inheriting(
            "main:app",
            cwd=place,
            fds=[ours.fileno()],
            prefix=(sys.executable, "-c", wrapper, str(ours.fileno()), ""),
        )
        try:
            assert server.wait() == 1
            assert re.search(
                r"Error: bind: descriptor 4 \(from LISTEN_FDS\): "
                r"(it is no socket|Bad file descriptor)",
                server.stderr,
            )
        finally:
            server.finish(killed=True)


def test_run_in_one_process_takes_them_too(place, manager):
    (place / "program.py").write_text(
        "from main import app\nfrom pywsgiserve import run\nrun(app)\n"
    )
    program = instead("program.py")
    fds = ["unix:one"]
    with activated(place, fds=fds, program=program, manager=manager) as server:
        assert manager.wait_for(READY="1")["sender"] == server.pid
        assert server.get().status == 200
        assert int(server.get().body) == server.pid
    assert manager.wait_for(STOPPING="1")["sender"] == server.pid
    assert (place / "one").exists()


# Upgrades


@pytest.mark.parametrize("words", [(), ("--preload",)])
def test_an_upgrade_hands_on_the_main_process_and_the_sockets(place, manager, words):
    """Only what the main process says is heard: so the old one names the new one, with
    its last words, and the new one speaks from then on."""
    fds = ["127.0.0.1:0", "unix:one"]
    with (
        activated(
            place, *words, fds=fds, names="a:b", manager=manager, killed=True
        ) as server,
        Dance(server) as dance,
    ):
        manager.wait_for(READY="1")
        with Load(server) as load:
            new = dance.usr2()
            initial = Path(f"/proc/{new}/environ").read_text().split("\0")
            assert {f"LISTEN_PID={new}", "LISTEN_FDS=2", "LISTEN_FDNAMES=a:b"} <= {
                *initial
            }
            assert not [word for word in initial if word.startswith("GUNICORN_FD")]
            server.wait_for(rf"\[{new}\] \[INFO\] Sockets of systemd: 2 \(a, b\)$")
            load.goes_on()
            assert {m["sender"] for m in manager.now()} <= {server.pid}
            old = server.pid
            dance.end(old)
            dance.promoted(new)
            load.goes_on()
        assert load.losses == []
        message = manager.wait_for(MAINPID=str(new))
        assert message["sender"] == old
        assert "STOPPING" not in message
        message = manager.wait_for(MAINPID=str(new), READY="1")
        assert message["sender"] == new
        os.kill(new, signal.SIGHUP)
        assert manager.wait_for(RELOADING="1")["sender"] == new
        manager.wait_for(READY="1", STATUS="Reloaded")
    assert manager.wait_for(STOPPING="1")["sender"] == new
    assert (place / "one").exists()


def test_an_upgrade_hands_on_the_watchdog(place, manager):
    server = Deployed(
        "main:app",
        *BIND,
        cwd=place,
        # The wrapper becomes the server, whose number is in the variable.
        prefix=(
            sys.executable,
            "-c",
            "import os, sys\nos.environ['WATCHDOG_PID'] = str(os.getpid())\n"
            "os.execv(sys.argv[1], sys.argv[1:])",
        ),
        **with_watchdog(manager, 200_000),
    )
    try:
        with Dance(server) as dance:
            server.wait_until_ready()
            assert manager.wait_for(WATCHDOG="1")["sender"] == server.pid
            new = dance.usr2()
            dance.end(server.pid)
            manager.wait_for(MAINPID=str(new), READY="1")
            assert manager.wait_for(WATCHDOG="1")["sender"] == new
    finally:
        server.finish(killed=True)


def test_a_way_back_leaves_the_main_process_as_it_was(deploy, manager):
    with deploy(killed=True, **told(manager)) as server, Dance(server) as dance:
        manager.wait_for(READY="1")
        new = dance.usr2()
        dance.end(new)
        server.wait_for(r"exited with code 0; this one goes on")
        server.process.send_signal(signal.SIGHUP)
        manager.wait_for(READY="1", STATUS="Reloaded")
        assert not [m for m in manager.now() if "MAINPID" in m]
    assert manager.wait_for(STOPPING="1")["sender"] == server.pid


# The first process of a container


FIRST = ("unshare", "--pid", "--mount-proc", "--fork", "--kill-child")
can_be_first = pytest.mark.skipif(
    os.geteuid() != 0 or SANITIZED,
    reason="needs root; the leak checker does not work in a first process",
)


@can_be_first
@pytest.mark.parametrize(
    "signum", [signal.SIGTERM, signal.SIGINT, signal.SIGQUIT], ids=str
)
def test_as_the_first_process_it_heeds_signals(place, signum):
    """The kernel drops signals to PID 1 that have no handler."""
    server = Deployed("main:app", *BIND, cwd=place, prefix=FIRST)
    try:
        server.addresses = [server.wait_for(LISTENING.pattern, START_S)[2]]
        server.wait_for(READY, START_S)
        (master,) = children(server.pid)
        os.kill(master, signal.SIGHUP)
        server.wait_for(rf"(?s)Hang up: Master.*{READY}")
        os.kill(master, signal.SIGUSR1)
        server.wait_for("Handling signal: usr1")
        os.kill(master, signal.SIGTTIN)
        server.wait_for(r"(?s)(Booting worker with pid: .*){3}")
        assert server.get().status == 200
        os.kill(master, signum)
        assert server.wait() == 0
    finally:
        server.finish(killed=True)


@can_be_first
@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGQUIT], ids=str)
def test_as_the_first_process_it_can_be_stopped_while_it_starts(place, signum):
    os.mkfifo(place / "gate")
    (place / "gunicorn.conf.py").write_text(
        "import sys\nprint('here', file=sys.stderr, flush=True)\nopen('gate').read()\n"
    )
    server = Deployed("main:app", *BIND, cwd=place, prefix=FIRST)
    try:
        server.wait_for("here", START_S)
        (master,) = children(server.pid)
        os.kill(master, signum)
        assert server.wait() == 128 + signum
    finally:
        server.finish(killed=True)
