"""The truth beside the tables: who held what when, and what the scheduler knew.

truth/intervals.parquet
    host, node_type, quantity_type, start, end, nodes, vcpus, memory_mb, disk_gb, gpus.
    Per (host, quantity_type) rows never overlap. On whole nodes they are unions with nodes = 1; on
    KVM committed, occupied and active are piecewise-constant sums over slots or instances and
    nodes = vcpus / physical vcpus. `maintenance` is the window itself, held or not.
truth/knowledge.parquet
    lease_id, host, node_type, known_from, known_to (null: to this day), start, end.
truth/pool.parquet
    host, node_type, known_from, known_to (null: to this day).
truth/leases.parquet
    lease_id, node_type, created_at, nodes, requested_h (start - creation), effective_h (first
    successful create event's finish - creation, else the done start event's, else null), outcome.

All times are naive UTC in whole seconds; ends are clipped at `as_of`.
"""

import numpy as np
import polars as pl
from numpy.typing import NDArray

from .clock import NEVER, Seconds, datetimes
from .fleet import FAR
from .intervals import Keys, Spans, intersect, staircase, union
from .scheduler import CANCELLED, NEVER_STARTED, NO_HOSTS, OUTCOMES
from .vms import SIZES, places
from .world import World

QUANTITIES = (
    "total", "reservable", "committed", "occupied_reservation", "occupied_ondemand",
    "active_reservation", "active_ondemand", "maintenance",
)  # fmt: skip

# What happened to lease hosts: machine, start, end and the resources [vcpus, memory, disk, gpus].
Pieces = tuple[Keys, Seconds, Seconds, NDArray[np.int64]]


def presence_spans(world: World) -> Spans:
    """Total: [enrolled, removed) of each machine."""
    p = world.fleet.presence
    return union(p.machine, p.start, np.minimum(p.end, world.cal.as_of), gap=15 * 60)


def pool_spans(world: World) -> Spans:
    """Reservable: enrolments in Blazar; a device is reservable while it is there."""
    if world.kind == "device":
        return presence_spans(world)
    e = world.plan.enrolments
    return union(e.machine, e.start, np.minimum(e.end, world.cal.as_of))


def commitments(world: World) -> Pieces:
    """Committed, one piece per allocation."""
    begin, end = world.plan.held()
    machine = world.plan.allocations.machine
    if world.kind == "kvm":
        size = SIZES[world.flavor[world.plan.allocations.lease]]
    else:
        size = world.fleet.resources[machine]
    return machine, begin, np.maximum(np.minimum(end, world.cal.as_of), begin), size


def usage(world: World, active: bool) -> dict[str, Pieces]:
    """Occupied or active, one piece per instance and stay, with and without reservation."""
    run = world.instances
    who, start, end = (run.active if active else run.occupied)(world.cal.as_of)
    begin, over = world.plan.held()
    reserved = run.allocation[who] >= 0
    a = run.allocation[who[reserved]]
    start_r, end_r = intersect(start[reserved], end[reserved], begin[a], over[a])
    machine = world.plan.allocations.machine[a]
    kvm = world.kind == "kvm"
    size = SIZES[run.flavor[who[reserved]]] if kvm else world.fleet.resources[machine]
    free = ~reserved
    empty = np.empty(0, np.int64)
    ondemand: Pieces = (empty, empty, empty, np.empty((0, 4), np.int64))
    if free.any():
        owner, host, flavor, since, until = places(run)
        stays = pl.DataFrame(
            {"who": owner, "host": host, "flavor": flavor, "since": since, "until": until}
        )
        pieces = pl.DataFrame({"who": who[free], "start": start[free], "end": end[free]})
        both = pieces.join(stays, on="who").select(
            "host", "flavor", pl.max_horizontal("start", "since").alias("start"),
            pl.min_horizontal("end", "until").alias("end"),
        ).filter(pl.col("end") > pl.col("start"))  # fmt: skip
        ondemand = (both["host"].to_numpy(), both["start"].to_numpy(), both["end"].to_numpy(),
                    SIZES[both["flavor"].to_numpy()])  # fmt: skip
    name = "active" if active else "occupied"
    return {f"{name}_reservation": (machine, start_r, end_r, size), f"{name}_ondemand": ondemand}


def intervals(world: World) -> pl.DataFrame:
    """The intervals of all quantities; see the module's head for the columns."""
    whole = world.kind != "kvm"
    down = world.fleet.maintenance
    frames = []
    for name, spans in (
        ("total", presence_spans(world)),
        ("reservable", pool_spans(world)),
        ("maintenance", (down.machine, down.start, np.minimum(down.end, world.cal.as_of))),
    ):
        frames.append(_frame(world, name, spans, world.fleet.resources[spans[0]]))
    parts = {"committed": commitments(world), **usage(world, False), **usage(world, True)}
    for name, (machine, start, end, size) in parts.items():
        if whole:
            spans = union(machine, start, end)
            levels = world.fleet.resources[spans[0]]
        else:
            *steps, levels = staircase(machine, start, end, size)
            spans = (steps[0], steps[1], steps[2])
        frames.append(_frame(world, name, spans, levels))
    order = pl.Enum(QUANTITIES)
    return (
        pl.concat(frames)
        .with_columns(pl.col("quantity_type").cast(order))
        .sort("quantity_type", "host", "start")
        .with_columns(pl.col("quantity_type").cast(pl.String))
    )


def _frame(world: World, name: str, spans: Spans, size: NDArray[np.int64]) -> pl.DataFrame:
    machine, start, end = spans
    physical = world.fleet.resources[machine, 0]
    keep = end > start
    return pl.DataFrame(
        {
            "host": world.fleet.uid.gather(machine),
            "node_type": _types(world, world.fleet.type_of[machine]),
            "quantity_type": pl.repeat(name, len(machine), eager=True),
            "start": datetimes(start),
            "end": datetimes(end),
            "nodes": size[:, 0] / np.maximum(physical, 1),
            "vcpus": size[:, 0],
            "memory_mb": size[:, 1],
            "disk_gb": size[:, 2],
            "gpus": size[:, 3],
        }
    ).filter(pl.Series(keep))


def _types(world: World, kinds: NDArray[np.int64]) -> pl.Series:
    return pl.Series(world.fleet.types, dtype=pl.String).gather(kinds)


def knowledge(world: World) -> pl.DataFrame:
    """One row per version of an allocation, from when it was known."""
    v, a = world.plan.versions, world.plan.allocations
    machine = a.machine[v.allocation]
    frame = pl.DataFrame(
        {
            "lease_id": world.lease_id.gather(a.lease[v.allocation]),
            "host": world.fleet.uid.gather(machine),
            "node_type": _types(world, world.fleet.type_of[machine]),
            "known_from": datetimes(v.known_from),
            "known_to": datetimes(v.known_to),
            "start": datetimes(v.start),
            "end": datetimes(v.end),
        }
    )
    return frame.sort("known_from", "lease_id", "host", "start", "end")


def pool(world: World) -> pl.DataFrame:
    """When the scheduler knew a host as part of its pool."""
    if world.kind == "device":
        p = world.fleet.presence
        machine, start, end = p.machine, p.start, p.end
    else:
        e = world.plan.enrolments
        machine, start, end = e.machine, e.start, e.end
    return pl.DataFrame(
        {
            "host": world.fleet.uid.gather(machine),
            "node_type": _types(world, world.fleet.type_of[machine]),
            "known_from": datetimes(start),
            "known_to": datetimes(np.where(end >= FAR, NEVER, end)),
        }
    ).sort("known_from", "host")


def leases(world: World) -> pl.DataFrame:
    """Requested and effective lead times of the leases for nodes."""
    rows, run = world.plan.leases, world.instances
    launched = np.full(len(rows), FAR)
    good = (run.lease >= 0) & (run.launched != NEVER)
    np.minimum.at(launched, run.lease[good], run.launched[good])
    done = start_event_done(world)
    effective = np.where(launched < FAR, launched, done)
    hours = np.where(effective == NEVER, np.nan, (effective - rows.created) / 3600)
    kinds = rows.node_type
    if world.kind == "kvm":
        first = np.full(len(rows), -1)
        a = world.plan.allocations
        first[a.lease[::-1]] = world.fleet.type_of[a.machine[::-1]]
        names = _types(world, np.maximum(first, 0))
        names = pl.select(pl.when(pl.Series(first >= 0)).then(names)).to_series()
    else:
        names = _types(world, kinds)
    return pl.DataFrame(
        {
            "lease_id": world.lease_id,
            "node_type": names,
            "created_at": datetimes(rows.created),
            "nodes": rows.nodes,
            "requested_h": (rows.start - rows.created) / 3600,
            "effective_h": pl.Series(hours).fill_nan(None),
            "outcome": pl.Series(OUTCOMES, dtype=pl.String).gather(rows.outcome),
        }
    ).sort("created_at", "lease_id")


def start_event_done(world: World) -> Seconds:
    """When Blazar's start_lease event was done (`updated_at`), `NEVER` where it was not."""
    rows = world.plan.leases
    lag = world.rng("start events").integers(1, 15, len(rows))
    when = np.maximum(rows.start, rows.created) + lag
    failed = np.isin(rows.outcome, (CANCELLED, NEVER_STARTED, NO_HOSTS))
    over = np.where(rows.deleted == NEVER, rows.end, rows.deleted)
    return np.where(failed | (when >= world.cal.as_of) | (rows.start > over), NEVER, when)
