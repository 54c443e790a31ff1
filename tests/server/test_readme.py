"""README.md's own commands and programs, run as a reader would run them."""

import contextlib
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import sysconfig
import threading
import urllib.request
from pathlib import Path

import pytest

import bench.__main__
from tests.process import LISTENING, ROOT

pytestmark = pytest.mark.timeout(900)  # It is built and installed, beside other tests.

README = (ROOT / "README.md").read_text()
NOT_IN_A_CLONE = shutil.ignore_patterns(
    ".git", ".venv*", "build", "dist", "*.egg-info", "*.so", "__pycache__", ".*_cache"
)
INSTALL_S = 300
PROJECT = {
    "main.py": """
def app(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"hello from main"]

def create_app(kind):
    return app if kind == "prod" else None
""",
    "myproject/wsgi.py": "from main import app as application",
    "gunicorn.conf.py": "bind = '127.0.0.1:0'",
}


def blocks(language):
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.M | re.S)


COMMANDS = [
    line.removeprefix("$ ").partition("  #")[0].strip()
    for block in blocks("console")
    for line in block.splitlines()
]
PROGRAMS = blocks("python")


def commands(*words):
    return [c for c in COMMANDS if c.split()[: len(words)] == list(words)]


def test_each_command_is_looked_at_here():
    kinds = [("bash", "tests/run"), ("pip",), ("pywsgiserve",)]

    assert sorted(COMMANDS) == sorted(c for kind in kinds for c in commands(*kind))
    assert all(commands(*kind) for kind in kinds)


def test_tests_run_knows_what_it_is_asked_for():
    usage = subprocess.run(
        ["bash", "tests/run", "?"], cwd=ROOT, capture_output=True, text=True
    )

    assert usage.returncode == 2
    for what in re.findall(r"bash tests/run ?(\w*)", README):
        assert re.search(rf"^#   tests/run {what} +\w", usage.stderr, re.M), what


def test_the_benchmark_knows_its_arguments(monkeypatch):
    (command,) = commands("bash", "tests/run", "bench")
    monkeypatch.setattr(sys, "argv", command.split()[2:])

    options = bench.__main__._options()

    assert options.only == ["hello", "browser"]
    assert all(map(bench.__main__.workloads.named, options.only))


@pytest.fixture(scope="module")
def clone(tmp_path_factory):
    """What a clone of the repository has in it."""
    folder = tmp_path_factory.mktemp("clone") / "pywsgiserve"
    shutil.copytree(ROOT, folder, ignore=NOT_IN_A_CLONE)
    return folder


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    folder = tmp_path_factory.mktemp("project")
    for name, text in PROJECT.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(text)
    return folder


@pytest.fixture(scope="module")
def environment(tmp_path_factory):
    """A fresh virtual environment, active. pip builds with our setuptools, offline."""
    folder = tmp_path_factory.mktemp("environment")
    subprocess.run([sys.executable, "-m", "venv", folder / "venv"], check=True)
    (folder / "tools").mkdir()
    for path in Path(sysconfig.get_path("purelib")).glob("setuptools*"):
        (folder / "tools" / path.name).symlink_to(path)
    return {
        **{k: v for k, v in os.environ.items() if not k.startswith(("PWS_", "CC"))},
        "PATH": f"{folder}/venv/bin:{os.environ['PATH']}",
        "PYTHONPATH": str(folder / "tools"),
        "PIP_NO_INDEX": "1",
        "PIP_NO_BUILD_ISOLATION": "0",  # Means --no-build-isolation, to pip.
        "PYWSGISERVE_CMD_ARGS": "-b 127.0.0.1:0",
    }


@pytest.fixture(scope="module")
def installed(clone, environment):
    """The environment, with what README installs."""
    (command,) = commands("pip")
    done = subprocess.run(
        command.split(), cwd=clone, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return environment


@contextlib.contextmanager
def started(command, folder, env):
    """The address that a command comes to listen at; it must end well when asked to."""
    with subprocess.Popen(
        command, cwd=folder, env=env, stderr=subprocess.PIPE, text=True
    ) as process:
        deadline = threading.Timer(INSTALL_S, process.kill)
        deadline.start()
        try:
            said, found = "", None
            while found is None:
                line = process.stderr.readline()
                said += line
                found = LISTENING.search(line)
                assert line, said
            yield found[2]
            process.send_signal(signal.SIGTERM)
            assert process.wait() == 0, process.stderr.read()
        finally:
            deadline.cancel()
            process.kill()


def fetch(address):
    with urllib.request.urlopen(address, timeout=60) as response:
        return response.read()


def test_the_demo_is_installed_and_served(clone, environment):
    (command,) = commands("bash", "tests/run", "demo")

    with started(command.split(), clone, environment) as address:
        assert b"pywsgiserve is running" in fetch(address)


@pytest.mark.parametrize("command", commands("pywsgiserve"))
def test_a_project_is_served(command, project, installed):
    free = command.replace(":8000", ":0")

    with started(["bash", "-c", f"exec {free}"], project, installed) as address:
        assert fetch(address) == b"hello from main"


@pytest.mark.parametrize("program", [p for p in PROGRAMS if "run(" in p])
def test_a_program_serves(program, project, installed):
    code = f"from main import app\n{program}"

    with started(["python", "-c", code], project, installed) as address:
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(project / address.removeprefix("unix:")))
            client.sendall(b"GET / HTTP/1.0\r\n\r\n")

            assert client.makefile("rb").read().endswith(b"hello from main")


@pytest.mark.parametrize("program", [p for p in PROGRAMS if "run(" not in p])
def test_a_program_serves_beside_other_things(program, project, installed):
    code = f"from main import app\n{program}"

    done = subprocess.run(
        ["python", "-c", code],
        cwd=project,
        env=installed,
        capture_output=True,
        text=True,
    )

    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("http://127.0.0.1:")
