"""A command line, or a variable that holds one, as settings. All values are still text."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

from pywsgiserve._version import VERSION_LINE
from pywsgiserve.checks import UsageError, suggestion
from pywsgiserve.config import LATER, NOT_YET, SECTIONS, SETTINGS, Setting
from pywsgiserve.later import Later

PROGRAM = "pywsgiserve"
APP = "wsgi_app"

ACTIONS = {
    "store": {"action": "store"},
    "append": {"action": "append"},
    "true": {"action": "store_true"},
    "false": {"action": "store_false"},
    "mode": {"action": "store", "nargs": "?", "const": "auto"},
}
# What --proxy-protocol takes. Anything else behind it is the app.
MODES = ("off", "false", "0", "none", "auto", "true", "1", "v1", "v2")


class Parser(argparse.ArgumentParser):
    """One that raises what is wrong instead of ending the process."""

    def error(self, message: str) -> NoReturn:
        raise UsageError(message)


@dataclass(frozen=True)
class Arguments:
    """The settings of one command line; `ignored` are the words it has too many."""

    values: Mapping[str, Any]
    ignored: tuple[str, ...]


def shown(row: Setting) -> str:
    """The default of a setting as --help and the documentation say it."""
    value = row.default_text or row.default()
    if isinstance(value, (tuple, list)):
        return ",".join(value)
    if isinstance(value, float):
        return f"{value:g}"
    return "none" if value is None else str(value)


def help_text(row: Setting) -> str:
    default = shown(row) if row.action in ("store", "append") else ""
    text = f"{row.help} [{default}]" if default else row.help
    if row.action == "false":
        text = f"Switch this off: {text}"
    if row.name in NOT_YET:
        text += " (Not supported yet.)"
    return text.replace("%", "%%")


def add(group: Any, name: str, row: Setting | Later, **more: Any) -> None:
    group.add_argument(
        *row.flags,
        dest=name,
        default=argparse.SUPPRESS,
        **ACTIONS[row.action],
        **more,
    )


def formatter(prog: str) -> argparse.HelpFormatter:
    return argparse.HelpFormatter(prog, max_help_position=30)


def parser() -> Parser:
    """Made from the table; sections and options in its order."""
    made = Parser(
        prog=PROGRAM,
        usage="%(prog)s [OPTIONS] [APP_MODULE]",
        description="Serve a WSGI app: pywsgiserve -w 4 -b 0.0.0.0:8000 main:app",
        epilog="""Settings come from defaults, then PORT, WEB_CONCURRENCY,
        FORWARDED_ALLOW_IPS and SENDFILE, the config file, GUNICORN_CMD_ARGS,
        PYWSGISERVE_CMD_ARGS and the command line; the last one wins. Config files are
        Python and know more settings: see docs/settings.md.""",
        formatter_class=formatter,
        allow_abbrev=False,  # See expand().
        add_help=False,
    )
    general = made.add_argument_group("General")
    general.add_argument(
        "-h", "--help", action="help", help="Print this text, and end."
    )
    general.add_argument(
        *("-v", "--version"),
        action="version",
        version=VERSION_LINE,
        help="Print the version, and end.",
    )
    made.add_argument(
        APP,
        nargs="*",
        metavar="APP_MODULE",
        help="""MODULE:CALLABLE, MODULE for MODULE:application, or
        MODULE:FACTORY("text", key=1).""",
    )
    for section in SECTIONS:
        rows = [r for r in SETTINGS.values() if r.section == section and r.flags]
        if rows:
            group = made.add_argument_group(section)
        for row in rows:
            metavar = {"metavar": row.metavar} if row.metavar else {}
            add(group, row.name, row, help=help_text(row), **metavar)
    for name, later in LATER.items():
        if later.flags:
            add(made, name, later, help=argparse.SUPPRESS)
    return made


def long_flags() -> dict[str, str]:
    """Each long flag, and the setting it belongs to."""
    found = {"--help": "help", "--version": "version"}
    for rows in (SETTINGS, LATER):
        for name, row in rows.items():
            found.update((flag, name) for flag in row.flags if flag.startswith("--"))
    return found


def whole_flag(flag: str, known: Mapping[str, str]) -> str:
    """The flag that `flag` is the beginning of.

    An abbreviation that means one thing to Gunicorn means that here too, whatever flags
    we have added.
    """
    candidates = [k for k in known if k.startswith(flag)]
    if len({known[k] for k in candidates}) > 1:
        gunicorn = [
            k
            for k in candidates
            if known[k] not in SETTINGS or not SETTINGS[known[k]].ours
        ]
        if len({known[k] for k in gunicorn}) == 1:
            candidates = gunicorn
    if not candidates:
        raise UsageError(f"unknown option {flag}{suggestion(flag, known)}")
    if len({known[k] for k in candidates}) > 1:
        raise UsageError(f"ambiguous option {flag}: {', '.join(candidates)}")
    return candidates[0]


def expand(words: Sequence[str]) -> list[str]:
    """Abbreviated long flags written out."""
    known = long_flags()
    result: list[str] = []
    for i, word in enumerate(words):
        if word == "--":
            return [*result, *words[i:]]
        flag, equals, value = word.partition("=")
        if word.startswith("--") and flag not in known:
            flag = whole_flag(flag, known)
        if flag == "--proxy-protocol" and not equals:
            following = words[i + 1].lower() if i + 1 < len(words) else ""
            if following not in MODES:
                equals, value = "=", "auto"
        result.append(flag + equals + value)
    return result


def parse(words: Sequence[str]) -> Arguments:
    """The settings that a command line names. --help and --version end the process."""
    values = vars(parser().parse_args(expand(words)))
    apps = values.pop(APP)
    if apps:
        values[APP] = apps[0]
    return Arguments(values, tuple(apps[1:]))


def usage(message: str) -> str:
    """What is said about a command line that cannot be used."""
    return (
        f"usage: {PROGRAM} [OPTIONS] [APP_MODULE]\n"
        f"{PROGRAM}: error: {message}\n"
        f"Try '{PROGRAM} --help'.\n"
    )
