"""The environ of PEP 3333, with the keys that Gunicorn's users count on."""

from tests.process import WORKERS


def test_the_environ_of_a_plain_request_is_complete(standing):
    server = standing("environ")
    with server.connect() as client:
        port = client.socket.getsockname()[1]
        answer = client.get("/path?query=1", "X-A: b").json()

    environ = answer["environ"]
    expected = {
        "REQUEST_METHOD": "GET",
        "SCRIPT_NAME": "",
        "PATH_INFO": "/path",
        "QUERY_STRING": "query=1",
        "RAW_URI": "/path?query=1",
        "REQUEST_URI": "/path?query=1",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "SERVER_NAME": "127.0.0.1",
        "SERVER_PORT": str(server.port),
        "REMOTE_ADDR": "127.0.0.1",
        "REMOTE_PORT": str(port),
        "HTTP_HOST": "x",
        "HTTP_X_A": "b",
        "wsgi.version": [1, 0],
        "wsgi.url_scheme": "http",
        "wsgi.multithread": False,
        "wsgi.multiprocess": WORKERS > 1,
        "wsgi.run_once": False,
        "wsgi.input_terminated": True,
    }
    assert {key: environ.get(key) for key in expected} == expected
    assert environ["SERVER_SOFTWARE"].startswith("pywsgiserve")
    for key in ("wsgi.input", "wsgi.errors", "wsgi.file_wrapper", "wsgi.early_hints",
                "gunicorn.socket"):  # fmt: skip
        assert key in environ
    for key in (
        "CONTENT_TYPE",
        "CONTENT_LENGTH",
        "REMOTE_HOST",
        "REMOTE_USER",
        "HTTPS",
    ):
        assert key not in environ


def test_the_environ_is_a_plain_dict_with_str_keys(standing):
    with standing("environ").connect() as client:
        answer = client.get().json()

        assert answer["type"] == "dict"
        assert answer["key_types"] == ["str"]


def test_content_fields_have_no_http_prefix(standing):
    with standing("environ").connect() as client:
        environ = client.post("/", b"abc", "Content-Type: a/b").json()["environ"]

        assert environ["CONTENT_TYPE"] == "a/b"
        assert environ["CONTENT_LENGTH"] == "3"
        assert "HTTP_CONTENT_TYPE" not in environ
        assert "HTTP_CONTENT_LENGTH" not in environ


def test_connection_level_fields_stay_visible(standing):
    with standing("environ").connect() as client:
        client.send(
            b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n"
            b"Connection: keep-alive\r\n\r\n0\r\n\r\n"
        )
        environ = client.response().json()["environ"]

        assert environ["HTTP_TRANSFER_ENCODING"] == "chunked"
        assert environ["HTTP_CONNECTION"] == "keep-alive"
        assert "CONTENT_LENGTH" not in environ


def test_a_1_0_request_says_so(standing):
    with standing("environ").connect() as client:
        client.send(b"GET / HTTP/1.0\r\n\r\n")
        environ = client.response().json()["environ"]

        assert environ["SERVER_PROTOCOL"] == "HTTP/1.0"
        assert "HTTP_HOST" not in environ


def test_server_name_is_the_listener_and_not_host(standing):
    with standing("environ").connect() as client:
        client.send(b"GET / HTTP/1.1\r\nHost: elsewhere:99\r\n\r\n")
        environ = client.response().json()["environ"]

        assert environ["SERVER_NAME"] == "127.0.0.1"
        assert environ["HTTP_HOST"] == "elsewhere:99"


def test_an_ipv6_peer_has_an_ipv6_address(standing):
    server = standing("environ", bind="[::1]:0")
    with server.connect() as client:
        environ = client.get().json()["environ"]

        assert environ["REMOTE_ADDR"] == environ["SERVER_NAME"] == "::1"
        assert environ["SERVER_PORT"] == str(server.port)


def test_a_unix_peer_has_no_address(serve, short_path):
    with serve("environ", bind=f"unix:{short_path}/socket") as server:
        with server.connect() as client:
            client.send(b"GET / HTTP/1.1\r\nHost: example.com:8000\r\n\r\n")
            environ = client.response().json()["environ"]

        assert environ["REMOTE_ADDR"] == ""
        assert "REMOTE_PORT" not in environ
        assert environ["SERVER_NAME"] == "example.com"
        assert environ["SERVER_PORT"] == "8000"


def test_a_unix_listener_has_a_default_port(serve, short_path):
    with serve("environ", bind=f"unix:{short_path}/socket") as server:
        with server.connect() as client:
            plain = client.get("/").json()["environ"]
            secure = client.get("/", "X-Forwarded-Proto: https").json()["environ"]
            client.send(b"GET / HTTP/1.1\r\nHost: [::1]:8000\r\n\r\n")
            six = client.response().json()["environ"]

        assert (plain["SERVER_NAME"], plain["SERVER_PORT"]) == ("x", "80")
        assert (secure["SERVER_NAME"], secure["SERVER_PORT"]) == ("x", "443")
        assert six["SERVER_PORT"] == "8000"


def test_what_an_app_leaves_in_its_environ_is_gone_with_the_request(standing):
    with standing("environ").connect() as client:
        for _ in range(3):
            environ = client.get("/path").json()["environ"]

            assert "left.behind" not in environ
            assert environ["PATH_INFO"] == "/path"
            assert environ["SERVER_NAME"] == "127.0.0.1"


def test_fields_of_one_request_are_not_in_the_next(standing):
    with standing("environ").connect() as client:
        first = client.post("/", b"abc", "X-First: 1", "Content-Type: a/b").json()
        second = client.get("/", "X-Second: 2").json()

        assert first["environ"]["HTTP_X_FIRST"] == "1"
        assert second["environ"]["HTTP_X_SECOND"] == "2"
        for key in ("HTTP_X_FIRST", "CONTENT_TYPE", "CONTENT_LENGTH"):
            assert key not in second["environ"]


def test_equal_requests_are_all_handed_to_the_app(standing):
    """A server that remembers heads must still make an environ for each."""
    with standing("environ").connect() as client:
        began = client.get("/same").json()["requests"]
        counts = [client.get("/same").json()["requests"] for _ in range(50)]

        assert counts == list(range(began + 1, began + 51))


def test_wsgi_errors_goes_to_stderr(serve):
    with serve("validated:erring") as server, server.connect() as client:
        assert client.get().body == b"abc"
        server.wait_for("written to wsgi.errors")
        server.wait_for("^another line$")
