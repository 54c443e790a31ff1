"""`python -m bench.classes`: each class of workers beside Gunicorn's of the same name.

One worker each, logs off, all of the server's processes on one core, the load on the other.
Rounds are interleaved and their order rotates; ratios are formed within a round, and the
table has their medians: over 1 where we are ahead, in bold where we are not.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from dataclasses import asdict
from pathlib import Path

from bench import machine as about
from bench import measure
from bench.classes import kept, rounds, table
from bench.classes.columns import Column, columns
from bench.classes.rows import QUICK, Row, Sizes, rows
from bench.peers import CHECKOUT
from bench.process import Machine, raise_file_limit

PAGE = CHECKOUT / "docs" / "workers.md"


def main() -> None:
    options = _options()
    wanted = _chosen_columns(options)
    sizes = QUICK if options.quick else Sizes()
    chosen = _chosen_rows(options, sizes)
    if options.read:
        heading, found = kept.read(options.read)
        chosen = [row for row in chosen if row.name in found]
        results = [found[row.name] for row in chosen]
    else:
        heading, results = _measured(options, wanted, chosen, sizes)
    text = table.page(heading, chosen, wanted, results)
    print(text)
    if options.json:
        told = {"heading": heading, "rows": [asdict(result) for result in results]}
        Path(options.json).write_text(json.dumps(told, indent=1) + "\n")
    if options.write:
        PAGE.write_text(table.replaced(PAGE.read_text(), text))


def _measured(
    options: argparse.Namespace, wanted: list[Column], chosen: list[Row], sizes: Sizes
) -> tuple[list[str], list[rounds.Result]]:
    about.can_measure(["cc", "taskset", "wrk"])
    raise_file_limit()
    os.sched_setaffinity(0, {options.load_cpu})
    with tempfile.TemporaryDirectory(prefix="bench-") as scratch:
        machine = Machine(Path(scratch), options.server_cpu, options.load_cpu)
        plan = rounds.Plan(machine, options.rounds, options.seconds, options.attempts)
        results = [rounds.measured(row, wanted, plan) for row in chosen]
        return _heading(wanted, plan, sizes), results


def _chosen_columns(options: argparse.Namespace) -> list[Column]:
    known = columns(options.gunicorn_25)
    chosen = [each for each in known if each.kind in (options.classes or each.kind)]
    if options.alone:
        chosen = [Column(each.kind, each.ours, ()) for each in chosen]
    return chosen


def _chosen_rows(options: argparse.Namespace, sizes: Sizes) -> list[Row]:
    known = {row.name: row for row in rows(sizes)}
    for name in options.only:
        if name not in known:
            raise SystemExit(f"bench: no row {name!r}; there are: {', '.join(known)}")
    return [known[name] for name in options.only or known]


def _heading(wanted: list[Column], plan: rounds.Plan, sizes: Sizes) -> list[str]:
    servers = [peer for column in wanted for peer in (column.ours, *column.peers)]
    method = (
        f"{plan.rounds} rounds of {plan.seconds:g} s in rotating order (mix: four times "
        f"as long; memory: two rounds), each server started anew; gthread has 4 threads, "
        f"and {sizes.threads} where the app sleeps or streams"
    )
    there = {peer.version(): peer for peer in servers if not peer.missing()}
    lines = about.described(list(there.values()), plan.machine, method)
    lines.append(
        f"Sizes:   {sizes.listeners} clients listen to events ({sizes.threads} with "
        f"gthread), ten a second to each; {sizes.idle} idle connections; "
        f"{sizes.active} calls that wait ({sizes.threads} with gthread)"
    )
    return lines + [
        f"Without: {peer.name}: {peer.missing()}" for peer in servers if peer.missing()
    ]


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser("python -m bench.classes", description=__doc__)
    add = parser.add_argument
    kinds = [column.kind for column in columns()]
    add("--rounds", type=int, default=8, help="over all servers (%(default)s)")
    add("--seconds", type=float, default=3, help="of load in a round (%(default)s)")
    add("--only", nargs="+", default=[], metavar="ROW", help="only these rows")
    add("--classes", nargs="+", default=[], choices=kinds, help="only these")
    add("--alone", action="store_true", help="without peers: that it works")
    add("--quick", action="store_true", help="fewer connections")
    add("--attempts", type=int, default=measure.ATTEMPTS,
        help="at a quiet run, each round (%(default)s)")  # fmt: skip
    add("--gunicorn-25", type=Path, metavar="FOLDER",
        help="the last with eventlet: pip install --target FOLDER 'gunicorn<26'")  # fmt: skip
    add("--json", metavar="FILE", help="write all that was measured")
    add("--from", nargs="+", default=[], type=Path, metavar="FILE", dest="read",
        help="what --json has written, in place of measuring")  # fmt: skip
    add("--write", action="store_true", help="put the table into docs/workers.md")
    add("--server-cpu", type=int, default=0, help="(%(default)s)")
    add("--load-cpu", type=int, default=1, help="(%(default)s)")
    return parser.parse_args()


if __name__ == "__main__":
    main()
