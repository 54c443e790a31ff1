"""Run one test app in this process: python -m tests.launch APP SETTINGS [PROCESS].

APP is a module of tests.apps, or module:name for a callable other than `application`.
SETTINGS is JSON for `run`; PROCESS is JSON about the process itself: {"nofile": 64}
lowers the limit of open files before the server starts.
"""

import importlib
import json
import resource
import sys

from pywsgiserve import run


def main(app_name: str, settings: str, process: str = "{}") -> None:
    nofile = json.loads(process).get("nofile")
    if nofile:
        resource.setrlimit(resource.RLIMIT_NOFILE, (nofile, nofile))
    module_name, _, name = app_name.partition(":")
    module = importlib.import_module(f"tests.apps.{module_name}")
    run(getattr(module, name or "application"), **json.loads(settings))


if __name__ == "__main__":
    main(*sys.argv[1:])
