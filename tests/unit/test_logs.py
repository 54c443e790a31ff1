"""Log files: how they are made, whose they are, and the streams in front of them."""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import signal
import socket
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from pywsgiserve import ConfigError, logs
from pywsgiserve.config import Config
from tests.client import Client
from tests.process import ROOT as PROJECT
from tests.process import STOP_S, environment

ROOT = os.geteuid() == 0


def target(path: str | os.PathLike[str], **settings: object) -> logs.Target:
    config = Config.from_settings({"errorlog": os.fspath(path), **settings})
    return logs.target(config, "errorlog", 2)


def open_and_close(path: Path, **settings: object) -> os.stat_result:
    os.close(target(path, **settings).open())
    return path.stat()


def test_a_log_file_can_be_read_by_all_and_written_by_its_owner(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        made = open_and_close(tmp_path / "log")
    finally:
        os.umask(before)

    assert stat.S_IMODE(made.st_mode) == 0o644


def test_a_log_file_is_appended_to(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_text("old\n")
    fd = target(path).open()
    os.write(fd, b"new\n")
    os.close(fd)

    assert path.read_text() == "old\nnew\n"


@pytest.mark.skipif(not ROOT, reason="needs the right to give files away")
def test_a_new_log_file_is_its_workers(tmp_path: Path) -> None:
    """They must be able to open it again when they have no other rights left."""
    config = Config(errorlog=os.fspath(tmp_path / "log"), user=12345, group=54321)
    os.close(logs.target(config, "errorlog", 2).open())
    made = (tmp_path / "log").stat()

    assert (made.st_uid, made.st_gid) == (12345, 54321)


@pytest.mark.skipif(not ROOT, reason="needs the right to give files away")
def test_a_file_that_was_there_is_not_given_away(tmp_path: Path) -> None:
    """Who may write to the folder could have put a link to /etc/shadow there."""
    secret = tmp_path / "secret"
    secret.touch()
    (tmp_path / "log").symlink_to(secret)
    config = Config(errorlog=os.fspath(tmp_path / "log"), user=12345, group=54321)
    os.close(logs.target(config, "errorlog", 2).open())

    assert secret.stat().st_uid == os.getuid()


def test_a_relative_path_is_that_of_the_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    log = target("log")
    monkeypatch.chdir("/")
    os.close(log.open())

    assert (tmp_path / "log").exists()


@pytest.mark.parametrize(
    ("name", "number"), [("-", 2), ("/dev/stderr", 2), ("/dev/stdout", 1)]
)
def test_names_of_streams_are_not_opened(name: str, number: int) -> None:
    fd = target(name).open()
    try:
        assert os.path.sameopenfile(fd, number)
    finally:
        os.close(fd)


def test_a_pipe_without_a_reader_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")

    with pytest.raises(ConfigError, match=r"errorlog: cannot write to '.*/pipe': "):
        target(tmp_path / "pipe").open()


def test_a_pipe_with_a_reader_is_opened_for_apps_that_know_no_eagain(
    tmp_path: Path,
) -> None:
    os.mkfifo(tmp_path / "pipe")
    reader = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    fd = target(tmp_path / "pipe").open()

    assert os.get_blocking(fd)
    os.close(fd)
    os.close(reader)


@pytest.mark.parametrize("kind", ["folder", "missing"])
def test_what_cannot_be_written_is_an_error_that_names_it(
    tmp_path: Path, kind: str
) -> None:
    path = tmp_path if kind == "folder" else tmp_path / "no" / "log"

    with pytest.raises(ConfigError) as raised:
        target(path).open()

    assert str(raised.value).startswith(f"errorlog: cannot write to '{path}': ")


def test_records_of_loggers_are_lines_of_the_log() -> None:
    record = logging.LogRecord(
        "gunicorn.error", logging.WARNING, "", 0, "a\r\x1b[2J\x9b\tb\u00e4", None, None
    )

    text = logs.Formatter().format(record)

    assert text.endswith(f"] [{os.getpid()}] [WARNING] a\\x0d\\x1b[2J\\x9b\tb\u00e4")


def python(code: str, stderr: int = subprocess.PIPE) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code], stderr=stderr, stdout=subprocess.PIPE, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return (done.stderr or b"").decode()


def test_wsgi_errors_is_written_line_by_line_and_cannot_be_closed() -> None:
    said = python(
        "from pywsgiserve.logs import errors\n"
        "errors.write('a'); errors.write('b\\n'); errors.close()\n"
        "errors.writelines(['\\udc80\\u20ac', '\\x1b[m\\n'])\n"
        "errors.write('c')"
    )

    assert said == "ab\n\\udc80\u20ac\x1b[m\nc"


def test_closed_descriptors_are_filled_and_open_ones_left_alone() -> None:
    said = python(
        "import os, sys\n"
        "from pywsgiserve import logs\n"
        "os.close(0); os.close(1)\n"
        "before = os.listdir('/proc/self/fd')\n"
        "logs.fill_standard_descriptors()\n"
        "print([os.readlink(f'/proc/self/fd/{n}') for n in (0, 1)], file=sys.stderr)\n"
        "print([os.get_inheritable(n) for n in (0, 1, 2)], file=sys.stderr)\n"
    )

    assert said == "['/dev/null', '/dev/null']\n[True, True, True]\n"


def test_opening_twice_installs_one_handler() -> None:
    said = python(
        "import logging\n"
        "from pywsgiserve import logs\n"
        "from pywsgiserve.config import Config\n"
        "for _ in range(2): logs.open(Config())\n"
        "logging.getLogger('gunicorn.error').info('once')\n"
    )

    assert said.count("[INFO] once\n") == 1


def test_a_wrong_level_is_refused_by_the_core() -> None:
    from pywsgiserve import _core

    with pytest.raises(ValueError, match="level: expected 0 to 4, got 5"):
        _core.log_record(5, "x")
    with pytest.raises(OSError, match="Bad file descriptor"):
        _core.log_open(-1, 1)


def test_two_runs_may_have_two_logs(tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    said = python(
        "from pywsgiserve import logs\n"
        "from pywsgiserve.config import Config\n"
        f"for path in {str(one)!r}, {str(two)!r}:\n"
        "    logs.open(Config(errorlog=path))\n"
        "    logs.line('INFO', path[-3:])\n"
        "    logs.close()\n"
    )

    assert said == ""
    assert one.read_text().endswith("[INFO] one\n")
    assert two.read_text().endswith("[INFO] two\n")


def test_an_access_log_keeps_its_descriptor_when_it_is_opened_again(
    tmp_path: Path,
) -> None:
    path = tmp_path / "access"
    log = logs.AccessLog(Config(accesslog=os.fspath(path)))
    before = log.fd
    path.rename(tmp_path / "old")
    log.reopen()

    assert log.fd == before
    assert os.path.samestat(os.fstat(log.fd), path.stat())
    assert not os.get_inheritable(log.fd)
    log.close()
    assert log.fd == -1
    log.reopen()
    assert log.fd == -1


def test_without_an_access_log_there_is_nothing_to_open() -> None:
    log = logs.AccessLog(Config())
    log.reopen()

    assert log.fd == -1


PREFORK = """
import os, signal, sys
from pywsgiserve import _core, logs
from pywsgiserve.config import Config
from pywsgiserve.server import native

def app(environ, start_response):
    if environ["PATH_INFO"] == "/last":
        os.kill(os.getpid(), signal.SIGKILL)
    start_response("200 OK", [("Content-Length", "0")])
    return []

config = Config(
    bind=("fd://" + sys.argv[1],), accesslog=sys.argv[2], access_log_format="%(U)s"
)
log = logs.AccessLog(config)
ring = logs.ring(logs.shared_rings(3), 1)
worker = os.fork()
if worker == 0:
    _core.Server(native(config, log.fd, ring), print).serve(app)
_, status = os.waitpid(worker, 0)
assert os.WTERMSIG(status) == signal.SIGKILL
log.close()
log.drain(ring)
log.drain(ring)
"""


def test_lines_of_a_killed_worker_are_not_lost(tmp_path: Path) -> None:
    path = tmp_path / "access.log"
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        fd = listener.fileno()
        master = subprocess.Popen(
            [sys.executable, "-c", PREFORK, str(fd), os.fspath(path)],
            env=environment({}),
            cwd=PROJECT,
            pass_fds=[fd],
            start_new_session=True,
        )
        try:
            with socket.create_connection(listener.getsockname()) as connection:
                client = Client(connection)
                for number in range(10):
                    assert client.get(f"/{number}").status == 200
                client.send(b"GET /last HTTP/1.1\r\nHost: x\r\n\r\n")
                assert master.wait(STOP_S) == 0
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(master.pid, signal.SIGKILL)
            master.wait()

    assert path.read_text().splitlines() == [f"/{number}" for number in range(10)]


@pytest.mark.parametrize("size", [0x10000 - 8, 0x10000 + 8])
def test_memory_of_another_size_is_no_ring(size: int) -> None:
    from pywsgiserve import _core

    with pytest.raises(ValueError, match="a ring has 65536 bytes"):
        _core.log_drain(bytearray(size), 1)
    with pytest.raises(BufferError):
        _core.log_drain(b"read-only", 1)  # type: ignore[arg-type]


def test_a_log_that_cannot_be_opened_for_want_of_descriptors_is_a_config_error(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """So that a reload goes on with the one that is open."""

    def full(*_: object) -> None:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    config = Config.from_settings({"errorlog": str(tmp_path / "log")})
    for holder, name in ((logs._core, "log_open"), (logs, "fill_standard_descriptors")):
        with monkeypatch.context() as patch:
            patch.setattr(holder, name, full)
            with pytest.raises(ConfigError, match=r"^errorlog: .*Too many open files"):
                logs.open(config)
