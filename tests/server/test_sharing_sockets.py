"""Workers that accept from the same sockets: who gets what, and who is woken."""

import collections
import os
import re
import signal
from pathlib import Path

import pytest

from tests.process import WORKERS

pytestmark = pytest.mark.skipif(WORKERS > 0, reason="chooses its workers itself")


def switches(pid):
    """How often a process has gone to sleep."""
    text = Path(f"/proc/{pid}/status").read_text()
    return int(re.search(r"^voluntary_ctxt_switches:\s+(\d+)", text, re.M)[1])


@pytest.mark.parametrize("family", ["TCP", "Unix"])
def test_work_is_shared_at_low_load(deploy, short_path, family):
    """The kernel wakes whoever waits first in its queue, which would be the same one."""
    with deploy("-b", f"unix:{short_path}/socket", workers=4) as server:
        address = server.addresses[0 if family == "TCP" else 1]
        seen = collections.Counter(dict.fromkeys(server.workers(), 0))
        # On a busy machine one that is awake may be quicker than one that is woken.
        for _ in range(5):
            for _ in range(640):
                with server.connect(address) as client:
                    seen[int(client.get("/", "Connection: close").body)] += 1
            if min(seen.values()) >= 64:
                break

        assert set(seen) == server.workers()
        assert min(seen.values()) >= 64, seen


def test_one_connection_wakes_one_worker(deploy):
    """A request takes a worker two or three sleeps; a herd of eight would take twenty."""
    with deploy(workers=8) as server:
        workers = server.workers()
        before = sum(map(switches, workers))
        for _ in range(200):
            server.get()
        after = sum(map(switches, workers))

        assert after - before < 200 * 6


def test_nobody_waits_behind_a_busy_worker(deploy):
    with deploy(workers=2) as server:
        with server.connect() as stuck:
            stuck.send(b"GET /hang HTTP/1.1\r\nHost: x\r\n\r\n")
            answers = [server.get() for _ in range(100)]
            stuck.abort()
            victims = server.workers() - {int(answers[-1].body)}

            assert len({answer.body for answer in answers[10:]}) == 1
            assert len(victims) == 1
        server.process.send_signal(
            signal.SIGINT
        )  # The stuck one does not end by itself.
        server.wait()
        server.finish(killed=True)


def test_a_worker_that_still_has_to_end_holds_no_socket(deploy, place):
    """The hooks and handlers of its end may take long; a client must not wait there."""
    pipe = place / "pipe"
    os.mkfifo(pipe)
    (place / "gunicorn.conf.py").write_text(
        f"def worker_exit(server, worker): open({str(pipe)!r}).read()"
    )
    with deploy(killed=True) as server:
        server.process.send_signal(signal.SIGTERM)
        with open(pipe, "w"):  # The hook has opened it.
            with pytest.raises(ConnectionRefusedError):
                server.connect()
        assert server.wait() == 0


def test_a_retired_worker_closes_its_copy_of_the_sockets(deploy):
    """What still came to it would wait for nobody."""
    with deploy(workers=3) as server:
        with server.connect() as client:
            first = int(client.get().body)
            before = server.workers()
            server.process.send_signal(signal.SIGHUP)
            now = server.wait_for_workers(3, but=before)

            assert first not in now
            assert client.closed()
        assert {int(server.get().body) for _ in range(60)} <= now
