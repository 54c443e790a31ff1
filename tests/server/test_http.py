"""HTTP/1.1 as it should be: framing, keep-alive, pipelining, methods, targets."""

import json

import pytest

from tests.client import Truncated, splits

SECOND = b"GET /second HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"


def environ_of(client, data):
    client.send(data)
    answer = client.response()
    assert answer.status == 200, answer
    return answer.json()["environ"]


BODIES = {
    "length": (b"Content-Length: 3\r\n\r\nabc", b"abc"),
    "length 0": (b"Content-Length: 0\r\n\r\n", b""),
    "leading zeros": (b"Content-Length: 003\r\n\r\nabc", b"abc"),
    "spaces around the length": (b"Content-Length: \t 3 \t\r\n\r\nabc", b"abc"),
    "no space before the length": (b"Content-Length:3\r\n\r\nabc", b"abc"),
    "no body": (b"\r\n", b""),
    "one chunk": (b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n", b"abc"),
    "some chunks": (
        b"Transfer-Encoding: chunked\r\n\r\n1\r\na\r\n2\r\nbc\r\n0\r\n\r\n",
        b"abc",
    ),
    "no chunks": (b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n", b""),
    "capitals": (b"TRANSFER-ENCODING: Chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n", b"abc"),
    "spaces around chunked": (
        b"Transfer-Encoding: \t chunked \t\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
        b"abc",
    ),
    "hex sizes": (
        b"Transfer-Encoding: chunked\r\n\r\nA\r\n0123456789\r\na\r\n0123456789\r\n"
        b"000\r\n\r\n",
        b"0123456789" * 2,
    ),
    "sixteen digits": (
        b"Transfer-Encoding: chunked\r\n\r\n0000000000000003\r\nabc\r\n0\r\n\r\n",
        b"abc",
    ),
    "extensions": (
        b"Transfer-Encoding: chunked\r\n\r\n"
        b'1;a\r\na\r\n1;b=c;d\r\nb\r\n1 ; e = "f \\" g"\r\nc\r\n0;z\r\n\r\n',
        b"abc",
    ),
    "CRLF in the data": (
        b"Transfer-Encoding: chunked\r\n\r\n7\r\n\r\n0\r\n\r\n\r\n0\r\n\r\n",
        b"\r\n0\r\n\r\n",
    ),
    "trailers": (
        b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nX-A: 1\r\nX-B:\r\n\r\n",
        b"abc",
    ),
}


@pytest.mark.contract(cases=8)
@pytest.mark.parametrize(("rest", "body"), BODIES.values(), ids=list(BODIES))
def test_a_body_is_framed_right(standing, manner, rest, body):
    data = b"POST / HTTP/1.1\r\nHost: x\r\n" + rest
    with standing("echo").connect() as client:
        if manner == "each byte":
            client.send_each_byte(data + SECOND)
        else:
            client.send(data + SECOND)
        first, second = client.response("POST"), client.response()

        assert first.status == 200
        assert first.body == body
        assert second["x-target"] == "/second"
        assert client.closed()


WHOLE = {
    "a plain GET": b"GET /path?a=b HTTP/1.1\r\nHost: x\r\nX-A: b\r\n\r\n",
    "a body": b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n0123456789",
    "chunks": b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    b"5;a=b\r\n01234\r\n5\r\n56789\r\n0\r\nX-T: 1\r\n\r\n",
    "two requests": b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nab"
    b"GET /2 HTTP/1.1\r\nHost: x\r\n\r\n",
}


@pytest.mark.contract
@pytest.mark.parametrize("data", WHOLE.values(), ids=list(WHOLE))
def test_any_split_of_the_bytes_gives_the_same_answer(standing, data):
    """The second part is sent when the server had the time to take the first one."""
    server = standing("echo")
    count = data.count(b"HTTP/1.1")

    def answers(*parts):
        with server.connect() as client, server.connect() as other:
            for part in parts[:-1]:
                client.send(part)
                other.get("/")
            client.send(parts[-1])
            found = [client.response() for _ in range(count)]
        return [(a.status, a["x-method"], a["x-target"], a.body) for a in found]

    expected = answers(data)

    assert [answer[0] for answer in expected] == [200] * count
    for first, second in splits(data):
        assert answers(first, second) == expected, (first, second)


def test_trailers_are_kept_out_of_the_environ(standing):
    with standing("environ").connect() as client:
        environ = environ_of(
            client,
            b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
            b"0\r\nX-Trailer: 1\r\n\r\n",
        )

        assert "HTTP_X_TRAILER" not in environ


def test_empty_lines_before_a_request_are_ignored(standing):
    """RFC 9112 2.2: some old clients send CRLF after a POST's body."""
    with standing("echo").connect() as client:
        client.send(b"\r\nGET / HTTP/1.1\r\nHost: x\r\n\r\n\r\n" + SECOND)

        assert [client.response().status for _ in range(2)] == [200, 200]
        assert client.closed()


# Keep-alive and close


@pytest.mark.contract
@pytest.mark.parametrize(
    "fields",
    ["", "Connection: keep-alive\r\n", "Connection: x\r\n", "Connection:\r\n"],
)
def test_a_1_1_connection_is_kept(standing, fields):
    data = f"GET / HTTP/1.1\r\nHost: x\r\n{fields}\r\n".encode()
    with standing("hello").connect() as client:
        for _ in range(3):
            client.send(data)
            answer = client.response()

            assert answer.status == 200
            assert not answer.says_close


CLOSES = [
    "close",
    "Close",
    "CLOSE",
    "close, x",
    "x, close",
    "x,close",
    "x ,\tclose , y",
    ",close",
    "keep-alive, close",
    "close, keep-alive",
    "x\r\nConnection: close",
    "close\r\nConnection: x",
]


@pytest.mark.parametrize("value", CLOSES)
def test_connection_close_is_understood_in_any_list(standing, value):
    head = f"GET / HTTP/1.1\r\nHost: x\r\nConnection: {value}\r\n\r\n".encode()
    with standing("hello").connect() as client:
        client.send(head + SECOND)
        answer = client.response()

        assert answer.status == 200
        assert answer.says_close
        assert client.closed()


@pytest.mark.parametrize("value", ["closed", "x-close", "clos", '"close"', "close x"])
def test_what_only_looks_like_close_is_not(standing, value):
    with standing("hello").connect() as client:
        assert not client.get("/", f"Connection: {value}").says_close
        assert client.get("/").status == 200


@pytest.mark.contract
@pytest.mark.parametrize("fields", ["", "Connection: x\r\n", "Connection: close\r\n"])
def test_a_1_0_connection_is_closed(standing, fields):
    with standing("hello").connect() as client:
        client.send(f"GET / HTTP/1.0\r\n{fields}\r\n".encode() + SECOND)
        answer = client.response()

        assert (answer.status, answer.body) == (200, b"hello")
        assert client.closed()


@pytest.mark.parametrize("value", ["keep-alive", "Keep-Alive", "x, keep-alive"])
def test_a_1_0_connection_is_kept_when_asked(standing, value):
    data = f"GET / HTTP/1.0\r\nConnection: {value}\r\n\r\n".encode()
    with standing("hello").connect() as client:
        for _ in range(3):
            client.send(data)
            answer = client.response()

            assert answer.body == b"hello"
            assert answer["connection"].lower() == "keep-alive"


def test_a_1_0_connection_with_both_options_is_closed(standing):
    with standing("hello").connect() as client:
        client.send(b"GET / HTTP/1.0\r\nConnection: keep-alive, close\r\n\r\n")
        client.response()

        assert client.closed()


def test_a_1_0_answer_without_a_length_ends_with_the_connection(standing):
    with standing("answers:generator").connect() as client:
        client.send(b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
        answer = client.response()

        assert answer.framing == "close"
        assert answer.body == b"a few pieces"
        assert "keep-alive" not in answer.all("connection")


def test_a_1_0_request_needs_no_host(standing):
    with standing("hello").connect() as client:
        client.send(b"GET / HTTP/1.0\r\n\r\n")

        assert client.response().status == 200


# Pipelining


@pytest.mark.contract
def test_pipelined_requests_are_answered_in_order(standing):
    with standing("echo").connect() as client:
        client.send(
            b"".join(
                b"POST /%d HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % (n, n)
                + b"x" * n
                for n in range(200)
            )
        )
        for n in range(200):
            answer = client.response()

            assert answer["x-target"] == f"/{n}"
            assert answer.body == b"x" * n


@pytest.mark.contract
def test_pipelined_requests_of_all_kinds_keep_their_framing(standing):
    kinds = [
        (b"GET /a HTTP/1.1\r\nHost: x\r\n\r\n", "GET", b""),
        (b"HEAD /b HTTP/1.1\r\nHost: x\r\n\r\n", "HEAD", b""),
        (
            b"POST /c HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
            b"3\r\nabc\r\n0\r\n\r\n",
            "POST",
            b"abc",
        ),
        (b"PUT /d HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nhi", "PUT", b"hi"),
        (b"OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n", "OPTIONS", b""),
    ]
    with standing("echo").connect() as client:
        client.send(b"".join(kind[0] for kind in kinds) * 20)
        for _ in range(20):
            for _, method, body in kinds:
                answer = client.response(method)

                assert answer["x-method"] == method
                assert answer.body == body


@pytest.mark.contract
def test_nothing_is_answered_behind_a_close(standing):
    with standing("echo").connect() as client:
        client.send(
            b"GET /1 HTTP/1.1\r\nHost: x\r\n\r\n"
            b"GET /2 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
            b"GET /3 HTTP/1.1\r\nHost: x\r\n\r\n"
        )

        assert client.response()["x-target"] == "/1"
        assert client.response()["x-target"] == "/2"
        assert client.closed()


@pytest.mark.contract
def test_pipelined_requests_behind_a_streamed_answer_are_answered(standing):
    request = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
    with standing("answers:generator").connect() as client:
        client.send(request * 50)
        bodies = [client.response().body for _ in range(50)]

        assert bodies == [b"a few pieces"] * 50


def test_pipelined_requests_behind_a_large_answer_are_answered(standing):
    request = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
    with standing("answers:large_generator").connect() as client:
        client.send(request * 3)
        sizes = [len(client.response().body) for _ in range(3)]

        assert sizes == [10_000_000] * 3


# Expect: 100-continue


@pytest.mark.contract
@pytest.mark.parametrize("value", ["100-continue", "100-Continue"])
def test_a_client_that_waits_for_100_gets_it(standing, value):
    with standing("echo").connect() as client:
        client.send(
            b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n"
            b"Expect: " + value.encode() + b"\r\n\r\n"
        )
        first = client.response()
        client.send(b"hello")
        second = client.response()

        assert first.status == 100
        assert (second.status, second.body) == (200, b"hello")


def test_a_client_that_waits_for_100_before_its_chunks_gets_it(standing):
    with standing("echo").connect() as client:
        client.send(
            b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n"
            b"Expect: 100-continue\r\n\r\n"
        )
        first = client.response()
        client.send(b"5\r\nhello\r\n0\r\n\r\n")

        assert first.status == 100
        assert client.response().body == b"hello"


def test_a_client_that_does_not_wait_for_100_is_answered(standing, manner):
    data = (
        b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n"
        b"Expect: 100-continue\r\n\r\nhello"
    )
    with standing("echo").connect() as client:
        if manner == "each byte":
            client.send_each_byte(data + SECOND)
        else:
            client.send(data + SECOND)

        assert client.final_response().body == b"hello"
        assert client.final_response()["x-target"] == "/second"


def test_a_request_without_a_body_gets_no_100(standing):
    with standing("echo").connect() as client:
        assert client.get("/", "Expect: 100-continue").status == 200


def test_a_1_0_client_gets_no_100(standing):
    """RFC 9110 10.1.1: it could not know what that is."""
    with standing("echo").connect() as client:
        client.send(
            b"POST / HTTP/1.0\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\nhello"
        )
        answer = client.response()

        assert (answer.status, answer.body) == (200, b"hello")


# Methods and targets


@pytest.mark.contract
def test_head_is_answered_like_get_without_the_body(standing):
    with standing("hello").connect() as client:
        got = client.get()
        client.send(b"HEAD / HTTP/1.1\r\nHost: x\r\n\r\n" * 2)
        first, second = client.response("HEAD"), client.response("HEAD")

        def without_date(answer):
            return [pair for pair in answer.headers if pair[0].lower() != "date"]

        assert without_date(first) == without_date(second) == without_date(got)
        assert first["content-length"] == "5"


@pytest.mark.parametrize(
    "app", ["one_item", "two_items", "generator", "too_long", "declared", "large"]
)
def test_head_never_gets_a_body(standing, app):
    with standing(f"answers:{app}").connect() as client:
        client.send(b"HEAD / HTTP/1.1\r\nHost: x\r\n\r\n" * 2)

        assert client.response("HEAD").status == 200
        assert client.response("HEAD").status == 200


@pytest.mark.parametrize(
    "app",
    [
        "no_content",
        "no_content_with_body",
        "no_content_generator",
        "not_modified",
        "not_modified_generator",
    ],
)
def test_204_and_304_never_get_a_body(standing, app):
    with standing(f"answers:{app}").connect() as client:
        client.send(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n" * 3)
        answers = [client.response() for _ in range(3)]

        assert {answer.status for answer in answers} == {
            204 if app.startswith("no_content") else 304
        }
        assert all("transfer-encoding" not in answer for answer in answers)


def test_options_asterisk_reaches_the_app(standing):
    with standing("environ").connect() as client:
        environ = environ_of(client, b"OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n")

        assert environ["REQUEST_METHOD"] == "OPTIONS"
        assert environ["RAW_URI"] == environ["REQUEST_URI"] == "*"


def test_connect_reaches_the_app(standing):
    """What a CONNECT answers with 2xx is a tunnel; the app here refuses it."""
    with standing("answers:refuses_connect").connect() as client:
        client.send(
            b"CONNECT example.com:443 HTTP/1.1\r\nHost: example.com:443\r\n\r\n"
        )
        answer = client.response()

        assert answer.status == 405
        assert answer.body == b"CONNECT example.com:443"


@pytest.mark.parametrize("method", ["DELETE", "PATCH", "PROPFIND", "M-SEARCH", "X!"])
def test_any_token_is_a_method(standing, method):
    with standing("echo").connect() as client:
        client.send(method.encode() + b" / HTTP/1.1\r\nHost: x\r\n\r\n")

        assert client.response()["x-method"] == method


ABSOLUTE = {
    "http://other/path?q=1": ("other", "/path", "q=1"),
    "http://other:8080/": ("other:8080", "/", ""),
    "http://other": ("other", "/", ""),
    "http://other?q": ("other", "/", "q"),
    "HTTP://other/": ("other", "/", ""),
    "http://[::1]:80/x": ("[::1]:80", "/x", ""),
    "https://other/x": ("other", "/x", ""),
    "http://other/a%20b": ("other", "/a b", ""),
    "http://other//a": ("other", "//a", ""),
}


@pytest.mark.parametrize("target", ABSOLUTE)
def test_the_authority_of_an_absolute_target_rules_over_host(standing, manner, target):
    data = f"GET {target} HTTP/1.1\r\nHost: x\r\n\r\n".encode()
    with standing("environ").connect() as client:
        if manner == "each byte":
            client.send_each_byte(data)
        else:
            client.send(data if manner == "whole" else data + SECOND)
        environ = client.response().json()["environ"]
        host, path, query = ABSOLUTE[target]

        assert environ["HTTP_HOST"] == host
        assert environ["PATH_INFO"] == path
        assert environ["QUERY_STRING"] == query
        assert environ["RAW_URI"] == target


PATHS = {
    "/": ("/", ""),
    "/a/b": ("/a/b", ""),
    "/a?b=c&d": ("/a", "b=c&d"),
    "/a?": ("/a", ""),
    "/a??b?c": ("/a", "?b?c"),
    "/a%20b": ("/a b", ""),
    "/%2F": ("//", ""),
    "/%2f?%2f": ("//", "%2f"),
    "/%c3%A9": ("/\xc3\xa9", ""),
    "/%ff": ("/\xff", ""),
    "/%2541": ("/%41", ""),
    "/a+b": ("/a+b", ""),
    "//a//b": ("//a//b", ""),
    "//host/path": ("//host/path", ""),
    "/a/../b/./c": ("/a/../b/./c", ""),
    "/a;b=c": ("/a;b=c", ""),
    "/a:b@c": ("/a:b@c", ""),
    "/http://x/": ("/http://x/", ""),
    "/!$&'()*+,=~-._": ("/!$&'()*+,=~-._", ""),
}


@pytest.mark.parametrize("target", PATHS)
def test_a_target_is_split_and_decoded_once(standing, target):
    path, query = PATHS[target]
    with standing("environ").connect() as client:
        environ = client.get(target).json()["environ"]

        assert environ["PATH_INFO"] == path
        assert environ["QUERY_STRING"] == query
        assert environ["RAW_URI"] == environ["REQUEST_URI"] == target


@pytest.mark.parametrize("target", ["/%", "/%2", "/%zz", "/%4", "/a%", "/%%41", "/%4g"])
def test_a_bad_percent_escape_is_kept_or_refused(standing, target):
    with standing("environ").connect() as client:
        answer = client.get(target)

        assert answer.status in (200, 400)
        if answer.status == 200:
            path = answer.json()["environ"]["PATH_INFO"]
            assert path == target.replace("%41", "A")


VALUES = {
    "spaces around": (b" \t a \t ", "a"),
    "no space": (b"a", "a"),
    "empty": (b"", ""),
    "only spaces": (b"  \t ", ""),
    "space inside": (b" a b ", "a b"),
    "tab inside": (b" a\tb ", "a\tb"),
    "colon": (b" :a:b:", ":a:b:"),
    "obs-text": (b" caf\xe9 \xff", "caf\xe9 \xff"),
    "UTF-8": (" \u20ac".encode(), "\u20ac".encode().decode("latin-1")),
    "NBSP is no space": (b" \xa0a\xa0", "\xa0a\xa0"),
    "everything printable": (
        b" " + bytes(range(0x21, 0x7F)),
        bytes(range(0x21, 0x7F)).decode(),
    ),
    "long": (b" " + b"v" * 4000, "v" * 4000),
}


@pytest.mark.parametrize(("sent", "seen"), VALUES.values(), ids=list(VALUES))
def test_a_field_value_reaches_the_app_as_it_is(standing, manner, sent, seen):
    data = b"GET / HTTP/1.1\r\nHost: x\r\nX-Value:" + sent + b"\r\nX-Next: n\r\n\r\n"
    with standing("environ").connect() as client:
        if manner == "each byte":
            client.send_each_byte(data)
        else:
            client.send(data if manner == "whole" else data + SECOND)
        environ = client.response().json()["environ"]

        assert environ["HTTP_X_VALUE"] == seen
        assert environ["HTTP_X_NEXT"] == "n"


@pytest.mark.parametrize(
    "host",
    ["x", "example.com", "example.com:8000", "127.0.0.1:1", "[::1]", "[::1]:80",
     "a_b", "a-b.c", "x:", "%41"],
)  # fmt: skip
def test_a_valid_host_is_taken(standing, host):
    with standing("environ").connect() as client:
        client.send(f"GET / HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())

        assert client.response().json()["environ"]["HTTP_HOST"] == host


# The unread and the unfinished


@pytest.mark.contract
def test_a_body_the_app_never_read_is_no_request(standing):
    body = b"GET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n" * 10
    with standing("environ").connect() as client:
        client.post("/first", body)
        answer = client.get("/second")

        assert json.loads(answer.body)["environ"]["RAW_URI"] == "/second"


def test_a_connection_closed_before_a_request_gets_nothing(standing):
    with standing("hello").connect() as client:
        client.half_close()

        assert client.closed()


@pytest.mark.parametrize(
    "data",
    [
        b"G",
        b"GET / HTTP/1.1\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\n\r",
        b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n01234",
        b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n01",
        b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n0\r\n",
        b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n",
        b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX: 1\r\n",
    ],
)
def test_a_request_that_is_cut_never_reaches_the_app(standing, data):
    """A truncated upload must not look like a whole one."""
    with standing("echo").connect() as client:
        client.send(data)
        client.half_close()
        try:
            status = client.response().status
        except Truncated:
            status = 0

        assert status in (0, 400)
        assert client.closed()


@pytest.mark.contract
def test_a_half_closed_client_gets_its_answer(standing):
    with standing("echo").connect() as client:
        client.send(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello")
        client.half_close()

        assert client.response().body == b"hello"
        assert client.closed()


@pytest.mark.contract
def test_a_half_closed_client_gets_all_its_pipelined_answers(standing):
    with standing("echo").connect() as client:
        client.send(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n" * 100)
        client.half_close()

        assert [client.response().status for _ in range(100)] == [200] * 100
        assert client.closed()
