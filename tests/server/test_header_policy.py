"""Which request fields reach the app under which name, and whom the server believes."""

import pytest

LOCAL = "127.0.0.1"
ELSEWHERE = "192.0.2.1"


def environ(server, *lines, target="/", address=""):
    with server.connect(address) as client:
        answer = client.get(target, *lines)
        assert answer.status == 200, answer
        return answer.json()["environ"]


def status(server, *lines, target="/"):
    with server.connect() as client:
        answer = client.get(target, *lines)
        if answer.status == 400:
            assert client.closed()
        return answer.status


# Duplicates


def test_duplicate_fields_are_joined_with_a_comma(standing):
    seen = environ(standing("environ"), "X-A: 1", "X-B: x", "x-a: 2", "X-A:", "X-A: 3")

    assert seen["HTTP_X_A"] == "1,2,,3"
    assert seen["HTTP_X_B"] == "x"


def test_many_duplicates_are_joined_in_order(standing):
    seen = environ(standing("environ"), *[f"X-A: {n}" for n in range(90)])

    assert seen["HTTP_X_A"] == ",".join(str(n) for n in range(90))


# Underscores


@pytest.mark.parametrize(
    "line",
    [
        "X_Name: 1",
        "X-Name_: 1",
        "_: 1",
        "Remote_User: 1",
        "__X: 1",
        "X_Forwarded_For: 1",
    ],
)
def test_a_name_with_an_underscore_is_dropped(standing, line):
    """CGI spelling would make it one with the hyphenated name a proxy vouches for."""
    seen = environ(standing("environ"), line, "X-Other: 2")
    name = "HTTP_" + line.partition(":")[0].upper().replace("-", "_")

    assert name not in seen
    assert seen["HTTP_X_OTHER"] == "2"


def test_a_dropped_name_does_not_touch_its_hyphenated_twin(standing):
    seen = environ(standing("environ"), "X_A: false", "X-A: true", "X_a: false")

    assert seen["HTTP_X_A"] == "true"


def test_content_length_with_an_underscore_frames_nothing(standing):
    with standing("echo").connect() as client:
        client.send(
            b"POST / HTTP/1.1\r\nHost: x\r\nContent_Length: 30\r\n\r\n"
            b"GET /second HTTP/1.1\r\nHost: x\r\n\r\n"
        )

        assert client.response().body == b""
        assert client.response()["x-target"] == "/second"


def test_transfer_encoding_with_an_underscore_frames_nothing(standing):
    with standing("echo").connect() as client:
        client.send(
            b"POST / HTTP/1.1\r\nHost: x\r\nTransfer_Encoding: chunked\r\n"
            b"Content-Length: 3\r\n\r\nabc"
        )

        assert client.response().body == b"abc"


def test_content_type_with_an_underscore_is_dropped(standing):
    seen = environ(standing("environ"), "Content_Type: a/b")

    assert "CONTENT_TYPE" not in seen
    assert "HTTP_CONTENT_TYPE" not in seen


@pytest.mark.parametrize("line", ["X_A: 1", "_: 1", "Content_Length: 0"])
def test_header_map_refuse_refuses_underscores(standing, line):
    assert status(standing("environ", header_map="refuse"), line) == 400


def test_header_map_refuse_takes_other_names(standing):
    assert status(standing("environ", header_map="refuse"), "X-A: 1") == 200


def test_header_map_dangerous_maps_underscores(standing):
    seen = environ(standing("environ", header_map="dangerous"), "X_A: 1", "X-A: 2")

    assert seen["HTTP_X_A"] == "1,2"


def test_header_map_dangerous_does_not_let_underscores_frame(standing):
    server = standing("echo", header_map="dangerous")
    with server.connect() as client:
        client.send(
            b"POST / HTTP/1.1\r\nHost: x\r\nContent_Length: 30\r\n\r\n"
            b"GET /second HTTP/1.1\r\nHost: x\r\n\r\n"
        )

        assert client.response().body == b""
        assert client.response()["x-target"] == "/second"


def test_dropped_fields_count_against_the_limit(standing):
    server = standing("environ", limit_request_fields=10)

    assert status(server, *["X_A: 1"] * 20) == 431


# forwarder_headers


def test_a_forwarder_header_of_a_trusted_peer_passes(standing):
    server = standing(
        "environ", forwarder_headers="X_USER,X_GROUP", forwarded_allow_ips=LOCAL
    )
    seen = environ(server, "X_User: me", "X_Other: 1")

    assert seen["HTTP_X_USER"] == "me"
    assert "HTTP_X_OTHER" not in seen


def test_a_forwarder_header_of_anybody_else_is_dropped(standing):
    server = standing(
        "environ", forwarder_headers="X_USER", forwarded_allow_ips=ELSEWHERE
    )

    assert "HTTP_X_USER" not in environ(server, "X_User: me")


def test_a_forwarder_header_of_anybody_else_is_refused_when_asked(standing):
    server = standing(
        "environ",
        forwarder_headers="X_USER",
        forwarded_allow_ips=ELSEWHERE,
        header_map="refuse",
    )

    assert status(server, "X_User: me") == 400


def test_a_forwarder_header_passes_header_map_refuse(standing):
    server = standing(
        "environ",
        forwarder_headers="X_USER",
        forwarded_allow_ips=LOCAL,
        header_map="refuse",
    )

    assert environ(server, "X_User: me")["HTTP_X_USER"] == "me"


def test_an_asterisk_exempts_every_name(standing):
    server = standing("environ", forwarder_headers="*", forwarded_allow_ips=LOCAL)

    assert environ(server, "Any_Name: 1")["HTTP_ANY_NAME"] == "1"


def test_script_name_of_a_trusted_peer_is_the_mount_point(standing):
    server = standing("environ", forwarded_allow_ips=LOCAL)
    seen = environ(server, "SCRIPT_NAME: /mount", target="/mount/path%20x?q")

    assert seen["SCRIPT_NAME"] == "/mount"
    assert seen["PATH_INFO"] == "/path x"
    assert seen["RAW_URI"] == "/mount/path%20x?q"


def test_script_name_of_anybody_else_is_dropped(standing):
    server = standing("environ", forwarded_allow_ips=ELSEWHERE)
    seen = environ(server, "SCRIPT_NAME: /mount", target="/mount/path")

    assert seen["SCRIPT_NAME"] == ""
    assert seen["PATH_INFO"] == "/mount/path"
    assert "HTTP_SCRIPT_NAME" not in seen


def test_script_name_with_a_hyphen_is_only_a_field(standing):
    seen = environ(standing("environ"), "Script-Name: /mount", target="/mount/x")

    assert seen["SCRIPT_NAME"] == ""
    assert seen["PATH_INFO"] == "/mount/x"


def test_script_name_of_the_environment_is_the_mount_point(serve):
    with serve("environ", env={"SCRIPT_NAME": "/mount"}) as server:
        seen = environ(server, target="/mount/path")

    assert seen["SCRIPT_NAME"] == "/mount"
    assert seen["PATH_INFO"] == "/path"


# The scheme


@pytest.mark.parametrize(
    "line",
    ["X-Forwarded-Proto: https", "X-Forwarded-Protocol: ssl", "X-Forwarded-Ssl: on"],
)
def test_a_trusted_peer_tells_the_scheme(standing, line):
    server = standing("environ", forwarded_allow_ips=LOCAL)

    assert environ(server, line)["wsgi.url_scheme"] == "https"


def test_local_peers_are_trusted_by_default(standing):
    seen = environ(standing("environ"), "X-Forwarded-Proto: https")

    assert seen["wsgi.url_scheme"] == "https"


@pytest.mark.parametrize(
    "line",
    [
        "X-Forwarded-Proto: http",
        "X-Forwarded-Proto: https,http",
        "X-Forwarded-Proto: xhttps",
        "X-Forwarded-Proto:",
        "X-Forwarded-Ssl: off",
        "X-Forwarded-Protocol: https",
        "X_Forwarded_Proto: https",
    ],
)
def test_any_other_value_is_http(standing, line):
    seen = environ(standing("environ", forwarded_allow_ips=LOCAL), line)

    assert seen["wsgi.url_scheme"] == "http"


def test_anybody_else_does_not_tell_the_scheme(standing):
    server = standing("environ", forwarded_allow_ips=ELSEWHERE)
    seen = environ(server, "X-Forwarded-Proto: https")

    assert seen["wsgi.url_scheme"] == "http"
    assert seen["HTTP_X_FORWARDED_PROTO"] == "https"


@pytest.mark.parametrize(
    "lines",
    [
        ("X-Forwarded-Proto: https", "X-Forwarded-Ssl: off"),
        ("X-Forwarded-Proto: http", "X-Forwarded-Ssl: on"),
        ("X-Forwarded-Protocol: ssl", "X-Forwarded-Proto: http"),
        ("X-Forwarded-Proto: https", "X-Forwarded-Proto: http"),
    ],
)
def test_contradictory_schemes_are_refused(standing, lines):
    assert status(standing("environ", forwarded_allow_ips=LOCAL), *lines) == 400


def test_agreeing_schemes_are_taken(standing):
    server = standing("environ", forwarded_allow_ips=LOCAL)
    seen = environ(server, "X-Forwarded-Proto: https", "X-Forwarded-Ssl: on")

    assert seen["wsgi.url_scheme"] == "https"


def test_contradictory_schemes_of_anybody_else_are_ignored(standing):
    server = standing("environ", forwarded_allow_ips=ELSEWHERE)

    assert status(server, "X-Forwarded-Proto: https", "X-Forwarded-Ssl: off") == 200


def test_secure_scheme_headers_can_be_chosen(standing):
    server = standing(
        "environ",
        secure_scheme_headers={"X-Scheme": "secure"},
        forwarded_allow_ips=LOCAL,
    )

    assert environ(server, "X-Scheme: secure")["wsgi.url_scheme"] == "https"
    assert environ(server, "X-Forwarded-Proto: https")["wsgi.url_scheme"] == "http"


# forwarded_allow_ips


def believes(server, address=""):
    seen = environ(server, "X-Forwarded-Proto: https", address=address)
    return seen["wsgi.url_scheme"] == "https"


@pytest.mark.parametrize(
    "value",
    [
        "127.0.0.1",
        "192.0.2.1,127.0.0.1",
        " 192.0.2.1 , 127.0.0.1 ",
        "127.0.0.0/8",
        "127.0.0.1/32",
        "0.0.0.0/0",
        "::ffff:127.0.0.1",
        "*",
    ],
)
def test_forwarded_allow_ips_matches_the_parsed_peer(standing, value):
    assert believes(standing("environ", forwarded_allow_ips=value))


@pytest.mark.parametrize(
    "value",
    ["127.0.0.2", "127.0.0.10", "10.0.0.0/8", "127.0.0.2/32", "::1", "::/64", ""],
)
def test_forwarded_allow_ips_matches_nobody_else(standing, value):
    assert not believes(standing("environ", forwarded_allow_ips=value))


@pytest.mark.parametrize("value", ["::1", "0:0:0:0:0:0:0:1", "::/64", "::1/128"])
def test_forwarded_allow_ips_matches_any_spelling_of_ipv6(standing, value):
    server = standing("environ", bind="[::1]:0", forwarded_allow_ips=value)

    assert believes(server)


def test_a_mapped_ipv4_peer_is_that_ipv4_peer(standing):
    """A dual-stack listener sees ::ffff:127.0.0.1."""
    server = standing("environ", bind="[::]:0", forwarded_allow_ips="127.0.0.1")

    assert believes(server, f"http://127.0.0.1:{server.port}")


def test_unix_peers_are_trusted(serve, short_path):
    bind = f"unix:{short_path}/socket"
    with serve("environ", bind=bind, forwarded_allow_ips=ELSEWHERE) as server:
        assert believes(server)


def test_the_address_of_the_peer_never_comes_from_a_field(standing):
    seen = environ(standing("environ"), "X-Forwarded-For: 9.9.9.9", "Forwarded: for=9")

    assert seen["REMOTE_ADDR"] == "127.0.0.1"
