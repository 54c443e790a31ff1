"""The access log of a real server: a line for each response, in the file that was named."""

import os
import re
import signal

import pytest

from tests.process import STOP_S
from tests.streams import BROKEN, launched, served

COMBINED = re.compile(
    r"127\.0\.0\.1 - - \[\d\d/[A-Z][a-z]{2}/\d{4}:\d\d:\d\d:\d\d [+-]\d{4}\] "
    r'"GET /a\?b HTTP/1\.1" 200 (\d+) "-" "agent"'
)


def lines(path):
    return path.read_text().splitlines()


@pytest.mark.contract
def test_each_response_has_a_line_in_the_combined_format(serve, tmp_path):
    path = tmp_path / "access.log"
    with serve("hello", accesslog=str(path)) as server, server.connect() as client:
        client.send(b"GET /a?b HTTP/1.1\r\nHost: x\r\nUser-Agent: agent\r\n\r\n")
        body = client.response().body

    found = COMBINED.fullmatch(lines(path)[0])
    assert found is not None
    assert int(found[1]) == len(body)


def test_a_refused_request_has_a_line_too(serve, tmp_path):
    path = tmp_path / "access.log"
    settings = {"accesslog": str(path), "access_log_format": "%(s)s %(r)s"}
    with serve("hello", **settings) as server, server.connect() as client:
        client.send(b"GET / HTTP/1.1\r\n\r\n")
        assert client.response().status == 400

    assert lines(path) == ["400 GET / HTTP/1.1"]


def test_variables_and_headers_of_the_app_can_be_logged(serve, tmp_path):
    path = tmp_path / "access.log"
    form = "%({wsgi.url_scheme}e)s %({PATH_INFO}e)s %({content-type}o)s %({no}e)s"
    settings = {"accesslog": str(path), "access_log_format": form}
    with serve("hello", **settings) as server, server.connect() as client:
        assert client.get("/x").status == 200

    assert lines(path) == ["http /x text/plain -"]


@pytest.mark.parametrize("path", ["/at_once", "/after_start_response"])
def test_a_failing_app_is_logged_with_its_status(serve, tmp_path, path):
    log = tmp_path / "access.log"
    settings = {"accesslog": str(log), "access_log_format": "%(s)s %(U)s %(b)s"}
    with serve("failing", **settings) as server, server.connect() as client:
        answer = client.get(path)

    assert lines(log) == [f"500 {path} {len(answer.body)}"]


def test_no_line_is_lost_at_the_end(serve, tmp_path):
    path = tmp_path / "access.log"
    settings = {"accesslog": str(path), "access_log_format": "%(U)s"}
    with serve("hello", **settings) as server, server.connect() as client:
        for number in range(500):
            assert client.get(f"/{number}").status == 200

    assert lines(path) == [f"/{number}" for number in range(500)]


def test_a_child_of_the_app_does_not_write_the_parents_lines(serve, tmp_path):
    path = tmp_path / "access.log"
    settings = {"accesslog": str(path), "access_log_format": "%(U)s"}
    with serve("forking", **settings) as server, server.connect() as client:
        assert client.get("/first").status == 200
        assert client.get("/child-returns").body == b"parent"

    assert lines(path) == ["/first", "/child-returns"]


def test_a_log_that_cannot_be_opened_is_an_error_that_names_it(tmp_path):
    from pywsgiserve import ConfigError, run

    path = os.fspath(tmp_path / "missing" / "access.log")
    with pytest.raises(ConfigError, match=r"accesslog: cannot write to .*access\.log"):
        run(lambda environ, start: [], bind="127.0.0.1:0", accesslog=path)


@pytest.mark.parametrize("broken", BROKEN, ids=lambda broken: broken.__name__)
def test_an_access_log_that_nobody_takes_stops_nothing(broken):
    kept, stdout = broken()
    settings = {"accesslog": "-", "access_log_format": "x" * 4000}
    try:
        with launched("hello", settings, stdout=stdout) as (server, at):
            for _ in range(40):
                assert served(at) == 200
            assert os.get_blocking(stdout), "its flags are not ours to change"
            server.send_signal(signal.SIGTERM)

            assert server.wait(STOP_S) == 0
    finally:
        for fd in (*kept, stdout):
            os.close(fd)


def test_numbers_may_be_asked_for_as_numbers(serve, tmp_path):
    path = tmp_path / "access.log"
    settings = {"accesslog": str(path), "access_log_format": "%(D)d 100%% %(s)s"}
    with serve("hello", **settings) as server, server.connect() as client:
        assert client.get().status == 200

    assert re.fullmatch(r"\d+ 100% 200", lines(path)[0])
