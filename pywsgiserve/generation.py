"""What workers are made of: settings, the app that they name, and where both are from.

A master has one generation in force; a reload tries the next one.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from pywsgiserve import logs, workers
from pywsgiserve.checks import ConfigError
from pywsgiserve.config import Config
from pywsgiserve.server import App, Owner

# What a reload cannot change, because the master holds on to it.
FIXED = (
    "bind",
    "uwsgi_bind",
    "protocol",
    "backlog",
    "umask",
    "socket_mode",
    "socket_user",
    "socket_group",
    "reuse_port",
    "defer_accept",
    "daemon",
    "pidfile",
)

LoadApp = Callable[[], App]


@dataclass(frozen=True)
class Place:
    """What reading settings and entering their directory changes in a process."""

    directory: str
    environ: Mapping[str, str]
    path: tuple[str, ...]

    @classmethod
    def here(cls) -> Place:
        return cls(os.getcwd(), dict(os.environ), tuple(sys.path))

    def enter(self) -> None:
        os.chdir(self.directory)
        self._restore()

    def enter_again(self) -> None:
        """To go on with what was loaded there: the directory may be gone by now."""
        with contextlib.suppress(OSError):
            os.chdir(self.directory)
        self._restore()

    def _restore(self) -> None:
        for name in set(os.environ) - set(self.environ):
            del os.environ[name]
        os.environ.update(self.environ)
        sys.path[:] = self.path


@dataclass(frozen=True)
class Generation:
    """Settings, and the app as they name it: what workers are made of."""

    config: Config
    load_app: LoadApp
    access_log: logs.AccessLog
    owner: Owner | None
    place: Place
    kind: workers.Kind

    @classmethod
    def here(cls, config: Config, load_app: LoadApp) -> Generation:
        """What can be wrong with such settings is found now."""
        whose = owner(config)
        kind = workers.find(config)
        return cls(config, load_app, logs.AccessLog(config), whose, Place.here(), kind)


@dataclass(frozen=True)
class Timing:
    """What `_core.Master` goes by, under the names that it reads."""

    workers: int
    timeout: float
    graceful_timeout: float
    preload: bool
    max_surge: int
    max_requests: int
    max_worker_lifetime: float
    max_worker_rss: int
    drain_delay: float
    daemon: bool

    @classmethod
    def of(cls, config: Config, workers: int) -> Timing:
        return cls(
            workers=workers,
            timeout=config.timeout,
            graceful_timeout=config.graceful_timeout,
            preload=config.preload_app,
            max_surge=config.max_surge,
            max_requests=config.max_requests,
            max_worker_lifetime=config.max_worker_lifetime,
            max_worker_rss=config.max_worker_rss,
            drain_delay=config.drain_delay,
            daemon=config.daemon,
        )


# Reads all settings anew and enters the place that they describe.
Reread = Callable[[], tuple[Config, LoadApp]]


def owner(config: Config) -> Owner | None:
    """User, group and whose further groups the workers get; None: all stays as it is."""
    if config.user is None and config.group is None:
        return None
    uid = os.geteuid() if config.user is None else config.user
    gid, name = config.group, None
    try:
        entry = pwd.getpwuid(uid)
        name = entry.pw_name
        if gid is None:
            gid = entry.pw_gid
    except KeyError:
        if gid is None:
            raise ConfigError(
                f"group: user {uid} has no entry that names one, so it must be set"
            ) from None
        if config.initgroups:
            raise ConfigError(f"initgroups: user {uid} has no name") from None
    if os.geteuid() != 0 and (uid, gid) != (os.geteuid(), os.getegid()):
        which = "user" if config.user not in (None, os.geteuid()) else "group"
        raise ConfigError(
            f"{which}: only root can change it, and this is user {os.geteuid()}, "
            f"got {getattr(config, which)}"
        )
    return uid, gid, name if config.initgroups else None
