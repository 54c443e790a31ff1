"""Speaks uwsgi, as a front end does: a packet of variables, the body behind it."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping

Variables = Mapping[str, str] | Iterable[tuple[str, str]]


def text(value: str | bytes) -> bytes:
    data = value.encode("latin-1") if isinstance(value, str) else value
    return struct.pack("<H", len(data)) + data


def packet(variables: Variables, modifier1: int = 0) -> bytes:
    """The variables as they are; nothing is added."""
    pairs = variables.items() if isinstance(variables, Mapping) else variables
    block = b"".join(text(name) + text(value) for name, value in pairs)
    return struct.pack("<BHB", modifier1, len(block), 0) + block


def variables(
    uri: str = "/", method: str = "GET", body: bytes = b"", **more: str
) -> dict[str, str]:
    """What nginx sends with Debian's uwsgi_params for this request."""
    path, _, query = uri.partition("?")
    return {
        "QUERY_STRING": query,
        "REQUEST_METHOD": method,
        "CONTENT_TYPE": "",
        "CONTENT_LENGTH": str(len(body)) if body or method == "POST" else "",
        "REQUEST_URI": uri,
        "PATH_INFO": path,
        "DOCUMENT_ROOT": "/usr/share/nginx/html",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "REQUEST_SCHEME": "http",
        "REMOTE_ADDR": "192.0.2.7",
        "REMOTE_PORT": "4711",
        "SERVER_PORT": "80",
        "SERVER_NAME": "front.example",
        "HTTP_HOST": "site.example",
        **more,
    }


def request(
    uri: str = "/",
    method: str = "GET",
    body: bytes = b"",
    modifier1: int = 0,
    **more: str,
) -> bytes:
    """A whole request of nginx."""
    return packet(variables(uri, method, body, **more), modifier1) + body
