"""What RFC 9112 calls invalid is refused: one answer, a close, and nothing behind it counts.

Each case goes in one piece, byte by byte, and with a second request right behind it.
"""

import pytest

from tests.client import Client

GET = b"GET / HTTP/1.1\r\nHost: x\r\n"
POST = b"POST / HTTP/1.1\r\nHost: x\r\n"
CHUNKED = POST + b"Transfer-Encoding: chunked\r\n\r\n"
SECOND = b"GET /second HTTP/1.1\r\nHost: x\r\n\r\n"
BAD = {400}


def line(request_line: bytes) -> bytes:
    return request_line + b"\r\nHost: x\r\n\r\n"


def field(bad: bytes) -> bytes:
    return GET + bad + b"\r\n\r\n"


def host(value: bytes) -> bytes:
    return b"GET / HTTP/1.1\r\nHost: " + value + b"\r\n\r\n"


def length(value: bytes) -> bytes:
    return POST + b"Content-Length: " + value + b"\r\n\r\nabc"


def coding(value: bytes) -> bytes:
    return POST + b"Transfer-Encoding: " + value + b"\r\n\r\n3\r\nabc\r\n0\r\n\r\n"


REQUEST_LINES = {
    "two spaces": (line(b"GET  / HTTP/1.1"), BAD),
    "two spaces before the version": (line(b"GET /  HTTP/1.1"), BAD),
    "a leading space": (line(b" GET / HTTP/1.1"), BAD),
    "a trailing space": (line(b"GET / HTTP/1.1 "), BAD),
    "tabs": (line(b"GET\t/\tHTTP/1.1"), BAD),
    "a space in the target": (line(b"GET /a b HTTP/1.1"), BAD),
    "no version": (line(b"GET /"), BAD),
    "no target": (line(b"GET HTTP/1.1"), BAD),
    "an empty target": (line(b"GET  HTTP/1.1"), BAD),
    "only a method": (line(b"GET"), BAD),
    "lower-case version": (line(b"GET / http/1.1"), BAD),
    "version 1.10": (line(b"GET / HTTP/1.10"), BAD),
    "version 01.1": (line(b"GET / HTTP/01.1"), BAD),
    "version 1": (line(b"GET / HTTP/1"), BAD),
    "version 1.": (line(b"GET / HTTP/1."), BAD),
    "version .1": (line(b"GET / HTTP/.1"), BAD),
    "version 11": (line(b"GET / HTTP/11"), BAD),
    "version 1,1": (line(b"GET / HTTP/1,1"), BAD),
    "version 1.x": (line(b"GET / HTTP/1.x"), BAD),
    "another protocol": (line(b"GET / HTTPS/1.1"), BAD),
    "a space in the version": (line(b"GET / HTTP/ 1.1"), BAD),
    "HTTP/0.9": (line(b"GET / HTTP/0.9"), {400, 505}),
    "HTTP/1.2": (line(b"GET / HTTP/1.2"), {505}),
    "HTTP/1.9": (line(b"GET / HTTP/1.9"), {505}),
    "HTTP/2.0": (line(b"GET / HTTP/2.0"), {505}),
    "HTTP/3.0": (line(b"GET / HTTP/3.0"), {505}),
    "HTTP/9.9": (line(b"GET / HTTP/9.9"), {505}),
    "HTTP/2 preface": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", {400, 505}),
    "no method": (line(b"/ HTTP/1.1"), BAD),
    "@ in the method": (line(b"G@T / HTTP/1.1"), BAD),
    "parentheses in the method": (line(b"(GET) / HTTP/1.1"), BAD),
    "colon in the method": (line(b"GET: / HTTP/1.1"), BAD),
    "NUL in the method": (line(b"G\0T / HTTP/1.1"), BAD),
    "8-bit method": (line(b"G\xcbT / HTTP/1.1"), BAD),
    "a relative target": (line(b"GET path HTTP/1.1"), BAD),
    "a relative target with dots": (line(b"GET ../x HTTP/1.1"), BAD),
    "a query alone": (line(b"GET ?x HTTP/1.1"), BAD),
    "asterisk for GET": (line(b"GET * HTTP/1.1"), BAD),
    "asterisk and more": (line(b"OPTIONS *x HTTP/1.1"), BAD),
    "authority for GET": (line(b"GET example.com:80 HTTP/1.1"), BAD),
    "a path for CONNECT": (line(b"CONNECT / HTTP/1.1"), BAD),
    "no port for CONNECT": (line(b"CONNECT example.com HTTP/1.1"), BAD),
    "asterisk for CONNECT": (line(b"CONNECT * HTTP/1.1"), BAD),
    "a URL for CONNECT": (line(b"CONNECT http://x:80/ HTTP/1.1"), BAD),
    "a fragment": (line(b"GET /a#b HTTP/1.1"), BAD),
    "a fragment in absolute-form": (line(b"GET http://x/a#b HTTP/1.1"), BAD),
    "absolute-form without a host": (line(b"GET http:///a HTTP/1.1"), BAD),
    "absolute-form with an open bracket": (line(b"GET http://[::1/ HTTP/1.1"), BAD),
    "absolute-form with a bad port": (line(b"GET http://x:y/ HTTP/1.1"), BAD),
    "NUL in the target": (line(b"GET /a\0b HTTP/1.1"), BAD),
    "TAB in the target": (line(b"GET /a\tb HTTP/1.1"), BAD),
    "CR in the target": (line(b"GET /a\rb HTTP/1.1"), BAD),
    "LF in the target": (line(b"GET /a\nb HTTP/1.1"), BAD),
    "ESC in the target": (line(b"GET /a\x1bb HTTP/1.1"), BAD),
    "DEL in the target": (line(b"GET /a\x7fb HTTP/1.1"), BAD),
    "VT in the target": (line(b"GET /a\x0bb HTTP/1.1"), BAD),
    "a TLS hello": (
        b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03" + b"\xa5" * 32 + b"\r\n\r\n",
        BAD,
    ),
    "a PROXY line": (
        b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n" + GET + b"\r\n",
        BAD,
    ),
}

LINE_ENDS = {
    "LF after the request line": (b"GET / HTTP/1.1\nHost: x\r\n\r\n", BAD),
    "LF after a field": (b"GET / HTTP/1.1\r\nHost: x\n\r\n", BAD),
    "LF for the empty line": (b"GET / HTTP/1.1\r\nHost: x\r\n\n", BAD),
    "LF everywhere": (b"GET / HTTP/1.1\nHost: x\n\n", BAD),
    "CR after the request line": (b"GET / HTTP/1.1\rHost: x\r\n\r\n", BAD),
    "CR after a field": (b"GET / HTTP/1.1\r\nHost: x\rX-A: 1\r\n\r\n", BAD),
    "two CR before LF": (b"GET / HTTP/1.1\r\nHost: x\r\r\n\r\n", BAD),
    "CR CR LF after the request line": (b"GET / HTTP/1.1\r\r\nHost: x\r\n\r\n", BAD),
    "CR for the empty line": (GET + b"\rX-A: 1\r\n\r\n", BAD),
    "CR, then something else, before the body": (GET + b"\rX\n", BAD),
    "LF as the first byte": (b"\nGET / HTTP/1.1\r\nHost: x\r\n\r\n", BAD),
}

FIELDS = {
    "no colon": (field(b"X-A"), BAD),
    "no colon, with a space": (field(b"X-A 1"), BAD),
    "an empty name": (field(b": 1"), BAD),
    "only a colon": (field(b":"), BAD),
    "space before the colon": (field(b"X-A : 1"), BAD),
    "tab before the colon": (field(b"X-A\t: 1"), BAD),
    "space in the name": (field(b"X A: 1"), BAD),
    "NUL in the name": (field(b"X\0A: 1"), BAD),
    "CTL in the name": (field(b"X\x01A: 1"), BAD),
    "8-bit name": (field(b"X-\xe9: 1"), BAD),
    "slash in the name": (field(b"X/A: 1"), BAD),
    "quotes around the name": (field(b'"X": 1'), BAD),
    "bracket in the name": (field(b"X[A]: 1"), BAD),
    "folded with a space": (field(b"X-A: 1\r\n 2"), BAD),
    "folded with a tab": (field(b"X-A: 1\r\n\t2"), BAD),
    "folded without a value": (field(b"X-A:\r\n 2"), BAD),
    "a fold of nothing": (field(b"X-A: 1\r\n "), BAD),
    "a fold before the first field": (
        b"GET / HTTP/1.1\r\n Host: x\r\nHost: x\r\n\r\n",
        BAD,
    ),
    "folded Content-Length": (POST + b"Content-Length:\r\n 3\r\n\r\nabc", BAD),
    "folded Transfer-Encoding": (
        POST + b"Transfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n",
        BAD,
    ),
    "two Content-Types": (field(b"Content-Type: a/b\r\nContent-Type: c/d"), BAD),
    **{
        f"{byte:#04x} in a value": (field(b"X-A: 1" + bytes([byte]) + b"2"), BAD)
        for byte in [*range(0x09), 0x0B, 0x0C, *range(0x0E, 0x20), 0x7F]
    },
    "NUL at the end of a value": (field(b"X-A: 1\0"), BAD),
    "VT around a value": (field(b"X-A:\x0b1"), BAD),
}

HOSTS = {
    "no Host in 1.1": (b"GET / HTTP/1.1\r\nX-A: 1\r\n\r\n", BAD),
    "no field at all in 1.1": (b"GET / HTTP/1.1\r\n\r\n", BAD),
    "no Host with absolute-form": (b"GET http://x/ HTTP/1.1\r\nX-A: 1\r\n\r\n", BAD),
    "two Hosts": (field(b"Host: y"), BAD),
    "two equal Hosts": (field(b"Host: x"), BAD),
    "two Hosts of unlike spelling": (field(b"hOST: x"), BAD),
    "two Hosts with absolute-form": (
        b"GET http://x/ HTTP/1.1\r\nHost: x\r\nHost: x\r\n\r\n",
        BAD,
    ),
    "two Hosts in 1.0": (b"GET / HTTP/1.0\r\nHost: x\r\nHost: y\r\n\r\n", BAD),
    "space in Host": (host(b"a b"), BAD),
    "slash in Host": (host(b"a/b"), BAD),
    "user in Host": (host(b"user@a"), BAD),
    "URL in Host": (host(b"http://a/"), BAD),
    "query in Host": (host(b"a?b"), BAD),
    "fragment in Host": (host(b"a#b"), BAD),
    "backslash in Host": (host(b"a\\b"), BAD),
    "quote in Host": (host(b'a"b'), BAD),
    "angle brackets in Host": (host(b"<a>"), BAD),
    "a word for a port": (host(b"a:http"), BAD),
    "a signed port": (host(b"a:+80"), BAD),
    "two ports": (host(b"a:80:80"), BAD),
    "bare IPv6 in Host": (host(b"::1"), BAD),
    "open bracket in Host": (host(b"[::1"), BAD),
    "text behind the bracket": (host(b"[::1]x"), BAD),
    "no address in brackets": (host(b"[x]"), BAD),
    "space before the colon of Host": (b"GET / HTTP/1.1\r\nHost : x\r\n\r\n", BAD),
}

LENGTHS = {
    "plus": (length(b"+3"), BAD),
    "minus": (length(b"-3"), BAD),
    "minus zero": (length(b"-0"), BAD),
    "empty": (length(b""), BAD),
    "word": (length(b"three"), BAD),
    "hex": (length(b"0x3"), BAD),
    "hex digit": (length(b"a"), BAD),
    "underscore": (length(b"0_3"), BAD),
    "fraction": (length(b"3.0"), BAD),
    "exponent": (length(b"3e0"), BAD),
    "spaces between": (length(b"3 3"), BAD),
    "list": (length(b"3, 3"), BAD),
    "unequal list": (length(b"3, 4"), BAD),
    "trailing comma": (length(b"3,"), BAD),
    "quotes": (length(b'"3"'), BAD),
    "semicolon": (length(b"3;x"), BAD),
    "NUL": (length(b"3\0"), BAD),
    "VT before": (length(b"\x0b3"), BAD),
    "NBSP after": (length(b"3\xa0"), BAD),
    "Arabic digit": (length("\u0663".encode()), BAD),
    "2**63": (length(b"9223372036854775808"), {400, 413}),
    "2**64 + 3": (length(b"18446744073709551619"), {400, 413}),
    "thirty digits": (length(b"9" * 30), {400, 413}),
    "twice": (POST + b"Content-Length: 3\r\nContent-Length: 4\r\n\r\nabc", BAD),
    "twice the same": (
        POST + b"Content-Length: 3\r\nContent-Length: 3\r\n\r\nabc",
        BAD,
    ),
    "twice, once empty": (
        POST + b"Content-Length: 3\r\nContent-Length:\r\n\r\nabc",
        BAD,
    ),
    "twice, apart": (
        POST + b"Content-Length: 3\r\nX-A: 1\r\ncontent-length: 3\r\n\r\nabc",
        BAD,
    ),
    "space before the colon": (POST + b"Content-Length : 3\r\n\r\nabc", BAD),
}

TE = b"Transfer-Encoding: chunked\r\n"
BODY = b"\r\n3\r\nabc\r\n0\r\n\r\n"
CODINGS = {
    "with a length": (POST + b"Content-Length: 3\r\n" + TE + BODY, BAD),
    "before a length": (POST + TE + b"Content-Length: 3\r\n" + BODY, BAD),
    "with length zero": (POST + b"Content-Length: 0\r\n" + TE + BODY, BAD),
    "with a length, spelt unlike": (
        POST + b"cOnTeNt-lEnGtH: 3\r\ntRaNsFeR-eNcOdInG: ChUnKeD\r\n" + BODY,
        BAD,
    ),
    "unknown with a length": (
        POST + b"Content-Length: 3\r\nTransfer-Encoding: x\r\n\r\nabc",
        {400, 501},
    ),
    "identity with a length": (
        POST + b"Content-Length: 3\r\nTransfer-Encoding: identity\r\n\r\nabc",
        {400, 501},
    ),
    "chunked twice": (coding(b"chunked, chunked"), BAD),
    "chunked in two fields": (POST + TE + TE + BODY, BAD),
    "chunked not last": (coding(b"chunked, gzip"), {400, 501}),
    "chunked before identity": (coding(b"chunked, identity"), {400, 501}),
    "chunked not last, in two fields": (
        POST + TE + b"Transfer-Encoding: gzip\r\n" + BODY,
        {400, 501},
    ),
    "unknown": (coding(b"xchunked"), {501}),
    "unknown, then chunked": (coding(b"x, chunked"), {501}),
    "unknown in a field of its own": (
        POST + b"Transfer-Encoding: x\r\n" + TE + BODY,
        {501},
    ),
    "gzip, then chunked": (coding(b"gzip, chunked"), {501}),
    "gzip alone": (coding(b"gzip"), {400, 501}),
    "identity": (coding(b"identity"), {400, 501}),
    "empty": (coding(b""), {400, 501}),
    "in quotes": (coding(b'"chunked"'), {400, 501}),
    "with a parameter": (coding(b"chunked;q=1"), {400, 501}),
    "two words": (coding(b"chunked x"), {400, 501}),
    "after VT": (coding(b"\x0bchunked"), BAD),
    "after NUL": (coding(b"\0chunked"), BAD),
    "space before the colon": (
        POST + b"Transfer-Encoding : chunked\r\n" + BODY,
        BAD,
    ),
    "in HTTP/1.0": (
        b"POST / HTTP/1.0\r\nHost: x\r\n" + TE + BODY,
        BAD,
    ),
    "in HTTP/1.0 kept alive": (
        b"POST / HTTP/1.0\r\nConnection: keep-alive\r\n" + TE + BODY,
        BAD,
    ),
}

CHUNKS = {
    "no size": (b"\r\nabc\r\n0\r\n\r\n", BAD),
    "a word": (b"xyz\r\nabc\r\n0\r\n\r\n", BAD),
    "plus": (b"+3\r\nabc\r\n0\r\n\r\n", BAD),
    "minus": (b"-3\r\nabc\r\n0\r\n\r\n", BAD),
    "0x": (b"0x3\r\nabc\r\n0\r\n\r\n", BAD),
    "underscore": (b"0_3\r\nabc\r\n0\r\n\r\n", BAD),
    "leading space": (b" 3\r\nabc\r\n0\r\n\r\n", BAD),
    "trailing space": (b"3 \r\nabc\r\n0\r\n\r\n", BAD),
    "trailing tab": (b"3\t\r\nabc\r\n0\r\n\r\n", BAD),
    "two sizes": (b"3 3\r\nabc\r\n0\r\n\r\n", BAD),
    "seventeen digits": (b"0" * 16 + b"3\r\nabc\r\n0\r\n\r\n", BAD),
    "2**64 - 1": (b"F" * 16 + b"\r\nabc\r\n0\r\n\r\n", {400, 413}),
    "2**64 + 3": (b"10000000000000003\r\nabc\r\n0\r\n\r\n", {400, 413}),
    "2**63": (b"8000000000000000\r\nabc\r\n0\r\n\r\n", {400, 413}),
    "LF after the size": (b"3\nabc\r\n0\r\n\r\n", BAD),
    "CR after the size": (b"3\rabc\r\n0\r\n\r\n", BAD),
    "CR CR LF after the size": (b"3\r\r\nabc\r\n0\r\n\r\n", BAD),
    "LF in an extension": (b"3;a\nb\r\nabc\r\n0\r\n\r\n", BAD),
    "CR in an extension": (b"3;a\rb\r\nabc\r\n0\r\n\r\n", BAD),
    "NUL in an extension": (b"3;a\0b\r\nabc\r\n0\r\n\r\n", BAD),
    "LF in a quoted extension": (b'3;a="\n"\r\nabc\r\n0\r\n\r\n', BAD),
    "no semicolon": (b"3a b\r\nabc\r\n0\r\n\r\n", BAD),
    "data too long": (b"3\r\nabcd\r\n0\r\n\r\n", BAD),
    "data too short": (b"4\r\nabc\r\n0\r\n\r\n", BAD),
    "LF after the data": (b"3\r\nabc\n0\r\n\r\n", BAD),
    "CR after the data": (b"3\r\nabc\r0\r\n\r\n", BAD),
    "nothing after the data": (b"3\r\nabc0\r\n\r\n", BAD),
    "LF after the last chunk": (b"3\r\nabc\r\n0\n\r\n", BAD),
    "LF at the end": (b"3\r\nabc\r\n0\r\n\n", BAD),
    "an endless extension": (b"3;" + b"a" * 65536, BAD),
    "a wall of zeros": (b"0" * 65536, BAD),
    "a trailer without a colon": (b"0\r\nX-A\r\n\r\n", BAD),
    "a trailer without a name": (b"0\r\n: 1\r\n\r\n", BAD),
    "space before a trailer's colon": (b"0\r\nX-A : 1\r\n\r\n", BAD),
    "a folded trailer": (b"0\r\nX-A: 1\r\n 2\r\n\r\n", BAD),
    "LF in a trailer": (b"0\r\nX-A: 1\nX-B: 2\r\n\r\n", BAD),
    "CR in a trailer": (b"0\r\nX-A: 1\rX-B: 2\r\n\r\n", BAD),
    "NUL in a trailer": (b"0\r\nX-A: \0\r\n\r\n", BAD),
    "8-bit trailer name": (b"0\r\nX-\xe9: 1\r\n\r\n", BAD),
    "a trailer too long": (b"0\r\nX-A: " + b"1" * 65536, {400, 431}),
    "too many trailers": (b"0\r\n" + b"X: 1\r\n" * 5000 + b"\r\n", {400, 431}),
}

EXPECTATIONS = {
    "something else": (field(b"Expect: something"), {417}),
    "and something else": (field(b"Expect: 100-continue, something"), {417}),
    "with a value": (field(b"Expect: 100-continue=yes"), {417}),
    "almost": (field(b"Expect: 100-continu"), {417}),
}


def refused(client: Client, data: bytes, manner: str, statuses: set[int]) -> None:
    """Send the bytes in that manner; require one refusal, and then the end."""
    if manner == "each byte":
        client.send_each_byte(data)
    elif manner == "whole":
        client.send(data)
    else:
        client.send(data + SECOND + SECOND)
    answer = client.response()

    assert answer.status in statuses
    assert answer.version == "1.1"
    assert answer.says_close
    assert client.closed()


def cases(table: dict[str, tuple[bytes, set[int]]]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize(
        ("data", "statuses"), table.values(), ids=list(table)
    )


@cases(REQUEST_LINES)
def test_a_bad_request_line_is_refused(standing, manner, data, statuses):
    with standing("echo").connect() as client:
        refused(client, data, manner, statuses)


@cases(LINE_ENDS)
def test_only_crlf_ends_a_line(standing, manner, data, statuses):
    with standing("echo").connect() as client:
        refused(client, data, manner, statuses)


@cases(FIELDS)
def test_a_bad_field_is_refused(standing, manner, data, statuses):
    with standing("echo").connect() as client:
        refused(client, data, manner, statuses)


@cases(HOSTS)
def test_anything_but_one_valid_host_is_refused(standing, manner, data, statuses):
    with standing("echo").connect() as client:
        refused(client, data, manner, statuses)


@cases(LENGTHS)
def test_a_bad_content_length_is_refused(standing, manner, data, statuses):
    """An unparsable length is an error, never 0, and two are never chosen from."""
    with standing("echo").connect() as client:
        refused(client, data, manner, statuses)


@cases(CODINGS)
def test_a_bad_transfer_encoding_is_refused(standing, manner, data, statuses):
    """Two readings of where the body ends are how requests get smuggled."""
    with standing("echo").connect() as client:
        refused(client, data, manner, statuses)


@cases(CHUNKS)
def test_a_bad_chunked_body_is_refused(standing, manner, data, statuses):
    """The body is checked before the app runs: the app's own answer never comes."""
    with standing("echo").connect() as client:
        refused(client, CHUNKED + data, manner, statuses)


@cases(EXPECTATIONS)
def test_an_unknown_expectation_is_refused(standing, manner, data, statuses):
    with standing("echo").connect() as client:
        refused(client, data, manner, statuses)


@pytest.mark.contract
def test_requests_before_a_bad_one_are_answered(standing):
    with standing("echo").connect() as client:
        client.send(SECOND + SECOND + b"BAD\r\n\r\n" + SECOND)
        statuses = [client.response().status for _ in range(3)]

        assert statuses == [200, 200, 400]
        assert client.closed()


@pytest.mark.contract
def test_the_body_of_a_refused_request_is_not_interpreted(standing):
    body = SECOND * 100
    head = b"POST / HTTP/1.1\r\nHost: x\r\nHost: y\r\nContent-Length: %d\r\n\r\n"
    with standing("echo").connect() as client:
        client.send(head % len(body) + body)

        assert client.response().status == 400
        assert client.closed()


def test_what_comes_after_the_refusal_was_read_is_not_interpreted(standing):
    with standing("echo").connect() as client:
        client.send(b"BAD\r\n\r\n")
        status = client.response().status
        client.send(SECOND)

        assert status == 400
        assert client.gone()


def test_a_large_body_behind_a_refused_head_does_not_eat_the_refusal(standing):
    """Closing with unread bytes resets the connection, and the reset can overtake
    the answer (RFC 9112 9.6); the server has to linger."""
    head = b"POST / HTTP/1.1\r\nHost: x y\r\nContent-Length: 50000\r\n\r\n"
    with standing("echo").connect() as client:
        client.send(head + b"x" * 50000)

        assert client.response().status == 400
        assert client.closed()


def test_a_refusal_is_logged_with_the_address(serve):
    with serve("echo") as server, server.connect() as client:
        client.send(b"BAD\r\n\r\n")

        assert client.response().status == 400
        server.wait_for(r"\[WARNING\] Invalid request from ip=127\.0\.0\.1: \S+")


def test_the_log_of_a_refusal_is_one_printable_line(serve):
    """Bytes of the client must not forge log lines."""
    with serve("echo") as server, server.connect() as client:
        client.send(b"GET /\x1b[31m\n[forged] HTTP/1.1\r\nHost: \x1b\r\n\r\n")
        client.response()
        server.wait_for("Invalid request")

        assert "\x1b" not in server.stderr
        assert "\n[forged]" not in server.stderr


def test_head_gets_a_refusal_that_frames_itself(standing):
    with standing("echo").connect() as client:
        client.send(b"HEAD / HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n")
        answer = client.head()
        rest = client.to_end()

        assert answer.status == 400
        assert rest == b"" or len(rest) == int(answer["content-length"])
