"""The table of settings: complete, consistent, and strict about values."""

import dataclasses
import functools
import os
import runpy
import warnings

import pytest

from pywsgiserve import checks
from pywsgiserve.checks import ConfigError
from pywsgiserve.config import (
    LATER,
    NOT_YET,
    REFUSE,
    SECTIONS,
    SETTINGS,
    Config,
    checked,
    is_set,
)
from tests.process import ROOT
from tests.unit.gunicorn_flags import FLAGS

# The table


def test_every_setting_of_gunicorn_is_known():
    assert set(FLAGS) <= {*SETTINGS, *LATER}


def test_no_setting_is_both_there_and_to_come():
    assert not set(SETTINGS) & set(LATER)


@pytest.mark.parametrize("name", FLAGS)
def test_every_flag_of_gunicorn_is_taken(name):
    row = SETTINGS.get(name) or LATER[name]

    assert set(FLAGS[name].split()) <= set(row.flags)


def test_no_flag_belongs_to_two_settings():
    flags = [f for table in (SETTINGS, LATER) for r in table.values() for f in r.flags]

    assert len(flags) == len(set(flags))
    assert not {"-h", "-v", "--help", "--version"} & set(flags)


def test_what_is_not_in_gunicorn_says_so():
    own = {n for n, row in SETTINGS.items() if row.flags and not FLAGS.get(n)}

    assert own == {n for n, row in SETTINGS.items() if row.ours}


@pytest.mark.parametrize("name", SETTINGS)
def test_a_row_is_complete(name):
    row = SETTINGS[name]

    assert row.section in SECTIONS
    assert row.help.endswith(".")
    assert row.metavar or row.action in ("true", "false") or not row.flags


@pytest.mark.parametrize("name", SETTINGS)
def test_a_default_passes_its_own_check_unchanged(name):
    row = SETTINGS[name]

    assert row.check(name, row.default()) == row.default()
    assert not is_set(name, row.default())


def test_what_is_not_there_yet_is_in_the_table():
    assert set(NOT_YET) <= set(SETTINGS)


def test_the_page_of_settings_is_up_to_date():
    """When this fails: python docs/make_settings.py"""
    maker = runpy.run_path(str(ROOT / "docs" / "make_settings.py"))

    assert (ROOT / "docs" / "settings.md").read_text() == maker["page"]()


def test_a_config_is_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        Config().workers = 2


# Values


@pytest.mark.parametrize(
    ("name", "value", "result"),
    [
        ("backlog", 5, 5),
        ("backlog", "5", 5),
        ("backlog", " 010 ", 10),
        ("backlog", "0x10", 16),
        ("backlog", "5_0", 50),
        ("keepalive", 5, 5.0),
        ("keepalive", 0.25, 0.25),
        ("keepalive", "75", 75.0),
        ("keepalive", "1.5", 1.5),
        ("keepalive", "30s", 30.0),
        ("keepalive", "5m", 300.0),
        ("keepalive", " 1 H ", 3600.0),
        ("keepalive", "500ms", 0.5),
        ("keepalive", "1d", 86400.0),
        ("reuse_port", "true", True),
        ("reuse_port", " False ", False),
        ("reuse_port", None, False),
        ("sendfile", True, True),
        ("sendfile", False, False),
        ("sendfile", None, True),
        ("bind", "127.0.0.1:1", ("127.0.0.1:1",)),
        ("bind", ":8000,:8001", (":8000,:8001",)),
        ("bind", [" a:1 ", "unix:x"], ("a:1", "unix:x")),
        ("raw_env", "A=1,2", ("A=1,2",)),
        ("raw_env", ["A=1", "B=x=y", "C="], ("A=1", "B=x=y", "C=")),
        ("raw_env", None, ()),
        ("pythonpath", "a, b", ("a", "b")),
        ("pythonpath", None, ()),
        ("forwarded_allow_ips", "", ()),
        ("forwarded_allow_ips", "*", ("*",)),
        ("forwarded_allow_ips", ["10.0.0.0/8", "::1"], ("10.0.0.0/8", "::1")),
        ("forwarder_headers", "a,B", ("A", "B")),
        ("header_map", "DROP", "drop"),
        ("header_map", None, "drop"),
        ("loglevel", " INFO ", "info"),
        ("accesslog", None, None),
        ("accesslog", "", None),
        ("accesslog", "-", "-"),
        ("errorlog", None, "-"),
        ("access_log_format", " %(h)s ", " %(h)s "),
        ("worker_class", "sync", "sync"),
        ("worker_class", "gunicorn.workers.sync.SyncWorker", "sync"),
        ("worker_class", "#sync", "sync"),
        ("worker_class", "GThread", "gthread"),
        ("worker_class", "egg:gunicorn#gevent", "gevent"),
        ("worker_class", "gunicorn.workers.gthread.ThreadWorker", "gthread"),
        ("worker_class", "gunicorn.workers.ggevent.GeventPyWSGIWorker", "gevent"),
        ("worker_class", "gevent_pywsgi", "gevent"),
        ("worker_class", "gaiohttp", "asyncio"),
        (
            "worker_class",
            "uvicorn_worker.UvicornWorker",
            "uvicorn_worker.UvicornWorker",
        ),
        ("worker_class", "my.workers:Echo", "my.workers:Echo"),
        ("worker_class", "egg:my-dist#echo", "egg:my-dist#echo"),
        ("user", None, None),
        ("group", None, None),
        ("chdir", ".", os.getcwd()),
    ],
)
def test_a_value_is_taken_in_each_form(name, value, result):
    assert checked(name, value) == result


@pytest.mark.parametrize(
    ("value", "result"),
    [(0o22, 18), ("022", 18), ("0o22", 18), ("0x12", 18), ("18", 18), ("0", 0)],
)
def test_a_mode_in_text_is_octal_when_it_begins_with_0(value, result):
    assert checks.mode("umask", value) == result


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("workers", 0, "expected 1 or more, got 0"),
        ("workers", -1, "expected 1 or more, got -1"),
        ("workers", 10**9, "expected 512 or less"),
        ("workers", "two", "expected a whole number, got 'two'"),
        ("workers", 2.5, "expected a whole number, got 2.5"),
        ("workers", True, "expected a whole number, got True"),
        ("workers", None, "expected a whole number, got None"),
        ("backlog", "", "expected a whole number, got ''"),
        ("keepalive", "soon", 'like "30s" or "5m", got \'soon\''),
        ("keepalive", "-1", "got '-1'"),
        ("keepalive", "5 weeks", "got '5 weeks'"),
        ("keepalive", float("nan"), "got nan"),
        ("keepalive", float("inf"), "got inf"),
        ("keepalive", True, "got True"),
        ("reuse_port", 1, "expected True or False, got 1"),
        ("reuse_port", "yes", "expected True or False, got 'yes'"),
        ("bind", [], "expected an address"),
        ("bind", None, "expected an address"),
        ("raw_env", "A", "expected NAME=VALUE, got 'A'"),
        ("raw_env", ["=1"], "expected NAME=VALUE, got '=1'"),
        ("raw_env", ["A=\0"], "expected NAME=VALUE"),
        ("forwarded_allow_ips", "10.0.0.1/8", "has host bits set"),
        ("forwarded_allow_ips", "example.org", "example.org"),
        ("header_map", "dorp", "did you mean drop?"),
        ("loglevel", "wanring", "did you mean warning?"),
        ("umask", "08", "expected octal digits, got '08'"),
        ("umask", 0o1777, "expected 511 or less"),
        ("user", "no such user", "there is no user 'no such user'"),
        ("user", "-1", "there is no user '-1'"),
        ("group", "no such group", "there is no group 'no such group'"),
        ("chdir", "/no/such", "expected a directory that exists, got '/no/such'"),
        ("pidfile", 5, "expected a path, got 5"),
        ("access_log_format", "a\nb", "expected one line of text"),
        ("worker_class", "gevnt", "did you mean gevent?"),
        ("worker_class", "asgi", "uvicorn_worker.UvicornWorker serves them"),
        ("worker_class", "meinheld.gmeinheld.MeinheldWorker", "is not supported"),
        ("worker_class", dict, "a subclass of pywsgiserve.workers.Worker"),
        ("worker_class", 5, "expected a class or one of sync"),
    ],
)
def test_a_wrong_value_is_named_with_its_setting(name, value, said):
    with pytest.raises(ConfigError) as raised:
        checked(name, value)

    assert str(raised.value).startswith(f"{name}: ")
    assert said in str(raised.value)


def test_names_of_users_and_groups_become_numbers():
    assert checks.user("user", "root") == checks.group("group", "root") == 0
    assert checks.user("user", "123") == checks.group("group", 123) == 123


# Hooks


class Hooks:
    def method(self, server):
        pass


class Callable:
    def __call__(self, server, worker):
        pass


@pytest.mark.parametrize(
    ("name", "function"),
    [
        ("on_exit", lambda server: None),
        ("on_exit", lambda *args: None),
        ("on_exit", lambda server, more=1: None),
        ("on_exit", Hooks().method),
        ("on_exit", print),
        ("on_exit", functools.partial(lambda a, b: None, 1)),
        ("pre_fork", Callable()),
        ("post_request", lambda worker, req: None),
        ("post_request", lambda worker, req, environ: None),
        ("post_request", lambda worker, req, environ, resp: None),
        ("on_exit", None),
    ],
)
def test_a_hook_is_what_can_be_called_with_its_arguments(name, function):
    assert SETTINGS[name].check(name, function) is function


def test_a_hook_may_be_named():
    assert SETTINGS["on_exit"].check("on_exit", "os.fspath") is os.fspath


@pytest.mark.parametrize(
    ("name", "function", "said"),
    [
        ("on_exit", lambda: None, "a function of one argument (server), got one of ()"),
        ("on_exit", lambda a, b: None, "(server), got one of (a, b)"),
        ("pre_fork", lambda a: None, "2 arguments (server, worker), got one of (a)"),
        ("post_request", lambda a: None, "4 arguments (worker, req, environ, resp)"),
        ("on_exit", 5, "got 5"),
        ("on_exit", "no.such.thing", "cannot import 'no.such.thing'"),
        ("on_exit", "os.no_such", "module 'os' has no 'no_such'"),
        ("on_exit", "single", "cannot import 'single'"),
    ],
)
def test_another_is_refused(name, function, said):
    with pytest.raises(ConfigError) as raised:
        SETTINGS[name].check(name, function)

    assert said in str(raised.value)


# What run() is told


def test_an_unknown_name_is_refused_with_a_suggestion():
    with pytest.raises(ConfigError, match=r"wrokers: no such.*did you mean workers"):
        Config.from_settings({"wrokers": 2})


@pytest.mark.parametrize("name", [n for n in NOT_YET if NOT_YET[n] == REFUSE])
def test_what_cannot_be_done_yet_is_refused_by_name(name):
    values = {"pidfile": "x", "user": 0, "group": 0, "worker_class": "gevent"}
    value = values.get(name, 2 if type(SETTINGS[name].default()) is int else True)

    with pytest.raises(ConfigError, match=f"^{name}: not supported yet, got "):
        Config.from_settings({name: value})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("config", "gunicorn.conf.py"),
        ("wsgi_app", "main:app"),
        ("chdir", "/"),
        ("pythonpath", "lib"),
        ("raw_env", "A=1"),
        ("check_config", True),
        ("print_config", True),
    ],
)
def test_what_only_the_command_does_is_refused_by_name(name, value):
    """run() would have to ignore it: the program has been imported already."""
    with pytest.raises(ConfigError, match=f"^{name}: for the command line"):
        Config.from_settings({name: value})

    assert Config.from_settings({name: SETTINGS[name].default()})


@pytest.mark.parametrize("name", [*NOT_YET, *(n for n in LATER if not LATER[n].hook)])
def test_its_default_is_taken_without_a_word(name):
    row = SETTINGS[name].default() if name in SETTINGS else LATER[name].default

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert Config.from_settings({name: row})


def test_what_is_ignored_is_named_once():
    with pytest.warns(UserWarning, match="ignored: reload, statsd_host$") as caught:
        Config.from_settings({"reload": True, "spew": False, "statsd_host": "x:1"})

    assert len(caught) == 1
