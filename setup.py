"""Build of the one extension, pywsgiserve._core; everything else is in pyproject.toml.

PWS_BUILD chooses the build: release (the default), debug, sanitize or coverage.
CC chooses the compiler. compile_flags.txt holds the language and the warnings; the C
tests, clang-tidy and clangd read the same file.
"""

from __future__ import annotations

import os
import platform
import subprocess
import sysconfig
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build import build
from setuptools.command.build_ext import build_ext

ROOT = Path(__file__).resolve().parent
BUILD = os.environ.get("PWS_BUILD") or "release"
COMPILER = os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc"
COMPILER_NAME = Path(COMPILER.split()[0]).name
CLANG = "clang" in COMPILER_NAME

# Never -Werror here: a user's compiler may know warnings that ours does not.
RELEASE = [
    *("-O2", "-g", "-fPIC"),
    *("-U_FORTIFY_SOURCE", "-D_FORTIFY_SOURCE=3"),
    *("-fstack-protector-strong", "-fstack-clash-protection"),
]
if platform.machine() in ("x86_64", "i686"):
    RELEASE.append("-fcf-protection")


def links_optimized() -> bool:
    """Whether the compiler optimizes across files: a compiler may be built without it."""
    if BUILD != "release" or CLANG:
        return False
    source = "int answer(void); int answer(void) { return 42; }"
    with tempfile.TemporaryDirectory() as folder:
        words = [*COMPILER.split(), *ACROSS_FILES, "-shared", "-fPIC", "-xc", "-"]
        try:
            done = subprocess.run(
                [*words, "-o", f"{folder}/probe.so"],
                input=source.encode(),
                capture_output=True,
            )
        except OSError:
            return False
    return done.returncode == 0


# The request's way leads through many small files: this saves it 7 % of its instructions.
ACROSS_FILES = ["-flto=auto", "-O2"]
if links_optimized():
    RELEASE += ACROSS_FILES
else:
    ACROSS_FILES = []

# Without fortification: it hides calls from the sanitizers, and needs -O.
OURS = ["-Werror", "-UNDEBUG", "-U_FORTIFY_SOURCE", "-g"]
SANITIZE = ["-fsanitize=address,undefined", "-fno-omit-frame-pointer"]
# Python's own process is not instrumented, so the runtime must be the shared one.
SHARED_RUNTIME = ["-shared-libasan"] if CLANG else []

COMPILE = {
    "release": RELEASE,
    "debug": [*OURS, "-Og" if not CLANG else "-O1"],
    "sanitize": [*OURS, "-O1", *SANITIZE],
    "coverage": [*OURS, "-O0", "--coverage"],
}
LINK = {
    "release": ACROSS_FILES,
    "debug": [],
    "sanitize": [*SANITIZE, *SHARED_RUNTIME],
    "coverage": ["--coverage"],
}


class Build(build):
    """Keep the builds apart: one folder for each PWS_BUILD and compiler."""

    def initialize_options(self) -> None:
        super().initialize_options()
        self.build_base = f"build/{BUILD}-{COMPILER_NAME}"


class BuildExt(build_ext):
    """Python's headers as system headers, all processors, no stale in-place module."""

    def finalize_options(self) -> None:
        super().finalize_options()
        for extension in self.extensions:
            for directory in self.include_dirs:
                extension.extra_compile_args += ["-isystem", directory]
        self.include_dirs = []

    def run(self) -> None:
        if not self.inplace:
            super().run()
            return
        # The finished module lies in the package whatever the build: note which it is.
        target = Path(self.get_ext_fullpath("pywsgiserve._core")).name
        note = ROOT / "build" / f"in-place-{target}.txt"
        made = f"{BUILD} {COMPILER}\n"
        if not note.exists() or note.read_text() != made:
            self.force = True
            self.build_temp = f"build/{BUILD}-{COMPILER_NAME}/in-place"
        note.parent.mkdir(exist_ok=True)
        note.unlink(missing_ok=True)
        super().run()
        note.write_text(made)

    def build_extensions(self) -> None:
        one_by_one = self.compiler.compile

        def compile_together(sources: list[str], **how: object) -> list[str]:
            with ThreadPoolExecutor(os.cpu_count()) as pool:
                objects = pool.map(lambda source: one_by_one([source], **how), sources)
                return [path for paths in objects for path in paths]

        self.compiler.compile = compile_together
        super().build_extensions()


def files(pattern: str) -> list[str]:
    return sorted(str(p.relative_to(ROOT)) for p in ROOT.glob(pattern))


if __name__ == "__main__":
    if BUILD not in COMPILE:
        raise SystemExit(
            f"PWS_BUILD: expected one of {', '.join(COMPILE)}, got {BUILD}"
        )
    common = (ROOT / "compile_flags.txt").read_text().split()
    setup(
        cmdclass={"build": Build, "build_ext": BuildExt},
        ext_modules=[
            Extension(
                "pywsgiserve._core",
                sources=files("csrc/*/*.c"),
                depends=[*files("csrc/*/*.h"), "compile_flags.txt", "setup.py"],
                extra_compile_args=[*common, *COMPILE[BUILD]],
                extra_link_args=[
                    "-pthread",
                    "-Wl,-z,relro,-z,now,-z,noexecstack",
                    *LINK[BUILD],
                ],
            )
        ],
    )
