"""From "module:callable" to a WSGI app, or to a sentence that says why there is none."""

from __future__ import annotations

import ast
import difflib
import importlib
import os
import sys
import traceback
from collections.abc import Callable, Iterable, Mapping
from types import ModuleType
from typing import Any

from pywsgiserve.checks import accepts, suggestion

App = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]

DEFAULT_NAME = "application"
# Names that apps, and functions that make them, usually have.
USUAL_NAMES = ("application", "app", "create_app", "make_app", "wsgi_app", "wsgi")

# How a worker ends when its app cannot be had; the master tells them apart.
BOOT_FAILED = 3  # Importing it failed.
APP_FAILED = 4  # It was imported, and holds no app.


class AppError(Exception):
    """There is no app; `details` is a traceback, if one helps."""

    def __init__(self, text: str, exit_code: int, details: str = "") -> None:
        super().__init__(text)
        self.exit_code = exit_code
        self.details = details


def stack(error: BaseException) -> str:
    """The traceback of `error` without our frames and those of the import system."""
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if frame.filename != __file__ and "importlib" not in frame.filename
    ]
    lines = traceback.format_list(frames)
    lines += traceback.format_exception_only(type(error), error)
    return "Traceback (most recent call last):\n" + "".join(lines).rstrip()


def first_line(error: BaseException) -> str:
    text = "".join(traceback.format_exception_only(type(error), error)).strip()
    return text.splitlines()[-1]


def modules_in(directory: str) -> list[str]:
    """What could be imported from a directory."""
    try:
        entries = os.listdir(directory or ".")
    except OSError:
        return []
    files = [e[:-3] for e in entries if e.endswith(".py")]
    folders = [e for e in entries if os.path.isdir(os.path.join(directory, e))]
    return [name for name in files + folders if name.isidentifier()]


def missing(module: str, lost: str) -> AppError:
    """`lost`, which is `module` or a package on the way to it, does not exist."""
    *parents, last = lost.split(".")
    close = difflib.get_close_matches(last, modules_in(os.path.join(*parents, "")), 1)
    hint = f"Did you mean {'.'.join([*parents, *close])}? " if close else ""
    whole = "" if lost == module else f" (wanted for {module!r})"
    return AppError(
        f"there is no module {lost!r}{whole} in {os.getcwd()}, or on the import path. "
        f"{hint}--chdir and --pythonpath say where else to look.",
        BOOT_FAILED,
    )


def refuse_path(module: str, name: str) -> None:
    """Say what to write when somebody has named a file."""
    if "/" not in module and not (module.endswith(".py") and os.path.exists(module)):
        return
    dotted = module.removesuffix(".py").strip("./").replace("/", ".")
    raise AppError(
        f"{module!r} is a path, and an app is named by its module; "
        f"did you mean '{dotted}:{name or DEFAULT_NAME}'?",
        BOOT_FAILED,
    )


def import_module(module: str) -> ModuleType:
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        lost = error.name or ""
        if lost and f"{module}.".startswith(f"{lost}."):
            raise missing(module, lost) from None
        raise AppError(
            f"module {module!r} cannot be imported, because it needs {lost!r}, which is "
            f"not there. Is it installed for {sys.executable}?",
            BOOT_FAILED,
            stack(error),
        ) from None
    except SystemExit as error:
        raise AppError(
            f"module {module!r} ended the process while it was imported: "
            f"sys.exit({error.code!r})",
            BOOT_FAILED,
            stack(error),
        ) from None
    except Exception as error:
        raise AppError(
            f"module {module!r} cannot be imported: {first_line(error)}",
            BOOT_FAILED,
            stack(error),
        ) from None


def parse(uri: str, text: str) -> tuple[str, list[Any] | None, Mapping[str, Any]]:
    """Read NAME, or NAME(literal, key=literal): the name and, for a call, its arguments."""

    def refused(why: str) -> AppError:
        return AppError(
            f"{uri!r}: {text!r} {why}; expected a name, or a call of one such as "
            f"""'create_app("text", key=1)'""",
            APP_FAILED,
        )

    try:
        node = ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, ValueError):
        raise refused("is no Python expression") from None
    if isinstance(node, ast.Name):
        return node.id, None, {}
    if isinstance(node, ast.Attribute):
        raise refused("is an attribute of an object")
    if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name):
        raise refused("is neither")
    if any(keyword.arg is None for keyword in node.keywords):
        raise refused("has arguments that are no literals")
    try:
        args = [ast.literal_eval(arg) for arg in node.args]
        kwargs = {str(k.arg): ast.literal_eval(k.value) for k in node.keywords}
    except ValueError:
        raise refused("has arguments that are no literals") from None
    return node.func.id, args, kwargs


def attribute(module: ModuleType, name: str) -> Any:
    try:
        return getattr(module, name)
    except AttributeError:
        pass
    public = [n for n in vars(module) if not n.startswith("_")]
    hint = suggestion(name, public)
    usual = [n for n in USUAL_NAMES if n in public]
    if not hint and usual:
        hint = f"; it has {' and '.join(usual)}"
    raise AppError(f"module {module.__name__!r} has no {name!r}{hint}", APP_FAILED)


def made(uri: str, factory: Any, args: list[Any], kwargs: Mapping[str, Any]) -> Any:
    if not callable(factory):
        raise AppError(
            f"{uri!r}: {type(factory).__name__!r} objects cannot be called", APP_FAILED
        )
    try:
        return factory(*args, **kwargs)
    except Exception as error:
        trace = error.__traceback__
        if isinstance(error, TypeError) and trace is not None and not trace.tb_next:
            # It did not get as far as the factory's first line.
            raise AppError(f"{uri!r}: {error}", APP_FAILED) from None
        raise AppError(
            f"{uri!r} raised {first_line(error)}", BOOT_FAILED, stack(error)
        ) from None


def no_other(app: object) -> bool:
    """Of classes of workers that run nothing but WSGI apps."""
    return False


def check(
    uri: str, app: Any, called: bool, takes: Callable[[object], bool] = no_other
) -> App:
    """Refuse what cannot be a WSGI app. A class may be one, and any callable of two.

    `takes` tells what else the class of workers runs; it must be callable all the same.
    """
    if not callable(app):
        verb = "returned" if called else "is"
        what = "None" if app is None else f"a {type(app).__name__}, {app!r:.80}"
        raise AppError(
            f"{uri!r} {verb} {what}; a WSGI app is called with environ and "
            "start_response",
            APP_FAILED,
        )
    if takes(app) or accepts(app, 2):
        return app  # type: ignore[no-any-return]  # As far as one can see.
    if accepts(app, 3):
        why = (
            "takes three arguments; is it an ASGI app? This worker class runs WSGI apps; "
            "for the other: pip install uvicorn-worker, and "
            "-k uvicorn_worker.UvicornWorker"
        )
    elif accepts(app, 0) and not called:
        why = f"takes no arguments; did you mean '{uri}()'?"
    else:
        why = "cannot be called with two arguments, environ and start_response"
    raise AppError(f"{uri!r} {why}", APP_FAILED)


def load(uri: str, takes: Callable[[object], bool] = no_other) -> App:
    """Import and return what `uri` names: MODULE, MODULE:NAME or MODULE:NAME(literals).

    `takes` as in `check`.
    """
    module, _, text = uri.strip().partition(":")
    module = module.strip()
    refuse_path(module, text)
    if not all(part.isidentifier() for part in module.split(".")):
        raise AppError(f"{uri!r} does not begin with the name of a module", BOOT_FAILED)
    name, args, kwargs = parse(uri, text or DEFAULT_NAME)
    found = attribute(import_module(module), name)
    called = args is not None
    app = made(uri, found, args or [], kwargs) if called else found
    return check(uri if text else f"{module}:{name}", app, called, takes)
