"""App strings: what they name, and the sentence for each way in which they name nothing."""

import sys
from pathlib import Path

import pytest

from pywsgiserve import app

SITE = """
def application(environ, start_response): return [b"default"]
def app(environ, start_response): return [b"app"]
def create_app(name="none", *, debug=False, tags=()):
    if name == "fail":
        return inner()
    def made(environ, start_response): return [name, debug, tags]
    return made
def inner(): raise RuntimeError("no database\\nsecond line")
def nothing(): return None
class Instance:
    def __call__(self, environ, start_response): return [b"instance"]
class ClassApp:
    def __init__(self, environ, start_response): pass
    def __iter__(self): return iter([b"class"])
instance = Instance()
empty = None
text = "x"
async def asgi(scope, receive, send): pass
"""


@pytest.fixture(autouse=True)
def site(tmp_path, monkeypatch):
    """A module `site_of_test` in a package and beside it, imported anew by each test."""
    (tmp_path / "site_of_test.py").write_text(SITE)
    (tmp_path / "package_of_test").mkdir()
    (tmp_path / "package_of_test" / "__init__.py").touch()
    (tmp_path / "package_of_test" / "wsgi.py").write_text(SITE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path
    for name in [m for m in sys.modules if m.partition(".")[0].endswith("_of_test")]:
        del sys.modules[name]


@pytest.mark.parametrize(
    ("uri", "result"),
    [
        ("site_of_test", [b"default"]),
        ("site_of_test:", [b"default"]),
        ("site_of_test:app", [b"app"]),
        (" site_of_test : app ", [b"app"]),
        ("package_of_test.wsgi", [b"default"]),
        ("package_of_test.wsgi:app", [b"app"]),
        ("site_of_test:instance", [b"instance"]),
        ("site_of_test:create_app()", ["none", False, ()]),
        ('site_of_test:create_app("prod")', ["prod", False, ()]),
        (
            "site_of_test:create_app('a:b', debug=True, tags=[1, {'x': -2}])",
            ["a:b", True, [1, {"x": -2}]],
        ),
    ],
)
def test_an_app_is_found(uri, result):
    assert app.load(uri)({}, print) == result


def test_a_class_may_be_an_app():
    assert list(app.load("site_of_test:ClassApp")({}, print)) == [b"class"]


@pytest.mark.parametrize(
    ("uri", "code", "said"),
    [
        # Modules
        ("", 3, "does not begin with the name of a module"),
        (":app", 3, "does not begin with the name of a module"),
        ("no such:app", 3, "does not begin with the name of a module"),
        ("nothing_of_test:app", 3, "there is no module 'nothing_of_test' in "),
        ("site_of_tset:app", 3, "Did you mean site_of_test?"),
        ("package_of_test.wsgy:app", 3, "Did you mean package_of_test.wsgi?"),
        ("pack_of_test.wsgi", 3, "'pack_of_test' (wanted for 'pack_of_test.wsgi')"),
        ("site_of_test.wsgi", 3, "there is no module 'site_of_test.wsgi'"),
        ("site_of_test.py", 3, "did you mean 'site_of_test:application'?"),
        ("site_of_test.py:app", 3, "did you mean 'site_of_test:app'?"),
        ("./package_of_test/wsgi.py", 3, "did you mean 'package_of_test.wsgi:appli"),
        ("package_of_test/wsgi:app", 3, "did you mean 'package_of_test.wsgi:app'?"),
        # Names
        ("site_of_test:ap", 4, "module 'site_of_test' has no 'ap'; did you mean app?"),
        ("site_of_test:xyz", 4, "it has application and app and create_app"),
        ("site_of_test:instance.wsgi", 4, "is an attribute of an object"),
        ("site_of_test:app[0]", 4, "is neither"),
        ("site_of_test:a b", 4, "is no Python expression"),
        ("site_of_test:create_app(", 4, "is no Python expression"),
        # Calls
        ("site_of_test:create_app(name)", 4, "has arguments that are no literals"),
        ("site_of_test:create_app(**{})", 4, "has arguments that are no literals"),
        ("site_of_test:create_app(*[1])", 4, "has arguments that are no literals"),
        ("site_of_test:create_app(open('x'))", 4, "has arguments that are no literals"),
        ("site_of_test:a.b()", 4, "is neither"),
        ("site_of_test:create_app(1, 2)", 4, "takes from 0 to 1 positional arguments"),
        ("site_of_test:create_app(x=1)", 4, "unexpected keyword argument 'x'"),
        ("site_of_test:text()", 4, "'str' objects cannot be called"),
        ("site_of_test:create_app('fail')", 3, "raised second line"),
        # Results
        ("site_of_test:nothing()", 4, "'site_of_test:nothing()' returned None"),
        ("site_of_test:empty", 4, "'site_of_test:empty' is None; a WSGI app is called"),
        ("site_of_test:text", 4, "is a str, 'x'"),
        ("site_of_test:nothing", 4, "did you mean 'site_of_test:nothing()'?"),
        ("site_of_test:asgi", 4, "is it an ASGI app?"),
        ("site_of_test:Instance", 4, "did you mean 'site_of_test:Instance()'?"),
    ],
)
def test_where_there_is_none_a_sentence_says_why(uri, code, said):
    with pytest.raises(app.AppError) as raised:
        app.load(uri)

    assert said in str(raised.value)
    assert raised.value.exit_code == code


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("import missing_of_test", "because it needs 'missing_of_test', which is not"),
        ("import os.nothing", "because it needs 'os.nothing'"),
        ("from os import nothing", "ImportError: cannot import name 'nothing'"),
        ("x = 1\ny = = 2", "SyntaxError: invalid syntax"),
        ("raise ValueError('bad')", "cannot be imported: ValueError: bad"),
        (
            "import sys; sys.exit(5)",
            "ended the process while it was imported: sys.exit",
        ),
    ],
)
def test_a_module_that_fails_is_told_from_a_missing_one(text, said):
    Path("broken_of_test.py").write_text(text)

    with pytest.raises(app.AppError) as raised:
        app.load("broken_of_test:app")

    assert said in str(raised.value)
    assert raised.value.exit_code == app.BOOT_FAILED
    assert "broken_of_test.py" in raised.value.details


def test_a_traceback_shows_the_users_frames_only():
    with pytest.raises(app.AppError) as raised:
        app.load("site_of_test:create_app('fail')")

    assert raised.value.details.count("  File ") == 2
    assert "importlib" not in raised.value.details
    assert app.__file__ not in raised.value.details
