"""From checked settings to a running server."""

from __future__ import annotations

import atexit
import contextlib
import dataclasses
import functools
import os
import re
import signal
import sys
import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NoReturn

from pywsgiserve import _core, frames, inheritance, logs, workers
from pywsgiserve._version import __version__
from pywsgiserve.config import DEFAULT_BIND, Config, ConfigError, is_set
from pywsgiserve.hooks import (
    AfterRequest,
    BeforeRequest,
    Log,
    Worker,
    after_request,
    before_request,
)
from pywsgiserve.inheritance import Inheritance
from pywsgiserve.systemd import Notify

LINE_MAX = 8190
FIELDS_MAX = 32768
FIELD_SIZE_MAX = 8190

# User, group, and the user whose further groups are taken too.
Owner = tuple[int, int, "str | None"]
App = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]


@dataclass(frozen=True)
class NativeConfig:
    """What the core reads, under the names it reads."""

    bind: tuple[str, ...]
    uwsgi_bind: tuple[str, ...]
    backlog: int
    worker_connections: int
    keepalive: float
    header_timeout: float
    body_timeout: float
    send_timeout: float
    request_timeout: float
    slow_request_timeout: float
    queue_timeout: float
    graceful_timeout: float
    limit_request_line: int
    limit_request_fields: int
    limit_request_field_size: int
    limit_request_body: int
    request_buffering: bool
    body_buffer_size: int
    response_spool_limit: int
    spool_dir: str | None
    sendfile: bool
    server_header: str
    header_map: str
    forwarder_headers: tuple[str, ...]
    scheme_fields: tuple[tuple[str, str], ...]
    forwarded_allow_ips: tuple[str, ...]
    uwsgi_allow_ips: tuple[str, ...]
    server_software: str
    script_name: str
    access_log_fd: int
    access_log_format: str
    umask: int
    socket_mode: int
    socket_uid: int
    socket_gid: int
    defer_accept: bool
    reuse_port: bool
    worker_slots: int
    multiprocess: bool
    max_requests: int
    threads: int
    hosted: bool
    before_request: BeforeRequest | None
    after_request: AfterRequest | None
    access_log_memory: memoryview | None
    errors: Any


def up_to(value: int, most: int) -> int:
    """A limit as Gunicorn reads it: 0 and too much are the most there can be."""
    return min(value, most) if value > 0 else most


def spool_directory(config: Config) -> str | None:
    """Where long bodies go; None, with a word in the log, when nothing is writable."""
    if config.tmp_upload_dir is not None:
        return config.tmp_upload_dir
    try:
        return tempfile.gettempdir()
    except FileNotFoundError:
        logs.line(
            "WARNING", "No directory is writable: long bodies are kept in memory."
        )
        return None


def binds(config: Config) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Where HTTP is spoken, and where uwsgi: for nobody but nginx, no HTTP by default."""
    if config.protocol == "uwsgi":
        only = bool(config.uwsgi_bind) and config.bind is DEFAULT_BIND
        return (), (() if only else config.bind) + config.uwsgi_bind
    if config.uwsgi_bind and config.bind is DEFAULT_BIND:
        return (), config.uwsgi_bind
    return config.bind, config.uwsgi_bind


def socket_owner(config: Config, owner: Owner | None) -> tuple[int, int]:
    """Whose the files of Unix sockets are; -1: who makes them."""
    uid, gid = (-1, -1) if owner is None else owner[:2]
    return (
        uid if config.socket_user is None else config.socket_user,
        gid if config.socket_group is None else config.socket_group,
    )


def warn_of_idle_settings(config: Config) -> None:
    """Say which settings were made though nothing here is made by them."""
    for sentence in workers.idle_settings(config):
        logs.line("WARNING", sentence)
    http, uwsgi = binds(config)
    if not any(address.startswith("unix:") for address in http + uwsgi):
        for name in ("socket_mode", "socket_user", "socket_group"):
            if is_set(name, getattr(config, name)):
                logs.line(
                    "WARNING", f"{name}: no Unix socket is made, it has no effect"
                )


def native(
    config: Config,
    access_log_fd: int,
    access_log_memory: memoryview | None = None,
    *,
    worker: Worker | None = None,
    owner: Owner | None = None,
) -> NativeConfig:
    """For a `worker`, or for what opens the sockets, which `owner` then has.

    `access_log_memory` is shared with who drains it: see `logs.shared_rings`.
    """
    http, uwsgi = binds(config)
    socket_uid, socket_gid = socket_owner(config, owner)
    return NativeConfig(
        bind=http,
        uwsgi_bind=uwsgi,
        backlog=config.backlog,
        worker_connections=config.worker_connections,
        keepalive=config.keepalive,
        header_timeout=config.header_timeout,
        body_timeout=config.body_timeout,
        send_timeout=config.send_timeout,
        request_timeout=config.request_timeout,
        slow_request_timeout=config.slow_request_timeout,
        queue_timeout=config.queue_timeout,
        graceful_timeout=config.graceful_timeout,
        limit_request_line=up_to(config.limit_request_line, LINE_MAX),
        limit_request_fields=up_to(config.limit_request_fields, FIELDS_MAX),
        limit_request_field_size=config.limit_request_field_size or FIELD_SIZE_MAX,
        limit_request_body=config.limit_request_body,
        request_buffering=config.request_buffering,
        body_buffer_size=config.body_buffer_size,
        response_spool_limit=config.response_spool_limit,
        spool_dir=spool_directory(config),
        sendfile=config.sendfile,
        server_header=config.server_header,
        header_map=config.header_map,
        forwarder_headers=config.forwarder_headers,
        scheme_fields=tuple(
            (name.upper().replace("-", "_"), value)
            for name, value in config.secure_scheme_headers.items()
        ),
        forwarded_allow_ips=config.forwarded_allow_ips,
        uwsgi_allow_ips=config.uwsgi_allow_ips,
        server_software=f"pywsgiserve/{__version__}",
        script_name=os.environ.get("SCRIPT_NAME", ""),
        access_log_fd=access_log_fd,
        access_log_format=re.sub(  # A number is written in one way.
            r"(%\([TDMB]\))d", r"\1s", config.access_log_format
        ),
        umask=config.umask,
        socket_mode=-1 if config.socket_mode is None else config.socket_mode,
        socket_uid=socket_uid,
        socket_gid=socket_gid,
        defer_accept=config.defer_accept,
        reuse_port=config.reuse_port,
        worker_slots=config.workers,
        multiprocess=config.workers > 1,
        max_requests=0 if worker is None else worker.counted_requests,
        threads=workers.threads(config),
        hosted=workers.find(config).hosted,
        before_request=None if worker is None else before_request(worker),
        after_request=None if worker is None else after_request(worker),
        access_log_memory=access_log_memory,
        errors=logs.errors,
    )


# The servers of this process that run now; a child that an app forks lets go of them.
running: list[_core.Server] = []


# Those whose other thread a fork has stopped; threads of an app may fork at once.
paused: list[list[_core.Server]] = []


def abandon_in_child() -> None:
    paused.clear()
    for server in running:
        server.abandon()
    if running:
        # Who has forked is the main thread here, whatever a patched threading says.
        signal.set_wakeup_fd(-1)  # its number may be any file soon
        for signum in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1):
            signal.signal(signum, signal.SIG_DFL)


# A child is to find the servers as they are between two things that they do. Partial
# objects of C functions, since a handler of the app may raise in any line of Python.
os.register_at_fork(
    before=functools.partial(_core.pause_for_fork, running, paused),
    after_in_parent=functools.partial(_core.resume_after_fork, paused),
    after_in_child=abandon_in_child,
)


def describe(address: str, protocol: str) -> str:
    """As in nginx: a Unix socket for HTTP needs no word about it."""
    if protocol == "http" and address.startswith("unix:"):
        return address
    return f"{protocol}://{address}"


@contextmanager
def signals_held_back(signums: Iterable[signal.Signals]) -> Iterator[None]:
    """They come when the block has ended, not in its middle."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signums)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def draining(delay: float) -> str:
    return f"Draining: connections are accepted for {delay:g} s more"


@contextmanager
def stopping_signals(
    server: _core.Server, access_log: logs.AccessLog, drain_delay: float
) -> Iterator[None]:
    """SIGTERM stops gracefully, after `drain_delay`, which a second one ends; the next
    one stops at once, as SIGINT does; a second SIGINT interrupts the app too. SIGUSR1
    opens the logs again.

    Only the main thread can have signal handlers; elsewhere there are none.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    delays = [0.0, drain_delay] if drain_delay else [0.0]

    def on_term(signum: int, frame: object) -> None:
        logs.line("INFO", "Handling signal: term")
        if not delays:
            logs.line("INFO", "Quick shutdown requested")
            server.stop(graceful=False)
            return
        delay = delays.pop()
        server.stop(graceful=True, delay=delay)
        if delay:
            logs.line("INFO", draining(delay))

    def on_int(signum: int, frame: object) -> None:
        server.stop(graceful=False)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        logs.line("INFO", "Handling signal: int")

    def on_usr1(signum: int, frame: object) -> None:
        logs.line("INFO", "Handling signal: usr1")
        logs.reopen()
        access_log.reopen(server)

    previous = {
        signal.SIGTERM: signal.signal(signal.SIGTERM, on_term),
        signal.SIGINT: signal.signal(signal.SIGINT, on_int),
        signal.SIGUSR1: signal.signal(signal.SIGUSR1, on_usr1),
    }
    previous_fd = signal.set_wakeup_fd(server.wakeup_fd, warn_on_full_buffer=False)
    try:
        yield
    finally:
        with signals_held_back(previous):
            signal.set_wakeup_fd(previous_fd)
            for signum, handler in previous.items():
                # None: it was not installed from Python, and cannot be put back.
                signal.signal(signum, signal.SIG_DFL if handler is None else handler)


# What only a master can do.
NEED_A_MASTER = (
    "child_exit",
    "daemon",
    "group",
    "initgroups",
    "max_requests",
    "max_requests_jitter",
    "max_surge",
    "max_worker_lifetime",
    "max_worker_rss",
    "no_new_privs",
    "nworkers_changed",
    "on_exit",
    "on_reload",
    "on_starting",
    "pidfile",
    "post_fork",
    "pre_exec",
    "pre_fork",
    "proc_name",
    "request_timeout",
    "slow_request_timeout",
    "threads",
    "timeout",
    "user",
    "when_ready",
    "worker_abort",
    "worker_class",
    "worker_exit",
    "worker_int",
)


def only_for_masters(config: Config) -> list[str]:
    """The settings that one process cannot fulfil."""
    several = ["workers"] if config.workers > 1 else []
    return several + [n for n in NEED_A_MASTER if is_set(n, getattr(config, n))]


def run(app: App, **settings: Any) -> None:
    """Serve `app` until SIGTERM or SIGINT.

    It is served in this process, unless there are to be several, or a setting needs a
    master beside its worker (`pidfile`, `timeout`, `user` and so on). Settings are those
    of `pywsgiserve.config.Config`; one that is wrong raises `ConfigError`.
    In a thread other than the main one it gets no signals, and nothing ends it:
    `pywsgiserve.Server` is the one for threads and tests.
    """
    if not callable(app):
        raise ConfigError(f"app: expected a WSGI callable, got {app!r}")
    config = Config.from_settings(settings)
    if only_for_masters(config):
        serve_with_workers(app, config)
    else:
        serve_here(app, config)


def serve_with_workers(app: App, config: Config) -> None:
    # Here, because a server of one process needs none of it.
    from pywsgiserve import master

    pid = os.getpid()
    config = dataclasses.replace(config, preload_app=False)  # It is loaded already.
    try:
        code = master.serve(config, lambda: app)
    except BaseException as error:
        if os.getpid() != pid:
            logs.exception("Exception in a process of the server", error)
            end_process(1)
        raise
    if os.getpid() != pid:
        end_process(code)
    if code != 0:
        raise SystemExit(code)


def end_process(code: int) -> NoReturn:
    """End a forked process without a step back into the program that has called run()."""
    threading._shutdown()  # type: ignore[attr-defined]  # As multiprocessing ends.
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            with contextlib.suppress(OSError, ValueError):
                stream.flush()
    os._exit(code)


def serve_here(app: App, config: Config) -> None:
    """Bind, serve until a signal says otherwise, close."""
    left = inheritance.take()
    logs.open(config)
    warn_of_idle_settings(config)
    access_log = logs.AccessLog(config)
    worker = Worker(1, config, Log(logs.line))
    worker.pid = os.getpid()
    worker.wsgi = app
    for warning in left.warnings:
        logs.line("WARNING", warning)
    try:
        if config.post_worker_init is not None:
            config.post_worker_init(worker)
        with telling_systemd(left.notify):
            settings = native(config, access_log.fd, worker=worker)
            with inherited_listeners(config, settings, left) as sockets:
                here = Here(config, settings, worker, access_log)
                serve(app, here, sockets, left.notify)
    finally:
        access_log.close()
        logs.close()


@dataclass(frozen=True)
class Here:
    """What a server of one process is made of."""

    config: Config
    native: NativeConfig
    worker: Worker
    access_log: logs.AccessLog


@contextmanager
def telling_systemd(notify: Notify | None) -> Iterator[None]:
    if notify is not None and notify.watchdog_usec:
        logs.line(
            "WARNING",
            "WATCHDOG_USEC: one process cannot tell whether it is well, ignored; two "
            "workers or a timeout give it a master that can",
        )
    try:
        yield
    finally:
        if notify is not None:
            notify.tell("STOPPING=1")


@contextmanager
def inherited_listeners(
    config: Config, settings: NativeConfig, left: Inheritance
) -> Iterator[_core.Listeners | None]:
    """The sockets that are there already; None: they are still to be opened."""
    if not left.sockets:
        yield None
        return
    try:
        sockets = _core.Listeners(settings, left.inherited(config))
    except ValueError as error:
        raise ConfigError(str(error)) from None
    try:
        left.say(config, sockets.addresses)
        yield sockets
    finally:
        sockets.close()


def serve(
    app: App,
    here: Here,
    sockets: _core.Listeners | None,
    notify: Notify | None,
) -> None:
    try:
        server = _core.Server(here.native, logs.exception, sockets)
    except ValueError as error:
        raise ConfigError(str(error)) from None
    here.worker.count = lambda: server.requests
    running.append(server)
    try:
        with stopping_signals(server, here.access_log, here.config.drain_delay):
            where = ",".join(map(describe, server.addresses, server.protocols))
            logs.line("INFO", f"Listening at: {where} ({os.getpid()})")
            if notify is not None:
                notify.tell("READY=1\nSTATUS=Serving")
            frames.in_thread(server.serve, app)
        logs.line("INFO", "Shutting down")
    finally:
        running.remove(server)
        server.close()
