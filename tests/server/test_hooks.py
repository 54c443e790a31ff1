"""Hooks and what they are handed: `server` and `worker`, as Gunicorn's users know them.

When which hook comes, and in which process, is in test_deployment.py too.
"""

import os
import re
import signal

import pytest

from tests.client import DEADLINE_S
from tests.process import TIMEOUT, WORKERS, wait_until
from tests.server.test_master import rewrite

pytestmark = pytest.mark.skipif(WORKERS > 0, reason="chooses its workers itself")

both_ways = pytest.mark.parametrize("preload", [(), ("--preload",)])

NOTE = """
import os, signal
def note(*words):
    with open({log!r}, "a") as log:
        print(*words, file=log)
"""

# Every hook but pre_exec and ssl_context, of which other tests know.
ALL = """
def nworkers_changed(server, new, old): note("nworkers_changed", new, old)
def on_starting(server): note("on_starting")
def when_ready(server): note("when_ready")
def pre_fork(server, worker): note("pre_fork")
def post_fork(server, worker): note("post_fork")
def post_worker_init(worker): note("post_worker_init")
def pre_request(worker, req): note("pre_request")
def post_request(worker, req, environ, resp): note("post_request")
def worker_int(worker): note("worker_int")
def worker_abort(worker): note("worker_abort")
def worker_exit(server, worker): note("worker_exit")
def child_exit(server, worker): note("child_exit")
def on_reload(server): note("on_reload")
def on_exit(server): note("on_exit")
"""


@pytest.fixture
def site(place):
    """site(text): a config file with these hooks, which may note() something; what they
    have noted is in site.notes()."""
    log = place / "notes"

    class Site:
        def __call__(self, text):
            rewrite_or_make(
                place / "gunicorn.conf.py", NOTE.format(log=str(log)) + text
            )

        def notes(self):
            return log.read_text().splitlines() if log.exists() else []

        def wait_for(self, *notes):
            wait_until(lambda: set(notes) <= set(self.notes()), self.shown)

        def shown(self):
            return "\n".join(self.notes())

    return Site()


def rewrite_or_make(path, text):
    if path.exists():
        rewrite(path, text)
    else:
        path.write_text(text)


def in_order(notes, *wanted):
    """Whether these come in this order, whatever is between."""
    rest = iter(notes)
    return all(note in rest for note in wanted)


# Sequences


@pytest.mark.contract
@both_ways
def test_the_sequence_of_a_start_a_request_and_an_end(deploy, site, preload):
    site(ALL)
    with deploy(*preload, killed=True) as server:
        assert server.get().status == 200
        site.wait_for("post_request")
        assert server.stop() == 0

    assert site.notes() == [
        "nworkers_changed 1 None",
        "on_starting",
        "when_ready",
        "pre_fork",
        "post_fork",
        "post_worker_init",
        "pre_request",
        "post_request",
        "worker_exit",
        "child_exit",
        "on_exit",
    ]


@pytest.mark.contract
@both_ways
def test_the_sequence_of_a_reload(deploy, site, preload):
    """The old worker ends when the new one serves: in Gunicorn it does so before."""
    site(ALL)
    with deploy(*preload) as server:
        before = server.workers()
        begun = len(site.notes())
        server.process.send_signal(signal.SIGHUP)
        wait_until(lambda: "child_exit" in site.notes(), site.shown)
        wait_until(lambda: not server.workers() & before)

        assert site.notes()[begun:] == [
            "nworkers_changed 1 1",
            "on_reload",
            "pre_fork",
            "post_fork",
            "post_worker_init",
            "worker_exit",
            "child_exit",
        ]


@pytest.mark.contract
def test_the_sequence_of_a_worker_that_is_interrupted(deploy, site):
    site(ALL)
    with deploy() as server:
        (worker,) = server.workers()
        begun = len(site.notes())
        os.kill(worker, signal.SIGINT)
        server.wait_for_workers(1, but=[worker])
        wait_until(lambda: site.notes().count("post_worker_init") == 2, site.shown)
        site.wait_for("child_exit")
        notes = site.notes()[begun:]

        # Its successor does not wait for its end.
        assert in_order(notes, "worker_int", "worker_exit", "child_exit")
        assert in_order(notes, "worker_int", "pre_fork", "post_fork")
        assert sorted(notes) == sorted(
            [
                "worker_int",
                "worker_exit",
                "child_exit",
                "pre_fork",
                "post_fork",
                "post_worker_init",
            ]
        )


# nworkers_changed


def test_changes_of_the_number_are_told(deploy, site):
    site(ALL)
    with deploy(workers=2) as server:
        server.process.send_signal(signal.SIGTTIN)
        site.wait_for("nworkers_changed 3 2")
        server.process.send_signal(signal.SIGTTOU)
        server.wait_for("Handling signal: ttou")
        wait_until(lambda: "nworkers_changed 2 3" in site.notes(), site.shown)
        server.process.send_signal(signal.SIGHUP)
        site.wait_for("nworkers_changed 2 2")


def test_a_reload_that_fails_tells_the_old_number(deploy, place, site):
    site(ALL + "workers = 1\n")
    with deploy(ready=False, GUNICORN_CMD_ARGS="") as server:
        server.wait_until_ready()
        site(ALL + "raw_env = ['A=2']\nimport os\nos.environ['N'] = '2'\n")
        rewrite(place / "main.py", "raise RuntimeError('a bad deployment')")
        server.process.send_signal(signal.SIGHUP)
        server.wait_for("Reload failed")

        assert server.get().status == 200


def test_a_number_of_a_hook_is_obeyed(deploy, site):
    site(
        "def when_ready(server): server.num_workers = 3\n"
        "def nworkers_changed(server, new, old): note(new, old)\n"
        "def on_reload(server): server.num_workers = 2\n"
    )
    with deploy(workers=1, ready=False) as server:
        server.wait_until_ready(3)
        first = server.wait_for_workers(3)
        assert site.notes() == ["1 None", "3 1"]
        server.process.send_signal(signal.SIGHUP)
        server.wait_for_workers(2, but=first)

        assert site.notes() == ["1 None", "3 1", "1 3", "2 1"]


def test_a_number_may_be_set_while_the_site_is_up(deploy, site):
    site(
        "def child_exit(server, worker):\n"
        "    if server.num_workers < 3: server.num_workers += 1\n"
    )
    with deploy(workers=2) as server:
        os.kill(min(server.workers()), signal.SIGTERM)
        server.wait_for_workers(3)


@pytest.mark.parametrize("value", ["'2'", "-1", "True", "10**6"])
def test_a_number_that_cannot_be_is_an_error_of_the_hook(deploy, site, value):
    site(f"def when_ready(server): server.num_workers = {value}\n")
    with deploy(ready=False, killed=True) as server:
        assert server.wait() == 1
        server.wait_for(
            "Error: when_ready: the hook has failed: .*num_workers: expected"
        )


# What they are handed

SERVER = """
def describe(server):
    listener, = server.LISTENERS
    note("address", str(listener), listener.getsockname()[0], listener.fileno() > 2)
    note("socket", listener.sock.getsockname() == listener.getsockname())
    note("pids", server.pid == os.getpid(), server.master_pid, server.reexec_pid)
    note("names", server.master_name, server.proc_name, server.worker_class.__name__)
    note("numbers", server.num_workers, server.timeout, server.worker_age)
    note("files", os.path.basename(server.pidfile.fname), server.pidfile.pid > 1)
    note("app", server.app.cfg is server.cfg, server.systemd)
    note("workers", sorted(server.WORKERS) == sorted(
        w.pid for w in server.WORKERS.values()), len(server.WORKERS))
def when_ready(server): describe(server)
def child_exit(server, worker): describe(server)
"""


def test_the_server_has_what_gunicorns_has(deploy, site):
    site(SERVER)
    with deploy("--pid", "pid", "--name", "shop", killed=True) as server:
        (worker,) = server.workers()
        common = [
            f"address {server.url} 127.0.0.1 True",
            "socket True",
            "pids True 0 0",
            "names Master shop Worker",
        ]
        common_too = ["files pid True", "app True False"]
        assert site.notes() == [
            *common,
            "numbers 1 30.0 0",
            *common_too,
            "workers True 0",
        ]
        os.kill(worker, signal.SIGTERM)
        server.wait_for_workers(1, but=[worker])
        wait_until(lambda: len(site.notes()) == 16, site.shown)

        assert site.notes()[8:12] == common
        assert site.notes()[12] == "numbers 1 30.0 2"
        assert site.notes()[15].startswith("workers True ")
        server.stop()


WORKER = """
def describe(when, worker):
    note(when, "age", worker.age, "booted", worker.booted, "alive", worker.alive)
    note(when, "parent", worker.ppid == os.getppid(), worker.timeout, worker.aborted)
    note(when, "sockets", [str(listener) for listener in worker.sockets])
    note(when, "app", callable(worker.wsgi), callable(worker.app.wsgi), worker.nr)
def post_fork(server, worker): describe("post_fork", worker)
def post_worker_init(worker):
    note("limit", worker.max_requests)
    describe("post_worker_init", worker)
def post_request(worker, req, environ, resp):
    worker.notify(); worker.tmp.notify()
    note("post_request", worker.nr, worker.tmp.last_update() > 0, worker.tmp.close())
"""


@both_ways
def test_a_worker_has_what_gunicorns_has(deploy, site, preload):
    site(WORKER)
    with deploy("--max-requests", "100", *preload) as server:
        for _ in range(2):
            server.get()
        site.wait_for("post_request 2 True None")

        assert site.notes() == [
            "post_fork age 1 booted False alive True",
            "post_fork parent True 15.0 False",
            f"post_fork sockets ['{server.url}']",
            "post_fork app False True 0",
            "limit 100",
            "post_worker_init age 1 booted False alive True",
            "post_worker_init parent True 15.0 False",
            f"post_worker_init sockets ['{server.url}']",
            "post_worker_init app True True 0",
            "post_request 1 True None",
            "post_request 2 True None",
        ]


def test_a_worker_without_a_limit_says_so_as_gunicorns(deploy, site):
    site("import sys\ndef post_worker_init(w): note(w.max_requests == sys.maxsize)\n")
    with deploy():
        assert site.notes() == ["True"]


RESPONSE = """
def post_request(worker, req, environ, resp):
    same = resp.version == environ["SERVER_SOFTWARE"]
    note(req.path, req.cfg is worker.cfg, req.should_close(), same)
    note(req.path, resp.chunked, resp.must_close, resp.response_length, resp.sent)
"""

RESPONSE_APP = """
def app(environ, start_response):
    if environ["PATH_INFO"] == "/fails":
        raise ValueError
    length = [("Content-Length", "2")] if environ["PATH_INFO"] == "/declared" else []
    start_response("200 OK", length)
    return iter([b"a", b"b"])
"""


def test_a_hook_is_told_how_the_response_was_framed(deploy, place, site):
    (place / "main.py").write_text(RESPONSE_APP)
    site(RESPONSE)
    with deploy() as server:
        with server.connect() as client:
            for path in ("/declared", "/chunked"):
                assert client.get(path).body == b"ab"
            assert client.get("/last", "Connection: close").body == b"ab"
        assert server.get("/fails").status == 500
        wait_until(lambda: "/fails False True None " in site.shown(), site.shown)

    assert site.notes()[:6] == [
        "/declared True False True",
        "/declared False False 2 2",
        "/chunked True False True",
        "/chunked True False None 2",
        "/last True True True",
        "/last True True None 2",
    ]


def test_a_worker_that_notifies_is_not_late(deploy, place, site):
    (place / "main.py").write_text(
        "import time\n"
        "def app(environ, start_response):\n"
        f"    end = time.monotonic() + {TIMEOUT} + 2\n"
        "    while time.monotonic() < end:\n"
        "        worker.notify()\n"
        "        time.sleep(0.05)\n"
        "    start_response('200 OK', [('Content-Length', '0')])\n"
        "    return []\n"
    )
    site("def post_worker_init(w):\n    import main\n    main.worker = w\n")
    with deploy("--timeout", TIMEOUT) as server, server.connect() as client:
        client.socket.settimeout(6 * DEADLINE_S)
        assert client.get().status == 200
        assert "WORKER TIMEOUT" not in server.stderr


def test_why_a_worker_has_ended_is_told_in_child_exit(deploy, site):
    site(
        "def child_exit(server, worker):\n"
        "    note(worker.age, worker.aborted, worker.alive, worker.reason)\n"
    )
    with deploy("--timeout", TIMEOUT, "--max-requests", "1") as server:
        server.get()
        site.wait_for("1 False False recycled: max_requests 1")
        server.get("/hang")
        wait_until(lambda: "2 True False timed out" in site.shown(), site.shown)


# What they may do


def test_a_hook_may_reload(deploy, site):
    site(
        "def child_exit(server, worker):\n"
        "    if worker.age == 1: server.reload()\n"
        "def on_reload(server): note('reloaded')\n"
    )
    with deploy() as server:
        first = server.workers()
        os.kill(min(first), signal.SIGTERM)
        site.wait_for("reloaded")
        server.wait_for_workers(1, but=first)

        assert server.get().status == 200


def test_a_hook_may_send_signals_to_workers(deploy, site):
    site(
        "def nworkers_changed(server, new, old):\n"
        "    if old == 2:\n"
        "        server.kill_worker(1, signal.SIGKILL)  # not ours\n"
        "        server.kill_worker(min(server.WORKERS), signal.SIGTERM)\n"
        "    if old == 3:\n"
        "        server.kill_workers(signal.SIGTERM)\n"
        "    server.spawn_worker(); server.manage_workers(); server.wakeup()\n"
    )
    with deploy(workers=2) as server:
        first = server.workers()
        server.process.send_signal(signal.SIGTTIN)
        second = server.wait_for_workers(3, but=[min(first)])
        assert len(second & first) == 1
        server.process.send_signal(signal.SIGTTOU)
        server.wait_for_workers(2, but=second)


# Failures

FAILING = ("on_reload", "child_exit", "nworkers_changed", "worker_exit", "worker_int")


FAILURES = pytest.mark.parametrize(
    "how", ["1 / 0", "raise SystemExit(1)", "raise KeyboardInterrupt"]
)


@FAILURES
@pytest.mark.parametrize("name", FAILING)
def test_a_hook_that_fails_is_named_and_nothing_ends(deploy, site, name, how):
    arguments = {
        "child_exit": "server, worker",
        "worker_exit": "server, worker",
        "nworkers_changed": "server, new, old",
        "worker_int": "worker",
    }.get(name, "server")
    start = "    if old is None: return\n" if name == "nworkers_changed" else ""
    site(f"def {name}({arguments}):\n{start}    {how}\n")
    with deploy(workers=2) as server:
        first = server.workers()
        victim = min(first)
        os.kill(victim, signal.SIGINT)
        second = server.wait_for_workers(2, but=[victim])
        server.process.send_signal(signal.SIGHUP)
        server.wait_for_workers(2, but=first | second)
        server.wait_for(rf"\[ERROR\] Exception in {name} hook$")

        assert server.get().status == 200


@both_ways
@pytest.mark.parametrize("name", ["pre_fork", "post_fork", "post_worker_init"])
def test_a_hook_that_fails_later_leaves_the_site_up(deploy, place, site, name, preload):
    flag = place / "flag"
    arguments = "worker" if name == "post_worker_init" else "server, worker"
    site(
        f"def {name}({arguments}):\n"
        f"    if os.path.exists({str(flag)!r}): raise ValueError('not today')\n"
    )
    with deploy(*preload, workers=2) as server:
        first = {int(server.get().body)}
        flag.write_text("")
        wait_until(lambda: first.add(int(server.get().body)) or len(first) == 2)
        victim, other = first
        os.kill(victim, signal.SIGKILL)
        server.wait_for(rf"\[ERROR\] Exception in {name} hook\n(?s:.*)not today")
        server.wait_for(r"\[WARNING\] 1 of 2 workers serve; the next try in ")
        assert int(server.get().body) == other
        flag.unlink()
        server.wait_for(r"\[INFO\] 2 of 2 workers serve again$", 60)

        assert re.search(r"Shutting down", server.stderr) is None


@FAILURES
def test_a_worker_that_is_late_ends_though_its_hook_fails(deploy, site, how):
    site(f"def worker_abort(worker): {how}\n")
    with deploy("--timeout", TIMEOUT) as server:
        (late,) = server.workers()
        assert server.get("/hang").status == 500
        server.wait_for(r"\[ERROR\] Exception in worker_abort hook$")
        server.wait_for(rf"Worker \(pid:{late}\) exited with code 1\. \(timed out\)$")
        server.wait_for_workers(1, but=[late])

        assert server.get().status == 200


@FAILURES
def test_a_last_hook_that_fails_does_not_change_the_end(deploy, site, how):
    site(f"def on_exit(server): {how}\n")
    with deploy("--pid", "pid", killed=True) as server:
        assert server.get().status == 200
        assert server.stop() == 0
        server.wait_for(r"\[ERROR\] Exception in on_exit hook$")
        assert not (server.cwd / "pid").exists()


def test_a_hook_that_changes_the_number_fails_the_start_by_its_name(deploy, site):
    site("def nworkers_changed(server, new, old): 1 / 0\n")
    with deploy(ready=False, killed=True) as server:
        assert server.wait() == 1
        server.wait_for("Error: nworkers_changed: the hook has failed: ZeroDivision")
