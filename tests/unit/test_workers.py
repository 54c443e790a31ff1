"""Which class `worker_class` names, and what classes of others find in our processes."""

import os
import signal
import subprocess
import sys
import time
from datetime import timedelta
from types import SimpleNamespace

import pytest

from pywsgiserve import hooks, logs, workers
from pywsgiserve.checks import ConfigError
from pywsgiserve.config import Config
from pywsgiserve.workers import base, classes, host, logger, names, namespace, settings
from tests.unit.gunicorn_flags import FLAGS

ENGINES = ["sync", "gthread", "gevent", "eventlet", "tornado", "asyncio"]


@pytest.fixture
def all_there(monkeypatch):
    """Everything is installed."""
    monkeypatch.setattr(workers, "is_installed", lambda name: True)


def chosen(**given):
    return workers.find(Config.from_settings(given))


def refusal(**given):
    with pytest.raises(ConfigError) as raised:
        chosen(**given)
    return str(raised.value)


# What is found


@pytest.mark.parametrize("name", ENGINES)
def test_each_of_ours_is_found_by_its_name(all_there, name):
    kind = chosen(worker_class=name)

    assert kind.name == name
    assert kind.hosted == (name not in ("sync", "gthread"))
    assert not kind.foreign


def test_tornado_takes_its_own_apps(all_there):
    from tornado.web import Application

    class Site(Application): ...

    assert chosen(worker_class="tornado").takes(Site())
    assert not chosen(worker_class="tornado").takes(lambda scope, receive, send: None)
    assert not chosen(worker_class="asyncio").takes(Site())


def test_sync_with_several_threads_is_gthread(all_there):
    config = Config(worker_class="sync", threads=4)

    assert workers.find(config).name == "gthread"
    assert workers.threads(config) == 4


@pytest.mark.parametrize("name", ["tornado", "asyncio"])
def test_threads_beside_a_loop_are_not_in_it(all_there, name):
    config = Config(worker_class=name, threads=4)

    assert workers.threads(config) == 4
    assert not workers.find(config).hosted
    assert workers.find(config).module == f"pywsgiserve.workers.{name}"
    assert workers.idle_settings(config) == []


def test_an_application_of_tornados_has_no_threads(all_there):
    from tornado.web import Application

    config = Config(worker_class="tornado", threads=4)
    kind = workers.find(config)

    assert workers.find(kind.fit(config, Application())).hosted
    assert kind.fit(config, lambda environ, start_response: []) is config


@pytest.mark.parametrize("name", ["gevent", "eventlet"])
def test_threads_where_there_are_none_are_named(all_there, name):
    config = Config(worker_class=name, threads=4)

    assert workers.threads(config) == 1
    assert workers.idle_settings(config) == [
        f"threads: {name} has one thread, it has no effect"
    ]


def test_an_old_name_is_told(all_there):
    config = Config.from_settings({"worker_class": "gaiohttp"})

    assert workers.find(config).name == "asyncio"
    assert workers.idle_settings(config) == [
        "worker_class: 'gaiohttp' is asyncio here, which runs WSGI apps"
    ]


@pytest.mark.parametrize("name", ["gevent", "eventlet", "tornado"])
def test_what_is_not_installed_is_named_with_its_extra(monkeypatch, name):
    monkeypatch.setattr(workers, "is_installed", lambda package: package != name)

    assert refusal(worker_class=name) == (
        f"worker_class: {name} is not installed: pip install 'pywsgiserve[{name}]'"
    )


@pytest.mark.parametrize("threads", [1, 4])
@pytest.mark.parametrize("name", ["tornado", "asyncio"])
def test_a_loop_cannot_do_without_buffering(all_there, name, threads):
    said = refusal(worker_class=name, request_buffering=False, threads=threads)

    assert said.startswith(f"request_buffering: {name} cannot do without")


def test_who_looks_for_a_class_imports_nothing_of_it():
    """The master goes on as it is: gevent would patch what it stands on."""
    code = """
import sys
from pywsgiserve import workers
from pywsgiserve.config import Config
workers.is_installed = lambda name: True
for name in ("gevent", "eventlet", "tornado", "asyncio", "uvicorn_worker.UvicornWorker"):
    assert workers.find(Config(worker_class=name)).name == name
for name in ("gevent", "eventlet", "tornado", "asyncio", "uvicorn_worker", "gunicorn"):
    assert name not in sys.modules, name
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_a_class_is_somebody_elses():
    class Mine(base.Worker):
        def run(self): ...

    kind = chosen(worker_class=Mine)

    assert kind.foreign is Mine
    assert kind.takes(object())
    assert kind.name == names.path(Mine)


def test_a_class_whose_package_is_not_there_is_refused():
    said = refusal(worker_class="no_such_package.Worker")

    assert said.startswith("worker_class: no_such_package is not installed")
    assert "pip install no-such-package" in said


def test_a_class_of_gunicorns_given_as_an_object_is_ours(all_there):
    made = type("ThreadWorker", (base.Worker,), {"run": lambda self: None})
    made.__module__ = "gunicorn.workers.gthread"

    assert chosen(worker_class=made).name == "gthread"


def test_a_server_of_one_process_refuses_a_class():
    import pywsgiserve

    with pytest.raises(ConfigError, match=r"^threads: a Server has one process"):
        pywsgiserve.Server(lambda environ, start: [], threads=2, bind="127.0.0.1:0")


# What they import


def test_an_installed_gunicorn_goes_first():
    code = """
from pywsgiserve.workers import namespace
namespace.provide()
import gunicorn
from gunicorn.workers.base import Worker
assert not namespace.stands_in()
assert Worker.__module__ == "gunicorn.workers.base" and gunicorn.__file__
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


HIDDEN = """
import sys
from importlib.machinery import PathFinder

class Hiding:
    @staticmethod
    def find_spec(name, path=None, target=None):
        if name.partition(".")[0] != "gunicorn":
            return PathFinder.find_spec(name, path, target)

sys.meta_path[:] = [Hiding if f is PathFinder else f for f in sys.meta_path]
"""


@pytest.mark.parametrize("module", sorted(namespace.MODULES))
def test_each_module_of_ours_can_be_imported(module):
    code = f"""{HIDDEN}
try:
    import {module}
    raise SystemExit("it is there")
except ImportError:
    pass
from pywsgiserve.workers import namespace
namespace.provide()
namespace.provide()
import {module}
assert sys.meta_path.count(namespace.finder) == 1
assert not hasattr({module}, "__file__")
assert [n for n in vars({module}) if n[0].isupper()] or "." not in "{module}" or (
    "{module}" in ("gunicorn.workers", "gunicorn.util"))
try:
    import gunicorn.workers.ggevent
except ImportError as error:
    assert namespace.lacks(error)
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_what_names_stand_for_is_what_gunicorn_has():
    from gunicorn import arbiter, config

    ours = namespace.Arbiter
    assert arbiter.Arbiter.WORKER_BOOT_ERROR == ours.WORKER_BOOT_ERROR
    assert arbiter.Arbiter.APP_LOAD_ERROR == ours.APP_LOAD_ERROR
    assert config.AccessLogFormat.default == namespace.AccessLogFormat.default


def test_an_entry_point_that_is_not_there_is_refused():
    with pytest.raises(
        ConfigError, match="'no-such' is not installed, or has no worker"
    ):
        classes.load("egg:no-such#worker")


# What they are handed


@pytest.mark.parametrize("name", sorted(FLAGS))
def test_each_setting_of_gunicorns_can_be_read(name):
    cfg = settings.Settings(Config(), [])

    getattr(cfg, name)
    assert cfg.settings[name].get() == getattr(cfg, name)


def test_a_hook_that_is_not_there_can_be_called():
    settings.Settings(Config(), []).worker_int(object())


def test_a_hook_that_is_there_is_called():
    seen = []
    cfg = settings.Settings(Config(worker_abort=seen.append), [])
    cfg.worker_abort("a worker")

    assert seen == ["a worker"]


def test_a_setting_is_set_for_the_worker_alone():
    config = Config(keepalive=2.0)
    cfg = settings.Settings(config, [])
    cfg.set("keepalive", 9)

    assert cfg.keepalive == 9
    assert config.keepalive == 2.0
    with pytest.raises(AttributeError):
        cfg.set("no_such", 1)


def test_the_environment_is_that_of_raw_env():
    cfg = settings.Settings(Config(raw_env=("A=b=c", "D=")), [])

    assert cfg.env == {"A": "b=c", "D": ""}


def test_a_sign_of_life_is_the_time_of_a_file():
    tmp = base.WorkerTmp()
    heard = []
    tmp.on_notify = lambda: heard.append(True)
    before = time.monotonic()
    tmp.notify()

    assert before - 1 <= tmp.last_update() <= time.monotonic() + 1
    assert os.fstat(tmp.fileno()).st_mtime == tmp.last_update()
    assert heard == [True]
    tmp.close()
    tmp.close()


def worker(cls=base.Worker, **given):
    cfg = settings.Settings(Config(**given), [])
    return cls(1, os.getppid(), [], None, 15.0, cfg, hooks.Log(lambda *said: None))


def test_a_worker_asks_once_for_a_successor():
    asked = []
    mine = worker(max_requests=3)
    mine.ask_successor = lambda: asked.append(mine.nr)
    for _ in range(5):
        mine.served()

    assert asked == [3]


def test_a_worker_without_a_limit_never_does():
    assert worker().max_requests == sys.maxsize


def test_a_worker_takes_up_to_its_jitter_more():
    limits = {
        worker(max_requests=3, max_requests_jitter=2).max_requests for _ in range(99)
    }

    assert limits == {3, 4, 5}


def test_term_lets_a_worker_finish_and_quit_does_not():
    mine = worker()
    mine.handle_exit(signal.SIGTERM, None)
    assert not mine.alive
    with pytest.raises(SystemExit) as ended:
        mine.handle_quit(signal.SIGQUIT, None)
    assert ended.value.code == 0
    with pytest.raises(SystemExit) as ended:
        mine.handle_abort(signal.SIGABRT, None)
    assert ended.value.code == 1


def test_a_request_that_fails_is_logged_and_answered():
    said, sent = [], []
    mine = worker()
    mine.log = hooks.Log(lambda *words: said.append(words))
    request = SimpleNamespace(method="GET", uri="/x")
    client = SimpleNamespace(sendall=sent.append)
    mine.handle_error(request, client, None, ValueError("why"))

    level, text = said[0]
    assert level == "ERROR"
    assert text == "Error handling request GET /x\nValueError: why"
    assert sent[0].startswith(b"HTTP/1.1 500 ")


def test_what_tells_whether_a_class_gives_signs():
    class Mute(base.Worker):
        def run(self):
            pass

    class Gives(base.Worker):
        def run(self):
            self.notify()

    class Inside(base.Worker):
        @classmethod
        def beats(cls, worker):
            return [lambda: worker.notify()]

        def run(self):
            pass

    class Inherits(Gives):
        def run(self):
            super().run()

    assert not host.notifies(Mute)
    assert host.notifies(Gives)
    assert host.notifies(Inside)
    assert host.notifies(Inherits)


def test_orders_are_read_to_the_last():
    ends = os.pipe()
    os.set_blocking(ends[0], False)
    assert host.ordered(ends[0]) == 0
    os.write(ends[1], bytes([host.RETIRE, host.REOPEN, 0x80]))
    assert host.ordered(ends[0]) == host.RETIRE | host.REOPEN | 0x80
    os.close(ends[1])
    assert host.ordered(ends[0]) == host.GONE
    os.close(ends[0])


# The log that they are handed


@pytest.fixture
def log(tmp_path):
    access_log = logs.AccessLog(Config(accesslog=str(tmp_path / "log")))
    form = '%(h)s %(u)s "%(r)s" %(s)s %(b)s %(D)s %({X-One}i)s %({x-two}o)s %({wsgi.x}e)s %(z)s'
    cfg = settings.Settings(Config(access_log_format=form), [])
    said = []
    made = logger.Logger(
        hooks.Log(lambda *words: said.append(words)), cfg, access_log, lambda: None
    )
    yield SimpleNamespace(log=made, said=said, path=tmp_path / "log")
    made.access_log.handlers = []
    access_log.close()


def test_a_line_of_the_access_log_is_made_of_atoms(log):
    environ = {
        "REMOTE_ADDR": "1.2.3.4",
        "REQUEST_METHOD": "GET",
        "RAW_URI": "/a?b",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "HTTP_AUTHORIZATION": "Basic bmFtZTpzZWNyZXQ=",
        "wsgi.x": 5,
    }
    response = SimpleNamespace(status="200 OK", sent=7, headers=[("X-Two", "2")])
    request = SimpleNamespace(headers=[("X-ONE", 'a"\nb')])
    log.log.access(response, request, environ, timedelta(milliseconds=3))

    assert log.path.read_text() == (
        '1.2.3.4 name "GET /a?b HTTP/1.1" 200 7 3000 a\\"\\x0ab 2 5 -\n'
    )


@pytest.mark.parametrize(
    ("level", "name"),
    [("error", "ERROR"), (10, "DEBUG"), (50, "CRITICAL"), ("x", "INFO")],
)
def test_a_record_may_name_its_level(log, level, name):
    log.log.log(level, "%s and %s", 1, 2)

    assert log.said == [(name, "1 and 2")]


def test_an_exception_may_be_handed_over(log):
    log.log.exception("it failed", exc_info=ValueError("why"), extra={"a": 1})

    assert log.said == [("ERROR", "it failed\nValueError: why")]
