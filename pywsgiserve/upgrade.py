"""USR2: the program is executed anew beside the one that runs, and takes its place.

The protocol is Gunicorn's; inheritance.py is the other side of it.
"""

from __future__ import annotations

import json
import os
import sys
from typing import Any, NoReturn

from pywsgiserve import START, _core, logs, systemd
from pywsgiserve.checks import ConfigError
from pywsgiserve.hooks import call_needed
from pywsgiserve.inheritance import OURS, Inheritance


def environment(
    inheritance: Inheritance, listeners: _core.Listeners, parent: int
) -> dict[str, str]:
    """For the program that this process is about to execute."""
    ours = {*OURS, *systemd.SOCKETS, *systemd.NOTIFY}
    environ = {name: value for name, value in START.environ.items() if name not in ours}
    environ["GUNICORN_PID"] = str(parent)
    open_ones = listeners.inheritable
    as_systemd = None
    if inheritance.by_systemd:
        names = inheritance.sockets
        as_systemd = systemd.sockets_environment(
            {item[0]: names.get(item[0], "") for item in open_ones}
        )
    environ.update(
        as_systemd or {"GUNICORN_FD": ",".join(str(item[0]) for item in open_ones)}
    )
    files = [
        (fd, os.fsdecode(path), device, inode)
        for fd, path, device, inode, _ in open_ones
        if path is not None
    ]
    if files:
        environ["PYWSGISERVE_FILES"] = json.dumps(files)
    uwsgi = [str(item[0]) for item in open_ones if item[4] == "uwsgi"]
    environ["PYWSGISERVE_UWSGI"] = ",".join(uwsgi)
    if inheritance.notify is not None:
        environ.update(inheritance.notify.environment(os.getpid()))
    return environ


def command() -> list[str]:
    """The words that have started this program, options of the interpreter too."""
    if not sys.executable or not sys.orig_argv:
        raise ConfigError("USR2: the command that has started this is not known")
    return [sys.executable, *sys.orig_argv[1:]]


def say_it_in_the_log() -> None:
    """A daemon has no stderr: what the new one cannot start for goes to the log's file."""
    opened = logs.opened.target
    if opened is not None and opened.stream is None:
        fd = opened.open()
        os.dup2(fd, 2)
        os.close(fd)


def execute(
    server: Any, inheritance: Inheritance, listeners: _core.Listeners
) -> NoReturn:
    """In a child of the master `server`: become its successor."""
    try:
        call_needed(server.cfg, "pre_exec", server)
        words = command()
        environ = environment(inheritance, listeners, server.pid)
        if server.cfg.daemon:
            say_it_in_the_log()
        os.chdir(START.directory)
        for fd, *_ in listeners.inheritable:
            os.set_inheritable(fd, True)
        logs.close()
        os.execve(words[0], words, environ)
    except ConfigError as error:
        logs.line("ERROR", str(error))
    except BaseException as error:
        logs.exception("Exception in the process of a new master", error)
    finally:
        logs.close()
        os._exit(1)
