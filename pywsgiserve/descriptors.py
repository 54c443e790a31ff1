"""How many descriptors the processes may open: the soft limit, raised as far as needed.

Not further: `select()` has no room for a descriptor of 1,024 or more, and a child of the
app inherits the limit. The lowest free number is always taken, so the app's own
descriptors are only that high while as many connections are open.
"""

from __future__ import annotations

import resource

from pywsgiserve import logs
from pywsgiserve.checks import MOST_WORKERS
from pywsgiserve.config import Config

# Logs, pipes, epoll sets, and what the app opens.
OTHERS = 256

# A connection may have a file besides: its body's, or what runs ahead of its client.
A_CONNECTION = 2


def needed(config: Config) -> int:
    """By the one who needs most: a worker, or the master of as many as there can be."""
    addresses = len(config.bind) + len(config.uwsgi_bind)
    listeners = addresses * (MOST_WORKERS if config.reuse_port else 1)
    orders = 2 * (MOST_WORKERS + 1)  # Two sets while one follows the other, and molds.
    connections = A_CONNECTION * config.worker_connections
    return max(connections, orders) + listeners + OTHERS


def allow(config: Config) -> None:
    """In the master, whose workers inherit it. A limit is never lowered."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = needed(config)
    if hard != resource.RLIM_INFINITY:
        wanted = min(wanted, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        except (OSError, ValueError) as error:
            logs.line("WARNING", f"RLIMIT_NOFILE: {soft} stays, not {wanted}: {error}")
            return
        logs.line("DEBUG", f"RLIMIT_NOFILE: raised from {soft} to {wanted}")
    if wanted <= config.worker_connections:
        logs.line(
            "WARNING",
            f"worker_connections: {config.worker_connections} do not fit into "
            f"{wanted} descriptors, the hard limit of RLIMIT_NOFILE",
        )
