"""Builds the C tests and fuzzers: our C files once a run, then each test on top.

Only what Python.h is not needed for. Objects are kept in a folder that the processes
of pytest-xdist share; a lock lets one of them compile while the others wait.

With PWS_COVERAGE, what GCC builds counts how often each line runs: see tests/run coverage.
"""

from __future__ import annotations

import fcntl
import os
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LAYERS = ("base", "proto", "engine", "proc")
SANITIZE = ("-fsanitize=address,undefined", "-fno-sanitize-recover=undefined")


@dataclass(frozen=True)
class Toolchain:
    """A compiler with the flags for our files, and those for a finished program."""

    compiler: str
    compile_flags: tuple[str, ...]
    link_flags: tuple[str, ...]


COMMON = ("-Werror", "-O1", "-g", "-fno-omit-frame-pointer", "-U_FORTIFY_SOURCE")
COUNT = ("-O0", "--coverage", "-fprofile-update=atomic")
COUNTED = COUNT if os.environ.get("PWS_COVERAGE") else ()
GCC = Toolchain("gcc", (*COMMON, *SANITIZE, *COUNTED), (*SANITIZE, *COUNTED))
RACES = Toolchain("gcc", (*COMMON, "-fsanitize=thread"), ("-fsanitize=thread",))
FUZZ = Toolchain(
    "clang",
    (*COMMON, "-fsanitize=fuzzer-no-link", *SANITIZE),
    ("-fsanitize=fuzzer", *SANITIZE),
)


def shared_folder(factory: pytest.TempPathFactory, name: str) -> Path:
    """A temporary folder that is the same one in every process of this run."""
    base = factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        base = base.parent
    folder = base / name
    folder.mkdir(exist_ok=True)
    return folder


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    with open(folder / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def run(command: list[str | Path]) -> None:
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if done.returncode != 0:
        line = " ".join(map(str, command))
        pytest.fail(f"{line}\n{done.stdout}{done.stderr}", pytrace=False)


def compile_one(tools: Toolchain, source: Path, target: Path) -> Path:
    flags = (ROOT / "compile_flags.txt").read_text().split()
    if not target.exists():
        part = target.with_suffix(".part")
        command = [tools.compiler, *flags, *tools.compile_flags, f"-I{ROOT}/tests/c"]
        run([*command, "-c", source, "-o", part])
        part.rename(target)
    return target


def our_objects(tools: Toolchain, folder: Path) -> list[Path]:
    """The object of each C file below py/, compiled by whoever comes first."""
    sources = [p for layer in LAYERS for p in sorted(ROOT.glob(f"csrc/{layer}/*.c"))]
    targets = [folder / f"{p.parent.name}-{p.stem}.o" for p in sources]
    with locked(folder), ThreadPoolExecutor(os.cpu_count()) as pool:
        return list(pool.map(lambda s, t: compile_one(tools, s, t), sources, targets))


def build(tools: Toolchain, folder: Path, sources: list[Path]) -> Path:
    """A program of these files (the first one names it) and what it needs of ours."""
    ours = our_objects(tools, folder)
    program = folder / sources[0].stem
    with locked(folder):
        mine = [compile_one(tools, s, folder / f"test-{s.stem}.o") for s in sources]
        library = folder / "ours.a"
        if ours and not library.exists():
            run(["ar", "rcs", library, *ours])
        if not program.exists():
            # From a library the linker takes only the files that the test needs.
            archive = [library] if ours else []
            command = [tools.compiler, *tools.link_flags, "-pthread", *mine, *archive]
            run([*command, "-o", program])
    return program
