"""The sanitizer run tests the sanitizer build, and a report fails it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests import sanitizer

LEAK = "import ctypes; ctypes.CDLL(None).malloc.restype = None; "
LEAK += "ctypes.CDLL(None).malloc(12345)"
needs_sanitizer = pytest.mark.skipif(
    not sanitizer.ENABLED, reason="runs in tests/run sanitize"
)


def run(code: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    env = sanitizer.server_env(os.environ)
    command = [sys.executable, "-c", code]
    return subprocess.run(command, env=env, cwd=cwd, capture_output=True, text=True)


def test_the_build_under_test_is_the_one_that_is_loaded(tmp_path: Path) -> None:
    code = "import pywsgiserve._core as c; print(c.__file__)"

    done = run(code, tmp_path)

    assert done.returncode == 0, done.stderr
    module = Path(done.stdout.strip()).resolve()
    assert module.is_relative_to(sanitizer.TREE.resolve()) == sanitizer.ENABLED


@needs_sanitizer
def test_importing_the_module_leaks_nothing(tmp_path: Path) -> None:
    done = run("import pywsgiserve._core", tmp_path)

    assert done.returncode == 0, done.stderr
    assert not sanitizer.reports(done.stderr)


@needs_sanitizer
def test_a_leak_is_reported(tmp_path: Path) -> None:
    done = run(LEAK, tmp_path)

    assert done.returncode != 0
    assert sanitizer.reports(done.stderr)


@needs_sanitizer
@pytest.mark.parametrize(("code", "status"), [("pass", 0), (LEAK, 1)])
def test_a_forked_process_is_looked_at_too(
    tmp_path: Path, code: str, status: int
) -> None:
    """What CPython itself leaves behind by a fork is no leak of ours."""
    end = "os.WEXITSTATUS(os.wait()[1]) != 0"
    fork = f"import os, sys\nif os.fork(): sys.exit({end})\n{code}"

    done = run(fork, tmp_path)

    assert done.returncode == status, done.stderr
    assert bool(sanitizer.reports(done.stderr)) == bool(status)


def test_reports_are_found_among_other_lines() -> None:
    stderr = "ok\na.c:3:1: runtime error: shift\n==1==ERROR: LeakSanitizer: x\nbye\n"

    assert len(sanitizer.reports(stderr)) == 2
