"""USR2: a new master beside the old one, and what becomes of the two."""

import ast
import os
import re
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from tests import uwsgi_client as uwsgi
from tests.client import Malformed, Truncated
from tests.process import (
    DISASTERS,
    READY,
    ROOT,
    START_S,
    STOP_S,
    WORKERS,
    Deployed,
    content,
    environment,
    parent_of,
    wait_for_end,
    wait_until,
)
from tests.server.test_deployment import Daemon, ask
from tests.server.test_master import rewrite, title

pytestmark = pytest.mark.skipif(WORKERS > 0, reason="chooses its workers itself")


class Load:
    """Clients that ask all the time, half of them on connections that they keep."""

    def __init__(self, server, address=""):
        self.losses = []
        self.answers = 0
        self._server = server
        self._address = address
        self._enough = False
        kinds = (self._ask_once, self._ask_on)
        self._threads = [
            threading.Thread(target=self._ask, args=(kind,)) for kind in kinds * 2
        ]

    def _note(self, answer):
        if answer.status != 200 or not answer.body.isdigit():
            self.losses.append(answer)
        self.answers += 1

    def _ask_once(self):
        with self._server.connect(self._address) as client:
            self._note(client.get("/", "Connection: close"))

    def _ask_on(self):
        with self._server.connect(self._address) as client:
            more = True
            while more and not self._enough:
                answer = client.get()
                self._note(answer)
                more = "close" not in answer.all("connection")

    def _ask(self, kind):
        while not self._enough:
            try:
                kind()
            except (OSError, Truncated, Malformed) as error:
                self.losses.append(error)

    def __enter__(self):
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *error):
        self._enough = True
        for thread in self._threads:
            thread.join()

    def goes_on(self, count=20):
        """Wait until so many more requests were answered."""
        before = self.answers
        wait_until(lambda: self.answers >= before + count, lambda: str(self.losses))


class Dance:
    """A server with its masters; all of them have ended when the block has."""

    def __init__(self, server):
        self.server = server
        self.masters = [server.pid]
        self.upgrades = 0

    def __enter__(self):
        return self

    def __exit__(self, kind, *error):
        for pid in self.masters[::-1]:
            if parent_of(pid):
                os.kill(pid, signal.SIGTERM)
                assert wait_for_end(pid, STOP_S) or kind, self.server.stderr
        for sign in () if kind else DISASTERS:
            assert sign not in self.server.stderr

    def begin(self):
        """Send USR2 to the last master; returns the process that it has started."""
        os.kill(self.masters[-1], signal.SIGUSR2)
        self.upgrades += 1
        started = r"(?s)(?:Starting a new master \(pid:(\d+)\).*?)"
        new = int(self.server.wait_for(f"{started}{{{self.upgrades}}}")[1])
        assert parent_of(new) in (self.masters[-1], 0)
        return new

    def usr2(self):
        """Have a new master, whose workers are ready; returns its process."""
        new = self.begin()
        self.masters.append(new)
        self.server.wait_for(rf"\[{new}\] {READY}", START_S)
        return new

    def end(self, pid, signum=signal.SIGTERM):
        os.kill(pid, signum)
        if pid == self.server.pid:
            self.server.process.wait(STOP_S)
        assert wait_for_end(pid, STOP_S), self.server.stderr
        self.masters.remove(pid)

    def promoted(self, pid):
        self.server.wait_for(rf"\[{pid}\] \[INFO\] Master has been promoted\.$")


# Executes Python with the first N of its words, whatever comes behind them.
INSTEAD = """
import os, sys
words = sys.argv[2 : 2 + int(sys.argv[1])]
os.execv(sys.executable, [sys.executable, *words])
"""


def instead(*words):
    """A prefix for `Deployed`: these words of Python's, and not the command."""
    return (sys.executable, "-c", INSTEAD, str(len(words)), *map(str, words))


class Inheriting(Deployed):
    """The command, with descriptors of ours."""

    def __init__(self, *words, fds, **more):
        self._fds = fds
        super().__init__(*words, **more)

    def _start(self, module, cwd, env, pass_fds=(), prefix=()):
        super()._start(module, cwd, env, self._fds, prefix)


def listening(*binds):
    return [word for bind in binds for word in ("-b", bind)]


# The whole of it


def test_a_new_master_speaks_at_each_socket_what_the_old_one_did(deploy, place):
    words = ("--uwsgi-socket", "unix:front", *listening("127.0.0.1:0"))
    with deploy(*words, killed=True) as server, Dance(server) as dance:
        dance.usr2()
        dance.end(server.pid)

        assert server.get().status == 200
        with server.connect(f"unix:{place}/front") as client:
            client.send(uwsgi.request())
            assert client.response().status == 200


@pytest.mark.parametrize(
    "words", [(), ("--preload",), ("--reuse-port",), ("--preload", "--reuse-port")]
)
def test_a_new_master_takes_over_under_load(deploy, place, words):
    """TERM ends the old one when the new one serves; no request is lost."""
    words = (*words, "--pid", "pid", *listening("unix:socket"))
    with deploy(*words, workers=2, killed=True) as server, Dance(server) as dance:
        with Load(server) as tcp, Load(server, f"unix:{place}/socket") as unix:
            new = dance.usr2()
            assert (place / "pid").read_text() == f"{server.pid}\n"
            assert (place / "pid.2").read_text() == f"{new}\n"
            assert title(new).startswith("pywsgiserve: master [main:app.2]")
            tcp.goes_on()
            unix.goes_on()

            dance.end(server.pid)
            dance.promoted(new)
            wait_until(lambda: content(place / "pid").decode() == f"{new}\n")
            wait_until(lambda: title(new) == "pywsgiserve: master [main:app]")
            tcp.goes_on()
            unix.goes_on()
        assert (tcp.losses, unix.losses) == ([], [])
        assert not (place / "pid.2").exists()
        assert (place / "socket").exists()
    assert not (place / "pid").exists()
    assert not (place / "socket").exists()


@pytest.mark.parametrize("words", [(), ("--preload",), ("--reuse-port",)])
def test_there_is_a_way_back(deploy, place, words):
    """TERM to the new one, HUP to the old."""
    words = (*words, "--pid", "pid", *listening("unix:socket"))
    with deploy(*words, killed=True) as server, Dance(server) as dance:
        with Load(server) as tcp, Load(server, f"unix:{place}/socket") as unix:
            new = dance.usr2()
            tcp.goes_on()
            dance.end(new)
            server.wait_for(
                rf"\[INFO\] The new master \(pid:{new}\) exited with code 0; "
                r"this one goes on\.$"
            )
            server.process.send_signal(signal.SIGHUP)
            server.wait_for(rf"(?s)Hang up: Master.*\[{server.pid}\] {READY}")
            tcp.goes_on()
            unix.goes_on()
        assert (tcp.losses, unix.losses) == ([], [])
        assert not (place / "pid.2").exists()
        assert (place / "pid").read_text() == f"{server.pid}\n"

        dance.usr2()  # And once more.
        dance.end(server.pid)
    assert not (place / "socket").exists()


def test_one_after_the_other_for_many_generations(deploy, place):
    with (
        deploy("--pid", "pid", *listening("unix:socket"), killed=True) as server,
        Dance(server) as dance,
        Load(server) as tcp,
        Load(server, f"unix:{place}/socket") as unix,
    ):
        for _ in range(3):
            old, new = dance.masters[-1], dance.usr2()
            dance.end(old)
            dance.promoted(new)
            tcp.goes_on()
            unix.goes_on()
        assert (tcp.losses, unix.losses) == ([], [])
    assert {entry.name for entry in place.iterdir()} <= {"main.py", "__pycache__"}


# What may go wrong


@pytest.mark.parametrize("signum", [signal.SIGQUIT, signal.SIGINT, signal.SIGKILL])
def test_the_old_master_may_end_in_any_way(deploy, place, signum):
    words = ("--pid", "pid", *listening("unix:socket"))
    with deploy(*words, killed=True) as server, Dance(server) as dance:
        new = dance.usr2()
        dance.end(server.pid, signum)
        dance.promoted(new)
        wait_until(lambda: content(place / "pid").decode() == f"{new}\n")
        assert server.get().status == 200
        with server.connect("unix:" + str(place / "socket")) as client:
            assert client.get().status == 200
    assert {entry.name for entry in place.iterdir()} <= {"main.py", "__pycache__"}


def test_there_are_never_three_masters(deploy):
    with deploy(killed=True) as server, Dance(server) as dance:
        new = dance.usr2()
        server.process.send_signal(signal.SIGUSR2)
        server.wait_for(r"\[WARNING\] USR2 signal ignored\. Child exists\.$")
        os.kill(new, signal.SIGUSR2)
        server.wait_for(r"\[WARNING\] USR2 signal ignored\. Parent exists\.$")
        assert server.get().status == 200


@pytest.mark.parametrize(
    ("name", "text", "code", "said"),
    [
        ("main.py", "import nix", 3, "needs 'nix', which is not there"),
        ("main.py", "x = 1", 4, "module 'main' has no 'app'"),
        ("gunicorn.conf.py", "timeout = 'long'", 1, "timeout: expected"),
        ("gunicorn.conf.py", "1 / 0", 1, "ZeroDivisionError"),
        ("gunicorn.conf.py", "def when_ready(server): 1 / 0", 1, "ZeroDivisionError"),
    ],
)
def test_a_new_master_that_cannot_start_changes_nothing(
    deploy, place, name, text, code, said
):
    """All that the old one has is still its own, and it can try again."""
    words = ("--pid", "pid", *listening("unix:socket"))
    before = (place / "main.py").read_text()
    with deploy(*words, killed=True) as server, Dance(server) as dance:
        rewrite(place / name, text)
        new = dance.begin()
        server.wait_for(
            rf"\[ERROR\] The new master \(pid:{new}\) exited with code {code}; "
            r"this one goes on\.$",
            START_S,
        )
        assert said in server.stderr
        assert server.get().status == 200
        with server.connect("unix:" + str(place / "socket")) as client:
            assert client.get().status == 200
        assert (place / "pid").read_text() == f"{server.pid}\n"
        assert not (place / "pid.2").exists()

        rewrite(place / name, before if name == "main.py" else "")
        new = dance.usr2()
        dance.end(server.pid)
        dance.promoted(new)
        assert server.get().status == 200


def test_who_starts_is_awaited_by_nobody(deploy, place):
    """The old master ends before the new one serves: clients wait in the queue."""
    with deploy(killed=True) as server, Dance(server) as dance:
        rewrite(
            place / "main.py",
            f"import os\nopen({str(place / 'gate')!r}).read()\n"
            + (place / "main.py").read_text(),
        )
        os.mkfifo(place / "gate")
        new = dance.begin()
        dance.masters.append(new)
        server.wait_for(rf"\[{new}\] \[INFO\] Listening at", START_S)
        dance.end(server.pid)
        dance.promoted(new)
        with server.connect() as client:
            client.send(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            (place / "gate").write_text("")
            assert client.response().status == 200


# How it is executed


HOOK = """
import os, signal
def pre_exec(server):
    held = signal.pthread_sigmask(signal.SIG_BLOCK, [])
    theirs = [n for n in signal.valid_signals() if n not in (9, 19) and
              signal.getsignal(n) not in (signal.SIG_DFL, None)]
    server.log.info("pre_exec %s %s %s %s", os.getppid() == server.pid,
                    server.reexec_pid, sorted(held), os.path.basename(os.getcwd()))
    {more}
"""


def test_there_is_a_hook_before_it(deploy, place):
    (place / "there").mkdir()
    (place / "gunicorn.conf.py").write_text(HOOK.format(more=""))
    words = ("--chdir", "there", "--pythonpath", "..")
    with deploy(*words, killed=True) as server, Dance(server) as dance:
        new = dance.usr2()
        server.wait_for(rf"\[{new}\] \[INFO\] pre_exec True 0 \[\] there$")
        assert os.readlink(f"/proc/{new}/cwd") == str(place / "there")
        assert server.get().status == 200


def test_a_hook_that_fails_ends_it(deploy, place):
    (place / "gunicorn.conf.py").write_text(HOOK.format(more="1 / 0"))
    with deploy() as server, Dance(server) as dance:
        new = dance.begin()
        server.wait_for(r"Exception in pre_exec hook")
        server.wait_for(rf"The new master \(pid:{new}\) exited with code 1; this one")
        assert server.get().status == 200
        dance.masters.clear()


ENVIRONMENT = """
import os
def app(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    names = ("GUNICORN_", "LISTEN_", "NOTIFY_", "WATCHDOG_", "PYWSGISERVE_", "PWS_T")
    return [repr(sorted(k + "=" + v for k, v in os.environ.items()
                        if k.startswith(names))).encode()]
"""


def test_the_environment_is_that_of_the_start_and_of_nobody_elses(deploy, place):
    """What the app or the settings have added is not handed on, and the protocol's
    variables are not for the app."""
    (place / "main.py").write_text(ENVIRONMENT)
    (place / "gunicorn.conf.py").write_text(
        "import os\nos.environ.setdefault('PWS_TEST_OURS', str(os.getpid()))\n"
        "raw_env = ['PWS_TEST_RAW=x']\n"
    )
    with (
        deploy(killed=True, PWS_TEST_GIVEN="y") as server,
        Dance(server) as dance,
    ):
        first = server.get().body.decode()
        assert first == str(
            [f"PWS_TEST_{x}" for x in ("GIVEN=y", f"OURS={server.pid}", "RAW=x")]
        )
        new = dance.usr2()
        initial = Path(f"/proc/{new}/environ").read_text().split("\0")
        assert "PWS_TEST_GIVEN=y" in initial
        assert f"GUNICORN_PID={server.pid}" in initial
        assert [x for x in initial if x.startswith("GUNICORN_FD=")]
        assert not [x for x in initial if x.startswith(("PWS_TEST_O", "PWS_TEST_R"))]
        dance.end(server.pid)
        dance.promoted(new)
        assert server.get().body.decode() == first.replace(str(server.pid), str(new))


def test_no_descriptor_but_the_sockets_goes_along(deploy, place):
    words = ("--access-logfile", "access", "--pid", "pid", *listening("unix:socket"))
    (place / "gunicorn.conf.py").write_text(
        "import os\n"
        "def on_starting(server):\n"
        "    links = [os.path.realpath(f'/proc/self/fd/{fd}')"
        " for fd in os.listdir('/proc/self/fd') if int(fd) > 2]\n"
        "    names = [os.path.basename(x).partition(':')[0] for x in links]\n"
        "    server.log.info('open: %s', [x for x in names if not x.isdigit()])\n"
    )
    with deploy(*words, killed=True) as server, Dance(server) as dance:
        new = dance.usr2()
        first, second = (
            ast.literal_eval(server.wait_for(rf"\[{pid}\] \[INFO\] open: (.*)$")[1])
            for pid in (server.pid, new)
        )
        assert sorted([*first, "socket", "socket"]) == sorted(
            name.replace("pid.2", "pid") for name in second
        )


SHOWS_ITS_WORDS = """
import sys
def app(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [repr(sys.orig_argv[1:]).encode()]
"""
BIND = ("-b", "127.0.0.1:0")


@pytest.mark.parametrize(
    "words",
    [
        ("command", "main:app", *BIND),
        ("-X", "utf8=1", "-m", "pywsgiserve", "main:app", *BIND),
        ("program.py",),
        ("-c", "from main import app, pywsgiserve; pywsgiserve.run(app, workers=2)"),
    ],
    ids=["console script", "options", "program", "text"],
)
def test_it_is_executed_as_it_was(place, words):
    """run() in a program executes that program anew."""
    (place / "command").write_text(
        "import sys\nfrom pywsgiserve.cli import main\nsys.exit(main())\n"
    )
    (place / "main.py").write_text("import pywsgiserve\n" + SHOWS_ITS_WORDS)
    (place / "program.py").write_text(
        "import os\nfrom main import app\nfrom pywsgiserve import run\n"
        "os.chdir('/')\n"
        "run(app, workers=2, bind='127.0.0.1:0')\n"
    )
    words = [word.replace("=2)", "=2, bind='127.0.0.1:0')") for word in words]
    server = Deployed(cwd=place, prefix=instead(*words))
    try:
        with Dance(server) as dance:
            server.wait_until_listening()
            server.wait_for(READY, START_S)
            shown = server.get().body.decode()
            assert shown == repr(words)
            new = dance.usr2()
            dance.end(server.pid)
            dance.promoted(new)
            assert server.get().body.decode() == shown
    finally:
        server.finish(killed=True)


def test_a_link_to_the_program_may_lead_elsewhere_by_then(place):
    """The way in which releases are deployed: a link to the current one."""
    for name in ("one", "two"):
        (place / name).mkdir()
        (place / name / "main.py").write_text(
            "def app(environ, start_response):\n"
            "    start_response('200 OK', [])\n"
            f"    return [b'{name}']\n"
        )
    (place / "current").symlink_to("one")
    server = Deployed(
        "main:app", *BIND, cwd=place / "current", PWD=str(place / "current")
    )
    try:
        with Dance(server) as dance:
            server.wait_until_ready()
            assert server.get().body == b"one"
            (place / "next").symlink_to("two")
            (place / "next").rename(place / "current")
            new = dance.usr2()
            dance.end(server.pid)
            dance.promoted(new)
            assert server.get().body == b"two"
    finally:
        server.finish(killed=True)


# Sockets


def test_inherited_sockets_stand_above_bind(deploy, place):
    with (
        deploy(*listening("unix:socket"), killed=True) as server,
        Dance(server) as dance,
    ):
        new = dance.usr2()
        server.wait_for(
            rf"\[{new}\] \[INFO\] Listening at: http://127\.0\.0\.1:{server.port},"
            r"unix:socket "
        )
        assert f"[{new}] [WARNING]" not in server.stderr


def test_a_descriptor_that_is_bound_to_is_inherited_like_others(place):
    with socket.create_server(("127.0.0.1", 0)) as ours:
        bind = f"fd://{ours.fileno()}"
        server = Inheriting(
            "main:app", "-b", bind, cwd=place, fds=[ours.fileno()]
        )  # fmt: skip
        try:
            with Dance(server) as dance:
                server.wait_until_ready()
                new = dance.usr2()
                dance.end(server.pid)
                dance.promoted(new)
                assert server.get().status == 200
                assert "[WARNING]" not in server.stderr
        finally:
            server.finish(killed=True)


def test_an_address_that_was_changed_is_named(deploy, place):
    config = place / "gunicorn.conf.py"
    config.write_text("bind = ['127.0.0.1:0']")
    server = Deployed("main:app", cwd=place)
    try:
        with Dance(server) as dance:
            server.wait_until_ready()
            rewrite(config, "bind = ['127.0.0.1:0', 'unix:other']")
            new = dance.usr2()
            server.wait_for(
                rf"\[{new}\] \[WARNING\] bind: the inherited sockets are used, and "
                r"not: unix:other$"
            )
            assert not (place / "other").exists()
            assert server.get().status == 200
    finally:
        server.finish(killed=True)


@pytest.mark.parametrize(
    ("fds", "said"),
    [
        ("0", "descriptor 0 (from GUNICORN_FD): it is no socket"),
        ("999", "descriptor 999 (from GUNICORN_FD): Bad file descriptor"),
        ("x", "GUNICORN_FD: got 'x'"),
        ("{udp}", "it is no TCP or Unix stream socket"),
        ("{deaf}", "it does not listen"),
    ],
)
def test_what_is_no_listening_socket_is_refused(place, fds, said):
    udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    deaf = socket.socket()
    with udp, deaf:
        fds = fds.format(udp=udp.fileno(), deaf=deaf.fileno())
        done = subprocess.run(
            [sys.executable, "-m", "pywsgiserve", "main:app", *BIND],
            cwd=place,
            env=environment(
                {
                    "PYTHONPATH": str(ROOT),
                    "GUNICORN_PID": str(os.getpid()),
                    "GUNICORN_FD": fds,
                }
            ),
            pass_fds=(udp.fileno(), deaf.fileno()),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=START_S,
        )
    assert done.returncode == 1
    assert said in done.stderr


def test_what_another_process_was_to_inherit_is_ignored(deploy):
    """An app of Gunicorn's may have started us, with its environment."""
    with deploy(GUNICORN_PID="1", GUNICORN_FD="998,999") as server:
        server.wait_for(
            r"\[WARNING\] GUNICORN_FD=998,999 is for another process, ignored$"
        )
        assert server.get().status == 200


def test_gunicorn_may_be_the_old_master(place):
    """All that it says is in these two variables."""
    with socket.create_server(("127.0.0.1", 0)) as ours:
        ours.set_inheritable(True)
        wrapper = f"import os,sys; os.environ['GUNICORN_FD']='{ours.fileno()}'\n"
        wrapper += "os.environ['GUNICORN_PID']=str(os.getppid())\n"
        wrapper += "os.execv(sys.argv[1], sys.argv[1:])"
        server = Inheriting(
            "main:app", *listening("127.0.0.1:1"), cwd=place, fds=[ours.fileno()],
            prefix=(sys.executable, "-c", wrapper),
        )  # fmt: skip
        try:
            server.wait_until_ready()
            assert server.port == ours.getsockname()[1]
            server.wait_for(r"bind: the inherited sockets are used, and not: 127\.0\.")
            assert server.get().status == 200
            assert title(server.pid).startswith("pywsgiserve: master [main:app.2]")
        finally:
            server.finish()


# In the background


def test_a_daemon_is_succeeded_by_a_daemon(place):
    with Daemon(place, "--log-file", "log") as daemon:
        old = daemon.pid
        os.kill(old, signal.SIGUSR2)
        second = place / "daemon.pid.2"
        wait_until(lambda: second.exists() and second.read_text().endswith("\n"))
        new = daemon.pid = int(second.read_text())
        log = place / "log"
        wait_until(lambda: re.search(rf"(?m)\[{new}\] {READY}", log.read_text()))
        assert parent_of(new) == old
        assert os.getsid(new) == os.getsid(old)
        os.kill(old, signal.SIGTERM)
        assert wait_for_end(old, STOP_S)
        wait_until(lambda: daemon.pidfile.exists())
        assert daemon.pidfile.read_text() == f"{new}\n"
        assert ask(place / "socket").startswith(b"HTTP/1.1 200 OK\r\n")
        wait_until(lambda: os.readlink(f"/proc/{new}/fd/2") == os.devnull)
    assert not daemon.pidfile.exists()
    assert not (place / "socket").exists()


def test_a_daemon_says_why_there_is_no_other_one(place):
    with Daemon(place, "--log-file", "log") as daemon:
        rewrite(place / "main.py", "import nix")
        (place / "gunicorn.conf.py").write_text("workers = -1")
        os.kill(daemon.pid, signal.SIGUSR2)
        log = place / "log"
        wait_until(lambda: "this one goes on" in log.read_text())
        assert "workers: expected" in log.read_text()
        assert ask(place / "socket").startswith(b"HTTP/1.1 200 OK\r\n")
