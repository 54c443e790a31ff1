"""Where settings come from: defaults < environment < config file < *_CMD_ARGS < argv."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pywsgiserve import arguments, config_file
from pywsgiserve.checks import ConfigError, UsageError
from pywsgiserve.config import SETTINGS, Config, checked, is_ignored

DEFAULT = "default"
COMMAND_LINE = "the command line"
# The later one wins.
VARIABLES = ("GUNICORN_CMD_ARGS", "PYWSGISERVE_CMD_ARGS")


@dataclass(frozen=True)
class Source:
    """Settings of one origin, unchecked. `typed`: somebody typed them as a command."""

    name: str
    values: Mapping[str, Any]
    typed: bool = False


@dataclass(frozen=True)
class Loaded:
    """The settings, for each the name of where it was set, and what is to be said."""

    config: Config
    origins: Mapping[str, str]
    warnings: tuple[str, ...]

    def blame(self, error: ConfigError) -> ConfigError:
        """Add to an error about a checked value where that value is from."""
        origin = self.origins.get(str(error).partition(":")[0], DEFAULT)
        if origin == DEFAULT:
            return error
        return ConfigError(f"{error} (from {origin})", error.details)


def from_environment(environ: Mapping[str, str]) -> list[Source]:
    found = []
    for row in SETTINGS.values():
        given = environ.get(row.env) if row.env else None
        # Trusting nobody is a wish; an empty port is none.
        if given is None or (not given.strip() and row.name != "forwarded_allow_ips"):
            continue
        value = row.from_env(given) if row.from_env else given
        found.append(Source(row.env, {row.name: value}))
    return found


def from_variable(name: str, text: str, warnings: list[str]) -> Source:
    try:
        given = arguments.parse(shlex.split(text))
    except UsageError as error:
        raise UsageError(f"{error} (from {name})") from None
    except ValueError as error:
        raise UsageError(f"{name}: {error}, got {text!r}") from None
    values = dict(given.values)
    app = values.pop(arguments.APP, None)
    extra = ([app] if app is not None else []) + list(given.ignored)
    if extra:
        warnings.append(f"{name}: the app cannot be given there, ignored: {extra[0]}")
    return Source(name, values, typed=True)


def from_command_line(argv: Sequence[str], warnings: list[str]) -> Source:
    given = arguments.parse(argv)
    if given.ignored:
        warnings.append(f"one app is served, ignored: {' '.join(given.ignored)}")
    return Source(COMMAND_LINE, given.values, typed=True)


def from_file(typed: Sequence[Source], warnings: list[str]) -> Source | None:
    """The config file that the strongest of `typed` names, else the one that is here."""
    location = config_file.find()
    origin = ""
    for source in typed:
        if "config" in source.values:
            location = str(source.values["config"])
            origin = f" (from {source.name})"
    if location is None:
        return None
    try:
        found = config_file.read(location)
    except ConfigError as error:
        raise ConfigError(f"{error}{origin}", error.details) from None
    warnings += found.warnings
    return Source(found.name, found.values)


def import_from_here() -> None:
    """What is imported from now on is looked for in the working directory first."""
    here = os.getcwd()
    if here not in sys.path:
        sys.path.insert(0, here)


def merged(sources: Sequence[Source]) -> dict[str, Source]:
    """The source that each setting is taken from."""
    winners = {}
    for source in sources:
        winners.update(dict.fromkeys(source.values, source))
    return winners


def check(name: str, source: Source) -> Any:
    try:
        return checked(name, source.values[name])
    except ConfigError as error:
        kind = UsageError if source.typed and error.slip else ConfigError
        raise kind(f"{error} (from {source.name})", error.details) from None


def load(argv: Sequence[str], environ: Mapping[str, str] = os.environ) -> Loaded:
    """Read all sources. The config file, which is Python, is executed.

    To be called in the directory that the server was started in; a later call reads
    everything anew.
    """
    import_from_here()
    warnings: list[str] = []
    typed = [
        from_variable(name, environ[name], warnings)
        for name in VARIABLES
        if environ.get(name, "").strip()
    ]
    typed.append(from_command_line(argv, warnings))
    file = from_file(typed, warnings)
    sources = [*from_environment(environ), *([file] if file else []), *typed]

    values = {}
    origins = dict.fromkeys(SETTINGS, DEFAULT)
    idle = []
    for name, source in merged(sources).items():
        value = source.values[name]
        if name in SETTINGS:
            value = values[name] = check(name, source)
            origins[name] = source.name
        if is_ignored(name, value):
            idle.append(f"{name} (from {source.name})")
    if file is not None and origins["config"] == DEFAULT:
        values["config"], origins["config"] = (
            file.name,
            "found in the directory of the start",
        )
    if idle:
        warnings.append(f"not supported yet, ignored: {', '.join(idle)}")
    return Loaded(Config(**values), origins, tuple(warnings))


def enter(config: Config) -> None:
    """Make this process the place that the settings describe, ready to import the app."""
    os.chdir(config.chdir)
    if config.chdir in sys.path:
        sys.path.remove(config.chdir)
    sys.path.insert(0, config.chdir)
    for entry in config.pythonpath:
        sys.path.insert(0, os.path.abspath(entry))
    for item in config.raw_env:
        name, _, value = item.partition("=")
        os.environ[name] = value
