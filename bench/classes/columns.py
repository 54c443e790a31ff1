"""The classes that are measured, and the servers that each is compared with."""

from __future__ import annotations

import sys
from dataclasses import dataclass, replace
from importlib import metadata
from pathlib import Path

from bench.peers import (
    CHECKOUT,
    OURS,
    Command,
    Peer,
    granian,
    gunicorn,
    worker_options,
)
from bench.workloads import Workload


@dataclass(frozen=True)
class Column:
    """One class of ours, and its peers."""

    kind: str
    ours: Peer
    peers: tuple[Peer, ...]

    @property
    def inline(self) -> bool:
        """Runs one call at a time, whatever the call waits for."""
        return self.kind in ("tornado", "asyncio")

    @property
    def green(self) -> bool:
        return self.kind in ("gevent", "eventlet")


def _ours(kind: str) -> Command:
    def command(workload: Workload, port: int, scratch: Path) -> list[str]:
        options = worker_options(kind, workload, port).split()
        return [
            *(sys.executable, "-m", "pywsgiserve"),
            *options,
            "bench.wsgi:application",
        ]

    return command


def _one_thread(workload: Workload, port: int, scratch: Path) -> list[str]:
    return gunicorn("gthread")(replace(workload, threads=1), port, scratch)


def _granian(workload: Workload, port: int, scratch: Path) -> list[str]:
    return granian(port, threads=workload.threads)


@dataclass(frozen=True)
class _OlderGunicorn(Peer):
    """A Gunicorn in a folder of its own, in place of the installed one."""

    folder: Path | None = None

    def missing(self) -> str:
        if self.folder is None:
            return (
                f"Gunicorn {metadata.version('gunicorn')} has no eventlet worker, and "
                "no folder with an older one is given (--gunicorn-25)"
                if _installed("gunicorn")
                else super().missing()
            )
        return super().missing()

    def version(self) -> str:
        if self.folder is None:
            return ""
        found = metadata.distributions(name="gunicorn", path=[str(self.folder)])
        return next((each.version for each in found), "")


def _installed(package: str) -> bool:
    try:
        return bool(metadata.version(package))
    except metadata.PackageNotFoundError:
        return False


def _eventlet_of(folder: Path | None) -> Peer:
    def command(workload: Workload, port: int, scratch: Path) -> list[str]:
        told = gunicorn("eventlet")(workload, port, scratch)
        return ["env", f"PYTHONPATH={folder}:{CHECKOUT}", *told]

    probe = f"import sys; sys.path.insert(0, {str(folder)!r}); "
    probe += "import eventlet, gunicorn.workers.geventlet"
    return _OlderGunicorn(
        "Gunicorn eventlet", command, probe, "gunicorn", folder=folder
    )


def _column(kind: str, needs: str, *peers: Peer) -> Column:
    why_not = "not there (python setup.py build_ext --inplace; python -m pip install "
    why_not += f"'pywsgiserve[{kind}]')"
    probe = f"import {needs}; from pywsgiserve import run"
    ours = Peer(f"{OURS} {kind}", _ours(kind), probe, OURS, why_not)
    return Column(kind, ours, peers)


def _gunicorn(kind: str, module: str) -> Peer:
    probe = f"import gunicorn.workers.{module}"
    return Peer(f"Gunicorn {kind}", gunicorn(kind), probe, "gunicorn")


def columns(gunicorn_25: Path | None = None) -> tuple[Column, ...]:
    """All classes; eventlet's peer is in Gunicorn up to 25, in that folder."""
    return (
        _column(
            "gthread",
            "threading",
            _gunicorn("gthread", "gthread"),
            Peer("granian", _granian, "import granian", "granian"),
        ),
        _column("gevent", "gevent", _gunicorn("gevent", "ggevent")),
        _column("eventlet", "eventlet", _eventlet_of(gunicorn_25)),
        _column("tornado", "tornado", _gunicorn("tornado", "gtornado")),
        _column(
            "asyncio",
            "asyncio",
            Peer(
                "Gunicorn gthread, 1 thread", _one_thread, "import gunicorn", "gunicorn"
            ),
        ),
    )
