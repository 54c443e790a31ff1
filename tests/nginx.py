"""A real nginx, with the configurations of docs/nginx.md, on a port of the kernel's choice."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

DOCS = Path(__file__).parent.parent / "docs" / "nginx.md"
STOP_S = 30
# Where Debian has what the configurations include.
INCLUDED = {
    "include uwsgi_params;": "include /etc/nginx/uwsgi_params;",
    "include proxy_params;": "include /etc/nginx/proxy_params;",
}
FRAME = """
daemon off;
worker_processes 1;
{user}
pid {place}/nginx.pid;
error_log {place}/error.log info;
events {{ worker_connections 512; }}
http {{
    access_log {place}/access.log;
    client_body_temp_path {place}/body;
    proxy_temp_path {place}/proxy;
    uwsgi_temp_path {place}/uwsgi;
    fastcgi_temp_path {place}/fastcgi;
    scgi_temp_path {place}/scgi;
    large_client_header_buffers 8 64k;
    {site}
}}
"""


def program() -> str:
    found = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
    if found is None:
        if os.environ.get("CI"):
            pytest.fail("CI must test behind nginx, and there is none")
        pytest.skip("no nginx")
    return found


def section(heading: str) -> str:
    text = DOCS.read_text()
    match = re.search(rf"^## {re.escape(heading)}$(.*?)(?=^## |\Z)", text, re.M | re.S)
    assert match is not None, f"no {heading!r} in docs/nginx.md"
    return match[1]


def headings() -> list[str]:
    """Those with a configuration under them."""
    found = re.findall(r"^## (.*)$", DOCS.read_text(), re.M)
    return [heading for heading in found if "```nginx" in section(heading)]


def command(heading: str) -> list[str]:
    """The words of the command under this heading."""
    (line,) = re.findall(r"^    (pywsgiserve .*)$", section(heading), re.M)
    return str(line).split()


def documented(heading: str) -> str:
    """The configuration under this heading."""
    blocks = re.findall(r"```nginx\n(.*?)```", section(heading), re.S)
    assert len(blocks) == 1, f"{heading}: {len(blocks)} configurations"
    return str(blocks[0])


def fitted(site: str, changes: Mapping[str, str]) -> str:
    """The configuration with other places, each of which must have been in it."""
    for old, new in changes.items():
        assert old in site, f"{old!r} is not in the configuration:\n{site}"
        site = site.replace(old, new)
    for old, new in INCLUDED.items():
        site = site.replace(old, new)
    return site


class Nginx:
    def __init__(self, process: subprocess.Popen[bytes], place: Path) -> None:
        self.process = process
        self.place = place
        self.ports: list[int] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.ports[0]}"

    @property
    def errors(self) -> str:
        """Its error log so far."""
        path = self.place / "error.log"  # A client may be there before it is.
        return path.read_text(errors="replace") if path.exists() else ""


@contextmanager
def running(site: str, place: Path, changes: Mapping[str, str] = {}) -> Iterator[Nginx]:
    """nginx with this configuration, whose ports ("listen 80;") become free ones.

    It is handed its sockets, as after an upgrade of its program: nobody else can have
    taken the ports, and nobody needs to wait for it.
    """
    place.mkdir(exist_ok=True)
    user = "user root root;" if os.geteuid() == 0 else ""
    with ExitStack() as stack:
        sockets = []
        for number in dict.fromkeys(re.findall(r"listen (\d+)\b", site)):
            listener = stack.enter_context(socket.socket())
            listener.bind(("127.0.0.1", 0))
            listener.listen(128)
            sockets.append(listener)
            port = listener.getsockname()[1]
            site = re.sub(rf"listen {number}\b", f"listen 127.0.0.1:{port}", site)
        text = FRAME.format(place=place, user=user, site=fitted(site, changes))
        config = place / "nginx.conf"
        config.write_text(text)
        fds = [listener.fileno() for listener in sockets]
        process = subprocess.Popen(
            [program(), "-p", str(place), "-c", str(config)],
            env={**os.environ, "NGINX": "".join(f"{fd};" for fd in fds)},
            pass_fds=fds,
            stdin=subprocess.DEVNULL,
            stderr=(place / "stderr").open("wb"),
        )
        nginx = Nginx(process, place)
        nginx.ports = [listener.getsockname()[1] for listener in sockets]
        for listener in sockets:
            listener.close()  # When nginx fails, its clients shall notice.
        try:
            yield nginx
            assert process.poll() is None, (place / "stderr").read_text() + nginx.errors
        except BaseException:
            print(f"--- nginx ---\n{(place / 'stderr').read_text()}")
            if (place / "error.log").exists():
                print(nginx.errors)
            raise
        finally:
            process.terminate()
            process.wait(STOP_S)
