"""What was measured where: the lines above a table."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from bench.peers import Peer
from bench.process import Machine


def described(peers: Sequence[Peer], machine: Machine, method: str) -> list[str]:
    versions = [f"{peer.name} {peer.version()}" for peer in peers if peer.package]
    return [
        f"Date:    {time.strftime('%Y-%m-%d')}",
        f"Machine: {_processor()}, {os.cpu_count()} CPUs, Linux {platform.release()}; "
        f"servers on CPU {machine.server_cpu}, load on CPU {machine.load_cpu}",
        f"Python:  {platform.python_implementation()} {platform.python_version()}, "
        f"{platform.python_compiler()}",
        f"Tools:   {_first_line('wrk', '-v')}; {_first_line('cc', '--version')}",
        f"Servers: {', '.join(versions)}",
        f"Method:  {method}",
    ]


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _first_line(*command: str) -> str:
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    text = (ended.stdout or ended.stderr).strip().splitlines()
    return text[0].partition("[")[0].strip() if text else command[0]


def can_measure(tools: Sequence[str]) -> None:
    """Stop with a sentence when the machine lacks something."""
    for tool in tools:
        paths = os.environ.get("PATH", "").split(os.pathsep)
        if not any(os.access(Path(path) / tool, os.X_OK) for path in paths):
            sys.exit(f"bench: {tool} is needed (apt-get install {tool})")
    if (os.cpu_count() or 1) < 2:
        sys.exit("bench: two CPUs are needed: one serves, one loads")
