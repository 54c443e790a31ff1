"""A native WSGI server: Gunicorn's ease, uWSGI's protocol, C's speed.

from pywsgiserve import run

run(app)
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pywsgiserve._version import __version__

if TYPE_CHECKING:
    from pywsgiserve.checks import ConfigError
    from pywsgiserve.server import run

__all__ = ["ConfigError", "__version__", "run"]


def __getattr__(name: str) -> object:
    """Import what is asked for: `pywsgiserve --version` needs none of it."""
    if name == "run":
        from pywsgiserve.server import run

        return run
    if name == "ConfigError":
        from pywsgiserve.checks import ConfigError

        return ConfigError
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
