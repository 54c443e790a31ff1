"""The benchmark: its rows can be asked of the servers that they name, and are measured."""

import contextlib
import struct
from dataclasses import replace

import pytest

from bench import measure, workloads
from bench.client import BadAnswer
from bench.measure import Row, Sample, _see_log
from bench.peers import ALL, FLOOR, OURS
from tests.bench_command import needs_tools, told

PEERS = {peer.name: peer for peer in ALL}


def variables(packet):
    """What a uwsgi packet says."""
    assert packet[:1] + packet[3:4] == b"\0\0"
    (size,) = struct.unpack_from("<H", packet, 1)
    assert len(packet) == 4 + size
    words, at = [], 4
    while at < len(packet):
        (length,) = struct.unpack_from("<H", packet, at)
        words.append(packet[at + 2 : at + 2 + length])
        at += 2 + length
    return dict(zip(words[::2], words[1::2], strict=True))


def test_a_packet_says_what_the_request_did():
    told = variables(workloads.uwsgi_packet(workloads.browser(7)))

    assert told[b"REQUEST_METHOD"] == b"GET"
    assert told[b"PATH_INFO"] == b"/items/list"
    assert told[b"QUERY_STRING"] == b"page=2&order=name&filter=00000007"
    assert told[b"HTTP_ACCEPT_ENCODING"] == b"gzip, deflate, br"
    assert sum(name.startswith(b"HTTP_") for name in told) == 11


def test_the_requests_of_a_row_have_one_length():
    """The load programs cut them by it, and the floor counts by it."""
    for workload in workloads.ALL:
        assert len({len(request) for request in workload.requests}) == 1


def test_a_row_names_servers_that_there_are():
    for workload in workloads.ALL:
        assert set(workload.peers) <= set(PEERS)
        assert PEERS[FLOOR].takes(workload)
        assert PEERS[OURS].takes(workload)


def test_a_server_has_only_the_rows_that_it_can_have():
    assert PEERS["uwsgi"].takes(workloads.named("uwsgi"))
    assert not PEERS["bjoern"].takes(workloads.named("uwsgi"))
    assert PEERS["bjoern"].takes(workloads.named("hello"))


def test_who_writes_no_access_log_is_invalid(tmp_path):
    log = tmp_path / "log"
    log.write_text("Listening.\n")

    with pytest.raises(BadAnswer, match="no access log"):
        _see_log(log)


SAMPLE = Sample(0, cpu_us=5, rps=1e5, busy=1, p50_us=1, p99_us=1, steal=0, foreign=0)


def rows_of(monkeypatch, results, **more):
    """What workload_rows makes of it when the runs of each server have these results,
    and who ran when."""
    order = []

    @contextlib.contextmanager
    def loaded(peer, workload, machine):
        def measured(number, seconds):
            order.append(peer.name)
            result = results[peer.name].pop(0)
            if isinstance(result, Exception):
                raise result
            return replace(result, round=number)

        yield measured

    monkeypatch.setattr(measure, "_loaded", loaded)
    events = measure.workload_rows(
        workloads.named("hello"),
        [PEERS[name] for name in results],
        None,
        seconds=1,
        **more,
    )
    return {row.peer: row for row in events if isinstance(row, Row)}, order


def costs(*figures):
    return [replace(SAMPLE, cpu_us=figure) for figure in figures]


def test_each_run_is_between_two_of_the_floor(monkeypatch):
    results = {FLOOR: costs(4, 6, 10), OURS: costs(10), "bjoern": costs(12)}

    rows, order = rows_of(monkeypatch, results, rounds=1, attempts=1)

    assert order == [FLOOR, OURS, FLOOR, "bjoern", FLOOR]
    assert rows[OURS].ratio_to(rows[FLOOR]).value == 2
    assert rows["bjoern"].ratio_to(rows[FLOOR]).value == 1.5
    assert rows["bjoern"].ratio_to(rows[OURS]).value == 0.75
    assert rows[FLOOR].cpu_us == 6


def test_a_run_beside_a_disturbed_one_of_the_floor_is_made_again(monkeypatch):
    disturbed = replace(SAMPLE, cpu_us=50, steal=0.5)
    results = {FLOOR: [*costs(5), disturbed, *costs(5, 5)], OURS: costs(9, 8, 10)}

    rows, _ = rows_of(monkeypatch, results, rounds=1, attempts=3)

    assert rows[OURS].ratio_to(rows[FLOOR]).value == 2
    assert not rows[OURS].noisy
    assert rows[FLOOR].cpu_us == 5


def test_who_fails_is_invalid_and_the_others_go_on(monkeypatch):
    results = {FLOOR: costs(5, 5), OURS: [BadAnswer("late")], "bjoern": costs(10)}

    rows, _ = rows_of(monkeypatch, results, rounds=1, attempts=1)

    assert rows[OURS].trouble == "late"
    assert rows["bjoern"].ratio_to(rows[FLOOR]).value == 2


def test_the_floor_s_failure_is_nobody_else_s(monkeypatch):
    results = {FLOOR: [*costs(5), BadAnswer("late")], OURS: costs(10)}

    with pytest.raises(SystemExit, match="floor: late"):
        rows_of(monkeypatch, results, rounds=1, attempts=1)


def test_the_order_of_the_servers_rotates(monkeypatch):
    results = {FLOOR: costs(*[5] * 6), OURS: costs(5, 5), "bjoern": costs(5, 5)}

    _, order = rows_of(monkeypatch, results, rounds=2, attempts=1)

    assert [name for name in order if name != FLOOR] == [OURS, "bjoern", "bjoern", OURS]


@needs_tools
def test_the_command_measures(tmp_path):
    """A row that wrk loads, and one that packets.c does."""
    rows = ["hello-log", "uwsgi"]

    kept, _ = told(tmp_path, "bench", f"--peers {OURS} --only {' '.join(rows)}")

    measured = kept["cpu"]
    assert [(row["workload"], row["peer"]) for row in measured] == [
        (row, peer) for row in rows for peer in (FLOOR, OURS)
    ]
    assert [row["trouble"] for row in measured] == [""] * len(measured)
    assert all(sample["cpu_us"] > 0 for row in measured for sample in row["samples"])


@needs_tools
def test_the_command_measures_at_half_load(tmp_path):
    kept, _ = told(tmp_path, "bench", f"--peers {OURS} --latency")

    found = kept["half_load"]
    assert list(found) == [FLOOR, OURS]
    assert all(0 < one["p50_us"] <= one["p99_us"] for one in found.values())
