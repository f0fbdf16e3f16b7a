"""The example of a host whose row is gone, in the manual, is counted as told."""

import re

import polars as pl

from support import PROJECT
from support.sites import HOUR, TinySite

TOLD = (
    (PROJECT / "book/implementation.md")
    .read_text()
    .split("(gone-host-example)=")[1]
    .split("file by file")[0]
)


def site() -> TinySite:
    """The rows that are told to be left; a day's number counts from 2020-01-01."""
    site = TinySite()
    site.hypervisor("c7", 0, 9)
    site.lease("L1", 1, 3, ["17"])
    site.lease("L2", 4, 6, ["17"])
    site.instance("I1", "c7", 1 + 12 * HOUR, 3 + 12 * HOUR, lease="L1")
    return site


def test_each_day_has_the_hours_that_are_told():
    of = site()
    counts = [*map(of.corrected, ("reservable", "committed", "occupied"))]
    counts += map(of.uncorrected, ("committed", "occupied"))
    told = re.findall(r"(?m)^\| 2020-01-0(\d) \|(.*)\|$", TOLD)
    assert [int(day) for day, _ in told] == [2, 3, 4, 5, 6, 7]
    for day, cells in told:
        hours = [round(24 * series[int(day) - 1]) for series in counts]
        assert [int(cell) for cell in cells.split("|")] == hours


def test_the_audit_has_the_rejects_that_are_told():
    audit = site().outputs["rejects"].filter(pl.col("stage") != "corrected active")
    found = sorted(audit.select("stage", "reason", "hours").iter_rows())
    assert found == [
        ("corrected occupied", "outside its reservation", 12.0),
        ("uncorrected committed", "host row is gone", 48.0),
        ("uncorrected committed", "host row is gone", 48.0),
    ]
    assert all(f"`{reason}`" in TOLD and f"{hours:.0f}" in TOLD for _, reason, hours in found)


def test_a_second_name_of_as_many_votes_names_nobody():
    of = site()
    of.hypervisor("c8", 0, 9)
    of.instance("I2", "c8", 2, 3, lease="L1")
    known = [value is not None for value in of.corrected("committed")]
    assert known[:7] == [True, False, False, True, False, False, True]
    rejected = of.outputs["rejects"].filter(pl.col("reason") == "no instance names the host")
    assert set(rejected["stage"]) == {"corrected committed", "corrected reservable"}
    assert "`no instance names the host`" in TOLD
