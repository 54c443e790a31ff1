"""Medians of ratios, and how sure they are."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median


@dataclass(frozen=True)
class Estimate:
    """A median with its 95 % confidence interval."""

    value: float
    low: float
    high: float


def estimate(samples: Sequence[float], draws: int = 2000) -> Estimate:
    """The median, and the interval by bootstrap; the same samples give the same."""
    chance = random.Random(20_000)
    medians = sorted(
        median(chance.choices(samples, k=len(samples))) for _ in range(draws)
    )
    low, high = medians[int(draws * 0.025)], medians[int(draws * 0.975)]
    return Estimate(median(samples), low, high)
