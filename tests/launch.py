"""Run one test app: python -m tests.launch APP SETTINGS [PROCESS].

APP is a module of tests.apps, or module:name for a callable other than `application`.
SETTINGS is JSON for `run`; PROCESS is JSON about the process itself: {"nofile": 64}
lowers the limit of open files before the server starts, {"fsize": 1000} that of the
bytes of a file; {"workers": 3} starts it by the command line, with so many workers.
"""

import importlib
import json
import os
import resource
import sys

from pywsgiserve import cli, run

CONFIG = "python:tests.launch"
VARIABLE = "PWS_TEST_SETTINGS"

# As a config file, this module has the settings as its variables.
globals().update(json.loads(os.environ.get(VARIABLE, "{}")))

LIMITS = {"nofile": resource.RLIMIT_NOFILE, "fsize": resource.RLIMIT_FSIZE}


def main(app_name: str, settings: str, process: str = "{}") -> int:
    wanted = json.loads(process)
    for limit in LIMITS.keys() & wanted.keys():
        resource.setrlimit(LIMITS[limit], (wanted[limit], wanted[limit]))
    module_name, _, name = app_name.partition(":")
    module, name = f"tests.apps.{module_name}", name or "application"
    if wanted.get("workers"):
        os.environ[VARIABLE] = settings
        count = str(wanted["workers"])
        return cli.main(["-w", count, "-c", CONFIG, f"{module}:{name}"])
    run(getattr(importlib.import_module(module), name), **json.loads(settings))
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
