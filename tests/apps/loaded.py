"""What tests/load.py asks: each answer proves whose request it belongs to.

It stands alone, and uses nothing of a server's: tests write it into a directory as
main.py, change it there, and other servers are asked the same.
"""

import ctypes
import os
import sys
import threading
import time
import zlib

VERSION = "1"
MARK = os.environ.get("LOADED_MARK", "")  # who is stuck says so in a file of this name
kept = []


def read_all(environ):
    length = int(environ.get("CONTENT_LENGTH") or 0)
    return environ["wsgi.input"].read(length) if length else b""


def note(what):
    if MARK:
        with open(MARK, "a") as file:
            print(what, os.getpid(), file=file)


def misbehave(how):
    if how == "exit":
        sys.exit(3)
    if how == "hang":
        note("hang")
        threading.Event().wait()
    if how == "hold":  # PyDLL keeps the GIL, and no signal ends the wait for a mutex.
        note("hold")
        libc, mutex = ctypes.PyDLL(None), ctypes.create_string_buffer(256)
        libc.pthread_mutex_lock(mutex)
        libc.pthread_mutex_lock(mutex)
    if how == "leak":
        kept.append(os.urandom(256 * 1024))
    if how.startswith("nap"):
        time.sleep(float(how[3:]))


def app(environ, start_response):
    """/NONCE/SIZE/how: the nonce, who we are, the body's checksum, then filler."""
    _, nonce, size, how = environ["PATH_INFO"].split("/")
    body = read_all(environ)
    misbehave(how)
    line = f"{nonce} {os.getpid()} {VERSION} {zlib.crc32(body):08x}\n".encode()
    missing = max(int(size) - len(line), 0)
    filler = nonce.encode() * (missing // len(nonce) + 1)
    answer = line + filler[:missing]
    fields = [("Content-Type", "text/plain"), ("Content-Length", str(len(answer)))]
    start_response("200 OK", fields)
    return [answer]


application = app
