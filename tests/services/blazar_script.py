"""Sixty days of two sites, written by Blazar itself into the database that it is given.

Run as ``python blazar_script.py SITE CONFIGURATION TRUTH`` in the environment of a Blazar release
(``blazar-<release>.lock``), not in the project's. TRUTH is the file for what is true (JSON).
"""

from __future__ import annotations

import argparse
import json
import logging
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from blazar_cloud import FLAVOR, moment
from blazar_site import AS_OF, ASKED, Site, boot

HOUR = 1 / 24


def nodes(low: int = 1, high: int | None = None, **wanted: str) -> dict[str, Any]:
    """Ask for whole hosts: how many, and of which node_type or hostname."""
    host = wanted.pop("hypervisor_hostname", "")
    return {
        "resource_type": "physical:host",
        "min": low,
        "max": high or low,
        "hypervisor_properties": f'["==", "$hypervisor_hostname", "{host}"]' if host else "",
        "resource_properties": "".join(f'["==", "${k}", "{v}"]' for k, v in wanted.items()),
        "before_end": "default",
        "on_start": "default",
    }


def rooms(amount: int, vcpus: int, affinity: bool | None = None) -> dict[str, Any]:
    """Ask for room for machines of one size."""
    return {
        "resource_type": "virtual:instance",
        "amount": amount,
        "vcpus": vcpus,
        "memory_mb": vcpus * 2048,
        "disk_gb": vcpus * 10,
        "affinity": affinity,
        "resource_properties": "",
    }


def by_flavor(amount: int) -> dict[str, Any]:
    """Ask for room for machines of a flavor of Nova's, where the release can."""
    return {
        "resource_type": "flavor:instance",
        "amount": amount,
        "flavor_id": FLAVOR,
        "vcpus": 24,
        "affinity": None,
    }


def baremetal(site: Site) -> None:  # noqa: PLR0915 - a list of what happens
    """Lead sixty days of whole hosts."""
    skylake, gpu = {"node_type": "compute_skylake"}, {"node_type": "gpu_p100"}

    for number in range(1, 11):
        site.cloud.host(f"bm{number:02}", "ironic", 48, 196_608, 240)
    site.at(2 * HOUR)
    for number in range(1, 5):
        site.enrol(f"bm{number:02}", **skylake)
    for number in (5, 6):
        site.enrol(f"bm{number:02}", **gpu, **{"gpu.gpu_count": "2"})

    # On demand, in advance; ended by time.
    site.at(1.0)
    site.lease("demand", nodes(**skylake), end=3)
    site.at(1.21)
    site.lease("advance", nodes(2, **skylake), start=4, end=8, project="p2")
    site.at(2.5)
    site.lease("extended", nodes(**gpu), end=9)
    site.at(3.0)
    site.enrol("bm07", **skylake)
    # Shortened, ended early by its end, ended early by deletion.
    site.at(5.013)
    site.enrol("bm08", **skylake)
    site.lease("shortened", nodes(**skylake), end=12)
    site.at(6.0)
    site.lease("deleted", nodes(2, **skylake), end=13, project="p2")
    site.lease("cancelled", nodes(**skylake), start=15, end=18)
    site.at(7.0)
    site.update("shortened", end=9)
    site.lease("moved", nodes(**gpu), start=16, end=19, project="p3")
    site.at(8.0)
    site.update("extended", end=12)
    site.at(8.3)
    site.delete("deleted")
    site.at(9.4)
    site.lease("ended now", nodes(**skylake), end=14)
    site.at(10.0)
    site.delete("cancelled")
    site.update("moved", start=17, end=21)
    site.describe("bm06", **{"gpu.gpu_model": "P100"})
    site.at(11.7)
    site.update("ended now", end="now")
    # Removed, and re-enrolled with a new number; another below, with its old number.
    site.at(12.25)
    site.remove("bm07")
    # Never given anything: refused, no trace.
    site.at(12.5)
    with site.trying():
        site.lease("too many", nodes(9), end=14)
    # Two reservations in one lease; a range of hosts.
    site.at(13.0)
    site.lease("both", nodes(**skylake), nodes(**gpu), start=14, end=20, project="p2")
    site.at(13.6)
    site.remove("bm08")
    site.at(14.5)
    site.lease("range", nodes(1, 3, **skylake), end=18.5, project="p3")
    # A second host for a running lease; a host less before the start.
    site.at(18.6)
    site.lease("grown", nodes(**skylake), end=24)
    site.lease("fewer", nodes(2, **skylake), start=26, end=29, project="p2")
    site.at(19.0)
    site.update("grown", {"min": 2, "max": 2})
    site.at(20.5)
    site.update("fewer", {"min": 1, "max": 1})
    # In error: Nova refuses the host; ended by time, and deleted.
    site.at(21.0)
    site.cloud.broken = {"bm01", "bm04"}
    site.lease("error", nodes(hypervisor_hostname="bm01"), end=24, project="p3")
    site.lease("error deleted", nodes(hypervisor_hostname="bm04"), end=25, project="p3")
    site.at(22.1)
    site.cloud.broken = set()
    site.delete("error deleted")
    # A failed host: its running lease moves, a later one too, and one finds no other host.
    site.at(25.0)
    site.lease("healed", nodes(hypervisor_hostname="bm02"), end=31)
    site.update("healed", {"hypervisor_properties": ""})
    site.lease("healed before", nodes(hypervisor_hostname="bm02"), start=31.25, end=33)
    site.update("healed before", {"hypervisor_properties": ""})
    site.at(26.5)
    site.fail("bm02")
    site.at(28.2)
    site.enrol("bm08", **skylake)
    site.at(32.0)
    site.recover("bm02")
    site.at(33.0)
    site.cloud.host("bm07", "ironic", 48, 196_608, 240)
    site.enrol("bm07", **skylake)
    site.at(34.0)
    site.lease("both gpus", nodes(2, **gpu), end=39, project="p2")
    site.at(36.25)
    site.fail("bm05")
    site.at(37.0)
    site.recover("bm05")
    # A lease is asked to be longer than its host is free: refused, and it stays as it was.
    site.at(38.0)
    site.lease("first", nodes(hypervisor_hostname="bm01"), end=41)
    site.lease("next", nodes(hypervisor_hostname="bm01"), start=41, end=44, project="p2")
    site.at(39.5)
    with site.trying():
        site.update("first", end=42)
    site.at(40.0)
    site.remove("bm04")
    # Its end was told before, and its machine is kept as an image.
    site.lease("image", nodes(**gpu), end=43, before_end_date=moment(42.5).strftime(ASKED))
    (held,) = site.cloud.slots[site.leases["image"].reservations[0]["id"]]
    site.cloud.machines[held.host].append(SimpleNamespace(id="m", name="machine"))
    # Deleted after its end.
    site.at(44.5)
    site.lease("brief", nodes(**skylake), end=45)
    site.at(46.0)
    site.delete("brief")
    site.lease("renamed", nodes(2, **skylake), end=52, project="p3")
    site.at(47.0)
    site.update("renamed", name="named anew")
    # Out of order, and so until the end: a lease moves, and runs until after it.
    site.at(48.0)
    site.enrol("bm09", **skylake)
    site.enrol("bm10", **skylake)
    site.lease("runs elsewhere", nodes(hypervisor_hostname="bm03"), end=64)
    site.update("runs elsewhere", {"hypervisor_properties": ""})
    site.at(50.0)
    site.fail("bm03")
    # What runs, and what is to come, when the tables are read.
    site.at(54.0)
    site.lease("to come", nodes(**skylake), start=58, end=66)
    site.at(55.0)
    site.lease("runs", nodes(2, **skylake), end=58)
    site.update("runs", end=63)
    site.lease("runs, too", nodes(**gpu), end=61, project="p2")
    site.at(57.3)
    site.lease("later", nodes(**gpu), start=63, end=65, project="p3")
    site.at(57.8)
    site.update("runs", {"min": 3, "max": 3})
    site.cloud.broken = {"bm06"}
    site.lease("runs in error", nodes(hypervisor_hostname="bm06"), end=61.5, project="p2")
    site.cloud.broken = set()
    site.at(58.6)
    site.lease("last", nodes(hypervisor_hostname="bm09"), end=62, project="p3")
    site.at(AS_OF)


def kvm(site: Site) -> None:  # noqa: PLR0915 - a list of what happens
    """Lead sixty days of room for machines."""
    for number in range(1, 6):
        site.cloud.host(f"k{number:02}", "QEMU", 48, 196_608, 1_000)
    site.cloud.host("k06", "QEMU", 64, 262_144, 2_000)
    site.at(2 * HOUR)
    for number in range(1, 6):
        site.enrol(f"k{number:02}", node_type="kvm")

    site.at(1.0)
    site.lease("demand", rooms(1, 8), end=3)
    site.at(1.3)
    site.lease("advance", rooms(3, 12), start=4, end=8, project="p2")
    site.at(2.25)
    site.lease("apart", rooms(3, 16, affinity=False), end=9)
    site.at(3.0)
    site.lease("together", rooms(2, 16, affinity=True), end=10, project="p3")
    site.at(5.5)
    site.enrol("k06", node_type="kvm")
    site.lease("shortened", rooms(2, 8), end=15)
    site.at(6.0)
    site.lease("deleted", rooms(4, 8), end=14, project="p2")
    site.lease("cancelled", rooms(2, 24), start=16, end=19)
    site.lease("resized", rooms(2, 4), start=12, end=18, project="p3")
    site.at(7.0)
    site.update("shortened", end=11)
    site.at(8.0)
    site.update("apart", end=13)
    site.at(9.75)
    site.delete("deleted")
    site.delete("cancelled")
    site.at(10.0)
    site.update("resized", {"vcpus": 12, "memory_mb": 24_576, "disk_gb": 120})
    site.lease("moved", rooms(2, 16), start=15, end=17, project="p2")
    site.at(12.0)
    site.update("moved", start=16, end=20)
    site.at(13.0)
    with site.trying():
        site.lease("too many", rooms(9, 48), end=14)
    # More room for a running lease; less before its start.
    site.at(14.0)
    site.lease("grown", rooms(2, 16), end=24)
    site.lease("fewer", rooms(4, 8), start=22, end=25, project="p2")
    site.at(16.2)
    with site.trying():
        site.update("grown", {"amount": 4})
    site.update("fewer", {"amount": 3})
    # Two reservations in a lease, one of a whole host.
    site.at(18.0)
    site.lease("both", rooms(1, 8), nodes(hypervisor_hostname="k06"), end=23, project="p3")
    # In error.
    site.at(25.0)
    site.cloud.broken = {f"k{number:02}" for number in range(1, 7)}
    site.lease("error", rooms(1, 24), end=27)
    site.lease("error deleted", rooms(1, 16), end=29, project="p2")
    site.cloud.broken = set()
    site.at(26.3)
    site.delete("error deleted")
    # By a flavor; the plugin cannot be on hosts beside the other one.
    site.at(27.5)
    if "flavor:instance" in site.manager.plugins:
        site.lease("by flavor", by_flavor(3), end=29.5, project="p3")
    # Removed; re-enrolled by its old number, and by a new one.
    site.at(30.0)
    site.remove("k05")
    site.at(31.0)
    site.remove("k04")
    site.at(33.0)
    site.enrol("k05", node_type="kvm")
    site.at(35.5)
    site.cloud.host("k04", "QEMU", 48, 196_608, 1_000)
    site.enrol("k04", node_type="kvm")
    # A failed host: its reservation moves.
    site.at(36.0)
    site.lease("healed", rooms(1, 32), end=44)
    site.lease("healed, too", rooms(2, 24, affinity=False), end=42, project="p2")
    site.at(38.4)
    first = site.cloud.slots[site.leases["healed"].reservations[0]["id"]][0].host
    site.fail(first)
    site.at(41.0)
    site.recover(first)
    site.at(45.0)
    site.lease("ended now", rooms(2, 8), end=50)
    site.at(46.6)
    site.update("ended now", end="now")
    site.at(48.0)
    site.lease("brief", rooms(1, 4), end=48.5)
    site.at(49.0)
    site.delete("brief")
    # What runs, and what is to come, when the tables are read.
    site.at(52.0)
    site.lease("runs", rooms(3, 16), end=56, project="p3")
    site.at(54.0)
    site.update("runs", end=65)
    site.lease("to come", rooms(2, 12), start=57, end=70)
    site.at(55.0)
    site.lease("runs apart", rooms(3, 8, affinity=False), end=62, project="p2")
    site.lease("later", rooms(6, 4), start=64, end=66, project="p3")
    site.at(57.5)
    with site.trying():
        site.update("runs apart", {"amount": 4})
    site.at(AS_OF)


def chameleon(site: Site) -> None:  # noqa: PLR0915 - a list of what happens
    """Lead sixty days of whole hosts with the changes that Chameleon made to Blazar."""
    for number in range(1, 9):
        site.cloud.host(f"c{number:02}", "ironic", 48, 196_608, 240)
    site.at(2 * HOUR)
    for number in range(1, 8):
        site.enrol(f"c{number:02}", node_type="compute_skylake")
    site.at(1.0)
    site.lease("demand", nodes(), end=3)
    site.lease("advance", nodes(2), start=4, end=8, project="p2")
    site.at(4.5)
    site.lease("deleted", nodes(2), end=11)
    site.lease("cancelled", nodes(), start=12, end=15)
    # Of three hosts it gives two back before its start; deleted, all three look alike.
    site.lease("lowered, deleted", nodes(3), start=13, end=18, project="p3")
    site.at(6.2)
    site.delete("deleted")
    site.at(7.0)
    site.delete("cancelled")
    site.update("lowered, deleted", {"min": 1, "max": 1})
    site.lease("lowered", nodes(2), start=14, end=19)
    site.at(9.0)
    site.update("lowered", {"min": 1, "max": 1})
    site.lease("brief", nodes(), end=10)
    site.at(11.5)
    site.delete("brief")
    site.at(15.5)
    site.delete("lowered, deleted")
    # Disabled, and enabled: no trace; removed, and enrolled anew.
    site.at(20.0)
    site.disable("c07")
    site.at(21.5)
    site.enable("c07")
    site.at(22.0)
    site.remove("c06")
    site.at(25.25)
    site.enrol("c06", node_type="compute_skylake")
    # Its host is exchanged while it runs; after its end nothing tells when.
    site.at(26.0)
    site.lease("exchanged", nodes(hypervisor_hostname="c01"), end=30)
    site.update("exchanged", {"hypervisor_properties": ""})
    site.at(28.0)
    site.reallocate("c01")
    # In error, ended by time and deleted; a failed host keeps its running lease.
    site.at(31.0)
    site.cloud.broken = {"c02", "c03"}
    site.lease("error", nodes(hypervisor_hostname="c02"), end=33)
    site.lease("error deleted", nodes(hypervisor_hostname="c03"), end=34, project="p2")
    site.cloud.broken = set()
    site.at(32.4)
    site.delete("error deleted")
    site.at(35.0)
    site.lease("on a failed host", nodes(hypervisor_hostname="c04"), end=39, project="p3")
    site.lease("healed before", nodes(hypervisor_hostname="c04"), start=39.5, end=41)
    site.update("healed before", {"hypervisor_properties": ""})
    site.at(37.0)
    site.fail("c04")
    site.at(42.0)
    site.recover("c04")
    site.lease("extended", nodes(2), end=45)
    site.at(44.0)
    site.update("extended", end=48)
    site.at(46.5)
    site.update("extended", end="now")
    # What is so when the tables are read.
    site.at(47.0)
    site.lease("runs elsewhere", nodes(hypervisor_hostname="c03"), end=62, project="p2")
    site.update("runs elsewhere", {"hypervisor_properties": ""})
    site.at(49.5)
    site.reallocate("c03")
    site.at(50.0)
    site.disable("c05")
    site.remove("c07")
    site.at(53.0)
    site.lease("runs", nodes(2), end=64)
    site.at(57.0)
    site.lease("to come", nodes(), start=61, end=63)
    site.at(AS_OF)


SITES = {"baremetal": baremetal, "kvm": kvm, "chameleon": chameleon}


def main() -> None:
    asked = argparse.ArgumentParser(description=__doc__)
    asked.add_argument("site", choices=SITES)
    asked.add_argument("configuration", type=Path)
    asked.add_argument("truth", type=Path)
    given = asked.parse_args()
    logging.getLogger("blazar").setLevel(logging.CRITICAL)
    site = boot(given.site, given.configuration)
    SITES[given.site](site)
    told = {
        "as_of": moment(AS_OF),
        "refused": site.refused,
        "images": site.cloud.images,
        "truth": site.truth(),
        "reservations": site.reservations(),
    }
    given.truth.write_text(json.dumps(told, indent=1, default=str) + "\n")


if __name__ == "__main__":
    main()
