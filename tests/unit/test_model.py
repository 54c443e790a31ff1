"""The C parsers against tests/http_model.py: same verdict, same fields, any cut.

Inputs are made from pieces of HTTP, mostly right ones, and then damaged. The seed is
fixed; PWS_MODEL_SEED and PWS_MODEL_CASES (default 3000 of each kind) make it wander:
see tests/run model.
"""

from __future__ import annotations

import email.utils
import ipaddress
import json
import os
import random
import subprocess
import urllib.parse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests import c_build
from tests.http_model import MORE, Rules, read_chunked, read_head, valid_authority

CASES = int(os.environ.get("PWS_MODEL_CASES", "3000"))
SEED = int(os.environ.get("PWS_MODEL_SEED", "1"))
BATCH = 10000  # Cases that are held in memory at a time.
CUTS = (0, 1, 2, 12345)  # Whole, byte by byte, and at random, two seeds of it.
DRIVER = c_build.ROOT / "tests" / "c" / "model_driver.c"

Ask = Callable[[list[str]], list[Any]]


@pytest.fixture(scope="session")
def ask(tmp_path_factory: pytest.TempPathFactory) -> Ask:
    folder: Path = c_build.shared_folder(tmp_path_factory, "c-tests")
    program = c_build.build(c_build.GCC, folder, [DRIVER])

    def run(questions: list[str]) -> list[Any]:
        text = "".join(q + "\n" for q in questions)
        done = subprocess.run([program], input=text, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        answers = [json.loads(line) for line in done.stdout.splitlines()]
        assert len(answers) == len(questions)
        return answers

    return run


def hexed(data: bytes) -> str:
    return data.hex() or "-"


def head_question(data: bytes, rules: Rules, cut: int) -> str:
    header_map = ("drop", "refuse", "dangerous").index(rules.header_map)
    peer = ("stranger", "proxy", "believed").index(rules.peer)
    limits = f"{rules.line} {rules.fields} {rules.size} {rules.head} {rules.body}"
    return f"head {limits} {header_map} {peer} {cut} {hexed(data)}"


def chunked_question(data: bytes, rules: Rules, cut: int) -> str:
    return f"chunked {rules.body} {rules.fields} {rules.size} {cut} {hexed(data)}"


def pool(text: str) -> list[bytes]:
    """The choices in a text, one between each two bars, with Python's escapes."""
    plain = text.encode().decode("unicode_escape").encode("latin-1")
    return plain.split(b"|")


class Maker:
    """Random HTTP. Of each pool pair the second one holds mostly wrong choices."""

    METHODS = pool("GET|POST|HEAD|OPTIONS|CONNECT|M-S!'"), pool("get|GE|A#B|X Y|")
    VERSIONS = (
        pool("HTTP/1.1|HTTP/1.1|HTTP/1.1|HTTP/1.0"),
        pool("HTTP/1.2|HTTP/2.0|http/1.1|HTTP/1.10|HTTP/01.1|HTTP/1.|"),
    )
    HOSTS = (
        pool("x|a.example:80|[::1]:8000||a_b|%41|[::ffff:1.2.3.4]|x:"),
        pool("x:999999|%4|[::1|[zz]|[v1.x]|a@b|a b|:1|[]|[:1]|x:a|%zz|a,b|[::%0]"),
    )
    PATHS = (
        pool(r"/|/a/b|/%41%|//x|/?q=1?|/a?b=%20|/\xc3\xa9|/^"),
        pool(r"|?q|*|/a#b|/a b|/\x7f|x"),
    )
    CODINGS = (
        pool("chunked|Chunked|CHUNKED"),
        pool(
            r"gzip|gzip ; q|identity|chunked;q=1||gzip x|chunked, chunked|gzip, chunked"
            r"|chunked,gzip|chunked,|\x0bchunked|nope, chunked|chunked ;|,chunked"
        ),
    )
    LENGTHS = (
        pool("5|0|0005|100|9223372036854775807"),
        pool("+5|-1|5,5||0x5|5_0|9223372036854775808|00000000000000000005|5 5"),
    )
    FIELDS = (
        pool(
            r"Connection: close|Connection: keep-alive|Connection: x, CLOSE"
            r"|Connection: TE,|connection:Keep-Alive|Connection: keepalive|Connection:"
            r"|X-Forwarded-Proto: https|X-Forwarded-Proto: http|X-Forwarded-Proto: HTTPS"
            r"|X-Forwarded-Ssl: on|X-Forwarded-Ssl: off|X_Forwarded_Proto: https"
            r"|SCRIPT_NAME: /app|Script-Name: /no|path_info:/p|X-a_b: c|Content_Length: 9"
            r"|Accept: */*|COOKIE: a=\x80\xff\t b|Content-Type: text/plain|Upgrade: h2c"
            r"|Expect: 100-continue|expect: 100-Continue|Accept: |TE:\ttrailers \t"
            r"|Xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx: yyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyy"
        ),
        pool(
            r"Bad Name: x|: x|Host : x|X: \x00|X: \x7f|X: a\rb|X: a\nb| fold: x|N\x80: x"
            r"|no colon|Expect: 200|Expect:|Host: y|Content-Type: b|\t: x|X: a\x1f"
        ),
    )
    BYTES = b'\r\n\r\n \t:;,="\\/?%*#_-\x00\x01\x7f\x80\xff0159aAfFgGzZ@[]'

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)

    def often(self, share: float) -> bool:
        return self.random.random() < share

    def damage(self, data: bytes) -> bytes:
        out = bytearray(data)
        for _ in range(self.random.choice((0, 0, 0, 1, 1, 2))):
            at = self.random.randrange(len(out) + 1)
            kind = self.random.randrange(5)
            if kind == 0:
                out[at:at] = bytes([self.random.choice(self.BYTES)])
            elif kind == 1:
                del out[at : at + self.random.randrange(1, 4)]
            elif kind == 2:
                out[at : at + 1] = bytes([self.random.choice(self.BYTES)])
            elif kind == 3:
                out[at:at] = out[at : at + self.random.randrange(20)]
            else:
                del out[at:]
        return bytes(out)

    def one(self, pools: tuple[list[bytes], list[bytes]]) -> bytes:
        return self.random.choice(pools[self.random.random() > 0.95])

    def target(self, method: bytes) -> bytes:
        if method == b"CONNECT" and self.often(0.9):
            return self.one(self.HOSTS) + self.random.choice((b"", b"", b":443"))
        if method == b"OPTIONS" and self.often(0.5):
            return b"*"
        if self.often(0.2):
            scheme = self.random.choice((b"http", b"HTTPS", b"https", b"ftp"))
            path = self.random.choice((b"", self.one(self.PATHS)))
            return scheme + b"://" + self.one(self.HOSTS) + path
        return self.one(self.PATHS)

    def head(self) -> bytes:
        method = self.one(self.METHODS)
        fields = [self.one(self.FIELDS) for _ in range(self.random.randrange(5))]
        for name, pools, share in (
            (b"Host", self.HOSTS, 0.95),
            (b"host", self.HOSTS, 0.03),
            (b"Content-Length", self.LENGTHS, 0.2),
            (b"content-length", self.LENGTHS, 0.03),
            (b"Transfer-Encoding", self.CODINGS, 0.2),
            (b"TRANSFER-ENCODING", self.CODINGS, 0.05),
        ):
            if self.often(share):
                odd = self.often(0.3) and name != b"Host"
                value = self.random.choice(pools[1]) if odd else self.one(pools)
                fields.append(name + b": " + value)
        self.random.shuffle(fields)
        start = method + b" " + self.target(method) + b" " + self.one(self.VERSIONS)
        empty = b"\r\n" * self.random.choice((0, 0, 0, 0, 0, 0, 1, 2, 3))
        whole = empty + b"\r\n".join([start, *fields, b"", b""])
        return self.damage(whole) + self.rest()

    def rest(self) -> bytes:
        return self.random.choice((b"", b"", b"GET / HTTP/1.1\r\n", b"\x00" * 9))

    def rules(self) -> Rules:
        if self.often(0.3):
            return Rules(
                line=self.random.randrange(10, 60),
                fields=self.random.randrange(0, 6),
                size=self.random.randrange(5, 60),
                head=self.random.randrange(20, 300),
                body=self.random.randrange(0, 120),
            )
        return Rules(
            body=self.random.choice((0, 0, 7, 40)),
            header_map=self.random.choice(("drop", "refuse", "dangerous")),
            peer=self.random.choice(("stranger", "proxy", "believed")),
        )

    def extension(self) -> bytes:
        blank = self.random.choice((b"", b"", b" ", b"\t "))
        name = self.random.choice((b"a", b"name", b"", b"a b"))
        value = self.random.choice(
            (b"", b"=v", b' = "q\\"\x80 "', b"= v", b'="', b"=", b'="a"b', b"=\x00")
        )
        return (
            blank + b";" + blank + name + value + self.random.choice((b"", b"", b" "))
        )

    def chunk(self) -> bytes:
        data = bytes(
            self.random.choice(self.BYTES) for _ in range(self.random.randrange(40))
        )
        size = b"%x" % len(data) if self.often(0.7) else b"%03X" % len(data)
        if self.often(0.03):
            size = self.random.choice(
                (b"f" * 16, b"7" + b"f" * 15, b"0" * 17, b"0x1", b"-1")
            )
        extension = b"".join(self.extension() for _ in range(self.random.randrange(3)))
        if self.often(0.6):
            extension = b""
        return size + extension + b"\r\n" + data + b"\r\n"

    def chunked(self) -> bytes:
        chunks = b"".join(self.chunk() for _ in range(self.random.randrange(4)))
        trailers = b"".join(
            self.one(self.FIELDS) + b"\r\n"
            for _ in range(self.random.choice((0, 0, 0, 1, 2)))
        )
        return self.damage(chunks + b"0\r\n" + trailers + b"\r\n") + self.rest()


def differences(
    ask: Ask,
    cases: list[tuple[bytes, Rules]],
    question: Callable[[bytes, Rules, int], str],
    model: Callable[[bytes, Rules], dict[str, object]],
) -> list[str]:
    """One paragraph for each case where the model or another cut disagrees."""
    asked = [question(data, rules, cut) for data, rules in cases for cut in CUTS]
    answers = ask(asked)
    told = []
    for i, (data, rules) in enumerate(cases):
        want = model(data, rules)
        for cut, got in zip(CUTS, answers[len(CUTS) * i :], strict=False):
            if got != want:
                wrong = {
                    k for k in want.keys() | got.keys() if want.get(k) != got.get(k)
                }
                shown = [
                    f"{k}: {got.get(k)} in C, {want.get(k)} in the model" for k in wrong
                ]
                told.append(f"{data!r}\n{rules} cut {cut}\n" + "\n".join(shown))
    return told


def compared(
    ask: Ask,
    case: Callable[[], tuple[bytes, Rules]],
    question: Callable[[bytes, Rules, int], str],
    model: Callable[[bytes, Rules], dict[str, object]],
) -> None:
    """Make CASES of them, and fail for those where not all agree."""
    for begin in range(0, CASES, BATCH):
        cases = [case() for _ in range(min(BATCH, CASES - begin))]
        wrong = differences(ask, cases, question, model)
        assert not wrong, f"{len(wrong)} differ\n" + "\n\n".join(wrong[:10])
    print(f"{CASES} cases of seed {SEED}, each in {len(CUTS)} cuts: all agree")


def statuses(cases: list[tuple[bytes, Rules]], model: Any) -> dict[int, int]:
    found = [model(data, rules)["status"] for data, rules in cases]
    return {status: found.count(status) for status in set(found)}


def test_request_heads_are_read_as_the_model_reads_them(ask: Ask) -> None:
    make = Maker(SEED)

    compared(ask, lambda: (make.head(), make.rules()), head_question, read_head)


def test_chunked_bodies_are_read_as_the_model_reads_them(ask: Ask) -> None:
    make = Maker(SEED)

    compared(
        ask, lambda: (make.chunked(), make.rules()), chunked_question, read_chunked
    )


def test_the_cases_reach_every_verdict() -> None:
    """Else the comparison could agree on nothing but refusals."""
    make = Maker(1)
    heads = statuses([(make.head(), make.rules()) for _ in range(3000)], read_head)
    bodies = statuses(
        [(make.chunked(), make.rules()) for _ in range(3000)], read_chunked
    )

    assert set(heads) == {0, MORE, 400, 413, 414, 417, 431, 501, 505}
    assert set(bodies) == {0, MORE, 400, 413, 431}
    assert heads[0] > 300
    assert bodies[0] > 300


def test_chunk_size_lines_have_the_models_bound(ask: Ask) -> None:
    cases = [
        (b"1" + b";" + b"a" * n + end + b"x\r\n0\r\n\r\n", Rules())
        for n in range(1019, 1026)
        for end in (b"\r\n", b"")
    ]

    assert not differences(ask, cases, chunked_question, read_chunked)


def test_authorities_are_those_of_rfc_3986(ask: Ask) -> None:
    make = Maker(SEED)
    texts = [make.random.choice(make.HOSTS[i % 2]) for i in range(CASES)]
    groups = [
        "0",
        "1",
        "abcd",
        "00001",
        "g",
        "",
        "",
        "1.2.3.4",
        "1.2.3.256",
        "01.2.3.4",
    ]
    for _ in range(CASES):
        inside = ":".join(make.random.choices(groups, k=make.random.randrange(1, 10)))
        texts.append(f"[{inside}]".encode())
        texts.append(
            b"["
            + ipaddress.IPv6Address(make.random.getrandbits(128))
            .packed.hex(":", 2)
            .encode()
            + b"]"
        )
    texts = [make.damage(text) for text in texts] + texts

    answers = ask([f"authority {hexed(text)}" for text in texts])

    wrong = [
        t for t, ok in zip(texts, answers, strict=True) if ok != valid_authority(t)
    ]
    assert not wrong, wrong[:20]


def test_percent_decoding_is_that_of_the_standard_library(ask: Ask) -> None:
    make = Maker(SEED)
    pieces = (
        b"%",
        b"%4",
        b"%41",
        b"%zz",
        b"%2",
        b"5",
        b"a",
        b"%00",
        b"%fF",
        b"\xff",
        b"+",
    )
    texts = [
        b"".join(make.random.choices(pieces, k=make.random.randrange(9)))
        for _ in range(CASES)
    ]

    answers = ask([f"decode {hexed(text)}" for text in texts])

    assert [bytes.fromhex(a["bytes"]) for a in answers] == [
        urllib.parse.unquote_to_bytes(text) for text in texts
    ]


def test_dates_are_those_of_the_standard_library(ask: Ask) -> None:
    make = random.Random(SEED)
    times = [make.randrange(253402300800) for _ in range(CASES)]
    times += [0, 59, 86399, 86400, 951782400, 951868799, 253402300799]

    answers = ask([f"date {t}" for t in times])

    assert answers == [email.utils.formatdate(t, usegmt=True) for t in times]
