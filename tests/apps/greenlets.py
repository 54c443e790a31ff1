"""An app for requests in greenlets, of gevent or eventlet: KIND says which."""

import contextvars
import gc
import multiprocessing
import os
import signal
import sys
import threading
import time
import weakref

import greenlet

KIND = "gevent"
if KIND == "gevent":
    import gevent
    from gevent.event import Event

    spawn, kill, native = gevent.spawn, gevent.kill, gevent.get_hub().threadpool.apply
    Timeout = gevent.Timeout
else:
    import eventlet
    import eventlet.event
    import eventlet.tpool

    spawn, kill, native = eventlet.spawn, eventlet.kill, eventlet.tpool.execute
    Timeout = eventlet.Timeout

    class Event(eventlet.event.Event):
        set = eventlet.event.Event.send


TEXT = ("Content-Type", "text/plain")
local = threading.local()
variable = contextvars.ContextVar("variable", default="nothing")
together = {}
kept = []
ended = []
gate = Event()  # Who is left behind waits for it, until the worker has ended.


def sleep(environ):
    """Patched: other requests run meanwhile."""
    time.sleep(float(environ["QUERY_STRING"]))
    yield b"slept"


def until(environ):
    """Until there is a file of the name that the query says."""
    while not os.path.exists(environ["QUERY_STRING"]):
        time.sleep(0.02)
    yield b"there"


def meet(environ):
    """Answers when as many requests as the query says are here."""
    here = together.setdefault(environ["QUERY_STRING"], [])
    event = Event()
    here.append(event)
    if len(here) == int(environ["QUERY_STRING"]):
        for other in together.pop(environ["QUERY_STRING"]):
            other.set()
    event.wait()
    yield b"met"


def hold(environ):
    """Begins its answer, then meets the others."""
    yield b"here, "
    yield from meet(environ)


def reused(environ):
    """What earlier requests have left here."""
    found = [
        getattr(local, "mark", "nothing"),
        variable.get(),
        getattr(greenlet.getcurrent(), "mark", "nothing"),
        repr(sys.exc_info()[0]),
    ]
    local.mark = "left"
    variable.set("left")
    greenlet.getcurrent().mark = "left"
    yield " ".join(found).encode()


def who(environ):
    yield str(id(greenlet.getcurrent())).encode()


def undisciplined(environ):
    """What it has linked to the end of its greenlet raises, before the others."""

    def fail(who):
        raise RuntimeError("a link has failed")

    def leave(who):
        raise SystemExit(f"a link exits: {who is greenlet.getcurrent()}")

    greenlet.getcurrent().rawlink(fail)
    greenlet.getcurrent().rawlink(leave)
    yield from reused(environ)


def leave(environ):
    kept.append(greenlet.getcurrent())
    yield str(id(kept[-1])).encode()


def leave_weakly(environ):
    kept.append(weakref.ref(greenlet.getcurrent()))
    yield b"left"


def haunt(environ):
    """What has become of the greenlet of a request that has ended."""
    late = kept.pop()
    late = late() if isinstance(late, weakref.ref) else late
    yield b"dead" if late is None or late.dead else b"it lives"


def forgotten_timeout(environ):
    """It fires when the next requests are there already."""
    timeout = Timeout(float(environ["QUERY_STRING"]))
    if KIND == "gevent":
        timeout.start()
    kept.append(timeout)
    yield b"forgotten"


def leaves(environ):
    sys.exit(3)


def exits_beside(environ):
    """In a greenlet of the app, which is nobody's request."""
    spawn(sys.exit, 3)
    yield b"spawned"


def exits(environ):
    raise greenlet.GreenletExit


def killed(environ):
    """By another greenlet, while it waits."""
    spawn(kill, greenlet.getcurrent())
    time.sleep(60)
    yield b"survived"


def late(environ):
    """Interrupted by a Timeout of its own, and all the better for it."""
    try:
        with Timeout(0.05):
            time.sleep(60)
    except Timeout:
        yield b"in time"


def echo(environ):
    yield environ["wsgi.input"].read()


def impatient(environ):
    """A Timeout while the client is waited for, then the rest of what it sends."""
    body = environ["wsgi.input"]
    try:
        with Timeout(0.05):
            body.read(1)
    except Timeout:
        ended.append("timeout")
        yield b"patience "
        yield body.read()


def duplex(environ):
    """Two greenlets of one request: one reads, the other writes."""
    lines = []
    body = environ["wsgi.input"]
    done = Event()

    def read():
        lines.extend(body)
        done.set()

    spawn(read)
    for number in range(3):
        time.sleep(0)
        yield b"%d " % number
    done.wait()
    yield b"".join(lines)


def beside(environ):
    """Ends before the body does, which another greenlet reads; what that has to say of it
    is nobody's business. The query says what it makes of the failure."""
    body = environ["wsgi.input"]
    begun, over = Event(), Event()

    def read():
        begun.set()
        try:
            body.read()
        except OSError:
            if environ["QUERY_STRING"] == "forks":
                kept.append(os.fork())
                if kept[-1] == 0:
                    raise
            over.set()
            if environ["QUERY_STRING"] == "exits":
                sys.exit(3)
            raise

    # In gevent only a plain greenlet lets its exception out.
    if KIND == "gevent":
        gevent.get_hub().loop.run_callback(
            greenlet.greenlet(read, gevent.get_hub()).switch
        )
    else:
        spawn(read)
    begun.wait()
    yield b"begun"
    over.wait()


def loose(environ):
    """A greenlet of the request reads on when that has ended."""
    body = environ["wsgi.input"]

    def read():
        try:
            body.read()
        except (ValueError, RuntimeError, OSError) as error:
            ended.append(type(error).__name__)

    spawn(read)
    time.sleep(0)
    yield b"ended"


def in_thread(environ):
    """A thread, which has no hub to switch to, reads what is still to come."""
    yield native(environ["wsgi.input"].read)


def talk(environ):
    """A thread of the app, which is a greenlet, talks to the client on its socket."""
    taken, words, done = environ["gunicorn.socket"], [], Event()

    def listen():
        taken.sendall(b"your turn\n")
        words.append(taken.recv(100))
        done.set()

    threading.Thread(target=listen).start()
    done.wait()
    taken.sendall(b"you said " + words[0])
    yield b""


def big(environ):
    """More than the client takes at once; the query says how many MiB."""
    try:
        for _ in range(int(environ["QUERY_STRING"])):
            yield bytes(1 << 20)
    finally:
        ended.append("big")


def events(environ):
    """Server-sent events, for ever."""
    try:
        while True:
            yield b"data: %d\n\n" % os.getpid()
            time.sleep(0.2)
    finally:
        ended.append("events")


def stubborn(environ):
    """It does not want to end."""
    while True:
        try:
            time.sleep(60)
        except BaseException as error:
            ended.append(type(error).__name__)
    yield b""


def belated(environ):
    """It does not let itself be asked, and ends when the worker has."""
    while not gate.ready():
        try:
            gate.wait()
        except BaseException as error:
            ended.append(type(error).__name__)
    ended.append("belated")
    yield b""


class Farewell:
    """What a request leaves in its greenlet, and waits where it is cleaned up."""

    def __del__(self):
        ended.append("farewell")
        gate.wait()
        ended.append("parted")


def farewell(environ):
    greenlet.getcurrent().farewell = Farewell()
    yield b"bye"


def alive(environ):
    """How many greenlets there are that serve requests."""
    gc.collect()
    ours = (o for o in gc.get_objects() if type(o).__name__ == "RequestGreenlet")
    yield str(sum(1 for each in ours if not each.dead)).encode()


def count(environ):
    yield " ".join(ended).encode()


def spin(environ):
    """It lets nobody else run."""
    while True:
        pass
    yield b""


def spin_later(environ):
    time.sleep(0.01)
    yield from spin(environ)


def labour(environ):
    """It keeps the hub for a while, in a turn of its own, then needs its client."""
    time.sleep(0.01)
    until = time.monotonic() + 0.5
    while time.monotonic() < until:
        pass
    yield environ["wsgi.input"].read()


def fork(environ):
    """The child ends as a child should, or comes back here."""
    pid = os.fork()
    if pid == 0:
        if environ["QUERY_STRING"] == "back":
            yield b"from the child"
            return
        os._exit(7)
    _, status = os.waitpid(pid, 0)
    yield str(os.waitstatus_to_exitcode(status)).encode()


def swift(environ):
    """The first child has ended before its parent goes on."""
    ended = (os.P_ALL, 0, os.WEXITED | os.WNOWAIT)
    os.register_at_fork(after_in_parent=lambda: os.waitid(*ended))
    yield from fork(environ)


def process(environ):
    """A child that gevent does not watch."""
    child = multiprocessing.get_context("spawn").Process(target=os._exit, args=(7,))
    child.start()
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    native(os.getpid)  # The hub has had its turn, and would have heard of it.
    child.join()
    yield str(child.exitcode).encode()


def beget(environ):
    """A child that lives until a signal ends it."""
    ready, begun = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.write(begun, b"!")
        while True:
            signal.pause()
    os.read(ready, 1)  # It has what the parent handles behind it.
    os.close(ready)
    os.close(begun)
    kept.append(pid)
    yield str(pid).encode()


def bury(environ):
    """How the last child has ended."""
    _, status = os.waitpid(kept.pop(), 0)
    yield str(os.waitstatus_to_exitcode(status)).encode()


def patched(environ):
    modules = (time.sleep.__module__, threading.local.__module__)
    yield repr((*modules, environ["wsgi.multithread"])).encode()


def app(environ, start_response):
    answer = (
        globals()[environ["PATH_INFO"][1:]] if environ["PATH_INFO"] != "/" else None
    )
    if answer is None:
        start_response("200 OK", [TEXT])
        return [str(os.getpid()).encode()]
    parts = answer(environ)
    first = next(parts) if answer not in (events, big, hold) else None
    start_response("200 OK", [TEXT])
    if first is None:
        return parts
    return chain(first, parts)


def chain(first, parts):
    yield first
    yield from parts
