"""Hooks, daemon, pid file, users, addresses: what a deployment asks of the command."""

import os
import re
import signal
import socket
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.client import DEADLINE_S, SANITIZED
from tests.process import (
    ROOT,
    START_S,
    TIMEOUT,
    WORKERS,
    Deployed,
    Pipe,
    environment,
    parent_of,
    wait_until,
)
from tests.server.test_master import rewrite

pytestmark = pytest.mark.skipif(WORKERS > 0, reason="chooses its workers itself")
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
# The leak checker of who is nobody may not be able to read the interpreter's symbols,
# by which it knows what is no leak.
becomes_nobody = pytest.mark.skipif(
    os.geteuid() != 0 or SANITIZED, reason="needs root, and the ordinary build"
)

PACKAGES = str(ROOT)
NOBODY = 65534

# Hooks

HOOKS = """
import os
def note(*words):
    with open({log!r}, "a") as log:
        print(*words, file=log)
MASTER = os.getpid()
def here():
    return "master" if os.getpid() == MASTER else "worker"
def on_starting(server): note("on_starting", here(), server.cfg.workers)
def when_ready(server): note("when_ready", here(), len(server.address))
def pre_fork(server, worker): note("pre_fork", here(), worker.age, worker.pid)
def post_fork(server, worker):
    note("post_fork", here(), worker.age, worker.pid == os.getpid(), worker.wsgi)
def post_worker_init(worker): note("post_worker_init", here(), callable(worker.wsgi))
def worker_int(worker): note("worker_int", here(), worker.age)
def worker_exit(server, worker): note("worker_exit", here(), worker.age)
def child_exit(server, worker): note("child_exit", here(), worker.age, worker.pid > 1)
def on_reload(server): note("on_reload", here(), server.cfg.workers)
def on_exit(server): note("on_exit", here(), server.log is not None)
"""


def test_hooks_come_in_gunicorns_order_and_process(deploy, place):
    log = place / "log"
    (place / "gunicorn.conf.py").write_text(HOOKS.format(log=str(log)))
    with deploy(killed=True) as server:
        server.stop()

    assert log.read_text().splitlines() == [
        "on_starting master 1",
        "when_ready master 1",
        "pre_fork master 1 [booting]",
        "post_fork worker 1 True None",
        "post_worker_init worker True",
        "worker_exit worker 1",
        "child_exit master 1 True",
        "on_exit master True",
    ]


def test_hooks_of_a_reload_come_in_gunicorns_order(deploy, place):
    log = place / "log"
    (place / "gunicorn.conf.py").write_text(HOOKS.format(log=str(log)))
    with deploy() as server:
        first = server.workers()
        log.unlink()
        server.process.send_signal(signal.SIGHUP)
        server.wait_for_workers(1, but=first)
        wait_until(lambda: "child_exit" in log.read_text())

        assert log.read_text().splitlines() == [
            "on_reload master 1",
            "pre_fork master 2 [booting]",
            "post_fork worker 2 True None",
            "post_worker_init worker True",
            "worker_exit worker 1",
            "child_exit master 1 True",
        ]


def test_a_worker_says_that_it_was_interrupted(deploy, place):
    log = place / "log"
    (place / "gunicorn.conf.py").write_text(HOOKS.format(log=str(log)))
    with deploy() as server:
        first = server.workers()
        os.kill(min(first), signal.SIGINT)
        server.wait_for_workers(1, but=first)
        wait_until(lambda: "child_exit" in log.read_text())

        lines = log.read_text().splitlines()
        at = lines.index("worker_int worker 1")
        ends = [line for line in lines[at:] if "_exit" in line]
        assert ends == [
            "worker_exit worker 1",
            "child_exit master 1 True",
        ]


def test_a_worker_that_is_late_calls_its_hook(deploy, place):
    (place / "gunicorn.conf.py").write_text(
        "def worker_abort(worker): worker.log.info('late: %s', worker)"
    )
    with deploy("--timeout", TIMEOUT) as server, server.connect() as client:
        client.send(b"GET /hang HTTP/1.1\r\nHost: x\r\n\r\n")
        client.response()
        server.wait_for(r"\[INFO\] late: <Worker \d+>$")


REQUEST_HOOKS = """
import time
def pre_request(worker, req):
    req.began = time.monotonic()
    worker.log.info("before %s %s", req.method, req.path)
    if req.path == "/refused":
        raise ValueError("not this one")
def post_request(worker, req{more}):
    took = time.monotonic() - req.began
    worker.log.info("after %s %s %s", req.uri, took >= 0, {shown})
    if req.path == "/late":
        raise ValueError("too late")
"""


@pytest.mark.parametrize(
    ("more", "shown", "said"),
    [
        ("", "req.headers[0]", "('HOST', 'x')"),
        (", environ", "environ['PATH_INFO']", "/some"),
        (
            ", environ, resp",
            "(resp.status, resp.status_code, resp.headers)",
            "('200 OK', 200, [('Content-Type', 'text/plain')])",
        ),
    ],
)
def test_requests_have_their_hooks(deploy, place, more, shown, said):
    (place / "gunicorn.conf.py").write_text(
        REQUEST_HOOKS.format(more=more, shown=shown)
    )
    with deploy() as server:
        server.get("/some?query")
        server.wait_for(r"\[INFO\] before GET /some$")
        server.wait_for(re.escape(f"[INFO] after /some?query True {said}"))


def test_a_hook_that_fails_before_a_request_is_a_500(deploy, place):
    (place / "gunicorn.conf.py").write_text(
        REQUEST_HOOKS.format(more="", shown="worker")
    )
    with deploy() as server:
        assert server.get("/refused").status == 500
        server.wait_for("ValueError: not this one")
        assert server.get("/").status == 200


def test_a_hook_that_fails_after_a_request_does_not_change_it(deploy, place):
    (place / "gunicorn.conf.py").write_text(
        REQUEST_HOOKS.format(more="", shown="worker")
    )
    with deploy() as server:
        assert server.get("/late").status == 200
        server.wait_for("(?s)Exception in post_request hook.*ValueError: too late")


@pytest.mark.parametrize("name", ["on_starting", "when_ready"])
def test_a_hook_that_fails_at_the_start_ends_it(deploy, place, name):
    (place / "gunicorn.conf.py").write_text(f"def {name}(server): 1 / 0")

    with deploy(ready=False, killed=True) as server:
        assert server.wait() == 1
        assert "ZeroDivisionError" in server.stderr
        assert f"Exception in {name} hook" in server.stderr


@pytest.mark.parametrize("name", ["post_fork", "post_worker_init"])
def test_a_hook_that_fails_in_a_new_worker_is_a_failed_boot(deploy, place, name):
    arguments = "server, worker" if name == "post_fork" else "worker"
    (place / "gunicorn.conf.py").write_text(f"def {name}({arguments}): 1 / 0")

    with deploy(ready=False, killed=True) as server:
        assert server.wait() == 3
        assert f"Exception in {name} hook\n" in server.stderr
        assert "ZeroDivisionError" in server.stderr


def test_a_worker_installs_its_handlers_before_it_loads_the_app(deploy, place):
    """Hooks and apps wrap the handler that they find."""
    (place / "gunicorn.conf.py").write_text(
        "import signal\n"
        "def post_worker_init(worker):\n"
        "    theirs = signal.getsignal(signal.SIGTERM)\n"
        "    def ours(signum, frame):\n"
        "        worker.log.info('wrapped')\n"
        "        theirs(signum, frame)\n"
        "    signal.signal(signal.SIGTERM, ours)\n"
    )
    with deploy() as server:
        (worker,) = server.workers()
        os.kill(worker, signal.SIGTERM)
        server.wait_for_workers(1, but=[worker])
        server.wait_for(r"\[INFO\] wrapped$")


# In the background


class Daemon:
    """A command with -D, and what it has left behind."""

    def __init__(self, place, *words, pidfile="daemon.pid"):
        self.pidfile = place / pidfile
        common = ("-D", "--pid", pidfile, "-b", f"unix:{place}/socket")
        self.done = subprocess.run(
            [sys.executable, "-m", "pywsgiserve", "main:app", *common, *words],
            cwd=place,
            env=environment({"PYTHONPATH": PACKAGES}),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=START_S,
        )
        self.pid = int(self.pidfile.read_text()) if self.pidfile.exists() else 0

    def __enter__(self):
        return self

    def __exit__(self, *error):
        if self.pid and Path(f"/proc/{self.pid}").exists():
            os.kill(self.pid, signal.SIGTERM)
            end = time.monotonic() + DEADLINE_S
            while Path(f"/proc/{self.pid}").exists():
                if time.monotonic() > end:
                    os.killpg(os.getpgid(self.pid), signal.SIGKILL)
                    raise AssertionError("the daemon did not end")
                time.sleep(0.01)


def ask(path):
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(DEADLINE_S)
        client.connect(str(path))
        client.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        answer = b""
        while data := client.recv(65536):
            answer += data
        return answer


def test_a_daemon_serves_when_its_command_has_ended(place):
    with Daemon(place, "-w", "2") as daemon:
        assert daemon.done.returncode == 0
        assert ask(place / "socket").startswith(b"HTTP/1.1 200 OK\r\n")
        assert os.getsid(daemon.pid) not in (daemon.pid, os.getsid(0))
        for fd in (0, 1, 2):
            assert os.readlink(f"/proc/{daemon.pid}/fd/{fd}") == os.devnull
    assert not daemon.pidfile.exists()
    assert not (place / "socket").exists()


def test_no_process_of_a_daemon_holds_on_to_its_caller(place):
    with Daemon(place, "-w", "2") as daemon:
        pids = [int(p) for p in os.listdir("/proc") if p.isdigit()]
        workers = [pid for pid in pids if parent_of(pid) == daemon.pid]
        assert len(workers) == 2
        for pid in workers:
            assert os.readlink(f"/proc/{pid}/fd/2") == os.devnull


class Orphan(Daemon):
    """One whose command was killed before it had started."""

    def __init__(self, place):
        self.pidfile = place / "daemon.pid"
        words = ("-D", "--pid", self.pidfile, "-b", f"unix:{place}/socket")
        with subprocess.Popen(
            [sys.executable, "-m", "pywsgiserve", "main:app", "--log-file=log", *words],
            cwd=place,
            env=environment({"PYTHONPATH": PACKAGES}),
            stderr=subprocess.PIPE,
        ) as command:
            wait_until((place / "loading").exists)
            command.kill()
        self.pid = int(self.pidfile.read_text())


def test_a_daemon_serves_though_its_command_was_killed(place):
    """Nobody waits for its outcome then, nor reads what it says while it starts."""
    pipe = Pipe(place / "gate")
    with (place / "main.py").open("a") as main:
        main.write("\nopen('loading', 'w').close()\nopen('gate').read()\n")
    with Orphan(place) as daemon:
        pipe.write("go on")

        assert ask(place / "socket").startswith(b"HTTP/1.1 200 OK\r\n")
        wait_until(lambda: os.readlink(f"/proc/{daemon.pid}/fd/2") == os.devnull)
        os.kill(daemon.pid, signal.SIGHUP)
        pipe.write("go on")  # It has gone on, and reloads.
    assert "[ERROR]" not in (place / "log").read_text()


def test_an_outcome_that_nobody_waits_for_is_done_with():
    told = """
import os
from pywsgiserve.master import Outcome

ends = os.pipe()
os.close(ends[0])
outcome = Outcome(ends[1])
outcome.tell(0)
os._exit(outcome.is_due)
"""
    done = subprocess.run([sys.executable, "-c", told], timeout=START_S, check=False)

    assert done.returncode == 0


@pytest.mark.parametrize(
    ("text", "code", "said"),
    [
        ("import nix", 3, "because it needs 'nix', which is not there"),
        ("x = 1", 4, "Error: module 'main' has no 'app'"),
        ("import os; os._exit(5)", 3, "exited with code 5"),
    ],
)
def test_a_daemon_that_cannot_start_says_so(place, text, code, said):
    (place / "main.py").write_text(text)

    with Daemon(place) as daemon:
        assert daemon.done.returncode == code
        assert said in daemon.done.stderr
        assert daemon.pid == 0


def test_a_daemon_that_cannot_listen_says_so(place):
    with Daemon(place):
        with Daemon(place, pidfile="other.pid") as second:
            assert second.done.returncode == 1
            assert "Connection in use" in second.done.stderr
            assert not (place / "other.pid").exists()
        assert ask(place / "socket").startswith(b"HTTP/1.1 200 OK\r\n")


def test_a_daemon_reloads(place):
    with Daemon(place) as daemon:
        before = ask(place / "socket")
        os.kill(daemon.pid, signal.SIGHUP)
        wait_until(lambda: ask(place / "socket") != before)


SITE_CONFIG = """
import multiprocessing
bind = "unix:{place}/socket"
workers = multiprocessing.cpu_count() * 2 + 1
pidfile = "daemon.pid"
accesslog = "access.log"
daemon = True
max_requests = 1000
max_requests_jitter = 50
timeout = 60
"""
FLASK_SITE = """
from flask import Flask
app = Flask(__name__)
@app.route("/")
def home(): return "version {version}"
"""
DJANGO_SITE = """
from django.conf import settings
settings.configure(ROOT_URLCONF=__name__, ALLOWED_HOSTS=["*"], SECRET_KEY="x")
from django.core.wsgi import get_wsgi_application
from django.http import HttpResponse
from django.urls import path
urlpatterns = [path("", lambda request: HttpResponse("version {version}"))]
app = get_wsgi_application()
"""


@pytest.mark.parametrize("site", [FLASK_SITE, DJANGO_SITE], ids=["Flask", "Django"])
@pytest.mark.parametrize("preload", [(), ("--preload",)], ids=["", "preloaded"])
def test_a_site_is_deployed_reloaded_and_stopped(place, site, preload):
    (place / "gunicorn.conf.py").write_text(SITE_CONFIG.format(place=place))
    rewrite(place / "main.py", site.format(version=1))
    with Daemon(place, *preload) as daemon:
        assert (daemon.done.returncode, daemon.done.stdout) == (0, "")
        for _ in range(10):
            assert b"version 1\r\n" in ask(place / "socket") + b"\r\n"
        rewrite(place / "main.py", site.format(version=22))
        os.kill(daemon.pid, signal.SIGHUP)
        wait_until(lambda: b"version 22" in ask(place / "socket"))
        wait_until(lambda: "GET / HTTP/1.1" in (place / "access.log").read_text())

    lines = (place / "access.log").read_text().splitlines()
    assert len(lines) >= 11
    assert all('"GET / HTTP/1.1" 200 ' in line for line in lines)
    left = {entry.name for entry in place.iterdir()} - {"__pycache__"}
    assert left == {"main.py", "gunicorn.conf.py", "access.log"}


# The pid file


def test_a_pid_file_is_there_while_the_server_is(deploy, place):
    with deploy("--pid", "pid") as server:
        assert (place / "pid").read_text() == f"{server.pid}\n"
    assert not (place / "pid").exists()


def test_the_pid_file_of_a_living_server_is_respected(deploy, place):
    with deploy("--pid", "pid") as server:
        with deploy("--pid", "pid", ready=False, killed=True) as second:
            assert second.wait() == 1
            assert (
                f"Error: pidfile: 'pid': already running on PID {server.pid} (if that "
                "is another program, remove the file) (from the command line)\n"
            ) in second.stderr
        assert (place / "pid").read_text() == f"{server.pid}\n"
        assert server.get().status == 200


def test_a_stale_pid_file_is_replaced(deploy, place):
    with deploy("--pid", "pid", killed=True) as server:
        workers = server.workers()
        server.process.kill()
        server.wait()
        wait_until(lambda: not any(parent_of(pid) for pid in workers))
    assert (place / "pid").read_text() == f"{server.pid}\n"
    with deploy("--pid", "pid") as server:
        assert (place / "pid").read_text() == f"{server.pid}\n"


def test_a_pid_file_that_cannot_be_written_is_an_error(deploy):
    with deploy("--pid", "nix/pid", ready=False, killed=True) as server:
        assert server.wait() == 1
        assert "Error: pidfile: 'nix/pid': cannot be written: No such file" in (
            server.stderr
        )


def test_a_start_that_fails_leaves_no_pid_file(deploy, place):
    (place / "main.py").write_text("")

    with deploy("--pid", "pid", ready=False, killed=True) as server:
        assert server.wait() == 4
    assert not (place / "pid").exists()


# Users


def status_of(pid):
    text = Path(f"/proc/{pid}/status").read_text()
    return dict(line.split(":", 1) for line in text.splitlines())


def public(place):
    """Let other users in."""
    place.chmod(0o755)


@becomes_nobody
def test_workers_become_another_user_completely(deploy, place):
    public(place)
    with deploy("-u", "nobody", "-g", "nogroup", workers=2) as server:
        for pid in server.workers():
            status = status_of(pid)
            assert status["Uid"].split() == [str(NOBODY)] * 4
            assert status["Gid"].split() == [str(NOBODY)] * 4
            assert status["Groups"].split() == [str(NOBODY)]
        assert status_of(server.pid)["Uid"].split() == ["0"] * 4
        assert server.get().status == 200
        first = server.workers()
        server.process.send_signal(signal.SIGHUP)
        server.wait_for_workers(2, but=first)


@becomes_nobody
def test_a_user_alone_brings_its_group(deploy, place):
    """Gunicorn's workers stay in root's group then."""
    public(place)
    with deploy("-u", "nobody") as server:
        (pid,) = server.workers()
        assert status_of(pid)["Gid"].split() == [str(NOBODY)] * 4


@becomes_nobody
def test_initgroups_takes_the_groups_of_the_user_and_the_group(deploy, place):
    """With Gunicorn, group 0 stays."""
    public(place)
    words = ("-u", "nobody", "-g", "daemon", "--initgroups")
    with deploy(*words) as server:
        (pid,) = server.workers()
        assert status_of(pid)["Gid"].split() == ["1"] * 4
        assert "0" not in status_of(pid)["Groups"].split()


@becomes_nobody
def test_the_unix_socket_and_the_log_are_the_workers(deploy, place, short_path):
    public(place)
    path = short_path / "socket"
    words = ("-u", "nobody", "-g", "nogroup", "-b", f"unix:{path}", "-m", "007")
    with deploy(*words, "--access-logfile", "log") as server:
        assert path.stat().st_uid == path.stat().st_gid == NOBODY
        assert stat.S_IMODE(path.stat().st_mode) == 0o770
        assert (place / "log").stat().st_uid == NOBODY
        assert server.connect(f"unix:{path}").get().status == 200


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["-u", "nix-nobody"], "user: there is no user 'nix-nobody' (from the command"),
        (["-g", "nix-nobody"], "group: there is no group 'nix-nobody' (from the comm"),
        (["-u", "123456"], "group: user 123456 has no entry that names one"),
        (["-u", "123456", "-g", "1", "--initgroups"], "initgroups: user 123456 has no"),
    ],
)
def test_a_user_that_is_not_there_is_an_error(deploy, words, said):
    with deploy(*words, ready=False, killed=True) as server:
        assert server.wait() == 1
        assert f"Error: {said}" in server.stderr


# Who is nobody may not be able to read the interpreter's files: they are read before.
AS_NOBODY = """
import os, sys
from pywsgiserve import app, cli, master, sources
import grp, pwd
cli.main(["--check-config", *sys.argv[1:], "-u0"])
os.setgroups([])
os.setresgid(65534, 65534, 65534)
os.setresuid(65534, 65534, 65534)
sys.exit(cli.main(sys.argv[1:]))
"""


def as_nobody(place, *words):
    """The end of the command, started by somebody without rights."""
    public(place)
    return subprocess.run(
        [sys.executable, "-B", "-c", AS_NOBODY, "main:app", *words],
        cwd=place,
        env=environment({"PYTHONPATH": PACKAGES}),
        capture_output=True,
        text=True,
        timeout=START_S,
    )


@needs_root
def test_who_is_not_root_cannot_change_the_user(place):
    done = as_nobody(place, "-b", "127.0.0.1:0", "-u", "root")

    assert done.returncode == 1
    assert "Error: user: only root can change it, and this is user 65534" in done.stderr


@needs_root
def test_a_port_for_root_is_an_error_that_says_so(place):
    first = Path("/proc/sys/net/ipv4/ip_unprivileged_port_start").read_text()
    if int(first) < 1024:
        pytest.skip("there are no such ports here")

    done = as_nobody(place, "-b", "127.0.0.1:81")

    assert done.returncode == 1
    assert "ports below 1024 are for root or for CAP_NET_BIND_SERVICE" in done.stderr


# Addresses


def test_umask_is_about_the_socket_alone(deploy, place, short_path):
    path = short_path / "socket"
    (place / "main.py").write_text(
        "import os\nopen('made', 'w').close()\n"
        "from wsgiref.simple_server import demo_app as app"
    )
    with deploy("-b", f"unix:{path}", "-m", "0o117", ready=False) as server:
        server.wait_for("Workers are ready")
        assert stat.S_IMODE(path.stat().st_mode) == 0o660
        assert stat.S_IMODE((place / "made").stat().st_mode) != 0o660


def test_several_addresses_are_served_by_all_workers(deploy, short_path):
    with deploy("-b", f"unix:{short_path}/a", "-b", "[::1]:0", workers=2) as server:
        assert len(server.addresses) == 3
        for address in server.addresses:
            with server.connect(address) as client:
                assert client.get().status == 200
    assert not (short_path / "a").exists()


def test_workers_do_not_remove_the_socket_of_their_master(deploy, short_path):
    path = short_path / "socket"
    with deploy("-b", f"unix:{path}", workers=2) as server:
        first = server.workers()
        server.process.send_signal(signal.SIGHUP)
        server.wait_for_workers(2, but=first)

        assert path.exists()
        with server.connect(f"unix:{path}") as client:
            assert client.get().status == 200


def test_an_unix_socket_of_a_living_server_is_respected(deploy, short_path):
    path = short_path / "socket"
    with deploy("-b", f"unix:{path}") as server:
        with deploy("-b", f"unix:{path}", ready=False, killed=True) as second:
            assert second.wait() == 1
            assert "Connection in use: another server answers there" in second.stderr
        with server.connect(f"unix:{path}") as client:
            assert client.get().status == 200


def test_deferred_accept_serves_who_speaks(deploy):
    with deploy("--defer-accept") as server:
        assert server.get().status == 200


# run() in a script

SCRIPT = """
import os, sys
from pywsgiserve import run
import main
try:
    run(main.app, bind="127.0.0.1:0", {settings})
finally:
    print("after run", file=sys.stderr)
"""


@pytest.fixture
def script(place):
    """Start a script that calls run() with these settings."""

    def start(settings):
        (place / "script.py").write_text(SCRIPT.format(settings=settings))
        server = Deployed.__new__(Deployed)
        server.cwd, server.addresses = place, []
        server._start(["script"], place, {"PYTHONPATH": PACKAGES})
        return server

    return start


def test_run_with_workers_forks_and_the_script_goes_on_once(script):
    server = script("workers=3")
    server.wait_until_ready(3)
    assert len(server.workers()) == 3
    assert int(server.get().body) in server.workers()
    server.process.send_signal(signal.SIGHUP)
    server.wait_for("(?s)(Workers are ready.*){2}")
    server.finish()

    assert server.stderr.count("after run") == 1
    assert server.stderr.endswith("Shutting down: Master\nafter run\n")


def test_run_without_workers_serves_in_this_process(script):
    server = script("keepalive=5")
    server.wait_until_listening()
    assert int(server.get().body) == server.pid
    assert server.workers() == set()
    server.finish()


@pytest.mark.parametrize("settings", ["max_requests=1", "timeout=60", "pidfile='p'"])
def test_run_has_a_master_when_a_setting_needs_one(script, settings):
    server = script(settings)
    server.wait_until_ready(1)
    assert int(server.get().body) != server.pid
    server.finish()


def test_run_has_the_hooks_of_requests_without_a_master(script):
    server = script(
        "pre_request=lambda worker, req: worker.log.info('before %s', req.path)"
    )
    server.wait_until_listening()
    server.get("/here")
    server.wait_for(r"\[INFO\] before /here$")
    server.finish()


def test_an_app_that_cannot_be_called_is_refused_before_all(script):
    server = script("workers=2, nix=1")
    assert server.wait() == 1
    server.finish(killed=True)
    assert "ConfigError: nix: no such setting" in server.stderr
