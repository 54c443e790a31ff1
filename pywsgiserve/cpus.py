"""How many CPUs there are for us: by affinity, and by the quota of our cgroup."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from pathlib import Path

SELF = Path("/proc/self/cgroup")
MOUNTS = Path("/sys/fs/cgroup")


def upward(group: str) -> Iterator[str]:
    """A cgroup and those around it. A container may see its own as the root."""
    parts = [part for part in group.split("/") if part]
    for count in range(len(parts), -1, -1):
        yield "/".join(parts[:count])


def numbers(path: Path) -> list[float]:
    """The numbers of a small file, "max" as none; nothing when it cannot be read."""
    try:
        words = path.read_text().split()
        return [math.inf if word == "max" else float(word) for word in words]
    except (OSError, ValueError):
        return []


def quota_2(place: Path) -> float:
    found = numbers(place / "cpu.max")
    return found[0] / found[1] if len(found) == 2 and found[1] > 0 else math.inf


def quota_1(place: Path) -> float:
    found = numbers(place / "cpu.cfs_quota_us") + numbers(place / "cpu.cfs_period_us")
    if len(found) != 2 or found[0] <= 0 or found[1] <= 0:
        return math.inf  # -1 is none.
    return found[0] / found[1]


def quota(self: Path = SELF, mounts: Path = MOUNTS) -> float:
    """CPUs that the least of all limits on us allows; infinity when there is none.

    A line of `self` is NUMBER:CONTROLLERS:PATH, without controllers in version 2.
    """
    least = math.inf
    try:
        lines = self.read_text().splitlines()
    except OSError:
        return least
    for line in lines:
        _, _, rest = line.partition(":")
        controllers, _, group = rest.partition(":")
        for part in upward(group):
            if not controllers:
                least = min(least, quota_2(mounts / part))
            elif "cpu" in controllers.split(","):
                for mount in {"cpu", controllers}:
                    least = min(least, quota_1(mounts / mount / part))
    return least


def workers(self: Path = SELF, mounts: Path = MOUNTS) -> tuple[int, str]:
    """Two for each CPU and one more, as is usual; and how that was found."""
    affinity = len(os.sched_getaffinity(0))
    limit = quota(self, mounts)
    if math.isinf(limit):
        return 2 * affinity + 1, f"{plural(affinity)} by affinity, no quota"
    allowed = max(1, math.ceil(limit))
    why = f"{plural(allowed)} by the cgroup's quota, {affinity} by affinity"
    return 2 * min(allowed, affinity) + 1, why


def plural(count: int) -> str:
    return "1 CPU" if count == 1 else f"{count} CPUs"
