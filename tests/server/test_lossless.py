"""Nothing is lost: what happens to a server under load, a part of tests/run soak."""

from pathlib import Path

import pytest

from tests.client import SANITIZED
from tests.process import WORKERS
from tests.soak_peers import OURS
from tests.soak_scenarios import NEVER_FULL, SCENARIOS
from tests.soak_site import Site

pytestmark = [
    pytest.mark.skipif(WORKERS > 0, reason="chooses its workers itself"),
    pytest.mark.timeout(900),  # A scenario says itself what has not come.
]

# The slow build has each scenario once, and does a third of that in it.
CASES = [
    pytest.param(scenario, variant, id=f"{scenario.name}, {variant.name}")
    for scenario in SCENARIOS
    for variant in scenario.variants[: 1 if SANITIZED else None]
]


@pytest.mark.parametrize(("scenario", "variant"), CASES)
def test_no_request_is_lost(scenario, variant, short_path: Path):
    site = Site(OURS, short_path, variant)

    count = max(1, scenario.part // 3) if SANITIZED else scenario.part
    scenario.happen(site, count)

    assert site.lost == [], f"{site.counts}\n{site.server.stderr}"
    assert not site.broken, site.server.stderr
    assert site.actions >= count
    assert site.counts.requests > 0
    assert NEVER_FULL not in site.notes
