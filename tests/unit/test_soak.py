"""The account of a soak: what is excused, what is lost, what the table says of it."""

from dataclasses import replace

import pytest

from tests.load_terms import ENDS, Counts, Loss
from tests.soak import FAILED, HEAD, account, chosen, main, row_of, size_of, table
from tests.soak_peers import GRANIAN, OURS, PEERS
from tests.soak_scenarios import SCENARIOS
from tests.soak_site import KILLED, LATE, PLAIN, Excuses, Site


def loss(end="reset", connected=10.0, key=("tcp", 1)):
    return Loss(end, "close", "", 20.0, 9.0, connected, key, 0)


@pytest.mark.parametrize(
    ("excuses", "why"),
    [
        (Excuses(), ""),
        (Excuses(held={("tcp", 1): 11.0}), KILLED),
        (Excuses(held={("tcp", 1): 9.5}), KILLED),  # Accepted before the client knew.
        (Excuses(held={("tcp", 1): 8.5}), ""),  # A later connection from that port.
        (Excuses(held={("unix", 1): 11.0}), ""),
        (Excuses(late=11.0), ""),
        (Excuses(late=10.0), LATE),
        (Excuses(late=11.0, half_open={("tcp", 1)}), LATE),
        (Excuses(half_open={("tcp", 2)}), ""),
    ],
)
def test_a_loss_is_excused_by_what_was_noted_before(excuses, why):
    assert excuses.why(loss()) == why


def test_who_never_was_connected_is_late_only_after_the_end():
    assert Excuses().why(loss(connected=0)) == ""
    assert Excuses(late=20.0).why(loss(connected=0)) == LATE


def test_a_row_has_every_end_and_what_nothing_excuses(tmp_path):
    site = Site(OURS, tmp_path)
    site.actions = 3
    site.counts = Counts(raced=4, cut=9)
    site.counts.ends.update({end: n for n, end in enumerate(ENDS, start=1)})
    site.excused.update({KILLED: 2})

    row = account("name", site, ["a remark"])

    assert row == ["name", "3", "21", *"123456", "4", "9", "2", "22", "a remark"]
    assert len(row) == len(HEAD)


def test_a_table_is_markdown():
    first, rule, row = table([["x"] * len(HEAD)]).splitlines()

    assert first.startswith("| server | actions | requests | right | wrong |")
    assert rule.count("---") == row.count("x") == len(HEAD)


def test_what_a_peer_cannot_do_is_named():
    scenario = next(each for each in SCENARIOS if each.name in GRANIAN.cannot)

    row = row_of(GRANIAN, scenario, PLAIN, 1)

    assert row[0] == "granian"
    assert row[-1] == GRANIAN.cannot[scenario.name]
    assert set(row[1:-1]) == {"-"}


def test_what_a_peer_cannot_do_is_a_scenario_of_ours():
    names = {scenario.name for scenario in SCENARIOS}

    assert {name for peer in PEERS for name in peer.cannot} <= names


def test_sizes_are_scaled_and_never_nothing():
    assert [size_of(each, 1) for each in SCENARIOS] == [each.full for each in SCENARIOS]
    assert min(size_of(each, 0.0001) for each in SCENARIOS) == 1


def test_parts_of_names_choose(monkeypatch):
    monkeypatch.setenv("PWS_X", "HUP,TERM")

    assert chosen("PWS_X", ["HUP", "HUP, slow", "TERM", "kill"]) == {
        "HUP",
        "HUP, slow",
        "TERM",
    }
    monkeypatch.delenv("PWS_X")
    assert chosen("PWS_X", ["HUP", "kill"]) == {"HUP", "kill"}


def test_what_is_chosen_and_is_nothing_is_an_error(monkeypatch):
    monkeypatch.setenv("PWS_SOAK_ONLY", "nothing of this name")

    with pytest.raises(SystemExit, match="nothing of this name"):
        main(lambda text: None)


def test_what_is_broken_is_said_and_counts(tmp_path):
    site = Site(OURS, tmp_path)
    site.promise(True, "kept")
    site.promise(False, "exit code 1 after TERM")

    row = account("name", site, [])

    assert row[-1] == "broken: exit code 1 after TERM (1)"
    assert any(sign in row[-1] for sign in FAILED)


def test_what_others_have_not_promised_is_a_note(tmp_path):
    site = Site(GRANIAN, tmp_path)
    site.promise(False, "exit code 1 after TERM")

    assert account("name", site, [])[-1] == "exit code 1 after TERM (1)"


def test_a_wrong_answer_is_excused_only_where_one_was_turned_away():
    held = Excuses(held={("tcp", 1): 11.0})

    assert held.why(replace(loss("wrong"), detail="status 503")) == KILLED
    assert held.why(replace(loss("wrong"), detail="of another request: b'x'")) == ""


def test_the_suite_does_a_tenth_of_everything():
    assert [each.name for each in SCENARIOS if each.part * 10 < each.full] == []
