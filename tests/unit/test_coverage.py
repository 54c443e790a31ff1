"""tests/coverage.py: what gcov has counted, as the lines of ours that were reached."""

import subprocess

from tests import c_build, coverage

HALF = """
#include "base/clock.h"

int
main(void)
{
    char date[PWS_HTTP_DATE_LEN];

    pws_http_date(date, 0);
    return 0;
}
"""
COUNTS = {"base/a.c": {1: 5, 2: 0, 3: 0, 4: 1, 9: 0}, "engine/b.c": {1: 1, 2: 0}}


def test_lines_of_ours_are_counted_and_others_are_not(tmp_path):
    (tmp_path / "half.c").write_text(HALF)
    flags = (c_build.ROOT / "compile_flags.txt").read_text().split()
    sources = [tmp_path / "half.c", c_build.ROOT / "csrc" / "base" / "clock.c"]
    objects = [tmp_path / f"{source.stem}.o" for source in sources]
    for source, target in zip(sources, objects, strict=True):
        c_build.run(["gcc", *flags, *c_build.COUNT, "-c", source, "-o", target])
    c_build.run(["gcc", *c_build.COUNT, *objects, "-o", tmp_path / "half"])
    subprocess.run([tmp_path / "half"], check=True)

    counts = coverage.counted([tmp_path])

    assert set(counts) == {"base/clock.c"}
    assert any(counts["base/clock.c"].values())
    assert not all(counts["base/clock.c"].values())


def test_the_table_sums_a_layer():
    told = [line.split() for line in coverage.table(COUNTS)]

    assert ["base/", "5", "2", "40.0", "%"] in told
    assert ["base/a.c", "5", "2", "40.0", "%"] in told
    assert ["engine/", "2", "1", "50.0", "%"] in told


def test_lines_that_were_not_reached_are_named_for_the_layers_asked_for():
    assert coverage.not_reached(COUNTS, ["base"]) == ["csrc/base/a.c: 2-3, 9"]
