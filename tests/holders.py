"""Which clients' connections a process holds, as the kernel knows it.

A connection is named as tests/load.py names it: by the client's port, or by the inode of
the client's Unix socket.
"""

from __future__ import annotations

import contextlib
import os
import socket
import struct
from pathlib import Path

Key = tuple[str, int]

SOCK_DIAG = 4
BY_FAMILY = 20
DUMP = 0x301  # NLM_F_REQUEST | NLM_F_DUMP
DONE, ERROR = 3, 2
SHOW_PEER = 4
ATTRIBUTE_PEER = 2
ALL_STATES = 0xFFFFFFFF
HEADER = struct.Struct("=IHHII")
QUESTION = struct.Struct("=BBHIIIII")
ANSWER = struct.Struct("=BBBBIII")
ATTRIBUTE = struct.Struct("=HH")
TRIES = 20
ESTABLISHED, SYN_RECEIVED, LISTENS = "01", "03", "0A"


def sockets_of(pid: int) -> set[int]:
    """The inodes of a process's sockets; none when it has gone."""
    found = set()
    with contextlib.suppress(OSError):
        for fd in os.listdir(f"/proc/{pid}/fd"):
            with contextlib.suppress(OSError):
                link = os.readlink(f"/proc/{pid}/fd/{fd}")
                if link.startswith("socket:["):
                    found.add(int(link[8:-1]))
    return found


def tcp_lines() -> list[list[str]]:
    return [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]


def tcp_peers() -> dict[int, Key | None]:
    """The client's port of each TCP socket, by its inode; None of one that listens."""
    found: dict[int, Key | None] = {}
    for words in tcp_lines():
        port = int(words[2].rpartition(":")[2], 16)
        found[int(words[9])] = None if words[3] == LISTENS else ("tcp", port)
    return found


def _unix_messages() -> list[bytes]:
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, SOCK_DIAG) as kernel:
        question = QUESTION.pack(
            socket.AF_UNIX, 0, 0, ALL_STATES, 0, SHOW_PEER, ALL_STATES, ALL_STATES
        )
        size = HEADER.size + len(question)
        kernel.send(HEADER.pack(size, BY_FAMILY, DUMP, 1, 0) + question)
        messages = []
        while True:
            data = kernel.recv(1 << 20)
            while data:
                length, kind, *_ = HEADER.unpack_from(data)
                if kind == DONE:
                    return messages
                if kind == ERROR:
                    raise OSError("the kernel does not tell about Unix sockets")
                messages.append(data[HEADER.size : length])
                data = data[(length + 3) & ~3 :]


def unix_peers() -> dict[int, Key | None]:
    """The inode of the other end of each Unix socket, by its own; None: it has none."""
    found: dict[int, Key | None] = {}
    for message in _unix_messages():
        inode = ANSWER.unpack_from(message)[4]
        found[inode] = None
        at = ANSWER.size
        while at + ATTRIBUTE.size <= len(message):
            length, kind = ATTRIBUTE.unpack_from(message, at)
            if kind == ATTRIBUTE_PEER:
                peer = struct.unpack_from("=I", message, at + ATTRIBUTE.size)[0]
                found[inode] = ("unix", peer)
            at += max((length + 3) & ~3, ATTRIBUTE.size)
    return found


def held_by(pid: int) -> set[Key]:
    """The connections that are in the process now; stop it first, or they may change.

    The kernel lists all sockets of the system piece by piece, and leaves some out when
    others come and go meanwhile: it is asked until each of the process was told.
    """
    mine = sockets_of(pid)
    peers: dict[int, Key | None] = {}
    for _ in range(TRIES):
        peers.update(tcp_peers())
        peers.update(unix_peers())
        if mine <= peers.keys():
            break
    return {key for inode in mine if (key := peers.get(inode)) is not None}


def queued_at(port: int) -> int:
    """How many connections wait for an accept() on a port."""
    return sum(
        int(words[4].partition(":")[2], 16)
        for words in tcp_lines()
        if words[3] == LISTENS and int(words[1].rpartition(":")[2], 16) == port
    )


def half_open_at(port: int) -> set[Key]:
    """Clients that believe to be connected to a port, while the kernel knows better.

    With a full queue it drops the last packet of a handshake; what it keeps of that is a
    socket that is no connection yet, or, with a SYN cookie, nothing.
    """
    clients, servers = set(), set()
    for words in tcp_lines():
        here, there = (int(words[i].rpartition(":")[2], 16) for i in (1, 2))
        if there == port and words[3] == ESTABLISHED:
            clients.add(here)
        if here == port and words[3] not in (LISTENS, SYN_RECEIVED):
            servers.add(there)
    return {("tcp", client) for client in clients - servers}


def is_stopped(pid: int) -> bool:
    """Whether SIGSTOP has arrived, in every thread, or the process has gone."""
    try:
        tasks = list(Path(f"/proc/{pid}/task").iterdir())
        states = [
            (task / "stat").read_text().rpartition(")")[2].split()[0] for task in tasks
        ]
    except OSError:
        return not Path(f"/proc/{pid}").exists()
    return all(state in "TtZX" for state in states)
