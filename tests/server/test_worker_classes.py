"""Classes of workers of one's own: they own the process, the master looks after it."""

import os
import re
import shutil
import signal
import socket
import threading
from pathlib import Path

import pytest

from tests.client import DEADLINE_S
from tests.process import (
    ROOT,
    START_S,
    TIMEOUT,
    WORKER_CLASS,
    WORKERS,
    parent_of,
    wait_until,
)
from tests.server.test_deployment import becomes_nobody
from tests.server.test_master import rewrite
from tests.server.test_preload import those_at_work

pytestmark = pytest.mark.skipif(
    WORKERS > 0 or bool(WORKER_CLASS), reason="chooses its workers itself"
)

ECHO = ("-k", "line_echo:LineEcho")
both_ways = pytest.mark.parametrize("preload", [(), ("--preload",)])

# Lines that are answered in a way of their own.
MORE = """
import os, time
from line_echo import LineEcho

class Special(LineEcho):
    def echo(self, client):
        line = client.recv(100)
        if line == b"pid\\n":
            client.sendall(b"%d\\n" % os.getpid())
            self.served()
        elif line == b"threads\\n":
            client.sendall(b"%d\\n" % len(os.listdir("/proc/self/task")))
        elif line == b"hang\\n":
            while True:
                time.sleep(0.1)
        elif line == b"fail\\n":
            raise RuntimeError("a bad line")
        else:
            self.close(client)
"""


@pytest.fixture
def site(place):
    """A directory with line_echo:LineEcho and special:Special."""
    shutil.copy(ROOT / "tests" / "apps" / "line_echo.py", place)
    (place / "special.py").write_text(MORE)
    return place


def connect(server):
    host, _, port = server.url.removeprefix("http://").rpartition(":")
    sock = socket.create_connection((host, int(port)), DEADLINE_S)
    sock.settimeout(START_S)
    return sock


def said(sock, line):
    sock.sendall(line)
    return sock.makefile("rb").readline()


def ask(server, line):
    with connect(server) as sock:
        return said(sock, line)


class Lines:
    """Clients that ask all the time who is there; what they did not get is in `losses`."""

    def __init__(self, server, count=2):
        self.losses = []
        self.pids = []
        self._server = server
        self._enough = False
        self._threads = [threading.Thread(target=self._ask) for _ in range(count)]

    def _ask(self):
        while not self._enough:
            try:
                self.pids.append(int(ask(self._server, b"pid\n")))
            except (OSError, ValueError) as error:
                self.losses.append(error)

    def __enter__(self):
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *error):
        self._enough = True
        for thread in self._threads:
            thread.join()


# It serves


@both_ways
def test_a_server_need_not_speak_http(deploy, site, preload):
    with deploy(*ECHO, *preload, workers=2, killed=True) as server:
        server.wait_for(r"\[INFO\] Using worker: line_echo:LineEcho$")
        with connect(server) as one, connect(server) as other:
            assert said(one, b"a line\n") == b"a line\n"
            assert said(other, b"another\n") == b"another\n"
            assert said(one, b"and one more\n") == b"and one more\n"
        assert server.stop() == 0

    sent = re.findall(r"<Worker \d+> has sent (\d) lines back$", server.stderr, re.M)
    assert sum(map(int, sent)) == 3
    assert len(
        re.findall(r"\[INFO\] Worker exiting \(pid: \d+\)$", server.stderr, re.M)
    )


def test_the_page_shows_that_server():
    page = (ROOT / "docs" / "workers.md").read_text()

    assert (ROOT / "tests" / "apps" / "line_echo.py").read_text() in page


def test_it_may_be_a_class_in_the_config_file(deploy, site):
    (site / "gunicorn.conf.py").write_text(
        "from line_echo import LineEcho\n\nclass Mine(LineEcho):\n    pass\n\n"
        "worker_class = Mine\n"
    )
    with deploy() as server:
        server.wait_for(r"\[INFO\] Using worker: [\w.]+\.Mine$")

        assert ask(server, b"a line\n") == b"a line\n"


def test_it_may_be_an_entry_point_of_a_distribution(deploy, site):
    info = site / "echoes-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: echoes\nVersion: 1.0\n"
    )
    (info / "entry_points.txt").write_text(
        "[gunicorn.workers]\nline = line_echo:LineEcho\n"
    )
    with deploy("-k", "egg:echoes#line") as server:
        assert ask(server, b"a line\n") == b"a line\n"


def test_its_process_has_no_engine(deploy, site):
    with deploy("-k", "special.Special") as server:
        assert ask(server, b"threads\n") == b"1\n"


def test_a_unix_socket_is_handed_over_too(deploy, site):
    with deploy(*ECHO, "-b", "unix:here.sock"):
        with socket.socket(socket.AF_UNIX) as sock:
            sock.settimeout(START_S)
            sock.connect(str(site / "here.sock"))
            assert said(sock, b"a line\n") == b"a line\n"


def test_each_worker_has_a_socket_of_its_own_with_reuse_port(deploy, site):
    with deploy("-k", "special.Special", "--reuse-port", workers=2) as server:
        seen = set()
        wait_until(lambda: seen.add(ask(server, b"pid\n")) or len(seen) == 2)


# It is supervised


@both_ways
def test_a_killed_one_is_replaced(deploy, site, preload):
    with deploy("-k", "special.Special", *preload) as server:
        first = int(ask(server, b"pid\n"))
        os.kill(first, signal.SIGKILL)
        wait_until(lambda: those_at_work(server) - {first})

        assert int(ask(server, b"pid\n")) != first


@both_ways
def test_a_reload_loses_no_connection(deploy, site, preload):
    with deploy("-k", "special.Special", *preload) as server, Lines(server) as lines:
        for _ in range(3):
            before = set(lines.pids[-1:]) or {int(ask(server, b"pid\n"))}
            server.process.send_signal(signal.SIGHUP)
            wait_until(lambda before=before: set(lines.pids[-1:]) - before)

        assert lines.losses == []


def test_a_reload_that_cannot_load_the_class_changes_nothing(deploy, site):
    with deploy("-k", "special.Special") as server:
        first = ask(server, b"pid\n")
        rewrite(site / "special.py", "raise RuntimeError('a bad deployment')")
        server.process.send_signal(signal.SIGHUP)
        server.wait_for(
            r"^Error: worker_class: cannot import 'special.Special': "
            r"RuntimeError: a bad deployment$"
        )

        assert ask(server, b"pid\n") == first


def test_a_reload_can_change_the_class(deploy, site):
    config = site / "gunicorn.conf.py"
    config.write_text("worker_class = 'special.Special'")
    with deploy() as server:
        first = int(ask(server, b"pid\n"))
        rewrite(config, "worker_class = 'sync'")
        server.process.send_signal(signal.SIGHUP)
        server.wait_for_workers(1, but=[first])
        second = int(server.get().body)
        rewrite(config, "worker_class = 'line_echo.LineEcho'")
        server.process.send_signal(signal.SIGHUP)
        server.wait_for_workers(1, but=[first, second])

        assert ask(server, b"a line\n") == b"a line\n"


def test_one_that_has_served_enough_is_succeeded_first(deploy, site):
    words = ("-k", "special.Special", "--max-requests", "5")
    with deploy(*words) as server, Lines(server) as lines:
        wait_until(lambda: len(set(lines.pids)) > 3)

        assert lines.losses == []


@both_ways
def test_one_that_gives_no_sign_is_replaced(deploy, site, preload):
    words = ("-k", "special.Special", "--timeout", TIMEOUT, *preload)
    with deploy(*words) as server:
        first = int(ask(server, b"pid\n"))
        with connect(server) as sock:
            sock.sendall(b"hang\n")
            server.wait_for(rf"\[CRITICAL\] WORKER TIMEOUT \(pid:{first}\)$")
            server.wait_for(rf"Worker \(pid:{first}\) does not call notify\(\)$")
            server.wait_for(rf"Stacks of process {first}:$")
            server.wait_for(r'special.py", line \d+ in echo$')
            wait_until(lambda: those_at_work(server) - {first})

            assert int(ask(server, b"pid\n")) != first
        server.wait_for_workers(1 + len(preload), but=[first])


def test_one_that_is_idle_gives_signs(deploy, site):
    """It waits for half of the time-out at most, and notifies then."""
    (site / "gunicorn.conf.py").write_text(
        "import itertools\n"
        "def post_worker_init(worker):\n"
        "    notify, numbers = worker.tmp.notify, itertools.count(1)\n"
        "    def noted():\n"
        "        notify()\n"
        "        worker.log.info('sign %d', next(numbers))\n"
        "    worker.tmp.notify = noted\n"
    )
    with deploy("-k", "special.Special", "--timeout", "6") as server:
        first = ask(server, b"pid\n")
        server.wait_for("sign 5$", START_S)  # One in 3 s, and one for the request.

        assert "TIMEOUT" not in server.stderr
        assert ask(server, b"pid\n") == first


@becomes_nobody
@both_ways
def test_another_user_can_give_signs_too(deploy, site, preload):
    site.chmod(0o755)
    words = ("-k", "special.Special", "-u", "65534", *preload)
    with deploy(*words) as server:
        pid = int(ask(server, b"pid\n"))
        status = Path(f"/proc/{pid}/status").read_text()
        assert re.search(r"^Uid:\s+65534\s+65534", status, re.M)
        with Lines(server, 1) as lines:
            wait_until(lambda: len(lines.pids) > 20)

        assert set(lines.pids) == {pid}
        assert "Exception" not in server.stderr


def test_one_that_fails_is_replaced(deploy, site):
    with deploy("-k", "special.Special") as server:
        first = int(ask(server, b"pid\n"))
        assert ask(server, b"fail\n") == b""
        server.wait_for(r"^RuntimeError: a bad line$")
        server.wait_for(rf"Worker \(pid:{first}\) exited with code 255\.")
        wait_until(lambda: those_at_work(server) - {first})

        assert int(ask(server, b"pid\n")) != first


def test_it_ends_when_its_master_is_killed(deploy, site):
    with deploy("-k", "special.Special", killed=True) as server:
        pid = int(ask(server, b"pid\n"))
        server.process.kill()
        server.wait()
        server.wait_for(r"\[INFO\] Parent changed, shutting down: <Worker \d+>$")
        wait_until(lambda: parent_of(pid) == 0)


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT, signal.SIGQUIT])
def test_a_signal_ends_it_and_it_is_replaced(deploy, site, signum):
    with deploy("-k", "special.Special") as server:
        first = int(ask(server, b"pid\n"))
        os.kill(first, signum)
        wait_until(lambda: those_at_work(server) - {first})

        assert int(ask(server, b"pid\n")) != first
        assert "exited with code" not in server.stderr


def test_a_quick_end_is_one(deploy, site):
    with deploy("-k", "special.Special", killed=True) as server:
        ask(server, b"pid\n")

        assert server.stop(signal.SIGINT) == 0


def test_usr1_reopens_its_log(deploy, site):
    with deploy("-k", "special.Special", "--log-file", "log", ready=False) as server:
        log = site / "log"
        wait_until(lambda: log.exists() and "Workers are ready" in log.read_text())
        log.rename(site / "old")
        pid = those_at_work(server).pop()
        server.process.send_signal(signal.SIGUSR1)
        wait_until(log.exists)
        os.kill(pid, signal.SIGTERM)
        wait_until(lambda: f"<Worker {pid}> has sent 0 lines" in log.read_text())


def test_hooks_are_handed_its_object(deploy, site):
    (site / "gunicorn.conf.py").write_text(
        "def pre_fork(server, worker): worker.mark = 'a mark'\n"
        "def tell(what, worker): worker.log.info("
        "'%s %s %s %s', what, type(worker).__name__, worker.mark, worker.booted)\n"
        "def post_fork(server, worker): tell('post_fork', worker)\n"
        "def post_worker_init(worker): tell('post_worker_init', worker)\n"
        "def worker_int(worker): tell('worker_int', worker)\n"
        "def worker_exit(server, worker): tell('worker_exit', worker)\n"
    )
    with deploy(*ECHO) as server:
        pid = those_at_work(server).pop()
        os.kill(pid, signal.SIGINT)
        server.wait_for(r"worker_exit LineEcho a mark True$")

    seen = re.findall(
        rf"\[{pid}\] \[INFO\] (\w+) LineEcho a mark (\w+)$", server.stderr, re.M
    )
    assert seen == [
        ("post_fork", "False"),
        ("post_worker_init", "False"),
        ("worker_int", "True"),
        ("worker_exit", "True"),
    ]


# It cannot start


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", r"worker_class: module 'broken' has no 'Broken', wanted by"),
        (
            "import no_such_module",
            r"worker_class: cannot import 'broken.Broken': Module",
        ),
        ("Broken = 5", r"expected a subclass of pywsgiserve.workers.Worker, got"),
        (
            "from pywsgiserve.workers import Worker as Broken",
            r"worker_class: 'broken.Broken' has no run\(\) of its own$",
        ),
        (
            "from line_echo import LineEcho\n"
            "class Broken(LineEcho):\n"
            "    def run(self): raise RuntimeError('before a sign')",
            r"^RuntimeError: before a sign$",
        ),
    ],
)
@both_ways
def test_one_that_cannot_start_ends_the_start(deploy, site, text, said, preload):
    (site / "broken.py").write_text(text)
    words = ("-k", "broken.Broken", *preload)
    with deploy(*words, ready=False, killed=True) as server:
        assert server.wait() == 3
        server.wait_for(said)
        server.wait_for(r"Reason: Worker failed to boot\.$")


def test_an_app_that_cannot_be_had_ends_its_start(deploy, site):
    (site / "main.py").write_text("app = 5")
    with deploy(*ECHO, ready=False, killed=True) as server:
        assert server.wait() == 4
        server.wait_for(r"Reason: App failed to load\.$")


def test_one_that_never_says_that_it_serves_is_late(deploy, site):
    (site / "mute.py").write_text(
        "import time\nfrom line_echo import LineEcho\n"
        "class Mute(LineEcho):\n"
        "    def notify(self): pass\n"
        "    def run(self): time.sleep(600)\n"
    )
    words = ("-k", "mute.Mute", "--timeout", TIMEOUT)
    with deploy(*words, ready=False, killed=True) as server:
        server.wait_for(r"\[CRITICAL\] WORKER TIMEOUT")
        server.process.send_signal(signal.SIGTERM)
        server.wait()


def test_one_without_notify_serves_as_long_as_there_is_no_timeout(deploy, site):
    (site / "plain.py").write_text(
        "from pywsgiserve.workers import Worker\n"
        "class Plain(Worker):\n"
        "    def run(self):\n"
        "        while self.alive:\n"
        "            self.sockets[0].sock.setblocking(True)\n"
        "            client, _ = self.sockets[0].accept()\n"
        "            client.sendall(b'hello\\n')\n"
        "            client.close()\n"
    )
    with deploy("-k", "plain.Plain", "--timeout", "0") as server:
        with connect(server) as sock:
            assert sock.makefile("rb").readline() == b"hello\n"
        pid = those_at_work(server).pop()
        os.kill(pid, signal.SIGTERM)
        connect(server).close()  # It looks whether it is alive after that.


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("-k", "no_such.Worker"), "worker_class: no_such is not installed"),
        (
            (*ECHO, "--protocol", "uwsgi"),
            "protocol: line_echo:LineEcho would have to speak uwsgi",
        ),
        (("-k", "meinheld.gmeinheld.MeinheldWorker"), "is not supported"),
        (("-k", "asgi"), "uvicorn_worker.UvicornWorker"),
        (("-k", "egg:no_such#worker"), "'no_such' is not installed, or has no worker"),
    ],
)
def test_what_cannot_be_is_refused_by_name(deploy, site, words, said):
    with deploy(*words, ready=False, killed=True) as server:
        assert server.wait() in (1, 3)
        assert said in server.stderr


def test_settings_that_it_does_not_know_are_named(deploy, site):
    words = (*ECHO, "--request-timeout", "5", "--server-header", "x")
    with deploy(*words) as server:
        server.wait_for(
            r"\[WARNING\] request_timeout: line_echo:LineEcho has its own, it has no "
        )
        server.wait_for(r"\[WARNING\] server_header: ")

        assert ask(server, b"a line\n") == b"a line\n"


def test_an_asgi_app_is_told_where_it_is_served(deploy, site):
    (site / "main.py").write_text("async def app(scope, receive, send): pass")
    with deploy(ready=False, killed=True) as server:
        assert server.wait() == 4
        server.wait_for(r"-k uvicorn_worker\.UvicornWorker$")


# The settings and the log that it is handed


LOOKING = """
from line_echo import LineEcho

class Looking(LineEcho):
    def load_wsgi(self):
        super().load_wsgi()
        cfg = self.cfg
        self.log.info("seen: %r", [
            cfg.keepalive, cfg.timeout, cfg.bind, cfg.settings["backlog"].get(),
            cfg.forwarded_allow_ips, cfg.is_ssl, cfg.certfile, cfg.env, cfg.workers,
            cfg.worker_class_str, self.timeout, self.app.cfg is cfg,
            [str(s) for s in self.sockets] == ["http://%s:%d" % cfg.address[0]],
            self.sockets[0].getsockname() == cfg.address[0],
            self.tmp.fileno() > 2, self.tmp.last_update() >= 0, hasattr(cfg, "no_such"),
        ])
        self.log.log("warning", "by %s", "name")
        self.log.error("with its cause", exc_info=ValueError("the cause"))
        cfg.set("keepalive", 7)
        self.log.info("set: %d", cfg.keepalive)
"""


def test_it_reads_settings_under_gunicorns_names(deploy, site):
    (site / "looking.py").write_text(LOOKING)
    words = ("-k", "looking.Looking", "--keep-alive", "5", "-e", "A=b")
    with deploy(*words) as server:
        seen = server.wait_for(r"\[INFO\] seen: (.*)$")[1]
        server.wait_for(r"\[WARNING\] by name$")
        server.wait_for(r"\[ERROR\] with its cause\nValueError: the cause$")
        server.wait_for(r"\[INFO\] set: 7$")

    assert seen == repr(
        [
            5,
            30,
            ["127.0.0.1:0"],
            2048,
            ["127.0.0.1", "::1"],
            False,
            None,
            {"A": "b"},
            1,
            "looking.Looking",
            15.0,
            True,
            True,
            True,
            True,
            True,
            False,
        ]
    )


@pytest.mark.parametrize("name", ["gevent", "eventlet", "tornado"])
def test_a_class_that_is_not_installed_ends_the_start_with_its_extra(
    deploy, place, name
):
    (place / "sitecustomize.py").write_text(
        f"import sys\nsys.modules[{name!r}] = None\n"
    )
    path = os.pathsep.join([str(place), str(ROOT)])
    with deploy("-k", name, ready=False, killed=True, PYTHONPATH=path) as server:
        assert server.wait() == 1
        assert server.stderr.strip() == (
            f"Error: worker_class: {name} is not installed: "
            f"pip install 'pywsgiserve[{name}]' (from the command line)"
        )
