"""What hooks are shown of a request, where a front end has said it."""

import io

import pytest

from pywsgiserve.config import Config
from pywsgiserve.hooks import Heartbeat, Request


@pytest.mark.parametrize(
    ("protocol", "version"),
    [
        ("HTTP/1.0", (1, 0)),
        ("HTTP/1.1", (1, 1)),
        ("HTTP/2.0", (2, 0)),
        ("HTTP/3", (3, 0)),
        ("", (1, 0)),
        ("INCLUDED", (1, 0)),
        ("HTTP/1.\xb2", (1, 0)),
    ],
)
def test_the_version_is_the_clients(protocol, version):
    assert Request({"SERVER_PROTOCOL": protocol}, Config()).version == version


@pytest.mark.parametrize(
    ("port", "number"), [("4711", 4711), ("", 0), ("unix", 0), ("\xb2", 0)]
)
def test_a_port_is_a_number(port, number):
    environ = {"REMOTE_ADDR": "192.0.2.7", "REMOTE_PORT": port}

    assert Request(environ, Config()).remote_addr == ("192.0.2.7", number)


def test_a_field_is_shown_once():
    """nginx says them twice."""
    environ = {
        "CONTENT_TYPE": "text/plain",
        "CONTENT_LENGTH": "3",
        "HTTP_CONTENT_TYPE": "text/plain",
        "HTTP_CONTENT_LENGTH": "3",
        "HTTP_X_Y": "z",
    }

    assert Request(environ, Config()).headers == [
        ("CONTENT-TYPE", "text/plain"),
        ("CONTENT-LENGTH", "3"),
        ("X-Y", "z"),
    ]


@pytest.mark.parametrize(
    ("protocol", "connection", "closes"),
    [
        ("HTTP/1.1", None, False),
        ("HTTP/1.1", "keep-alive", False),
        ("HTTP/1.1", "Close", True),
        ("HTTP/1.1", "upgrade , close", True),
        ("HTTP/1.1", "closely", False),
        ("HTTP/1.0", None, True),
        ("HTTP/1.0", "Keep-Alive", False),
        ("HTTP/1.0", "keep-alive, close", True),
    ],
)
def test_whether_the_client_wants_to_close(protocol, connection, closes):
    environ = {"SERVER_PROTOCOL": protocol}
    if connection is not None:
        environ["HTTP_CONNECTION"] = connection

    assert Request(environ, Config()).should_close() is closes


def test_a_heartbeat_is_no_file_and_says_so():
    with pytest.raises(io.UnsupportedOperation, match=r"no file: call its notify"):
        Heartbeat(lambda: None).fileno()
