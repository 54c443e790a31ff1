"""The rules of docs/architecture.md that a tool can check on the C sources.

A rule is a function that takes the project's folder and yields one sentence for each
breach. Each is run on the real tree, where it must find nothing, and on a made-up tree
with a breach, where it must find exactly that: a guard that cannot fail guards nothing.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

# Who may include whom. proc knows processes, not HTTP: it does not see proto.
MAY_INCLUDE = {
    "base": {"base"},
    "proto": {"base", "proto"},
    "engine": {"base", "proto", "engine"},
    "proc": {"base", "engine", "proc"},
    "py": {"base", "proto", "engine", "proc", "py"},
}
MAX_LINES = 600
BAD_NAMES = {"utils", "util", "common", "types", "misc", "helpers"}
PYTHON_HEADERS = re.compile(r"(?:^|/)(Python|structmember|greenlet|frameobject)\.h$")
IMPURE_HEADERS = re.compile(
    r"^(unistd|fcntl|stdlib|pthread|signal|poll|time|sys/.*)\.h$"
)

INCLUDE = re.compile(r'^[ \t]*#[ \t]*include[ \t]*([<"])([^>"]+)[>"]', re.MULTILINE)
SOCKET_IO = "recv|recvfrom|recvmsg|recvmmsg|send|sendto|sendmsg|sendmmsg|sendfile"
VECTOR_IO = "readv|writev|preadv|pwritev|splice"
SOCKET_IO_ELSEWHERE = {
    # file: (call, ...), each with the reason why it is no client's bytes
    "base/sink.c": ("send",),  # Where stderr is a socket: MSG_DONTWAIT.
    "proc/systemd.c": ("sendto", "sendmsg"),  # The notification to systemd.
    "base/passing.c": ("sendmsg", "recvmsg"),  # Descriptors from a master to others.
}

# Has a private name, but a place in the C API's documentation ("Bytes Objects").
DOCUMENTED = "_PyBytes_Resize"

# What 3.12 to 3.14 removed and what 3.15 will.
REMOVED_FROM_PYTHON = (
    "PyEval_(?:CallObject|CallObjectWithKeywords|CallFunction|CallMethod|InitThreads"
    "|ThreadsInitialized|AcquireLock|ReleaseLock)"
    "|PyCFunction_Call|PyObject_(?:AsCharBuffer|AsReadBuffer|AsWriteBuffer"
    "|CheckReadBuffer)"
    "|PyUnicode_(?:AS_UNICODE|AS_DATA|AsUnicode|AsUnicodeAndSize|FromUnicode|GetSize"
    "|GET_SIZE|GET_DATA_SIZE|READY|InternImmortal|AsDecodedObject|AsDecodedUnicode"
    "|AsEncodedObject|AsEncodedUnicode)"
    "|PyWeakref_(?:GetObject|GET_OBJECT)|PyImport_ImportModuleNoBlock"
    "|PyThread_(?:create_key|delete_key|set_key_value|get_key_value|delete_key_value"
    "|ReInitTLS)"
    "|PySys_(?:SetArgv|SetArgvEx|SetPath|AddWarnOption|AddXOption|HasWarnOptions"
    "|ResetWarnOptions)"
    "|Py_(?:SetProgramName|SetPythonHome|SetPath|SetStandardStreamEncoding|GetPath"
    "|GetPrefix|GetExecPrefix|GetProgramName|GetProgramFullPath|GetPythonHome"
    "|TRASHCAN_SAFE_BEGIN|TRASHCAN_SAFE_END|UNICODE_WIDE|UNICODE)"
    "|Py_(?:Debug|Verbose|Quiet|Inspect|Optimize|NoSite|Isolated|UnbufferedStdio)Flag"
    "|ma_version_tag|ob_shash"
)

Rule = Callable[[Path], Iterator[str]]


def sources(root: Path) -> list[Path]:
    found = (root / "csrc").rglob("*")
    return sorted(p for p in found if p.suffix in {".c", ".h"})


def name(root: Path, path: Path) -> str:
    return path.relative_to(root / "csrc").as_posix()


def layer(root: Path, path: Path) -> str:
    return path.relative_to(root / "csrc").parts[0]


def code(path: Path) -> str:
    """The file without comments and without what string literals hold."""
    token = r'/\*.*?\*/|//[^\n]*|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])*\''

    def blank(match: re.Match[str]) -> str:
        lines = "\n" * match[0].count("\n")
        return '""' if match[0].startswith('"') else " " + lines

    return re.sub(token, blank, path.read_text(), flags=re.DOTALL)


def includes(path: Path) -> list[tuple[bool, str]]:
    """(ours, what) for each include; ours is an include with quotes."""
    return [(quote == '"', what) for quote, what in INCLUDE.findall(path.read_text())]


def calls(path: Path, functions: str) -> list[str]:
    """Calls of these functions; a field or method of the same name is none."""
    return re.findall(rf"(?<![\w.>])({functions})\s*\(", code(path))


def sources_lie_in_a_layer(root: Path) -> Iterator[str]:
    for path in sources(root):
        parts = path.relative_to(root / "csrc").parts
        if len(parts) != 2 or parts[0] not in MAY_INCLUDE:
            yield f"{name(root, path)}: not in one of {', '.join(MAY_INCLUDE)}"


def includes_name_their_folder(root: Path) -> Iterator[str]:
    for path in sources(root):
        for ours, what in includes(path):
            if ours and not (root / "csrc" / what).is_file():
                yield f"{name(root, path)}: no csrc/{what}"


def includes_point_down(root: Path) -> Iterator[str]:
    for path in sources(root):
        allowed = MAY_INCLUDE.get(layer(root, path), set())
        for _, what in includes(path):
            target = what.split("/")[0]
            if "/" in what and target in MAY_INCLUDE and target not in allowed:
                yield f"{name(root, path)}: includes {what}"


def python_is_in_py_only(root: Path) -> Iterator[str]:
    for path in sources(root):
        for _, what in includes(path):
            if PYTHON_HEADERS.search(what) and layer(root, path) != "py":
                yield f"{name(root, path)}: includes {what}"


def proto_is_pure(root: Path) -> Iterator[str]:
    allocation = "malloc|calloc|realloc|reallocarray|free|strdup|strndup"
    for path in sources(root):
        if layer(root, path) != "proto":
            continue
        for ours, what in includes(path):
            if not ours and IMPURE_HEADERS.match(what):
                yield f"{name(root, path)}: includes {what}"
        for call in calls(path, allocation):
            yield f"{name(root, path)}: calls {call}"


def names_say_something(root: Path) -> Iterator[str]:
    for path in sources(root):
        if path.stem in BAD_NAMES:
            yield f"{name(root, path)}: says nothing about what is in it"


def socket_io_is_in_one_file(root: Path) -> Iterator[str]:
    for path in sources(root):
        if name(root, path) == "engine/io.c":
            continue
        # Below and beside the engine, a vector may go to a file: a log, say.
        where = layer(root, path)
        functions = f"{SOCKET_IO}|{VECTOR_IO}" if where == "engine" else SOCKET_IO
        for call in calls(path, functions):
            if call not in SOCKET_IO_ELSEWHERE.get(name(root, path), ()):
                yield f"{name(root, path)}: calls {call}"


def nothing_below_py_ends_the_process(root: Path) -> Iterator[str]:
    for path in sources(root):
        # A forked child that proc made ends with _exit, and only there.
        forbidden = {"proc": "exit|abort|quick_exit", "py": "abort|quick_exit"}
        functions = forbidden.get(
            layer(root, path), "exit|_exit|_Exit|abort|quick_exit"
        )
        for call in calls(path, functions):
            yield f"{name(root, path)}: calls {call}"


def python_api_will_last(root: Path) -> Iterator[str]:
    for path in sources(root):
        if layer(root, path) == "py":
            for found in re.findall(rf"\b({REMOVED_FROM_PYTHON})\b", code(path)):
                yield f"{name(root, path)}: {found} is removed from CPython"
            for found in calls(path, rf"(?!{DOCUMENTED}\b)_Py[A-Z_]\w*"):
                yield f"{name(root, path)}: {found} is private to CPython"


def files_hold_one_idea(root: Path) -> Iterator[str]:
    for path in sources(root):
        lines = path.read_text().count("\n")
        if lines > MAX_LINES:
            yield f"{name(root, path)}: {lines} lines, {MAX_LINES} is the limit"


def the_tour_names_every_file(root: Path) -> Iterator[str]:
    """docs/architecture.md names each pair of files, as `proto/http1.c` or shorter."""
    tour = root / "docs" / "architecture.md"
    text = tour.read_text() if tour.is_file() else ""
    for stem in sorted({name(root, p)[:-2] for p in sources(root)}):
        if not re.search(rf"(?<!\w){re.escape(stem)}(?!\w)", text):
            yield f"{stem}: not in docs/architecture.md"


HEADER = {"csrc/base/slice.h": "", "csrc/engine/io.c": "", "csrc/proc/master.h": ""}

# For each rule: a breach, and a neighbour that is allowed.
TRIALS: list[tuple[Rule, dict[str, str], dict[str, str]]] = [
    (
        sources_lie_in_a_layer,
        {"csrc/tools/a.c": ""},
        {"csrc/base/a.c": ""},
    ),
    (
        includes_name_their_folder,
        {"csrc/base/a.c": '#include "slice.h"\n'},
        {"csrc/base/a.c": '#include "base/slice.h"\n#include <slice.h>\n'},
    ),
    (
        includes_point_down,
        {"csrc/engine/a.c": '#include "proc/master.h"\n'},
        {"csrc/proc/a.c": '#include "engine/conn.h"\n#include "base/slice.h"\n'},
    ),
    (
        includes_point_down,
        {"csrc/proc/a.c": '#include "proto/http1.h"\n'},
        {"csrc/py/a.c": '#include "proto/http1.h"\n'},
    ),
    (
        includes_point_down,
        {"csrc/proto/a.h": '#  include "engine/conn.h"\n'},
        {"csrc/engine/a.h": '#include "proto/http1.h"\n'},
    ),
    (
        python_is_in_py_only,
        {"csrc/engine/a.h": "#include <Python.h>\n"},
        {"csrc/py/a.h": "#include <Python.h>\n#include <greenlet/greenlet.h>\n"},
    ),
    (
        proto_is_pure,
        {"csrc/proto/a.c": "#include <unistd.h>\n"},
        {"csrc/proto/a.c": "#include <string.h>\n"},
    ),
    (
        proto_is_pure,
        {"csrc/proto/a.c": "void *f(void) { return malloc(3); }\n"},
        {"csrc/proto/a.c": "/* malloc(3) is not called */\n"},
    ),
    (
        names_say_something,
        {"csrc/base/utils.c": ""},
        {"csrc/base/clock.c": ""},
    ),
    (
        socket_io_is_in_one_file,
        {"csrc/engine/conn.c": "ssize_t n = recv(fd, p, n, 0);\n"},
        {"csrc/engine/io.c": "ssize_t n = recv(fd, p, n, 0);\n"},
    ),
    (
        socket_io_is_in_one_file,
        {"csrc/engine/conn.c": "n = writev(fd, v, 2);\n"},
        {"csrc/base/log.c": "n = writev(fd, v, 2); pws_io_send(c); c->send(c);\n"},
    ),
    (
        nothing_below_py_ends_the_process,
        {"csrc/engine/a.c": "abort();\n"},
        {"csrc/engine/a.c": '/* abort() */ log("abort()"); x.exit(1);\n'},
    ),
    (
        nothing_below_py_ends_the_process,
        {"csrc/engine/a.c": "_exit(0);\n"},
        {"csrc/proc/a.c": "_exit(0);\n"},
    ),
    (
        python_api_will_last,
        {"csrc/py/a.c": "PyEval_CallObject(f, NULL);\n"},
        {"csrc/py/a.c": "PyObject_Call(f, args, NULL);\n"},
    ),
    (
        python_api_will_last,
        {"csrc/py/a.c": "_PyObject_Vectorcall(f, a, 1, NULL);\n"},
        {"csrc/py/a.c": "PyObject_Vectorcall(f, a, 1, NULL);\n"},
    ),
    (
        files_hold_one_idea,
        {"csrc/base/a.c": "\n" * (MAX_LINES + 1)},
        {"csrc/base/a.c": "\n" * MAX_LINES},
    ),
    (
        the_tour_names_every_file,
        {
            "csrc/base/a.c": "",
            "docs/architecture.md": "base/a1 base/slice engine/io proc/master",
        },
        {
            "csrc/base/a.c": "",
            "docs/architecture.md": "`base/a.c`, base/slice engine/io proc/master",
        },
    ),
]
RULES = list(dict.fromkeys(rule for rule, _, _ in TRIALS))


def plant(root: Path, files: dict[str, str]) -> Path:
    for path, text in (HEADER | files).items():
        target = root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text)
    return root


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_the_sources_keep_the_rule(rule: Rule) -> None:
    breaches = list(rule(ROOT))

    assert not breaches, "\n".join(breaches)


@pytest.mark.parametrize(
    ("rule", "breach"),
    [pytest.param(r, b, id=f"{r.__name__}-{i}") for i, (r, b, _) in enumerate(TRIALS)],
)
def test_a_breach_is_found(rule: Rule, breach: dict[str, str], tmp_path: Path) -> None:
    found = list(rule(plant(tmp_path, breach)))

    assert len(found) == 1
    assert found[0].startswith(next(iter(breach))[len("csrc/") :].rsplit(".", 1)[0])


@pytest.mark.parametrize(
    ("rule", "kept"),
    [pytest.param(r, k, id=f"{r.__name__}-{i}") for i, (r, _, k) in enumerate(TRIALS)],
)
def test_a_neighbour_of_the_breach_is_not(
    rule: Rule, kept: dict[str, str], tmp_path: Path
) -> None:
    assert not list(rule(plant(tmp_path, kept)))
