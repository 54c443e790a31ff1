"""Takes its connection from the server through gunicorn.socket."""

import selectors
import socket

TEXT = ("Content-Type", "text/plain")
kept = []


def application(environ, start_response):
    path = environ["PATH_INFO"]
    if path == "/raw":
        taken = environ["gunicorn.socket"]
        taken.sendall(b"raw bytes\n")
        return []
    if path == "/talk":
        taken = environ["gunicorn.socket"]
        taken.settimeout(60)
        taken.sendall(b"your turn\n")
        line = b""
        while not line.endswith(b"\n"):
            line += taken.recv(100)
        taken.sendall(b"you said " + line)
        return []
    if path == "/keep":
        kept.append(environ["gunicorn.socket"])
        kept[-1].sendall(b"kept\n")
        return []
    if path == "/is-a-socket":
        taken = environ["gunicorn.socket"]
        with selectors.DefaultSelector() as selector:
            selector.register(taken, selectors.EVENT_WRITE)
            writable = bool(selector.select())
        taken.sendall(f"{taken.getpeername()[1]} {writable}\n".encode())
        return []
    if path == "/class":
        taken = environ["gunicorn.socket"]
        before = isinstance(taken, socket.socket)
        taken.setblocking(True)
        same = taken.family == socket.AF_INET
        taken.sendall(f"{before} {isinstance(taken, socket.socket)} {same}\n".encode())
        return []
    start_response("200 OK", [TEXT])
    return [b"untouched"]
