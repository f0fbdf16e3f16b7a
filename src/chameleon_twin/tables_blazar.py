"""Blazar's tables: leases, reservations, allocations, events, and the pool of hosts or devices."""

from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from .calibration import PROJECTS, USERS_PER_PROJECT
from .clock import DAY, MINUTE, NEVER, Seconds, datetimes, seconds, whole
from .demand import arrivals, target_level
from .fleet import FAR
from .ids import uuids
from .scheduler import CANCELLED, COMPLETED, NEVER_STARTED, NO_HOSTS, PENDING, RELEASED, RUNNING
from .truth import start_event_done
from .vms import FLAVORS, SIZES
from .world import World

Tables = dict[str, pl.DataFrame]

# Who deletes a lease leaves it as it was half way: Chameleon's Blazar changes no status after.
LEASE_STATUS = {
    PENDING: "PENDING", RUNNING: "ACTIVE", COMPLETED: "TERMINATED", RELEASED: "DELETING",
    CANCELLED: "DELETING", NEVER_STARTED: "ERROR", NO_HOSTS: "ERROR",
}  # fmt: skip
RESERVATION_STATUS = {
    PENDING: "pending", RUNNING: "active", COMPLETED: "deleted", RELEASED: "active",
    CANCELLED: "pending", NEVER_STARTED: "error", NO_HOSTS: "error",
}  # fmt: skip
# The leases for addresses or networks only: the two robots make most of them.
OTHER_TYPES = ("virtual:floatingip", "network")
ROBOT_SHARE_OF_OTHERS = 0.8  # of the leases for addresses or networks only (assumption)
# Since when capabilities are compared with "==" instead of "=".
DOUBLE_EQUALS = seconds("2018-03-01")


def _named(names: dict[int, str], codes: NDArray[np.int64]) -> pl.Series:
    return pl.Series([names[i] for i in range(len(names))], dtype=pl.String).gather(codes)


def _soft(ids: pl.Series, deleted: Seconds) -> dict[str, pl.Series]:
    """The columns of a soft delete: `deleted` is the row's id, null while it lives."""
    gone = pl.Series(deleted != NEVER)
    return {
        "deleted": pl.select(pl.when(gone).then(ids)).to_series().cast(pl.String),
        "deleted_at": datetimes(deleted),
    }


@dataclass(frozen=True)
class _AllLeases:
    """Every lease of the site: first those for nodes, then those for addresses and networks."""

    ids: pl.Series
    created: Seconds
    start: Seconds
    end: Seconds
    deleted: Seconds
    updated: Seconds
    outcome: NDArray[np.int64]
    project: NDArray[np.int64]
    robot: NDArray[np.bool_]


def _all_leases(world: World, rng: np.random.Generator) -> _AllLeases:
    cal, rows = world.cal, world.plan.leases
    others = max(0, cal.rows("blazar.leases") - len(rows)) if world.kind != "kvm" else 0
    created = np.empty(0, np.int64)
    if others:
        level = target_level(cal, "committed")
        created = arrivals(rng, others, level, cal.opened + DAY, cal.as_of)
    robot = rng.random(others) < ROBOT_SHARE_OF_OTHERS
    start = created // MINUTE * MINUTE
    end = start + np.where(robot, DAY, whole(rng.uniform(0.2, 7, others) * 1440) * MINUTE)
    stay = np.where(robot, rng.integers(24, 40, others), whole(rng.exponential(2 * DAY, others)))
    gone = created + stay
    gone = np.where((gone < end) & (gone < cal.as_of), gone, NEVER)
    over = np.where(gone == NEVER, end, gone)
    state = np.where(over >= cal.as_of, RUNNING, np.where(gone == NEVER, COMPLETED, RELEASED))
    robots = PROJECTS - 1 - rng.integers(0, 2, others)
    project = np.where(robot, robots, rng.integers(0, PROJECTS - 2, others))
    return _AllLeases(
        ids=pl.concat([world.lease_id, uuids(rng, others)]),
        created=np.r_[rows.created, created],
        start=np.r_[rows.start, start],
        end=np.r_[rows.end, end],
        deleted=np.r_[np.where(rows.outcome == NO_HOSTS, NEVER, rows.deleted), gone],
        updated=np.r_[rows.updated, np.where(over < cal.as_of, over, created)],
        outcome=np.r_[rows.outcome, state],
        project=np.r_[world.project, project],
        robot=np.r_[rows.robot, robot],
    )


def reservations(world: World) -> Tables:
    """Leases, reservations, events, and the requests and allocations of the site's kind."""
    rng = world.rng("blazar")
    every = _all_leases(world, rng)
    n = len(every.ids)
    users = world.user_of(every.project, rng)
    robots = world.users.gather(every.project * USERS_PER_PROJECT)
    users = pl.select(pl.when(pl.Series(every.robot)).then(robots).otherwise(users)).to_series()
    leases = pl.DataFrame(
        {
            "created_at": datetimes(every.created),
            "updated_at": datetimes(every.updated),
            "id": every.ids,
            "name": pl.select(pl.format("lease-{}", pl.arange(0, n, eager=True))).to_series(),
            "user_id": users,
            "project_id": world.projects.gather(every.project),
            "start_date": datetimes(every.start),
            "end_date": datetimes(every.end),
            "status": _named(LEASE_STATUS, every.outcome),
            "degraded": pl.repeat(0, n, dtype=pl.Int64, eager=True),
            **_soft(every.ids, every.deleted),
        }
    )
    hosted, whole_hosts = _with_nodes(world)
    return {
        "blazar.leases": leases,
        "blazar.reservations": _reservations(world, rng, every, hosted, whole_hosts),
        "blazar.events": _events(world, every),
        **_requests(world, every, hosted, whole_hosts),
        **_allocations(world),
    }


def _with_nodes(world: World) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Leases with a reservation of the site's own kind, and (on KVM) of whole hosts, in vain."""
    rows, cal = world.plan.leases, world.cal
    if world.kind != "kvm":
        return np.arange(min(len(rows), cal.rows("blazar.reservations"))), np.empty(0, np.int64)
    failed, held = (np.flatnonzero((rows.outcome == NO_HOSTS) == x) for x in (True, False))
    spare = max(0, cal.rows("blazar.instance_reservations") - len(held))
    whole_hosts = failed[spare : spare + cal.rows("blazar.computehost_reservations")]
    return np.sort(np.r_[held, failed[:spare]]), whole_hosts


def _reservations(
    world: World,
    rng: np.random.Generator,
    every: _AllLeases,
    hosted: NDArray[np.int64],
    whole_hosts: NDArray[np.int64],
) -> pl.DataFrame:
    """Of nodes, of addresses and networks alone, and of addresses beside nodes for some leases."""
    nodes = len(world.plan.leases)
    own = {"kvm": "flavor:instance", "device": "device"}.get(world.kind, "physical:host")
    alone = np.arange(nodes, len(every.ids)) if world.kind == "baremetal" else hosted[:0]
    room = world.cal.rows("blazar.reservations") - len(hosted) - len(whole_hosts) - len(alone)
    beside = rng.integers(0, nodes, max(room, 0))
    lease = np.concatenate([hosted, whole_hosts, alone, beside])
    more = len(alone) + len(beside)
    kinds = np.r_[np.zeros(len(hosted), np.int64), np.full(len(whole_hosts), 3),
                  1 + (rng.random(more) < 0.3)]  # fmt: skip
    ids = pl.concat([world.reservation_id.gather(np.r_[hosted, whole_hosts]), uuids(rng, more)])
    return pl.DataFrame(
        {
            "created_at": datetimes(every.created[lease]),
            "updated_at": datetimes(every.updated[lease]),
            "id": ids,
            "lease_id": every.ids.gather(lease),
            "resource_id": uuids(rng, len(lease)),
            "resource_type": pl.Series([own, *OTHER_TYPES, "physical:host"]).gather(kinds),
            "status": _named(RESERVATION_STATUS, every.outcome[lease]),
            "missing_resources": pl.repeat(0, len(lease), dtype=pl.Int64, eager=True),
            "resources_changed": pl.repeat(0, len(lease), dtype=pl.Int64, eager=True),
            **_soft(ids, every.deleted[lease]),
        }
    )


def _events(world: World, every: _AllLeases) -> pl.DataFrame:
    rng, as_of = world.rng("events"), world.cal.as_of
    created, start, end, deleted = every.created, every.start, every.end, every.deleted
    n = len(created)
    others = np.maximum(start, created)[len(world.plan.leases) :] + 2
    done = np.r_[start_event_done(world), np.where(others < as_of, others, NEVER)]
    ended = (deleted == NEVER) & (end < as_of) & (every.outcome != NO_HOSTS)
    failed = np.isin(every.outcome, (NEVER_STARTED, NO_HOSTS))
    ids = uuids(rng, 3 * n)
    warn = np.maximum(end - 2 * DAY, start)
    warned = (warn < as_of) & (np.where(deleted == NEVER, as_of, deleted) > warn)
    status = np.concatenate([
        np.where(failed, 2, np.where(done != NEVER, 1, 0)),
        np.where(ended | (every.outcome == RELEASED), 1, 0),
        np.where(warned & ~failed, 1, 0),
    ])  # fmt: skip
    touched = np.concatenate([
        np.where(done == NEVER, created, done),
        np.where(ended, end + rng.integers(2, 9, n), created),
        np.where(warned & ~failed, warn + 3, created),
    ])  # fmt: skip
    return pl.DataFrame(
        {
            "created_at": datetimes(np.tile(created, 3)),
            "updated_at": datetimes(touched),
            "id": ids,
            "lease_id": pl.concat([every.ids] * 3),
            "event_type": pl.Series(["start_lease", "end_lease", "before_end_lease"]).gather(
                np.repeat(np.arange(3), n)
            ),
            "time": datetimes(np.concatenate([start, end, warn])),
            "status": pl.Series(["UNDONE", "DONE", "ERROR"]).gather(status),
            **_soft(ids, np.tile(deleted, 3)),
        }
    )


def _requests(
    world: World, every: _AllLeases, hosted: NDArray[np.int64], whole_hosts: NDArray[np.int64]
) -> Tables:
    """What the reservations asked for."""
    rng, rows = world.rng("requests for hosts"), world.plan.leases
    created, updated, deleted = every.created, every.updated, every.deleted
    lease = hosted if world.kind != "kvm" else whole_hosts
    ids = uuids(rng, len(lease))
    count = np.maximum(rows.nodes[lease], 1)
    equals = pl.Series(["=", "=="]).gather((created[lease] >= DOUBLE_EQUALS).astype(np.int64))
    kinds = pl.Series(world.fleet.types, dtype=pl.String).gather(rows.node_type[lease])
    common = {
        "created_at": datetimes(created[lease]),
        "updated_at": datetimes(updated[lease]),
        "id": ids,
        "reservation_id": world.reservation_id.gather(lease),
        "resource_properties": pl.select(
            pl.format('["{}", "$node_type", "{}"]', equals, kinds)
        ).to_series(),
        "count_range": pl.select(
            pl.format("{}-{}", pl.Series(count), pl.Series(count))
        ).to_series(),
        "before_end": pl.repeat("email", len(lease), eager=True),
        **_soft(ids, deleted[lease]),
    }
    host_only = {
        "hypervisor_properties": pl.repeat("", len(lease), eager=True),
        "aggregate_id": pl.Series(np.arange(len(lease)) + 1),
        "on_start": pl.repeat("default", len(lease), eager=True),
    }
    hosts = pl.DataFrame({**common, **host_only})
    out: Tables = {"blazar.computehost_reservations": hosts}
    if world.kind == "device":
        out["blazar.computehost_reservations"] = hosts.clear()
        out["blazar.device_reservations"] = pl.DataFrame(common)
    else:
        out["blazar.device_reservations"] = pl.DataFrame(common).clear()
    slots = hosted if world.kind == "kvm" else hosted[:0]
    size = SIZES[world.flavor[slots]] if len(slots) else np.empty((0, 4), np.int64)
    ids = uuids(rng, len(slots))
    out["blazar.instance_reservations"] = pl.DataFrame(
        {
            "created_at": datetimes(created[slots]),
            "updated_at": datetimes(updated[slots]),
            "id": ids,
            "reservation_id": world.reservation_id.gather(slots),
            "vcpus": size[:, 0],
            "memory_mb": size[:, 1],
            "disk_gb": size[:, 2],
            "amount": rows.nodes[slots],
            "affinity": np.zeros(len(slots), dtype=np.int64),
            "flavor_id": world.reservation_id.gather(slots),
            "aggregate_id": np.arange(len(slots)) + 1,
            "resource_properties": pl.Series(
                ['["==", "$gpu", "h100"]' if FLAVORS[f].gpus else "" for f in world.flavor[slots]],
                dtype=pl.String,
            ),
            **_soft(ids, deleted[slots]),
        }
    )
    return out


def _allocations(world: World) -> Tables:
    rng, a = world.rng("allocations"), world.plan.allocations
    ids = uuids(rng, len(a))
    touched = np.where(a.deleted == NEVER, a.created, a.deleted)
    common = {
        "created_at": datetimes(a.created),
        "updated_at": datetimes(touched),
        "id": ids,
        "reservation_id": world.reservation_id.gather(a.lease),
        **_soft(ids, a.deleted),
    }
    host = pl.DataFrame({**common, "compute_host_id": enrolment_ids(world).gather(a.enrolment)})
    device = pl.DataFrame({**common, "device_id": device_ids(world).gather(a.machine)})
    if world.kind == "device":
        return {
            "blazar.computehost_allocations": host.clear(),
            "blazar.device_allocations": device,
        }
    return {"blazar.computehost_allocations": host, "blazar.device_allocations": device.clear()}


def enrolment_ids(world: World) -> pl.Series:
    """Blazar's host id of each enrolment: an integer, as text."""
    return pl.Series(np.arange(len(world.plan.enrolments.machine)) * 2 + 1).cast(pl.String)


def device_ids(world: World) -> pl.Series:
    """Blazar's device id of each machine."""
    return uuids(world.rng("devices"), len(world.fleet))


def pool(world: World) -> Tables:
    """Computehosts with their capabilities, devices with theirs, resource_properties."""
    rng, f, e = world.rng("computehosts"), world.fleet, world.plan.enrolments
    device = world.kind == "device"
    machine, start, end = e.machine, e.start, e.end
    ids = enrolment_ids(world).cast(pl.Int64).to_numpy()
    if device:
        machine, start, end, ids = machine[:0], start[:0], end[:0], ids[:0]
    # Some hosts left the pool by a flag, not by a delete: their row's last change tells when.
    newest = np.full(len(f), -1)
    np.maximum.at(newest, machine, start)
    left = np.flatnonzero((end < FAR) & (start == newest[machine]))
    flagged = np.zeros(len(machine), dtype=bool)
    flagged[left[world.cal.some("left_by_flag", len(left), world.rng("left by flag"))]] = True
    # Duplicates: a second row of a host inside an enrolment.
    long_lived = np.flatnonzero(np.minimum(end, world.cal.as_of) - start > 60 * DAY)
    n_twice = min(len(long_lived), world.cal.profile.count(world.cal.share("duplicate_pool_rows")))
    twice = np.sort(rng.permutation(long_lived)[:n_twice])
    dup_start = start[twice] + 2 * DAY
    span = np.minimum(end[twice], world.cal.as_of) - dup_start
    dup_end = dup_start + whole(span * rng.uniform(0.2, 0.9, n_twice))
    machine = np.r_[machine, machine[twice]]
    deleted = np.r_[np.where((end >= FAR) | flagged, NEVER, end), dup_end]
    # A delete counts as a change.
    changed = np.r_[np.where(end < FAR, end, start + DAY), dup_end]
    changed = np.minimum(changed, world.cal.as_of)
    start, flagged = np.r_[start, dup_start], np.r_[flagged, np.zeros(n_twice, dtype=bool)]
    ids = np.r_[ids, ids[twice] + 1]
    text = pl.Series(ids).cast(pl.String)
    n = len(machine)
    size = f.resources[machine]
    kvm = world.kind == "kvm"
    hosts = pl.DataFrame(
        {
            "created_at": datetimes(start),
            "updated_at": datetimes(changed),
            "id": text,
            "vcpus": size[:, 0],
            "hypervisor_type": pl.repeat("QEMU" if kvm else "ironic", n, eager=True),
            "hypervisor_version": np.full(n, 2012000 if kvm else 1),
            "hypervisor_hostname": f.uid.gather(machine),
            "memory_mb": size[:, 1],
            "local_gb": size[:, 2],
            "status": pl.repeat(None, n, dtype=pl.String, eager=True),
            "service_name": f.uid.gather(machine) if kvm
            else pl.Series(["ironic-compute"]).gather(np.zeros(n, np.int64)),
            "reservable": np.where(flagged, 0, 1),
            "availability_zone": pl.repeat("nova" if kvm else "", n, eager=True),
            "disabled": np.zeros(n, dtype=np.int64),
            **_soft(text, deleted),
        }
    )  # fmt: skip
    properties, capabilities = _capabilities(world, hosts, machine)
    out: Tables = {
        "blazar.computehosts": hosts,
        "blazar.resource_properties": properties,
        "blazar.computehost_extra_capabilities": capabilities,
    }
    return out | _devices(world, properties)


def capability_keys(world: World) -> list[str]:
    """The property names that hosts carry, as many per host as the real row counts tell."""
    if world.kind == "device":
        return ["node_type", "machine_name", "vendor", "model", "gpu.gpu_count"]
    if world.kind == "kvm":
        return ["node_type"]
    rows = world.cal.facts["row_counts"]
    real = rows["blazar.computehost_extra_capabilities"] / rows["blazar.computehosts"]
    keys = ["node_type", "uid", "node_name", "gpu.gpu", "gpu.gpu_count",
            "architecture.smt_size", "architecture.smp_size", "architecture.platform_type",
            "main_memory.ram_size", "placement.rack", "placement.node", "version",
            "processor.model", "processor.vendor", "processor.clock_speed", "infiniband",
            "bios.vendor", "bios.version", "bios.release_date", "chassis.manufacturer",
            "chassis.name", "chassis.serial"]  # fmt: skip
    for i in range(4):
        keys += [f"network_adapters.{i}.{k}" for k in
                 ("device", "driver", "interface", "mac", "rate", "vendor", "model")]  # fmt: skip
    for i in range(8):
        keys += [f"storage_devices.{i}.{k}" for k in
                 ("device", "driver", "interface", "size", "model")]  # fmt: skip
    return keys[: round(real)]


def _capabilities(
    world: World, hosts: pl.DataFrame, machine: NDArray[np.int64]
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """resource_properties, and each host's value of each of them."""
    rng, f = world.rng("capabilities"), world.fleet
    keys = capability_keys(world)
    device = world.kind == "device"
    when = np.full(len(keys), world.cal.opened)
    property_id = uuids(rng, len(keys))
    properties = pl.DataFrame(
        {
            "id": property_id,
            "resource_type": pl.repeat("device" if device else "physical:host", len(keys),
                                       eager=True),
            "property_name": keys,
            "private": np.zeros(len(keys), np.int64),
            "created_at": datetimes(when),
            "updated_at": datetimes(when),
            **_soft(property_id, np.full(len(keys), NEVER)),
            "is_unique": pl.Series([int(k == "uid") for k in keys], dtype=pl.Int64),
        }
    )  # fmt: skip
    types = pl.Series(f.types, dtype=pl.String).gather(f.type_of[machine])
    text = {
        "node_type": types,
        "uid": f.uid.gather(machine),
        "node_name": f.name.gather(machine),
        "gpu.gpu": pl.Series(["False", "True"]).gather((f.resources[machine, 3] > 0).astype(int)),
        "gpu.gpu_count": pl.Series(f.resources[machine, 3]).cast(pl.String),
        "architecture.smt_size": pl.Series(f.resources[machine, 0]).cast(pl.String),
        "main_memory.ram_size": pl.Series(f.resources[machine, 1] * 2**20).cast(pl.String),
        "placement.rack": pl.Series(machine // 24 + 1).cast(pl.String),
        "placement.node": pl.Series(machine % 24 + 1).cast(pl.String),
    }
    frames = []
    for i, key in enumerate(keys):
        plain = f"{key.rsplit('.', 1)[-1]}-{i % 7}"
        value = text.get(key, pl.repeat(plain, len(machine), eager=True))
        frames.append(
            pl.DataFrame(
                {
                    "created_at": hosts["created_at"],
                    "updated_at": hosts["updated_at"],
                    "computehost_id": hosts["id"],
                    "capability_value": value,
                    "property_id": pl.repeat(property_id[i], len(machine), eager=True),
                    "deleted_at": hosts["deleted_at"],
                }
            )
        )
        if key == "node_type" and world.kind == "kvm":  # a few hosts carry their GPUs as well
            some = pl.Series((f.resources[machine, 3] > 0) | (machine < 9))
            gpus = pl.Series(f.resources[machine, 3]).cast(pl.String)
            extra = frames[0].with_columns(capability_value=gpus).filter(some)
            frames.append(extra.with_columns(property_id=pl.lit("gpu.gpu_count")))
    rows = pl.concat(frames)
    if world.kind == "kvm":
        gpu_id = uuids(rng, 1)[0]
        rows = rows.with_columns(pl.col("property_id").replace({"gpu.gpu_count": gpu_id}))
        properties = pl.concat([
            properties,
            properties.with_columns(id=pl.lit(gpu_id), property_name=pl.lit("gpu.gpu_count")),
        ])  # fmt: skip
    ids = uuids(rng, len(rows))
    rows = rows.with_columns(id=ids, deleted=pl.when(pl.col("deleted_at").is_not_null()).then(ids))
    return properties, rows


def _devices(world: World, properties: pl.DataFrame) -> Tables:
    rng, f, p = world.rng("device capabilities"), world.fleet, world.fleet.presence
    first = {int(m): i for i, m in reversed(list(enumerate(p.machine)))}
    rows = np.array([first[m] for m in range(len(f))]) if world.kind == "device" else p.machine[:0]
    ids = device_ids(world).gather(p.machine[rows])
    gone = np.where(p.end[rows] >= FAR, NEVER, p.end[rows])
    changed = np.where(gone == NEVER, p.start[rows] + DAY, gone)
    n = len(rows)
    devices = pl.DataFrame(
        {
            "created_at": datetimes(p.start[rows]),
            "updated_at": datetimes(changed),
            "id": ids,
            "name": f.uid.gather(p.machine[rows]),
            "device_type": pl.repeat("container", n, eager=True),
            "device_driver": pl.Series(["zun", "k3s"]).gather((rng.random(n) < 0.5).astype(int)),
            "reservable": ((gone == NEVER) | (rng.random(n) > 0.5)).astype(np.int64),
            **_soft(ids, gone),
        }
    )
    kinds = pl.Series(f.types, dtype=pl.String).gather(f.type_of[p.machine[rows]])
    values = {
        "node_type": kinds,
        "machine_name": kinds,
        "vendor": pl.repeat("Raspberry Pi", n, eager=True),
        "model": kinds,
        "gpu.gpu_count": pl.Series(f.resources[p.machine[rows], 3]).cast(pl.String),
    }
    keys = dict(properties.select("property_name", "id").rows())
    frames = [
        pl.DataFrame(
            {
                "created_at": devices["created_at"],
                "updated_at": devices["updated_at"],
                "device_id": ids,
                "property_id": pl.repeat(keys.get(key), n, dtype=pl.String, eager=True),
                "capability_value": value,
                "deleted_at": devices["deleted_at"],
            }
        )
        for key, value in values.items()
    ]
    rows_ = pl.concat(frames)
    own = uuids(rng, len(rows_))
    rows_ = rows_.with_columns(
        id=own, deleted=pl.when(pl.col("deleted_at").is_not_null()).then(own)
    )
    return {"blazar.devices": devices, "blazar.device_extra_capabilities": rows_}
