"""A second opinion on HTTP/1.1: what a request means, read slowly from the RFCs.

Written from the grammar of RFC 9112, 9110 and 3986 (and from what our headers promise
beyond it, marked "Ours"), not from csrc/proto: regular expressions and recursive descent
over a whole input where the C code has state machines over pieces. tests/unit/
test_model.py compares the two; where they differ, one of them has misread the RFC.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

MORE = -1

# RFC 9110 5.6.2, 5.5.
TOKEN = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
FIELD_VALUE = rb"[\t\x20-\x7e\x80-\xff]*"
# RFC 9112 3. Ours: a method has 1 to 20 characters, no lower case, no '#'.
METHOD = rb"[!$%&'*+\-.^_`|~0-9A-Z]{1,20}"
# Ours: any byte but controls, space, DEL and '#'; browsers send more than RFC 3986 has.
TARGET = rb"[^\x00-\x20\x7f#]+"
REQUEST_LINE = re.compile(
    b"(" + METHOD + b") (" + TARGET + rb") HTTP/([0-9])\.([0-9])", re.DOTALL
)
FIELD_LINE = re.compile(b"(" + TOKEN + b"):(" + FIELD_VALUE + b")", re.DOTALL)

# RFC 3986 3.2.2, appendix A. Ours: a port has at most five digits.
UNRESERVED, SUB_DELIMS = rb"A-Za-z0-9\-._~", rb"!$&'()*+,;="
DEC_OCTET = rb"(?:25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])"
IPV4 = DEC_OCTET + (rb"\." + DEC_OCTET) * 3
H16 = rb"[0-9A-Fa-f]{1,4}"
LS32 = b"(?:" + H16 + b":" + H16 + b"|" + IPV4 + b")"


def ipv6() -> bytes:
    """The nine lines of IPv6address."""
    group = b"(?:" + H16 + b":)"
    lines = [group + b"{6}" + LS32]
    for before in range(8):
        head = b"(?:" + group + b"{0,%d}" % max(before - 1, 0) + H16 + b")?"
        if before == 0:
            head = b""
        after = 5 - before
        tail = {-1: H16, -2: b""}.get(after, group + b"{%d}" % max(after, 0) + LS32)
        lines.append(head + b"::" + tail)
    return b"(?:" + b"|".join(lines) + b")"


IPVFUTURE = rb"[vV][0-9A-Fa-f]+\.[" + UNRESERVED + SUB_DELIMS + b":]+"
REG_NAME = rb"(?:[" + UNRESERVED + SUB_DELIMS + rb"]|%[0-9A-Fa-f]{2})*"
IP_LITERAL = rb"\[(?:" + ipv6() + b"|" + IPVFUTURE + rb")\]"
AUTHORITY = re.compile(
    b"(" + IP_LITERAL + b"|" + REG_NAME + b")(?::([0-9]{0,5}))?", re.DOTALL
)


@dataclass(frozen=True)
class Rules:
    """What pws_rules has."""

    line: int = 4094
    fields: int = 100
    size: int = 8190
    head: int = 256 * 1024
    body: int = 0
    header_map: str = "drop"
    peer: str = "stranger"  # or "proxy", or "believed": a proxy, every name of it


class Refused(Exception):
    def __init__(self, status: int) -> None:
        self.status = status


@dataclass
class Field:
    name: bytes
    value: bytes
    dropped: bool = False

    @property
    def cgi(self) -> bytes:
        return self.name.upper().replace(b"-", b"_")

    @property
    def underscore(self) -> bool:
        return b"_" in self.name

    @property
    def flags(self) -> int:
        return self.underscore + 2 * self.dropped


def valid_authority(text: bytes) -> bool:
    return AUTHORITY.fullmatch(text) is not None


def lines(data: bytes, rules: Rules) -> Iterator[tuple[bytes, int]]:
    """Each line with the offset behind it; ends (MORE) or raises as the limits say."""
    if data[:1] in (b"\0", b"\x1e"):  # A packet of uwsgi, which has no lines.
        raise Refused(400)
    at, first = 0, True
    while True:
        end = data.find(b"\n", at)
        stop = len(data) if end < 0 else end + 1
        most = rules.line + 2 if first else rules.size
        # The bound that the earlier byte broke, so that the cuts cannot matter.
        if stop > min(at + most, rules.head):
            raise Refused(414 if first and at + most <= rules.head else 431)
        if end < 0:
            return
        if data[at:end][-1:] != b"\r":
            raise Refused(400)
        line = data[at : end - 1]
        first = first and line == b""
        yield line, stop
        at = stop


def read_request_line(line: bytes) -> tuple[bytes, bytes, int]:
    found = REQUEST_LINE.fullmatch(line)
    if found is None:
        raise Refused(400)
    method, target, major, minor = found.groups()
    if (major, minor) not in ((b"1", b"0"), (b"1", b"1")):
        raise Refused(505)
    return method, target, int(minor)


def elements(fields: list[Field], name: bytes) -> list[bytes] | None:
    """All lines of a list field as one list (RFC 9110 5.3), or None without any."""
    values = [f.value for f in fields if f.name.lower() == name]
    if not values:
        return None
    return [item.strip(b" \t") for item in b",".join(values).split(b",")]


def read_target(method: bytes, target: bytes) -> tuple[str, bytes, bytes, bytes]:
    """RFC 9112 3.2: form, authority, path, query."""
    if method == b"CONNECT":
        found = AUTHORITY.fullmatch(target)
        if not found or not found[1] or not found[2]:
            raise Refused(400)
        return "authority", target, b"", b""
    if target == b"*":
        if method != b"OPTIONS":
            raise Refused(400)
        return "asterisk", b"", b"*", b""
    if target.startswith(b"/"):
        path, _, query = target.partition(b"?")
        return "origin", b"", path, query
    found = re.fullmatch(
        rb"(?i:https?)://([^/?]*)([^?]*)(?:\?(.*))?", target, re.DOTALL
    )
    if found is None:
        raise Refused(400)
    authority, path, query = found.groups(b"")
    host = AUTHORITY.fullmatch(authority)
    if not host or not host[1]:  # RFC 9110 4.2.1: an empty host is invalid.
        raise Refused(400)
    return "absolute", authority, path, query


def read_framing(fields: list[Field], minor: int) -> tuple[str, int]:
    """RFC 9112 6.1 to 6.3."""
    lengths = [f.value for f in fields if f.name.lower() == b"content-length"]
    codings = elements(fields, b"transfer-encoding")
    if codings is not None:
        if minor == 0 or lengths:
            raise Refused(400)
        known = (b"gzip", b"x-gzip", b"deflate", b"compress", b"x-compress", b"chunked")
        shape = re.compile(b"(" + TOKEN + rb")([ \t]*;.*)?", re.DOTALL)
        read = [shape.fullmatch(coding) for coding in codings]
        names = [found[1].lower() if found else b"" for found in read]
        with_parameter = any(f and f[2] and f[1].lower() == b"chunked" for f in read)
        if b"" in names or with_parameter:
            raise Refused(400)
        if b"chunked" in names[:-1]:
            raise Refused(400)
        if not set(names) <= set(known):
            raise Refused(501)
        if names[-1] != b"chunked":
            raise Refused(400)
        if len(names) > 1:
            raise Refused(501)
        return "chunked", 0
    if lengths:
        # Ours: one number of at most 19 digits, which fits 63 bits.
        if not re.fullmatch(rb"[0-9]{1,19}", lengths[0]) or int(lengths[0]) >= 2**63:
            raise Refused(400)
        return ("length" if int(lengths[0]) else "none"), int(lengths[0])
    return "none", 0


def read_expect(fields: list[Field], minor: int) -> bool:
    values = [f.value.lower() for f in fields if f.name.lower() == b"expect"]
    if minor == 0 or not values:
        return False
    if set(values) != {b"100-continue"}:
        raise Refused(417)
    return True


def judge_names(fields: list[Field], rules: Rules) -> tuple[bytes, bool]:
    """Drop what could forge a variable; SCRIPT_NAME and whether the scheme is https."""
    script_name = b""
    trusted = rules.peer != "stranger"
    for f in fields:
        if not f.underscore:
            continue
        named = f.cgi in (b"SCRIPT_NAME", b"PATH_INFO")
        if trusted and (named or rules.peer == "believed"):
            script_name = f.value if f.cgi == b"SCRIPT_NAME" else script_name
        elif rules.header_map == "refuse":
            raise Refused(400)
        else:
            f.dropped = rules.header_map == "drop"
    secure = {b"x-forwarded-proto": b"https", b"x-forwarded-ssl": b"on"}
    said = [(f.name.lower(), f.value) for f in fields]
    votes = {value == secure[name] for name, value in said if name in secure}
    if trusted and len(votes) > 1:
        raise Refused(400)
    return script_name, trusted and votes == {True}


def keeps(fields: list[Field], minor: int) -> bool:
    """RFC 9112 9.3."""
    options = [option.lower() for option in elements(fields, b"connection") or []]
    return b"close" not in options and (minor == 1 or b"keep-alive" in options)


def judge(
    method: bytes, target: bytes, minor: int, fields: list[Field], rules: Rules
) -> dict[str, object]:
    names = [f.name.lower() for f in fields]
    if any(names.count(n) > 1 for n in (b"host", b"content-length", b"content-type")):
        raise Refused(400)
    form, authority, path, query = read_target(method, target)
    hosts = [f.value for f in fields if f.name.lower() == b"host"]
    if (minor == 1 and not hosts) or not all(map(valid_authority, hosts)):
        raise Refused(400)
    body, length = read_framing(fields, minor)
    expect = read_expect(fields, minor) and body != "none"
    script_name, https = judge_names(fields, rules)
    plain = form != "absolute" or not target.lower().startswith(b"https:")
    if not plain and rules.peer == "stranger" and not https:
        raise Refused(400)  # RFC 9110 7.4
    if rules.body and length > rules.body:
        raise Refused(413)
    return {
        "minor": minor,
        "form": ("origin", "absolute", "authority", "asterisk").index(form),
        "body": ("none", "length", "chunked").index(body),
        "length": length,
        "escaped": int(b"%" in path),
        "https": int(https),
        "head": int(method == b"HEAD"),
        "keep_alive": int(keeps(fields, minor) and form != "authority"),
        "expect": int(expect),
        "method": method.hex(),
        "target": target.hex(),
        "authority": authority.hex(),
        "path": path.hex(),
        "query": query.hex(),
        "script_name": script_name.hex(),
        "fields": [
            {"flags": f.flags, "name": f.cgi.hex(), "value": f.value.hex()}
            for f in fields
        ],
    }


def read_head(data: bytes, rules: Rules) -> dict[str, object]:
    """The verdict on a head at the beginning of data, in the shape of model_driver.c."""
    start: tuple[bytes, bytes, int] | None = None
    fields: list[Field] = []
    blank = 0
    try:
        for line, stop in lines(data, rules):
            if start is None:
                if line == b"":
                    blank += 1
                    if blank > 2:  # Ours; RFC 9112 2.2 wants at least one passed over.
                        raise Refused(400)
                    continue
                start = read_request_line(line)
            elif line == b"":
                told = judge(*start, fields, rules)
                return {"status": 0, "size": stop, **told}
            elif len(fields) >= rules.fields:
                raise Refused(431)
            else:
                found = FIELD_LINE.fullmatch(line)
                if found is None:
                    raise Refused(400)
                fields.append(Field(found[1], found[2].strip(b" \t")))
    except Refused as refused:
        return {"status": refused.status}
    return {"status": MORE}


class EndOfInput(Exception):
    pass


class Chunks:
    """RFC 9112 7.1, one function for each rule of the grammar."""

    LINE, SIZE_DIGITS, EXTENSIONS, TRAILERS = 1024, 16, 64 * 1024, 64 * 1024
    FORBIDDEN = (
        *(b"content-length", b"transfer-encoding", b"host", b"trailer", b"te"),
        *(b"authorization", b"connection", b"content-type"),
    )

    def __init__(self, data: bytes, rules: Rules) -> None:
        self.data, self.rules = data, rules
        self.at = 0
        self.body = b""
        self.line = 0  # Bytes of the size line or trailer line in hand.
        self.trailers = 0
        self.in_trailer = False

    def peek(self) -> bytes:
        """The next byte. That it can be looked at is enough to break a bound."""
        if self.at >= len(self.data):
            raise EndOfInput
        if self.in_trailer:
            if self.line >= self.rules.size or self.trailers >= self.TRAILERS:
                raise Refused(431)
        elif self.line >= self.LINE and self.data[self.at] != 0x0A:
            raise Refused(400)
        return self.data[self.at : self.at + 1]

    def take(self, allowed: bytes) -> bytes:
        """One byte of the class `allowed`."""
        byte = self.peek()
        if not re.fullmatch(b"[" + allowed + b"]", byte, re.DOTALL):
            raise Refused(400)
        self.at += 1
        self.line += 1
        self.trailers += self.in_trailer
        return byte

    def many(self, allowed: bytes) -> bytes:
        taken = b""
        while re.fullmatch(b"[" + allowed + b"]", self.peek(), re.DOTALL):
            taken += self.take(allowed)
        return taken

    def crlf(self) -> None:
        self.take(rb"\r")
        self.take(rb"\n")
        self.line = 0

    def token(self) -> bytes:
        some = TOKEN[1:-2]
        return self.take(some) + self.many(some)

    def chunk_size(self) -> int:
        digits = b""
        while not digits or re.fullmatch(rb"[0-9A-Fa-f]", self.peek()):
            digits += self.take(rb"0-9A-Fa-f")
            size = int(digits, 16)
            # Ours: 16 digits that fit 63 bits, and limit_request_body.
            if len(digits) > self.SIZE_DIGITS or size >= 2**63:
                raise Refused(400)
            if self.rules.body and size > self.rules.body - len(self.body):
                raise Refused(413)
        return size

    def chunk_ext(self) -> None:
        while True:
            blanks = self.many(rb" \t")
            if not blanks and self.peek() == b"\r":
                return
            self.take(b";")
            self.many(rb" \t")
            self.token()
            blanks = self.many(rb" \t")
            if self.peek() == b"=":
                self.take(b"=")
                self.many(rb" \t")
                if self.peek() == b'"':
                    self.quoted_string()
                else:
                    self.token()
            elif blanks and self.peek() != b";":
                raise Refused(400)  # Blanks stand in front of ';' and '=' only.

    def quoted_string(self) -> None:
        self.take(b'"')
        while self.peek() != b'"':
            if self.peek() == b"\\":
                self.take(rb"\\")
            self.take(rb"\t\x20-\x7e\x80-\xff")
        self.take(b'"')

    def trailer_section(self) -> None:
        self.in_trailer = True
        count = 0
        while self.peek() != b"\r":
            count += 1
            if count > self.rules.fields:
                raise Refused(431)
            name = self.token()
            self.take(b":")
            if name.lower().replace(b"_", b"-") in self.FORBIDDEN:
                raise Refused(400)
            self.many(rb"\t\x20-\x7e\x80-\xff")
            self.crlf()
        self.take(rb"\r")
        self.in_trailer = False
        self.take(rb"\n")

    def chunked_body(self) -> None:
        while size := self.chunk():
            taken = self.data[self.at : self.at + size]
            self.body += taken
            self.at += len(taken)
            if len(taken) < size:
                raise EndOfInput
            self.crlf()
        self.trailer_section()

    def chunk(self) -> int:
        size = self.chunk_size()
        self.chunk_ext()
        self.crlf()
        return size


def read_chunked(data: bytes, rules: Rules) -> dict[str, object]:
    reader = Chunks(data, rules)
    try:
        reader.chunked_body()
    except Refused as refused:
        return {"status": refused.status}
    except EndOfInput:
        return {"status": MORE, "used": len(data), "body": reader.body.hex()}
    return {"status": 0, "used": reader.at, "body": reader.body.hex()}
