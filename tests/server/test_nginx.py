"""Behind a real nginx: by uwsgi over TCP and a Unix socket, and by HTTP with keep-alive.

The configurations are those of docs/nginx.md.
"""

import contextlib
import http.client
import itertools
import os
import re
import shutil
import signal
import socket
import subprocess
import threading

import pytest
import requests

from tests import nginx
from tests.client import DEADLINE_S, Client, Truncated, eventually
from tests.conftest import running
from tests.process import WORKERS, wait_until
from tests.server.test_upgrade import Dance

WAYS = ("uwsgi over a Unix socket", "uwsgi over TCP", "HTTP with keep-alive")
UNIX = "unix:/run/site/site.sock"
TCP = "10.0.0.11:3031"
LONG_S = 6 * DEADLINE_S


def tcp_place(server):
    """Host and port of the last address."""
    return re.sub(r"^\w+://", "", server.addresses[-1])


@contextlib.contextmanager
def fronted(way, app, place, **settings):
    """A server and the nginx in front of it, as the heading of docs/nginx.md has it."""
    path = place / "site.sock"
    if "HTTP" in way:
        settings |= {"bind": f"unix:{path}", "keepalive": 75}
    elif "TCP" in way:
        settings |= {"protocol": "uwsgi"}
    else:
        settings |= {"uwsgi_bind": f"unix:{path}", "socket_mode": 0o660}
    with running(app, **settings) as server:
        changes = {TCP: tcp_place(server)} if "TCP" in way else {UNIX: f"unix:{path}"}
        site = nginx.documented(way)
        with nginx.running(site, place / "nginx", changes) as front:
            front.server = server
            yield front


@pytest.fixture(params=WAYS)
def way(request):
    return request.param


@pytest.fixture
def session():
    with requests.Session() as session:
        session.trust_env = False
        yield session


class Site:
    """One app behind nginx, and a session of a browser with it."""

    def __init__(self, front, session):
        self.front = front
        self.session = session

    def get(self, path, **more):
        return self.session.get(self.front.url + path, timeout=LONG_S, **more)

    def post(self, path, **more):
        return self.session.post(self.front.url + path, timeout=LONG_S, **more)

    def sent_to(self, path, host):
        """Where the app redirects a client that asks for this host."""
        answer = self.get(path, headers={"Host": host}, allow_redirects=False)
        return answer.headers["Location"]


@pytest.fixture
def site(way, session, short_path):
    """site(app, **settings): a Site, in a with block."""

    @contextlib.contextmanager
    def opened(app, **more):
        with fronted(way, app, short_path, **more) as front:
            yield Site(front, session)

    return opened


@pytest.fixture(scope="module")
def fifty_megabytes():
    return b"".join(b"%09d\n" % n for n in range(5_000_000))


def checksum(data):
    """What the apps compute piece by piece of 64 KiB."""
    return sum(data[::4096]) % 65521


def environ_of(answer):
    assert answer.status_code == 200, answer.text
    return answer.json()["environ"]


# What an app sees


def test_flask_behaves(site, tmp_path, fifty_megabytes):
    with site("flask_site") as flask:
        assert flask.get("/?name=caf\u00e9").text == "hello caf\u00e9"
        assert (
            flask.get("/user/J\u00fcrgen%20X/posts/7").json()["name"] == "J\u00fcrgen X"
        )
        assert [flask.get("/count").text for _ in range(3)] == ["1", "2", "3"]
        form = flask.post("/form", data={"a": "1", "b": "\u20ac"})
        assert form.json() == {"a": "1", "b": "\u20ac"}
        assert flask.get("/user").text == "nobody"

        def token():
            return re.search('value="([^"]+)"', flask.get("/login").text)[1]

        flask.get("/login")
        assert flask.post("/login", data={"user": "ann"}).status_code == 403
        files = {"file": ("f", fifty_megabytes)}
        data = {"token": token()}
        assert flask.post("/own/upload", files=files, data=data).status_code == 403
        answer = flask.post("/login", data={"user": "ann", "token": token()})
        assert answer.history[0].headers["Location"] == "/user"
        assert answer.text == flask.get("/user").text == "ann"
        assert flask.sent_to("/away", "site.example") == "http://site.example/count"
        assert flask.get("/stream").text.count("\n") == 1000
        assert flask.get("/fails").status_code == 500
        assert flask.get("/nothing").status_code == 404
        assert flask.session.head(flask.front.url, timeout=LONG_S).status_code == 200
        assert flask.post("/own/upload", files=files).status_code == 403
        data = {"token": token()}
        answer = flask.post("/own/upload", files=files, data=data).json()
        assert answer["size"] == len(fifty_megabytes)
        assert answer["total"] == checksum(fifty_megabytes)


def test_a_download_of_100_mb_arrives(site, tmp_path, fifty_megabytes):
    path = tmp_path / "file.bin"
    path.write_bytes(fifty_megabytes * 2)
    with site("flask_site") as flask:
        answer = flask.get("/file", params={"path": path})
        part = flask.get(
            "/file", params={"path": path}, headers={"Range": "bytes=99999990-"}
        )

    assert answer.headers["Content-Length"] == "100000000"
    assert answer.content == fifty_megabytes * 2
    assert part.content == fifty_megabytes[-10:]


def test_django_behaves(site, tmp_path, fifty_megabytes):
    with site("django_site", env={"DJANGO_DIR": str(tmp_path)}) as django:
        page = django.get("/admin/login/")
        token = re.search('name="csrfmiddlewaretoken" value="([^"]+)"', page.text)[1]
        data = {"username": "admin", "password": "password", "next": "/admin/"}
        refused = django.post("/admin/login/", data=data)
        assert refused.status_code == 403
        answer = django.post(
            "/admin/login/?next=/admin/", data={**data, "csrfmiddlewaretoken": token}
        )
        # Debian's nginx does not pass the port on, which a browser at port 80 has not.
        assert answer.history[0].status_code == 302
        assert answer.history[0].headers["Location"] == "/admin/"
        assert "Site administration" in answer.text
        assert [django.get("/count").text for _ in range(2)] == ["1", "2"]
        files = {"file": ("f", fifty_megabytes)}
        assert django.post("/own/upload", files=files).status_code == 403
        token = {"csrfmiddlewaretoken": django.session.cookies["csrftoken"]}
        answer = django.post("/own/upload", files=files, data=token).json()
        assert answer["size"] == len(fifty_megabytes)
        assert answer["total"] == checksum(fifty_megabytes)
        assert django.get("/stream").text.count("\n") == 1000
        assert django.get("/static/admin/css/base.css").status_code == 200
        assert django.sent_to("/away", "site.example") == "http://site.example/count"
        path = tmp_path / "file.bin"
        path.write_bytes(fifty_megabytes * 2)
        answer = django.get("/file", params={"path": path})
        assert answer.headers["Content-Length"] == "100000000"
        assert answer.content == fifty_megabytes * 2


def test_the_environ_is_the_clients(site):
    with site("environ") as plain:
        answer = plain.get(
            "/a%2Fb/caf%C3%A9%20x?q=%20", headers={"Host": "site.example"}
        )
        environ = environ_of(answer)

    expected = {
        "REQUEST_METHOD": "GET",
        "SCRIPT_NAME": "",
        "PATH_INFO": "/a/b/caf\xc3\xa9 x",
        "QUERY_STRING": "q=%20",
        "REQUEST_URI": "/a%2Fb/caf%C3%A9%20x?q=%20",
        "RAW_URI": "/a%2Fb/caf%C3%A9%20x?q=%20",
        "HTTP_HOST": "site.example",
        "wsgi.url_scheme": "http",
    }
    assert {name: environ.get(name) for name in expected} == expected
    if "uwsgi" in plain.front.server.addresses[-1]:
        assert environ["REMOTE_ADDR"] == "127.0.0.1"
        assert environ["REMOTE_PORT"].isdigit()
        assert environ["SERVER_NAME"] == "site.example"
        assert environ["SERVER_PORT"] == str(plain.front.ports[0])
        assert environ["CONTENT_LENGTH"] == ""
        assert environ["SERVER_PROTOCOL"] == "HTTP/1.1"


def test_bytes_of_a_path_need_no_escapes(site):
    with site("environ") as plain:
        with Client(
            socket.create_connection(("127.0.0.1", plain.front.ports[0]))
        ) as client:
            environ = client.get("/caf\xc3\xa9").json()["environ"]

    assert environ["PATH_INFO"] == "/caf\xc3\xa9"


def test_http_over_tcp_is_the_same(short_path, session):
    """By trust in this machine, where a Unix peer has it by its socket."""
    site = nginx.documented(WAYS[2])
    with running("environ", keepalive=75) as server:
        changes = {UNIX: tcp_place(server)}
        with nginx.running(site, short_path / "nginx", changes) as front:
            url, host = f"{front.url}/a%20b?c", {"Host": "site.example"}
            environ = environ_of(session.get(url, headers=host, timeout=LONG_S))

    expected = {
        "PATH_INFO": "/a b",
        "QUERY_STRING": "c",
        "HTTP_HOST": "site.example",
        "HTTP_X_FORWARDED_FOR": "127.0.0.1",
        "REMOTE_ADDR": "127.0.0.1",
        "wsgi.url_scheme": "http",
    }
    assert {name: environ.get(name) for name in expected} == expected


def test_a_chunked_upload_arrives_whole(site):
    def pieces():
        for n in range(1000):
            yield b"%03d" % n * 100

    with site("echo") as echo:
        answer = echo.post("/", data=pieces())

    assert answer.content == b"".join(pieces())


def test_the_app_does_not_hear_of_chunks(site):
    with site("environ") as plain:
        environ = environ_of(plain.post("/", data=iter([b"ab", b"c"])))

    assert environ["CONTENT_LENGTH"] == "3"
    assert "HTTP_TRANSFER_ENCODING" not in environ


def test_sixty_kilobytes_of_fields_arrive(site):
    fields = {f"X-Field-{n}": f"{n}" * 7600 for n in range(8)}
    with site("environ") as plain:
        environ = environ_of(plain.get("/", headers=fields))

    for n in range(8):
        assert environ[f"HTTP_X_FIELD_{n}"] == f"{n}" * 7600


def test_a_stream_is_passed_on(site):
    with site("answers:large_generator") as plain:
        assert len(plain.get("/").content) == 10_000_000


def test_a_head_request_has_no_body(site):
    with site("answers:declared") as plain:
        answer = plain.session.head(plain.front.url, timeout=LONG_S)

    assert answer.headers["Content-Length"] == "10"


def test_a_refusal_reaches_the_client_whose_body_is_not_read(site):
    """uWSGI closes with bytes unread, and nginx makes a 502 of the reset."""
    with site("hello", limit_request_body=1000) as plain:
        for _ in range(20):
            assert plain.post("/", data=b"x" * 3_000_000).status_code == 413


def test_a_body_that_the_app_does_not_read_does_no_harm(site):
    with site("hello", request_buffering=False) as plain:
        for _ in range(20):
            assert plain.post("/", data=b"x" * 3_000_000).status_code == 200


@pytest.mark.parametrize("way", WAYS[1:], indirect=True)
def test_a_response_that_breaks_off_is_not_taken_for_a_whole_one(site):
    """Over TCP; a Unix socket knows no reset, and uwsgi no other sign."""
    broken = requests.exceptions.ChunkedEncodingError
    with site("failing") as plain:
        with pytest.raises(broken):
            plain.get("/after_a_piece")
        assert plain.get("/").status_code == 200


def test_a_body_shorter_than_it_was_said_to_be_is_noticed(site):
    """Also over a Unix socket: nginx counts."""
    with site("answers:too_short_generator") as plain:
        with Client(
            socket.create_connection(("127.0.0.1", plain.front.ports[0]))
        ) as client:
            with pytest.raises(Truncated):
                client.get("/")
        plain.front.server.wait_for("the app's body is shorter than its Content-Length")


def test_an_upload_that_its_client_leaves_never_reaches_the_app(short_path, session):
    site = nginx.documented(WAYS[0])
    changes = changed(short_path) | {
        "include uwsgi_params;": "include uwsgi_params; uwsgi_request_buffering off;"
    }
    with (
        uwsgi_site(short_path, "environ"),
        nginx.running(site, short_path / "nginx", changes) as front,
    ):
        for _ in range(5):
            with Client(
                socket.create_connection(("127.0.0.1", front.ports[0]))
            ) as client:
                head = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 9999\r\n\r\n"
                client.send(head + b"x" * 5000)
        wait_until(lambda: front.errors.count("prematurely closed connection") >= 5)
        answer = session.post(front.url, data=b"x" * 9999, timeout=LONG_S).json()

    assert answer["requests"] == 1


def test_a_client_that_disappears_hurts_nobody(site):
    with site("answers:large_generator") as plain:
        for _ in range(5):
            with socket.create_connection(("127.0.0.1", plain.front.ports[0])) as sock:
                sock.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
                assert sock.recv(100).startswith(b"HTTP/1.1 200")
        assert len(plain.get("/").content) == 10_000_000
        assert "Traceback" not in plain.front.server.stderr


def test_http_keeps_its_connections(short_path, session):
    """Else the configuration would be HTTP without keep-alive."""
    with fronted(WAYS[2], "environ", short_path) as front:
        answers = [session.get(front.url, timeout=LONG_S) for _ in range(5)]
        assert all(answer.status_code == 200 for answer in answers)
        if not WORKERS:
            assert established(front.server.pid, short_path / "site.sock") == 1


def established(pid, path):
    """Connections to this Unix socket, which was bound under a name of its own."""
    table = open(f"/proc/{pid}/net/unix").read()
    return len(re.findall(rf" 03 +\d+ {re.escape(str(path))}\.\d+$", table, re.M))


# Configurations


def uwsgi_site(place, app, **settings):
    """A server on the Unix socket of the configurations."""
    return running(app, uwsgi_bind=f"unix:{place}/site.sock", **settings)


def changed(place, **more):
    return {UNIX: f"unix:{place}/site.sock", **more}


def test_static_files_are_nginxs(short_path, session):
    root = short_path / "public"
    (root / "static").mkdir(parents=True)
    (root / "static" / "style.css").write_text("body {}")
    changes = changed(short_path) | {"/srv/site/public": str(root)}
    with (
        uwsgi_site(short_path, "environ"),
        nginx.running(
            nginx.documented("Static files"), short_path / "nginx", changes
        ) as front,
    ):
        static = session.get(f"{front.url}/static/style.css", timeout=LONG_S)
        other = session.get(f"{front.url}/static/nothing?a=b", timeout=LONG_S)

    assert static.text == "body {}"
    assert environ_of(other)["PATH_INFO"] == "/static/nothing"
    assert environ_of(other)["QUERY_STRING"] == "a=b"


def test_an_app_is_mounted_below_a_path(short_path, session):
    with (
        uwsgi_site(short_path, "environ"),
        nginx.running(
            nginx.documented("Below a path"), short_path / "nginx", changed(short_path)
        ) as front,
    ):
        got = [
            environ_of(session.get(front.url + path, timeout=LONG_S))
            for path in ("/app/x%20y?q", "/app", "/application")
        ]

    assert [env["SCRIPT_NAME"] for env in got] == ["/app"] * 3
    assert [env["PATH_INFO"] for env in got] == ["/x y", "", "/application"]
    assert got[0]["REQUEST_URI"] == "/app/x%20y?q"


def test_a_large_head_needs_what_the_docs_say(short_path, session):
    site = nginx.documented(WAYS[0])
    advice = re.search(r"`(uwsgi_buffer_size [^`]+)`", nginx.DOCS.read_text())[1]
    with uwsgi_site(short_path, "answers:large_head") as server:
        with nginx.running(site, short_path / "nginx", changed(short_path)) as front:
            assert session.get(front.url, timeout=LONG_S).status_code == 502
            assert "upstream sent too big header" in front.errors
        server.wait_for("nginx makes a 502 of it when its uwsgi_buffer_size")
        more = changed(short_path) | {
            "include uwsgi_params;": f"include uwsgi_params; {advice}"
        }
        with nginx.running(site, short_path / "nginx2", more) as front:
            assert session.get(front.url, timeout=LONG_S).status_code == 200


def test_a_mount_without_the_modifier_keeps_the_path(short_path, session):
    site = nginx.documented("Below a path").replace("uwsgi_modifier1 30;", "")
    with (
        uwsgi_site(short_path, "environ"),
        nginx.running(site, short_path / "nginx", changed(short_path)) as front,
    ):
        environ = environ_of(session.get(f"{front.url}/app/x", timeout=LONG_S))

    assert (environ["SCRIPT_NAME"], environ["PATH_INFO"]) == ("/app", "/app/x")


def test_flask_knows_where_it_is_mounted(short_path, session):
    with (
        uwsgi_site(short_path, "flask_site"),
        nginx.running(
            nginx.documented("Below a path"), short_path / "nginx", changed(short_path)
        ) as front,
    ):
        answer = session.get(f"{front.url}/app/redirect", timeout=LONG_S)
        assert answer.history[0].headers["Location"] == "/app/?name=there"
        assert answer.text == "hello there"


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    if shutil.which("openssl") is None:
        if os.environ.get("CI"):
            pytest.fail("CI must test TLS at nginx, and there is no openssl")
        pytest.skip("no openssl to make a certificate with")
    place = tmp_path_factory.mktemp("certificate")
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt",
         "ec_paramgen_curve:prime256v1", "-nodes", "-days", "1", "-subj",
         "/CN=site.example", "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", place / "site.key", "-out",
         place / "site.pem"],
        check=True, capture_output=True,
    )  # fmt: skip
    return place


def test_tls_is_nginxs_and_the_app_knows_of_it(short_path, certificate):
    changes = changed(short_path) | {"/etc/ssl/site": str(certificate / "site")}
    with (
        uwsgi_site(short_path, "flask_site"),
        nginx.running(nginx.documented("TLS"), short_path / "nginx", changes) as front,
        requests.Session() as session,
    ):
        session.trust_env = False
        session.verify = False
        host = {"Host": "site.example"}
        url = f"https://127.0.0.1:{front.ports[1]}"
        plain = session.get(
            f"{front.url}/x?y", headers=host, timeout=LONG_S, allow_redirects=False
        )
        with pytest.warns(Warning, match="certificate"):
            external = session.get(f"{url}/external", headers=host, timeout=LONG_S)

    assert plain.headers["Location"] == "https://site.example/x?y"
    assert external.text == "https://site.example/"


@pytest.mark.parametrize("app", ["flask_site", "django_site"])
def test_over_http_the_app_knows_of_tls_too(short_path, tmp_path, certificate, app):
    """By Debian's proxy_params: Host and X-Forwarded-Proto."""
    changes = {
        "include uwsgi_params;": "include /etc/nginx/proxy_params;",
        "uwsgi_pass unix:/run": "proxy_pass http://unix:/run",
    }
    site = nginx.fitted(nginx.documented("TLS"), changes)
    changes = changed(short_path) | {"/etc/ssl/site": str(certificate / "site")}
    path = short_path / "site.sock"
    env = {"DJANGO_DIR": str(tmp_path)}
    with (
        running(app, bind=f"unix:{path}", keepalive=75, env=env),
        nginx.running(site, short_path / "nginx", changes) as front,
        requests.Session() as session,
    ):
        session.trust_env = False
        session.verify = False
        url = f"https://127.0.0.1:{front.ports[1]}/away"
        host = {"Host": "site.example"}
        with pytest.warns(Warning, match="certificate"):
            answer = session.get(
                url, headers=host, timeout=LONG_S, allow_redirects=False
            )

    assert answer.headers["Location"] == "https://site.example/count"


@pytest.mark.skipif(WORKERS > 0, reason="chooses its workers itself")
@pytest.mark.parametrize("heading", nginx.headings())
def test_what_the_docs_have_serves(deploy, place, certificate, heading):
    """The very command, and the very configuration: with places of the test's."""
    root = place / "public"
    root.mkdir()
    words = nginx.command(heading)
    assert words[:2] == ["pywsgiserve", "site:app"]
    places = {
        UNIX: f"unix:{place}/site.sock",
        TCP: "127.0.0.1:0",
        "10.0.0.0/24": "127.0.0.0/24",
        "www-data": "www-data" if os.geteuid() == 0 else str(os.getegid()),
    }
    with deploy(*(places.get(word, word) for word in words[2:])) as server:
        site = nginx.documented(heading)
        changes = {
            "10.0.0.11:3031": tcp_place(server),
            "10.0.0.12:3031": tcp_place(server),
            "10.0.0.13:3031": tcp_place(server),
            UNIX: f"unix:{place}/site.sock",
            "/srv/site/public": str(root),
            "/etc/ssl/site": str(certificate / "site"),
        }
        changes = {old: new for old, new in changes.items() if old in site}
        with nginx.running(site, place / "nginx", changes) as front:
            scheme = "https" if "ssl" in site else "http"
            answer = requests.get(
                f"{scheme}://127.0.0.1:{front.ports[-1]}/app",
                verify=str(certificate / "site.pem") if scheme == "https" else None,
                headers={"Host": "site.example"},
                timeout=LONG_S,
            )
        assert int(answer.text) in server.workers()


# Under load


BODIES = {"GET": None, "POST": b"x" * 1000}


class Load:
    """Clients that ask without end, each request on a connection of its own."""

    def __init__(self, port, clients=4, method="GET"):
        self.port = port
        self.method = method
        self.answers = []
        self.problems = {}  # By the query of the request.
        self._numbers = itertools.count()
        self._end = threading.Event()
        self._threads = [threading.Thread(target=self._ask) for _ in range(clients)]

    def _ask(self):
        while not self._end.is_set():
            client = http.client.HTTPConnection("127.0.0.1", self.port, timeout=LONG_S)
            query = f"{self.method}{next(self._numbers)}"
            try:
                client.request(self.method, f"/?{query}", body=BODIES[self.method])
                answer = client.getresponse()
                body = answer.read()
                if answer.status != 200:
                    self.problems[query] = (answer.status, body)
                self.answers.append(body)
            except (OSError, http.client.HTTPException) as error:
                self.problems[query] = repr(error)
            finally:
                client.close()

    def __enter__(self):
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self._end.set()
        for thread in self._threads:
            thread.join(LONG_S)

    def wait_for_more(self, count=100, but=False):
        """Until so many more requests have been answered; `but` there may be problems."""
        wanted = len(self.answers) + count
        wait_until(
            lambda: len(self.answers) >= wanted or (self.problems and not but),
            lambda: str(self.problems),
        )
        assert but or not self.problems


BY_HTTP = {
    "include uwsgi_params;": "include proxy_params; proxy_http_version 1.1;",
    "uwsgi_pass site;": 'proxy_set_header Connection ""; proxy_pass http://site;',
    "server 10.0.0.13:3031;": "server 10.0.0.13:3031; keepalive 32;",
}


@pytest.mark.parametrize("protocol", ["uwsgi", "http"])
def test_one_of_several_servers_stops_and_starts_without_an_error(short_path, protocol):
    site = nginx.documented("Several machines")
    for old, new in BY_HTTP.items() if protocol == "http" else ():
        assert old in site
        site = site.replace(old, new)
    with contextlib.ExitStack() as stack:
        servers = [
            stack.enter_context(running("hello", protocol=protocol, killed=n == 1))
            for n in range(3)
        ]
        places = [tcp_place(server) for server in servers]
        changes = {f"10.0.0.1{n + 1}:3031": place for n, place in enumerate(places)}
        front = stack.enter_context(nginx.running(site, short_path / "nginx", changes))
        load = stack.enter_context(Load(front.ports[0]))
        load.wait_for_more()
        assert servers[1].stop(signal.SIGTERM) == 0
        load.wait_for_more()
        with running("hello", protocol=protocol, bind=places[1]) as again:
            load.wait_for_more()
            assert again.alive()
        load.wait_for_more()
    assert not load.problems


def test_what_a_server_has_begun_before_its_stop_is_answered(short_path):
    """nginx repeats no POST. What may be lost is a handshake that ends between the last
    accept and the close: no app has seen that request, and the kernel resets it."""
    notes = short_path / "notes"
    settings = {"protocol": "uwsgi", "env": {"NOTES": str(notes)}}
    with contextlib.ExitStack() as stack:
        servers = [
            stack.enter_context(running("noting", killed=n > 0, **settings))
            for n in range(3)
        ]
        places = [tcp_place(server) for server in servers]
        changes = {f"10.0.0.1{n + 1}:3031": place for n, place in enumerate(places)}
        site = nginx.documented("Several machines")
        front = stack.enter_context(nginx.running(site, short_path / "nginx", changes))
        with Load(front.ports[0], clients=12, method="POST") as load:
            for server in servers[1:]:
                load.wait_for_more(60, but=True)
                assert server.stop(signal.SIGTERM) == 0
            load.wait_for_more(60, but=True)
        assert "prematurely closed" not in front.errors
    begun = set(notes.read_text().split())
    assert len(begun) >= 100
    assert begun & load.problems.keys() == set(), load.problems


@pytest.fixture
def deployed(deploy, place):
    """deployed(*words): the command with workers behind nginx by uwsgi, under load."""

    @contextlib.contextmanager
    def started(*words, over=WAYS[0]):
        where = "127.0.0.1:0" if "TCP" in over else f"unix:{place}/site.sock"
        with deploy("--uwsgi-socket", where, *words, workers=2) as server:
            site = nginx.documented(over)
            changes = {TCP: tcp_place(server)} if "TCP" in over else {UNIX: where}
            with nginx.running(site, place / "nginx", changes) as front:
                with Load(front.ports[0]) as load:
                    load.wait_for_more()
                    yield server, load
                assert not load.problems

    return started


OVER = pytest.mark.parametrize(
    ("over", "words"), [(WAYS[0], ()), (WAYS[1], ()), (WAYS[1], ("--reuse-port",))]
)


@OVER
def test_a_reload_loses_nothing(deployed, over, words):
    with deployed(*words, over=over) as (server, load):
        for _ in range(3):
            before = server.workers()
            server.process.send_signal(signal.SIGHUP)
            server.wait_for_workers(2, but=before)
            load.wait_for_more()


@pytest.mark.skipif(WORKERS > 0, reason="chooses its workers itself")
@pytest.mark.parametrize("words", [(), ("--preload",)])
def test_an_upgrade_loses_nothing(deploy, place, words):
    """The new one takes over; the next one is sent away again."""
    words = ("--uwsgi-socket", f"unix:{place}/site.sock", *words)
    site, changes = nginx.documented(WAYS[0]), {UNIX: f"unix:{place}/site.sock"}
    with (
        deploy(*words, workers=2, killed=True) as server,
        Dance(server) as dance,
        nginx.running(site, place / "nginx", changes) as front,
    ):
        with Load(front.ports[0]) as load:
            new = dance.usr2()
            load.wait_for_more()
            dance.end(server.pid)
            dance.promoted(new)
            load.wait_for_more()
            newest = dance.usr2()
            load.wait_for_more()
            dance.end(newest)
            server.wait_for(rf"The new master \(pid:{newest}\) exited with code 0")
            load.wait_for_more()
        assert not load.problems


@OVER
def test_replaced_workers_lose_nothing(deployed, over, words):
    words = ("--max-requests", "50", "--max-requests-jitter", "20", *words)
    with deployed(*words, over=over) as (_, load):
        eventually(
            lambda: load.problems or len(set(load.answers)) > 6,
            "six workers have answered",
        )
        assert not load.problems


def test_a_request_that_takes_too_long_is_the_servers_504(deploy, place, session):
    """Not nginx's, whose own patience is longer; neighbours are served."""
    where = f"unix:{place}/site.sock"
    words = ("--uwsgi-socket", where, "--request-timeout", "1")
    with (
        deploy(*words, workers=2) as server,
        nginx.running(
            nginx.documented(WAYS[0]), place / "nginx", {UNIX: where}
        ) as front,
    ):
        with Load(front.ports[0]) as load:
            answer = session.get(f"{front.url}/hang", timeout=LONG_S)
            load.wait_for_more()
        assert answer.status_code == 504
        assert "nginx" not in answer.text
        assert "timed out" not in front.errors
        server.wait_for(r"GET /hang, \d+\.\d s$")
        server.wait_for_workers(2)


def test_a_stopped_server_is_not_waited_for(short_path, session):
    """nginx says 502 at once when nobody listens: the test of the tests' nginx."""
    site = nginx.documented(WAYS[0])
    changes = changed(short_path)
    with nginx.running(site, short_path / "nginx", changes) as front:
        assert session.get(front.url, timeout=LONG_S).status_code == 502
        with Client(socket.create_connection(("127.0.0.1", front.ports[0]))) as client:
            assert client.get("/").status == 502
