"""Workers that are replaced: by age, memory, requests or a reload, some at a time."""

import os
import re
import signal
import threading

import pytest

from tests.process import WORKERS, parent_of, wait_until
from tests.server.test_master import BROKEN, Load, rewrite, title

pytestmark = pytest.mark.skipif(WORKERS > 0, reason="chooses its workers itself")

# With and without a mold.
both_ways = pytest.mark.parametrize("preload", [(), ("--preload",)])


def at_work(server):
    """The workers, whatever they do, once they are known for workers."""
    return {p for p in server.workers() if title(p).startswith("pywsgiserve: worker")}


class Most:
    """Looks all the time how many workers there are; `most` is how many there were."""

    def __init__(self, server):
        self.most = 0
        self._server = server
        self._enough = threading.Event()
        self._thread = threading.Thread(target=self._look)

    def _look(self):
        while not self._enough.is_set():
            self.most = max(self.most, len(at_work(self._server)))

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *error):
        self._enough.set()
        self._thread.join()


def wait_for(server, count, but):
    """Wait for so many workers, none of them of `but`."""
    wait_until(
        lambda: len(at_work(server)) == count and not at_work(server) & but,
        lambda: f"{at_work(server)} are not {count} without {but}:\n{server.stderr}",
    )
    return at_work(server)


# Reloads with a limit


@both_ways
def test_a_reload_keeps_to_max_surge(deploy, preload):
    with deploy("--max-surge", "1", *preload, workers=3) as server:
        first = at_work(server)
        with Most(server) as seen, Load(server) as load:
            server.process.send_signal(signal.SIGHUP)
            wait_for(server, 3, first)

        assert seen.most <= 4
        assert load.losses == []
        server.wait_for(r"(?s)Workers are ready: 3$.*Workers are ready: 3$")
        for pid in first:
            server.wait_for(rf"Worker \(pid:{pid}\) has ended \(retired by reload\)$")


@both_ways
def test_a_reload_takes_as_many_again_by_default(deploy, preload):
    with deploy(*preload, workers=3) as server:
        first = at_work(server)
        with Most(server) as seen:
            server.process.send_signal(signal.SIGHUP)
            wait_for(server, 3, first)

        assert seen.most <= 6


@pytest.mark.contract
def test_one_goes_only_when_one_has_come(deploy, place):
    """With three, there are three that serve at each moment of a reload."""
    with deploy("--max-surge", "1", workers=3) as server:
        first = at_work(server)
        server.process.send_signal(signal.SIGHUP)
        wait_for(server, 3, first)
        server.wait_for(r"(?s)(retired by reload.*){3}")
        events = re.findall(
            r"(Booting worker with pid|Worker exiting \(pid): ", server.stderr
        )

        assert len(events) == 9
        serving = 3
        for came in (event.startswith("Booting") for event in events[3:]):
            serving += 1 if came else -1
            assert 3 <= serving <= 4


@pytest.mark.contract
@both_ways
def test_a_reload_that_fails_with_its_first_changes_nothing(deploy, place, preload):
    with deploy("--max-surge", "1", *preload, workers=3) as server:
        first = server.workers()
        rewrite(place / "main.py", BROKEN)
        server.process.send_signal(signal.SIGHUP)
        server.wait_for(r"\[ERROR\] Reload failed: the workers from before it stay$")
        wait_until(lambda: server.workers() == first)

        assert server.get().status == 200


def test_a_reload_that_fails_later_keeps_those_that_serve(deploy, place):
    """The first new one serves, so the new code can: the rest is tried again."""
    flag = place / "flag"
    with deploy("--max-surge", "1", workers=2) as server:
        first = server.workers()
        text = (place / "main.py").read_text()
        once = (
            "import os\n"
            f"if os.path.exists({str(flag)!r}):\n"
            "    raise RuntimeError('a bad day')\n"
            f"open({str(flag)!r}, 'w').close()\n"
        )
        rewrite(place / "main.py", once + text)
        server.process.send_signal(signal.SIGHUP)
        server.wait_for(r"(?s)(a bad day.*exited with code 3\..*){2}")
        server.wait_for(r"\[WARNING\] 2 of 2 workers serve; the next try in \d+\.\d s$")

        assert len(server.workers() & first) == 1
        assert "Reload failed" not in server.stderr
        rewrite(place / "main.py", text)
        wait_for(server, 2, first)
        server.wait_for(r"\[INFO\] 2 of 2 workers serve again$")


def test_fewer_workers_than_before_come_within_the_limit(deploy, place):
    config = place / "gunicorn.conf.py"
    config.write_text("max_surge = 1\nworkers = 4")
    with deploy(ready=False) as server:
        server.wait_until_ready()
        server.process.send_signal(signal.SIGTTIN)
        server.process.send_signal(signal.SIGTTIN)
        wait_until(lambda: len(server.workers()) >= 2)
        before = server.workers()
        server.process.send_signal(signal.SIGHUP)
        wait_for(server, 1, before)

        assert server.get().status == 200


# Requests


@both_ways
def test_many_that_have_served_enough_go_one_by_one(deploy, preload):
    words = ("--max-requests", "10", "--max-surge", "1", *preload)
    with deploy(*words, workers=3) as server:
        first = at_work(server)
        with Most(server) as seen, Load(server) as load:
            wait_until(lambda: load.answers > 200 and not at_work(server) & first)

        assert seen.most <= 4
        assert load.losses == []
        pid = server.wait_for(
            r"\[INFO\] Worker \(pid:(\d+)\) is recycled: max_requests 10$"
        )[1]
        server.wait_for(
            rf"\[INFO\] Worker \(pid:{pid}\) has ended \(recycled: max_requests 10\)$"
        )


# Age


@both_ways
def test_who_has_served_for_long_is_replaced(deploy, preload):
    words = ("--max-worker-lifetime", "1", *preload)
    with deploy(*words, workers=2) as server, Load(server, 2) as load:
        first = at_work(server)
        wait_until(lambda: not at_work(server) & first)
        for pid in first:
            old = r"\d+ s old, max_worker_lifetime 1"
            server.wait_for(rf"\[INFO\] Worker \(pid:{pid}\) is recycled: {old}$")
            server.wait_for(rf"Worker \(pid:{pid}\) has ended \(recycled: {old}\)$")

        assert load.losses == []


# Memory

HUNGRY = """
import os
kept = []

def app(environ, start_response):
    if environ["PATH_INFO"] == "/eat":
        kept.append(b"x" * (500 << 20))
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [str(os.getpid()).encode()]
"""


@both_ways
def test_who_has_too_much_memory_is_replaced(deploy, place, preload):
    (place / "main.py").write_text(HUNGRY)
    with deploy("--max-worker-rss", "1000", *preload, workers=2) as server:
        assert "is recycled" not in server.stderr
    with deploy("--max-worker-rss", "500", *preload, workers=2) as server:
        first = at_work(server)
        with server.connect() as client:
            hungry = int(client.get("/eat", "Connection: close").body)
        left = wait_for(server, 2, {hungry})
        size = r"[5-9]\d\d MiB, max_worker_rss 500"
        server.wait_for(rf"\[INFO\] Worker \(pid:{hungry}\) is recycled: {size}$")
        server.wait_for(rf"Worker \(pid:{hungry}\) has ended \(recycled: {size}\)$")

        assert len(left & first) == 1
        assert server.stderr.count("is recycled") == 1


def test_those_that_begin_with_too_much_are_not_replaced_all_the_time(deploy, place):
    with deploy("--max-worker-rss", "1", workers=1) as server:
        server.wait_for(
            r"\[WARNING\] 1 of 1 workers serve; the next try in \d+\.\d s$", 60
        )

        assert server.get().status == 200


def test_memory_is_read_only_where_it_is_asked_for(deploy, place):
    """The master sleeps when nothing happens."""
    with deploy("--timeout", "0", workers=2) as server:
        first = switches(server.pid)
        threading.Event().wait(2.5)

        assert switches(server.pid) - first <= 1


def switches(pid):
    """How often a process has gone to sleep."""
    with open(f"/proc/{pid}/status") as status:
        return int(re.search(r"\nvoluntary_ctxt_switches:\s+(\d+)", status.read())[1])


# Causes of death


def test_a_kill_of_somebody_else_is_told_from_want_of_memory(deploy):
    with deploy(workers=2) as server:
        victim = min(server.workers())
        os.kill(victim, signal.SIGKILL)
        server.wait_for(
            rf"\[ERROR\] Worker \(pid:{victim}\) was sent SIGKILL! "
            r"(\(somebody else's SIGKILL: the cgroup's oom_kill count is still \d+\)"
            r"|Perhaps out of memory\?)$"
        )


def test_fewer_workers_is_a_reason(deploy):
    with deploy(workers=2) as server:
        server.process.send_signal(signal.SIGTTOU)
        server.wait_for(r"Worker \(pid:\d+\) has ended \(fewer workers are wanted\)$")


def test_a_signal_from_elsewhere_is_told(deploy):
    with deploy(workers=2) as server:
        victim = min(server.workers())
        os.kill(victim, signal.SIGTERM)
        server.wait_for(
            rf"Worker \(pid:{victim}\) has ended \(not told to by the master\)$"
        )


def test_the_codes_3_and_4_end_nothing_once_a_worker_has_served(deploy, place):
    """Gunicorn's master ends by them at any time."""
    text = (place / "main.py").read_text()
    (place / "main.py").write_text(text.replace("os._exit(9)", "os._exit(3)"))
    with deploy(workers=1) as server:
        for _ in range(2):
            with server.connect() as client:
                client.send(b"GET /die HTTP/1.1\r\nHost: x\r\n\r\n")
                assert client.gone()
        server.wait_for(r"\[ERROR\] Worker \(pid:\d+\) exited with code 3\.$")

        assert server.get().status == 200
        assert parent_of(server.pid)
