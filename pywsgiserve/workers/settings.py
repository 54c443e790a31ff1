"""Our settings as classes for Gunicorn read them: its names, its types, no hook missing."""

from __future__ import annotations

import contextlib
import importlib
import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from pywsgiserve import hooks
from pywsgiserve.config import LATER, SETTINGS, Config
from pywsgiserve.workers import names, namespace

# Without these hooks there is no worker; the others must not stop what goes on.
NEEDED = ("post_worker_init",)


def hook_of(config: Config, name: str) -> Callable[..., None]:
    """What a class may call, whether there is a hook or not."""
    call = hooks.call_needed if name in NEEDED else hooks.call_safely

    def called(*given: object) -> None:
        call(config, name, *given)

    return called


def plain(value: object) -> object:
    """Whole seconds are whole numbers there, and what may be repeated is a list."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return list(value) if isinstance(value, tuple) else value


def values_of(config: Config) -> dict[str, Any]:
    """Each of Gunicorn's settings and of ours; those to come have their defaults."""
    values: dict[str, Any] = {name: row.default for name, row in LATER.items()}
    for name, row in SETTINGS.items():
        value = getattr(config, name)
        values[name] = hook_of(config, name) if row.hook else plain(value)
    return values


@dataclass
class Row:
    """What `cfg.settings[name]` is."""

    name: str
    value: Any

    def get(self) -> Any:
        return self.value


def gunicorns(rows: Mapping[str, Row]) -> Any:
    """The installed Gunicorn's own object with the same values, for what it derives from
    them, and for settings that it has since; None: it is not installed."""
    if "gunicorn" not in sys.modules or namespace.stands_in():
        return None
    made = importlib.import_module("gunicorn.config").Config()
    for name, row in rows.items():
        with contextlib.suppress(Exception):  # It does not have it, or not like this.
            made.set(name, row.value)
    return made


class Settings:
    """Gunicorn's `cfg`."""

    env_orig: Mapping[str, str] = os.environ
    is_ssl = False
    ssl_options: Mapping[str, Any] = {}

    def __init__(self, config: Config, address: list[Any]) -> None:
        self.settings = {n: Row(n, value) for n, value in values_of(config).items()}
        self._theirs: Any = None
        self.address = address
        self.worker_class_str = names.shown(config.worker_class)
        self.env = dict(pair.partition("=")[::2] for pair in config.raw_env)

    def __getattr__(self, name: str) -> Any:
        row = self.__dict__.get("settings", {}).get(name)
        if row is not None:
            return row.value
        if name.startswith("_") or "settings" not in self.__dict__:
            raise AttributeError(name)
        if self._theirs is None:
            self._theirs = gunicorns(self.settings)
        if not hasattr(self._theirs, name):
            raise AttributeError(f"there is no setting {name!r}")
        return getattr(self._theirs, name)

    def set(self, name: str, value: Any) -> None:
        """For this process alone."""
        if name not in self.settings:
            raise AttributeError(f"there is no setting {name!r}")
        self.settings[name].value = value
        self._theirs = None

    # The worker is who it is to be when it asks.

    @property
    def uid(self) -> int:
        return os.geteuid()

    @property
    def gid(self) -> int:
        return os.getegid()

    @property
    def initgroups(self) -> bool:
        return False
