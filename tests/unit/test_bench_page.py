"""What the benchmark writes into docs/performance.md, made of samples that were kept."""

import argparse
import json
import subprocess
import sys
from xml.etree import ElementTree

import pytest

from bench import (
    chart,
    half,
    instructions,
    memory,
    page,
    report,
    samples,
    syscalls,
    targets,
    workloads,
)
from bench.peers import ALL, FLOOR, FLOOR_AGAIN, OURS
from tests.process import ROOT

NAMES = "round cpu_us rps busy p50_us p99_us steal foreign p999_us"
SVG = "{http://www.w3.org/2000/svg}"


def row(workload, peer, *costs, trouble=""):
    """A sample for each round: its CPU time."""
    values = [(n, cost, 1e5, 0.99, 90, 200, 0, 0, 0) for n, cost in enumerate(costs)]
    kept = [dict(zip(NAMES.split(), sample, strict=True)) for sample in values]
    return {"peer": peer, "workload": workload, "samples": kept, "trouble": trouble}


def run(*rows, **more):
    heading = ["Machine: a small one"]
    app_us = {row["workload"]: 0.25 for row in rows}
    return {"heading": heading, "cpu": list(rows), "app_us": app_us, **more}


HELLO = (row("hello", FLOOR, 4, 5), row("hello", OURS, 4.4, 5.5))
RUN = run(
    *HELLO,
    row("hello", "bjoern", 6, 7.5),
    row("hello", "fastwsgi", 8, 10),
    row("10k", FLOOR, 5, 5),
    row("10k", OURS, 7, 7),
    row("10k", "bjoern", 6, 6),
    row("10k", "fastwsgi", 9, trouble="under load:\n3 read errors"),
)


def read(*runs):
    """By way of JSON, as from a file."""
    return samples.read(json.loads(json.dumps(runs)))


def cells(text, first):
    """Of the one line that begins so."""
    (line,) = (line for line in text.splitlines() if line.startswith(f"| {first} "))
    return [cell.strip() for cell in line.strip("|").split("|")]


def all_cells(text, first):
    """Of each table that has such a line."""
    lines = [line for line in text.splitlines() if line.startswith(f"| {first} ")]
    return [cells(line, first)[1:] for line in lines]


def test_the_table_has_multiples_of_the_floor_and_the_best_peer():
    text = page.made(read(RUN))

    heading = ["times the floor's CPU", OURS, "bjoern", "fastwsgi"]
    assert cells(text, "times")[:4] == heading
    line = text.splitlines()[4]
    assert cells(line, "hello") == [
        "hello",
        "1.10",
        "1.50",
        "2.00",
        "1.36 [1.36-1.36] bjoern",
    ]


def test_where_we_are_behind_is_bold():
    line = page.made(read(RUN)).splitlines()[5]

    assert cells(line, "10k")[-1] == "**0.86 [0.86-0.86] bjoern**"


def test_where_a_peer_is_as_good_we_are_not_behind():
    even = run(*HELLO, row("hello", "bjoern", 4.4, 5.5))

    assert read(even).best("hello").ahead


def test_what_a_row_asks_and_costs_is_told():
    again = row("hello", FLOOR_AGAIN, 4.4, 5.5)
    text = page.made(read(run(*HELLO, again)))

    told = [cells(line, "hello") for line in text.splitlines() if "two-line" in line]
    assert told == [
        [
            *("hello", "two-line request, keep-alive", "32"),
            *("4.50", "1.10 [1.10-1.10]", "0.25", "4.95"),
        ]
    ]


def test_who_failed_has_no_figure_and_a_reason():
    text = page.made(read(RUN))

    assert cells(text.splitlines()[5], "10k")[3] == "-"
    assert "- 10k: fastwsgi is invalid: under load: 3 read errors." in text


def test_what_was_measured_where_is_below():
    assert page.made(read(RUN)).endswith("\n\n    Machine: a small one")


def test_of_two_runs_the_later_gives_a_row():
    text = page.made(read(RUN, run(*HELLO, row("hello", "bjoern", 8, 10))))

    assert cells(text.splitlines()[4], "hello")[2:4] == ["2.00", "-"]
    assert "    Rows:    hello, 10k" in text
    assert text.endswith("    Rows:    hello")


def test_a_row_that_is_not_known_any_more_is_refused():
    with pytest.raises(SystemExit, match="no workload 'gone'"):
        read(run(row("gone", FLOOR, 1)))


def test_a_target_is_met_or_missed():
    told = {line[0]: line[1:] for line in targets.table(read(RUN))}

    assert told["hello: times the floor"] == ["<= 1.10", "1.10", "met"]
    assert told["10k: best peer by ours"] == [">= 1.00", "0.86", "**missed**"]
    assert len(told) == 3  # And no other row was measured.


def test_a_target_may_be_another_row_of_ours():
    log = (row("hello-log", FLOOR, 4), row("hello-log", OURS, 5.5))
    told = {line[0]: line[1:] for line in targets.table(read(run(*HELLO, *log)))}

    assert told["hello-log: by hello, both to the floor"] == [
        "<= 1.12",
        "1.25",
        "**missed**",
    ]


LATENCIES = [
    half.Latency(r, p, q) for r, p, q in ((1, 50, 90), (3, 70, 80), (2, 60, 70))
]


def counted(monkeypatch, tmp_path):
    """What the sections of a run keep, of figures that nobody has measured."""
    figures = {OURS: 6000.0, FLOOR: 200.0}
    calls = syscalls.Calls({"recvfrom": 1.0}, {})
    monkeypatch.setattr(instructions, "an_app_call", lambda *args, fresh: 1000.0)
    monkeypatch.setattr(instructions, "a_request", lambda peer, *_: figures[peer.name])
    monkeypatch.setattr(syscalls, "a_request", lambda *_: calls)
    monkeypatch.setattr(memory, "a_connection", lambda *_: 256.0)
    runs = {peer: iter(LATENCIES) for peer in figures}
    monkeypatch.setattr(half, "_once", lambda peer, *_: next(runs[peer.name]))
    kept = tmp_path / "kept.json"
    options = argparse.Namespace(markdown=False, json=str(kept), rounds=3, seconds=1)
    peers = [peer for peer in ALL if peer.name in (FLOOR, OURS, "bjoern", FLOOR_AGAIN)]
    made = report.Report(options, None, peers, {"heading": ["Machine: none"]})
    hello = [workloads.named("hello-gevent")]  # Which bjoern does not have.
    for section in (
        report.instructions_needed,
        report.system_calls,
        report.memory_of_idle,
        report.latency_at_half_load,
    ):
        section(made, hello)
    made.keep()
    return json.loads(kept.read_text())


def test_what_is_counted_has_tables_too(monkeypatch, tmp_path):
    text = page.made(read(counted(monkeypatch, tmp_path)))

    told = [["5,000"], ["1.00", "0.00", "recvfrom 1"], ["0.25"]]
    told.append(["2", "60", "80"])
    assert all_cells(text, OURS) == told
    assert all_cells(text, "bjoern") == [["-"], ["-"]]
    assert page.PICTURE not in text


def picture(measured):
    root = ElementTree.fromstring(chart.svg(measured))
    assert root.tag == f"{SVG}svg"
    return root


def marks(root):
    """What each mark says, and where it is, left to right."""
    found = []
    for path in root.iter(f"{SVG}path"):
        x = float(path.get("transform").partition("(")[2].split()[0])
        found.append((path.find(f"{SVG}title").text, x))
    return sorted(found, key=lambda mark: mark[1])


def test_the_chart_has_a_mark_for_each_figure():
    says = {says for says, _ in marks(picture(read(RUN)))}

    assert says == {
        *(OURS, "bjoern", "fastwsgi"),  # The legend.
        f"hello: {OURS} 1.10 times the floor",
        "hello: bjoern 1.50 times the floor",
        "hello: fastwsgi 2.00 times the floor",
        "10k: bjoern 1.20 times the floor",
        f"10k: {OURS} 1.40 times the floor",
    }


def test_who_needs_more_is_further_to_the_right():
    told = [says for says, _ in marks(picture(read(RUN))) if says.startswith("hello")]

    assert [says.split()[1] for says in told] == [OURS, "bjoern", "fastwsgi"]


def test_the_chart_says_where_we_are_behind():
    texts = [text.text for text in picture(read(RUN)).iter(f"{SVG}text")]

    assert "10k (behind)" in texts
    assert "hello" in texts


def test_the_floor_is_a_line_at_one():
    root = picture(read(RUN))

    drawn = {line.get("x1") for line in root.iter(f"{SVG}line") if line.get("class")}
    (one,) = (text.get("x") for text in root.iter(f"{SVG}text") if text.text == "1")
    assert one in drawn


def test_servers_can_be_told_apart():
    shown = [peer.name for peer in ALL if peer.name not in (FLOOR, FLOOR_AGAIN)]

    assert len({chart.look(name) for name in shown}) == len(shown)


def test_the_same_samples_give_the_same_files(tmp_path):
    path = tmp_path / "performance.md"
    path.write_text(f"Before.\n\n{page.BEGIN}\n{page.END}\n\nAfter.\n")
    page.write(read(RUN), path)
    first = path.read_text(), path.with_name(page.PICTURE).read_text()

    page.write(read(RUN), path)

    assert (path.read_text(), path.with_name(page.PICTURE).read_text()) == first
    assert first[0].startswith("Before.\n\n<!-- ")
    assert first[0].endswith(" -->\n\nAfter.\n")


def test_the_page_has_a_place_for_it():
    page.ready()


def test_a_page_without_a_place_is_not_written(tmp_path):
    path = tmp_path / "performance.md"
    path.write_text("Nothing.\n")

    with pytest.raises(SystemExit, match="no place"):
        page.ready(path)


def test_the_command_reads_what_was_kept(tmp_path):
    kept = tmp_path / "kept.json"
    kept.write_text(json.dumps(RUN))

    done = subprocess.run(
        [sys.executable, "-m", "bench", "--from", str(kept)],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )

    assert done.returncode == 0, done.stderr
    assert done.stdout == page.made(read(RUN)) + "\n"
