"""A config file: found, executed, and read for settings and for what looks like one."""

from __future__ import annotations

import ast
import difflib
import importlib
import importlib.machinery
import os
import sys
import traceback
from collections.abc import Mapping
from dataclasses import dataclass
from types import CodeType, ModuleType
from typing import Any

from pywsgiserve.checks import ConfigError
from pywsgiserve.config import LATER, SETTINGS

FOUND_BY_NAME = ("pywsgiserve.conf.py", "gunicorn.conf.py")
MODULE = "__config__"

# What other servers, and earlier versions, call what we have under another name.
FOREIGN = {
    "access_log": "accesslog",
    "binds": "bind",
    "chmod_socket": "umask",
    "connection_limit": "worker_connections",
    "error_log": "errorlog",
    "gid": "group",
    "graceful_shutdown_timeout": "graceful_timeout",
    "harakiri": "timeout",
    "keep_alive_timeout": "keepalive",
    "lazy_apps": "preload_app",
    "limit_concurrency": "worker_connections",
    "limit_max_requests": "max_requests",
    "listen": "bind",
    "max_request_body_size": "limit_request_body",
    "max_requests_per_child": "max_requests",
    "processes": "workers",
    "reload_on_rss": "max_worker_rss",
    "shutdown_timeout": "graceful_timeout",
    "thread": "threads",
    "timeout_graceful_shutdown": "graceful_timeout",
    "timeout_keep_alive": "keepalive",
    "uid": "user",
    "worker_timeout": "timeout",
    "wsgi_module": "wsgi_app",
}
# What people call a bound of their own, and no slip.
HELPERS = {"max_workers"}
# Flags that are everyday names of variables.
EVERYDAY = {"env", "name", "pid"}
# Without effect in a file, and an everyday name.
NOT_IN_FILES = {"config"}
LIKENESS = 0.85
SHORTEST = 5


@dataclass(frozen=True)
class ConfigFile:
    """What a config file says: settings, still unchecked, and words about the others."""

    name: str
    values: Mapping[str, Any]
    warnings: tuple[str, ...]


def is_hook(name: str) -> bool:
    return bool(SETTINGS[name].hook) if name in SETTINGS else LATER[name].hook


def flag_names() -> dict[str, str]:
    """The names of flags, spelt as variables, that are not those of their settings."""
    found = {}
    for rows in (SETTINGS, LATER):
        for name, row in rows.items():
            for flag in row.flags:
                word = flag.lstrip("-").replace("-", "_")
                if len(word) > 1 and word not in EVERYDAY:
                    found[word] = name
    return found


def lookalike(name: str, value: object) -> str | None:
    """The setting that somebody may have meant by an unknown name, if any."""
    plain = name.lower()
    known = [
        k
        for k in (*SETTINGS, *LATER)
        if is_hook(k) == callable(value) and k not in NOT_IN_FILES
    ]
    meant = {**FOREIGN, **flag_names()}.get(plain, plain)
    if meant in known:
        return meant
    candidates = [k for k in known if len(k) >= SHORTEST]
    if len(plain) < SHORTEST or plain in HELPERS:
        return None
    close = difflib.get_close_matches(plain, candidates, n=1, cutoff=LIKENESS)
    return close[0] if close else None


def helpers(tree: ast.AST | None) -> set[str]:
    """Names that the file itself reads or imports: these serve it, whatever they are."""
    found = set()
    for node in ast.walk(tree) if tree is not None else ():
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load):
            found.add(node.id)
        elif isinstance(node, ast.alias):
            found.add(node.asname or node.name.partition(".")[0])
    return found


def strangers(
    where: str, namespace: Mapping[str, Any], tree: ast.AST | None
) -> list[str]:
    """A sentence for each name that looks like a setting and is none."""
    said = []
    used = helpers(tree)
    for name, value in namespace.items():
        if name in SETTINGS or name in LATER or name in used:
            continue
        if name.startswith("_") or isinstance(value, (ModuleType, type)):
            continue
        meant = lookalike(name, value)
        if meant is not None and meant not in namespace:
            said.append(f"{where}: {name} is no setting; did you mean {meant}?")
    return said


def find() -> str | None:
    """The file that is used unless one is named."""
    for name in FOUND_BY_NAME:
        if os.path.isfile(name):
            return name
    return None


def failure(where: str, error: Exception) -> ConfigError:
    """What is wrong in a file, with the frames below ours."""
    if isinstance(error, SyntaxError) and error.filename == where:
        line = (error.text or "").strip()
        shown = f": {line}" if line else ""
        return ConfigError(f"{where}, line {error.lineno}: {error.msg}{shown}")
    frames = traceback.extract_tb(error.__traceback__)
    theirs = [f for f in frames if f.filename != __file__ and "importlib" not in f[0]]
    own = [f.lineno for f in theirs if f.filename == where]
    place = f"{where}, line {own[-1]}" if own else where
    details = traceback.format_list(theirs)
    about = "".join(traceback.format_exception_only(type(error), error)).strip()
    shown = "Traceback (most recent call last):\n" + "".join(details) + about
    return ConfigError(f"{place}: {about.splitlines()[-1]}", details=shown)


def compiled(where: str) -> tuple[CodeType | None, ast.AST | None]:
    if where.endswith(".pyc"):
        loader = importlib.machinery.SourcelessFileLoader(MODULE, where)
        return loader.get_code(MODULE), None
    with open(where, "rb") as file:
        source = file.read()
    tree = ast.parse(source, where)
    return compile(tree, where, "exec"), tree


def execute(where: str) -> tuple[ModuleType, ast.AST | None]:
    """Run a file as the module __config__."""
    if not os.path.exists(where):
        raise ConfigError(f"config: {where!r} doesn't exist")
    if os.path.isdir(where):
        raise ConfigError(f"config: {where!r} is a directory, not a file")
    module = ModuleType(MODULE)
    module.__file__ = where
    sys.modules[MODULE] = module
    try:
        code, tree = compiled(where)
        if code is not None:
            exec(code, vars(module))
    except OSError as error:
        if error.filename != where:
            raise failure(where, error) from None
        raise ConfigError(f"config: {where!r}: {error.strerror}") from None
    except Exception as error:
        raise failure(where, error) from None
    return module, tree


def imported(dotted: str) -> tuple[ModuleType, ast.AST | None]:
    """Import a module for its settings, anew if it was imported before."""
    try:
        if dotted in sys.modules:
            module = importlib.reload(sys.modules[dotted])
        else:
            module = importlib.import_module(dotted)
    except ModuleNotFoundError as error:
        if error.name and (dotted + ".").startswith(error.name + "."):
            raise ConfigError(f"config: there is no module {dotted!r}") from None
        raise failure(f"python:{dotted}", error) from None
    except Exception as error:
        raise failure(f"python:{dotted}", error) from None
    where = getattr(module, "__file__", None) or ""
    tree = None
    if where.endswith(".py"):
        with open(where, "rb") as file:
            tree = ast.parse(file.read(), where)
    return module, tree


def read(location: str) -> ConfigFile:
    """Read PATH, file:PATH or python:MODULE."""
    warnings = []
    if location.startswith("python:"):
        where = location
        module, tree = imported(location.removeprefix("python:"))
    else:
        where = location.removeprefix("file:")
        module, tree = execute(where)
        if not where.endswith((".py", ".pyc")):
            warnings.append(f"{where}: a config file is Python, and should end in .py")
    namespace = vars(module)
    values = {
        name: value
        for name, value in namespace.items()
        if (name in SETTINGS or name in LATER) and not isinstance(value, ModuleType)
    }
    given = values.pop("config", None)
    if isinstance(given, str):
        warnings.append(f"{where}: config is for the command line only, ignored")
    warnings += strangers(where, namespace, tree)
    return ConfigFile(where, values, tuple(warnings))
