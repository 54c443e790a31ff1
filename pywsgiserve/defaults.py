"""Defaults of settings that depend on where, and in which environment, the server starts."""

from __future__ import annotations

import os
from collections.abc import Mapping

from pywsgiserve import checks


def allow_ips() -> tuple[str, ...]:
    given = os.environ.get("FORWARDED_ALLOW_IPS", "127.0.0.1,::1")
    return checks.networks("forwarded_allow_ips (from FORWARDED_ALLOW_IPS)", given)


def scheme_headers() -> Mapping[str, str]:
    return {
        "X-FORWARDED-PROTOCOL": "ssl",
        "X-FORWARDED-PROTO": "https",
        "X-FORWARDED-SSL": "on",
    }


def chdir() -> str:
    """Where we are, under the name the shell knows: links in it stay links."""
    here = os.getcwd()
    shell = os.environ.get("PWD", "")
    try:
        if os.path.isabs(shell) and os.path.samefile(shell, here):
            return shell
    except OSError:
        pass
    return here


def yes(value: str) -> bool:
    return value.strip().lower() in ("y", "1", "yes", "true")
