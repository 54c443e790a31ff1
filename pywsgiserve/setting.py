"""What the rows of the table of settings are made of. The table is in config.py."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from pywsgiserve import checks
from pywsgiserve.checks import Check

Hook = Callable[..., Any]


@dataclass(frozen=True)
class Setting:
    """A row of the table: how a setting is checked, written and explained."""

    name: str
    default: Callable[[], Any]  # A call, as some depend on where the server is started.
    check: Check
    section: str
    help: str
    flags: tuple[str, ...] = ()  # None: it is for config files only.
    metavar: str = ""
    action: str = "store"  # Or "append"; "true" and "false" take no value.
    env: str = ""  # The environment variable that changes the default, and how.
    from_env: Callable[[str], Any] | None = None
    default_text: str = ""  # Says in words what depends on the machine.
    ours: bool = False  # Gunicorn does not have it, or not as a flag.
    hook: str = ""  # The arguments that a hook is called with.


def setting(
    default: Any = dataclasses.MISSING,
    *,
    check: Check,
    help: str,
    section: str,
    factory: Callable[[], Any] | None = None,
    **written: Any,
) -> Any:
    """A field of `Config`: `factory` makes a default that depends on the environment.

    `written` is the rest of `Setting`: flags, metavar, action, env and so on.
    """
    row = Setting(
        name="",
        default=factory or (lambda: default),
        check=check,
        section=section,
        help=" ".join(help.split()),
        **written,
    )
    if factory is not None:
        return dataclasses.field(default_factory=factory, metadata={"row": row})
    return dataclasses.field(default=default, metadata={"row": row})


def hook(*arguments: str, help: str, at_least: int = -1) -> Any:
    """A field of `Config` for a function that is called with these arguments.

    With `at_least`, the last ones may be left out down to so many.
    """
    return setting(
        None,
        check=checks.hook(*arguments, at_least=at_least),
        section="Hooks",
        hook=", ".join(arguments),
        help=help,
    )


def described(rows: Iterable[Setting]) -> str:
    """The rows as help() shows them: a name with its default, and the help below."""
    lines = []
    for row in rows:
        default = row.default_text or repr(row.default())
        lines.append(f"\n{row.name} [{default}]\n    {row.help}")
    return "\n".join(lines)
