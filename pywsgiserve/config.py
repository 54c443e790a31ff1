"""Every setting there is, its default, its bounds and its help. The only list."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pywsgiserve import checks, defaults
from pywsgiserve.checks import ConfigError, seconds, suggestion, whole
from pywsgiserve.later import LATER
from pywsgiserve.setting import Hook, Setting, described, hook, setting
from pywsgiserve.workers import names

__all__ = [
    "LATER",
    "NOT_YET",
    "SETTINGS",
    "Config",
    "ConfigError",
    "Setting",
    "checked",
    "is_ignored",
    "is_set",
]

SECTIONS = (
    "Config file",
    "Sockets",
    "Workers",
    "Requests",
    "Proxies",
    "Process",
    "Logs",
    "Checks",
    "Hooks",
)

# What the table has and the server cannot do yet: other values than the default are
# refused, or named in a warning and ignored. Take a row out when its feature lands.
REFUSE, WARN = "refuse", "warn"
NOT_YET: Mapping[str, str] = {}

# What the command does before there is a server; a program does it by itself.
COMMAND_ONLY = {"config", "wsgi_app", "chdir", "pythonpath", "raw_env"}
COMMAND_ONLY |= {"check_config", "print_config"}


# Which one it is, and not just an equal one, tells whether somebody has chosen it.
DEFAULT_BIND = ("127.0.0.1:8000",)


@dataclass(frozen=True)
class Config:
    """The settings of a server, checked."""

    config: str | None = setting(
        None,
        check=checks.optional_text,
        section="Config file",
        flags=("-c", "--config"),
        metavar="CONFIG",
        default_text="pywsgiserve.conf.py or gunicorn.conf.py, if there is one",
        help="""The config file: PATH, file:PATH or python:MODULE. Command line only.""",
    )
    wsgi_app: str | None = setting(
        None,
        check=checks.optional_text,
        section="Config file",
        help="""The app, MODULE or MODULE:CALLABLE or MODULE:FACTORY(...), unless the
        command line names one.""",
    )

    bind: tuple[str, ...] = setting(
        DEFAULT_BIND,
        check=checks.binds,
        section="Sockets",
        flags=("-b", "--bind"),
        metavar="ADDRESS",
        action="append",
        env="PORT",
        from_env=lambda port: f"0.0.0.0:{port}",
        default_text="127.0.0.1:8000, unless there is a uwsgi_bind",
        help="""Where to listen: HOST:PORT, :PORT, [V6]:PORT, unix:PATH or fd://N; give
        it again for more.""",
    )
    protocol: str = setting(
        "http",
        check=checks.one_of("http", "uwsgi"),
        section="Sockets",
        flags=("--protocol",),
        metavar="STRING",
        help="""What is spoken to the sockets of bind: http, or uwsgi, which is what
        nginx speaks after uwsgi_pass.""",
    )
    uwsgi_bind: tuple[str, ...] = setting(
        (),
        check=checks.optional_binds,
        section="Sockets",
        flags=("--uwsgi-socket",),
        metavar="ADDRESS",
        action="append",
        ours=True,
        help="""Where to listen for uwsgi, beside HTTP on those of bind; give it again for
        more.""",
    )
    uwsgi_allow_ips: tuple[str, ...] = setting(
        ("127.0.0.1", "::1"),
        check=checks.networks,
        section="Sockets",
        flags=("--uwsgi-allow-from",),
        metavar="STRING",
        help="""Addresses and networks that may speak uwsgi, "*" for all; others get a 403.
        Unix peers may.""",
    )
    socket_mode: int | None = setting(
        None,
        check=checks.optional_mode,
        section="Sockets",
        flags=("--socket-mode",),
        metavar="INT",
        ours=True,
        default_text="what umask leaves",
        help="Mode of the files of Unix sockets; octal with a leading 0.",
    )
    socket_user: int | None = setting(
        None,
        check=checks.user,
        section="Sockets",
        flags=("--socket-user",),
        metavar="USER",
        ours=True,
        default_text="the workers' user",
        help="Whose the files of Unix sockets are, a name or a number.",
    )
    socket_group: int | None = setting(
        None,
        check=checks.group,
        section="Sockets",
        flags=("--socket-group",),
        metavar="GROUP",
        ours=True,
        default_text="the workers' group",
        help="""The group of the files of Unix sockets, a name or a number: nginx's, with
        a socket_mode of 0660, and nobody else gets in.""",
    )
    backlog: int = setting(
        2048,
        check=whole(1),
        section="Sockets",
        flags=("--backlog",),
        metavar="INT",
        help="Connections that may wait to be accepted.",
    )
    reuse_port: bool = setting(
        False,
        check=checks.boolean,
        section="Sockets",
        flags=("--reuse-port",),
        action="true",
        help="""Let other servers of the same user listen at the same port (SO_REUSEPORT),
        and give each worker a socket of its own there. The kernel spreads connections
        over them without a look at who is idle.""",
    )
    defer_accept: bool = setting(
        False,
        check=checks.boolean,
        section="Sockets",
        flags=("--defer-accept",),
        action="true",
        ours=True,
        help="""Accept a TCP connection when its first bytes have come. A graceful stop
        cannot see who has connected and is silent.""",
    )

    workers: int = setting(
        1,
        check=checks.workers,
        section="Workers",
        flags=("-w", "--workers"),
        metavar="INT",
        env="WEB_CONCURRENCY",
        help="""How many worker processes to keep alive. Two to four per core is usual;
        "auto" is twice the CPUs and one: those that the process may run on, or as many
        as the CPU quota of its cgroup makes.""",
    )
    worker_class: str | type = setting(
        "sync",
        check=names.worker_class,
        section="Workers",
        flags=("-k", "--worker-class"),
        metavar="STRING",
        help="""How Python is run in a worker: sync, gthread, gevent, eventlet, tornado,
        asyncio, or a class, MODULE:CLASS; see workers.md.""",
    )
    threads: int = setting(
        1,
        check=whole(1, 10**4),
        section="Workers",
        flags=("--threads",),
        metavar="INT",
        help="""Threads of a worker that run the app: gthread, which sync becomes by it,
        asyncio and tornado.""",
    )
    worker_connections: int = setting(
        1000,
        check=whole(1, 10**6),
        section="Workers",
        flags=("--worker-connections",),
        metavar="INT",
        help="""Connections that a worker has open at a time, idle ones included. The
        server raises its soft limit of open files (ulimit -n) as far as that needs and
        the hard one allows.""",
    )
    max_requests: int = setting(
        0,
        check=whole(),
        section="Workers",
        flags=("--max-requests",),
        metavar="INT",
        help="Requests after which a worker is replaced; 0: never.",
    )
    max_requests_jitter: int = setting(
        0,
        check=whole(),
        section="Workers",
        flags=("--max-requests-jitter",),
        metavar="INT",
        help="""Up to so many requests more, drawn for each worker, so that not all are
        replaced at once.""",
    )
    max_worker_lifetime: float = setting(
        0.0,
        check=seconds,
        section="Workers",
        flags=("--max-worker-lifetime",),
        metavar="SECONDS",
        ours=True,
        help="""Time for which a worker serves until it is replaced; 0: for ever. Up to a
        tenth more, different for each, so that not all are replaced at once.""",
    )
    max_worker_rss: int = setting(
        0,
        check=whole(at_most=10**9),
        section="Workers",
        flags=("--max-worker-rss",),
        metavar="MIB",
        ours=True,
        help="""Resident memory, in MiB, from which on a worker is replaced; 0: it is not
        looked at. It is, by the master, once a second.""",
    )
    max_surge: int = setting(
        0,
        check=whole(at_most=512),
        section="Workers",
        flags=("--max-surge",),
        metavar="INT",
        ours=True,
        help="""How many processes beyond workers may be there while workers are replaced;
        0: as many as workers. A reload is kept when so many new ones serve; those that
        fail later are tried again.""",
    )
    timeout: float = setting(
        30.0,
        check=seconds,
        section="Workers",
        flags=("-t", "--timeout"),
        metavar="SECONDS",
        help="""How long a worker may be busy with a request, or with loading the app, until
        it is killed and replaced; 0: as long as it likes. Waiting is not busy, but
        who waits must give a sign of life within that time.""",
    )
    request_timeout: float = setting(
        0.0,
        check=seconds,
        section="Workers",
        flags=("--request-timeout",),
        metavar="SECONDS",
        ours=True,
        help="""How long an app may take for one request, without its waiting for the client;
        then the client gets a 504, or the end of what was begun, the app is interrupted
        wherever it is, and the worker is replaced; 0: no limit.""",
    )
    slow_request_timeout: float = setting(
        0.0,
        check=seconds,
        section="Workers",
        flags=("--slow-request-timeout",),
        metavar="SECONDS",
        ours=True,
        help="""After how long of that time the log tells which request it is and where it
        stands, once; 0: never.""",
    )
    queue_timeout: float = setting(
        0.0,
        check=seconds,
        section="Workers",
        flags=("--queue-timeout",),
        metavar="SECONDS",
        ours=True,
        help="""How long a whole request may wait in a worker for the app to be free; then the
        client gets a 503 with Retry-After, which tells a proxy to try elsewhere; 0: as
        long as it takes.""",
    )
    graceful_timeout: float = setting(
        30.0,
        check=seconds,
        section="Workers",
        flags=("--graceful-timeout",),
        metavar="SECONDS",
        help="How long a stop waits for the requests that have begun.",
    )
    drain_delay: float = setting(
        0.0,
        check=seconds,
        section="Workers",
        flags=("--drain-delay",),
        metavar="SECONDS",
        ours=True,
        help="""How long connections are still accepted after SIGTERM, for load balancers
        that hear of it late; answers say close meanwhile. A second one ends it.""",
    )
    preload_app: bool = setting(
        False,
        check=checks.boolean,
        section="Workers",
        flags=("--preload",),
        action="true",
        help="""Load the app once, before the workers are forked: they share its memory
        and start at once.""",
    )

    keepalive: float = setting(
        2.0,
        check=seconds,
        section="Requests",
        flags=("--keep-alive",),
        metavar="SECONDS",
        help="""How long an idle connection waits for its next request; 0 ends each
        connection after one request.""",
    )
    header_timeout: float = setting(
        30.0,
        check=seconds,
        section="Requests",
        flags=("--header-timeout",),
        metavar="SECONDS",
        ours=True,
        help="Time for a whole request head (408); 0: no limit.",
    )
    body_timeout: float = setting(
        30.0,
        check=seconds,
        section="Requests",
        flags=("--body-timeout",),
        metavar="SECONDS",
        ours=True,
        help="Time between two pieces of a request body (408); 0: no limit.",
    )
    send_timeout: float = setting(
        60.0,
        check=seconds,
        section="Requests",
        flags=("--send-timeout",),
        metavar="SECONDS",
        ours=True,
        help="Time for which a client may take nothing of its response; 0: no limit.",
    )
    limit_request_line: int = setting(
        4094,
        check=whole(),
        section="Requests",
        flags=("--limit-request-line",),
        metavar="INT",
        help="Bytes of a request line (414), at most 8190, which 0 stands for too.",
    )
    limit_request_fields: int = setting(
        100,
        check=whole(),
        section="Requests",
        flags=("--limit-request-fields",),
        metavar="INT",
        help="Header fields of a request (431), at most 32768, which 0 stands for too.",
    )
    limit_request_field_size: int = setting(
        8190,
        check=whole(),
        section="Requests",
        flags=("--limit-request-field_size", "--limit-request-field-size"),
        metavar="INT",
        help="Bytes of a header field with its line end (431); 0 stands for 8190.",
    )
    limit_request_body: int = setting(
        0,
        check=checks.size,
        section="Requests",
        flags=("--limit-request-body",),
        metavar="BYTES",
        ours=True,
        help="Bytes of a request body (413); 0: no limit.",
    )
    request_buffering: bool = setting(
        True,
        check=checks.unless_none,
        section="Requests",
        flags=("--no-request-buffering",),
        action="false",
        ours=True,
        help="""Receive the whole body before the app is called. Without, the app reads it
        as it comes, and a slow client holds the app.""",
    )
    body_buffer_size: int = setting(
        1024 * 1024,
        check=checks.size,
        section="Requests",
        flags=("--body-buffer-size",),
        metavar="BYTES",
        ours=True,
        help="Bytes of a request body that are kept in memory; longer ones go to a file.",
    )
    response_spool_limit: int = setting(
        256 * 1024 * 1024,
        check=checks.size,
        section="Requests",
        flags=("--response-spool-limit",),
        metavar="BYTES",
        ours=True,
        help="""Bytes of a response that a generator may run ahead of a slow client, in a
        file; beyond, the app waits.""",
    )
    tmp_upload_dir: str | None = setting(
        None,
        check=checks.writable_directory,
        section="Requests",
        flags=("--tmp-upload-dir",),
        metavar="DIR",
        ours=True,
        help="""Directory for the files of long bodies and responses; without, the
        system's.""",
    )
    sendfile: bool = setting(
        True,
        check=checks.unless_none,
        section="Requests",
        flags=("--no-sendfile",),
        action="false",
        env="SENDFILE",
        from_env=defaults.yes,
        help="Send wsgi.file_wrapper files from kernel to kernel.",
    )
    server_header: str = setting(
        "pywsgiserve",
        check=checks.server_header,
        section="Requests",
        flags=("--server-header",),
        metavar="STRING",
        ours=True,
        help='The field Server of each response; "" or False leaves it out.',
    )

    forwarded_allow_ips: tuple[str, ...] = setting(
        check=checks.networks,
        factory=defaults.allow_ips,
        section="Proxies",
        flags=("--forwarded-allow-ips",),
        metavar="STRING",
        env="FORWARDED_ALLOW_IPS",
        from_env=str,
        default_text="127.0.0.1,::1",
        help="""Addresses and networks of trusted peers, "*" for all. Unix peers are
        trusted.""",
    )
    secure_scheme_headers: Mapping[str, str] = setting(
        check=checks.scheme_headers,
        factory=defaults.scheme_headers,
        section="Proxies",
        help="Fields, and their values, by which a trusted peer says https.",
    )
    forwarder_headers: tuple[str, ...] = setting(
        ("SCRIPT_NAME", "PATH_INFO"),
        check=checks.header_names,
        section="Proxies",
        flags=("--forwarder-headers",),
        metavar="STRING",
        help="Names with underscores that are taken from trusted peers all the same.",
    )
    header_map: str = setting(
        "drop",
        check=checks.header_map,
        section="Proxies",
        flags=("--header-map",),
        metavar="STRING",
        help="""What becomes of header fields whose names have an underscore: drop, refuse
        (400) or dangerous (the app sees them).""",
    )

    chdir: str = setting(
        check=checks.directory,
        factory=defaults.chdir,
        section="Process",
        flags=("--chdir",),
        metavar="DIR",
        default_text="where it is started",
        help="Directory to work in; the app is imported from it.",
    )
    pythonpath: tuple[str, ...] = setting(
        (),
        check=checks.texts,
        section="Process",
        flags=("--pythonpath",),
        metavar="STRING",
        help="Directories to import from, with commas between; the last comes first.",
    )
    raw_env: tuple[str, ...] = setting(
        (),
        check=checks.environment,
        section="Process",
        flags=("-e", "--env"),
        metavar="ENV",
        action="append",
        help="NAME=VALUE for the environment of the app; give it again for more.",
    )
    daemon: bool = setting(
        False,
        check=checks.boolean,
        section="Process",
        flags=("-D", "--daemon"),
        action="true",
        help="Serve in the background; the command ends when the server is up.",
    )
    pidfile: str | None = setting(
        None,
        check=checks.path,
        section="Process",
        flags=("-p", "--pid"),
        metavar="FILE",
        help="A file for the number of the master process.",
    )
    user: int | None = setting(
        None,
        check=checks.user,
        section="Process",
        flags=("-u", "--user"),
        metavar="USER",
        default_text="who starts it",
        help="The user that the workers run as, a name or a number.",
    )
    group: int | None = setting(
        None,
        check=checks.group,
        section="Process",
        flags=("-g", "--group"),
        metavar="GROUP",
        default_text="the one of the user",
        help="The group that the workers run as, a name or a number.",
    )
    initgroups: bool = setting(
        False,
        check=checks.boolean,
        section="Process",
        flags=("--initgroups",),
        action="true",
        help="Give the workers all groups of their user; without, they have one.",
    )
    no_new_privs: bool = setting(
        False,
        check=checks.boolean,
        section="Process",
        flags=("--no-new-privs",),
        action="true",
        ours=True,
        help="""Let no program that a worker starts have more rights than the worker
        (sudo, setuid), whatever the app does.""",
    )
    umask: int = setting(
        0,
        check=checks.mode,
        section="Process",
        flags=("-m", "--umask"),
        metavar="INT",
        help="Mode bits that Unix sockets do not get; octal with a leading 0.",
    )
    proc_name: str | None = setting(
        None,
        check=checks.optional_text,
        section="Process",
        flags=("-n", "--name"),
        metavar="STRING",
        default_text="the app",
        help="The name that the process list shows.",
    )

    accesslog: str | None = setting(
        None,
        check=checks.path,
        section="Logs",
        flags=("--access-logfile",),
        metavar="FILE",
        help='A file for a line a request; "-" is stdout. Without, there is none.',
    )
    access_log_format: str = setting(
        '%(h)s %(l)s %(u)s %(t)s "%(r)s" %(s)s %(b)s "%(f)s" "%(a)s"',
        check=checks.log_format,
        section="Logs",
        flags=("--access-logformat",),
        metavar="STRING",
        help="What stands in such a line.",
    )
    errorlog: str = setting(
        "-",
        check=checks.error_log,
        section="Logs",
        flags=("--error-logfile", "--log-file"),
        metavar="FILE",
        help='A file for what happens and what goes wrong; "-" is stderr.',
    )
    loglevel: str = setting(
        "info",
        check=checks.level,
        section="Logs",
        flags=("--log-level",),
        metavar="LEVEL",
        help="From where on it is logged: debug, info, warning, error or critical.",
    )
    capture_output: bool = setting(
        False,
        check=checks.boolean,
        section="Logs",
        flags=("--capture-output",),
        action="true",
        help="Send what the app prints to the error log's file.",
    )

    check_config: bool = setting(
        False,
        check=checks.boolean,
        section="Checks",
        flags=("--check-config",),
        action="true",
        help="Check the settings, load the app, and end.",
    )
    print_config: bool = setting(
        False,
        check=checks.boolean,
        section="Checks",
        flags=("--print-config",),
        action="true",
        help="Print each setting and where its value is from, then do that check.",
    )

    nworkers_changed: Hook | None = hook(
        "server",
        "new_value",
        "old_value",
        help="""In the master, when the number of workers is set: at the start (the old
        one is None), by a reload, by signals and by hooks.""",
    )
    on_starting: Hook | None = hook(
        "server", help="The master is about to set itself up."
    )
    when_ready: Hook | None = hook(
        "server", help="The master listens, and no worker is forked yet."
    )
    pre_fork: Hook | None = hook(
        "server", "worker", help="In the master, before a worker is forked."
    )
    post_fork: Hook | None = hook(
        "server", "worker", help="In the worker, right after the fork."
    )
    post_worker_init: Hook | None = hook(
        "worker", help="In the worker, when it has loaded the app."
    )
    pre_request: Hook | None = hook(
        "worker", "req", help="In the worker, before a request is given to the app."
    )
    post_request: Hook | None = hook(
        "worker",
        "req",
        "environ",
        "resp",
        at_least=2,
        help="""In the worker, after a request. The last one or two arguments may be left
        out.""",
    )
    worker_int: Hook | None = hook(
        "worker", help="In the worker, when SIGINT or SIGQUIT ends it."
    )
    worker_abort: Hook | None = hook(
        "worker", help="In the worker, when it is late: see timeout."
    )
    child_exit: Hook | None = hook(
        "server", "worker", help="In the master, when a worker has ended."
    )
    on_reload: Hook | None = hook(
        "server",
        help="In the master, when SIGHUP has brought new settings, before their workers.",
    )
    pre_exec: Hook | None = hook(
        "server",
        help="""In the process that SIGUSR2 has forked, before it executes the new
        master.""",
    )
    worker_exit: Hook | None = hook(
        "server", "worker", help="In the worker, the last thing before it ends."
    )
    on_exit: Hook | None = hook(
        "server", help="In the master, the last thing before it ends."
    )

    @classmethod
    def from_settings(cls, settings: Mapping[str, Any]) -> Config:
        """Check what run() is given; an unknown name is an error with a suggestion."""
        values = {n: checked(n, v) for n, v in settings.items() if n not in LATER}
        for name in COMMAND_ONLY & values.keys():
            if is_set(name, values[name]):
                raise ConfigError(
                    f"{name}: for the command line and config files only, "
                    f"got {settings[name]!r}"
                )
        idle = [n for n, v in {**settings, **values}.items() if is_ignored(n, v)]
        if idle:
            text = f"not supported yet, ignored: {', '.join(idle)}"
            warnings.warn(text, stacklevel=3)
        return cls(**values)


SETTINGS: Mapping[str, Setting] = {
    field.name: dataclasses.replace(field.metadata["row"], name=field.name)
    for field in dataclasses.fields(Config)
}
Config.__doc__ = f"{Config.__doc__}\n{described(SETTINGS.values())}\n"


def is_set(name: str, value: object) -> bool:
    """Whether a checked value is another one than the default."""
    if name in LATER:
        return LATER[name].is_set(value)
    return bool(value != SETTINGS[name].default())


def is_ignored(name: str, value: object) -> bool:
    """Whether a checked value asks for something that is not there yet."""
    return is_set(name, value) and (name in LATER or NOT_YET.get(name) == WARN)


def checked(name: str, value: object) -> Any:
    """`value` in the form that `Config` has it; `ConfigError` when it cannot be used."""
    row = SETTINGS.get(name)
    if row is None:
        hint = suggestion(name, SETTINGS)
        raise ConfigError(f"{name}: no such setting{hint}")
    result = row.check(name, value)
    if NOT_YET.get(name) == REFUSE and is_set(name, result):
        raise ConfigError(
            f"{name}: not supported yet, got {value!r}; "
            f"the only choice is {row.default()!r}"
        )
    return result
