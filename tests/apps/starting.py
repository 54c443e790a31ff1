"""Uses of start_response: twice, with exc_info, with write(); the path chooses."""

import sys

TEXT = [("Content-Type", "text/plain")]


def twice(start_response):
    start_response("200 OK", TEXT)
    start_response("201 Created", TEXT)
    return [b"body"]


def replaced(start_response):
    start_response("200 OK", [*TEXT, ("X-First", "1"), ("Content-Length", "1")])
    try:
        raise ValueError("before anything was sent")
    except ValueError:
        start_response("503 Sorry", [*TEXT, ("X-Second", "1")], sys.exc_info())
    return [b"replaced"]


def too_late(start_response):
    start_response("200 OK", TEXT)
    yield b"sent"
    try:
        raise ValueError("after the head was sent")
    except ValueError:
        start_response("503 Sorry", TEXT, sys.exc_info())
    yield b"never"


def none_exc_info(start_response):
    start_response("200 OK", TEXT, None)
    return [b"body"]


def by_keyword(start_response):
    start_response("200 OK", TEXT, exc_info=None)
    return [b"body"]


def only_exc_info(start_response):
    try:
        raise ValueError
    except ValueError:
        start_response("503 Sorry", TEXT, sys.exc_info())
    return [b"body"]


def write(start_response):
    send = start_response("200 OK", TEXT)
    send(b"one ")
    send(b"")
    send(b"two ")
    return [b"three"]


def write_sized(start_response):
    send = start_response("200 OK", [*TEXT, ("Content-Length", "13")])
    send(b"one ")
    send(b"two ")
    return [b"three"]


def write_only(start_response):
    send = start_response("200 OK", TEXT)
    send(b"written")
    return []


def write_much(start_response):
    send = start_response("200 OK", TEXT)
    for _ in range(1000):
        send(b"0123456789" * 500)
    return []


def write_too_much(start_response):
    send = start_response("200 OK", [*TEXT, ("Content-Length", "4")])
    send(b"1234")
    send(b"5678")
    return [b"9"]


def write_text(start_response):
    send = start_response("200 OK", TEXT)
    send("text")
    return []


def write_then_fail(start_response):
    send = start_response("200 OK", TEXT)
    send(b"sent")
    raise ValueError("after write")


def fields_changed_later(start_response):
    """The list belongs to the server once it is handed over."""
    fields = [*TEXT, ("X-A", "1")]
    start_response("200 OK", fields)
    fields.append(("X-Late\r\n", "2"))
    return [b"body"]


def too_few_arguments(start_response):
    start_response("200 OK")
    return [b"body"]


def bad_exc_info(start_response):
    start_response("200 OK", TEXT, "not a tuple")
    return [b"body"]


def application(environ, start_response):
    return globals()[environ["PATH_INFO"][1:]](start_response)
