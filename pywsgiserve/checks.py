"""What a value may be: each check returns it in the form we use, or says what is wrong.

Text is taken wherever a number or a switch is: values come from a command line and from
the environment too, and there everything is text.
"""

from __future__ import annotations

import difflib
import importlib
import inspect
import ipaddress
import math
import os
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

# What a check is given: the name of the setting and the value that somebody wants.
Check = Callable[[str, Any], Any]

# RFC 9110 5.6.2.
TOKEN = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")

DURATION = re.compile(r"(\d+(?:\.\d*)?|\.\d+)\s*(ms|s|m|h|d)?")
A_DURATION = 'a number of seconds or a text like "30s" or "5m"'
UNITS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400}

MOST_WORKERS = 512  # As csrc/base/board.h has it.
LEVELS = ("debug", "info", "warning", "error", "critical")


class ConfigError(ValueError):
    """A setting that cannot be used; its text names the setting and the value.

    `details` is what helps to find the cause, such as a traceback; often nothing. `slip`
    is true of text where a number belongs: on a command line, an error in typing it.
    """

    def __init__(self, text: str, details: str = "", *, slip: bool = False) -> None:
        super().__init__(text)
        self.details = details
        self.slip = slip


class UsageError(ConfigError):
    """A command line that cannot be read."""


def fail(name: str, expected: str, value: object, *, slip: bool = False) -> ConfigError:
    return ConfigError(f"{name}: expected {expected}, got {value!r}", slip=slip)


def suggestion(name: str, known: Iterable[str]) -> str:
    """ "; did you mean ...?" when something known is like `name`, else nothing."""
    close = difflib.get_close_matches(name, known, n=1)
    return f"; did you mean {close[0]}?" if close else ""


def number(text: str) -> int:
    """A number as people write it: "02" is 2, "0x10" is 16. Else a ValueError."""
    try:
        return int(text, 10)
    except ValueError:
        return int(text, 0)


def between(name: str, value: int, at_least: int, at_most: int) -> int:
    if value < at_least:
        raise fail(name, f"{at_least} or more", value)
    if value > at_most:
        raise fail(name, f"{at_most} or less", value)
    return value


def whole(at_least: int = 0, at_most: int = 2**31 - 1) -> Check:
    """A whole number within bounds. True and False are none."""

    def check(name: str, value: Any) -> int:
        given = value
        if isinstance(value, str):
            try:
                value = number(value)
            except ValueError:
                raise fail(name, "a whole number", given, slip=True) from None
        if isinstance(value, bool) or not isinstance(value, int):
            raise fail(name, "a whole number", given)
        return between(name, value, at_least, at_most)

    return check


class Decided(int):
    """A number of workers that nobody has named, and how it was found."""

    why = ""


def workers(name: str, value: Any) -> int:
    """A whole number, or "auto" for one that suits the machine."""
    if isinstance(value, str) and value.strip().lower() == "auto":
        from pywsgiserve import cpus  # Here, because most name a number.

        count, why = cpus.workers()
        decided = Decided(min(count, MOST_WORKERS))
        decided.why = f"{name}: auto is {int(decided)}: {why}"
        return decided
    return int(whole(1, MOST_WORKERS)(name, value))


def size(name: str, value: Any) -> int:
    """A number of bytes."""
    return int(whole(at_most=2**62)(name, value))


def mode(name: str, value: Any) -> int:
    """Bits of a file mode; text with a leading 0 is octal, as in a shell."""
    if isinstance(value, str) and re.fullmatch(r"0\d+", value.strip()):
        try:
            value = int(value, 8)
        except ValueError:
            raise fail(name, "octal digits", value, slip=True) from None
    return int(whole(at_most=0o777)(name, value))


def seconds(name: str, value: Any) -> float:
    """A duration: a number of seconds, fractions allowed, or "500ms", "30s", "5m"."""
    given = value
    if isinstance(value, str):
        match = DURATION.fullmatch(value.strip().lower())
        if match is None:
            raise fail(name, A_DURATION, given, slip=True)
        value = float(match[1]) * UNITS[match[2] or "s"]
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise fail(name, A_DURATION, given)
    if not (math.isfinite(value) and 0 <= value <= 10**9):
        raise fail(name, "0 to 1000000000 seconds", given)
    return float(value)


def boolean(name: str, value: Any) -> bool:
    if isinstance(value, str) and value.strip().lower() in ("true", "false"):
        return value.strip().lower() == "true"
    if value is None:
        return False
    if not isinstance(value, bool):
        raise fail(name, "True or False", value)
    return value


def unless_none(name: str, value: Any) -> bool:
    """A switch that is on by default: None leaves it so."""
    return True if value is None else boolean(name, value)


def optional_text(name: str, value: Any) -> str | None:
    if value is None:
        return None
    if not isinstance(value, str) or "\0" in value:
        raise fail(name, "a string", value)
    return value.strip()


def path(name: str, value: Any) -> str | None:
    """Where a file is, or None; what is there is looked at by who opens it."""
    if value is None:
        return None
    if not isinstance(value, (str, os.PathLike)):
        raise fail(name, "a path", value)
    decoded = os.fsdecode(value).strip()
    if "\0" in decoded:
        raise fail(name, "a path", value)
    return decoded or None


def error_log(name: str, value: Any) -> str:
    """Like `path`, but there is always one."""
    return path(name, value) or "-"


def log_format(name: str, value: Any) -> str:
    """Taken as it is, spaces at its ends too: a line of a log looks like this."""
    if not isinstance(value, str) or "\0" in value or "\n" in value:
        raise fail(name, "one line of text", value)
    for atom in re.findall(r"%(?!%)(?:\([^)]*\)?)?.?", value.replace("%%", "")):
        if not re.fullmatch(r"%\([^)]+\)s|%\([TDMB]\)d", atom):
            raise ConfigError(
                f"{name}: {atom!r} cannot be written; expected %(...)s, or %% for a "
                f"percent sign, got {value!r}"
            )
    return value


def texts(name: str, value: Any) -> tuple[str, ...]:
    """One string, a comma-separated list in a string, or a sequence of strings."""
    items = value.split(",") if isinstance(value, str) else value
    if items is None:
        return ()
    if not isinstance(items, (list, tuple)) or not all(
        isinstance(i, str) for i in items
    ):
        raise fail(name, "a string or a list of strings", value)
    return tuple(i.strip() for i in items if i.strip())


def binds(name: str, value: Any) -> tuple[str, ...]:
    """One address, or a sequence of them. What an address may be is the core's to say."""
    items = [value] if isinstance(value, str) else value
    if not isinstance(items, (list, tuple)) or not items:
        raise fail(name, "an address or a list of addresses", value)
    if not all(isinstance(item, str) and "\0" not in item for item in items):
        raise fail(name, "an address or a list of addresses", value)
    return tuple(item.strip() for item in items)


def optional_binds(name: str, value: Any) -> tuple[str, ...]:
    """The same, or nothing."""
    return () if value is None or value in ((), []) else binds(name, value)


def optional_mode(name: str, value: Any) -> int | None:
    return None if value is None else mode(name, value)


def environment(name: str, value: Any) -> tuple[str, ...]:
    """NAME=VALUE, or a sequence of them."""
    items = [value] if isinstance(value, str) else value
    if items is None:
        return ()
    if not isinstance(items, (list, tuple)):
        raise fail(name, "NAME=VALUE or a list of these", value)
    for item in items:
        if not isinstance(item, str) or not re.match(r"\s*[^=\0\s][^=\0]*=", item):
            raise fail(name, "NAME=VALUE", item)
        if "\0" in item:
            raise fail(name, "NAME=VALUE", item)
    return tuple(item.strip() for item in items)


def networks(name: str, value: Any) -> tuple[str, ...]:
    """Addresses and networks without host bits; "*" for all."""
    items = texts(name, value)
    for item in items:
        if item != "*":
            try:
                ipaddress.ip_network(item)
            except ValueError as error:
                raise ConfigError(f"{name}: {error}") from None
    return items


def one_of(*words: str) -> Check:
    """One of these words, in any case."""

    def check(name: str, value: Any) -> str:
        word = value.strip().lower() if isinstance(value, str) else ""
        if word not in words:
            listed = f"{', '.join(words[:-1])} or {words[-1]}"
            raise ConfigError(
                f"{name}: expected {listed}, got {value!r}{suggestion(word, words)}"
            )
        return word

    return check


def level(name: str, value: Any) -> str:
    if isinstance(value, str) and value.strip().lower() == "warn":
        return "warning"
    return str(one_of(*LEVELS)(name, value))


def header_map(name: str, value: Any) -> str:
    if value is None:
        return "drop"
    return str(one_of("drop", "refuse", "dangerous")(name, value))


def header_names(name: str, value: Any) -> tuple[str, ...]:
    items = texts(name, value)
    for item in items:
        if not TOKEN.fullmatch(item):
            raise fail(name, "names of header fields", value)
    return tuple(item.upper() for item in items)


def scheme_headers(name: str, value: Any) -> Mapping[str, str]:
    if not isinstance(value, Mapping):
        raise fail(name, "a dict of header field names and values", value)
    for key, content in value.items():
        if not isinstance(key, str) or not TOKEN.fullmatch(key):
            raise fail(name, "names of header fields", key)
        if not isinstance(content, str):
            raise fail(name, f"a string as the value of {key}", content)
    return dict(value)


def writable_directory(name: str, value: Any) -> str | None:
    if value is None:
        return None
    if not isinstance(value, (str, os.PathLike)):
        raise fail(name, "a directory", value)
    where = os.fsdecode(value)
    if not os.path.isdir(where) or not os.access(where, os.W_OK | os.X_OK):
        raise fail(name, "a directory that can be written to", value)
    return where


def directory(name: str, value: Any) -> str:
    """Where to work: made absolute from where the server was started."""
    where = path(name, value)
    if where is None or not os.path.isdir(where):
        raise fail(name, "a directory that exists", value)
    if not os.access(where, os.X_OK):
        raise fail(name, "a directory that can be entered", value)
    return os.path.abspath(where)


def server_header(name: str, value: Any) -> str:
    """The value of the field Server; empty for none."""
    if value is True:
        return "pywsgiserve"
    if value is False or value is None:
        return ""
    if not isinstance(value, str) or not re.fullmatch(r"[\x20-\x7e]*", value):
        raise fail(name, "True, False or a text of visible ASCII characters", value)
    return value.strip()


def account(name: str, value: Any, find: Callable[[str], int]) -> int | None:
    """The number of a user or group: None for our own, a number, or a name to `find`."""
    if value is None:
        return None
    if isinstance(value, str):
        word = value.strip()
        if not word.isdecimal():
            try:
                return find(word)
            except (KeyError, ValueError):
                kind = name.removeprefix("socket_")
                raise ConfigError(f"{name}: there is no {kind} {word!r}") from None
    # The highest number means "no change" to the kernel.
    return int(whole(at_most=2**32 - 2)(name, value))


def user(name: str, value: Any) -> int | None:
    import pwd  # Here, because few servers are told a user.

    return account(name, value, lambda word: pwd.getpwnam(word).pw_uid)


def group(name: str, value: Any) -> int | None:
    import grp  # Here, because few servers are told a group.

    return account(name, value, lambda word: grp.getgrnam(word).gr_gid)


def accepts(function: Callable[..., Any], count: int) -> bool:
    """Whether `function` can be called with `count` positional arguments."""
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):
        return True  # Written in C and silent about it: the call will tell.
    try:
        signature.bind(*[None] * count)
    except TypeError:
        return False
    return True


def imported(name: str, dotted: str) -> Any:
    """The object that "package.module.object" names."""
    module, _, attribute = dotted.strip().rpartition(".")
    try:
        return getattr(importlib.import_module(module), attribute)
    except (ImportError, ValueError) as error:
        raise ConfigError(f"{name}: cannot import {dotted!r}: {error}") from None
    except AttributeError:
        raise ConfigError(
            f"{name}: module {module!r} has no {attribute!r}, wanted by {dotted!r}"
        ) from None


def hook(*arguments: str, at_least: int = -1) -> Check:
    """A function of these arguments, at least as many, or the dotted name of one.

    `at_least` is for a hook whose last arguments may be left out.
    """
    most = len(arguments)
    least = most if at_least < 0 else at_least

    def check(name: str, value: Any) -> Callable[..., Any] | None:
        if value is None:
            return None
        function = imported(name, value) if isinstance(value, str) else value
        expected = f"a function of {most} arguments ({', '.join(arguments)})"
        if most == 1:
            expected = f"a function of one argument ({arguments[0]})"
        if not callable(function):
            raise fail(name, expected, value)
        if not any(accepts(function, n) for n in range(most, least - 1, -1)):
            found = f"{inspect.signature(function)}"
            raise ConfigError(f"{name}: expected {expected}, got one of {found}")
        return function  # type: ignore[no-any-return]  # It is callable, see above.

    return check
