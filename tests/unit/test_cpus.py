"""How many CPUs there are, by affinity and by the quota of a cgroup: pywsgiserve.cpus."""

import math
import os

import pytest

from pywsgiserve import cpus
from pywsgiserve.checks import Decided
from pywsgiserve.config import Config, checked


@pytest.fixture
def machine(tmp_path):
    """machine(self, files): the two places that the kernel shows; quota of it."""

    def make(self, files):
        mounts = tmp_path / "mounts"
        for name, text in files.items():
            path = mounts / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        (tmp_path / "self").write_text(self)
        return tmp_path / "self", mounts

    return make


@pytest.mark.parametrize(
    ("self", "files", "quota"),
    [
        ("", {}, math.inf),
        ("0::/\n", {}, math.inf),
        ("0::/\n", {"cpu.max": "max 100000\n"}, math.inf),
        ("0::/\n", {"cpu.max": "200000 100000\n"}, 2),
        ("0::/\n", {"cpu.max": "50000 100000\n"}, 0.5),
        ("0::/\n", {"cpu.max": "nonsense\n"}, math.inf),
        ("0::/\n", {"cpu.max": "5 0\n"}, math.inf),
        ("0::/a/b\n", {"a/b/cpu.max": "300000 100000"}, 3),
        # What holds for a group holds for those in it.
        ("0::/a/b\n", {"a/cpu.max": "100000 100000", "a/b/cpu.max": "max 100000"}, 1),
        ("0::/a/b\n", {"a/cpu.max": "400000 100000", "a/b/cpu.max": "1500 1000"}, 1.5),
        ("0::/pod/x\n", {"cpu.max": "700 100"}, 7),  # as a container may see it
        (
            "3:cpuset:/\n2:cpu,cpuacct:/x\n0::/\n",
            {
                "cpu,cpuacct/x/cpu.cfs_quota_us": "250000",
                "cpu,cpuacct/x/cpu.cfs_period_us": "100000",
            },
            2.5,
        ),
        (
            "1:cpu:/x\n",
            {"cpu/cpu.cfs_quota_us": "400", "cpu/cpu.cfs_period_us": "100"},
            4,
        ),
        (
            "1:cpu:/x\n",
            {"cpu/x/cpu.cfs_quota_us": "-1", "cpu/x/cpu.cfs_period_us": "100"},
            math.inf,
        ),
        ("1:cpuset:/\n", {"cpuset/cpu.cfs_quota_us": "100"}, math.inf),
    ],
)
def test_the_quota_is_read_as_the_kernel_has_it(machine, self, files, quota):
    assert cpus.quota(*machine(self, files)) == quota


def test_what_is_not_there_is_no_limit(tmp_path):
    assert cpus.quota(tmp_path / "no", tmp_path / "where") == math.inf


@pytest.mark.parametrize(
    ("quota", "affinity", "workers", "why"),
    [
        ("max 100", 8, 17, "8 CPUs by affinity, no quota"),
        ("max 100", 1, 3, "1 CPU by affinity, no quota"),
        ("200 100", 8, 5, "2 CPUs by the cgroup's quota, 8 by affinity"),
        ("150 100", 8, 5, "2 CPUs by the cgroup's quota, 8 by affinity"),
        ("10 100", 8, 3, "1 CPU by the cgroup's quota, 8 by affinity"),
        ("900 100", 2, 5, "9 CPUs by the cgroup's quota, 2 by affinity"),
    ],
)
def test_workers_are_two_a_cpu_and_one(
    machine, monkeypatch, quota, affinity, workers, why
):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(affinity)))

    assert cpus.workers(*machine("0::/\n", {"cpu.max": quota})) == (workers, why)


@pytest.mark.parametrize("value", ["auto", " AUTO "])
def test_auto_is_a_number_and_says_how_it_was_found(monkeypatch, value):
    monkeypatch.setattr(cpus, "workers", lambda: (5, "because"))
    found = checked("workers", value)

    assert found == 5
    assert isinstance(found, Decided)
    assert found.why == "workers: auto is 5: because"
    assert str(Config(workers=found).workers) == "5"


def test_auto_keeps_within_what_there_may_be(monkeypatch):
    monkeypatch.setattr(cpus, "workers", lambda: (2001, "1000 CPUs"))

    assert checked("workers", "auto") == 512
