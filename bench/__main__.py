"""`python -m bench`: measure the servers and print tables."""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from bench import machine as about
from bench import measure, page, report, samples, workloads
from bench.peers import chosen
from bench.process import Machine, raise_file_limit

Section = Callable[[report.Report, list[workloads.Workload]], None]

COUNTED = ("hello", "browser", "browser-new", "close", "pipelined")
TRACED = ("hello", "close")

METHOD = (
    "CPU time of all processes and threads of the server (schedstat) by requests that "
    "wrk completed (packets.c on uwsgi); {rounds} rounds of {seconds:g} s in rotating "
    "order, each server started anew; ratio to the floor, run for as long just before "
    "and after, median; ~ marks rounds with more than 1 % steal or 3 % of other work on "
    "the server's core"
)


def main() -> None:
    options = _options()
    if options.list:
        _list()
        return
    if options.write:
        page.ready()
    if options.read:
        runs = [json.loads(Path(name).read_text()) for name in options.read]
        told = samples.read(runs)
        print(page.made(told))
    else:
        told = samples.read([_measured(options)])
    if options.write:
        page.write(told)


def _measured(options: argparse.Namespace) -> dict[str, Any]:
    about.can_measure(["cc", "taskset", *_tools(options)])
    raise_file_limit()
    os.sched_setaffinity(0, {options.load_cpu})
    with tempfile.TemporaryDirectory(prefix="bench-") as scratch:
        machine = Machine(Path(scratch), options.server_cpu, options.load_cpu)
        return _run(options, machine)


def _run(options: argparse.Namespace, machine: Machine) -> dict[str, Any]:
    wanted = chosen(options.peers)
    peers = [peer for peer in wanted if not peer.missing()]
    left_out = {peer.name: peer.missing() for peer in wanted if peer.missing()}
    method = METHOD.format(rounds=options.rounds, seconds=options.seconds)
    heading = about.described(peers, machine, method)
    heading += [f"Without: {name}: {why}" for name, why in left_out.items()]
    indent = "    " if options.markdown else ""
    print("\n".join(indent + line for line in heading))
    made = report.Report(options, machine, peers, {"heading": heading})
    for section, names in _sections(options):
        section(made, [workloads.named(name) for name in options.only or names])
        made.keep()
    return made.data


def _sections(options: argparse.Namespace) -> list[tuple[Section, Sequence[str]]]:
    everything = [workload.name for workload in workloads.ALL]
    sections: list[tuple[bool, Section, Sequence[str]]] = [
        (options.cpu, report.cpu, everything),
        (options.instructions, report.instructions_needed, COUNTED),
        (options.syscalls, report.system_calls, TRACED),
        (options.memory, report.memory_of_idle, ("hello",)),
        (options.latency, report.latency_at_half_load, ("hello",)),
    ]
    asked = [(section, names) for on, section, names in sections if on]
    return asked or [(report.cpu, everything)]


def _tools(options: argparse.Namespace) -> list[str]:
    tools = ["valgrind"] if options.instructions else []
    tools += ["strace"] if options.syscalls else []
    others = options.instructions or options.syscalls or options.memory
    return tools + ["wrk"] * (options.cpu or options.latency or not others)


def _list() -> None:
    print("Workloads:")
    for workload in workloads.ALL:
        print(f"  {workload.name:<17} {workload.says}")
    print("\nServers:")
    for peer in chosen([]):
        print(f"  {peer.name:<17} {peer.missing() or peer.version()}".rstrip())


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser("python -m bench", description=__doc__)
    add = parser.add_argument
    add("--rounds", type=int, default=8, help="rounds over all servers (%(default)s)")
    add("--seconds", type=float, default=3, help="of load in a round (%(default)s)")
    add("--attempts", type=int, default=measure.ATTEMPTS,
        help="at a quiet run, each round (%(default)s)")  # fmt: skip
    add("--only", nargs="+", default=[], metavar="WORKLOAD", help="only these rows")
    add("--peers", nargs="+", default=[], metavar="SERVER", help="only these servers")
    add("--cpu", action="store_true", help="CPU time; the default if none is chosen")
    add("--instructions", action="store_true", help="user instructions a request")
    add("--syscalls", action="store_true", help="system calls a request")
    add("--memory", action="store_true", help="memory an idle connection")
    add("--latency", action="store_true", help="p50 and p99 at half load")
    add("--markdown", action="store_true", help="print markdown tables")
    add("--json", metavar="FILE", help="write all that was measured")
    add("--write", action="store_true", help="put it all into docs/performance.md")
    add("--from", nargs="+", default=[], metavar="FILE", dest="read",
        help="what --json has written, in place of measuring")  # fmt: skip
    add("--list", action="store_true", help="list workloads and servers")
    add("--server-cpu", type=int, default=0, help="(%(default)s)")
    add("--load-cpu", type=int, default=1, help="(%(default)s)")
    return parser.parse_args()


if __name__ == "__main__":
    main()
