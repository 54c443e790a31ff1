"""What classes for Gunicorn import from it, where it is not installed.

The names are ours, and are there in workers of such a class alone: an app elsewhere that
asks whether there is a Gunicorn is told the truth. The one that is installed goes first.
"""

from __future__ import annotations

import fcntl
import importlib.machinery
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from types import ModuleType
from typing import Any

from pywsgiserve import app
from pywsgiserve.config import SETTINGS

# Whose classes it can stand in for.
VERSION = (26, 1, 0)


class Arbiter:
    """The codes that it knows workers by."""

    WORKER_BOOT_ERROR = app.BOOT_FAILED
    APP_LOAD_ERROR = app.APP_FAILED


class AccessLogFormat:
    """The setting of that name."""

    name = "access_log_format"
    default = SETTINGS["access_log_format"].default()


class HaltServer(BaseException):
    def __init__(self, reason: object, exit_status: int = 1) -> None:
        super().__init__(reason, exit_status)
        self.reason = reason
        self.exit_status = exit_status


class ConfigError(Exception):
    """Gunicorn's."""


class AppImportError(Exception):
    """Gunicorn's."""


def close_on_exec(fd: Any) -> None:
    flags = fcntl.fcntl(fd, fcntl.F_GETFD)
    fcntl.fcntl(fd, fcntl.F_SETFD, flags | fcntl.FD_CLOEXEC)


def set_non_blocking(fd: Any) -> None:
    flags = fcntl.fcntl(fd, fcntl.F_GETFL)
    fcntl.fcntl(fd, fcntl.F_SETFL, flags | os.O_NONBLOCK)


def close(sock: Any) -> None:
    try:
        sock.close()
    except OSError:
        pass


def root() -> Mapping[str, Any]:
    version = ".".join(map(str, VERSION))
    return {
        "__path__": [],
        "version_info": VERSION,
        "__version__": version,
        "SERVER": "gunicorn",
        "SERVER_SOFTWARE": f"gunicorn/{version}",
    }


def base() -> Mapping[str, Any]:
    from pywsgiserve.workers import base as ours

    return {"Worker": ours.Worker, "WorkerTmp": ours.WorkerTmp}


def config() -> Mapping[str, Any]:
    from pywsgiserve.workers.settings import Settings

    return {"AccessLogFormat": AccessLogFormat, "Config": Settings}


def glogging() -> Mapping[str, Any]:
    from pywsgiserve.workers.logger import Logger

    return {"Logger": Logger}


def util() -> Mapping[str, Any]:
    found = (close, close_on_exec, set_non_blocking)
    return {f.__name__: f for f in found} | {"import_app": app.load}


def errors() -> Mapping[str, Any]:
    return {c.__name__: c for c in (HaltServer, ConfigError, AppImportError)}


MODULES: Mapping[str, Callable[[], Mapping[str, Any]]] = {
    "gunicorn": root,
    "gunicorn.arbiter": lambda: {"Arbiter": Arbiter},
    "gunicorn.config": config,
    "gunicorn.errors": errors,
    "gunicorn.glogging": glogging,
    "gunicorn.util": util,
    "gunicorn.workers": lambda: {"__path__": []},
    "gunicorn.workers.base": base,
    "gunicorn.workers.workertmp": base,
}


class Finder:
    """The last one that is asked for a module. It is its own loader, too."""

    def find_spec(
        self,
        fullname: str,
        path: Sequence[str] | None = None,
        target: ModuleType | None = None,
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname not in MODULES or not stands_in(fullname):
            return None
        return importlib.machinery.ModuleSpec(
            fullname,
            self,  # type: ignore[arg-type]  # All that a Loader must have is here.
            is_package="__path__" in MODULES[fullname](),
        )

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> None:
        """As usual."""

    def exec_module(self, module: ModuleType) -> None:
        vars(module).update(MODULES[module.__name__]())


finder = Finder()


def stands_in(fullname: str = "") -> bool:
    """Whether `gunicorn` is ours, or may become that with `fullname`."""
    there = sys.modules.get("gunicorn")
    if there is None:
        return fullname == "gunicorn"
    return getattr(there.__spec__, "loader", None) is finder


def provide() -> None:
    """From now on a class can import what it needs. Idempotent."""
    if finder not in sys.meta_path:
        sys.meta_path.append(finder)


def lacks(error: BaseException) -> bool:
    """Whether it is about a part of Gunicorn that ours does not have."""
    name = getattr(error, "name", None) or ""
    return (
        isinstance(error, ImportError) and name.startswith("gunicorn") and stands_in()
    )
