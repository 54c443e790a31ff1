"""Somebody else's class of workers, by its name, in the process that will be such a worker."""

from __future__ import annotations

import importlib
import importlib.metadata
from typing import Any

from pywsgiserve.app import stack
from pywsgiserve.checks import ConfigError
from pywsgiserve.workers import names, namespace

# Where the classes are that others begin with.
BASES = ("pywsgiserve.workers.base", "gunicorn.workers.base")


def refused(name: str, error: BaseException) -> ConfigError:
    text = f"worker_class: cannot import {name!r}: {type(error).__name__}: {error}"
    if namespace.lacks(error):
        text += "; it needs more of Gunicorn than we have: pip install gunicorn"
    return ConfigError(text, stack(error))


def from_entry_point(name: str, dist: str, entry: str) -> Any:
    try:
        points = importlib.metadata.distribution(dist).entry_points
        (found,) = points.select(group="gunicorn.workers", name=entry)
    except (importlib.metadata.PackageNotFoundError, ValueError):
        raise ConfigError(
            f"worker_class: {dist!r} is not installed, or has no worker {entry!r}, "
            f"wanted by {name!r}"
        ) from None
    return found.load()


def from_module(name: str) -> Any:
    module, _, attribute = name.replace(":", ".").rpartition(".")
    try:
        return getattr(importlib.import_module(module), attribute)
    except AttributeError:
        raise ConfigError(
            f"worker_class: module {module!r} has no {attribute!r}, wanted by {name!r}"
        ) from None


def load(given: str | type) -> type:
    """The class. What it imports from Gunicorn is there, installed or not."""
    namespace.provide()
    name = names.shown(given)
    egg = None if isinstance(given, type) else names.EGG.fullmatch(name)
    try:
        found = (
            given
            if isinstance(given, type)
            else from_entry_point(name, *egg.groups())
            if egg
            else from_module(name)
        )
    except ConfigError:
        raise
    except Exception as error:
        raise refused(name, error) from None
    if not isinstance(found, type) or not names.is_worker(found):
        raise ConfigError(
            f"worker_class: expected a subclass of pywsgiserve.workers.Worker, got "
            f"{name!r}, which is {found!r}"
        )
    if getattr(found, "run", None).__module__ in BASES:
        raise ConfigError(f"worker_class: {name!r} has no run() of its own")
    return found


def set_up(given: str | type) -> None:
    """Import it, and let it do what is to be done before the app is imported."""
    setup = getattr(load(given), "setup", None)
    if callable(setup):
        setup()
