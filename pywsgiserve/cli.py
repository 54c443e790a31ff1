"""The command: argv to exit code.

0: stopped as asked, or the check has passed. 1: the settings cannot be used, whoever set
them, or the check has failed. 2: the command line cannot be read. 3: the app could not be
imported. 4: what was imported is no app.
"""

from __future__ import annotations

import contextlib
import functools
import os
import signal
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from pywsgiserve._version import VERSION_LINE

if TYPE_CHECKING:
    from pywsgiserve.app import App
    from pywsgiserve.config import Config
    from pywsgiserve.sources import Loaded


NO_APP = (
    "no application module specified; name one, as in 'pywsgiserve main:app', "
    "or set wsgi_app in a config file"
)


def say(text: str) -> None:
    if sys.stderr is not None:
        with contextlib.suppress(OSError, ValueError):  # Nobody reads it any more.
            sys.stderr.write(text)
            sys.stderr.flush()


def complain(text: str, details: str) -> None:
    say(f"{details}\n\nError: {text}\n" if details else f"\nError: {text}\n")


def shown(value: Any) -> str:
    if isinstance(value, type):
        return f"{value.__module__}.{value.__qualname__}"
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


def check_places(config: Config) -> None:
    """What a start would find out, as far as it can be told without one."""
    from pywsgiserve import _core
    from pywsgiserve.checks import ConfigError

    for name in ("bind", "uwsgi_bind"):
        for address in getattr(config, name):
            try:
                _core.check_address(address)
            except ValueError as error:
                raise ConfigError(f"{name}: {error}") from None
    for name in ("errorlog", "accesslog", "pidfile"):
        path = getattr(config, name)
        if path in (None, "-"):
            continue
        there = path if os.path.exists(path) else os.path.dirname(os.path.abspath(path))
        if not os.access(there, os.W_OK):
            raise ConfigError(f"{name}: cannot write to {path!r}")


def command(argv: Sequence[str]) -> int:
    from pywsgiserve import app, inheritance, logs, master, sources, workers
    from pywsgiserve.checks import ConfigError
    from pywsgiserve.generation import Place

    inherited = inheritance.take()
    start = Place.here()

    def prepare(loaded: Loaded) -> tuple[Config, Callable[[], App]]:
        """Go where the settings say; the way to their app."""
        if not loaded.config.wsgi_app:
            raise ConfigError(NO_APP)
        sources.enter(loaded.config)
        takes = workers.find(loaded.config).takes
        return loaded.config, functools.partial(app.load, loaded.config.wsgi_app, takes)

    def reread() -> tuple[Config, Callable[[], App]]:
        start.enter()
        loaded = sources.load(argv)
        for warning in loaded.warnings:
            logs.line("WARNING", warning)
        return prepare(loaded)

    loaded = sources.load(argv)
    for warning in loaded.warnings:
        say(f"Warning: {warning}\n")
    checking = loaded.config.check_config or loaded.config.print_config
    if loaded.config.print_config:
        print_config(loaded)
    try:
        config, load_app = prepare(loaded)
        if checking:
            check_places(config)
            workers.find(config).setup(config)
            load_app()
            return 0
        return master.serve(config, load_app, reread, inherited)
    except ConfigError as error:
        raise loaded.blame(error) from None
    except app.AppError as error:
        complain(str(error), error.details)
        return 1 if checking else error.exit_code


def heed_signals_as_the_first_process() -> None:
    """The kernel drops signals to PID 1 that have no handler: a start in a container
    can be stopped, too. The master has handlers of its own."""
    if os.getpid() == 1:
        for signum in (signal.SIGTERM, signal.SIGQUIT):
            signal.signal(signum, lambda number, frame: sys.exit(128 + number))


def main(argv: Sequence[str] | None = None) -> int:
    """Do what the command line says; what is wrong is said on stderr."""
    words = list(sys.argv[1:] if argv is None else argv)
    if words in (["--version"], ["-v"]):
        print(VERSION_LINE)
        return 0
    # From here on: --version is not to wait for any of this.
    from pywsgiserve import arguments
    from pywsgiserve.checks import ConfigError, UsageError

    heed_signals_as_the_first_process()
    try:
        return command(words)
    except UsageError as error:
        say(arguments.usage(str(error)))
        return 2
    except ConfigError as error:
        complain(str(error), error.details)
        return 1
