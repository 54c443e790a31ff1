"""Each fuzzer of tests/c/fuzz, for PWS_FUZZ_SECONDS (default 2; 0 only replays).

A fuzzer starts from its kept corpus, tests/c/fuzz/corpus/<name>, and from the inputs
that once broke it, tests/c/fuzz/regression/<name>. What it finds goes to a temporary
folder. To keep a longer run's finds: <program> -merge=1 tests/c/fuzz/corpus/<name> NEW.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests import c_build

FOLDER = c_build.ROOT / "tests" / "c" / "fuzz"
FUZZERS = sorted(FOLDER.glob("fuzz_*.c"))
PORTABLE = c_build.ROOT / "tests" / "c" / "portable.c"
SECONDS = int(os.environ.get("PWS_FUZZ_SECONDS", "2"))

PROBE = """
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    if (n > 3 && data[0] == 'b' && data[1] == 'a' && data[2] == 'd') {
        abort();
    }
    return 0;
}
"""


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if shutil.which("clang") is None:
        if os.environ.get("CI"):
            pytest.fail("CI must fuzz, and there is no clang")
        pytest.skip("no clang")
    return c_build.shared_folder(tmp_path_factory, "fuzz")


def seeds(kind: str, name: str) -> list[Path]:
    path = FOLDER / kind / name
    return [path] if path.is_dir() else []


def fuzz(
    program: Path, finds: Path, kept: list[Path], options: list[str]
) -> subprocess.CompletedProcess[str]:
    new = finds / "new"
    new.mkdir()
    command = [program, f"-artifact_prefix={finds}/", "-timeout=10", *options]
    return subprocess.run(
        [*command, new, *kept],
        capture_output=True,
        text=True,
        errors="replace",
        timeout=SECONDS + 150,
    )


@pytest.mark.timeout(SECONDS + 180)
@pytest.mark.parametrize("path", FUZZERS, ids=lambda path: path.stem)
def test_fuzzer_finds_nothing(path: Path, folder: Path, tmp_path: Path) -> None:
    program = c_build.build(c_build.FUZZ, folder, [path, PORTABLE])
    name = path.stem.removeprefix("fuzz_")
    kept = seeds("corpus", name) + seeds("regression", name)
    dictionary = FOLDER / f"{name}.dict"
    options = [f"-max_total_time={SECONDS}"] if SECONDS else ["-runs=0"]
    if dictionary.is_file():
        options.append(f"-dict={dictionary}")

    done = fuzz(program, tmp_path, kept, options)

    if done.returncode != 0:
        inputs = [
            f"{p.name}: {p.read_bytes()!r}" for p in tmp_path.iterdir() if p.is_file()
        ]
        report = "\n".join([done.stderr[-8000:], *inputs])
        pytest.fail(f"{path.name}\n{report}", pytrace=False)


@pytest.mark.parametrize("path", FUZZERS, ids=lambda path: path.stem)
def test_fuzzer_has_a_kept_corpus(path: Path) -> None:
    """From nothing, 20 seconds do not reach the inside of a parser."""
    corpus = FOLDER / "corpus" / path.stem.removeprefix("fuzz_")

    assert corpus.is_dir()
    assert any(corpus.iterdir())


def test_an_input_that_once_broke_is_replayed(folder: Path, tmp_path: Path) -> None:
    """Also shows that a crash fails the run and that its input can be found again."""
    source = folder / "fuzz_probe.c"
    with c_build.locked(folder):
        source.write_text(PROBE)
    program = c_build.build(c_build.FUZZ, folder, [source])
    kept = tmp_path / "regression"
    kept.mkdir()
    (kept / "seed").write_bytes(b"badly")
    finds = tmp_path / "finds"
    finds.mkdir()

    done = fuzz(program, finds, [kept], ["-runs=0"])

    assert done.returncode != 0
    assert [p.read_bytes() for p in finds.glob("crash-*")] == [b"badly"]
