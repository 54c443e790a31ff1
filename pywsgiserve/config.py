"""Every setting there is, its default, its bounds and its help. The only list."""

from __future__ import annotations

import dataclasses
import difflib
import ipaddress
import math
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

# What a check is given: the name of the setting and the value that somebody wants.
Check = Callable[[str, Any], Any]

# RFC 9110 5.6.2.
TOKEN = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")


class ConfigError(ValueError):
    """A setting that cannot be used; its text names the setting and the value."""


def setting(
    default: Any = dataclasses.MISSING,
    *,
    check: Check,
    help: str,
    factory: Callable[[], Any] | None = None,
) -> Any:
    """A field of `Config`: `factory` makes a default that depends on the environment."""
    metadata = {"check": check, "help": " ".join(help.split())}
    if factory is not None:
        return dataclasses.field(default_factory=factory, metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata)


def fail(name: str, expected: str, value: object) -> ConfigError:
    return ConfigError(f"{name}: expected {expected}, got {value!r}")


def whole(at_least: int = 0, at_most: int = 2**31 - 1) -> Check:
    """A whole number within bounds. True and False are none."""

    def check(name: str, value: Any) -> int:
        if isinstance(value, bool) or not isinstance(value, int):
            raise fail(name, "a whole number", value)
        if not at_least <= value <= at_most:
            raise fail(name, f"{at_least} to {at_most}", value)
        return value

    return check


def size(name: str, value: Any) -> int:
    """A number of bytes."""
    return int(whole(at_most=2**62)(name, value))


def seconds(name: str, value: Any) -> float:
    """A duration, fractions allowed."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise fail(name, "a number of seconds", value)
    if not (math.isfinite(value) and 0 <= value <= 10**9):
        raise fail(name, "0 to 1000000000 seconds", value)
    return float(value)


def boolean(name: str, value: Any) -> bool:
    if not isinstance(value, bool):
        raise fail(name, "True or False", value)
    return value


def texts(name: str, value: Any) -> tuple[str, ...]:
    """One string, a comma-separated list in a string, or a sequence of strings."""
    items = value.split(",") if isinstance(value, str) else value
    if not isinstance(items, (list, tuple)) or not all(
        isinstance(i, str) for i in items
    ):
        raise fail(name, "a string or a list of strings", value)
    return tuple(i.strip() for i in items if i.strip())


def binds(name: str, value: Any) -> tuple[str, ...]:
    """One address, or a sequence of them. What an address may be is the core's to say."""
    items = [value] if isinstance(value, str) else value
    if not isinstance(items, (list, tuple)) or not items:
        raise fail(name, "an address or a list of addresses", value)
    if not all(isinstance(item, str) and "\0" not in item for item in items):
        raise fail(name, "an address or a list of addresses", value)
    return tuple(item.strip() for item in items)


def networks(name: str, value: Any) -> tuple[str, ...]:
    """Addresses and networks without host bits; "*" for all."""
    items = texts(name, value)
    for item in items:
        if item != "*":
            try:
                ipaddress.ip_network(item)
            except ValueError as error:
                raise ConfigError(f"{name}: {error}") from None
    return items


def header_map(name: str, value: Any) -> str:
    if not isinstance(value, str) or value.lower() not in (
        "drop",
        "refuse",
        "dangerous",
    ):
        raise fail(name, "drop, refuse or dangerous", value)
    return value.lower()


def header_names(name: str, value: Any) -> tuple[str, ...]:
    items = texts(name, value)
    for item in items:
        if not TOKEN.fullmatch(item):
            raise fail(name, "names of header fields", value)
    return tuple(item.upper() for item in items)


def scheme_headers(name: str, value: Any) -> Mapping[str, str]:
    if not isinstance(value, Mapping):
        raise fail(name, "a dict of header field names and values", value)
    for key, text in value.items():
        if not isinstance(key, str) or not TOKEN.fullmatch(key):
            raise fail(name, "names of header fields", key)
        if not isinstance(text, str):
            raise fail(name, f"a string as the value of {key}", text)
    return dict(value)


def directory(name: str, value: Any) -> str | None:
    if value is None:
        return None
    if not isinstance(value, (str, os.PathLike)):
        raise fail(name, "a directory", value)
    path = os.fsdecode(value)
    if not os.path.isdir(path) or not os.access(path, os.W_OK | os.X_OK):
        raise fail(name, "a directory that can be written to", value)
    return path


def log_path(name: str, value: Any) -> str | None:
    """A file that can be appended to is found out when it is opened."""
    if value is None:
        return None
    if not isinstance(value, (str, os.PathLike)) or "\0" in os.fsdecode(value):
        raise fail(name, "a path", value)
    return os.fsdecode(value) or None


def log_format(name: str, value: Any) -> str:
    if not isinstance(value, str) or "\0" in value or "\n" in value:
        raise fail(name, "one line of text", value)
    return value


def server_header(name: str, value: Any) -> str:
    """The value of the field Server; empty for none."""
    if value is True:
        return "pywsgiserve"
    if value is False or value is None:
        return ""
    if not isinstance(value, str) or not re.fullmatch(r"[\x20-\x7e]*", value):
        raise fail(name, "True, False or a text of visible ASCII characters", value)
    return value.strip()


def default_allow_ips() -> tuple[str, ...]:
    given = os.environ.get("FORWARDED_ALLOW_IPS", "127.0.0.1,::1")
    return networks("forwarded_allow_ips (from FORWARDED_ALLOW_IPS)", given)


def default_scheme_headers() -> Mapping[str, str]:
    return {
        "X-FORWARDED-PROTOCOL": "ssl",
        "X-FORWARDED-PROTO": "https",
        "X-FORWARDED-SSL": "on",
    }


@dataclass(frozen=True)
class Config:
    """The settings of a server, checked."""

    bind: tuple[str, ...] = setting(
        ("127.0.0.1:8000",),
        check=binds,
        help="""Where to listen: HOST:PORT, [V6]:PORT, unix:PATH, fd://N, or a list of
        these.""",
    )
    backlog: int = setting(
        2048, check=whole(1), help="Connections that may wait to be accepted."
    )
    worker_connections: int = setting(
        1000,
        check=whole(1, 10**6),
        help="Connections that a worker has open at a time, idle ones included.",
    )
    keepalive: float = setting(
        2.0,
        check=seconds,
        help="""Seconds for which an idle connection waits for its next request; 0 ends
        each connection after one request.""",
    )
    header_timeout: float = setting(
        30.0,
        check=seconds,
        help="Seconds for a whole request head (408); 0: no limit.",
    )
    body_timeout: float = setting(
        30.0,
        check=seconds,
        help="Seconds between two pieces of a request body (408); 0: no limit.",
    )
    send_timeout: float = setting(
        60.0,
        check=seconds,
        help="Seconds for which a client may take nothing of its response; 0: no limit.",
    )
    graceful_timeout: float = setting(
        30.0,
        check=seconds,
        help="Seconds that a stop waits for the requests that have begun.",
    )
    limit_request_line: int = setting(
        4094,
        check=whole(),
        help="Bytes of a request line (414), at most 8190, which 0 stands for too.",
    )
    limit_request_fields: int = setting(
        100,
        check=whole(),
        help="Header fields of a request (431), at most 32768, which 0 stands for too.",
    )
    limit_request_field_size: int = setting(
        8190,
        check=whole(),
        help="Bytes of a header field with its line end (431); 0 stands for 8190.",
    )
    limit_request_body: int = setting(
        0, check=size, help="Bytes of a request body (413); 0: no limit."
    )
    request_buffering: bool = setting(
        True,
        check=boolean,
        help="""Receive the whole body before the app is called. Without, the app reads it
        as it comes, and a slow client holds the app.""",
    )
    body_buffer_size: int = setting(
        1024 * 1024,
        check=size,
        help="Bytes of a request body that are kept in memory; longer ones go to a file.",
    )
    response_spool_limit: int = setting(
        256 * 1024 * 1024,
        check=size,
        help="""Bytes of a response that a generator may run ahead of a slow client, in a
        file; beyond, the app waits.""",
    )
    tmp_upload_dir: str | None = setting(
        None,
        check=directory,
        help="""Directory for the files of long bodies and responses; without, the
        system's.""",
    )
    sendfile: bool = setting(
        True, check=boolean, help="Send wsgi.file_wrapper files from kernel to kernel."
    )
    server_header: str = setting(
        "pywsgiserve",
        check=server_header,
        help="The field Server of each response; False leaves it out.",
    )
    header_map: str = setting(
        "drop",
        check=header_map,
        help="""What becomes of header fields whose names have an underscore: drop, refuse
        (400) or dangerous (the app sees them).""",
    )
    forwarder_headers: tuple[str, ...] = setting(
        ("SCRIPT_NAME", "PATH_INFO"),
        check=header_names,
        help="Names with underscores that are taken from trusted peers all the same.",
    )
    secure_scheme_headers: Mapping[str, str] = setting(
        check=scheme_headers,
        factory=default_scheme_headers,
        help="Fields, and their values, by which a trusted peer says https.",
    )
    forwarded_allow_ips: tuple[str, ...] = setting(
        check=networks,
        factory=default_allow_ips,
        help="""Addresses and networks of trusted peers, "*" for all. Unix peers are
        trusted.""",
    )

    accesslog: str | None = setting(
        None,
        check=log_path,
        help="""Where the access log goes: a file, "-" for the standard output, or None
        for no log.""",
    )
    access_log_format: str = setting(
        '%(h)s %(l)s %(u)s %(t)s "%(r)s" %(s)s %(b)s "%(f)s" "%(a)s"',
        check=log_format,
        help="The format of its lines, with Gunicorn's atoms.",
    )

    @classmethod
    def from_settings(cls, settings: Mapping[str, Any]) -> Config:
        """Check `settings`; an unknown name is an error with a suggestion."""
        fields = {field.name: field for field in dataclasses.fields(cls)}
        checked = {}
        for name, value in settings.items():
            if name not in fields:
                raise ConfigError(f"{name}: no such setting{suggestion(name, fields)}")
            checked[name] = fields[name].metadata["check"](name, value)
        return cls(**checked)


def suggestion(name: str, known: Mapping[str, object]) -> str:
    close = difflib.get_close_matches(name, known, n=1)
    return f"; did you mean {close[0]}?" if close else ""
