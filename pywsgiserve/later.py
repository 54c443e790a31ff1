"""Gunicorn's settings that we do not have yet: known by name, so that none is lost silently.

Each takes its flags and is accepted anywhere; one that is set to something is named in a
warning. A row moves to `config.py` when its feature comes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Later:
    """A setting to come; its default says when it was set to nothing new."""

    flags: tuple[str, ...] = ()
    default: Any = None
    action: str = "store"
    hook: bool = False

    def is_set(self, value: object) -> bool:
        """Whether `value` asks for something: files spell out every default, too."""
        if value is None or value is False or value in ("", [], (), {}, 0):
            return False
        return bool(value != self.default)


def option(*flags: str, default: Any = None) -> Later:
    return Later(flags, default)


def several(*flags: str) -> Later:
    return Later(flags, action="append")


def switch(*flags: str, default: bool = False) -> Later:
    return Later(flags, default, action="true")


def in_file(default: Any = None) -> Later:
    return Later(default=default)


def hook() -> Later:
    return Later(hook=True)


LATER: Mapping[str, Later] = {
    "asgi_loop": option("--asgi-loop", default="auto"),
    "asgi_lifespan": option("--asgi-lifespan", default="auto"),
    "asgi_disconnect_grace_period": option("--asgi-disconnect-grace-period", default=3),
    "http_parser": option("--http-parser", default="auto"),
    "reload": switch("--reload"),
    "reload_engine": option("--reload-engine", default="auto"),
    "reload_extra_files": several("--reload-extra-file"),
    "spew": switch("--spew"),
    "worker_tmp_dir": option("--worker-tmp-dir"),
    "paste": option("--paste", "--paster"),
    "raw_paste_global_conf": several("--paste-global"),
    "proxy_protocol": Later(("--proxy-protocol",), "off", action="mode"),
    "proxy_allow_ips": option("--proxy-allow-from", default="127.0.0.1,::1"),
    "permit_obsolete_folding": switch("--permit-obsolete-folding"),
    "strip_header_spaces": switch("--strip-header-spaces"),
    "permit_unconventional_http_method": switch("--permit-unconventional-http-method"),
    "permit_unconventional_http_version": switch(
        "--permit-unconventional-http-version"
    ),
    "casefold_http_method": switch("--casefold-http-method"),
    "root_path": option("--root-path"),
    "disable_redirect_access_to_syslog": switch("--disable-redirect-access-to-syslog"),
    "logger_class": option("--logger-class", default="gunicorn.glogging.Logger"),
    "logconfig": option("--log-config"),
    "logconfig_dict": in_file(),
    "logconfig_json": option("--log-config-json"),
    "syslog_addr": option("--log-syslog-to", default="udp://localhost:514"),
    "syslog": switch("--log-syslog"),
    "syslog_prefix": option("--log-syslog-prefix"),
    "syslog_facility": option("--log-syslog-facility", default="user"),
    "enable_stdio_inheritance": switch("-R", "--enable-stdio-inheritance"),
    "statsd_host": option("--statsd-host"),
    "dogstatsd_tags": option("--dogstatsd-tags"),
    "statsd_prefix": option("--statsd-prefix"),
    "enable_backlog_metric": switch("--enable-backlog-metric"),
    "default_proc_name": in_file("gunicorn"),
    "keyfile": option("--keyfile"),
    "certfile": option("--certfile"),
    "ssl_version": option("--ssl-version", default=2),
    "cert_reqs": option("--cert-reqs"),
    "ca_certs": option("--ca-certs"),
    "suppress_ragged_eofs": switch("--suppress-ragged-eofs", default=True),
    "do_handshake_on_connect": switch("--do-handshake-on-connect"),
    "ciphers": option("--ciphers"),
    "http_protocols": option("--http-protocols", default="h1"),
    "http2_cleartext": option("--http2-cleartext", default="off"),
    "http2_max_concurrent_streams": option(
        "--http2-max-concurrent-streams", default=100
    ),
    "http2_initial_window_size": option("--http2-initial-window-size", default=65535),
    "http2_max_frame_size": option("--http2-max-frame-size", default=16384),
    "http2_max_header_list_size": option("--http2-max-header-list-size", default=65536),
    "dirty_apps": several("--dirty-app"),
    "dirty_workers": option("--dirty-workers"),
    "dirty_timeout": option("--dirty-timeout", default=300),
    "dirty_threads": option("--dirty-threads", default=1),
    "dirty_graceful_timeout": option("--dirty-graceful-timeout", default=30),
    "control_socket": option("--control-socket"),
    "control_socket_mode": option("--control-socket-mode", default=0o600),
    # There is none: who disables it has what they asked for.
    "control_socket_disable": switch("--no-control-socket", default=True),
    "ssl_context": hook(),
    "on_dirty_starting": hook(),
    "dirty_post_fork": hook(),
    "dirty_worker_init": hook(),
    "dirty_worker_exit": hook(),
}
