"""The command: what it prints, what it returns, and that it serves."""

import json
import os
import re
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

import pywsgiserve
from pywsgiserve import demo
from tests.process import LISTENING, ROOT, START_S, STOP_S, environment

SITE = """
import os, sys
def app(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [f"{os.environ.get('PWS_TEST')} {os.getcwd()}".encode()]
if os.environ.get("PWS_TEST") == "needed":
    import helper_elsewhere
"""
# Where the package is, as no working directory here has it.
PACKAGES = str(Path(pywsgiserve.__file__).parents[1])
VARIABLES = ("PORT", "WEB_CONCURRENCY", "FORWARDED_ALLOW_IPS", "SENDFILE")


@pytest.fixture
def place(tmp_path):
    (tmp_path / "main.py").write_text(SITE)
    return tmp_path


def started(*words, cwd, **environ):
    """The command as a process of its own."""
    env = environment({"PYTHONPATH": PACKAGES, **environ})
    for name in VARIABLES:
        if name not in environ:
            env.pop(name, None)
    return subprocess.Popen(
        [sys.executable, "-m", "pywsgiserve", *words],
        cwd=cwd,
        env=env,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def done(*words, cwd, **environ):
    """The end of a command that ends by itself: exit code, stdout, stderr."""
    process = started(*words, cwd=cwd, **environ)
    out, err = process.communicate(timeout=START_S)
    return process.returncode, out, err


def answer(*words, cwd, path="/", **environ):
    """What a server answers, when it is then stopped; and its stderr."""
    process = started(*words, cwd=cwd, **environ)
    said = ""
    try:
        while not LISTENING.search(said):
            line = process.stderr.readline()
            assert line, said
            said += line
        url = LISTENING.search(said)[2]
        body = urllib.request.urlopen(url + path, timeout=START_S).read()
    finally:
        process.send_signal(signal.SIGTERM)
        said += process.communicate(timeout=STOP_S)[1]
    assert process.returncode == 0, said
    return body.decode(), said


# Serving


def test_an_app_is_served(place):
    body, said = answer("main:app", "-b", "127.0.0.1:0", cwd=place)

    assert body == f"None {place}"
    assert "Warning" not in said


def test_a_config_file_and_the_environment_are_heard(place):
    (place / "sub").mkdir()
    (place / "gunicorn.conf.py").write_text(
        "bind = '127.0.0.1:0'; wsgi_app = 'main:app'\n"
        "pythonpath = '..'; raw_env = ['PWS_TEST=from the file']"
    )

    body, _ = answer(cwd=place, GUNICORN_CMD_ARGS="--chdir sub")

    assert body == f"from the file {place / 'sub'}"


def test_the_demo_is_served(tmp_path):
    words = ("pywsgiserve.demo:app", "-b", "127.0.0.1:0")

    body, _ = answer(*words, cwd=tmp_path, path="/pulse")

    assert json.loads(body)["count"] == "1"


def test_what_is_ignored_is_said_at_the_start(place):
    words = ("main:app", "-b127.0.0.1:0", "--worker-tmp-dir", "/dev/shm")

    _, said = answer(*words, cwd=place)

    assert said.startswith(
        "Warning: not supported yet, ignored: worker_tmp_dir (from the command line)\n"
    )


# Ending at once


@pytest.mark.parametrize("flag", ["-v", "--version", "--vers"])
def test_the_version_is_printed(flag, tmp_path):
    code, out, err = done(flag, cwd=tmp_path)

    assert (code, err) == (0, "")
    assert out == f"pywsgiserve (version {pywsgiserve.__version__})\n"


def test_help_names_every_setting_with_a_flag(tmp_path):
    code, out, err = done("--help", cwd=tmp_path)

    assert (code, err) == (0, "")
    assert out.startswith("usage: pywsgiserve [OPTIONS] [APP_MODULE]\n")
    for flag in ("--bind ADDRESS", "-w INT", "--preload", "--access-logformat"):
        assert flag in out
    assert "--dirty-app" not in out
    assert "%%" not in out


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        ([], 1, "Error: no application module specified"),
        (["-w0", "main:app"], 1, "Error: workers: expected 1 or more, got 0 (from the"),
        (["-c", "nix.py"], 1, "Error: config: 'nix.py' doesn't exist"),
        (["--chdir", "nix", "main:app"], 1, "Error: chdir: expected a directory"),
        (["-b", "[::1", "main:app"], 1, "Error: bind: '[::1': '[' without ']' (from"),
        (["--frobnicate"], 2, "error: unknown option --frobnicate"),
        (["-w", "many"], 2, "error: workers: expected a whole number, got 'many'"),
        (["--check-config", "main:nothing"], 1, "module 'main' has no 'nothing'"),
        (["--check-config", "nix:app"], 1, "there is no module 'nix' in "),
        (["main:nothing"], 4, "module 'main' has no 'nothing'"),
        (["nix:app"], 3, "there is no module 'nix' in "),
    ],
)
def test_what_is_wrong_is_said_in_a_sentence(words, code, said, place):
    found, out, err = done(*words, cwd=place)

    assert (found, out) == (code, "")
    assert said in err
    assert "Traceback" not in err


def test_an_address_in_use_is_said(place):
    process = started("main:app", "-b", "127.0.0.1:0", cwd=place)
    try:
        while not (said := LISTENING.search(process.stderr.readline())):
            assert process.poll() is None
        address = said[2].removeprefix("http://")
        code, _, err = done("main:app", "-b", address, cwd=place)
    finally:
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=STOP_S)

    assert code == 1
    assert "in use" in err
    assert "Traceback" not in err


def test_the_cause_in_a_config_file_is_shown(place):
    (place / "gunicorn.conf.py").write_text("def f():\n    return nothing\nf()\n")

    code, _, err = done("main:app", cwd=place)

    assert code == 1
    assert '  File "gunicorn.conf.py", line 2, in f\n' in err
    said = r"Error: gunicorn.conf.py, line 2: NameError: name 'nothing' is not defined$"
    assert re.search(said, err)


def test_the_cause_in_an_app_is_shown(place):
    (place / "main.py").write_text("import no_such_package")

    code, _, err = done("--check-config", "main:app", cwd=place)

    assert code == 1
    assert '/main.py", line 1, in <module>\n' in err
    assert "because it needs 'no_such_package'" in err


# Checks


def test_a_check_that_passes_is_silent(place):
    assert done("--check-config", "main:app", cwd=place) == (0, "", "")


def test_a_check_has_the_path_and_the_environment_of_the_app(place):
    """Gunicorn applies neither, so that apps which need them fail its check."""
    (place / "lib").mkdir()
    (place / "lib" / "helper_elsewhere.py").touch()
    words = ("--check-config", "-e", "PWS_TEST=needed", "main:app")
    assert done(*words, cwd=place)[0] == 1

    assert done(*words, "--pythonpath", "lib", cwd=place) == (0, "", "")


def test_a_check_tells_of_names_that_look_like_settings(place):
    (place / "gunicorn.conf.py").write_text("keep_alive = 5")

    code, _, err = done("--check-config", "main:app", cwd=place)

    assert code == 0
    assert err == (
        "Warning: gunicorn.conf.py: keep_alive is no setting; did you mean keepalive?\n"
    )


def test_the_settings_are_printed_with_their_origins(place):
    (place / "gunicorn.conf.py").write_text("backlog = 5\ndef on_exit(s): pass")
    words = ("--print-config", "main:app", "--keep-alive", "5m", "-b:1", "-b:2")

    code, out, _ = done(*words, cwd=place, FORWARDED_ALLOW_IPS="*")

    lines = dict(re.split(r"\s+= ", line, maxsplit=1) for line in out.splitlines())
    assert code == 0
    assert list(lines) == sorted(lines)
    assert lines["backlog"] == "5  # gunicorn.conf.py"
    assert lines["keepalive"] == "300  # the command line"
    assert lines["bind"] == "[':1', ':2']  # the command line"
    assert lines["forwarded_allow_ips"] == "['*']  # FORWARDED_ALLOW_IPS"
    assert lines["workers"] == "1  # default"
    assert lines["on_exit"] == "<on_exit()>  # gunicorn.conf.py"


def test_the_settings_are_printed_before_the_check_fails(place):
    code, out, err = done("--print-config", "main:nothing", cwd=place)

    assert code == 1
    assert "wsgi_app" in out
    assert "no 'nothing'" in err


# Cost


def modules(statement):
    """What is imported beyond what the interpreter itself has."""
    code = (
        "import sys; before = set(sys.modules)\n"
        f"{statement}\n"
        "print(*sorted(set(sys.modules) - before), file=sys.stderr)"
    )
    found = subprocess.run(
        [sys.executable, "-S", "-c", code],
        env={**os.environ, "PYTHONPATH": PACKAGES},
        capture_output=True,
        text=True,
        check=True,
    )
    return set(found.stderr.split())


def test_the_version_needs_nothing():
    statement = "from pywsgiserve.cli import main; main(['--version'])"

    found = {m for m in modules(statement) if "." in m or "pywsgiserve" in m}

    assert {m for m in found if m.startswith("pywsgiserve")} == {
        "pywsgiserve",
        "pywsgiserve._version",
        "pywsgiserve.cli",
    }
    assert not {"argparse", "dataclasses", "inspect"} & modules(statement)


def test_importing_the_package_imports_no_server():
    found = modules("import pywsgiserve")

    assert "pywsgiserve._core" not in found
    assert not {"argparse", "dataclasses", "inspect", "socket"} & found


def test_the_console_script_is_this_command():
    text = (ROOT / "pyproject.toml").read_text()

    assert 'pywsgiserve = "pywsgiserve.cli:main"' in text


# The demo


def call(**environ):
    from wsgiref.util import setup_testing_defaults
    from wsgiref.validate import validator

    request = {"SCRIPT_NAME": "", "PATH_INFO": "/", "QUERY_STRING": ""} | environ
    setup_testing_defaults(request)
    found = []
    body = validator(demo.app)(request, lambda *head: found.append(head))
    try:
        return found[0][0], b"".join(body).decode()
    finally:
        body.close()


def test_the_demo_is_a_page():
    status, text = call()

    assert status == "200 OK"
    assert "pywsgiserve is running" in text
    assert not re.search(r"@[A-Z]+@", text)


def test_the_demo_repeats_nothing_unescaped():
    nasty = "<script>alert(1)</script>"

    _, text = call(HTTP_USER_AGENT=nasty, HTTP_HOST=nasty, RAW_URI=f"/?{nasty}")
    assert nasty not in text

    _, text = call(SCRIPT_NAME="/</script>", PATH_INFO="/")
    assert "/</script>" not in text


def test_the_demo_has_one_page():
    assert call(PATH_INFO="/other")[0] == "404 Not Found"


# What a check tells


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("-b", "x:abc"), "bind: 'x:abc'"),
        (("-b", "127.0.0.1:99999"), "bind: '127.0.0.1:99999'"),
        (
            ("--error-logfile", "/nowhere/log"),
            "errorlog: cannot write to '/nowhere/log'",
        ),
        (("--access-logfile", "/nowhere/a"), "accesslog: cannot write to '/nowhere/a'"),
        (("-p", "/nowhere/pid"), "pidfile: cannot write to '/nowhere/pid'"),
        (("--access-logformat", "%(L).3f"), "access_log_format: '%(L).' cannot be"),
    ],
)
def test_a_check_tells_what_a_start_would(place, words, said):
    code, _, err = done("--check-config", "main:app", *words, cwd=place)

    assert code == 1
    assert said in err


def test_a_config_file_that_was_found_is_shown(place):
    (place / "gunicorn.conf.py").write_text("workers = 2")
    code, out, _ = done("--print-config", "main:app", cwd=place)

    assert code == 0
    assert re.search(r"^config +=.*gunicorn\.conf\.py  # found in", out, re.MULTILINE)
