"""The log that a class of workers is handed: Gunicorn's logger, into our logs."""

from __future__ import annotations

import base64
import binascii
import io
import logging
import os
import time
from collections.abc import Callable, Iterable, Mapping
from datetime import timedelta
from typing import Any

from pywsgiserve import logs
from pywsgiserve.hooks import Log

LEVELS = {
    "critical": logging.CRITICAL,
    "error": logging.ERROR,
    "warning": logging.WARNING,
    "info": logging.INFO,
    "debug": logging.DEBUG,
}


class Lines(logging.Formatter):
    """A message is a line, no controls in it."""

    def format(self, record: logging.LogRecord) -> str:
        return super().format(record).translate(logs.CONTROLS).replace("\n", "\\x0a")


def access_logger(access_log: logs.AccessLog) -> logging.Logger:
    """`gunicorn.access`; what it is given is written when there is such a log."""
    logger = logging.getLogger("gunicorn.access")
    logger.setLevel(logging.INFO)
    logger.propagate = False
    if access_log.fd >= 0:
        raw = io.FileIO(access_log.fd, "w", closefd=False)
        stream = io.TextIOWrapper(
            io.BufferedWriter(raw), "utf-8", "backslashreplace", line_buffering=True
        )
        handler = logging.StreamHandler(stream)
        handler.setFormatter(Lines("%(message)s"))
        logger.handlers = [handler]
    return logger


class Atoms(dict[str, Any]):
    """Of a line of the access log: what is not there is "-", and nothing forges a line."""

    def __missing__(self, name: str) -> str:
        return "-"

    def __getitem__(self, name: str) -> Any:
        if name.startswith("{"):
            name = name.lower()
        value = super().__getitem__(name)
        return value.replace('"', '\\"') if isinstance(value, str) else value


def fields(given: Any) -> Iterable[tuple[str, Any]]:
    """Of a request or a response, or of its fields, in any form they may have."""
    given = getattr(given, "headers", given) or ()
    return tuple(given.items() if hasattr(given, "items") else given)


def user(environ: Mapping[str, Any]) -> str:
    """The name in basic authentication."""
    kind, _, coded = str(environ.get("HTTP_AUTHORIZATION", "")).partition(" ")
    if kind.lower() != "basic":
        return "-"
    try:
        name = base64.b64decode(coded).partition(b":")[0]
    except binascii.Error:
        return "-"
    return name.decode("utf-8", "backslashreplace") or "-"


class Logger:
    """Gunicorn's `log`. Its records are made as everywhere here: see `Log`."""

    loglevel = logging.INFO

    def __init__(
        self, log: Log, cfg: Any, access_log: logs.AccessLog, reopen: Callable[[], None]
    ) -> None:
        self.cfg = cfg
        self.error_log = logging.getLogger("gunicorn.error")
        self.loglevel = self.error_log.level
        self.access_log = access_logger(access_log)
        self.access_log_enabled = access_log.fd >= 0
        self.debug, self.info, self.warning = log.debug, log.info, log.warning
        self.error, self.critical = log.error, log.critical
        self.exception = log.exception
        self.reopen_files = reopen

    def log(self, lvl: int | str, msg: object, *args: Any, **more: Any) -> None:
        """`lvl` is a number of logging's, or a name."""
        number = LEVELS.get(lvl.lower(), logging.INFO) if isinstance(lvl, str) else lvl
        name = next((n for n, least in LEVELS.items() if number >= least), "debug")
        getattr(self, name)(msg, *args, **more)

    def setup(self, cfg: Any) -> None:
        """It is set up."""

    def close_on_exec(self) -> None:
        """All that is open here is."""

    def now(self) -> str:
        return time.strftime("[%d/%b/%Y:%H:%M:%S %z]")

    def atoms(
        self, resp: Any, req: Any, environ: Mapping[str, Any], request_time: timedelta
    ) -> dict[str, Any]:
        status = resp.status
        took = request_time // timedelta(microseconds=1)
        sent = getattr(resp, "sent", None)
        target = environ.get("RAW_URI", "-")
        values = Atoms(
            h=environ.get("REMOTE_ADDR", "-"),
            l="-",
            u=user(environ),
            t=self.now(),
            r=f"{environ.get('REQUEST_METHOD', '-')} {target} "
            f"{environ.get('SERVER_PROTOCOL', '-')}",
            s=status.split(None, 1)[0] if isinstance(status, str) else status,
            m=environ.get("REQUEST_METHOD"),
            U=environ.get("PATH_INFO"),
            q=environ.get("QUERY_STRING"),
            H=environ.get("SERVER_PROTOCOL"),
            b=str(sent) if sent is not None else "-",
            B=sent,
            f=environ.get("HTTP_REFERER", "-"),
            a=environ.get("HTTP_USER_AGENT", "-"),
            T=took // 1_000_000,
            M=took // 1000,
            D=took,
            L=f"{took / 1_000_000:.6f}",
            p=f"<{os.getpid()}>",
        )
        for kind, pairs in (("i", fields(req)), ("o", fields(resp))):
            values.update((f"{{{n.lower()}}}{kind}", str(v)) for n, v in pairs)
        values.update((f"{{{n.lower()}}}e", str(v)) for n, v in environ.items())
        return values

    def access(
        self, resp: Any, req: Any, environ: Mapping[str, Any], request_time: timedelta
    ) -> None:
        """A line of the access log."""
        if self.access_log_enabled:
            atoms = self.atoms(resp, req, environ, request_time)
            self.access_log.info(self.cfg.access_log_format % atoms)
