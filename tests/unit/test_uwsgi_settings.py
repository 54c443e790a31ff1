"""What the settings of sockets and of the uwsgi protocol come to."""

import os
import socket

import pytest

from pywsgiserve import _core, sources
from pywsgiserve.checks import ConfigError
from pywsgiserve.config import Config
from pywsgiserve.server import binds, describe, native, socket_owner

DEFAULT = ("127.0.0.1:8000",)


def typed(*words):
    return sources.load([*words, "main:app"], {}).config


def test_http_is_spoken_unless_somebody_says_otherwise():
    assert binds(typed()) == (DEFAULT, ())
    assert binds(Config()) == (DEFAULT, ())


def test_the_protocol_is_that_of_bind():
    assert binds(typed("--protocol", "uwsgi")) == ((), DEFAULT)
    assert binds(typed("--protocol", "UWSGI", "-b", ":1")) == ((), (":1",))
    assert binds(typed("--protocol", "http")) == (DEFAULT, ())


def test_uwsgi_alone_needs_no_http():
    """Nobody has asked for port 8000."""
    assert binds(typed("--uwsgi-socket", "unix:a")) == ((), ("unix:a",))
    assert binds(Config.from_settings({"uwsgi_bind": "unix:a"})) == ((), ("unix:a",))
    both = typed("--protocol", "uwsgi", "--uwsgi-socket", "unix:a")
    assert binds(both) == ((), ("unix:a",))


def test_a_bind_that_is_asked_for_is_kept_though_it_is_the_default():
    both = typed("--uwsgi-socket", "unix:a", "-b", DEFAULT[0])

    assert binds(both) == (DEFAULT, ("unix:a",))
    settings = {"uwsgi_bind": ["unix:a", ":2"], "bind": list(DEFAULT)}
    assert binds(Config.from_settings(settings)) == (DEFAULT, ("unix:a", ":2"))


def test_a_port_in_the_environment_is_asked_for():
    loaded = sources.load(["--uwsgi-socket", "unix:a", "main:app"], {"PORT": "5000"})

    assert binds(loaded.config) == (("0.0.0.0:5000",), ("unix:a",))


def test_several_uwsgi_sockets_may_be_given():
    config = typed("--uwsgi-socket", "unix:a", "--uwsgi-socket", ":2", "-b", ":3")

    assert binds(config) == ((":3",), ("unix:a", ":2"))


@pytest.mark.parametrize("wrong", ["fastcgi", "uwsg", "", "http/1.1", None])
def test_another_protocol_is_an_error(wrong):
    with pytest.raises(ConfigError, match=r"^protocol: expected http or uwsgi, got "):
        Config.from_settings({"protocol": wrong})


@pytest.mark.parametrize("wrong", ["10.0.0.1/24", "10.0.0", "example.org"])
def test_what_is_no_network_is_an_error(wrong):
    with pytest.raises(ConfigError, match=r"^uwsgi_allow_ips: "):
        Config.from_settings({"uwsgi_allow_ips": wrong})


def test_networks_may_be_given_in_one_text():
    config = typed("--uwsgi-allow-from", "10.0.0.0/8, ::1")

    assert config.uwsgi_allow_ips == ("10.0.0.0/8", "::1")
    assert typed().uwsgi_allow_ips == ("127.0.0.1", "::1")


@pytest.mark.parametrize(("given", "mode"), [("0660", 0o660), (0o600, 0o600)])
def test_a_mode_is_octal_with_a_leading_0(given, mode):
    assert Config.from_settings({"socket_mode": given}).socket_mode == mode


@pytest.mark.parametrize("wrong", ["01777", "660x", -1, 0o1000])
def test_what_is_no_mode_is_an_error(wrong):
    with pytest.raises(ConfigError, match=r"^socket_mode: "):
        Config.from_settings({"socket_mode": wrong})


@pytest.mark.parametrize("name", ["socket_user", "socket_group"])
def test_who_does_not_exist_is_an_error(name):
    kind = name.removeprefix("socket_")

    with pytest.raises(ConfigError, match=f"^{name}: there is no {kind} 'nobody at'$"):
        Config.from_settings({name: "nobody at"})


def test_socket_files_are_the_workers_unless_somebody_says_otherwise():
    root = typed("--socket-user", "root")

    assert socket_owner(typed(), None) == (-1, -1)
    assert socket_owner(typed(), (5, 6, None)) == (5, 6)
    assert socket_owner(root, (5, 6, None)) == (0, 6)
    assert socket_owner(typed("--socket-group", "7"), None) == (-1, 7)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may")
def test_a_file_that_cannot_be_given_away_is_an_error(tmp_path):
    from pywsgiserve import run

    where = f"unix:{tmp_path}/s"
    with pytest.raises(ConfigError, match="cannot be given to that user and group"):
        run(lambda environ, start: [], bind=where, socket_user=0)


def listen(**settings):
    listeners = _core.Listeners(native(Config.from_settings(settings), -1))
    try:
        return listeners.protocols
    finally:
        listeners.close()


def test_one_address_is_not_for_both():
    """With reuse_port the kernel would choose between them for each connection."""
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        taken.bind(("127.0.0.1", 0))
        where = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(ValueError, match=f"^uwsgi_bind: '{where}': HTTP is spoken"):
            listen(bind=where, uwsgi_bind=where, reuse_port=True)


@pytest.mark.parametrize("copied", [False, True])
def test_one_inherited_socket_is_not_for_both(copied):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        first = os.dup(taken.fileno())
        second = os.dup(first) if copied else first
        with pytest.raises(ValueError, match=r"^uwsgi_bind: 'fd://.*HTTP is spok"):
            listen(bind=f"fd://{first}", uwsgi_bind=f"fd://{second}")


def test_any_free_port_is_another_one():
    both = {"bind": "127.0.0.1:0", "uwsgi_bind": ["127.0.0.1:0", "127.0.0.1:0"]}

    assert listen(**both) == ["http", "uwsgi", "uwsgi"]


def test_sockets_without_a_path_are_told_apart():
    with socket.socket(socket.AF_UNIX) as one, socket.socket(socket.AF_UNIX) as other:
        for taken in (one, other):
            taken.bind(f"\0{os.getpid()}.{taken.fileno()}.pywsgiserve")
        first, second = os.dup(one.fileno()), os.dup(other.fileno())
        both = listen(bind=f"fd://{first}", uwsgi_bind=f"fd://{second}")

    assert both == ["http", "uwsgi"]


def test_addresses_say_what_is_spoken_there():
    assert describe("127.0.0.1:8000", "http") == "http://127.0.0.1:8000"
    assert describe("unix:/a", "http") == "unix:/a"
    assert describe("127.0.0.1:3031", "uwsgi") == "uwsgi://127.0.0.1:3031"
    assert describe("unix:/a", "uwsgi") == "uwsgi://unix:/a"
