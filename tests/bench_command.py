"""Running the benchmark's commands, for a moment."""

import json
import os
import shutil
import subprocess
import sys

import pytest

from tests.process import ROOT

needs_tools = pytest.mark.skipif(
    not os.environ.get("CI")  # There it fails for want of them.
    and (
        (os.cpu_count() or 1) < 2
        or not all(map(shutil.which, ("cc", "taskset", "wrk")))
    ),
    reason="the benchmark needs two CPUs, cc, taskset and wrk",
)


def told(tmp_path, module, words):
    """What `python -m module` has kept, of one short round, and what it printed."""
    kept = tmp_path / "told.json"
    words += f" --rounds 1 --seconds 1 --attempts 1 --json {kept}"
    done = subprocess.run(
        [sys.executable, "-m", module, *words.split()],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(kept.read_text()), done.stdout
