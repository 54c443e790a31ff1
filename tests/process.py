"""A server as a real process: started, listened to, stopped, and inspected when it ends."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import pywsgiserve
from tests.client import DEADLINE_S, SANITIZED, Client, Response, eventually

ROOT = Path(__file__).parent.parent
START_S = 120.0 if SANITIZED else 60.0
STOP_S = 120.0 if SANITIZED else 60.0
# Workers of the server that a test of one app starts, which is then started by the
# command line; 0: it is run() in a script, with one process.
WORKERS = int(os.environ.get("PWS_WORKERS", "0"))
# The class of workers that each server then has.
WORKER_CLASS = os.environ.get("PWS_WORKER_CLASS", "")
# Of the server that a test of one app starts: with a class it needs the command line, too.
SERVING = WORKERS or (1 if WORKER_CLASS else 0)
# More than one thread where they lead in turn; a loop runs the app by itself.
CLASS_WORDS = {
    "": "",
    "gthread": "-k gthread --threads 4",
}.get(WORKER_CLASS, f"-k {WORKER_CLASS}")
# A `timeout`, in seconds, in which an app is loaded on a busy machine too.
TIMEOUT = "10" if SANITIZED or WORKER_CLASS else "5"
READY = r"\[INFO\] Workers are ready: \d+$"
DISASTERS = ("Sanitizer", "runtime error:", "Fatal Python error")
LISTENING = re.compile(
    r"^\[\d{4}-\d\d-\d\d \d\d:\d\d:\d\d [+-]\d{4}\] \[(\d+)\] \[INFO\] "
    r"Listening at: (\S+) \((\d+)\)$",
    re.MULTILINE,
)


class ServerFailed(AssertionError):
    """The process did something no test allows: a report, a death, a leftover."""


def environment(extra: Mapping[str, str]) -> dict[str, str]:
    """The environment of a server process, set up for the build under test."""
    env = {**os.environ, "PYTHONUNBUFFERED": "1", "PYTHONFAULTHANDLER": "1"}
    env.pop("SCRIPT_NAME", None)
    if CLASS_WORDS:
        env["PYWSGISERVE_CMD_ARGS"] = CLASS_WORDS
    env.update(extra)
    if SANITIZED:
        from tests.sanitizer import server_env  # Only there in that build's tree.

        env = dict(server_env(env))
    return env


def group_members(group: int) -> list[int]:
    """The living processes of a process group; zombies are dead."""
    found = []
    for entry in os.listdir("/proc"):
        if not entry.isdigit():
            continue
        try:
            stat = Path(f"/proc/{entry}/stat").read_text()
        except OSError:
            continue
        state, _, pgrp = stat.rpartition(")")[2].split()[:3]
        if int(pgrp) == group and state not in "ZX":
            found.append(int(entry))
    return found


def wait_for_end(pid: int, deadline_s: float) -> bool:
    """Wait until a process that need not be our child has ended."""
    try:
        fd = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([fd], [], [], deadline_s)[0])
    finally:
        os.close(fd)


class Server:
    """A running server process and the means to talk to it."""

    def __init__(
        self,
        app: str,
        settings: Mapping[str, Any],
        *,
        env: Mapping[str, str] = {},
        pass_fds: Iterable[int] = (),
        limits: Mapping[str, int] = {},
    ) -> None:
        # A test on a busy machine may pause for longer than the default keepalive.
        settings = {"bind": "127.0.0.1:0", "keepalive": 60, **settings}
        process = {**limits, "workers": SERVING}
        words = [app, json.dumps(settings), json.dumps(process)]
        self._start(["tests.launch", *words], ROOT, env, pass_fds)

    def _start(
        self,
        module: list[str],
        cwd: Path,
        env: Mapping[str, str],
        pass_fds: Iterable[int] = (),
        prefix: Iterable[str] = (),
    ) -> None:
        """Start `python -m` in a session of its own."""
        self._lines = threading.Condition()
        self._stderr = ""
        self._ended = False
        self.checked = False
        self.process = subprocess.Popen(
            [*prefix, sys.executable, "-m", *module],
            cwd=cwd,
            env=environment(env),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            pass_fds=tuple(pass_fds),
            start_new_session=True,
        )
        self.pid = self.process.pid
        self._reader = threading.Thread(target=self._read_stderr, daemon=True)
        self._reader.start()
        self.addresses: list[str] = []

    def _read_stderr(self) -> None:
        assert self.process.stderr is not None
        with self.process.stderr as stream:
            while data := os.read(stream.fileno(), 65536):
                with self._lines:
                    self._stderr += data.decode("utf-8", "backslashreplace")
                    self._lines.notify_all()
        with self._lines:
            self._ended = True
            self._lines.notify_all()

    @property
    def stderr(self) -> str:
        """What the process has written to stderr so far."""
        with self._lines:
            return self._stderr

    def wait_for(self, pattern: str, deadline_s: float = DEADLINE_S) -> re.Match[str]:
        """Wait until stderr holds the pattern."""
        compiled = re.compile(pattern, re.MULTILINE)
        end = time.monotonic() + deadline_s
        with self._lines:
            while (found := compiled.search(self._stderr)) is None:
                left = end - time.monotonic()
                if self._ended or left <= 0 or not self._lines.wait(left):
                    raise ServerFailed(f"{pattern!r} is not in stderr:\n{self._stderr}")
        return found

    def wait_for_term(self) -> None:
        """Wait until SIGTERM was handled: the workers were told, as the master, or the
        app's thread where there is none, sleeps again."""
        self.wait_for("Handling signal: term")
        eventually(self.sleeps, "it sleeps")

    def sleeps(self) -> bool:
        """Whether the main thread neither runs nor is about to."""
        stat = Path(f"/proc/{self.pid}/stat").read_text()
        return stat.rpartition(")")[2].split()[0] == "S"

    def wait_until_listening(self) -> None:
        found = self.wait_for(LISTENING.pattern, START_S)
        assert int(found[1]) == int(found[3]) == self.pid
        self.addresses = found[2].split(",")
        if SERVING:
            self.wait_for(READY, START_S)
        if SANITIZED:
            from tests.sanitizer import maps_the_right_build

            assert maps_the_right_build(self.pid), "the ordinary build was started"

    @property
    def url(self) -> str:
        """The first address, as a URL."""
        return self.addresses[0]

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])

    def connect(self, address: str = "", receive_buffer: int = 0) -> Client:
        """A new connection to the first or the given address."""
        address = (address or self.url).removeprefix("uwsgi://")
        unix = address.startswith("unix:")
        family = (
            socket.AF_UNIX if unix else socket.AF_INET6 if "[" in address
            else socket.AF_INET
        )  # fmt: skip
        sock = socket.socket(family, socket.SOCK_STREAM)
        sock.settimeout(DEADLINE_S)
        if receive_buffer:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        try:
            if unix:
                sock.connect(address.removeprefix("unix:"))
            else:
                host, _, port = address.removeprefix("http://").rpartition(":")
                sock.connect((host.strip("[]"), int(port)))
        except BaseException:
            sock.close()
            raise
        return Client(sock)

    def rss_kib(self) -> int:
        """Resident memory of the process."""
        pages = int(Path(f"/proc/{self.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") // 1024

    def cpu_s(self) -> float:
        """CPU time the process has used."""
        stat = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(stat[11]) + int(stat[12])) / os.sysconf("SC_CLK_TCK")

    def open_files(self) -> int:
        return len(os.listdir(f"/proc/{self.pid}/fd"))

    def alive(self) -> bool:
        return self.process.poll() is None

    def wait(self) -> int:
        """Wait for the end that the test has asked for, and for its last words; returns
        the exit code."""
        try:
            code = self.process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            raise ServerFailed(
                f"the server did not end in {STOP_S} s:\n{self.stderr}"
            ) from None
        self._reader.join(5)  # Longer only where workers outlive a killed master.
        return code

    def stop(self, signum: int = signal.SIGTERM) -> int:
        """Send a signal to the process and wait for its end."""
        if self.alive():
            self.process.send_signal(signum)
        return self.wait()

    def check(self) -> None:
        """Raise when the process died or reported something; leave it running."""
        code = self.process.poll()
        if code is not None:
            self._reader.join(5)
            raise ServerFailed(f"died unasked, exit code {code}:\n{self.stderr}")
        self._check_reports()

    def _check_reports(self) -> None:
        stderr = self.stderr
        for sign in DISASTERS:
            if sign in stderr:
                raise ServerFailed(f"{sign!r} in stderr:\n{stderr}")

    def finish(self, killed: bool = False) -> None:
        """End it and judge it; kills what is left, then fails for it."""
        if self.checked:
            return
        self.checked = True
        ended_unasked = not killed and not self.alive()
        problems = []
        try:
            if killed:
                self.wait()
            else:
                code = self.stop()
                if ended_unasked:
                    problems.append(f"died unasked, exit code {code}")
                elif code != 0:
                    problems.append(f"exit code {code} after SIGTERM")
        except ServerFailed:
            problems.append(f"did not end in {STOP_S} s after SIGTERM")
            self.process.send_signal(signal.SIGABRT)  # faulthandler shows the stacks
            try:
                self.process.wait(5)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        left = self._wait_for_group()
        if left:
            problems.append(f"left processes behind: {left}")
            for pid in left:
                os.kill(pid, signal.SIGABRT)  # as above
                wait_for_end(pid, 5)
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        self._reader.join(DEADLINE_S)
        if problems:
            raise ServerFailed("; ".join(problems) + f":\n{self.stderr}")
        if not killed:
            self._check_reports()

    def _wait_for_group(self) -> list[int]:
        """Wait for the ends of what the process has started; returns who lives on."""
        end = time.monotonic() + DEADLINE_S
        while left := group_members(self.pid):
            patience = end - time.monotonic()
            if patience <= 0 or not wait_for_end(left[0], patience):
                break
        return left


def parent_of(pid: int) -> int:
    """The parent of a living process; 0 for one that is dead or gone."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return 0
    state, ppid = stat.rpartition(")")[2].split()[:2]
    return int(ppid) if state not in "ZX" else 0


def content(path: Path) -> bytes:
    """Of a file that may be gone or moved at any moment; nothing then."""
    try:
        return path.read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return b""


def children(pid: int) -> set[int]:
    """The living children of a process."""
    pids = (int(entry) for entry in os.listdir("/proc") if entry.isdigit())
    return {child for child in pids if parent_of(child) == pid}


def wait_until(
    true: Callable[[], object], why: Callable[[], str] = lambda: "it did not come true"
) -> None:
    """Look until it is so: for what cannot be waited for, like the process table."""
    end = time.monotonic() + DEADLINE_S
    while not true():
        assert time.monotonic() < end, why()
        time.sleep(0.01)


class Deployed(Server):
    """The command, as somebody has typed it in a directory of their own."""

    def __init__(
        self, *words: str, cwd: Path, prefix: Iterable[str] = (), **env: str
    ) -> None:
        path = str(Path(pywsgiserve.__file__).parents[1])
        self.cwd = cwd
        self.addresses = []
        environ = {"PYTHONPATH": path, **env}
        self._start(["pywsgiserve", *words], cwd, environ, prefix=prefix)

    def workers(self) -> set[int]:
        return children(self.pid)

    def wait_for_workers(self, count: int, but: Iterable[int] = ()) -> set[int]:
        """Wait until there are so many, and none of those that are to be gone."""
        gone = set(but)

        def there() -> bool:
            now = self.workers()
            return len(now) == count and not now & gone

        wait_until(
            there,
            lambda: f"{self.workers()} are not {count} without {gone}:\n{self.stderr}",
        )
        return self.workers()

    def wait_until_ready(self, count: int = 1) -> None:
        """Wait until it listens and its workers are there."""
        self.wait_until_listening()
        assert self.wait_for(READY, START_S)[0].endswith(f": {count}")

    def get(self, path: str = "/") -> Response:
        """A request on a connection of its own."""
        with self.connect() as client:
            return client.get(path, "Connection: close")


class Pipe:
    """A named pipe between a test and an app, with deadlines on the test's side."""

    def __init__(self, path: Path) -> None:
        self.path = path
        os.mkfifo(path)

    def __str__(self) -> str:
        return str(self.path)

    def write(self, text: str) -> None:
        """Write once the app has opened the pipe for reading."""
        end = time.monotonic() + DEADLINE_S
        while True:
            try:
                fd = os.open(self.path, os.O_WRONLY | os.O_NONBLOCK)
                break
            except OSError as error:
                if error.errno != errno.ENXIO or time.monotonic() > end:
                    raise
                time.sleep(0.001)
        with os.fdopen(fd, "w") as pipe:
            pipe.write(text)

    def read(self) -> str:
        """Wait until the app has written something."""
        end = time.monotonic() + DEADLINE_S
        while True:
            fd = os.open(self.path, os.O_RDONLY | os.O_NONBLOCK)
            try:
                left = max(0.0, end - time.monotonic())
                assert select.select([fd], [], [], left)[0], f"nothing in {self.path}"
                text = os.read(fd, 65536).decode()
            finally:
                os.close(fd)
            if text:  # Else it was the end of who had written before.
                return text
