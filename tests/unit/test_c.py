"""The C unit tests: each TEST of tests/c/test_*.c is one test here, under ASan and UBSan.

Files whose tests use threads run a second time, under ThreadSanitizer.
"""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

from tests import c_build

FOLDER = c_build.ROOT / "tests" / "c"
HARNESS = FOLDER / "harness.c"
RUN_S = 600
FILES = sorted(FOLDER.glob("test_*.c"))
TESTS = [
    pytest.param(path, name, id=f"{path.stem}-{name}")
    for path in FILES
    for name in re.findall(r"^TEST\((\w+)\)", path.read_text(), re.MULTILINE)
]
# Those with threads; a child that is killed on purpose is not for ThreadSanitizer.
THREADED = [
    path
    for path in FILES
    if re.search(r"pthread_create|pws_relief_start", text := path.read_text())
    and "fork()" not in text
]

PROBE = """
#include "harness.h"

TEST(good) { CHECK(1); }
TEST(bad) { CHECK_EQ(1 + 1, 3); }
TEST(bytes) { CHECK_BYTES("a\\n", 2, "ab"); }
TEST(after) { volatile char *p = guarded("abc", 3); CHECK(p[3] == 0); }
TEST(before) { volatile char *p = guarded_start("abc", 3); CHECK(p[-1] == 0); }
"""

RACE = """
#include <pthread.h>

#include "harness.h"

static int counter;

static void *
count(void *unused)
{
    counter++;
    return unused;
}

TEST(race)
{
    pthread_t other;

    CHECK_EQ(pthread_create(&other, NULL, count, NULL), 0);
    (void)count(NULL);
    CHECK_EQ(pthread_join(other, NULL), 0);
}
"""


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return c_build.shared_folder(tmp_path_factory, "c-tests")


@pytest.fixture(scope="session")
def race_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return c_build.shared_folder(tmp_path_factory, "c-races")


@pytest.fixture
def probe(folder: Path, tmp_path: Path) -> Path:
    source = folder / "probe.c"
    with c_build.locked(folder):
        source.write_text(PROBE)
    return c_build.build(c_build.GCC, folder, [source, HARNESS])


def build(path: Path, folder: Path, tools: c_build.Toolchain = c_build.GCC) -> Path:
    """The test's program: with each file beside it whose header it includes."""
    headers = re.findall(r'^#include "(\w+)\.h"', path.read_text(), re.MULTILINE)
    beside = [FOLDER / f"{name}.c" for name in headers]
    sources = {HARNESS, *(p for p in beside if p.exists())}
    return c_build.build(tools, folder, [path, *sorted(sources)])


def run(program: Path, *names: str, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [program, *names],
        capture_output=True,
        text=True,
        errors="replace",
        timeout=RUN_S,
        env={**os.environ, **env},
    )


@pytest.mark.parametrize(("path", "name"), TESTS)
def test_in_c(path: Path, name: str, folder: Path) -> None:
    program = build(path, folder)

    done = run(program, name)

    if done.returncode != 0:
        pytest.fail(f"{path.name}: {name}\n{done.stdout}{done.stderr}", pytrace=False)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_c_test_is_shown_here(path: Path, folder: Path) -> None:
    """A TEST hidden by a macro or by indentation would never run."""
    program = build(path, folder)

    done = run(program, "--list")

    here = [str(test.values[1]) for test in TESTS if test.values[0] == path]
    assert done.stdout.splitlines() == here


@pytest.mark.parametrize("path", THREADED, ids=lambda path: path.stem)
@pytest.mark.timeout(RUN_S)
def test_threads_do_not_race(path: Path, race_folder: Path) -> None:
    """Among it a connection that goes from thread to thread a million times."""
    program = build(path, race_folder, c_build.RACES)

    done = run(program, PWS_HANDOVERS="1000000")

    if done.returncode != 0:
        pytest.fail(f"{path.name}\n{done.stdout}{done.stderr}", pytrace=False)


def test_a_race_is_reported(race_folder: Path) -> None:
    source = race_folder / "race.c"
    with c_build.locked(race_folder):
        source.write_text(RACE)
    program = c_build.build(c_build.RACES, race_folder, [source, HARNESS])

    done = run(program)

    assert done.returncode != 0
    assert "ThreadSanitizer: data race" in done.stderr


def test_a_failing_check_fails_the_program(probe: Path) -> None:
    done = run(probe, "good", "bad")

    assert done.returncode == 1
    assert "got 2, want 3" in done.stdout
    assert "1 passed, 1 failed" in done.stdout


def test_differing_bytes_are_shown_with_escapes(probe: Path) -> None:
    done = run(probe, "bytes")

    assert done.returncode == 1
    assert '"a\\x0a"' in done.stdout


def test_a_name_without_a_test_fails_the_program(probe: Path) -> None:
    assert run(probe, "no_such_test").returncode == 1


@pytest.mark.parametrize("name", ["after", "before"])
def test_reading_outside_of_guarded_memory_dies(probe: Path, name: str) -> None:
    done = run(probe, name)

    assert done.returncode != 0
    assert "AddressSanitizer: SEGV" in done.stderr
