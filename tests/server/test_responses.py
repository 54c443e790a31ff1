"""What the server makes of an app's answer: framing, fields, and what it refuses to send."""

import email.utils
import threading
import time

import pytest

from tests.apps.invalid import HEADS
from tests.client import SANITIZED, Truncated
from tests.process import Pipe

GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
GET_1_0 = b"GET / HTTP/1.0\r\n\r\n"


# Framing


@pytest.mark.parametrize(
    ("app", "body"), [("one_item", b"one item"), ("one_empty_item", b"")]
)
def test_a_list_of_one_item_gets_its_length(standing, app, body):
    with standing(f"answers:{app}").connect() as client:
        for _ in range(2):
            answer = client.get()

            assert answer.framing == "length"
            assert answer.body == body


BODIES = {
    "no_items": b"",
    "two_items": b"two items",
    "generator": b"a few pieces",
    "late_start": b"late",
    "empty_before_start": b"xy",
    "declared": b"0123456789",
    "many_pieces": b"0123456789" * 100_000,
    "large_generator": b"x" * 10_000_000,
    "large": b"0123456789" * 5_000_000,
}


@pytest.mark.parametrize("app", BODIES)
def test_a_body_arrives_whole_and_the_connection_goes_on(standing, app):
    with standing(f"answers:{app}").connect() as client:
        for _ in range(2):
            answer = client.get()

            assert answer.status == 200
            assert answer.framing in ("length", "chunked")
            assert answer.body == BODIES[app]


@pytest.mark.parametrize("app", BODIES)
def test_a_body_arrives_whole_at_a_1_0_client(standing, app):
    with standing(f"answers:{app}").connect() as client:
        client.send(GET_1_0)
        answer = client.response()

        assert answer.framing in ("length", "close")
        assert answer.body == BODIES[app]
        assert client.closed()


@pytest.mark.contract
def test_a_generator_is_chunked_on_1_1(standing):
    with standing("answers:generator").connect() as client:
        answer = client.get()

        assert answer.framing == "chunked"
        assert answer.body == b"a few pieces"
        assert answer.trailers == []


def test_a_generator_ends_with_the_connection_on_1_0(standing):
    with standing("answers:generator").connect() as client:
        client.send(GET_1_0)

        assert client.response().framing == "close"


def test_empty_pieces_do_not_end_a_chunked_body(standing):
    with standing("answers:generator").connect() as client:
        assert client.get().chunks.count(b"") == 0
        assert client.get().body == b"a few pieces"


@pytest.mark.contract
def test_a_piece_is_sent_before_the_next_one_is_asked_for(serve, short_path):
    """PEP 3333: a server must not delay the transmission of any block."""
    pipe = Pipe(short_path / "pipe")
    with serve("answers:waits_between") as server, server.connect() as client:
        client.send(f"GET /?{pipe} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        client.head()
        first = client.chunk()
        pipe.write("second\n")

        assert first == b"first"
        assert client.chunk() == b"second\n"
        assert client.chunk() == b""


def test_no_answer_waits_for_a_delayed_ack(standing):
    """Forty milliseconds each would make these a minute and more."""
    server = standing("answers:small_pieces")
    count = 500 if SANITIZED else 2000
    began = time.monotonic()
    with server.connect() as client:
        for _ in range(count):
            assert client.get().body == b"abc"

    assert time.monotonic() - began < count * 0.02


@pytest.mark.contract
def test_fields_and_body_of_an_app_arrive_in_order(standing):
    with standing("answers:many_fields").connect() as client:
        answer = client.get()
        own = [pair for pair in answer.headers if pair[0].startswith("X-Field-")]

        assert own == [(f"X-Field-{n}", "v" * n) for n in range(300)]
        assert answer.body == b"body"


def test_duplicate_fields_of_an_app_stay_apart(standing):
    with standing("answers:cookies").connect() as client:
        assert client.get().all("set-cookie") == ["a=1", "b=2"]


def test_status_reason_and_latin_1_values_are_kept(standing):
    with standing("answers:unusual_status").connect() as client:
        answer = client.get()

        assert (answer.status, answer.reason) == (299, "Something Else (\xf6)")
        assert answer["x-latin"] == "caf\xe9\ttab"


def test_an_empty_reason_is_allowed(standing):
    with standing("answers:no_reason").connect() as client:
        answer = client.get()

        assert (answer.status, answer.reason) == (200, "")


# The server's own fields


def test_date_is_there_once_and_now(standing):
    server = standing("answers:clock")
    with server.connect() as client:
        answer = client.get()
        date = email.utils.parsedate_to_datetime(answer["date"])

        assert answer["date"].endswith(" GMT")
        assert abs(date.timestamp() - float(answer.body)) < 10


def test_server_names_the_server(standing):
    with standing("hello").connect() as client:
        assert client.get()["server"].startswith("pywsgiserve")


def test_server_header_false_hides_it(standing):
    with standing("hello", server_header=False).connect() as client:
        assert "server" not in client.get()
        client.send(b"BAD\r\n\r\n")
        assert "server" not in client.response()


def test_server_header_can_be_chosen(standing):
    with standing("hello", server_header="something/1").connect() as client:
        assert client.get()["server"] == "something/1"


def test_date_and_server_of_an_app_do_not_double_ours(standing):
    with standing("answers:own_date_and_server").connect() as client:
        answer = client.get()

        assert len(answer.all("date")) == len(answer.all("server")) == 1


def test_hop_by_hop_fields_of_an_app_are_dropped(standing):
    with standing("answers:hop_by_hop").connect() as client:
        answer = client.get()
        names = {name.lower() for name, _ in answer.headers}

        assert answer.body == b"body"
        assert answer["x-kept"] == "yes"
        assert "x-app" not in answer.all("connection")
        assert not names & {
            "keep-alive", "proxy-authenticate", "proxy-authorization", "te",
            "trailer", "trailers", "transfer-encoding", "upgrade",
        }  # fmt: skip
        assert client.get().body == b"body"


# What is never sent


@pytest.mark.parametrize("app", ["invalid", "invalid:swallowed"])
@pytest.mark.parametrize("case", HEADS)
def test_an_invalid_head_of_an_app_is_a_500_and_nothing_of_it_is_sent(
    standing, app, case
):
    server = standing(app)
    with server.connect() as client:
        client.send(f"GET /{case} HTTP/1.0\r\n\r\n".encode())
        raw = client.to_end()

    assert raw.startswith((b"HTTP/1.1 500 ", b"HTTP/1.0 500 "))
    for own in (b"Injected", b"X-A", b"X A", b"of the app"):
        assert own not in raw
    with server.connect() as client:
        assert client.get("/good").body == b"the answer of the app"


@pytest.mark.parametrize("case", ["status-crlf", "value-nul", "name-lf", "length-word"])
def test_an_invalid_head_of_an_app_is_logged(serve, case):
    with serve("invalid") as server, server.connect() as client:
        status = client.get(f"/{case}").status

        assert status == 500
        server.wait_for(rf"\[ERROR\] .*/{case}")


@pytest.mark.contract
@pytest.mark.parametrize("app", ["too_short", "too_short_generator"])
def test_too_little_body_cuts_the_connection(standing, app):
    """Else the next answer would be read as the rest of this one."""
    with standing(f"answers:{app}").connect() as client:
        client.send(GET * 3)
        with pytest.raises(Truncated) as cut:
            client.response()

        assert cut.value.body == b"short"


def test_no_body_for_a_declared_length_is_no_whole_answer(standing):
    with standing("answers:too_short_nothing").connect() as client:
        client.send(GET * 3)
        try:
            status = client.response().status
        except Truncated:
            status = 0

        assert status in (0, 500)
        assert client.gone()


@pytest.mark.parametrize("app", ["too_long", "too_long_generator"])
def test_too_much_body_is_cut_and_logged(serve, app):
    with serve(f"answers:{app}") as server, server.connect() as client:
        answer = client.get()

        assert answer.status == 200
        assert answer.body == b"12345"
        server.wait_for(r"\[(WARNING|ERROR)\] ")
        client.send(GET)
        try:
            assert client.response().body == b"12345"
        except Truncated:
            assert client.gone()


# Errors


SENT_NOTHING = [
    "at_once", "after_start_response", "at_first_piece", "after_empty_piece",
    "system_exit", "generator_exit", "keyboard_interrupt", "stop_iteration",
    "recursion", "memory", "bad_repr", "none", "number", "text_piece",
    "number_piece", "none_piece", "string", "no_start_response",
    "no_start_response_empty", "no_start_response_generator", "iter_fails",
]  # fmt: skip


@pytest.mark.contract(cases=5)
@pytest.mark.parametrize("case", SENT_NOTHING)
def test_an_app_that_fails_first_is_a_500(standing, case):
    server = standing("failing")
    with server.connect() as client:
        answer = client.get(f"/{case}")

        assert answer.status == 500
        assert b"secret" not in answer.body
        assert b"Traceback" not in answer.body
    with server.connect() as client:
        assert client.get("/fine").body == b"fine"


@pytest.mark.contract
@pytest.mark.parametrize(
    "case", ["after_a_piece", "after_a_piece_sized", "system_exit_later",
             "text_piece_later"],
)  # fmt: skip
def test_an_app_that_fails_later_cuts_the_connection(standing, case):
    """The client has to be able to tell that the answer is not whole."""
    server = standing("failing")
    with server.connect() as client:
        client.send(f"GET /{case} HTTP/1.1\r\nHost: x\r\n\r\n".encode() + GET)
        with pytest.raises(Truncated) as cut:
            client.response()

        assert cut.value.body in (b"sent", b"")
    with server.connect() as client:
        assert client.get("/fine").body == b"fine"


@pytest.mark.parametrize("case", ["at_once", "after_a_piece", "at_first_piece"])
def test_a_failure_is_logged_with_its_traceback(serve, case):
    with serve("failing") as server, server.connect() as client:
        client.send(f"GET /{case}?q HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        try:
            client.response()
        except Truncated:
            pass

        server.wait_for(rf"\[ERROR\] Error handling request GET /{case}")
        server.wait_for(r"Traceback \(most recent call last\):")
        server.wait_for(r"failing\.py")
        server.wait_for(r"Failure: secret words")


@pytest.mark.parametrize("case", ["close_fails", "length_fails"])
def test_a_failure_beside_the_body_leaves_the_server_well(serve, case):
    """What a list's own __len__ says need not be asked; its close() has to be called."""
    with serve("failing") as server:
        with server.connect() as client:
            client.send(f"GET /{case} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
            try:
                answer = client.response()
                assert answer.status == 500 or answer.body == b"body"
            except Truncated:
                pass
        if case == "close_fails":
            server.wait_for("Failure: close failed")
        with server.connect() as client:
            assert client.get("/fine").body == b"fine"


@pytest.mark.contract
def test_a_system_exit_of_one_request_leaves_the_others_alone(serve):
    with serve("failing") as server, server.connect() as other:
        assert other.get("/fine").body == b"fine"
        with server.connect() as client:
            assert client.get("/system_exit").status == 500

        assert other.get("/fine").body == b"fine"


def test_head_of_a_failing_app_is_a_500_without_a_body(standing):
    with standing("failing").connect() as client:
        client.send(b"HEAD /at_once HTTP/1.1\r\nHost: x\r\n\r\n")
        answer = client.response("HEAD")

        assert answer.status == 500
        if answer.says_close:
            assert client.closed()
        else:
            assert client.get("/fine").body == b"fine"


@pytest.mark.contract
def test_answers_of_concurrent_clients_do_not_mix(standing):
    server = standing("echo")
    wrong = []

    def talk(letter):
        with server.connect() as client:
            for size in range(1, 300):
                body = letter * size * 10
                if client.post("/", body).body != body:
                    wrong.append((letter, size))

    threads = [threading.Thread(target=talk, args=(c.encode(),)) for c in "abcdefgh"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert wrong == []
