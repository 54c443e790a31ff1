"""The command: argv to exit code.

0: stopped as asked, or the check has passed. 1: the settings cannot be used, whoever set
them, or the check has failed. 2: the command line cannot be read. 3: the app could not be
imported. 4: what was imported is no app.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from pywsgiserve._version import VERSION_LINE

if TYPE_CHECKING:
    from pywsgiserve.app import App
    from pywsgiserve.config import Config
    from pywsgiserve.sources import Loaded


def say(text: str) -> None:
    if sys.stderr is not None:
        sys.stderr.write(text)
        sys.stderr.flush()


def complain(text: str, details: str) -> None:
    say(f"{details}\n\nError: {text}\n" if details else f"\nError: {text}\n")


def shown(value: Any) -> str:
    if callable(value):
        return f"<{getattr(value, '__qualname__', type(value).__name__)}()>"
    if isinstance(value, float):
        return f"{value:g}"
    return str(list(value) if isinstance(value, tuple) else value)


def print_config(loaded: Loaded) -> None:
    """A setting a line, sorted, with where its value is from."""
    width = max(map(len, loaded.origins))
    lines = [
        f"{name:<{width}} = {shown(getattr(loaded.config, name))}  # {origin}\n"
        for name, origin in sorted(loaded.origins.items())
    ]
    sys.stdout.write("".join(lines))
    sys.stdout.flush()


def serve(config: Config, load_app: Callable[[], App]) -> int:
    """Serve in this process, until the master can take over."""
    from pywsgiserve import config as table
    from pywsgiserve.server import run

    applied = {"config", "wsgi_app", "chdir", "pythonpath", "raw_env"}
    applied |= {"check_config", "print_config"}
    settings = {}
    for name in table.SETTINGS:
        value = getattr(config, name)
        if name not in applied and name not in table.NOT_YET:
            settings[name] = value
    app = load_app()
    try:
        run(app, **settings)
    except OSError as error:
        raise table.ConfigError(str(error)) from None
    return 0


def command(argv: Sequence[str]) -> int:
    from pywsgiserve import app, sources
    from pywsgiserve.checks import ConfigError

    loaded = sources.load(argv)
    for warning in loaded.warnings:
        say(f"Warning: {warning}\n")
    config = loaded.config
    checking = config.check_config or config.print_config
    if config.print_config:
        print_config(loaded)
    if not config.wsgi_app:
        raise ConfigError(
            "no application module specified; name one, as in 'pywsgiserve main:app', "
            "or set wsgi_app in a config file"
        )
    load_app = functools.partial(app.load, config.wsgi_app)
    try:
        sources.enter(config)
        if checking:
            load_app()
            return 0
        return serve(config, load_app)
    except ConfigError as error:
        raise loaded.blame(error) from None
    except app.AppError as error:
        complain(str(error), error.details)
        return 1 if checking else error.exit_code


def main(argv: Sequence[str] | None = None) -> int:
    """Do what the command line says; what is wrong is said on stderr."""
    words = list(sys.argv[1:] if argv is None else argv)
    if words in (["--version"], ["-v"]):
        print(VERSION_LINE)
        return 0
    # From here on: --version is not to wait for any of this.
    from pywsgiserve import arguments
    from pywsgiserve.checks import ConfigError, UsageError

    try:
        return command(words)
    except UsageError as error:
        say(arguments.usage(str(error)))
        return 2
    except ConfigError as error:
        complain(str(error), error.details)
        return 1
