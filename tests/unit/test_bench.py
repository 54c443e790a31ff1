"""The benchmark: its rows can be asked of the servers that they name, and are measured."""

import struct

import pytest

from bench import workloads
from bench.client import BadAnswer
from bench.measure import _see_log
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
