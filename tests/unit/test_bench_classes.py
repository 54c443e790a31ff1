"""The benchmark of the worker classes: what its table says, and that it still runs."""

import json
from dataclasses import asdict

import pytest

from bench.classes import __main__ as command
from bench.classes import kept, table
from bench.classes.columns import Column, columns
from bench.classes.rounds import Plan, Result, measured
from bench.classes.rows import CPU, ONE_CALL, QUICK, RATE, Row, Run, Sizes, rows
from bench.client import BadAnswer
from bench.peers import Peer
from tests.bench_command import needs_tools, told


def peer(name, probe=""):
    return Peer(name, lambda workload, port, scratch: [], probe)


OURS, THEIRS = peer("ours"), peer("theirs")
COLUMN = Column("gthread", OURS, (THEIRS,))
PLAN = Plan(machine=None, rounds=2, seconds=1, attempts=1)


def row(run=None, figures=(CPU, RATE), **more):
    return Row("hello", "hello world", figures, run, **more)


def result(ours, theirs, name="cpu_us"):
    """A run of each in each round: the figures in the order of the rounds."""
    found = Result("hello")
    for peer, figures in (("ours", ours), ("theirs", theirs)):
        found.runs[peer] = [
            Run(number, {name: figure}) for number, figure in enumerate(figures)
        ]
    return found


def test_a_cost_is_compared_round_by_round():
    found = result([1, 2, 4], [3, 8, 12]).ratio("ours", "theirs", CPU)

    assert found.value == 3


def test_of_a_rate_more_is_better():
    found = result([30], [10], "rps").ratio("ours", "theirs", RATE)

    assert found.value == 3


def test_noisy_rounds_are_left_out_when_half_are_quiet():
    found = result([1, 1], [3, 8])
    found.runs["theirs"][1] = Run(1, {"cpu_us": 8}, quiet=False)

    assert found.ratio("ours", "theirs", CPU).value == 3
    assert found.middle("theirs", CPU) == 3
    assert not found.noisy("ours", "theirs")


@pytest.mark.parametrize(
    ("theirs", "cell"),
    [(100, "25.0 (4.0, 100.0)"), (6, "1.50 (4.0, 6.0)"), (2, "**0.50** (4.0, 2.0)")],
)
def test_where_we_are_behind_is_bold(theirs, cell):
    page = table.page([], [row(figures=(CPU,))], [COLUMN], [result([4], [theirs])])

    assert page.splitlines()[2].split("|")[2].strip() == cell


def test_who_fails_has_no_figures_and_a_reason():
    def run(turn):
        if turn.peer is THEIRS and turn.number == 1:
            raise BadAnswer("answered\n500.")
        return Run(turn.number, {"cpu_us": 1, "rps": 1})

    found = measured(row(run), [COLUMN], PLAN)
    page = table.page([], [row(run)], [COLUMN], [found])

    assert "(1.0, failed)" in page
    assert "- hello world: theirs failed: answered 500." in page


def test_the_order_of_the_servers_rotates():
    order = []

    def run(turn):
        order.append(turn.peer.name)
        return Run(turn.number, {"cpu_us": 1, "rps": 1})

    measured(row(run), [COLUMN], PLAN)

    assert order == ["ours", "theirs", "theirs", "ours"]


def test_who_is_not_there_is_not_measured():
    column = Column("gthread", OURS, (peer("theirs", "import no_such_server"),))
    alone = row(lambda turn: Run(turn.number, {"cpu_us": 1, "rps": 1}))

    found = measured(alone, [column], PLAN)

    assert list(found.runs) == ["ours"]
    assert "gthread alone" in table.page([], [alone], [column], [found])


def test_a_row_names_the_classes_that_it_is_not_for():
    inline = Column("asyncio", OURS, (THEIRS,))
    (mix,) = (row for row in rows(Sizes()) if row.name == "mix")

    page = table.page([], [mix], [inline], [measured(mix, [inline], PLAN)])

    assert f"not for asyncio ({ONE_CALL})" in page


def test_the_page_has_a_place_for_the_table():
    text = command.PAGE.read_text()
    made = table.replaced(text, "made")

    assert f"{table.BEGIN}\n\nmade\n\n{table.END}" in made
    assert table.replaced(made, "made") == made


def test_of_two_runs_the_later_gives_what_both_have(tmp_path):
    old, new = result([4.0], [4.0]), result([2.0], [3.0])
    old.runs["another"] = [Run(0, {"cpu_us": 1.0})]
    del new.runs["theirs"]
    new.trouble["theirs"] = "no answer"
    files = [tmp_path / name for name in ("old.json", "new.json")]
    for path, found in zip(files, (old, new), strict=True):
        run = {"heading": [f"of {path.stem}"], "rows": [asdict(found)]}
        path.write_text(json.dumps(run))

    heading, read = kept.read(files)

    both = Result("hello", {**new.runs, "another": old.runs["another"]}, new.trouble)
    assert read == {"hello": both}
    assert heading == [
        *("of old", "Rows:    hello", "Of:      another, ours, theirs"),
        *("of new", "Rows:    hello", "Of:      ours, theirs"),
    ]


def test_quick_has_the_same_classes_and_rows():
    kinds = ["gthread", "gevent", "eventlet", "tornado", "asyncio"]

    assert [column.kind for column in columns()] == kinds
    assert [row.name for row in rows(QUICK)] == [row.name for row in rows(Sizes())]


@needs_tools
def test_the_command_measures(tmp_path):
    """One row of each way to load: paced.c, the listeners, and what is held."""
    words = "--alone --quick --classes gthread --only mix events idle"

    found, printed = told(tmp_path, "bench.classes", words)

    mix, events, idle = found["rows"]
    for row, figure in ((mix, "p999_us"), (events, "cpu_us"), (idle, "bytes")):
        if row["trouble"]:  # On a machine that is too busy for ten events a second.
            assert "clients got less than" in row["trouble"]["pywsgiserve gthread"]
        else:
            (run,) = row["runs"]["pywsgiserve gthread"]
            assert figure in run["figures"]
    assert "| 1 in 20 takes 200 ms; of the others: p99.9, ms " in printed
