"""How Python is run in a worker: the classes of workers, by what `worker_class` says.

`find` tells without importing what a class needs: the master, which calls it, goes on
without gevent and its like. Each of ours but sync and gthread is a module beside this
one, which is imported in the process that will load the app, with two functions:

    setup(config)               before the app is imported, and in each process that was
                                forked since: molds and workers, whoever forked them. It
                                patches, and puts right what a fork has broken; what is
                                done already does no harm.
    serve(engine, app, life)    runs until the engine has ended.
"""

from __future__ import annotations

import dataclasses
import importlib
import importlib.util
from dataclasses import dataclass
from types import ModuleType
from typing import TYPE_CHECKING, Any

from pywsgiserve import _core
from pywsgiserve.checks import ConfigError
from pywsgiserve.workers import names

if TYPE_CHECKING:
    from pywsgiserve.config import Config
    from pywsgiserve.worker import Life
    from pywsgiserve.workers.base import Worker
    from pywsgiserve.workers.host import Host

__all__ = ["Kind", "Worker", "find", "idle_settings", "is_installed", "threads"]

# Those whose engine is watched by somebody else's loop.
HOSTED = ("gevent", "eventlet", "tornado", "asyncio")
# What has to be installed for them: a package, and our extra of the same name.
PACKAGES = ("gevent", "eventlet", "tornado")
# Where several threads can run the app.
THREADED = ("gthread", "tornado", "asyncio")


# What the engine does, and a foreign class does in its own way, or not at all.
OURS = (
    "header_timeout",
    "body_timeout",
    "send_timeout",
    "request_timeout",
    "slow_request_timeout",
    "queue_timeout",
    "limit_request_body",
    "request_buffering",
    "body_buffer_size",
    "response_spool_limit",
    "tmp_upload_dir",
    "server_header",
)


@dataclass(frozen=True)
class Kind:
    """A class of workers; `module` is where it is, if it needs one."""

    name: str
    hosted: bool = False  # The engine is in a loop of somebody else, and no threads'.
    module: str = ""
    foreign: type | str = ""  # Somebody else's class, or its name; there is no engine.

    def takes(self, app: object) -> bool:
        """Whether it runs this app, which need not be one for WSGI."""
        return bool(self.foreign) or self._is_tornados(app)

    def _is_tornados(self, app: object) -> bool:
        made_of = {names.path(cls) for cls in type(app).__mro__}
        return self.name == "tornado" and "tornado.web.Application" in made_of

    def fit(self, config: Config, app: object) -> Config:
        """The settings for what runs this app: Tornado's own server is in its loop."""
        alone = config.threads > 1 and self._is_tornados(app)
        return dataclasses.replace(config, threads=1) if alone else config

    def setup(self, config: Config) -> None:
        """Before the app is imported in this process, and after each fork: see above."""
        if self.module:
            self._imported().setup(config)
        elif self.foreign:
            from pywsgiserve.workers import classes  # What few workers need.

            classes.set_up(self.foreign)

    def host(self, life: Life) -> Host | None:
        """The worker that a foreign class makes; None where we are the worker."""
        if not self.foreign:
            return None
        from pywsgiserve.workers import classes, host  # What few workers need.

        return host.made(life, classes.load(self.foreign))

    def serve(self, engine: _core.Server, app: Any, life: Life) -> None:
        """Run until the engine has ended."""
        if self.module:
            self._imported().serve(engine, app, life)
        else:
            engine.serve(app)

    def _imported(self) -> ModuleType:
        return importlib.import_module(self.module)


def is_installed(package: str) -> bool:
    """Whether it can be imported; it is not, to see that."""
    try:
        return importlib.util.find_spec(package) is not None
    except (ImportError, ValueError):
        return False


def chosen(config: Config) -> str | type:
    """As Gunicorn, sync with several threads is gthread."""
    if config.worker_class == "sync" and config.threads > 1:
        return "gthread"
    return config.worker_class


def find(config: Config) -> Kind:
    """What `worker_class` names; `ConfigError` when this machine does not have it."""
    name = chosen(config)
    if not isinstance(name, str) or name not in names.BUILT_IN:
        return foreign(config, name)
    module = f"{__name__}.{name}" if name in HOSTED else ""
    if name in PACKAGES and not is_installed(name):
        raise ConfigError(
            f"worker_class: {name} is not installed: pip install 'pywsgiserve[{name}]'"
        )
    if name in ("tornado", "asyncio") and not config.request_buffering:
        raise ConfigError(
            f"request_buffering: {name} cannot do without: an app that reads while its "
            "client writes would stop the loop; gthread, gevent and eventlet can"
        )
    timed = config.request_timeout or config.slow_request_timeout
    if timed and threads(config) > _core.HANDS:
        which = "request_timeout" if config.request_timeout else "slow_request_timeout"
        raise ConfigError(
            f"{which}: minds up to {_core.HANDS} threads, got threads = {config.threads}"
        )
    return Kind(name, name in HOSTED and threads(config) == 1, module)


def foreign(config: Config, name: str | type) -> Kind:
    """A class of somebody else, as far as one can tell without importing it."""
    shown = names.shown(name)
    if config.protocol == "uwsgi" or config.uwsgi_bind:
        which = "protocol" if config.protocol == "uwsgi" else "uwsgi_bind"
        raise ConfigError(f"{which}: {shown} would have to speak uwsgi, and cannot")
    package = "" if isinstance(name, type) else names.package(name)
    if package and not is_installed(package):
        raise ConfigError(
            f"worker_class: {package} is not installed, nor is there such a module "
            f"here: pip install {package.replace('_', '-')}, or set pythonpath; "
            f"wanted by {shown!r}"
        )
    return Kind(shown, foreign=name)


def threads(config: Config) -> int:
    """How many of a worker run the app."""
    return config.threads if chosen(config) in THREADED else 1


def idle_settings(config: Config) -> list[str]:
    """Sentences about settings that were made and have no effect in this class."""
    name = chosen(config)
    if name not in names.BUILT_IN:
        shown = f"{names.shown(name)} has its own, it has no effect"
        return [f"{setting}: {shown}" for setting in OURS if is_set(config, setting)]
    found = []
    if isinstance(name, names.Renamed):
        found.append(
            f"worker_class: {name.given!r} is {name} here, which runs WSGI apps"
        )
    if config.threads > 1 and name not in THREADED:
        found.append(f"threads: {name} has one thread, it has no effect")
    return found


def is_set(config: Config, name: str) -> bool:
    from pywsgiserve import config as table  # It imports us, for the names.

    return table.is_set(name, getattr(config, name))


def __getattr__(name: str) -> Any:
    if name == "Worker":
        from pywsgiserve.workers import base  # Few programs have a class of their own.

        return base.Worker
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
