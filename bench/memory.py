"""Memory of an idle keep-alive connection: how much more is in RAM with many of them."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractContextManager

from bench.client import Client
from bench.measure import idle_connections
from bench.peers import Peer
from bench.process import Machine, Server, running
from bench.workloads import Workload

Hold = Callable[[Server, int], AbstractContextManager[object]]

CONNECTIONS = 5_000
_WARM_UP = 1_000
_SETTLE_SECONDS = 1


def a_connection(peer: Peer, workload: Workload, machine: Machine) -> float:
    """Bytes of the server's for a connection that made a request and now waits."""
    return held(peer, workload, machine, CONNECTIONS, idle_connections)


def held(
    peer: Peer, workload: Workload, machine: Machine, count: int, hold: Hold
) -> float:
    """Bytes of the server's for each of so many things that are held."""
    with running(peer, workload, machine) as server:
        client = Client(server.address)
        for _ in range(_WARM_UP):
            client.exchange(workload.requests[0])
        before = server.memory()
        with hold(server, count):
            time.sleep(_SETTLE_SECONDS)  # threads and collectors come to rest
            after = server.memory()
        client.close()
    return (after - before) / count
