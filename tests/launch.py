"""Run one test app in this process: python -m tests.launch APP SETTINGS [PROCESS].

APP is a module of tests.apps, or module:name for a callable other than `application`.
SETTINGS is JSON for `run`; PROCESS is JSON about the process itself: {"nofile": 64}
lowers the limit of open files before the server starts, {"fsize": 1000} that of the
bytes of a file.
"""

import importlib
import json
import resource
import sys

from pywsgiserve import run

LIMITS = {"nofile": resource.RLIMIT_NOFILE, "fsize": resource.RLIMIT_FSIZE}


def main(app_name: str, settings: str, process: str = "{}") -> None:
    for name, most in json.loads(process).items():
        resource.setrlimit(LIMITS[name], (most, most))
    module_name, _, name = app_name.partition(":")
    module = importlib.import_module(f"tests.apps.{module_name}")
    run(getattr(module, name or "application"), **json.loads(settings))


if __name__ == "__main__":
    main(*sys.argv[1:])
