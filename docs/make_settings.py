"""Write the page of settings from their table: python docs/make_settings.py"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from pywsgiserve.arguments import shown
from pywsgiserve.config import LATER, NOT_YET, REFUSE, SECTIONS, SETTINGS, Setting

# Gunicorn has it, but no flag for it.
ALSO_THERE = {"tmp_upload_dir"}
PAGE = Path(__file__).with_name("settings.md")

HEAD = """\
# Settings

<!-- Made by docs/make_settings.py from pywsgiserve/config.py: change it there. -->

Names, flags and defaults are Gunicorn's wherever Gunicorn has the setting. A setting comes from, the last one winning:

1. its default;
2. the environment: `PORT`, `WEB_CONCURRENCY`, `FORWARDED_ALLOW_IPS`, `SENDFILE`;
3. the config file: what `-c` names (`PATH`, `file:PATH` or `python:MODULE`), else `pywsgiserve.conf.py`, else
   `gunicorn.conf.py` in the directory of the start. It is Python; each variable with the name of a setting counts, and one
   that only looks like a setting gets a warning;
4. `GUNICORN_CMD_ARGS`, then `PYWSGISERVE_CMD_ARGS`: options as on the command line;
5. the command line. Long options may be abbreviated.

In Python, `run(app, name=value)` and `Server(app, name=value)` take the same names, but those for the command itself (where
to work, what to import, checks), and of the sources above `FORWARDED_ALLOW_IPS` alone. A flag that may be given more than once
replaces the list of a weaker source. Durations are seconds, or `"500ms"`, `"30s"`, `"5m"`, `"1h"`.
`pywsgiserve --print-config APP` shows what holds and where it is from; `--check-config` tells whether it works.

The app is `MODULE:NAME`, `MODULE` for `MODULE:application`, or a call with literals, `'MODULE:create_app("prod", debug=False)'`.

Exit codes: 0 stopped as asked, or the check has passed; 1 settings that cannot be used, or the check has failed; 2 a command line that
cannot be read; 3 the app could not be imported; 4 what was imported is no app.
"""

ATOMS = """
Atoms of `access_log_format`, as in Gunicorn: `%(h)s` client address, `%(u)s` user of basic authentication, `%(t)s` time,
`%(r)s` request line, `%(m)s` method, `%(U)s` path, `%(q)s` query, `%(H)s` protocol, `%(s)s` status, `%(b)s` bytes of the body
or "-", `%(B)s` the same with 0, `%(f)s` Referer, `%(a)s` User-Agent, `%(T)s`, `%(M)s`, `%(D)s` and `%(L)s` time taken in seconds,
milliseconds, microseconds and seconds with a fraction, `%(p)s` process, `%({Name}i)s` and `%({Name}o)s` a field of request
and response, `%({NAME}e)s` an environ key. Any other is "-".
"""


def default(row: Setting) -> str:
    if row.default_text:
        return row.default_text
    value = row.default()
    if isinstance(value, dict):
        return ", ".join(f"`{k}: {v}`" for k, v in value.items())
    return f"`{shown(row)}`" if value not in (None, ()) else "none"


def how(row: Setting) -> str:
    """What to write: flags, or that it is for files only."""
    if row.hook:
        return f"`def {row.name}({row.hook})`"
    metavar = f" {row.metavar}" if row.metavar else ""
    flags = ", ".join(f"`{flag}{metavar}`" for flag in row.flags)
    return flags or "config file"


def note(row: Setting) -> str:
    notes = []
    if row.env:
        notes.append(f"Environment: `{row.env}`.")
    if row.ours and row.name not in ALSO_THERE:
        notes.append("Not in Gunicorn.")
    if row.name in NOT_YET:
        refused = NOT_YET[row.name] == REFUSE
        notes.append(
            "*Not supported yet: other values are "
            f"{'refused' if refused else 'ignored, with a warning'}.*"
        )
    return " ".join(notes)


def section(name: str) -> Iterator[str]:
    yield f"\n## {name}\n"
    yield "| setting | how to give it | default | |"
    yield "| --- | --- | --- | --- |"
    for row in SETTINGS.values():
        if row.section == name:
            text = f"{row.help} {note(row)}".rstrip().replace("|", "\\|")
            yield f"| `{row.name}` | {how(row)} | {default(row)} | {text} |"


def page() -> str:
    lines = [HEAD.rstrip("\n")]
    for name in SECTIONS:
        lines += section(name)
        if name == "Logs":
            lines.append(ATOMS.rstrip("\n"))
    lines.append("\n## Gunicorn's others\n")
    lines.append(
        "Accepted anywhere, and named in a warning when they are set to something, "
        "because they do nothing yet:\n"
    )
    lines.append(", ".join(f"`{name}`" for name in sorted(LATER)) + ".")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    PAGE.write_text(page())
