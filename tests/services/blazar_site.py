"""Sixty days of a site, written by Blazar itself into the database that it is given.

Runs in the environment of a Blazar release (``blazar-<release>.lock``), not in the project's: its
manager service with the host and the instance plugin, in this process, on a clock of its own. What
it would ask of Nova, Placement and Keystone is answered here. What was held by whom is noted from
those answers and from what was asked of the manager, never from the database: that is the truth
which the tables are later compared with.
"""

from __future__ import annotations

import argparse
import datetime as dt
import itertools
import json
import logging
import sys
import uuid
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from novaclient import exceptions as nova_errors
from oslo_config import cfg
from oslo_utils import timeutils
from sqlalchemy import event as sql_event

DAY0 = dt.datetime(2024, 1, 1)  # noqa: DTZ001 - the services keep naive UTC
AS_OF = 60.0
SECOND = 1 / 86_400
MINUTE = 60 * SECOND
HOUR = 1 / 24
POOL = "freepool"
WHERE = ("host", "node", "flavor")
ASKED = "%Y-%m-%d %H:%M"
"""How the interface is told a date."""


def moment(day: float) -> dt.datetime:
    """Give the time of a day counted from the first, to the second."""
    return DAY0 + dt.timedelta(seconds=round(day * 86_400))


class Clock:
    """The time of the site, which passes only when it is told to."""

    now = DAY0

    def set(self, now: dt.datetime) -> None:
        assert now >= self.now, f"{now} is before {self.now}"
        self.now = now

    # What stands in the place of `datetime.datetime` in modules that ask it for the time.
    def __call__(self, *args: int) -> dt.datetime:
        return dt.datetime(*args)  # noqa: DTZ001

    def __getattr__(self, name: str) -> Any:
        return getattr(dt.datetime, name)

    def utcnow(self, with_timezone: bool = False) -> dt.datetime:
        assert not with_timezone
        return self.now

    def instead_of_the_machines(self) -> None:
        """Give oslo this clock, and those of Blazar's modules that do not ask oslo for the time."""
        timeutils.utcnow = self.utcnow
        shim = SimpleNamespace(**{**vars(dt), "datetime": self})
        for name, module in list(sys.modules.items()):
            if name.startswith("blazar.") and getattr(module, "datetime", None) is dt:
                module.datetime = shim


CLOCK = Clock()


@dataclass
class Slot:
    """A place on a host that a reservation holds: a whole host, or room for one machine."""

    host: str
    since: dt.datetime
    until: dt.datetime | None = None


class Cloud:
    """Nova and Placement as far as Blazar asks them, and what was held there when.

    Attributes:
        hosts: hypervisors by name.
        slots: reservation to the slots that it was given on hosts.
        broken: hosts that Nova refuses to put into an aggregate.
    """

    def __init__(self) -> None:
        self.hosts: dict[str, SimpleNamespace] = {}
        self.pools: dict[int, SimpleNamespace] = {}
        self.ids, self.numbers = itertools.count(1), itertools.count(1)
        self.machines: dict[str, list[SimpleNamespace]] = defaultdict(list)
        self.images: list[str] = []
        self.slots: dict[str, list[Slot]] = defaultdict(list)
        self.broken: set[str] = set()
        self.create(POOL)

    def host(self, name: str, kind: str, vcpus: int, memory_mb: int, disk_gb: int) -> None:
        """Have a hypervisor; one that is there already gets a row, and a number, of its own."""
        self.hosts[name] = SimpleNamespace(
            id=next(self.numbers),
            hypervisor_hostname=name,
            service={"host": name},
            hypervisor_type=kind,
            hypervisor_version=1,
            cpu_info="",
            vcpus=vcpus,
            memory_mb=memory_mb,
            local_gb=disk_gb,
            state="up",
            status="enabled",
        )

    # Nova's aggregates
    def create(self, name: str, zone: str | None = None) -> SimpleNamespace:
        made = SimpleNamespace(id=next(self.ids), name=name, hosts=[], zone=zone, metadata={})
        self.pools[made.id] = made
        return made

    def pool(self, pool: Any) -> SimpleNamespace:
        found = self.pools.get(getattr(pool, "id", pool))
        if found is None:
            raise nova_errors.NotFound(404)
        return found

    def add_host(self, pool: Any, host: str) -> None:
        found = self.pool(pool)
        if host in found.hosts:
            raise nova_errors.Conflict(409)
        if found.name != POOL:
            self.slots[found.name].append(Slot(host, CLOCK.now))
            if host in self.broken:
                raise nova_errors.NotFound(404)
        found.hosts.append(host)

    def remove_host(self, pool: Any, host: str) -> None:
        found = self.pool(pool)
        found.hosts.remove(host)
        self.close(found.name, host)

    def held(self, reservation: str, host: str) -> list[Slot]:
        return [s for s in self.slots[reservation] if s.host == host and s.until is None]

    def close(self, reservation: str, host: str) -> None:
        for slot in self.held(reservation, host):
            slot.until = CLOCK.now

    # Placement
    def rooms(self, host: str, reservation: str, number: int, more: bool) -> None:
        """Make room for this number of machines on a host (or for so many more)."""
        held = self.held(reservation, host)
        wanted = number + (len(held) - 1 if more else 0)
        self.slots[reservation] += [Slot(host, CLOCK.now) for _ in range(wanted - len(held))]
        for slot in held[wanted:]:
            slot.until = CLOCK.now


def nova(cloud: Cloud) -> SimpleNamespace:
    """Give a client of Nova with the methods that Blazar calls."""

    def get(host: Any) -> SimpleNamespace:
        for found in cloud.hosts.values():
            if str(found.id) == str(host):
                return found
        raise nova_errors.NotFound(404)

    def search(host: str, servers: bool = False) -> list[SimpleNamespace]:
        found = get(host) if str(host).isdigit() else cloud.hosts.get(host)
        if found is None:
            raise nova_errors.NotFound(404)
        return [found]

    def listed(search_opts: dict[str, Any], **_: Any) -> list[SimpleNamespace]:
        return list(cloud.machines[next(search_opts[k] for k in WHERE if k in search_opts)])

    def deleted(server: SimpleNamespace) -> None:
        for machines in cloud.machines.values():
            if server in machines:
                machines.remove(server)

    def told(pool: SimpleNamespace) -> SimpleNamespace:
        return SimpleNamespace(**{**vars(pool), "hosts": list(pool.hosts)})

    def flavor(**values: Any) -> SimpleNamespace:
        return SimpleNamespace(id=values["flavorid"], set_keys=lambda _: None)

    def nothing(*_: Any, **__: Any) -> None:
        return None

    client = SimpleNamespace(
        aggregates=SimpleNamespace(
            get=lambda pool: told(cloud.pool(pool)),
            list=lambda: [told(pool) for pool in cloud.pools.values()],
            create=lambda name, zone=None: told(cloud.create(name, zone)),
            delete=lambda pool: cloud.pools.pop(cloud.pool(pool).id),
            add_host=cloud.add_host,
            remove_host=cloud.remove_host,
            set_metadata=nothing,
        ),
        hypervisors=SimpleNamespace(
            get=get, search=search, list=lambda *_, **__: list(cloud.hosts.values())
        ),
        servers=SimpleNamespace(
            list=listed,
            delete=deleted,
            create_image=lambda server: cloud.images.append(server.name),
        ),
        flavors=SimpleNamespace(create=flavor, delete=nothing),
        flavor_access=SimpleNamespace(add_tenant_access=nothing, remove_tenant_access=nothing),
        server_groups=SimpleNamespace(
            create=lambda *_: SimpleNamespace(id=str(next(cloud.ids))), delete=nothing
        ),
        availability_zones=SimpleNamespace(list=lambda **_: []),
    )
    client.nova = client
    return client


class Placement:
    """A client of Placement with the methods that Blazar calls."""

    cloud: Cloud

    def _nothing(self, *_: Any, **__: Any) -> None:
        return None

    create_reservation_provider = delete_reservation_provider = _nothing
    create_reservation_class = delete_reservation_class = _nothing

    def get_resource_provider(self, host: str) -> dict[str, str]:
        return {"uuid": host, "name": host}

    def get_inventory(self, host: str) -> dict[str, Any]:
        found = self.cloud.hosts[host]
        totals = {"VCPU": found.vcpus, "MEMORY_MB": found.memory_mb, "DISK_GB": found.local_gb}
        plain = {"reserved": 0, "min_unit": 1, "step_size": 1, "allocation_ratio": 1.0}
        return {
            "inventories": {
                name: {"total": total, "max_unit": total, **plain} for name, total in totals.items()
            }
        }

    def get_traits(self, _: str) -> list[str]:
        return []

    def update_reservation_inventory(
        self, host: str, reservation: str, num: int, additional: bool = False
    ) -> None:
        self.cloud.rooms(host, reservation, num, additional)

    def delete_reservation_inventory(self, host: str, reservation: str) -> None:
        self.cloud.close(reservation, host)


@dataclass
class Lease:
    """A lease as its owner knows it."""

    name: str
    id: str
    project: str
    created: dt.datetime
    start: dt.datetime
    end: dt.datetime
    reservations: list[dict[str, Any]]
    deleted: dt.datetime | None = None


@dataclass
class Enrolment:
    """A host's time in the pool."""

    host: str
    id: str
    since: dt.datetime
    until: dt.datetime | None = None
    failed: dt.datetime | None = None


@dataclass
class Site:
    """A running Blazar, what its users and operators do, and what they know of it."""

    manager: Any
    cloud: Cloud
    leases: dict[str, Lease] = field(default_factory=dict)
    refused: list[str] = field(default_factory=list)
    enrolments: list[Enrolment] = field(default_factory=list)
    outages: list[Enrolment] = field(default_factory=list)

    @contextmanager
    def asked_by(self, project: str) -> Iterator[None]:
        from blazar import context

        with context.BlazarContext(**caller(project)):
            yield

    # Time
    def at(self, day: float) -> None:
        """Let time pass until then; the manager does what falls due five seconds late."""
        from blazar.db import api

        until = moment(day)
        due = {"status": "UNDONE", "time": {"op": "le", "border": until}}
        while events := api.event_get_all_sorted_by_filters("time", "asc", due):
            late = events[0]["time"] + dt.timedelta(seconds=5)
            if late <= CLOCK.now:
                late = CLOCK.now + dt.timedelta(seconds=10)
            if late > until:
                break
            self._heal_until(late)
            CLOCK.set(late)
            self.manager._process_events()
        self._heal_until(until)
        CLOCK.set(until)

    def _heal_until(self, until: dt.datetime) -> None:
        """While a host is out of order, look each hour after what needs it next."""
        hour = dt.timedelta(hours=1)
        while any(one.failed for one in self.enrolments) and CLOCK.now + hour < until:
            CLOCK.set(CLOCK.now + hour)
            self._monitor("heal")

    def _monitor(self, what: str) -> None:
        from blazar.monitor import base

        watched = self.manager.plugins["physical:host"].monitor
        base.BaseMonitor([watched]).call_monitor_plugin(getattr(watched, what))

    # Hosts
    def enrol(self, host: str, **capabilities: str) -> None:
        plugin = self.manager.plugins["physical:host"]
        with self.asked_by("operators"):
            made = plugin.create_computehost(
                {"name": host, "trust_id": "trust-operators", **capabilities}
            )
        self.enrolments.append(Enrolment(host, made["id"], CLOCK.now))

    def _enrolled(self, host: str) -> Enrolment:
        (found,) = [one for one in self.enrolments if one.host == host and one.until is None]
        return found

    def describe(self, host: str, **capabilities: str) -> None:
        with self.asked_by("operators"):
            self.manager.plugins["physical:host"].update_computehost(
                self._enrolled(host).id, capabilities
            )

    def remove(self, host: str) -> None:
        gone = self._enrolled(host)
        with self.asked_by("operators"):
            self.manager.plugins["physical:host"].delete_computehost(gone.id)
        gone.until = CLOCK.now

    def fail(self, host: str) -> None:
        self.cloud.hosts[host].state = "down"
        self._enrolled(host).failed = CLOCK.now
        self._monitor("poll")

    def recover(self, host: str) -> None:
        self.cloud.hosts[host].state = "up"
        self._monitor("poll")
        back = self._enrolled(host)
        self.outages.append(Enrolment(host, back.id, back.failed, CLOCK.now))
        back.failed = None

    # Leases
    def lease(
        self,
        name: str,
        *reservations: dict[str, Any],
        end: float,
        start: float | None = None,
        project: str = "p1",
        **more: Any,
    ) -> None:
        """Ask for a lease, from now on or from a day in advance."""
        values = {
            "name": name,
            "user_id": f"user-of-{project}",
            "start_date": "now" if start is None else moment(start).strftime(ASKED),
            "end_date": moment(end).strftime(ASKED),
            "reservations": [dict(one) for one in reservations],
            "events": [],
            "trust_id": f"trust-{project}",
            **more,
        }
        with self.asked_by(project):
            made = self.manager.create_lease(values)
        order = {one["id"]: one for one in made["reservations"]}
        self.leases[name] = Lease(
            name,
            made["id"],
            project,
            CLOCK.now,
            CLOCK.now.replace(second=0) if start is None else moment(start),
            moment(end),
            [
                {"id": key, "kind": asked["resource_type"], "vcpus": asked.get("vcpus")}
                for key, asked in zip(order, reservations, strict=True)
            ],
        )
        if start is None:
            self.at(self.day + 20 * SECOND)

    @property
    def day(self) -> float:
        """Today, counted from the first day."""
        return (CLOCK.now - DAY0).total_seconds() / 86_400

    def update(
        self,
        which: str,
        *changes: dict[str, Any],
        start: float | None = None,
        end: float | str | None = None,
        **more: Any,
    ) -> None:
        """Change a lease's dates, or its reservations in their order."""
        lease = self.leases[which]
        values: dict[str, Any] = dict(more)
        if start is not None:
            values["start_date"] = moment(start).strftime(ASKED)
        if end is not None:
            values["end_date"] = end if end == "now" else moment(float(end)).strftime(ASKED)
        if changes:
            values["reservations"] = [
                {"id": one["id"], **change}
                for one, change in zip(lease.reservations, changes, strict=False)
            ]
        with self.asked_by(lease.project):
            self.manager.update_lease(lease_id=lease.id, values=values)
        if start is not None:
            lease.start = moment(start)
        if end is not None:
            lease.end = CLOCK.now.replace(second=0) if end == "now" else moment(float(end))
        for one, change in zip(lease.reservations, changes, strict=False):
            one["vcpus"] = change.get("vcpus", one["vcpus"])
        self.at(self.day + 20 * SECOND)

    def delete(self, name: str) -> None:
        lease = self.leases[name]
        with self.asked_by(lease.project):
            self.manager.delete_lease(lease_id=lease.id)
        lease.deleted = CLOCK.now

    @contextmanager
    def trying(self) -> Iterator[None]:
        """Ask for what some release refuses, or every one; note that it did."""
        from blazar import exceptions

        try:
            yield
        except exceptions.BlazarException as error:
            self.refused.append(f"{CLOCK.now.isoformat()} {type(error).__name__}")

    # What is true
    def holdings(self, lease: Lease) -> Iterator[dict[str, Any]]:
        """Give what a lease committed of which host, until the end of the account."""
        since = max(lease.start, lease.created)
        for one in lease.reservations:
            for slot in self.cloud.slots[one["id"]]:
                # Hosts of the first hour are the lease's from its start, later ones from then on.
                begin = since if slot.since - since < dt.timedelta(minutes=1) else slot.since
                ends = [lease.end, lease.deleted, slot.until, moment(AS_OF)]
                end = min(end for end in ends if end is not None)
                if begin < end:
                    yield {
                        "kind": "committed",
                        "hypervisor_hostname": slot.host,
                        "entity": one["id"],
                        "start": begin.isoformat(),
                        "end": end.isoformat(),
                        "vcpus": one["vcpus"] or self.cloud.hosts[slot.host].vcpus,
                    }

    def truth(self) -> list[dict[str, Any]]:
        """Give the intervals of hosts in the pool, out of order, and committed."""

        def of_host(kind: str, one: Enrolment, end: dt.datetime | None) -> dict[str, Any]:
            return {
                "kind": kind,
                "hypervisor_hostname": one.host,
                "entity": one.id,
                "start": one.since.isoformat(),
                "end": (end or moment(AS_OF)).isoformat(),
                "vcpus": self.cloud.hosts[one.host].vcpus,
            }

        rows = [of_host("reservable", one, one.failed or one.until) for one in self.enrolments]
        rows += [of_host("outage", one, one.until) for one in self.outages]
        rows += [
            of_host("outage", Enrolment(one.host, one.id, one.failed), None)
            for one in self.enrolments
            if one.failed
        ]
        for lease in self.leases.values():
            rows += self.holdings(lease)
        return rows

    def reservations(self) -> list[dict[str, Any]]:
        """Give every reservation with the hosts that it held, in days."""

        def days(text: str) -> float:
            return (dt.datetime.fromisoformat(text) - DAY0).total_seconds() / 86_400

        told = []
        for lease in self.leases.values():
            held = list(self.holdings(lease))
            for one in lease.reservations:
                mine = sorted(
                    (row["hypervisor_hostname"], days(row["start"]), days(row["end"]))
                    for row in held
                    if row["entity"] == one["id"]
                )
                done = [s.since for s in self.cloud.slots[one["id"]]]
                told.append(
                    {
                        "reservation_id": one["id"],
                        "lease_id": lease.id,
                        "lease": lease.name,
                        "project_id": lease.project,
                        "kind": one["kind"],
                        "vcpus": one["vcpus"],
                        "created_day": days(lease.created.isoformat()),
                        "start_day": days(max(lease.start, lease.created).isoformat()),
                        "end_day": days(min(lease.end, lease.deleted or lease.end).isoformat()),
                        "requested_start_day": days(lease.start.isoformat()),
                        "started_day": days(min(done).isoformat()) if done else None,
                        "deleted_day": days(lease.deleted.isoformat()) if lease.deleted else None,
                        "hosts": sorted({host for host, _, _ in mine}),
                        "held": mine,
                    }
                )
        return told


def nodes(low: int = 1, high: int | None = None, **wanted: str) -> dict[str, Any]:
    """Give a reservation of whole hosts: how many, and of which node_type or hostname."""
    host = wanted.pop("hypervisor_hostname", "")
    return {
        "resource_type": "physical:host",
        "min": low,
        "max": high or low,
        "hypervisor_properties": f'["==", "$hypervisor_hostname", "{host}"]' if host else "",
        "resource_properties": "".join(f'["==", "${k}", "{v}"]' for k, v in wanted.items()),
        "before_end": "default",
    }


def rooms(amount: int, vcpus: int, affinity: bool | None = None) -> dict[str, Any]:
    """Give a reservation of room for machines of one size."""
    return {
        "resource_type": "virtual:instance",
        "amount": amount,
        "vcpus": vcpus,
        "memory_mb": vcpus * 2048,
        "disk_gb": vcpus * 10,
        "affinity": affinity,
        "resource_properties": "",
    }


def caller(project: str) -> dict[str, Any]:
    """Give what is known of who asks: a project, and where the services would be."""
    endpoint = {
        kind: f"http://127.0.0.1/{kind}" for kind in ("internalURL", "publicURL", "adminURL")
    }
    ends = [
        {"interface": kind.removesuffix("URL"), "region": None, "url": url}
        for kind, url in endpoint.items()
    ]
    return {
        "user_id": f"user-of-{project}",
        "user_name": f"user-of-{project}",
        "project_id": project,
        "auth_token": "none",
        "service_catalog": [
            {"type": kind, "endpoints": ends} for kind in ("identity", "compute", "placement")
        ],
    }


def boot(site: str, configuration: Path) -> Site:
    """Start the manager, with Nova, Placement and Keystone answered by a cloud of its own."""
    from blazar import context
    from blazar.db.sqlalchemy import model_base
    from blazar.manager import service
    from blazar.notification import notifier
    from blazar.utils import trusts
    from blazar.utils.openstack import nova as nova_client
    from blazar.utils.openstack import placement

    cfg.CONF([], project="blazar", default_config_files=[str(configuration)])

    cloud = Cloud()
    client = nova(cloud)
    nova_client.BlazarNovaClient = lambda *_, **__: client
    Placement.cloud = cloud
    placement.BlazarPlacementClient = Placement

    def trusted(trust_id: str) -> Any:
        return context.BlazarContext(**caller(trust_id.removeprefix("trust-")))

    trusts.create_ctx_from_trust = trusted

    # Keys of rows tell their table and their order, whatever the release and the day.
    for model in model_base.BlazarBase.__subclasses__():
        count = itertools.count(1)

        def name(
            target: Any, *_: Any, count: Any = count, table: str = model.__tablename__
        ) -> None:
            key = f"{site}/{table}/{next(count)}"
            target.id = str(uuid.uuid5(uuid.NAMESPACE_OID, key))

        sql_event.listen(model, "init", name)

    notifier.init()
    manager = service.ManagerService()
    CLOCK.instead_of_the_machines()
    CLOCK.set(DAY0)
    return Site(manager, cloud)


def baremetal(site: Site) -> None:
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


def kvm(site: Site) -> None:
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


SITES = {"baremetal": baremetal, "kvm": kvm}


def main() -> None:
    asked = argparse.ArgumentParser(description=__doc__)
    asked.add_argument("site", choices=SITES)
    asked.add_argument("configuration", type=Path, help="Blazar's configuration file")
    asked.add_argument("told", type=Path, help="the file for what is true (JSON)")
    given = asked.parse_args()
    logging.getLogger("blazar").setLevel(logging.CRITICAL)
    site = boot(given.site, given.configuration)
    SITES[given.site](site)
    told = {
        "as_of": moment(AS_OF).isoformat(),
        "refused": site.refused,
        "images": site.cloud.images,
        "truth": site.truth(),
        "reservations": site.reservations(),
    }
    given.told.write_text(json.dumps(told, indent=1) + "\n")


if __name__ == "__main__":
    main()
