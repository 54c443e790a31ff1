"""The calling convention of PEP 3333: start_response, write, close, hints, lifetimes."""

import sys

import pytest

from tests.client import Truncated, eventually

GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"


# What wsgiref.validate asserts of a server

VALIDATED = {
    "generating": b"abc",
    "writing": b"abc",
    "erring": b"abc",
    "empty": b"",
    "wrapping": b"abc",
}


@pytest.mark.contract
@pytest.mark.parametrize("app", VALIDATED)
def test_wsgiref_validate_is_content(standing, app):
    with standing(f"validated:{app}").connect() as client:
        for _ in range(2):
            answer = client.get("/path?query")

            assert answer.status in (200, 204)
            assert answer.body == VALIDATED[app]


@pytest.mark.parametrize("app", ["reading", "iterating"])
@pytest.mark.parametrize(
    "body", [b"", b"a", b"one\ntwo\nthree\n" * 100, b"x" * 100_000]
)
def test_wsgiref_validate_is_content_with_the_input(standing, app, body):
    with standing(f"validated:{app}").connect() as client:
        answer = client.post("/path?query", body, "Content-Type: text/plain")

        assert answer.status == 200
        assert answer.body == body


@pytest.mark.parametrize("method", ["HEAD", "PUT", "DELETE", "OPTIONS"])
def test_wsgiref_validate_is_content_with_other_methods(standing, method):
    with standing("validated:generating").connect() as client:
        client.send(method.encode() + b" /x HTTP/1.1\r\nHost: x\r\n\r\n")

        assert client.response(method).status == 200


def test_wsgiref_validate_is_content_with_exc_info(standing):
    with standing("validated:failing").connect() as client:
        answer = client.get("/path?query")

        assert (answer.status, answer.body) == (503, b"abc")


# start_response


def test_start_response_twice_is_an_error(standing):
    with standing("starting").connect() as client:
        assert client.get("/twice").status == 500


@pytest.mark.contract
def test_exc_info_replaces_a_head_that_was_not_sent(standing):
    with standing("starting").connect() as client:
        answer = client.get("/replaced")

        assert (answer.status, answer.body) == (503, b"replaced")
        assert answer["x-second"] == "1"
        assert "x-first" not in answer


def test_exc_info_is_raised_again_when_the_head_was_sent(serve):
    with serve("starting") as server, server.connect() as client:
        client.send(b"GET /too_late HTTP/1.1\r\nHost: x\r\n\r\n")
        with pytest.raises(Truncated):
            client.response()

        server.wait_for("ValueError: after the head was sent")


@pytest.mark.parametrize("case", ["none_exc_info", "by_keyword"])
def test_exc_info_may_be_none(standing, case):
    with standing("starting").connect() as client:
        assert client.get(f"/{case}").body == b"body"


def test_the_first_start_response_may_have_exc_info(standing):
    with standing("starting").connect() as client:
        answer = client.get("/only_exc_info")

        assert (answer.status, answer.body) == (503, b"body")


def test_what_becomes_of_the_list_of_fields_later_does_not_matter(standing):
    with standing("starting").connect() as client:
        answer = client.get("/fields_changed_later")

        assert answer.status in (200, 500)  # the change itself is invalid
        assert "x-late" not in answer


@pytest.mark.parametrize("case", ["too_few_arguments", "write_text"])
def test_a_wrong_call_is_an_error(standing, case):
    with standing("starting").connect() as client:
        assert client.get(f"/{case}").status == 500


# write()

WRITTEN = {
    "write": b"one two three",
    "write_sized": b"one two three",
    "write_only": b"written",
    "write_much": b"0123456789" * 500_000,
}


@pytest.mark.contract
@pytest.mark.parametrize("case", WRITTEN)
def test_what_is_written_comes_before_what_is_returned(standing, case):
    with standing("starting").connect() as client:
        for _ in range(2):
            assert client.get(f"/{case}").body == WRITTEN[case]


def test_writing_more_than_declared_sends_no_more_than_declared(standing):
    with standing("starting").connect() as client:
        assert client.get("/write_too_much").body == b"1234"


def test_a_failure_after_write_cuts_the_connection(standing):
    with standing("starting").connect() as client:
        client.send(b"GET /write_then_fail HTTP/1.1\r\nHost: x\r\n\r\n")
        with pytest.raises(Truncated):
            client.response()


# close()


def closes(server):
    with server.connect() as client:
        return int(client.get("/closes").body)


@pytest.mark.contract
@pytest.mark.one_process
@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize(
    "case",
    ["whole", "sized", "too-long", "too-short", "no-content", "empty", "fails",
     "exits", "text", "no-start", "large", "file"],
)  # fmt: skip
def test_close_is_called_once(serve, method, case):
    with serve("closing") as server:
        with server.connect() as client:
            client.send(f"{method} /{case} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
            try:
                client.response(method)
            except Truncated:
                pass
            eventually(lambda: closes(server), "close() is called")

        assert closes(server) == 1


@pytest.mark.contract
@pytest.mark.one_process
@pytest.mark.parametrize("case", ["endless", "large"])
@pytest.mark.parametrize("how", ["reset", "close"])
def test_close_is_called_once_when_the_client_goes(serve, case, how):
    with serve("closing") as server:
        with server.connect(receive_buffer=4096) as client:
            client.send(f"GET /{case} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
            client.exactly(1000)
            if how == "reset":
                client.abort()
            else:
                client.close()
            eventually(lambda: closes(server), "close() is called")

        assert closes(server) == 1


@pytest.mark.one_process
def test_close_is_called_for_each_of_many_requests(serve):
    with serve("closing") as server, server.connect() as client:
        client.send(b"GET /whole HTTP/1.1\r\nHost: x\r\n\r\n" * 100)
        for _ in range(100):
            client.response()

        assert closes(server) == 100


# Early hints


def test_hints_are_sent_before_the_answer(standing):
    with standing("hints").connect() as client:
        client.send(b"GET /one HTTP/1.1\r\nHost: x\r\n\r\n")
        hint, answer = client.response(), client.response()

        assert hint.status == 103
        assert hint["link"] == "</style.css>; rel=preload"
        assert (answer.status, answer.body) == (200, b"body")


def test_hints_can_be_sent_more_than_once(standing):
    with standing("hints").connect() as client:
        client.send(b"GET /two HTTP/1.1\r\nHost: x\r\n\r\n")
        answers = [client.response() for _ in range(3)]

        assert [answer.status for answer in answers] == [103, 103, 200]
        assert answers[1]["x-more"] == "1"


def test_a_1_0_client_gets_no_hints(standing):
    with standing("hints").connect() as client:
        client.send(b"GET /one HTTP/1.0\r\n\r\n")

        assert client.response().status == 200


def test_hints_after_the_head_are_ignored(standing):
    with standing("hints").connect() as client:
        assert client.get("/late").body == b"body"
        assert client.get("/none").body == b"body"


@pytest.mark.parametrize("case", ["bad", "bad-name"])
def test_invalid_hints_are_never_sent_and_logged(serve, case):
    with serve("hints") as server, server.connect() as client:
        client.send(f"GET /{case} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        answer = client.response()

        assert answer.status in (200, 500)
        assert "x-injected" not in answer
        server.wait_for(r"\[(WARNING|ERROR)\]")


# Objects that outlive their request


@pytest.mark.parametrize(
    "case",
    ["input-read", "input-readline", "input-readlines", "input-iterate",
     "start_response", "write", "early_hints"],
)  # fmt: skip
def test_what_outlives_its_request_raises_when_used(serve, case):
    with serve("keeping") as server, server.connect() as client:
        assert client.post("/keep", b"the first body").body == b"kept"

        assert client.post(f"/{case}", b"the second body").body.startswith(b"raised ")


@pytest.mark.skipif(
    sys.version_info >= (3, 12), reason="garbage is collected between two lines there"
)
def test_a_start_response_that_is_overtaken_does_not_answer_the_next_request(serve):
    """Others may run in its middle, where garbage is collected."""
    with serve("keeping") as server, server.connect() as client:
        assert client.get("/begin-late").body == b"begun"
        answer = client.get("/end-late")

        assert answer.status == 200
        assert answer.body == b"raised RuntimeError"


# gunicorn.socket


@pytest.mark.contract
def test_the_connection_can_be_taken_out_of_the_server(standing):
    with standing("sockets").connect() as client:
        client.send(b"GET /raw HTTP/1.1\r\nHost: x\r\n\r\n" + GET)

        assert client.to_end() == b"raw bytes\n"


@pytest.mark.contract
def test_an_app_can_talk_over_the_connection_it_took(standing):
    with standing("sockets").connect() as client:
        client.send(b"GET /talk HTTP/1.1\r\nHost: x\r\n\r\n")
        client.exactly(len(b"your turn\n"))
        client.send(b"my words\n")

        assert client.to_end() == b"you said my words\n"


@pytest.mark.contract
def test_what_came_behind_the_request_is_not_in_its_socket(standing):
    """docs/gunicorn.md promises no more: it was read before the app asked."""
    with standing("sockets").connect() as client:
        client.send(b"GET /talk HTTP/1.1\r\nHost: x\r\n\r\ntoo early\n")
        client.exactly(len(b"your turn\n"))
        client.send(b"my words\n")

        assert client.to_end() == b"you said my words\n"


@pytest.mark.contract
def test_a_taken_connection_is_closed_though_the_app_keeps_it(standing):
    with standing("sockets").connect() as client:
        client.send(b"GET /keep HTTP/1.1\r\nHost: x\r\n\r\n")

        assert client.to_end() == b"kept\n"


@pytest.mark.contract
def test_a_taken_connection_has_the_names_of_a_socket(standing):
    with standing("sockets").connect() as client:
        port = client.socket.getsockname()[1]
        client.send(b"GET /is-a-socket HTTP/1.1\r\nHost: x\r\n\r\n")

        assert client.to_end() == f"{port} True\n".encode()


@pytest.mark.contract
def test_a_taken_connection_is_a_socket_as_its_module_has_them(standing):
    """Which is the patched one, where gevent or eventlet have patched it."""
    with standing("sockets").connect() as client:
        client.send(b"GET /class HTTP/1.1\r\nHost: x\r\n\r\n")

        assert client.to_end() == b"True True True\n"


@pytest.mark.contract
def test_a_connection_whose_socket_nobody_asked_for_goes_on(standing):
    with standing("sockets").connect() as client:
        assert client.get().body == b"untouched"
        assert client.get().body == b"untouched"
