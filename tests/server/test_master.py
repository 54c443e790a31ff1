"""A master and its workers, seen by clients and in the process table."""

import os
import re
import shutil
import signal
import threading
from pathlib import Path

import pytest

from tests.client import DEADLINE_S, SANITIZED, Truncated
from tests.process import (
    LISTENING,
    START_S,
    TIMEOUT,
    WORKER_CLASS,
    WORKERS,
    Deployed,
    children,
    parent_of,
    wait_until,
)

pytestmark = pytest.mark.skipif(WORKERS > 0, reason="chooses its workers itself")

BROKEN = "raise RuntimeError('a bad deployment')"
READY = r"Workers are ready: "


def title(pid):
    """What the process list shows; nothing of one that has gone."""
    try:
        return command_line(pid)
    except OSError:
        return ""


def command_line(pid):
    return Path(f"/proc/{pid}/cmdline").read_bytes().rstrip(b"\0").decode()


def rewrite(path, text):
    """Replace a module; what Python has compiled of it goes by its time and size."""
    path.write_text(text)
    os.utime(path, ns=(0, path.stat().st_mtime_ns + 10**10))


# Numbers


def test_there_are_as_many_workers_as_asked_for(deploy):
    with deploy(workers=3) as server:
        assert len(server.workers()) == 3
        assert title(server.pid) == "pywsgiserve: master [main:app]"
        for pid in server.workers():
            assert title(pid) == "pywsgiserve: worker [main:app]"
            assert Path(f"/proc/{pid}/comm").read_text() == "pywsgiserve\n"


def test_one_worker_has_a_master_too(deploy):
    with deploy() as server:
        assert int(server.get().body) in server.workers()


def test_a_name_of_ones_own_is_shown(deploy):
    with deploy("-n", "shop") as server:
        assert title(server.pid) == "pywsgiserve: master [shop]"


def test_ttin_and_ttou_change_the_number(deploy):
    with deploy(workers=2) as server:
        first = server.workers()
        server.process.send_signal(signal.SIGTTIN)
        assert first < server.wait_for_workers(3)
        server.process.send_signal(signal.SIGTTOU)
        server.wait_for_workers(2)
        server.process.send_signal(signal.SIGTTOU)
        left = server.wait_for_workers(1)
        server.process.send_signal(signal.SIGTTOU)
        server.wait_for(r"(?s)(ttou.*){3}")

        assert int(server.get().body) in left
        assert server.workers() == left


def test_an_app_is_told_whether_it_has_siblings(deploy):
    with deploy(workers=2) as server:
        assert b"'wsgi.multiprocess': True" in server.get("/environ").body
    with deploy(workers=1) as server:
        assert b"'wsgi.multiprocess': False" in server.get("/environ").body


# Deaths


@pytest.mark.contract
def test_a_killed_worker_is_replaced(deploy):
    with deploy(workers=3) as server:
        first = server.workers()
        victim = min(first)
        os.kill(victim, signal.SIGKILL)
        now = server.wait_for_workers(3, but=[victim])

        assert len(now & first) == 2
        server.wait_for(
            rf"\[ERROR\] Worker \(pid:{victim}\) was sent SIGKILL! "
            r"(\(somebody else's SIGKILL|Perhaps out of memory\?)"
        )


def test_all_killed_workers_are_replaced(deploy):
    with deploy(workers=3) as server:
        first = server.workers()
        for pid in first:
            os.kill(pid, signal.SIGKILL)
        server.wait_for_workers(3, but=first)

        assert server.get().status == 200


def test_an_app_that_ends_its_worker_again_and_again_is_survived(deploy):
    with deploy() as server:
        for _ in range(3):
            with server.connect() as client:
                client.send(b"GET /die HTTP/1.1\r\nHost: x\r\n\r\n")
                assert client.gone()
        answer = server.get()

        assert answer.status == 200
        server.wait_for(r"\[ERROR\] Worker \(pid:\d+\) exited with code 9\.$")


@pytest.mark.contract
@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT, signal.SIGQUIT])
def test_a_signal_to_a_worker_ends_that_one_alone(deploy, signum):
    with deploy(workers=2) as server:
        first = server.workers()
        victim = min(first)
        os.kill(victim, signum)
        now = server.wait_for_workers(2, but=[victim])

        assert len(now & first) == 1
        assert "[ERROR]" not in server.stderr


@pytest.mark.parametrize(
    "signum",
    [signal.SIGHUP, signal.SIGUSR2, signal.SIGTTIN, signal.SIGTTOU, signal.SIGWINCH],
)
def test_a_signal_that_is_for_masters_does_a_worker_no_harm(deploy, signum):
    """Gunicorn's workers die of HUP: `pkill -HUP gunicorn` was an outage."""
    with deploy() as server:
        (worker,) = server.workers()
        os.kill(worker, signum)
        for _ in range(3):
            assert int(server.get().body) == worker


@pytest.mark.contract
def test_workers_end_when_their_master_is_killed(deploy):
    with deploy(workers=2, killed=True) as server:
        workers = server.workers()
        with server.connect() as client:
            client.get()
            server.process.kill()
            server.wait()
            server.wait_for(r"Parent changed, shutting down: <Worker \d+>$")

            assert client.closed()
        wait_until(lambda: not any(parent_of(pid) for pid in workers))


def test_what_an_app_forks_is_no_worker(deploy):
    """It ends by the signals that a worker, or a server, handles otherwise."""
    with deploy() as server:
        for signum in (signal.SIGTERM, signal.SIGQUIT, signal.SIGHUP):
            child = int(server.get("/fork").body)
            assert parent_of(child)
            os.kill(child, signum)
            wait_until(lambda child=child: not parent_of(child))


@pytest.mark.skipif(
    os.geteuid() != 0 or SANITIZED,
    reason="needs root; the leak checker does not work in a first process",
)
def test_as_the_first_process_it_reaps_orphans(place):
    """In a container nobody else does."""
    server = Deployed(
        "main:app",
        "-b",
        "127.0.0.1:0",
        cwd=place,
        prefix=("unshare", "--pid", "--mount-proc", "--fork", "--kill-child"),
    )
    try:
        server.addresses = [server.wait_for(LISTENING.pattern, START_S)[2]]
        server.wait_for(READY)
        (master,) = children(server.pid)
        for _ in range(5):
            assert server.get("/orphan").status == 200
        wait_until(lambda: len(dead_children(master)) == 0)
        os.kill(master, signal.SIGTERM)
        assert server.wait() == 0
    finally:
        server.finish(killed=True)


def dead_children(pid):
    found = []
    for entry in filter(str.isdigit, os.listdir("/proc")):
        try:
            stat = Path(f"/proc/{entry}/stat").read_text()
        except OSError:
            continue
        state, ppid = stat.rpartition(")")[2].split()[:2]
        if state == "Z" and int(ppid) == pid:
            found.append(int(entry))
    return found


# Starts


@pytest.mark.contract(cases=3)
@pytest.mark.parametrize(
    ("text", "code", "reason"),
    [
        (BROKEN, 3, "Worker failed to boot."),
        ("import nix", 3, "Worker failed to boot."),
        ("raise SystemExit(0)", 3, "Worker failed to boot."),
        ("import os; os._exit(7)", 3, "Worker failed to boot."),
        ("x = 1", 4, "App failed to load."),
        ("app = 1", 4, "App failed to load."),
    ],
)
def test_an_app_that_cannot_be_had_ends_the_start(deploy, place, text, code, reason):
    (place / "main.py").write_text(text)

    with deploy(workers=4, ready=False, killed=True) as server:
        assert server.wait() == code
        assert f"[ERROR] Reason: {reason}\n" in server.stderr
        assert server.stderr.count("\nError: ") == (0 if "_exit" in text else 1)


def test_a_start_that_always_crashes_ends(deploy, place):
    (place / "main.py").write_text(
        "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"
    )

    with deploy(workers=2, ready=False, killed=True) as server:
        assert server.wait() == 3


def test_a_start_that_hangs_can_be_stopped(deploy, place):
    (place / "main.py").write_text("import time; time.sleep(600)")

    with deploy(workers=2, ready=False, killed=True) as server:
        server.wait_for("(?s)(Booting worker.*){2}")

        assert server.stop() == 0


def test_a_start_that_hangs_is_given_up(deploy, place):
    """A worker that boots for longer than `timeout` is as stuck as any."""
    flag = place / "flag"
    (place / "main.py").write_text(
        "import os, time\n"
        f"if not os.path.exists({str(flag)!r}):\n"
        f"    open({str(flag)!r}, 'w').close(); time.sleep(600)\n"
        "from wsgiref.simple_server import demo_app as app"
    )

    with deploy("--timeout", TIMEOUT, ready=False) as server:
        server.wait_for(r"\[CRITICAL\] WORKER TIMEOUT \(pid:\d+\)$")
        server.wait_until_ready()


def test_a_later_failure_to_boot_is_tried_again(deploy, place):
    """With a database that is away for a minute, the site must not be down for good."""
    with deploy(workers=2) as server:
        first = server.workers()
        rewrite(place / "main.py", BROKEN)
        victim = min(first)
        os.kill(victim, signal.SIGKILL)
        server.wait_for(r"(?s)(a bad deployment.*exited with code 3\..*){2}")
        assert int(server.get().body) in first

        (place / "main.py").unlink()
        (place / "main.py").write_text(
            "from wsgiref.simple_server import demo_app as app"
        )
        now = server.wait_for_workers(2, but=[victim])
        server.wait_for(r"(?s)code 3\..*Booting worker")
        assert len(now) == 2


# Ends


@pytest.mark.contract
def test_a_request_underway_is_answered_before_the_end(deploy, place):
    with deploy(workers=2, killed=True) as server, server.connect() as client:
        pipe = place / "pipe"
        os.mkfifo(pipe)
        client.send(f"GET /seen?{pipe} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        with open(pipe, "w") as writer:  # The app has opened it.
            server.process.send_signal(signal.SIGTERM)
            server.wait_for("Handling signal: term")
            writer.write("done")

        assert client.response().body == b"done"
        assert server.wait() == 0
        assert server.stderr.endswith("Shutting down: Master\n")


@pytest.mark.contract
def test_requests_in_the_queue_are_answered_before_the_end(deploy):
    with deploy(workers=2, killed=True) as server:
        clients = [server.connect() for _ in range(50)]
        for client in clients:
            client.send(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        code = server.stop()

        assert code == 0
        assert [client.response().status for client in clients] == [200] * 50


@pytest.mark.contract
@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGQUIT])
def test_a_quick_end_does_not_wait_for_the_app(deploy, signum):
    with deploy("--graceful-timeout", "600", killed=True) as server:
        with server.connect() as client:
            client.send(b"GET /hang HTTP/1.1\r\nHost: x\r\n\r\n")
            with server.connect() as other:
                other.send(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")

                assert server.stop(signum) == 0


def test_a_quick_end_can_follow_a_graceful_one(deploy):
    with deploy("--graceful-timeout", "600", killed=True) as server:
        with server.connect() as client:
            client.send(b"GET /hang HTTP/1.1\r\nHost: x\r\n\r\n")
            server.process.send_signal(signal.SIGTERM)
            server.wait_for("Handling signal: term")

            assert server.stop(signal.SIGINT) == 0
            assert "Quick shutdown requested" in server.stderr


@pytest.mark.contract
def test_graceful_timeout_bounds_a_graceful_end(deploy):
    with deploy("--graceful-timeout", "1", killed=True) as server:
        with server.connect() as client:
            client.send(b"GET /loop HTTP/1.1\r\nHost: x\r\n\r\n")
            (worker,) = server.workers()
            wait_until(lambda: cpu_ticks(worker) > 20)

            assert server.stop() == 0
            said = f"Worker (pid:{worker}) was sent SIGKILL! (it did not end in time)\n"
            if WORKER_CLASS == "gthread":  # Its main thread is free to end the process.
                said = "1 threads are still in the app: left behind\n"
            assert said in server.stderr


def cpu_ticks(pid):
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11])


# Reloads


@pytest.mark.contract
def test_hup_replaces_all_workers_and_loads_the_app_anew(deploy, place):
    with deploy(workers=3) as server:
        first = server.workers()
        rewrite(place / "main.py", "from wsgiref.simple_server import demo_app as app")
        server.process.send_signal(signal.SIGHUP)
        server.wait_for_workers(3, but=first)

        assert server.get().body.startswith(b"Hello world!")
        server.wait_for(r"\[INFO\] Hang up: Master$")


def test_hup_reads_the_settings_anew(deploy, place):
    config = place / "gunicorn.conf.py"
    config.write_text("raw_env = ['A=1', 'B=1']\nproc_name = 'before'")
    with deploy() as server:
        first = server.workers()
        assert b"'A'" not in server.get("/environ").body
        config.write_text("raw_env = ['A=2']\nproc_name = 'after'\nkeepalive = 0")
        server.process.send_signal(signal.SIGHUP)
        (worker,) = server.wait_for_workers(1, but=first)

        assert title(worker) == "pywsgiserve: worker [after]"
        with server.connect() as client:
            client.get()
            assert client.closed()


def test_hup_changes_the_number_of_workers(deploy, place):
    config = place / "gunicorn.conf.py"
    config.write_text("")
    with deploy(ready=False, WEB_CONCURRENCY="9") as server:
        server.wait_until_ready()
        first = server.workers()
        server.process.send_signal(signal.SIGHUP)
        server.wait_for_workers(1, but=first)  # -w of the command line wins


@pytest.mark.contract
def test_hup_with_an_app_that_cannot_be_loaded_changes_nothing(deploy, place):
    with deploy(workers=2) as server:
        first = server.workers()
        rewrite(place / "main.py", BROKEN)
        server.process.send_signal(signal.SIGHUP)
        server.wait_for(r"\[ERROR\] Reload failed: the workers from before it stay$")
        server.wait_for("Error: module 'main' cannot be imported: RuntimeError: a bad")
        server.wait_for_workers(2)

        assert server.workers() == first
        assert int(server.get().body) in first


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("timeout = 'soon'", "Reload failed: timeout: expected a number of seconds"),
        ("nothing(", "Reload failed: gunicorn.conf.py, line 1: "),
        ("nothing", "NameError: name 'nothing' is not defined"),
        ("raise SystemExit(1)", "Reload failed"),
        ("chdir = 'nix'", "Reload failed: chdir: expected a directory that exists"),
        ("accesslog = '/nix/log'", "Reload failed: accesslog: cannot write to"),
    ],
)
def test_hup_with_settings_that_cannot_be_used_changes_nothing(
    deploy, place, text, said
):
    config = place / "gunicorn.conf.py"
    config.write_text("raw_env = ['A=1']")
    with deploy(workers=2) as server:
        first = server.workers()
        rewrite(config, text)
        server.process.send_signal(signal.SIGHUP)
        server.wait_for(re.escape(said))

        assert server.workers() == first
        assert int(server.get().body) in first
        rewrite(config, "")
        server.process.send_signal(signal.SIGHUP)
        server.wait_for_workers(2, but=first)


def test_hup_finds_the_directory_that_was_put_in_the_place_of_ours(deploy, place):
    """As a deployment does it: there is nothing for a moment."""
    app = (place / "main.py").read_text()
    with deploy(workers=2) as server:
        first = server.workers()
        shutil.rmtree(place)
        server.process.send_signal(signal.SIGHUP)
        server.wait_for(r"\[ERROR\] Reload failed\n(?s:.*)FileNotFoundError")
        assert server.workers() == first
        assert int(server.get().body) in first

        place.mkdir()
        (place / "main.py").write_text(app)
        server.process.send_signal(signal.SIGHUP)
        second = server.wait_for_workers(2, but=first)
        assert int(server.get().body) in second
        place.joinpath("main.py").unlink()
        server.process.send_signal(signal.SIGHUP)
        server.wait_for("Reload failed: the workers from before it stay")
        assert int(server.get().body) in second


def test_hup_of_a_new_app_that_hangs_is_superseded_by_the_next(deploy, place):
    good = (place / "main.py").read_text()
    with deploy(workers=2) as server:
        first = server.workers()
        rewrite(place / "main.py", "import time; time.sleep(600)")
        server.process.send_signal(signal.SIGHUP)
        tried = server.wait_for_workers(4) - first
        assert int(server.get().body) in first

        (place / "main.py").unlink()
        (place / "main.py").write_text(good)
        server.process.send_signal(signal.SIGHUP)
        now = server.wait_for_workers(2, but=first | tried)

        assert int(server.get().body) in now


def test_what_cannot_be_changed_is_named(deploy, place):
    config = place / "gunicorn.conf.py"
    config.write_text("backlog = 100")
    with deploy() as server:
        first = server.workers()
        config.write_text("backlog = 200\n")
        server.process.send_signal(signal.SIGHUP)
        server.wait_for_workers(1, but=first)

        server.wait_for(
            r"\[WARNING\] backlog: changed, which needs a restart: 100 stays"
        )


class Load:
    """Clients that ask all the time; what they did not get is in `losses`."""

    def __init__(self, server, count=4):
        self.losses = []
        self.answers = 0
        self._server = server
        self._enough = False
        self._threads = [threading.Thread(target=self._ask) for _ in range(count)]

    def _ask(self):
        while not self._enough:
            try:
                answer = self._server.get()
                if answer.status != 200:
                    self.losses.append(answer)
            except (OSError, Truncated) as error:
                self.losses.append(error)
            self.answers += 1

    def __enter__(self):
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *error):
        self._enough = True
        for thread in self._threads:
            thread.join()


@pytest.mark.contract
def test_hup_under_load_loses_no_request(deploy):
    with deploy(workers=2) as server, Load(server) as load:
        for _ in range(5):
            before = server.workers()
            seen = load.answers
            server.process.send_signal(signal.SIGHUP)
            server.wait_for_workers(2, but=before)
            wait_until(lambda seen=seen: load.answers > seen + 20)

        assert load.losses == []


def test_ttou_under_load_loses_no_request(deploy):
    """A worker that retires leaves no connection behind."""
    with deploy(workers=3) as server, Load(server) as load:
        for count in (2, 1, 2, 3, 2, 1):
            more = len(server.workers()) < count
            server.process.send_signal(signal.SIGTTIN if more else signal.SIGTTOU)
            server.wait_for_workers(count)
            seen = load.answers
            wait_until(lambda seen=seen: load.answers > seen + 20)

        assert load.losses == []


# Numbers of requests


@pytest.mark.contract
def test_max_requests_replaces_workers_and_loses_no_request(deploy):
    with deploy("--max-requests", "20", workers=2) as server, Load(server) as load:
        first = server.workers()
        wait_until(lambda: load.answers > 200 and not server.workers() & first)
        server.wait_for(r"\[INFO\] Autorestarting worker after current request\.$")

        assert load.losses == []
        assert "[ERROR]" not in server.stderr


def test_max_requests_counts_exactly_and_the_successor_comes_first(deploy):
    with deploy("--max-requests", "3") as server:
        (first,) = server.workers()
        assert [int(server.get().body) for _ in range(2)] == [first] * 2
        assert server.workers() == {first}
        server.get()
        (second,) = server.wait_for_workers(1, but=[first])

        assert int(server.get().body) == second
        said = server.stderr
        assert said.index(f"Booting worker with pid: {second}") < said.index(
            f"Worker exiting (pid: {first})"
        )


def test_max_requests_differ_by_their_jitter(deploy, place):
    (place / "gunicorn.conf.py").write_text(
        "max_requests, max_requests_jitter = 1000, 10**6\n"
        "def post_worker_init(worker):\n"
        "    worker.log.info('it has %d', worker.max_requests)"
    )
    with deploy(workers=3) as server:
        found = [int(n) for n in re.findall(r"it has (\d+)", server.stderr)]

        assert len(set(found)) > 1
        assert all(1000 <= n <= 1001000 for n in found)


# Time


def test_a_worker_that_is_busy_for_too_long_is_replaced(deploy):
    with deploy("--timeout", TIMEOUT, workers=3) as server:
        first = server.workers()
        with server.connect() as client:
            client.send(b"GET /hang HTTP/1.1\r\nHost: x\r\n\r\n")
            answer = client.response()
        stuck = int(server.wait_for(r"\[CRITICAL\] WORKER TIMEOUT \(pid:(\d+)\)$")[1])
        now = server.wait_for_workers(3, but=[stuck])

        assert answer.status == 500
        assert stuck in first
        assert len(now & first) == 2  # who was idle for as long has not been late
        server.wait_for(r"Error handling request GET /hang")
        server.wait_for(r"time\.sleep\(600\)")
        server.wait_for(rf"Worker \(pid:{stuck}\) exited with code 1\. \(timed out\)$")


def test_a_worker_that_does_not_even_end_is_killed(deploy, place):
    (place / "main.py").write_text(
        "import signal\n"
        "def app(environ, start_response):\n"
        "    if environ['PATH_INFO'] == '/':\n"
        "        start_response('200 OK', [])\n"
        "        return [b'']\n"
        "    signal.signal(signal.SIGABRT, lambda *args: None)\n"
        "    while True: pass\n"
    )
    with deploy("--timeout", TIMEOUT) as server:
        (first,) = server.workers()
        with server.connect() as client:
            client.send(b"GET /loop HTTP/1.1\r\nHost: x\r\n\r\n")
            client.socket.settimeout(6 * DEADLINE_S)
            assert client.response().status == 504
        server.wait_for_workers(1, but=[first])

        assert server.get().status == 200


@pytest.mark.contract
def test_who_is_idle_sleeps(deploy):
    with deploy() as server, server.connect() as client:
        assert client.get().status == 200  # A connection is open, and one has gone.
        assert server.get().status == 200
        (worker,) = server.workers()

        def sleeps():
            before = ran_s(worker)
            time_passes(2)
            return ran_s(worker) - before < 0.2

        wait_until(sleeps, lambda: f"{worker} has run for {ran_s(worker)} s")


def test_slow_clients_are_not_what_timeout_is_about(deploy):
    with deploy("--timeout", TIMEOUT) as server:
        (worker,) = server.workers()
        with server.connect() as client:
            client.send(b"GET / HTTP/1.1\r\nHost: x\r\nX: ")
            with server.connect() as other:
                other.send(b"GET /environ HTTP/1.1\r\nHost: x\r\n\r\n")
                other.response()
            time_passes(int(TIMEOUT) + 1)
            client.send(b"y\r\n\r\n")

            assert int(client.response().body) == worker


def time_passes(seconds):
    """There is no event to wait for when the claim is that none comes."""
    threading.Event().wait(seconds)


# Signals of no effect yet, and logs


def test_winch_is_ignored(deploy):
    with deploy() as server:
        server.process.send_signal(signal.SIGWINCH)

        assert server.get().status == 200


@pytest.mark.contract
def test_usr1_reopens_the_access_log_in_every_worker(deploy, place):
    log, old = place / "access.log", place / "access.log.1"
    with deploy("--access-logfile", "access.log", workers=2) as server:
        server.get("/before")
        wait_until(lambda: "/before" in log.read_text())
        log.rename(old)
        server.process.send_signal(signal.SIGUSR1)
        wait_until(log.exists)
        for pid in server.workers():
            wait_until(lambda pid=pid: log_files(pid) == {str(log)})
        server.get("/after")
        wait_until(lambda: "/after" in log.read_text())

        assert "/after" not in old.read_text()


def log_files(pid):
    folder = f"/proc/{pid}/fd"
    links = (os.readlink(f"{folder}/{fd}") for fd in os.listdir(folder))
    return {link for link in links if "access.log" in link}


def test_a_worker_holds_no_end_of_its_siblings_pipes(deploy):
    """Else the end of the master could not be seen."""
    with deploy(workers=3) as server:
        pipes = {}
        for pid in children(server.pid):
            folder = f"/proc/{pid}/fd"
            for fd in os.listdir(folder):
                link = os.readlink(f"{folder}/{fd}")
                flags = Path(f"/proc/{pid}/fdinfo/{fd}").read_text()
                if link.startswith("pipe:") and re.search(
                    r"flags:\s+0\d*1$", flags, re.M
                ):
                    pipes.setdefault(link, set()).add(pid)
        theirs = {
            os.readlink(f"/proc/{server.pid}/fd/{fd}")
            for fd in os.listdir(f"/proc/{server.pid}/fd")
        }

        # stderr, and the pipes for news and stacks.
        assert len([link for link in pipes if link in theirs]) == 3


@pytest.mark.contract
def test_lines_of_a_killed_worker_are_in_the_access_log(deploy, place):
    """They were in memory, a second at most, when it was killed."""
    log = place / "access.log"
    with deploy("--access-logfile", "access.log", workers=2) as server:
        for round_number in range(3):
            killed = server.workers()
            for n in range(50):
                server.get(f"/{round_number}-{n}")
            for pid in killed:
                os.kill(pid, signal.SIGKILL)
            server.wait_for_workers(2, but=killed)
        wanted = [f'"GET /{r}-{n} HTTP/1.1"' for r in range(3) for n in range(50)]
        wait_until(
            lambda: all(line in log.read_text() for line in wanted), "all are written"
        )


def test_a_worker_that_is_told_to_end_and_does_not_is_succeeded(deploy, place):
    """A thread of its app keeps its interpreter from ending."""
    text = (place / "main.py").read_text()
    (place / "main.py").write_text(
        "import threading\n"
        "threading.Thread(target=threading.Event().wait).start()\n" + text
    )
    with deploy("--graceful-timeout", "1") as server:
        (first,) = server.workers()
        os.kill(first, signal.SIGTERM)
        server.wait_for_workers(1, but=[first])

        assert server.get().status == 200


def test_a_reload_during_the_start_is_forgotten_when_it_has_started(deploy, place):
    """What a later reload that fails falls back to is what serves then."""
    slow = "import time\ntime.sleep(1)\n"
    text = (place / "main.py").read_text()
    (place / "main.py").write_text(slow + text)
    with deploy(ready=False) as server:
        server.wait_for("Booting worker")
        server.process.send_signal(signal.SIGHUP)
        server.wait_until_ready(1)
        rewrite(place / "main.py", BROKEN)
        server.process.send_signal(signal.SIGHUP)
        server.wait_for("Reload failed")
        rewrite(place / "main.py", text)
        first = server.workers()
        for pid in first:
            os.kill(pid, signal.SIGKILL)
        server.wait_for_workers(1, but=first)

        assert server.get().status == 200


FIRST_ALONE = """
import os, time
try:
    os.mkdir("first")
except FileExistsError:
    os.mkdir("second")
    while not os.path.exists("gate"):
        time.sleep(0.01)
"""


def test_a_reload_waits_for_a_start_of_which_some_workers_serve(deploy, place):
    """One that fails would end those that are the only ones there are."""
    text = (place / "main.py").read_text()
    (place / "main.py").write_text(FIRST_ALONE + text)
    with deploy(workers=2, ready=False) as server:
        server.wait_until_listening()
        wait_until((place / "second").exists)
        assert server.get().status == 200
        rewrite(place / "main.py", BROKEN)
        server.process.send_signal(signal.SIGHUP)
        server.wait_for("Handling signal: hup")
        (place / "gate").touch()
        server.wait_until_ready(2)
        server.wait_for("Reload failed")

        assert server.get().status == 200


@pytest.mark.parametrize("preload", [(), ("--preload",)])
def test_why_an_app_cannot_be_loaded_is_in_a_log_that_is_a_file(deploy, place, preload):
    log = place / "error.log"
    with deploy("--error-logfile", "error.log", *preload, ready=False) as server:
        wait_until(lambda: log.exists() and "Workers are ready" in log.read_text())
        rewrite(place / "main.py", BROKEN)
        server.process.send_signal(signal.SIGHUP)
        wait_until(lambda: "Reload failed" in log.read_text(), log.read_text)

        assert (
            "[ERROR] module 'main' cannot be imported: RuntimeError" in log.read_text()
        )
        assert "raise RuntimeError" in log.read_text()


@pytest.mark.parametrize("hook", ["on_starting", "when_ready"])
def test_a_hook_that_fails_at_the_start_is_named(deploy, place, hook):
    (place / "gunicorn.conf.py").write_text(f"def {hook}(server): 1 / 0")
    with deploy("--error-logfile", "log", ready=False, killed=True) as server:
        assert server.wait() == 1
        server.wait_for(rf"Error: {hook}: the hook has failed: ZeroDivisionError")


def test_post_request_sees_a_response_without_a_status_when_the_app_fails(
    deploy, place
):
    (place / "gunicorn.conf.py").write_text(
        "def post_request(worker, req, environ, resp):\n"
        "    worker.log.info('status %s', resp.status)"
    )
    with deploy() as server:
        assert server.get("/seen?/nowhere").status == 500
        server.wait_for("status None")


def ran_s(pid):
    """On a CPU, all threads together."""
    threads = Path(f"/proc/{pid}/task").glob("*/schedstat")
    return sum(int(thread.read_text().split()[0]) for thread in threads) / 1e9
