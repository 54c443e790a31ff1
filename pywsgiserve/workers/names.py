"""What may stand in `worker_class`, and what it is called here."""

from __future__ import annotations

import re
from typing import Any

from pywsgiserve.checks import ConfigError, fail, suggestion

# Ours. Each but the first two has a module beside this one.
BUILT_IN = ("sync", "gthread", "gevent", "eventlet", "tornado", "asyncio")

# What Gunicorn calls them, now and before, short and with the module's name.
ALIASES = {
    "gevent_wsgi": "gevent",
    "gevent_pywsgi": "gevent",
    "sync.SyncWorker": "sync",
    "gthread.ThreadWorker": "gthread",
    "ggevent.GeventWorker": "gevent",
    "ggevent.GeventPyWSGIWorker": "gevent",
    "geventlet.EventletWorker": "eventlet",
    "gtornado.TornadoWorker": "tornado",
}
# Of what is gone there.
OLD = {"gaiohttp": "asyncio", "gaiohttp.AiohttpWorker": "asyncio"}
ASGI = ("asgi", "gasgi.ASGIWorker")
GUNICORN = ("egg:gunicorn#", "gunicorn.workers.")

# Of another one's distribution, by the entry point that it has for Gunicorn.
EGG = re.compile(r"egg:([\w.-]+)#([\w.-]+)")
DOTTED = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*[.:][^\W\d]\w*")


class Renamed(str):
    """One of ours, which somebody has called by a name of before."""

    given = ""


def is_worker(cls: type) -> bool:
    return all(callable(getattr(cls, n, None)) for n in ("init_process", "run"))


def path(cls: type) -> str:
    return f"{cls.__module__}.{cls.__qualname__}"


def shown(value: str | type) -> str:
    """A checked value as logs and messages say it."""
    return path(value) if isinstance(value, type) else value


def package(word: str) -> str:
    """What has to be installed, or lie here, for a class of this name."""
    egg = EGG.fullmatch(word)
    return "" if egg else word.replace(":", ".").partition(".")[0]


def short(word: str) -> str:
    """A word of Gunicorn's without what is the same in all of them."""
    for prefix in GUNICORN:
        if word.startswith(prefix):
            return word.removeprefix(prefix)
    return word


def known(name: str, given: object, word: str) -> str | None:
    """Ours that `word` stands for; None when it is the name of somebody else's class."""
    plain = short(word)
    if plain in ASGI:
        raise ConfigError(
            f"{name}: {given!r} is for ASGI apps, and is part of Gunicorn; here, "
            "uvicorn_worker.UvicornWorker serves them (pip install uvicorn-worker)"
        )
    if plain in OLD:
        renamed = Renamed(OLD[plain])
        renamed.given = str(given)
        return renamed
    plain = ALIASES.get(plain, plain)
    if plain in BUILT_IN:
        return plain
    if word.startswith("meinheld."):
        raise ConfigError(
            f"{name}: {given!r} is not supported: its C code tells Gunicorn alone that "
            "it lives; sync and gthread are native here"
        )
    return None


def worker_class(name: str, value: Any) -> str | type:
    """One of ours, "module.Class", "module:Class", "egg:dist#name", or a class."""
    if isinstance(value, type):
        if not is_worker(value):
            raise fail(name, "a subclass of pywsgiserve.workers.Worker", value)
        return known(name, value, path(value)) or value
    if not isinstance(value, str):
        raise fail(name, f"a class or one of {', '.join(BUILT_IN)}", value)
    word = value.strip().lstrip("#")
    ours = known(name, value, word)
    if ours is not None:
        return ours
    if EGG.fullmatch(word) or DOTTED.fullmatch(word):
        return word
    lowered = known(name, value, word.lower())
    if lowered is not None:
        return lowered
    known_words = [*BUILT_IN, *ALIASES, *OLD]
    raise ConfigError(
        f"{name}: expected {', '.join(BUILT_IN)}, or the name of a class, "
        f"'module:Class', got {value!r}{suggestion(word, known_words)}"
    )
