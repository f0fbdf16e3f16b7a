"""A Blazar that runs in this process; what its users and operators do, and what they know of it.

What is true is noted from what was asked of the manager and from what it did to Nova's hosts
(``blazar_cloud``), never from its database.
"""

from __future__ import annotations

import datetime as dt
import itertools
import uuid
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib import import_module
from importlib.metadata import entry_points
from importlib.util import find_spec
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from blazar import context, exceptions
from blazar.db import api
from blazar.db.sqlalchemy import model_base
from blazar.manager import service
from blazar.monitor import base as monitor
from blazar.notification import notifier
from blazar.utils import trusts
from blazar.utils.openstack import nova as nova_client
from blazar.utils.openstack import placement
from blazar_cloud import CLOCK, Cloud, Placement, days, ironic, moment, nova
from oslo_config import cfg
from sqlalchemy import event

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

AS_OF = 60.0
"""The day on which the tables are read."""
SECOND = 1 / 86_400
ASKED = "%Y-%m-%d %H:%M"
"""How the interface is told a date."""
PLUGINS = ("physical.host.plugin", "virtual.instance.plugin", "flavor.instance.plugin")
"""Of these, those that the release has."""
CHAMELEON = find_spec("blazar.utils.openstack.ironic") is not None
"""Whether this Blazar has Chameleon's changes."""


@dataclass
class Lease:
    """A lease as its owner knows it.

    Attributes:
        reservations: in the order of asking: ``id``, what was ``asked``, and ``vcpus`` of a room.
    """

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
    """A host's time in the pool.

    Attributes:
        failed: since when it is out of order.
        outages: when it was, and recovered.
    """

    host: str
    id: str
    since: dt.datetime
    until: dt.datetime | None = None
    failed: dt.datetime | None = None
    outages: list[tuple[dt.datetime, dt.datetime]] = field(default_factory=list)


@dataclass
class Site:
    """A running Blazar, its hosts and its leases.

    Attributes:
        refused: what Blazar refused, when and why.
    """

    manager: Any
    cloud: Cloud
    leases: dict[str, Lease] = field(default_factory=dict)
    refused: list[str] = field(default_factory=list)
    enrolments: list[Enrolment] = field(default_factory=list)

    @contextmanager
    def asked_by(self, project: str) -> Iterator[None]:
        with context.BlazarContext(**caller(project)):
            yield

    # Time
    def at(self, day: float) -> None:
        """Let time pass until then; the manager does what falls due five seconds late."""
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
        watched = self.manager.plugins["physical:host"].monitor
        monitor.BaseMonitor([watched]).call_monitor_plugin(getattr(watched, what))

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

    def describe(self, host: str, **capabilities: str | None) -> None:
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
        back.outages.append((back.failed, CLOCK.now))
        back.failed = None

    # What only Chameleon's Blazar can
    def disable(self, host: str) -> None:
        self.describe(host, disabled="yes")
        self._enrolled(host).failed = CLOCK.now

    def enable(self, host: str) -> None:
        self.describe(host, disabled=None)
        self.recover(host)

    def reallocate(self, host: str) -> None:
        """Give those who hold a host another one."""
        plugin = self.manager.plugins["physical:host"]
        with self.asked_by("operators"):
            plugin.reallocate_computehost(self._enrolled(host).id, {})

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
        # The manager gives them back in an order of its own.
        kinds = [one["resource_type"] for one in reservations]
        given = sorted(made["reservations"], key=lambda one: kinds.index(one["resource_type"]))
        wanted = sorted(reservations, key=lambda one: kinds.index(one["resource_type"]))
        self.leases[name] = Lease(
            name,
            made["id"],
            project,
            CLOCK.now,
            CLOCK.now.replace(second=0) if start is None else moment(start),
            moment(end),
            [
                {"id": one["id"], "asked": dict(asked), "vcpus": asked.get("vcpus")}
                for one, asked in zip(given, wanted, strict=True)
            ],
        )
        if start is None:
            self.at(self.day + 20 * SECOND)

    @property
    def day(self) -> float:
        """Today, counted from the first day."""
        return days(CLOCK.now)

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
                # Chameleon's wants all of a reservation told again.
                {**(one["asked"] if CHAMELEON else {}), **change, "id": one["id"]}
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
                # Hosts of the first minute are the lease's from its start, later ones from then on.
                begin = since if slot.since - since < dt.timedelta(minutes=1) else slot.since
                ends = (lease.end, lease.deleted, slot.until, moment(AS_OF))
                end = min(end for end in ends if end is not None)
                if begin < end:
                    yield {
                        "kind": "committed",
                        "hypervisor_hostname": slot.host,
                        "entity": one["id"],
                        "start": begin,
                        "end": end,
                        "vcpus": one["vcpus"] or self.cloud.hosts[slot.host].vcpus,
                    }

    def truth(self) -> list[dict[str, Any]]:
        """Give the intervals of hosts in the pool, out of order, and committed.

        A host that fails and recovers was in the pool throughout; one that stays out of order left
        it when it failed.
        """

        def of_host(kind: str, one: Enrolment, start: dt.datetime, end: dt.datetime | None) -> None:
            rows.append(
                {
                    "kind": kind,
                    "hypervisor_hostname": one.host,
                    "entity": one.id,
                    "start": start,
                    "end": end or moment(AS_OF),
                    "vcpus": self.cloud.hosts[one.host].vcpus,
                }
            )

        rows: list[dict[str, Any]] = []
        for one in self.enrolments:
            of_host("reservable", one, one.since, one.failed or one.until)
            for start, end in one.outages:
                of_host("outage", one, start, end)
            if one.failed:
                of_host("outage", one, one.failed, None)
        for lease in self.leases.values():
            rows += self.holdings(lease)
        return rows

    def reservations(self) -> list[dict[str, Any]]:
        """Give every reservation with the hosts that it held, in days.

        ``started_day`` is when Nova gave the first host; null where it gave none.
        """
        told = []
        for lease in self.leases.values():
            rows = list(self.holdings(lease))
            for one in lease.reservations:
                held = sorted(
                    (row["hypervisor_hostname"], days(row["start"]), days(row["end"]))
                    for row in rows
                    if row["entity"] == one["id"]
                )
                slots = self.cloud.slots[one["id"]]
                given = [days(slot.since) for slot in slots if not slot.refused]
                told.append(
                    {
                        "reservation_id": one["id"],
                        "lease_id": lease.id,
                        "lease": lease.name,
                        "project_id": lease.project,
                        "kind": one["asked"]["resource_type"],
                        "vcpus": one["vcpus"],
                        "created_day": days(lease.created),
                        "requested_day": days(lease.start),
                        "start_day": days(max(lease.start, lease.created)),
                        "end_day": days(min(lease.end, lease.deleted or lease.end)),
                        "started_day": min(given, default=None),
                        "deleted_day": days(lease.deleted) if lease.deleted else None,
                        "hosts": sorted({host for host, _, _ in held}),
                        "held": held,
                    }
                )
        return told


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
        "roles": ["admin"] if project == "operators" else ["member"],
        "service_catalog": [
            {"type": kind, "endpoints": ends} for kind in ("identity", "compute", "placement")
        ],
    }


def boot(name: str, configuration: Path) -> Site:
    """Start the manager, with Nova, Placement and Keystone answered by a cloud of its own.

    Args:
        name: the site; keys of rows are made of it, of the table and of the row's order, so that
            they are the same in every release and on every day.
        configuration: Blazar's configuration file.
    """
    cfg.CONF([], project="blazar", default_config_files=[str(configuration)])
    there = {plugin.name for plugin in entry_points(group="blazar.resource.plugins")}
    # In Chameleon's, the second plugin takes the healing of hosts from the first.
    wanted = set(PLUGINS[:1] if CHAMELEON else PLUGINS)
    cfg.CONF.set_override("plugins", sorted(there & wanted), "manager")

    cloud = Cloud()
    client = nova(cloud)
    nova_client.BlazarNovaClient = lambda *_, **__: client
    Placement.cloud = cloud
    placement.BlazarPlacementClient = Placement
    if CHAMELEON:
        client_of_ironic = SimpleNamespace(ironic=ironic(cloud))
        import_module("blazar.utils.openstack.ironic").BlazarIronicClient = lambda: client_of_ironic
    trusts.create_ctx_from_trust = lambda trust: context.BlazarContext(
        **caller(trust.removeprefix("trust-"))
    )

    for model in model_base.BlazarBase.__subclasses__():
        keys = _keys(f"{name}/{model.__tablename__}")
        event.listen(model, "init", lambda row, *_, keys=keys: setattr(row, "id", next(keys)))

    notifier.init()
    manager = service.ManagerService()
    CLOCK.rule()
    return Site(manager, cloud)


def _keys(of: str) -> Iterator[str]:
    for number in itertools.count(1):
        yield str(uuid.uuid5(uuid.NAMESPACE_OID, f"{of}/{number}"))
