"""reuse_port: each worker slot has sockets of its own, whose queues are never lost."""

import contextlib
import os
import re
import resource
import signal
import socket
from pathlib import Path

import pytest

from tests.client import SANITIZED
from tests.process import WORKERS, Deployed, wait_until
from tests.server.test_master import BROKEN, Load, rewrite
from tests.server.test_preload import molds, those_at_work

pytestmark = pytest.mark.skipif(WORKERS > 0, reason="chooses its workers itself")

LISTEN, SYN_RECV, ESTABLISHED = "0A", "03", "01"
REQUEST = b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
LOADING = [pytest.param((), id="alone"), pytest.param(("--preload",), id="preload")]


def rows(port, state):
    """The lines of the kernel's table of sockets with this local port and state."""
    local = f":{port:04X}"
    found = []
    with open("/proc/net/tcp") as table:
        next(table)
        for line in table:
            row = line.split(maxsplit=10)
            if row[1].endswith(local) and row[3] == state:
                found.append(row)
            elif state == LISTEN != row[3]:
                break  # Those come first, and of the others there may be many.
    return found


def queues(port):
    """How many connections wait at each listening socket, by inode."""
    before = None
    while True:  # The table may leave out lines while it changes.
        now = {int(r[9]): int(r[4].split(":")[1], 16) for r in rows(port, LISTEN)}
        if before is not None and before.keys() == now.keys():
            return now
        before = now


def halt(pid):
    """Stop a process, and wait until it is."""
    os.kill(pid, signal.SIGSTOP)
    stat = Path(f"/proc/{pid}/stat")
    wait_until(lambda: stat.read_text().rpartition(")")[2].split()[0] == "T")


def links(pid):
    """Which socket is behind each descriptor of a process, by inode."""
    found = {}
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        try:
            link = re.fullmatch(r"socket:\[(\d+)\]", os.readlink(entry))
        except OSError:
            continue  # It has just been closed.
        if link:
            found[int(entry.name)] = int(link[1])
    return found


def held(pid, port):
    """The listening sockets that a process has open."""
    return set(links(pid).values()) & set(queues(port))


def polled(pid, port):
    """The listening sockets that a process waits at."""
    watched: set[int] = set()
    try:
        sockets = links(pid)
        paths = list(Path(f"/proc/{pid}/fdinfo").iterdir())
    except OSError:
        return set()  # It has gone.
    for path in paths:
        with contextlib.suppress(OSError):  # A connection that has just been closed.
            watched.update(
                map(int, re.findall(r"^tfd:\s*(\d+)", path.read_text(), re.M))
            )
    return {sockets[fd] for fd in watched & set(sockets)} & set(queues(port))


def all_polled(server):
    return {pid: polled(pid, server.port) for pid in those_at_work(server)}


def wait_for_one_each(server, count):
    """Wait until each of so many workers waits at a socket of its own, and none else."""

    def settled():
        sets = list(all_polled(server).values())
        return (
            len(sets) == count
            and all(len(one) == 1 for one in sets)
            and len(set().union(*sets)) == count
        )

    wait_until(settled, lambda: f"{all_polled(server)}\n{server.stderr}")


def wait_for_all_polled(server, but=()):
    """Wait until somebody waits at each socket."""

    def covered():
        sets = [s for pid, s in all_polled(server).items() if pid not in but]
        return set().union(*sets) == set(queues(server.port))

    wait_until(covered, lambda: f"{all_polled(server)}\n{server.stderr}")


def fill(server, inode, count):
    """Clients with a request each, until so many wait at this socket."""
    clients = []
    while queues(server.port)[inode] < count:
        client = server.connect()
        client.send(REQUEST)
        clients.append(client)
    return clients


def statuses(clients):
    answers = [client.response().status for client in clients]
    for client in clients:
        client.close()
    return answers


@pytest.fixture
def share(deploy):
    """deploy() with reuse_port."""

    def shared(*words, **settings):
        return deploy("--reuse-port", *words, **settings)

    return shared


@pytest.fixture
def configured(place):
    """A server whose number of workers is what the config file says: write(n) first."""
    servers = []

    def write(workers):
        (place / "gunicorn.conf.py").write_text(
            f"workers = {workers}\nreuse_port = True\nbind = '127.0.0.1:0'\n"
        )

    def start(workers):
        write(workers)
        server = Deployed("main:app", cwd=place)
        servers.append(server)
        server.wait_until_ready(workers)
        return server

    yield start, write
    for server in servers:
        server.finish()


# Who has what


@pytest.mark.parametrize("preload", LOADING)
def test_each_worker_has_a_socket_of_its_own_and_the_master_all(share, preload):
    with share(*preload, workers=3) as server:
        wait_for_one_each(server, 3)

        everything = set(queues(server.port))
        assert len(everything) == 3
        assert held(server.pid, server.port) == everything
        sets = [held(pid, server.port) for pid in those_at_work(server)]
        assert sorted(map(len, sets)) == [1, 1, 1]
        assert set().union(*sets) == everything
        for mold in molds(server):
            assert held(mold, server.port) == set()


def test_each_address_has_a_socket_a_worker_but_a_unix_socket_is_one(share, short_path):
    path = short_path / "socket"
    words = ("-b", "127.0.0.1:0", "-b", f"unix:{path}")
    with share(*words, workers=2) as server:
        ports = [int(url.rpartition(":")[2]) for url in server.addresses[:2]]
        for port in ports:
            assert len(queues(port)) == 2
            for pid in server.workers():
                assert len(held(pid, port)) == 1
        text = Path("/proc/net/unix").read_text()
        assert len(re.findall(rf"{path}(\.\d+)?$", text, re.M)) == 1
        assert len(server.addresses) == 3
        for address in server.addresses:
            with server.connect(address) as client:
                assert client.get().status == 200


# The first worker that gets there loads it; the other one waits.
ONE_LOADS = """
import os, time
try:
    os.mkdir("loaded")
except FileExistsError:
    while True:
        time.sleep(0.05)

def app(environ, start_response):
    start_response("200 OK", [("Content-Length", "0")])
    return []
"""


def test_a_queue_whose_worker_boots_is_served_before_the_end(share, place):
    (place / "main.py").write_text(ONE_LOADS)
    with share(workers=2, ready=False, killed=True) as server:
        server.wait_until_listening()
        wait_until(lambda: any(all_polled(server).values()), lambda: server.stderr)
        [alone] = set(queues(server.port)) - set().union(*all_polled(server).values())
        clients = fill(server, alone, 3)

        os.kill(server.pid, signal.SIGTERM)

        assert set(statuses(clients)) == {200}
        assert server.process.wait(30) == 0


def test_without_it_all_workers_share_one_socket(deploy):
    with deploy(workers=3) as server:
        assert len(queues(server.port)) == 1


def test_one_process_has_one_socket(serve):
    with serve("hello", reuse_port=True) as server, server.connect() as client:
        assert client.get().body == b"hello"
        assert len(queues(server.port)) == 1


def test_two_masters_can_listen_at_one_port(share):
    with share(workers=2) as first:
        with share("-b", f"127.0.0.1:{first.port}", workers=2) as second:
            assert len(queues(first.port)) == 4
            seen = set()
            wait_until(lambda: seen.add(int(first.get().body)) or
                       seen == first.workers() | second.workers())  # fmt: skip
        assert {int(first.get().body) for _ in range(20)} <= first.workers()


def test_a_silent_client_is_nobodys_with_defer_accept(share):
    with share("--defer-accept", workers=2) as server:
        clients = [server.connect() for _ in range(16)]
        wait_until(lambda: len(rows(server.port, SYN_RECV)) == 16)
        for client in clients:
            client.send(REQUEST)
        assert statuses(clients) == [200] * 16


def test_sockets_that_were_handed_over_are_the_slots_and_none_is_left_out(place):
    """As a new master gets them from an old one that had more workers."""
    sockets = [socket.socket() for _ in range(3)]
    port = 0
    for sock in sockets:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        sock.bind(("127.0.0.1", port))
        sock.listen()
        port = sock.getsockname()[1]
    words = [word for sock in sockets for word in ("-b", f"fd://{sock.fileno()}")]
    server = Inheriting(sockets, "main:app", "-w2", "--reuse-port", *words, cwd=place)
    try:
        server.wait_until_ready(2)
        for sock in sockets:
            sock.close()
        assert server.addresses == [f"http://127.0.0.1:{port}"]
        assert len(queues(port)) == 3
        wait_for_all_polled(server)
        assert {server.get().status for _ in range(20)} == {200}
        server.process.send_signal(signal.SIGTTIN)
        server.wait_for_workers(3)
        wait_for_one_each(server, 3)
        server.process.send_signal(signal.SIGTTIN)
        server.wait_for_workers(4)
        wait_for_one_each(server, 4)
    finally:
        server.finish()


def test_a_socket_that_others_cannot_join_is_shared_and_it_is_said(place):
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        words = ("-b", f"fd://{sock.fileno()}", "-w2", "--reuse-port")
        server = Inheriting([sock], "main:app", *words, cwd=place)
        try:
            server.wait_until_ready(2)
            server.wait_for(r"reuse_port: 'fd://\d+' was made without SO_REUSEPORT")
            assert len(queues(server.port)) == 1
            assert server.get().status == 200
        finally:
            server.finish()


class Inheriting(Deployed):
    """A server that gets these sockets."""

    def __init__(self, sockets, *words, cwd):
        self.sockets = sockets
        super().__init__(*words, cwd=cwd)

    def _start(self, module, cwd, env, pass_fds=(), prefix=()):
        fds = [sock.fileno() for sock in self.sockets]
        super()._start(module, cwd, env, fds, prefix)


def test_it_says_when_there_is_nothing_to_have_a_socket_each_of(place):
    words = ("main:app", "-w2", "--reuse-port", "-b", f"unix:{place}/socket")
    server = Deployed(*words, cwd=place)
    try:
        server.wait_until_ready(2)
        server.wait_for("reuse_port: no address takes a socket a worker")
    finally:
        server.finish()


def test_sockets_that_cannot_be_had_end_the_start(place):
    """A worker without a socket would be one for nothing."""
    prefix = ("prlimit", "--nofile=60")
    server = Deployed("main:app", "-w", "100", "--reuse-port", cwd=place, prefix=prefix)
    assert server.wait() == 1
    server.finish(killed=True)
    said = "Error: reuse_port: 100 workers need a socket each: .*Too many open files"
    assert re.search(said, server.stderr)


# Queues


@pytest.mark.parametrize("preload", LOADING)
@pytest.mark.parametrize("workers", [1, 2])
def test_the_queue_of_a_killed_worker_is_served(share, preload, workers):
    with share(*preload, workers=workers) as server:
        wait_for_one_each(server, workers)
        victim = min(those_at_work(server))
        (inode,) = polled(victim, server.port)
        halt(victim)
        clients = fill(server, inode, 5)
        os.kill(victim, signal.SIGKILL)

        assert set(statuses(clients)) == {200}
        server.wait_for_workers(workers + len(preload), but=[victim])
        wait_for_one_each(server, workers)
        assert len(queues(server.port)) == workers


def test_a_sibling_serves_the_queue_while_no_successor_can_boot(share, place):
    with share(workers=2) as server:
        wait_for_one_each(server, 2)
        victim, sibling = server.workers()
        (inode,) = polled(victim, server.port)
        text = (place / "main.py").read_text()
        rewrite(place / "main.py", BROKEN)
        halt(victim)
        clients = fill(server, inode, 3)
        os.kill(victim, signal.SIGKILL)

        assert set(statuses(clients)) == {200}
        server.wait_for(r"(?s)(a bad deployment.*exited with code 3\..*){2}")
        assert {int(server.get().body) for _ in range(20)} == {sibling}
        (place / "main.py").unlink()
        (place / "main.py").write_text(text)
        wait_for_one_each(server, 2)


def test_the_queue_of_a_slot_that_is_dropped_is_served(share):
    """By TTOU: its worker may even hang, as long as it lives."""
    with share(workers=2) as server:
        wait_for_one_each(server, 2)
        # The one with the higher slot goes, which was forked last.
        found = re.findall(r"Booting worker with pid: (\d+)", server.stderr)
        sets = all_polled(server)
        server.process.send_signal(signal.SIGTTOU)
        (left,) = server.wait_for_workers(1)
        (gone,) = set(sets) - {left}
        assert {str(left), str(gone)} == set(found)
        wait_until(lambda: polled(left, server.port) == set(queues(server.port)))
        assert len(queues(server.port)) == 2
        halt(left)
        (inode,) = sets[gone]
        clients = fill(server, inode, 3)
        os.kill(left, signal.SIGCONT)

        assert {client.response().body for client in clients} == {str(left).encode()}
        for client in clients:
            client.close()


def test_what_waits_for_a_worker_that_retires_and_hangs_is_served_by_a_sibling(share):
    with share("--graceful-timeout", "5", workers=2) as server:
        wait_for_one_each(server, 2)
        sets = all_polled(server)
        server.process.send_signal(signal.SIGTTOU)
        (left,) = server.wait_for_workers(1)
        server.process.send_signal(signal.SIGTTIN)
        server.wait_for_workers(2)
        wait_for_one_each(server, 2)
        (new,) = server.workers() - {left}
        assert polled(new, server.port) == set.union(*sets.values()) - sets[left]
        halt(new)
        clients = fill(server, polled(new, server.port).pop(), 3)
        server.process.send_signal(signal.SIGTTOU)

        assert set(statuses(clients)) == {200}
        server.wait_for_workers(1, but=[new])  # It is killed when its time is over.


def test_all_queues_are_served_before_the_end(share):
    with share(workers=2, killed=True) as server:
        wait_for_one_each(server, 2)
        workers = server.workers()
        for pid in workers:
            halt(pid)
        clients = [c for inode in queues(server.port) for c in fill(server, inode, 5)]
        server.process.send_signal(signal.SIGTERM)
        server.wait_for("Handling signal: term")
        for pid in workers:
            os.kill(pid, signal.SIGCONT)

        assert set(statuses(clients)) == {200}
        assert server.wait() == 0


@pytest.mark.skipif(SANITIZED, reason="the leak check needs a descriptor at its end")
def test_a_worker_that_can_take_no_more_sockets_is_succeeded(share):
    """Its limit of open files is reached: nobody would serve the queue."""
    with share(workers=2) as server:
        wait_for_one_each(server, 2)
        sets = all_polled(server)
        for pid in server.workers():
            _, most = resource.prlimit(pid, resource.RLIMIT_NOFILE)
            resource.prlimit(pid, resource.RLIMIT_NOFILE, (3, most))
        server.process.send_signal(signal.SIGTTOU)
        server.wait_for("A sibling's sockets need a successor of this worker")
        (left,) = server.wait_for_workers(1, but=sets)
        wait_until(lambda: polled(left, server.port) == set(queues(server.port)))

        assert {int(server.get().body) for _ in range(20)} == {left}


# Numbers


def test_slots_come_and_go_and_every_socket_is_polled(share):
    with share(workers=2) as server:
        for count in (3, 4, 3, 2, 1, 2, 3, 4, 5):
            more = len(server.workers()) < count
            server.process.send_signal(signal.SIGTTIN if more else signal.SIGTTOU)
            server.wait_for_workers(count)
            wait_for_all_polled(server)
        wait_for_one_each(server, 5)


def test_hup_changes_the_number_of_slots(configured):
    start, write = configured
    server = start(2)
    for count in (4, 1, 3):
        before = server.workers()
        write(count)
        server.process.send_signal(signal.SIGHUP)
        server.wait_for_workers(count, but=before)
        wait_for_all_polled(server)
        assert len(queues(server.port)) == 4
        assert server.get().status == 200


def test_hup_with_more_workers_and_a_broken_app_leaves_no_socket_alone(
    configured, place
):
    start, write = configured
    server = start(2)
    before = server.workers()
    rewrite(place / "main.py", BROKEN)
    write(4)
    server.process.send_signal(signal.SIGHUP)
    server.wait_for("Reload failed")
    server.wait_for_workers(2)

    assert server.workers() == before
    wait_for_all_polled(server)
    assert {int(server.get().body) for _ in range(40)} <= before


def test_a_socket_that_cannot_be_had_is_tried_again(share):
    """Not even a TTIN may take the site down."""
    with share(workers=2) as server:
        used = set(map(int, os.listdir(f"/proc/{server.pid}/fd")))
        free = min(set(range(len(used) + 1)) - used)
        soft, hard = resource.prlimit(server.pid, resource.RLIMIT_NOFILE)
        resource.prlimit(server.pid, resource.RLIMIT_NOFILE, (free, hard))
        server.process.send_signal(signal.SIGTTIN)
        server.wait_for("reuse_port: no socket for another worker, which shares one: ")
        assert server.get().status == 200
        # Between two tries: one that finds a place, but no socket, shares for good.
        tries = server.stderr.count("no place for a worker: ")
        server.wait_for(f"(?s)(no place for a worker: .*?){{{tries + 1}}}")
        resource.prlimit(server.pid, resource.RLIMIT_NOFILE, (soft, hard))
        server.wait_for_workers(3)
        wait_for_one_each(server, 3)


# Under load


@pytest.mark.parametrize("preload", LOADING)
def test_hup_under_load_loses_no_request(share, preload):
    with share(*preload, workers=3) as server, Load(server) as load:
        for _ in range(3):
            before = server.workers()
            seen = load.answers
            server.process.send_signal(signal.SIGHUP)
            server.wait_for_workers(3 + len(preload), but=before)
            wait_until(lambda seen=seen: load.answers > seen + 20)

        assert load.losses == []


@pytest.mark.parametrize("preload", LOADING)
def test_max_requests_under_load_loses_no_request(share, preload):
    words = ("--max-requests", "20", *preload)
    with share(*words, workers=3) as server, Load(server) as load:
        first = those_at_work(server)
        wait_until(lambda: load.answers > 300 and not server.workers() & first)

        assert load.losses == []


@pytest.mark.parametrize("preload", LOADING)
def test_ttou_and_ttin_under_load_lose_no_request(share, preload):
    with share(*preload, workers=3) as server, Load(server) as load:
        for count in (2, 1, 2, 3, 4):
            more = len(those_at_work(server)) < count
            server.process.send_signal(signal.SIGTTIN if more else signal.SIGTTOU)
            server.wait_for_workers(count + len(preload))
            seen = load.answers
            wait_until(lambda seen=seen: load.answers > seen + 20)

        assert load.losses == []


def kill_one(server):
    """Kill a worker for which somebody waits; how many it has had, how many waited."""
    wait_for_one_each(server, 3)
    victim = min(server.workers())
    (inode,) = polled(victim, server.port)
    halt(victim)
    wait_until(lambda: queues(server.port)[inode] >= 1)
    mine = set(links(victim).values())
    had = [row for row in rows(server.port, ESTABLISHED) if int(row[9]) in mine]
    waited = queues(server.port)[inode]
    os.kill(victim, signal.SIGKILL)
    server.wait_for_workers(3, but=[victim])
    return len(had), waited


def test_killed_workers_lose_what_they_had_and_no_more(share):
    """What waits in their queues is served by others."""
    with share(workers=3) as server:
        with Load(server) as load:
            kills = [kill_one(server) for _ in range(3)]
            seen = load.answers
            wait_until(lambda: load.answers > seen + 20)

        assert sum(waited for _, waited in kills) >= 3
        assert len(load.losses) <= sum(had for had, _ in kills)
