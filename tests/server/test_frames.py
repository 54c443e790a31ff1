"""A deep call of an app has no memory mapped and unmapped (pywsgiserve/frames.py)."""

import shutil
import sys

import pytest

from pywsgiserve import frames
from tests.client import SANITIZED
from tests.process import ROOT, WORKER_CLASS, WORKERS

pytestmark = pytest.mark.skipif(
    WORKERS > 0 or bool(WORKER_CLASS), reason="chooses its workers itself"
)
in_greenlets = pytest.mark.skipif(
    SANITIZED, reason="ASan does not know stacks that are moved"
)


def fewest(client):
    """Of a number of requests: something else may come between in some."""
    return min(int(client.get().body) for _ in range(50))


@pytest.mark.parametrize(
    "words",
    [
        pytest.param((), id="sync"),
        pytest.param(("--threads", "2"), id="gthread"),
        pytest.param(("-k", "asyncio"), id="asyncio"),
        pytest.param(("-k", "gevent"), id="gevent", marks=in_greenlets),
        pytest.param(("-k", "eventlet"), id="eventlet", marks=in_greenlets),
    ],
)
def test_a_deep_call_maps_no_memory(deploy, place, words):
    shutil.copy(ROOT / "tests" / "apps" / "deep.py", place / "main.py")
    with deploy(*words) as server, server.connect() as client:
        assert fewest(client) == 0


def test_a_server_without_workers_has_room_too(serve):
    with serve("deep") as server, server.connect() as client:
        assert fewest(client) == 0


@pytest.mark.skipif(sys.version_info < (3, 11), reason="frames are objects there")
def test_the_frame_takes_more_than_half_of_a_chunk():
    """Else there is as much room as ever below it."""
    for run, chunk in ((frames.in_thread, 512), (frames.begin_greenlet, 64)):
        size = run.__code__.co_stacksize * 8

        assert chunk * 512 < size < chunk * 512 + 8192
    assert frames.in_thread(divmod, 7, 2) == (3, 1)
