"""The servers that a soak compares: how each starts, and who its workers are."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path

from tests.process import (
    LISTENING,
    START_S,
    Deployed,
    children,
    group_members,
    parent_of,
    wait_for_end,
    wait_until,
)

# Settings that Granian has, too; it takes them from the command line only.
GRANIAN_FLAGS = {
    "workers": "--workers",
    "backlog": "--backlog",
    "max_worker_rss": "--workers-max-rss",
}


def command_line(pid: int) -> str:
    try:
        data = Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return ""
    return data.replace(b"\0", b" ").decode(errors="replace")


class Served(Deployed):
    """A server of any make, ended at the end whatever has become of it."""

    def __init__(self, module: list[str], place: Path, env: Mapping[str, str]) -> None:
        self.cwd = place
        self.addresses = []
        self._start(module, place, env)

    def wait_until_serving(self, workers: int) -> None:
        """Wait until it listens, and somebody answers."""
        found = self.wait_for(LISTENING.pattern, START_S)
        self.addresses = found[2].split(",")
        wait_until(lambda: self._answers(), lambda: self.stderr)

    def _answers(self) -> bool:
        try:
            with self.connect() as client:
                return client.get("/start/1/", "Connection: close").status == 200
        except (OSError, AssertionError):
            return False

    def alive(self) -> bool:
        """Whether the master is there, be it the first or one that has replaced it."""
        self.process.poll()
        return parent_of(self.pid) != 0

    def end(self) -> None:
        """Stop it, and whoever it has left."""
        if self.alive():
            os.kill(self.pid, signal.SIGTERM)
            wait_for_end(self.pid, START_S)
        for pid in group_members(self.process.pid):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.process.wait()
        self._reader.join(START_S)


class ServedByGranian(Served):
    """It logs in another way, and is told its port."""

    def __init__(self, module: list[str], place: Path, env: Mapping[str, str]) -> None:
        super().__init__(module, place, env)
        self.addresses = [f"http://127.0.0.1:{module[-1]}"]

    def wait_until_serving(self, workers: int) -> None:
        wait_until(lambda: self._answers(), lambda: self.stderr)


Starter = Callable[[Path, Mapping[str, object], Mapping[str, str]], Served]


@dataclass(frozen=True)
class Peer:
    """A server: how to start it, and what it cannot do."""

    name: str
    package: str
    starter: Starter
    cannot: Mapping[str, str] = field(default_factory=dict)  # A scenario, and why.
    not_workers: str = "\0"  # What the command line of another child has in it.
    reload_failed: str = ""  # What it logs when a reload has failed.
    recycled: str = ""  # What it logs when it recycles a worker, before the reason.

    def start(self, place: Path, settings: Mapping[str, object], mark: str) -> Served:
        env = {"LOADED_MARK": mark, "PYTHONDONTWRITEBYTECODE": "1"}
        return self.starter(place, settings, env)

    def workers(self, pid: int) -> set[int]:
        return {
            child
            for child in children(pid)
            if self.not_workers not in command_line(child)
        }

    def version(self) -> str:
        """Of what is installed; empty when it is not."""
        try:
            return metadata.version(self.package)
        except metadata.PackageNotFoundError:
            return ""


def start_ours(
    place: Path, settings: Mapping[str, object], env: Mapping[str, str]
) -> Served:
    import pywsgiserve  # Not before it is asked for: a soak may be of others only.

    path = str(Path(pywsgiserve.__file__).parents[1])
    binds = ["-b", "127.0.0.1:0", "-b", f"unix:{place}/socket"]
    return Served(
        ["pywsgiserve", "main:app", *binds], place, {**env, "PYTHONPATH": path}
    )


def start_gunicorn(kind: str) -> Starter:
    def start(
        place: Path, settings: Mapping[str, object], env: Mapping[str, str]
    ) -> Served:
        words = ["-b", "127.0.0.1:0", "-b", f"unix:{place}/socket", "-k", kind]
        if kind == "gthread":
            words += ["--threads", "4"]
        if int(metadata.version("gunicorn").partition(".")[0]) >= 25:
            words.append("--no-control-socket")
        return Served(["gunicorn", "main:app", *words], place, env)

    return start


def start_granian(
    place: Path, settings: Mapping[str, object], env: Mapping[str, str]
) -> Served:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    words = ["--interface", "wsgi", "--http", "1", "--respawn-failed-workers"]
    words += ["--respawn-interval", "0.1", "--rss-sample-interval", "1"]
    for name, value in settings.items():
        if name in GRANIAN_FLAGS:
            words += [GRANIAN_FLAGS[name], str(value)]
    words += ["main:app", "--host", "127.0.0.1", "--port", port]
    return ServedByGranian(["granian", *words], place, env)


NO_CONFIG_FILE = "it has no config file to reload"
GUNICORN_CANNOT = {
    "max_worker_lifetime": "it has no such setting",
    "max_worker_rss": "it has no such setting",
}
GRANIAN_CANNOT = {
    "max_worker_lifetime": "it takes no less than 60 s",
    "HUP, broken config": NO_CONFIG_FILE,
    "max_requests": "it has no such setting",
    "TTIN and TTOU": "it has no such signals",
    "USR2 and back": "it has no such signal",
    "TERM, few connections": "it has no such setting",
    "TERM, full queue": "it takes no backlog under 128",
    "stopped, then timed out": "it has no such time-out",
    "an app that hangs": "it has no such time-out",
    "an app that keeps the GIL": "it has no such time-out",
}

OURS = Peer(
    "pywsgiserve",
    "pywsgiserve",
    start_ours,
    not_workers="pywsgiserve: mold",
    reload_failed="Reload failed",
    recycled="is recycled: ",
)
SYNC = Peer("gunicorn sync", "gunicorn", start_gunicorn("sync"), GUNICORN_CANNOT)
GTHREAD = Peer(
    "gunicorn gthread", "gunicorn", start_gunicorn("gthread"), GUNICORN_CANNOT
)
GRANIAN = Peer("granian", "granian", start_granian, GRANIAN_CANNOT, "resource_tracker")
PEERS = (OURS, SYNC, GTHREAD, GRANIAN)
