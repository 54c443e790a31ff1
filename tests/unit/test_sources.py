"""Where settings come from, which of them wins, and what is said about the others."""

import os
import sys
from pathlib import Path

import pytest

from pywsgiserve import config, config_file, sources
from pywsgiserve.checks import ConfigError, UsageError


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    """A directory of its own to start in, and nothing left of it afterwards."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.delenv("FORWARDED_ALLOW_IPS", raising=False)
    monkeypatch.delitem(sys.modules, config_file.MODULE, raising=False)
    # What is still to come is a matter of the table, and has its tests there.
    monkeypatch.setattr(config, "NOT_YET", {})
    return tmp_path


def load(*argv, **environ):
    return sources.load(argv, environ)


def value(name, *argv, **environ):
    """The value of a setting and where it is from."""
    loaded = load(*argv, **environ)
    return getattr(loaded.config, name), loaded.origins[name]


def error(*argv, **environ):
    with pytest.raises(ConfigError) as raised:
        load(*argv, **environ)
    return raised.value


# Precedence


def test_each_source_beats_the_ones_before_it():
    environ = {}
    argv = []
    assert value("workers") == (1, "default")

    environ["WEB_CONCURRENCY"] = "2"
    assert value("workers", **environ) == (2, "WEB_CONCURRENCY")

    Path("gunicorn.conf.py").write_text("workers = 3")
    assert value("workers", **environ) == (3, "gunicorn.conf.py")

    environ["GUNICORN_CMD_ARGS"] = "-w 4"
    assert value("workers", **environ) == (4, "GUNICORN_CMD_ARGS")

    environ["PYWSGISERVE_CMD_ARGS"] = "--workers=5"
    assert value("workers", **environ) == (5, "PYWSGISERVE_CMD_ARGS")

    argv.append("-w6")
    assert value("workers", *argv, **environ) == (6, "the command line")


def test_a_list_replaces_the_list_of_a_weaker_source():
    Path("gunicorn.conf.py").write_text("bind = [':1', ':2']; raw_env = ['A=1']")

    loaded = load("-b", ":3", "-b", ":4", GUNICORN_CMD_ARGS="-b :5")

    assert loaded.config.bind == (":3", ":4")
    assert loaded.config.raw_env == ("A=1",)


def test_a_value_that_loses_is_not_looked_at():
    assert value("workers", "-w2", WEB_CONCURRENCY="auto") == (2, "the command line")


# Environment


@pytest.mark.parametrize(
    ("variable", "given", "name", "result"),
    [
        ("PORT", "5000", "bind", ("0.0.0.0:5000",)),
        ("PORT", "", "bind", ("127.0.0.1:8000",)),
        ("WEB_CONCURRENCY", "02", "workers", 2),
        ("WEB_CONCURRENCY", " 3 ", "workers", 3),
        ("WEB_CONCURRENCY", "", "workers", 1),
        ("FORWARDED_ALLOW_IPS", "*", "forwarded_allow_ips", ("*",)),
        ("FORWARDED_ALLOW_IPS", "", "forwarded_allow_ips", ()),
        ("SENDFILE", "yes", "sendfile", True),
        ("SENDFILE", "1", "sendfile", True),
        ("SENDFILE", "no", "sendfile", False),
        ("SENDFILE", "", "sendfile", True),
    ],
)
def test_a_variable_changes_a_default(variable, given, name, result):
    assert value(name, **{variable: given})[0] == result


@pytest.mark.parametrize(
    ("environ", "said"),
    [
        (
            {"WEB_CONCURRENCY": "two"},
            "workers: expected a whole number, got 'two' (from WEB_CONCURRENCY)",
        ),
        (
            {"FORWARDED_ALLOW_IPS": "10.0.0.1/8"},
            "forwarded_allow_ips: 10.0.0.1/8 has host bits set "
            "(from FORWARDED_ALLOW_IPS)",
        ),
    ],
)
def test_an_error_names_the_variable(environ, said):
    assert str(error(**environ)) == said


def test_variables_with_arguments_are_split_as_a_shell_would():
    loaded = load(GUNICORN_CMD_ARGS="--access-logformat '%(h)s %(r)s' -n \"a b\"")

    assert loaded.config.access_log_format == "%(h)s %(r)s"
    assert loaded.config.proc_name == "a b"


def test_an_app_cannot_come_from_them():
    loaded = load("main:app", GUNICORN_CMD_ARGS="-w 2 other:app")

    assert loaded.config.wsgi_app == "main:app"
    assert loaded.warnings == (
        "GUNICORN_CMD_ARGS: the app cannot be given there, ignored: other:app",
    )


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("--wrokers 3", "unknown option --wrokers; did you mean --workers?"),
        ("-w 'x", "GUNICORN_CMD_ARGS: No closing quotation"),
        ("-w", "argument -w/--workers: expected one argument"),
        ("-w x", "workers: expected a whole number, got 'x' (from GUNICORN_CMD_ARGS)"),
    ],
)
def test_what_cannot_be_read_in_them_is_an_error_of_use(given, said):
    found = error(GUNICORN_CMD_ARGS=given)

    assert isinstance(found, UsageError)
    assert said in str(found)
    assert "GUNICORN_CMD_ARGS" in str(found)


# Command line


@pytest.mark.parametrize(
    ("words", "name", "result"),
    [
        (["-w4"], "workers", 4),
        (["-w", "4"], "workers", 4),
        (["--workers=4"], "workers", 4),
        (["--workers", "4"], "workers", 4),
        (["--worker-cl", "sync"], "worker_class", "sync"),
        (["--keep-alive", "5m"], "keepalive", 300.0),
        (["--keep", "5"], "keepalive", 5.0),
        (["--forwarded=*"], "forwarded_allow_ips", ("*",)),
        (["--header", "refuse"], "header_map", "refuse"),
        (["--limit-request-field_size", "9"], "limit_request_field_size", 9),
        (["--limit-request-field-size", "9"], "limit_request_field_size", 9),
        (["--no-sendfile"], "sendfile", False),
        (["--no-request-buffering"], "request_buffering", False),
        (["--preload", "-D", "--reuse-port"], "preload_app", True),
        (["-Dw3"], "workers", 3),
        (["-e", "A=1", "--env=B=2"], "raw_env", ("A=1", "B=2")),
        (["-m", "022"], "umask", 0o22),
        (["-m", "18"], "umask", 0o22),
        (["--log-file", "x"], "errorlog", "x"),
        (["--log-level", "WARNING"], "loglevel", "warning"),
        (["main:app"], "wsgi_app", "main:app"),
        (["-w", "2", "main:app", "-b", ":1"], "wsgi_app", "main:app"),
        (["--", "main:app"], "wsgi_app", "main:app"),
    ],
)
def test_options_are_written_as_for_gunicorn(words, name, result):
    assert value(name, *words) == (result, "the command line")


def test_the_app_after_a_bare_proxy_protocol_is_the_app():
    assert load("--proxy-protocol", "main:app").config.wsgi_app == "main:app"
    assert load("--proxy-protocol", "v1", "main:app").config.wsgi_app == "main:app"
    assert load("--proxy-pr=v1", "main:app").config.wsgi_app == "main:app"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--frobnicate"], "unknown option --frobnicate"),
        (["--worker-clas-s", "x"], "did you mean --worker-class?"),
        (["--work", "3"], "ambiguous option --work: --workers, --worker-class"),
        (["--bind"], "argument -b/--bind: expected one argument"),
        (["--preload=1"], "ignored explicit argument '1'"),
        (["-x"], "unrecognized arguments: -x"),
        (["-w", "many"], "workers: expected a whole number, got 'many'"),
        (["-t", "soon"], "timeout: expected a number of seconds"),
    ],
)
def test_what_cannot_be_read_is_an_error_of_use(words, said):
    found = error(*words)

    assert isinstance(found, UsageError)
    assert said in str(found)


def test_a_value_out_of_bounds_is_an_error_of_the_settings():
    found = error("-w0")

    assert not isinstance(found, UsageError)
    assert str(found) == "workers: expected 1 or more, got 0 (from the command line)"


def test_a_second_app_is_ignored_with_a_warning():
    loaded = load("a:app", "b:app")

    assert loaded.config.wsgi_app == "a:app"
    assert loaded.warnings == ("one app is served, ignored: b:app",)


# Config files


def test_our_own_file_is_found_before_gunicorns():
    Path("gunicorn.conf.py").write_text("backlog = 1")
    assert value("backlog") == (1, "gunicorn.conf.py")

    Path("pywsgiserve.conf.py").write_text("backlog = 2")
    assert value("backlog") == (2, "pywsgiserve.conf.py")


def test_a_named_file_is_read_instead():
    Path("gunicorn.conf.py").write_text("raise SystemError")
    Path("a.py").write_text("backlog = 3")
    Path("b.py").write_text("raise SystemError")

    assert value("backlog", "-c", "a.py", GUNICORN_CMD_ARGS="-c b.py") == (3, "a.py")
    assert value("backlog", GUNICORN_CMD_ARGS="-c a.py") == (3, "a.py")


@pytest.mark.parametrize("form", ["{}", "file:{}", "./{}", "file:./{}"])
def test_a_file_may_be_named_in_each_form(form):
    Path("gconf.py").write_text("backlog = 3")

    assert value("backlog", "-c", form.format("gconf.py"))[0] == 3


def test_a_module_may_be_named(here, monkeypatch):
    (here / "settings_of_mine").mkdir()
    (here / "settings_of_mine/gunicorn.py").write_text("backlog = 3")

    name = "python:settings_of_mine.gunicorn"
    assert value("backlog", "-c", name) == (3, name)

    (here / "settings_of_mine/gunicorn.py").write_text("backlog = 45")
    assert value("backlog", "-c", name) == (45, name)
    for module in ("settings_of_mine", "settings_of_mine.gunicorn"):
        monkeypatch.delitem(sys.modules, module)


def test_a_file_without_py_is_read_with_a_warning():
    loaded = load("-c", "/dev/null")

    assert loaded.warnings == (
        "/dev/null: a config file is Python, and should end in .py",
    )


def test_a_file_is_the_module_config():
    Path("gconf.py").write_text(
        "import sys\nproc_name = f'{__name__} {__file__}'\n"
        "assert vars(sys.modules[__name__]) is globals()\n"
    )

    assert value("proc_name", "-c", "gconf.py")[0] == "__config__ gconf.py"


def test_a_file_imports_from_where_the_server_is_started():
    Path("beside_the_config.py").write_text("number = 7")
    Path("gconf.py").write_text("from beside_the_config import number as backlog")

    assert value("backlog", "-c", "gconf.py")[0] == 7


def test_hooks_and_dicts_come_from_a_file():
    Path("gconf.py").write_text(
        "def on_exit(server): pass\nsecure_scheme_headers = {'X-A': 'b'}"
    )

    found = load("-c", "gconf.py").config

    assert found.on_exit.__name__ == "on_exit"
    assert found.secure_scheme_headers == {"X-A": "b"}


def test_a_file_that_spells_out_every_default_is_read_without_a_word():
    lines = ["import os"]
    for name, row in config.SETTINGS.items():
        if name != "config" and not row.hook:
            lines.append(f"{name} = {row.default()!r}")
    for name, row in config.LATER.items():
        lines.append(f"{name} = {row.default!r}")
    Path("gunicorn.conf.py").write_text("\n".join(lines))

    loaded = load()

    assert loaded.warnings == ()
    assert loaded.config == config.Config(config="gunicorn.conf.py")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("workers = 0", "workers: expected 1 or more, got 0 (from gconf.py)"),
        ("bind = 8000", "bind: expected an address"),
        ("def on_exit(): pass", "on_exit: expected a function of one argument"),
        ("x = 1\nworkers = = 2", "gconf.py, line 2: invalid syntax: workers = = 2"),
        ("\n\n1 / 0", "gconf.py, line 3: ZeroDivisionError: division by zero"),
        ("import no_such_thing", "line 1: ModuleNotFoundError: No module named"),
        ("open('/no/such')", "line 1: FileNotFoundError"),
    ],
)
def test_what_is_wrong_in_a_file_is_said_with_its_place(text, said):
    Path("gconf.py").write_text(text)

    found = error("-c", "gconf.py")

    assert said in str(found)
    assert "gconf.py" in str(found)


def test_the_traceback_of_a_file_shows_the_users_frames_only():
    Path("gconf.py").write_text("def f():\n    return 1 / 0\nf()\n")

    details = error("-c", "gconf.py").details

    assert details.count("  File ") == 2
    assert "pywsgiserve" not in details


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("nix.py", "config: 'nix.py' doesn't exist (from the command line)"),
        (".", "config: '.' is a directory, not a file"),
        ("python:no.such", "config: there is no module 'no.such'"),
    ],
)
def test_a_file_that_cannot_be_read_is_named(name, said):
    assert said in str(error("-c", name))


def test_a_config_file_cannot_name_another():
    Path("gconf.py").write_text("config = 'other.py'")

    loaded = load("-c", "gconf.py")

    assert loaded.config.config == "gconf.py"
    assert "config is for the command line only" in loaded.warnings[0]


def test_modules_are_no_settings():
    Path("gconf.py").write_text("import os as user, sys as config, os as reload")

    assert load("-c", "gconf.py").warnings == ()


# Names that look like settings


def said_about(text):
    Path("gconf.py").write_text(text)
    return load("-c", "gconf.py").warnings


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("timeot = 5", "timeout"),
        ("worker = 5", "workers"),
        ("max_request = 5", "max_requests"),
        ("keep_alive = 5", "keepalive"),
        ("preload = True", "preload_app"),
        ("log_level = 'info'", "loglevel"),
        ("log_config = 'x'", "logconfig"),
        ("access_logformat = ''", "access_log_format"),
        ("thread = 2", "threads"),
        ("max_requests_per_child = 2", "max_requests"),
        ("shutdown_timeout = 2", "graceful_timeout"),
        ("wsgi_module = 'x'", "wsgi_app"),
        ("harakiri = 2", "timeout"),
        ("processes = 2", "workers"),
        ("WORKERS = 2", "workers"),
        ("PRELOAD_APP = True", "preload_app"),
        ("no_sendfile = True", "sendfile"),
        ("def when_redy(server): pass", "when_ready"),
        ("def post_forks(server, worker): pass", "post_fork"),
    ],
)
def test_a_misspelt_or_foreign_name_gets_a_hint(text, meant):
    (said,) = said_about(text)

    assert said.startswith("gconf.py: ")
    assert said.endswith(f" is no setting; did you mean {meant}?")


@pytest.mark.parametrize(
    "text",
    [
        "worker = 2\nworkers = worker * 2",
        "WORKERS = 2\nprint(WORKERS, file=open('/dev/null', 'w'))",
        "import multiprocessing\ncores = multiprocessing.cpu_count()",
        "host = 'x'\nport = 5\nbind = f'{host}:{port}'",
        "name = 'x'\nenv = {}\npid = 5\npath = 'x'\nmodule = 'x'\nmaster = 1",
        "_worker = 2",
        "timeot = 2\ntimeout = 3",
        "from os.path import exists as worker",
        "def worker(): pass",
        "def thread(): pass",
        "class Workers: pass",
        "max_workers = 5\nmin_workers = 1\nworker_count = 2",
    ],
)
def test_helper_variables_get_none(text):
    assert said_about(text) == ()


def test_settings_to_come_are_named_once_together():
    Path("gconf.py").write_text("reload = True\nspew = False\ncertfile = 'x'")

    loaded = load("-c", "gconf.py", "--statsd-host=x:1", "--no-control-socket")

    assert loaded.warnings == (
        "not supported yet, ignored: reload (from gconf.py), certfile (from gconf.py), "
        "statsd_host (from the command line)",
    )


# The place that settings describe


def test_entering_sets_directory_path_and_environment(here, monkeypatch):
    (here / "app").mkdir()
    monkeypatch.setenv("PWS_TEST_A", "old")
    monkeypatch.setenv("PWS_TEST_B", "old")
    found = load(
        *("--chdir", "app", "--pythonpath", "one,../two"),
        *("-e", "PWS_TEST_A=1=2", "-e", "PWS_TEST_B="),
    ).config

    sources.enter(found)

    assert os.getcwd() == str(here / "app")
    assert sys.path[:3] == [str(here / p) for p in ("two", "app/one", "app")]
    assert (os.environ["PWS_TEST_A"], os.environ["PWS_TEST_B"]) == ("1=2", "")


def test_the_directory_keeps_the_name_that_the_shell_knows(here, monkeypatch):
    (here / "real").mkdir()
    (here / "link").symlink_to("real")
    monkeypatch.chdir(here / "real")
    monkeypatch.setenv("PWD", str(here / "link"))
    assert load().config.chdir == str(here / "link")

    monkeypatch.setenv("PWD", str(here))
    assert load().config.chdir == str(here / "real")


def test_an_error_found_later_is_blamed_on_its_source():
    Path("gconf.py").write_text("bind = 'x:y'")
    loaded = load("-c", "gconf.py")

    said = loaded.blame(ConfigError("bind: 'x:y': 'y' is not a valid port number"))

    assert str(said).endswith("number (from gconf.py)")
    assert str(loaded.blame(ConfigError("backlog: wrong"))) == "backlog: wrong"
