"""What hooks are shown of a request, where a front end has said it."""

import pytest

from pywsgiserve.hooks import Request


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
    assert Request({"SERVER_PROTOCOL": protocol}).version == version


@pytest.mark.parametrize(
    ("port", "number"), [("4711", 4711), ("", 0), ("unix", 0), ("\xb2", 0)]
)
def test_a_port_is_a_number(port, number):
    environ = {"REMOTE_ADDR": "192.0.2.7", "REMOTE_PORT": port}

    assert Request(environ).remote_addr == ("192.0.2.7", number)


def test_a_field_is_shown_once():
    """nginx says them twice."""
    environ = {
        "CONTENT_TYPE": "text/plain",
        "CONTENT_LENGTH": "3",
        "HTTP_CONTENT_TYPE": "text/plain",
        "HTTP_CONTENT_LENGTH": "3",
        "HTTP_X_Y": "z",
    }

    assert Request(environ).headers == [
        ("CONTENT-TYPE", "text/plain"),
        ("CONTENT-LENGTH", "3"),
        ("X-Y", "z"),
    ]
