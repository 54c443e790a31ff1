"""wsgi.file_wrapper: real files by sendfile, all others by what their read() says."""

import functools
import gzip
from urllib.parse import urlencode

import pytest

from tests.client import Truncated

SIZES = [0, 1, 10, 4095, 8192, 70_000, 20_000_000]


@functools.cache
def content(size):
    return b"".join(b"%09d\n" % n for n in range(size // 10 + 1))[:size]


@pytest.fixture
def make(tmp_path):
    """make(size): the path of a file with that much content."""

    def make(size):
        path = tmp_path / f"file-{size}"
        path.write_bytes(content(size))
        return path

    return make


def get(client, kind, method="GET", **arguments):
    target = f"/{kind}?{urlencode(arguments)}"
    client.send(f"{method} {target} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    return client.response(method)


@pytest.mark.parametrize("sendfile", [True, False])
@pytest.mark.parametrize("declared", [True, False])
@pytest.mark.parametrize("kind", ["real", "unbuffered", "in_memory", "only_reads"])
def test_a_file_arrives_whole(standing, make, kind, declared, sendfile):
    with standing("files", sendfile=sendfile).connect() as client:
        for size in SIZES:
            arguments = {"length": size} if declared else {}
            answer = get(client, kind, path=make(size), **arguments)

            assert answer.status == 200
            assert answer.body == content(size), size


@pytest.mark.parametrize("sendfile", [True, False])
@pytest.mark.parametrize("offset", [0, 1, 5000, 69_999, 70_000, 80_000])
@pytest.mark.parametrize("kind", ["real", "unbuffered", "in_memory"])
def test_a_file_is_sent_from_where_it_stands(standing, make, kind, offset, sendfile):
    with standing("files", sendfile=sendfile).connect() as client:
        answer = get(client, kind, path=make(70_000), offset=offset)

        assert answer.body == content(70_000)[offset:]


@pytest.mark.parametrize("sendfile", [True, False])
@pytest.mark.parametrize(
    ("offset", "length"), [(0, 10), (100, 1), (5, 60_000), (69_999, 1), (3, 0)]
)
def test_a_range_of_a_file_is_sent(standing, make, offset, length, sendfile):
    with standing("files", sendfile=sendfile).connect() as client:
        for _ in range(2):
            answer = get(
                client, "real", path=make(70_000), offset=offset, length=length
            )

            assert answer.body == content(70_000)[offset : offset + length]


def test_a_file_partly_read_goes_on_where_its_reader_was(standing, make):
    """The descriptor stands farther on than the file object does."""
    with standing("files").connect() as client:
        answer = get(client, "partly_read", path=make(70_000))

        assert answer.body == content(70_000)[10:]


def test_a_gzip_file_is_not_sent_raw(standing, tmp_path):
    """It has a real descriptor, of the compressed file."""
    path = tmp_path / "file.gz"
    path.write_bytes(gzip.compress(content(70_000)))
    with standing("files").connect() as client:
        assert get(client, "unzipped", path=path).body == content(70_000)


def test_a_file_with_a_read_of_its_own_is_asked(standing, tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"small letters")
    with standing("files").connect() as client:
        assert get(client, "overriding", path=path).body == b"SMALL LETTERS"


def test_a_pipe_is_read(standing):
    with standing("files").connect() as client:
        assert get(client, "pipe").body == b"through a pipe"


def test_a_file_that_claims_to_be_empty_is_read(standing):
    with standing("files").connect() as client:
        assert b"tests." in get(client, "proc").body  # the words of the command


@pytest.mark.parametrize(
    "kind",
    ["bad_descriptor", "closed_descriptor", "text_descriptor", "no_descriptor"],
)
def test_a_file_whose_descriptor_is_none_is_read_or_fails(standing, kind):
    server = standing("files")
    with server.connect() as client:
        try:
            answer = get(client, kind)
            assert answer.status == 500 or answer.body == b"read"
        except Truncated:
            pass
    with server.connect() as client:
        assert get(client, "no_descriptor").status in (200, 500)


def test_head_of_a_file_has_no_body(standing, make):
    with standing("files").connect() as client:
        path = make(70_000)
        answer = get(client, "real", "HEAD", path=path, length=70_000)

        assert answer["content-length"] == "70000"
        assert get(client, "real", path=path).body == content(70_000)


@pytest.mark.contract
@pytest.mark.parametrize("sendfile", [True, False])
def test_a_file_too_short_for_its_length_cuts_the_connection(standing, make, sendfile):
    with standing("files", sendfile=sendfile).connect() as client:
        with pytest.raises(Truncated) as cut:
            get(client, "real", path=make(10), length=20)

        assert cut.value.body == content(10)


@pytest.mark.parametrize("sendfile", [True, False])
def test_a_file_that_shrinks_cuts_the_connection(serve, make, sendfile):
    with serve("files:shrinking", sendfile=sendfile) as server:
        with server.connect() as client, pytest.raises(Truncated):
            get(client, "x", path=make(70_000))


def test_a_file_that_fails_later_cuts_the_connection(standing):
    with standing("files").connect() as client:
        with pytest.raises(Truncated):
            get(client, "fails_later")


def test_a_wrapper_can_be_iterated(standing, make):
    with standing("files:iterated").connect() as client:
        answer = get(client, "x", path=make(25), block=10)

        assert answer.body == b"10 10 5"


def test_the_block_size_is_taken(standing, make):
    with standing("files").connect() as client:
        answer = get(client, "only_reads", path=make(70_000), block=1000)

        assert answer.body == content(70_000)


@pytest.mark.contract
def test_files_do_not_stay_open(serve, make):
    path = make(70_000)
    with serve("files") as server, server.connect() as client:
        get(client, "real", path=path)
        before = server.open_files()
        for _ in range(50):
            get(client, "real", path=path)
            get(client, "real", "HEAD", path=path)

        assert server.open_files() <= before + 1


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_a_1_0_client_gets_the_file(standing, make, method):
    with standing("files").connect() as client:
        target = f"/real?{urlencode({'path': make(70_000)})}"
        client.send(f"{method} {target} HTTP/1.0\r\n\r\n".encode())

        expected = content(70_000) if method == "GET" else b""
        assert client.response(method).body == expected
        assert client.closed()
