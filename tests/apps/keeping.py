"""Keeps what belongs to one request and uses it in the next one; the path chooses."""

import gc
import threading

TEXT = ("Content-Type", "text/plain")
kept = {}
begun, over = threading.Event(), threading.Event()


class Trap:
    """Garbage whose finalizer waits until its request is over."""

    def __init__(self):
        self.itself = self

    def __del__(self):
        begun.set()
        over.wait()


def start_late(start_response):
    """In a thread: the collection of garbage comes within start_response, which makes a
    tuple that is too long to be one that was there before."""
    headers = [TEXT] * 50
    Trap()
    gc.set_threshold(1)
    try:
        gc.enable()
        start_response("299 Late", headers)
    except Exception as error:
        kept["raised"] = type(error).__name__
    gc.disable()
    begun.set()


def use(name):
    if name == "input-read":
        return kept["environ"]["wsgi.input"].read()
    if name == "input-readline":
        return kept["environ"]["wsgi.input"].readline()
    if name == "input-readlines":
        return kept["environ"]["wsgi.input"].readlines()
    if name == "input-iterate":
        return list(kept["environ"]["wsgi.input"])
    if name == "start_response":
        return kept["start_response"]("200 OK", [TEXT])
    if name == "write":
        return kept["write"](b"late")
    if name == "early_hints":
        return kept["environ"]["wsgi.early_hints"]([("Link", "</late>")])
    return None


def application(environ, start_response):
    name = environ["PATH_INFO"][1:]
    if name == "keep":
        kept["environ"] = environ
        kept["start_response"] = start_response
        kept["write"] = start_response("200 OK", [TEXT])
        return [b"kept"]
    if name == "begin-late":
        gc.disable()
        kept["thread"] = threading.Thread(target=start_late, args=(start_response,))
        kept["thread"].start()
        begun.wait()
        start_response("200 OK", [TEXT])
        return [b"begun"]
    if name == "end-late":
        over.set()
        kept.pop("thread").join()
        start_response("200 OK", [TEXT])
        return [f"raised {kept.get('raised')}".encode()]
    try:
        use(name)
        body = b"nothing was raised"
    except Exception as error:
        body = f"raised {type(error).__name__}".encode()
    start_response("200 OK", [TEXT])
    return [body]
