"""Flask and Django, driven with requests as a user's browser or script would."""

import re

import pytest
import requests

from tests.client import DEADLINE_S


@pytest.fixture
def session():
    """A requests session that no proxy of this machine stands in the way of."""
    with requests.Session() as session:
        session.trust_env = False
        yield session


@pytest.fixture
def flask(standing):
    return standing("flask_site").url


@pytest.fixture(scope="session")
def django_server(tmp_path_factory):
    """One Django for all: its start with migrations takes seconds."""
    from tests.conftest import running

    env = {"DJANGO_DIR": str(tmp_path_factory.mktemp("django"))}
    with running("django_site", env=env) as server:
        yield server


@pytest.fixture
def django(django_server):
    yield django_server.url
    django_server.check()


def get(session, url, **arguments):
    return session.get(url, timeout=DEADLINE_S, **arguments)


def post(session, url, **arguments):
    return session.post(url, timeout=6 * DEADLINE_S, **arguments)


@pytest.fixture(scope="module")
def fifty_megabytes():
    return b"".join(b"%09d\n" % n for n in range(5_000_000))


def checksum(data):
    """What the apps compute piece by piece of 64 KiB."""
    return sum(data[::4096]) % 65521


def test_flask_answers(flask, session):
    assert get(session, flask).text == "hello world"
    assert get(session, f"{flask}/?name=caf\u00e9").text == "hello caf\u00e9"


def test_flask_routes_and_reverses(flask, session):
    answer = get(session, f"{flask}/user/J\u00fcrgen%20X/posts/7").json()

    assert answer == {"name": "J\u00fcrgen X", "number": 7, "url": "/"}


def test_flask_keeps_a_session(flask, session):
    assert [get(session, f"{flask}/count").text for _ in range(3)] == ["1", "2", "3"]


def test_flask_reads_forms_and_json(flask, session):
    form = post(session, f"{flask}/form", data={"a": "1", "b": "\u20ac"})
    data = post(session, f"{flask}/json", json={"a": [1, 2, None]})

    assert form.json() == {"a": "1", "b": "\u20ac"}
    assert data.json() == {"a": [1, 2, None]}


def test_flask_reads_a_chunked_form(flask, session):
    pieces = (piece for piece in (b"a=", b"1", b"&b=2"))
    kind = {"Content-Type": "application/x-www-form-urlencoded"}
    answer = post(session, f"{flask}/form", data=pieces, headers=kind)

    assert answer.json() == {"a": "1", "b": "2"}


def test_flask_takes_an_upload_of_50_mb(flask, session, fifty_megabytes):
    answer = post(session, f"{flask}/upload", files={"file": ("f", fifty_megabytes)})

    assert answer.json()["size"] == len(fifty_megabytes)


def test_flask_streams(flask, session):
    answer = get(session, f"{flask}/stream", stream=True)
    lines = list(answer.iter_lines())

    assert answer.headers["Transfer-Encoding"] == "chunked"
    assert lines == [f"line {n}".encode() for n in range(1000)]


def test_flask_sends_a_file_and_a_range_of_it(flask, session, tmp_path):
    path = tmp_path / "file.bin"
    path.write_bytes(bytes(range(256)) * 4000)
    whole = get(session, f"{flask}/file", params={"path": path})
    part = get(
        session,
        f"{flask}/file",
        params={"path": path},
        headers={"Range": "bytes=1000-1999"},
    )
    again = get(
        session,
        f"{flask}/file",
        params={"path": path},
        headers={"If-None-Match": whole.headers["ETag"]},
    )

    assert whole.content == path.read_bytes()
    assert part.status_code == 206
    assert part.content == path.read_bytes()[1000:2000]
    assert (again.status_code, again.content) == (304, b"")


def test_flask_shows_its_error_page(flask, session):
    assert get(session, f"{flask}/fails").status_code == 500
    assert get(session, f"{flask}/nothing").status_code == 404
    assert get(session, flask).status_code == 200


def test_flask_redirects(flask, session):
    assert get(session, f"{flask}/redirect").text == "hello there"


def test_flask_knows_its_own_url(flask, session):
    plain = get(session, f"{flask}/external")
    proxied = get(session, f"{flask}/external", headers={"X-Forwarded-Proto": "https"})

    assert plain.text == f"{flask}/"
    assert proxied.text == f"{flask}/".replace("http:", "https:")


def test_flask_answers_head_and_options(flask, session):
    head = session.head(flask, timeout=DEADLINE_S)
    options = session.options(flask, timeout=DEADLINE_S)

    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["Content-Length"] == "11"
    assert "GET" in options.headers["Allow"]


def test_django_admin_logs_in(django, session):
    page = get(session, f"{django}/admin/login/")
    token = re.search('name="csrfmiddlewaretoken" value="([^"]+)"', page.text)[1]
    answer = post(
        session,
        f"{django}/admin/login/?next=/admin/",
        data={
            "username": "admin",
            "password": "password",
            "csrfmiddlewaretoken": token,
            "next": "/admin/",
        },
    )

    assert answer.history[0].status_code == 302
    assert answer.status_code == 200
    assert "Site administration" in answer.text
    assert "Users" in get(session, f"{django}/admin/auth/user/").text


def test_django_admin_refuses_a_wrong_password(django, session):
    page = get(session, f"{django}/admin/login/")
    token = re.search('name="csrfmiddlewaretoken" value="([^"]+)"', page.text)[1]
    data = {"username": "admin", "password": "x", "csrfmiddlewaretoken": token}
    answer = post(session, f"{django}/admin/login/", data=data)

    assert "Please enter the correct username and password" in answer.text


def test_django_refuses_a_form_without_its_token(django, session):
    answer = post(session, f"{django}/admin/login/", data={"username": "admin"})

    assert answer.status_code == 403


def test_django_keeps_a_session(django, session):
    assert [get(session, f"{django}/count").text for _ in range(3)] == ["1", "2", "3"]


def test_django_takes_an_upload_of_50_mb(django, session, fifty_megabytes):
    answer = post(session, f"{django}/upload", files={"file": ("f", fifty_megabytes)})
    result = answer.json()

    assert result["size"] == len(fifty_megabytes)
    assert result["total"] == checksum(fifty_megabytes)


def test_django_sends_static_files(django, session):
    answer = get(session, f"{django}/static/admin/css/base.css")

    assert answer.status_code == 200
    assert answer.headers["Content-Type"].startswith("text/css")
    assert len(answer.content) == int(answer.headers["Content-Length"]) > 1000


def test_django_sends_a_large_file(django, session, tmp_path, fifty_megabytes):
    path = tmp_path / "large.bin"
    path.write_bytes(fifty_megabytes)
    answer = get(session, f"{django}/file", params={"path": path})

    assert answer.content == fifty_megabytes


def test_django_streams(django, session):
    answer = get(session, f"{django}/stream")

    assert answer.text == "".join(f"line {n}\n" for n in range(1000))


def test_django_shows_its_error_page(django, session):
    assert get(session, f"{django}/fails").status_code == 500
    assert get(session, f"{django}/nothing").status_code == 404
