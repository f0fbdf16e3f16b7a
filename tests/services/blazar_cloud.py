"""What Blazar asks of the world: the time, Nova, Placement; and what was held there when.

Runs in the environment of a Blazar release, like ``blazar_site`` and ``blazar_script``.
"""

from __future__ import annotations

import datetime as dt
import itertools
import sys
from collections import defaultdict
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

from novaclient import exceptions as nova_errors
from oslo_utils import timeutils

DAY0 = dt.datetime(2024, 1, 1)  # noqa: DTZ001 - the services keep naive UTC
POOL = "freepool"
"""Nova's aggregate of the hosts that Blazar may lend."""
FLAVOR = "24 vcpus"


def moment(day: float) -> dt.datetime:
    """Give the time of a day counted from the first, to the second."""
    return DAY0 + dt.timedelta(seconds=round(day * 86_400))


def days(when: dt.datetime) -> float:
    """Give a time as the day counted from the first."""
    return (when - DAY0).total_seconds() / 86_400


class Clock:
    """The time of the site, which passes only when it is told to."""

    now = DAY0

    def set(self, now: dt.datetime) -> None:
        assert now >= self.now, f"{now} is before {self.now}"
        self.now = now

    def utcnow(self, with_timezone: bool = False) -> dt.datetime:
        assert not with_timezone
        return self.now

    def rule(self) -> None:
        """Give this time to oslo, and to those of Blazar's modules that do not ask oslo for it."""
        timeutils.utcnow = self.utcnow
        shim = SimpleNamespace(**{**vars(dt), "datetime": _Datetime(self)})
        for name, module in list(sys.modules.items()):
            if name.startswith("blazar.") and getattr(module, "datetime", None) is dt:
                module.datetime = shim


class _Datetime:
    """The class datetime, but for utcnow. What it makes are real datetimes."""

    def __init__(self, clock: Clock) -> None:
        self.utcnow = clock.utcnow

    def __call__(self, *args: int) -> dt.datetime:
        return dt.datetime(*args)  # noqa: DTZ001

    def __getattr__(self, name: str) -> Any:
        return getattr(dt.datetime, name)


CLOCK = Clock()


@dataclass
class Slot:
    """A place on a host that a reservation holds: a whole host, or room for one machine.

    Attributes:
        refused: Nova did not give it; it is held for the reservation all the same.
    """

    host: str
    since: dt.datetime
    until: dt.datetime | None = None
    refused: bool = False


class Cloud:
    """Nova and Placement as far as Blazar asks them.

    Attributes:
        hosts: hypervisors by name.
        pools: Nova's aggregates by number; one of a reservation is named after it.
        machines: by the host or the flavor by which they are asked for.
        images: names of machines kept as images.
        slots: reservation to the slots that it was given on hosts.
        broken: hosts that Nova refuses to put into an aggregate.
    """

    def __init__(self) -> None:
        self.hosts: dict[str, SimpleNamespace] = {}
        self.pools: dict[int, SimpleNamespace] = {}
        self.pool_ids, self.host_ids = itertools.count(1), itertools.count(1)
        self.machines: dict[str, list[SimpleNamespace]] = defaultdict(list)
        self.images: list[str] = []
        self.slots: dict[str, list[Slot]] = defaultdict(list)
        self.broken: set[str] = set()
        self.create(POOL)

    def host(self, name: str, kind: str, vcpus: int, memory_mb: int, disk_gb: int) -> None:
        """Have a hypervisor; one that is there already gets a number of its own."""
        self.hosts[name] = SimpleNamespace(
            id=next(self.host_ids),
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

    def found(self, host: Any) -> SimpleNamespace:
        """Give a hypervisor by its number or name."""
        for one in self.hosts.values():
            if str(host) in {str(one.id), one.hypervisor_hostname}:
                return one
        raise nova_errors.NotFound(404)

    # Aggregates
    def create(self, name: str, zone: str | None = None) -> SimpleNamespace:
        made = SimpleNamespace(id=next(self.pool_ids), name=name, hosts=[], zone=zone)
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
            self.slots[found.name].append(Slot(host, CLOCK.now, refused=host in self.broken))
            if host in self.broken:
                raise nova_errors.NotFound(404)
        found.hosts.append(host)

    def remove_host(self, pool: Any, host: str) -> None:
        found = self.pool(pool)
        found.hosts.remove(host)
        self.close(found.name, host)

    # What is held
    def held(self, reservation: str, host: str) -> list[Slot]:
        return [s for s in self.slots[reservation] if s.host == host and s.until is None]

    def close(self, reservation: str, host: str) -> None:
        for slot in self.held(reservation, host):
            slot.until = CLOCK.now

    def rooms(self, host: str, reservation: str, number: int, more: bool) -> None:
        """Make room for this number of machines on a host, or for so many more."""
        held = self.held(reservation, host)
        # The first room came with the host into the aggregate.
        wanted = number + (len(held) - 1 if more else 0)
        self.slots[reservation] += [Slot(host, CLOCK.now) for _ in range(wanted - len(held))]
        for slot in held[wanted:]:
            slot.until = CLOCK.now


def nova(cloud: Cloud) -> SimpleNamespace:
    """Give a client of Nova with the methods that Blazar calls."""
    client = SimpleNamespace(
        aggregates=_aggregates(cloud),
        hypervisors=SimpleNamespace(
            get=cloud.found,
            search=lambda host, **_: [cloud.found(host)],
            list=lambda *_, **__: list(cloud.hosts.values()),
        ),
        servers=_servers(cloud),
        flavors=SimpleNamespace(
            create=lambda **asked: SimpleNamespace(id=asked["flavorid"], set_keys=_nothing),
            delete=_nothing,
            get=_flavor,
        ),
        flavor_access=SimpleNamespace(add_tenant_access=_nothing, remove_tenant_access=_nothing),
        server_groups=SimpleNamespace(
            create=lambda name, *_: SimpleNamespace(id=name.partition(":")[2]), delete=_nothing
        ),
    )
    client.nova = client
    return client


def ironic(cloud: Cloud) -> SimpleNamespace:
    """Give a client of Ironic as Chameleon's Blazar asks it: which nodes are in maintenance."""
    return SimpleNamespace(
        node=SimpleNamespace(
            list=lambda: [
                SimpleNamespace(
                    uuid=host.hypervisor_hostname,
                    maintenance=host.state == "down",
                    power_state="power on",
                    provision_state="available",
                )
                for host in cloud.hosts.values()
            ]
        )
    )


def _nothing(*_: Any, **__: Any) -> None:
    return None


def _aggregates(cloud: Cloud) -> SimpleNamespace:
    def told(pool: SimpleNamespace) -> SimpleNamespace:
        return SimpleNamespace(**{**vars(pool), "hosts": list(pool.hosts)})

    return SimpleNamespace(
        get=lambda pool: told(cloud.pool(pool)),
        list=lambda: [told(pool) for pool in cloud.pools.values()],
        create=lambda name, zone=None: told(cloud.create(name, zone)),
        delete=lambda pool: cloud.pools.pop(cloud.pool(pool).id),
        add_host=cloud.add_host,
        remove_host=cloud.remove_host,
        set_metadata=_nothing,
    )


def _servers(cloud: Cloud) -> SimpleNamespace:
    def listed(search_opts: dict[str, Any], **_: Any) -> list[SimpleNamespace]:
        asked = next(search_opts[key] for key in ("host", "node", "flavor") if key in search_opts)
        return list(cloud.machines[asked])

    def delete(server: SimpleNamespace) -> None:
        for machines in cloud.machines.values():
            if server in machines:
                machines.remove(server)

    return SimpleNamespace(
        list=listed, delete=delete, create_image=lambda server: cloud.images.append(server.name)
    )


def _flavor(flavor_id: str) -> SimpleNamespace:
    assert flavor_id == FLAVOR
    told = {"id": FLAVOR, "vcpus": 24, "ram": 49_152, "disk": 240, "OS-FLV-EXT-DATA:ephemeral": 0}
    return SimpleNamespace(to_dict=lambda: dict(told), get_keys=dict)


class Placement:
    """A client of Placement with the methods that Blazar calls.

    Attributes:
        cloud: whose it is; Blazar makes clients without an argument.
    """

    cloud: Cloud

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
