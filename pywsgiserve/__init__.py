"""A native WSGI server: Gunicorn's ease, uWSGI's protocol, C's speed.

from pywsgiserve import run

run(app)
"""

from __future__ import annotations

import importlib
import os
from typing import TYPE_CHECKING, NamedTuple

from pywsgiserve._version import __version__

if TYPE_CHECKING:
    from pywsgiserve.checks import ConfigError
    from pywsgiserve.embedded import Server
    from pywsgiserve.server import run

__all__ = ["ConfigError", "Server", "__version__", "run"]


class Start(NamedTuple):
    """Where, and in which environment, this program was started: USR2 starts it again."""

    directory: str
    environ: dict[str, str]


def directory() -> str:
    """Where we are, under the name the shell knows: it may be a link, which leads to the
    next release some day."""
    try:
        here, shell = os.getcwd(), os.environ.get("PWD", "")
        same = os.path.isabs(shell) and os.path.samefile(shell, here)
    except OSError:
        return os.curdir
    return shell if same else here


START = Start(directory(), dict(os.environ))

# Imported when asked for: `pywsgiserve --version` needs none of it.
HOMES = {
    "ConfigError": "pywsgiserve.checks",
    "Server": "pywsgiserve.embedded",
    "run": "pywsgiserve.server",
}


def core() -> object:
    """The C part, or an ImportError that says how to come by it."""
    try:
        return importlib.import_module("pywsgiserve._core")
    except ModuleNotFoundError as error:
        if error.name != "pywsgiserve._core":
            raise
    here = __path__[0]
    cure = "install pywsgiserve again, for this Python"
    if os.path.exists(os.path.join(here, "..", "setup.py")):
        cure = (
            "this is a checkout, whose sources hide an installed pywsgiserve: go to "
            "another directory, or run `python -m pip install -e .` in this one"
        )
    raise ImportError(f"the C part of pywsgiserve is not in {here}; {cure}")


def __getattr__(name: str) -> object:
    if name in HOMES:
        return getattr(importlib.import_module(HOMES[name]), name)
    if name == "_core":  # Asked for by `from pywsgiserve import _core`.
        return core()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
