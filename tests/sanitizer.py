"""Environment for processes that run the ASan+UBSan build (see tests/run sanitize).

pytest itself runs the ordinary build, without the sanitizers' runtime. Every process
that a test starts to be tested gets server_env(), which is where the other build comes
in, and its stderr goes through reports() when it has ended.
"""

from __future__ import annotations

import functools
import os
import subprocess
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).parents[1]
ENABLED = os.environ.get("PWS_SANITIZE") == "1"

# The package with the instrumented module, made by tests/run. The tests then run from a
# copy of tests/ with no package beside it, so that nothing wins over PYTHONPATH.
TREE = Path(os.environ.get("PWS_SANITIZE_TREE", ROOT / "build" / "sanitize" / "lib"))

# A forked interpreter makes its locks anew, and the parent's cannot be freed there
# (_PyThread_at_fork_reinit). None of our code makes such locks.
LEAKS_OF_CPYTHON = Path(__file__).with_name("lsan.supp")


@functools.cache
def runtime() -> str:
    """The shared sanitizer runtime of the compiler that made the build."""
    compiler = os.environ.get("CC", "gcc").split()
    library = "libasan.so"
    if "clang" in compiler[0]:
        library = f"libclang_rt.asan-{os.uname().machine}.so"
    command = [*compiler, f"-print-file-name={library}"]
    path = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return path.strip()


def server_env(base_env: Mapping[str, str]) -> dict[str, str]:
    """The environment for a process under test; base_env itself in the plain run."""
    env = dict(base_env)
    if ENABLED:
        # clang's symbolizer is a program of its own, and would inherit LD_PRELOAD.
        symbols = ":symbolize=0" if "clang" in runtime() else ""
        paths = [str(TREE), *filter(None, [env.get("PYTHONPATH")])]
        env |= {
            "LD_PRELOAD": runtime(),
            "PYTHONMALLOC": "malloc",
            "ASAN_OPTIONS": "detect_leaks=1" + symbols,
            "LSAN_OPTIONS": f"suppressions={LEAKS_OF_CPYTHON}:print_suppressions=0",
            "UBSAN_OPTIONS": "print_stacktrace=1:halt_on_error=1" + symbols,
            "PYTHONPATH": os.pathsep.join(paths),
        }
    return env


def reports(stderr: str) -> list[str]:
    """The lines of stderr with which a sanitizer starts a report."""
    marks = ("Sanitizer", "runtime error:")
    return [line for line in stderr.splitlines() if any(m in line for m in marks)]


def maps_the_right_build(pid: int) -> bool:
    """Whether the live process has loaded the instrumented module, where it must.

    A working directory or script folder with the sources in it wins over PYTHONPATH;
    the ordinary build would then pass in the sanitizers' name.
    """
    maps = Path(f"/proc/{pid}/maps").read_text()
    modules = {line.split()[-1] for line in maps.splitlines() if "/_core." in line}
    return all(Path(m).is_relative_to(TREE.resolve()) == ENABLED for m in modules)
