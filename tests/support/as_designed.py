"""Both collectors' readings of a site, held to the plain-Python reading of the design."""

from __future__ import annotations

import itertools
from collections import defaultdict
from fractions import Fraction

from support.reference import Reference
from support.sites import DAY0, TinySite

Steps = dict[tuple[str, str, str], list[tuple[int, int, Fraction]]]

PARTS = {
    "maintenance": ("maintenance_out_of_pool", "maintenance_in_pool", "maintenance_ondemand"),
    "unknown": ("unknown",),
    "ondemand_capacity": ("ondemand_capacity",),
}


def steps_of(site: TinySite) -> Steps:
    """Give the pipeline's segments by collector, quantity and host, in seconds and nodes."""
    steps: Steps = defaultdict(list)
    for row in site.stage.segments.iter_rows(named=True):
        start, end = ((row[name] - DAY0).total_seconds() for name in ("start", "end"))
        steps[row["collector_type"], row["quantity_type"], row["hostname"]].append(
            (int(start), int(end), Fraction(row["node_units"], row["node_size"]))
        )
    return steps


def value(steps: Steps, collector: str, quantity: str, host: str | None, t: int) -> Fraction:
    """Add up what holds at an instant."""
    return sum(
        (n for start, end, n in steps[collector, quantity, host] if start <= t < end), Fraction(0)
    )


def readings(steps: Steps, host: str, t: int) -> dict[str, Fraction]:
    """Give every count type of the corrected collector for one host and instant."""

    def told(quantity: str) -> Fraction:
        return value(steps, "corrected", quantity, host, t)

    found = {
        name: told(name)
        for name in (
            "total",
            "reservable",
            "committed",
            "occupied_reservation",
            "occupied_ondemand",
            "active_reservation",
            "active_ondemand",
        )
    }
    found |= {name: sum(map(told, parts), Fraction(0)) for name, parts in PARTS.items()}
    in_pool = told("occupied_ondemand_in_pool")
    found["available"] = (
        found["reservable"] - found["committed"] - told("maintenance_in_pool") - in_pool
    )
    found["available_ondemand"] = (
        found["ondemand_capacity"]
        - (found["occupied_ondemand"] - in_pool)
        - told("maintenance_ondemand")
    )
    found["idle"] = found["committed"] - found["occupied_reservation"]
    found["stopped"] = (
        found["occupied_reservation"]
        + found["occupied_ondemand"]
        - found["active_reservation"]
        - found["active_ondemand"]
    )
    return found


def assert_lawful(found: dict[str, Fraction], where: object) -> None:
    """Hold one host and instant to the hierarchy and to the partition."""
    assert min(found.values()) >= 0, (where, found)
    chain = ("total", "reservable", "committed", "occupied_reservation", "active_reservation")
    for parent, child in itertools.pairwise(chain):
        assert found[parent] >= found[child], (where, parent, child, found)
    assert found["occupied_ondemand"] >= found["active_ondemand"], (where, found)
    parts = ("maintenance", "available", "idle", "stopped", "available_ondemand", "unknown")
    active = found["active_reservation"] + found["active_ondemand"]
    assert sum(found[name] for name in parts) + active == found["total"], (where, found)


def assert_as_designed(site: TinySite) -> None:
    """Compare both collectors with the reference, host by host and instant by instant."""
    plain = Reference(site)
    steps = steps_of(site)
    borders = plain.instants()
    nameless = {(collector, quantity) for collector, quantity, host in steps if host is None}
    assert nameless <= {("corrected", "committed_unknown")}
    for t in borders[:-1]:
        unknown = value(steps, "corrected", "committed_unknown", None, t) > 0
        assert unknown == plain.nameless(t), t / 86400
    hosts = {host for _, _, host in steps if host is not None} | plain.hosts()
    for (collector, quantity, host), spans in steps.items():
        ends = {time for start, end, _ in spans for time in (start, end)}
        assert ends <= set(borders), (collector, quantity, host, ends - set(borders))
    for host in sorted(hosts):
        for t in borders[:-1]:
            where = (host, t / 86400)
            found = readings(steps, host, t)
            assert_lawful(found, where)
            assert found == plain.corrected(host, t), where
            told = plain.uncorrected(host, t)
            assert {name: value(steps, "uncorrected", name, host, t) for name in told} == told, (
                where
            )
