"""What a user sees of the package itself: its names, its help, and where its C part is."""

import os
import pydoc
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import pywsgiserve
from pywsgiserve.config import SETTINGS, Config

SOURCES = Path(pywsgiserve.__file__).parent


@pytest.mark.parametrize("name", pywsgiserve.__all__)
def test_a_name_that_is_promised_is_there(name):
    assert getattr(pywsgiserve, name)


def test_another_name_is_not():
    assert not hasattr(pywsgiserve, "wrun")


@pytest.mark.parametrize("name", SETTINGS)
def test_help_explains_each_setting(name):
    text = pydoc.plain(pydoc.render_doc(Config))

    assert f" {name} [" in text
    assert SETTINGS[name].help in text


@pytest.fixture
def unbuilt(tmp_path):
    """The sources of the package, as a checkout has them before it is built in place."""
    nothing_built = shutil.ignore_patterns("*.so", "__pycache__")
    shutil.copytree(SOURCES, tmp_path / "pywsgiserve", ignore=nothing_built)
    return tmp_path


def failure(folder, *arguments):
    """The last line of what Python says when it fails in a folder.

    -S leaves out what is installed: an editable install finds its C part from anywhere.
    """
    env = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    done = subprocess.run(
        [sys.executable, "-S", *arguments],
        cwd=folder,
        env=env,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 1
    return done.stderr.splitlines()[-1]


@pytest.mark.parametrize(
    "arguments",
    [
        ("-c", "from pywsgiserve import run"),
        ("-c", "from pywsgiserve import Server"),
        ("-c", "from pywsgiserve import _core"),
        ("-m", "pywsgiserve", "-b", "127.0.0.1:0", "pywsgiserve.demo:app"),
    ],
)
def test_a_checkout_that_hides_what_is_installed_says_so(unbuilt, arguments):
    (unbuilt / "setup.py").touch()

    said = failure(unbuilt, *arguments)

    assert said.startswith(
        f"ImportError: the C part of pywsgiserve is not in {unbuilt}/pywsgiserve; "
        "this is a checkout"
    )
    assert "pip install -e ." in said


def test_a_package_without_its_c_part_says_so(unbuilt):
    said = failure(unbuilt, "-c", "from pywsgiserve import run")

    assert "install pywsgiserve again" in said


def test_a_c_part_that_cannot_be_loaded_is_not_called_missing(unbuilt):
    (unbuilt / "pywsgiserve" / "_core.abi3.so").write_bytes(b"not a library")

    said = failure(unbuilt, "-c", "from pywsgiserve import run")

    assert said.startswith("ImportError: ")
    assert "_core.abi3.so" in said
