"""Fixtures for black-box tests: `serve` starts a server of one's own, `standing` shares one."""

from __future__ import annotations

import contextlib
import json
import os
import resource
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.process import SERVING, WORKER_CLASS, WORKERS, Server


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "heavy: takes more than some twenty seconds")
    config.addinivalue_line("markers", "timeout: seconds (pytest-timeout)")
    config.addinivalue_line("markers", "one_process: looks into the server's process")
    config.addinivalue_line(
        "markers",
        "contract(cases=n): what each class of workers keeps; of many cases, so many",
    )
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and soft < hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


@pytest.fixture(scope="session", autouse=True)
def no_stale_bytecode() -> None:
    """A test may write its app twice in a second: its servers keep no bytecode of it."""
    os.environ["PYTHONDONTWRITEBYTECODE"] = "1"


def surplus(items: list[pytest.Item]) -> Iterator[pytest.Item]:
    """Cases beyond those that each class of workers has to pass, evenly picked."""
    tests: dict[str, list[pytest.Item]] = {}
    for item in items:
        marker = item.get_closest_marker("contract")
        if marker is not None and "cases" in marker.kwargs:
            tests.setdefault(item.nodeid.partition("[")[0], []).append(item)
    for cases in tests.values():
        most = cases[0].get_closest_marker("contract").kwargs["cases"]
        kept = {i * len(cases) // most for i in range(most)}
        yield from (case for i, case in enumerate(cases) if i not in kept)


def pytest_collection_modifyitems(
    config: pytest.Config, items: list[pytest.Item]
) -> None:
    if WORKER_CLASS and config.getoption("markexpr") == "contract":
        left_out = set(surplus(items))
        config.hook.pytest_deselected(items=list(left_out))
        items[:] = [item for item in items if item not in left_out]
    skip = pytest.mark.skip(reason="looks into one process: not with PWS_WORKERS")
    for item in items:
        # What is in the contract sees no difference between a process and its worker.
        alone = not WORKERS and item.get_closest_marker("contract")
        if SERVING and item.get_closest_marker("one_process") and not alone:
            item.add_marker(skip)


def skip_what_cannot_be(settings: Mapping[str, Any]) -> None:
    """A loop cannot wait for a body; that this is refused has its own test."""
    buffering = settings.get("request_buffering", True)
    if WORKER_CLASS in ("asyncio", "tornado") and not buffering:
        pytest.skip(f"no request_buffering: not with {WORKER_CLASS}")


@contextlib.contextmanager
def running(
    app: str,
    *,
    env: Mapping[str, str] = {},
    pass_fds: tuple[int, ...] = (),
    limits: Mapping[str, int] = {},
    killed: bool = False,
    **settings: Any,
) -> Iterator[Server]:
    """A server for the length of a with block; judged at its end.

    killed=True is for a test that ends the process itself, and judges that end itself.
    """
    skip_what_cannot_be(settings)
    server = Server(app, settings, env=env, pass_fds=pass_fds, limits=limits)
    try:
        server.wait_until_listening()
        yield server
    except BaseException as error:
        try:
            server.finish(killed and not server.alive())
        except AssertionError as also:
            raise also from error
        print(f"--- stderr of {app} ---\n{server.stderr}")
        raise
    server.finish(killed)


@pytest.fixture
def serve() -> Callable[..., contextlib.AbstractContextManager[Server]]:
    """serve(app_name, **settings): a context manager with a server of the test's own."""
    return running


class Standing:
    """Servers that many tests share, one for each app and settings."""

    def __init__(self) -> None:
        self._servers: dict[str, Server] = {}
        self.used: set[str] = set()

    def __call__(self, app: str, **settings: Any) -> Server:
        key = json.dumps([app, settings], sort_keys=True)
        server = self._servers.get(key)
        if server is None:
            skip_what_cannot_be(settings)
            server = Server(app, settings)
            try:
                server.wait_until_listening()
            except BaseException:
                server.finish(killed=not server.alive())
                raise
            self._servers[key] = server
        self.used.add(key)
        return server

    def check_used(self) -> None:
        """Blame a death or a report on the test that has just used the server."""
        for key in self.used:
            try:
                self._servers[key].check()
            except AssertionError:
                server = self._servers.pop(key)
                with contextlib.suppress(AssertionError):
                    server.finish()
                raise
        self.used.clear()

    def finish(self) -> None:
        for server in self._servers.values():
            server.finish()


@pytest.fixture(scope="session")
def standing_servers() -> Iterator[Standing]:
    servers = Standing()
    yield servers
    servers.finish()


@pytest.fixture
def standing(standing_servers: Standing) -> Iterator[Standing]:
    """standing(app_name, **settings): a running server, shared with other tests."""
    standing_servers.used.clear()
    yield standing_servers
    standing_servers.check_used()


@pytest.fixture
def short_path() -> Iterator[Path]:
    """An empty directory with a name short enough for a Unix socket in it."""
    with tempfile.TemporaryDirectory(prefix="pws") as name:
        yield Path(name)


@pytest.fixture(params=["whole", "each byte", "with another request behind it"])
def manner(request: pytest.FixtureRequest) -> str:
    """How the bytes of a raw request travel."""
    return str(request.param)
