"""The operators' own records: inventory, doni, maintenance, and the containers of the Edge."""

import json

import numpy as np
import polars as pl

from .clock import DAY, HOUR, NEVER, datetimes, seconds, whole
from .fleet import FAR
from .ids import uuids
from .lifecycle import ACTIONS, CREATE, DELETE, START, STOP
from .world import World

Tables = dict[str, pl.DataFrame]

DONI_SINCE = seconds("2021-03-15")  # when the inventory service took over
# Zun's names for what lifecycle calls by Nova's.
CONTAINER_EVENTS = {
    CREATE: "compute__do_container_create", DELETE: "compute_container_delete",
    STOP: "compute_container_stop", START: "compute_container_start",
}  # fmt: skip


def inventory(world: World) -> pl.DataFrame:
    """inventory.node_intervals: what the history of the public reference-repository tells.

    Dates are those of commits: days late, and where the calibration's `inventory_arrivals` and
    `inventory_removals` say so, months. A node's absences in between leave no commit, and some
    nodes are never listed.
    """
    rng, p, f = world.rng("inventory"), world.fleet.presence, world.fleet
    n = len(f)
    first, last = np.full(n, FAR), np.zeros(n, dtype=np.int64)
    np.minimum.at(first, p.machine, p.start)
    np.maximum.at(last, p.machine, p.end)
    batch = first // DAY  # one commit for all nodes of a day
    commits, commit = np.unique(batch, return_inverse=True)
    start = first + whole(np.clip(rng.exponential(4, len(commits)), 0.2, 20) * DAY)[commit]
    end = np.where(last < FAR, last + whole(np.clip(rng.exponential(6, n), 0.2, 25) * DAY), NEVER)
    for late in world.cal.facts.get("inventory_arrivals", []):
        arrived = seconds(late["from"])
        hit = (first >= arrived) & (first < arrived + 2 * DAY)
        hit &= f.type_of == f.types.index(late["node_type"])
        start[hit] = seconds(late["at"]) + 15 * HOUR
    for late in world.cal.facts.get("inventory_removals", []):
        hit = (last > seconds(late["from"])) & (last < seconds(late["to"]))
        end[hit] = seconds(late["at"]) + 15 * HOUR
    end = np.where(end >= world.cal.as_of, NEVER, end)
    keep = (start < world.cal.as_of) & ((end == NEVER) | (end > start))
    keep &= rng.random(n) >= world.cal.facts.get("inventory_unlisted_share", 0.0)
    frame = pl.DataFrame(
        {
            "uid": f.uid,
            "node_name": f.name,
            "node_type": pl.Series(f.types, dtype=pl.String).gather(f.type_of),
            "valid_from": datetimes(start),
            "valid_to": datetimes(end),
        }
    )
    if world.kind != "baremetal":
        return frame.clear()
    return frame.filter(pl.Series(keep)).sort("valid_from", "uid")


def doni(world: World) -> Tables:
    """Hardware that was there from 2021 on, its availability windows and worker tasks."""
    rng, f, p, as_of = world.rng("doni"), world.fleet, world.fleet.presence, world.cal.as_of
    n = len(f)
    first, last = np.full(n, FAR), np.zeros(n, dtype=np.int64)
    np.minimum.at(first, p.machine, p.start)
    np.maximum.at(last, p.machine, p.end)
    there = np.flatnonzero((last > DONI_SINCE) & (first < as_of))
    if world.kind == "kvm":
        there = there[:0]
    m = len(there)
    imported = DONI_SINCE + whole(rng.random(m) * 6 * HOUR)
    created = np.where(first[there] < DONI_SINCE, imported, first[there] - HOUR)
    gone = np.where(last[there] >= as_of, NEVER, last[there] + 2 * HOUR)
    gone = np.where(gone >= as_of, NEVER, gone)
    touched = np.where(gone == NEVER, np.maximum(created, as_of - 9 * DAY), gone)
    kind = "device.balena" if world.kind == "device" else "baremetal"
    uid = uuids(rng, m) if world.kind == "device" else f.uid.gather(there)
    properties = [
        json.dumps({"node_type": f.types[f.type_of[i]], "cpus": int(f.resources[i, 0]),
                    "memory_mb": int(f.resources[i, 1]), "local_gb": int(f.resources[i, 2])})
        for i in there
    ]  # fmt: skip
    hardware = pl.DataFrame(
        {
            "uuid": uid,
            "name": f.name.gather(there),
            "project_id": pl.repeat(world.projects[0], m, eager=True),
            "hardware_type": pl.repeat(kind, m, eager=True),
            "properties": pl.Series(properties, dtype=pl.String),
            "created_at": datetimes(created),
            "updated_at": datetimes(touched),
            "deleted": (gone != NEVER).astype(np.int64),
            "deleted_at": datetimes(gone),
        }
    )
    windows = pl.DataFrame(
        {
            "uuid": uuids(rng, m),
            "hardware_uuid": uid,
            "start": datetimes(created),
            "end": datetimes(np.where(gone == NEVER, created + 20 * 365 * DAY, gone)),
            "created_at": datetimes(created),
            "updated_at": datetimes(created),
        }
    )
    tasks = pl.DataFrame(
        {
            "uuid": uuids(rng, 2 * m),
            "hardware_uuid": pl.concat([uid, uid]),
            "worker_type": pl.concat(
                [pl.repeat("ironic", m, eager=True), pl.repeat("blazar.physical_host", m,
                                                              eager=True)]
            ),
            "state": pl.repeat("STEADY", 2 * m, eager=True),
            "created_at": datetimes(np.tile(created, 2)),
            "updated_at": datetimes(np.tile(created + 300, 2)),
        }
    )  # fmt: skip
    return {
        "doni.hardware": hardware,
        "doni.availability_window": windows,
        "doni.worker_task": tasks,
    }


def maintenance(world: World) -> pl.DataFrame:
    """chameleon_usage.node_maintenance: one row per node and (clipped) hour in maintenance.

    The real table's columns are not public: this form is an assumption.
    """
    rng, down = world.rng("node_maintenance"), world.fleet.maintenance
    end = np.minimum(down.end, world.cal.as_of)
    hours = np.maximum(-(-end // HOUR) - down.start // HOUR, 0)
    window = np.repeat(np.arange(len(end)), hours)
    nth = np.arange(len(window)) - np.repeat(np.cumsum(hours) - hours, hours)
    start = (down.start // HOUR)[window] * HOUR + nth * HOUR
    why = pl.Series(["hardware failure", "firmware update", "network", "disk", "power"])
    return pl.DataFrame(
        {
            "id": np.arange(len(window)) + 1,
            "hypervisor_hostname": world.fleet.uid.gather(down.machine[window]),
            "start_time": datetimes(np.maximum(start, down.start[window])),
            "end_time": datetimes(np.minimum(start + HOUR, end[window])),
            "reason": why.gather(rng.integers(0, 5, len(end))[window]),
        }
    )


def ironic_nodes(world: World) -> pl.DataFrame:
    """ironic.nodes: today's nodes; Ironic deletes a row for good.

    A node in maintenance says so, with a fault where Ironic itself gave it up; one that has left
    the pool and is still there is retired.
    """
    rng, f, as_of = world.rng("ironic.nodes"), world.fleet, world.cal.as_of
    p, down, run = f.presence, f.maintenance, world.instances
    first = np.full(len(f), FAR)
    np.minimum.at(first, p.machine, p.start)
    there = np.unique(p.machine[p.end >= as_of])
    touched, built = first.copy(), first.copy()
    for machine, when in ((down.machine, down.start), (down.machine, down.end)):
        past = when < as_of
        np.maximum.at(touched, machine[past], when[past])
    for when in (run.created, run.deleted):
        past = (when != NEVER) & (when < as_of)
        np.maximum.at(built, run.machine[past], when[past])
    broken = np.zeros(len(f), dtype=bool)
    broken[down.machine[(down.start < as_of) & (down.end >= as_of)]] = True
    life = world.plan.enrolments
    pooled = np.zeros(len(f), dtype=bool)
    pooled[life.machine[life.end >= as_of]] = True
    left = np.zeros(len(f), dtype=np.int64)
    np.maximum.at(left, life.machine, np.where(life.end < as_of, life.end, 0))
    retired = ~pooled & (left > 0)
    touched = np.where(retired, np.maximum(touched, left), touched)
    who, _, end = run.occupied(as_of)
    on = np.full(len(f), -1)
    on[run.machine[who[end >= as_of]]] = who[end >= as_of]
    runs, _, end = run.active(as_of)
    up = np.zeros(len(f), dtype=bool)
    up[run.machine[runs[end >= as_of]]] = True
    held = pl.Series(on[there] >= 0)
    given_up = broken & (rng.random(len(f)) < 0.4)
    reason = np.where(given_up, 1, np.where(broken, 2, 0))[there]
    n = len(there)
    return pl.DataFrame(
        {
            "created_at": datetimes(first[there]),
            "updated_at": datetimes(np.maximum(touched, built)[there]),
            "id": np.arange(n) + 1,
            "uuid": f.uid.gather(there),
            "name": f.name.gather(there),
            "instance_uuid": pl.select(
                pl.when(held).then(world.instance_id.gather(np.maximum(on[there], 0)))
            ).to_series(),
            "power_state": pl.Series(["power off", "power on"]).gather(up[there].astype(int)),
            "provision_state": pl.Series(["available", "active"]).gather(
                (on[there] >= 0).astype(int)
            ),
            "provision_updated_at": datetimes(built[there]),
            "maintenance": broken[there].astype(np.int64),
            "maintenance_reason": pl.Series(
                [None, "Failed to get power state", "planned by the operators"], dtype=pl.String
            ).gather(reason),
            "fault": pl.Series([None, "power failure", None], dtype=pl.String).gather(reason),
            "retired": retired[there].astype(np.int64),
            "retired_reason": pl.Series([None, "end of life"], dtype=pl.String).gather(
                retired[there].astype(int)
            ),
        }
    )


def containers(world: World) -> Tables:
    """zun.container with its actions and events; deleted ones are still there before the decay."""
    rng, run, as_of = world.rng("zun"), world.instances, world.cal.as_of
    n, a = len(run), world.instances.actions
    gone = run.deleted != NEVER
    touched = np.minimum(np.where(gone, run.deleted, run.launched), as_of)
    reservation = world.reservation_id.gather(run.lease)
    table = pl.DataFrame(
        {
            "created_at": datetimes(run.created),
            "updated_at": datetimes(touched),
            "id": np.arange(n) + 1,
            "project_id": world.projects.gather(run.project),
            "user_id": world.user_of(run.project, rng),
            "uuid": world.instance_id,
            "name": pl.select(pl.format("container-{}", pl.arange(0, n, eager=True))).to_series(),
            "image": pl.Series(["ubuntu", "python:3", "nginx", "busybox"]).gather(
                rng.integers(0, 4, n)
            ),
            "status": pl.Series(["Running", "Deleted"]).gather(gone.astype(np.int64)),
            "memory": pl.repeat("512", n, eager=True),
            "cpu": np.ones(n),
            "hostname": pl.select(pl.format("c-{}", pl.arange(0, n, eager=True))).to_series(),
            "host": world.fleet.uid.gather(run.machine),
            "disk": np.zeros(n, dtype=np.int64),
            "started_at": datetimes(np.minimum(run.launched, as_of)),
            "container_type": np.zeros(n, dtype=np.int64),
            "annotations": pl.select(
                pl.concat_str(pl.lit('{"reservation": "'), reservation, pl.lit('"}'))
            ).to_series(),
        }
    )
    keep = (a.start < as_of) & np.isin(a.kind, list(CONTAINER_EVENTS))
    a = a.where(keep)
    who, kind, start, finish, ok = a.instance, a.kind, a.start, a.finish, a.ok
    k = len(who)
    done = np.where(finish < as_of, finish, NEVER)
    ids = np.arange(k) + 1
    actions = pl.DataFrame(
        {
            "created_at": datetimes(start),
            "updated_at": datetimes(np.minimum(finish, as_of)),
            "id": ids,
            "action": pl.Series(ACTIONS).gather(kind),
            "container_uuid": world.instance_id.gather(who),
            "request_id": pl.select("req-" + uuids(rng, k)).to_series(),
            "user_id": world.user_of(run.project[who], rng),
            "project_id": world.projects.gather(run.project[who]),
            "start_time": datetimes(start),
            "finish_time": datetimes(done),
            "message": pl.repeat(None, k, dtype=pl.String, eager=True),
        }
    )
    names = list(CONTAINER_EVENTS)
    code = np.array([names.index(x) if x in names else 0 for x in range(len(ACTIONS))])
    result = np.where(done == NEVER, 2, np.where(ok, 0, 1))
    events = pl.DataFrame(
        {
            "created_at": datetimes(start),
            "updated_at": datetimes(np.minimum(finish, as_of)),
            "id": ids,
            "event": pl.Series(list(CONTAINER_EVENTS.values())).gather(code[kind]),
            "action_id": ids,
            "start_time": datetimes(start),
            "finish_time": datetimes(done),
            "result": pl.Series(["Success", "Error", None], dtype=pl.String).gather(result),
        }
    )
    return {
        "zun.container": table,
        "zun.container_actions": actions,
        "zun.container_actions_events": events,
    }
