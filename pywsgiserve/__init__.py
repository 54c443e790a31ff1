"""A native WSGI server: Gunicorn's ease, uWSGI's protocol, C's speed.

from pywsgiserve import run

run(app)
"""

from __future__ import annotations

from pywsgiserve._version import __version__
from pywsgiserve.config import ConfigError
from pywsgiserve.server import run

__all__ = ["ConfigError", "__version__", "run"]
