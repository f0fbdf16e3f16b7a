"""What history did to the tables: hard deletes, purges, overwritten and impossible rows, by era.

Nothing here touches the truth. Eras follow what is known of the real databases: Nova's host rows
begin with restored backups in 2018, Blazar soft-deletes leases and allocations since 2018-07 and
hosts since 2022-05, request_specs of old instances are purged, containers are hard-deleted.
"""

import numpy as np
import polars as pl

from . import damage, tables_blazar
from .clock import DAY, NEVER, datetimes, seconds
from .ids import uuids
from .scheduler import CANCELLED
from .world import World

Tables = dict[str, pl.DataFrame]

SOFT_DELETE_SINCE = seconds("2018-07-01")  # leases and allocations
HOST_SOFT_DELETE_SINCE = seconds("2022-05-01")


def _before(column: str, when: int) -> pl.Expr:
    return (pl.col(column) < datetimes(np.array([when]))[0]).fill_null(value=False)


def decay(world: World, tables: Tables) -> Tables:
    """The tables as they are today; the input stays as it was."""
    out = dict(tables)
    for step in (_touched, _nova_hosts, _rebuilt, _pool, _allocations, _leases, _specs, _events,
                 _orphans, *damage.STEPS, _impossible, _containers, _archive,
                 damage.interrupt):  # fmt: skip
        out = step(world, out)
    return out


def _touched(_world: World, t: Tables) -> Tables:
    """Who deletes a lease softly touches its events: when it started is overwritten."""
    events = t["blazar.events"]
    return t | {
        "blazar.events": events.with_columns(updated_at=pl.coalesce("deleted_at", "updated_at"))
    }


def _nova_hosts(world: World, t: Tables) -> Tables:
    """Rows deleted before the backups were restored are gone.

    Some machines were never cleaned up, and some rows lost their creation date.
    """
    if "nova.compute_nodes" not in t:
        return t
    rng, rows = world.rng("decay of compute_nodes"), t["nova.compute_nodes"]
    stages = world.cal.facts.get("nova_recreated", [])
    if stages:
        rows = rows.filter(~_before("deleted_at", seconds(stages[-1]["at"]) + DAY))
        late = pl.Series(datetimes(np.array([seconds("2021-12-14")])))[0]
        last = rows.group_by("hypervisor_hostname").agg(pl.col("deleted_at").max(),
                                                        pl.col("id").last())  # fmt: skip
        gone = last.filter(
            ~_before("deleted_at", seconds("2019-09-01"))
            & _before("deleted_at", seconds("2021-07-01"))
        ).sort("id")
        n = max(1, round(0.02 * len(gone))) if len(gone) else 0
        kept = gone["id"].gather(rng.choice(len(gone), n, replace=False)) if n else gone["id"]
        rows = rows.with_columns(
            pl.when(pl.col("id").is_in(kept.implode()))
            .then(pl.lit(late))
            .otherwise("deleted_at")
            .alias("deleted_at")
        )
    share = world.cal.share("no_created_at")
    lost = rng.random(len(rows)) < share
    lost[-1] = share > 0
    rows = rows.with_columns(pl.when(~pl.Series(lost)).then("created_at").alias("created_at"))
    return t | {"nova.compute_nodes": rows}


def _rebuilt(world: World, t: Tables) -> Tables:
    """A node rebuilt in place kept its Blazar row: what it was before is overwritten."""
    e, former = world.plan.enrolments, world.fleet.former.tolist()
    if max(former) < 0:
        return t
    ids = tables_blazar.enrolment_ids(world)
    times = [x.tolist() for x in (e.machine, e.start, e.end)]
    ended = {(m, end): i for i, (m, _, end) in enumerate(zip(*times, strict=True))}
    pairs = [
        (i, ended[former[m], start])
        for i, (m, start, _) in enumerate(zip(*times, strict=True))
        if former[m] >= 0 and (former[m], start) in ended
    ]
    new, old = (ids.gather(list(rows)) for rows in zip(*pairs, strict=True))
    first = t["blazar.computehosts"].select(_old="id", _made="created_at")
    kept = pl.DataFrame({"_new": new, "_old": old}).join(first, on="_old")
    hosts = (
        t["blazar.computehosts"]
        .filter(~pl.col("id").is_in(old.implode()))
        .join(kept, left_on="id", right_on="_new", how="left", maintain_order="left")
        .with_columns(
            created_at=pl.coalesce("_made", "created_at"),
            deleted=pl.when(pl.col("deleted_at").is_not_null()).then(pl.coalesce("_old", "id")),
            id=pl.coalesce("_old", "id"),
        )
        .drop("_old", "_made")
    )
    capabilities = (
        t["blazar.computehost_extra_capabilities"]
        .filter(~pl.col("computehost_id").is_in(old.implode()))
        .join(kept, left_on="computehost_id", right_on="_new", how="left", maintain_order="left")
        .with_columns(
            created_at=pl.coalesce("_made", "created_at"),
            computehost_id=pl.coalesce("_old", "computehost_id"),
        )
        .drop("_old", "_made")
    )
    return t | {
        "blazar.computehosts": hosts,
        "blazar.computehost_extra_capabilities": capabilities,
        "blazar.computehost_allocations": t["blazar.computehost_allocations"].with_columns(
            pl.col("compute_host_id").replace(new, old)
        ),
    }


def _pool(_world: World, t: Tables) -> Tables:
    """Hosts removed from Blazar before 2022-05 left no trace, nor did their capabilities."""
    hosts = t["blazar.computehosts"].filter(~_before("deleted_at", HOST_SOFT_DELETE_SINCE))
    capabilities = t["blazar.computehost_extra_capabilities"].join(
        hosts.select(computehost_id="id"), on="computehost_id", how="semi", maintain_order="left"
    )
    return t | {
        "blazar.computehosts": hosts,
        "blazar.computehost_extra_capabilities": capabilities,
    }


def _allocations(world: World, t: Tables) -> Tables:
    """Removed one by one before 2018-07: gone. Replaced in place: the earlier host is lost."""
    rows, a = t["blazar.computehost_allocations"], world.plan.allocations
    if not len(rows):
        return t
    lease = world.plan.leases
    over = np.where(lease.deleted == NEVER, lease.end, np.minimum(lease.end, lease.deleted))
    alone = (a.deleted != NEVER) & (a.deleted < over[a.lease] - 1)
    lost = alone & (a.deleted < SOFT_DELETE_SINCE) & ~a.in_place
    ended = (lease.deleted[a.lease] == NEVER) & (a.deleted < SOFT_DELETE_SINCE) & ~alone
    place = np.flatnonzero(a.in_place & (a.heir >= 0))
    heir = a.heir[place]
    once = ~np.isin(heir, place)  # an heir replaced in its turn keeps its row
    place, heir = place[once], heir[once]
    source_row = np.arange(len(a))
    source_row[place] = heir
    lost[heir] = True
    moved = rows.select("compute_host_id", "deleted", "deleted_at", "updated_at")[
        source_row.tolist()
    ]
    own = rows["id"]
    rows = rows.with_columns(moved["compute_host_id"], moved["deleted_at"], moved["updated_at"])
    rows = rows.with_columns(
        deleted_at=pl.when(~pl.Series(ended)).then("deleted_at"),
    ).with_columns(deleted=pl.when(pl.col("deleted_at").is_not_null()).then(own))
    return t | {"blazar.computehost_allocations": rows.filter(~pl.Series(lost))}


def _leases(world: World, t: Tables) -> Tables:
    """Before the soft delete some leases went with all their rows.

    All that were cancelled before their start, and a few that were deleted when they were over.
    """
    lease, run = world.plan.leases, world.instances
    if world.kind != "baremetal":
        return t
    over = np.where(lease.deleted == NEVER, lease.end, lease.deleted)
    used = np.zeros(len(lease), dtype=bool)
    used[run.lease[run.launched != NEVER]] = True
    old = np.flatnonzero(used & (over < SOFT_DELETE_SINCE))
    gone = (lease.outcome == CANCELLED) & (over < SOFT_DELETE_SINCE)
    gone[old[world.cal.some("lease_gone", len(old), world.rng("leases deleted for good"))]] = True
    ids = world.lease_id.filter(pl.Series(gone)).implode()
    reservations = world.reservation_id.filter(pl.Series(gone)).implode()
    by_lease = ~pl.col("lease_id").is_in(ids)
    by_reservation = ~pl.col("reservation_id").is_in(reservations)
    return t | {
        "blazar.leases": t["blazar.leases"].filter(~pl.col("id").is_in(ids)),
        "blazar.reservations": t["blazar.reservations"].filter(by_lease),
        "blazar.events": t["blazar.events"].filter(by_lease),
        "blazar.computehost_reservations": t["blazar.computehost_reservations"].filter(
            by_reservation
        ),
        "blazar.computehost_allocations": t["blazar.computehost_allocations"].filter(
            by_reservation
        ),
    }


def _specs(world: World, t: Tables) -> Tables:
    """Old instances lost their specs; other specs outlived their instances."""
    if "nova_api.request_specs" not in t:
        return t
    rng, rows = world.rng("decay of request_specs"), t["nova_api.request_specs"]
    wanted = world.cal.rows("nova_api.request_specs")
    n = len(rows)
    share = world.cal.facts.get("archived_share", 0.0)
    orphans = max(int(0.02 * n), wanted - n) if not share else max(0, wanted - n)
    purge = round(max(0, n + orphans - wanted) * world.cal.share("purged_specs"))
    old = np.flatnonzero(world.instances.deleted != NEVER)
    old = old[: max(purge, len(old) // 2)]
    lost = np.zeros(n, dtype=bool)
    lost[rng.choice(old, min(purge, len(old)), replace=False)] = True
    kept = rows.filter(~pl.Series(lost))
    stray = rows[np.sort(rng.integers(0, n, orphans)).tolist()]
    stray = stray.with_columns(
        pl.Series("id", np.arange(orphans) + n + 1), pl.Series("new", uuids(rng, orphans))
    )
    named = pl.concat_str(pl.lit('"instance_uuid": "'), "new", pl.lit('"'))
    stray = stray.with_columns(pl.col("spec").str.replace(r'"instance_uuid": "[^"]*"', named))
    stray = stray.with_columns(instance_uuid="new").drop("new")
    return t | {"nova_api.request_specs": pl.concat([kept, stray])}


def _events(world: World, t: Tables) -> Tables:
    """Some events lost their finish."""
    if "nova.instance_actions_events" not in t:
        return t
    events = t["nova.instance_actions_events"]
    lost = world.rng("decay of events").random(len(events)) < world.cal.share("no_finish_time")
    events = events.with_columns(pl.when(~pl.Series(lost)).then("finish_time").alias("finish_time"))
    return t | {"nova.instance_actions_events": events}


def _orphans(world: World, t: Tables) -> Tables:
    """A handful of reservations is gone while their allocations are still there."""
    rng, rows = world.rng("decay of reservations"), t["blazar.reservations"]
    old = np.flatnonzero(rows["created_at"].to_numpy() < np.datetime64("2018-07-01"))
    lost = np.zeros(len(rows), dtype=bool)
    lost[rng.permutation(old)[: round(world.cal.share("orphan_allocations"))]] = True
    return t | {"blazar.reservations": rows.filter(~pl.Series(lost))}


def _impossible(world: World, t: Tables) -> Tables:
    """A handful of rows that cannot be: ends before starts, ends in the year 9999, no creation."""
    rng, handful = world.rng("impossible rows"), round(world.cal.share("impossible_rows"))
    out = dict(t)
    leases = t["blazar.leases"]
    some = leases[np.sort(rng.choice(len(leases), min(2 * handful, len(leases)),
                                     replace=False)).tolist()]  # fmt: skip
    backwards = some.head(handful).with_columns(
        end_date=pl.col("start_date") - pl.duration(hours=5), id=uuids(rng, len(some.head(handful)))
    )
    forever = some.tail(handful).with_columns(
        end_date=pl.datetime(9999, 12, 31, 23, 59, 59), id=uuids(rng, len(some.tail(handful))),
        status=pl.lit("ERROR"),
    )  # fmt: skip
    out["blazar.leases"] = pl.concat([leases, backwards, forever])
    if "nova.instances" in t:
        rows = t["nova.instances"]
        n = min(handful, len(rows) // 4)
        picks = np.sort(rng.choice(len(rows), 2 * n, replace=False))
        top = int(rows["id"].max() or 0)  # type: ignore[arg-type]
        odd = rows[picks[:n].tolist()].with_columns(
            id=pl.Series(np.arange(n) + top + 1), uuid=uuids(rng, n),
            deleted_at=pl.col("created_at") - pl.duration(hours=3),
        )  # fmt: skip
        odd = odd.with_columns(deleted="id")
        nothing = rows[picks[n:].tolist()].with_columns(
            id=pl.Series(np.arange(n) + top + n + 1), uuid=uuids(rng, n),
            created_at=pl.lit(None, pl.Datetime("us")), launched_at=pl.lit(None, pl.Datetime("us")),
        )  # fmt: skip
        out["nova.instances"] = pl.concat([rows, odd, nothing])
    return out


def _containers(world: World, t: Tables) -> Tables:
    """Deleted containers are gone, their actions with them."""
    if "zun.container" not in t:
        return t
    n = world.cal.rows("zun.container")
    kept = t["zun.container"].filter(pl.col("status") != "Deleted").tail(n)
    actions = t["zun.container_actions"].join(
        kept.select(container_uuid="uuid"), on="container_uuid", how="semi", maintain_order="left"
    )
    events = t["zun.container_actions_events"].join(
        actions.select(action_id="id"), on="action_id", how="semi", maintain_order="left"
    )
    return t | {
        "zun.container": kept,
        "zun.container_actions": actions,
        "zun.container_actions_events": events,
    }


def _archive(world: World, t: Tables) -> Tables:
    """Some of the deleted instances were archived into the shadow tables."""
    share = world.cal.facts.get("archived_share")
    if not share:
        return t
    rng, rows = world.rng("archive"), t["nova.instances"]
    old = np.flatnonzero(
        (rows["deleted"] != 0).to_numpy()
        & (rows["created_at"].fill_null(pl.datetime(2100, 1, 1)).to_numpy()
           < np.datetime64("2023-01-01"))
    )  # fmt: skip
    n = min(len(old), round(share * len(rows)))
    moved = np.zeros(len(rows), dtype=bool)
    moved[rng.choice(old, n, replace=False)] = True
    shadow = rows.filter(pl.Series(moved))
    migrations = t["nova.migrations"]
    actions, events = t["nova.instance_actions"], t["nova.instance_actions_events"]
    key = shadow.select(instance_uuid="uuid")
    shadow_actions = actions.join(key, on="instance_uuid", how="semi", maintain_order="left")
    action_key = shadow_actions.select(action_id="id")
    return t | {
        "nova.instances": rows.filter(~pl.Series(moved)),
        "nova.shadow_instances": shadow,
        "nova.instance_actions": actions.join(
            key, on="instance_uuid", how="anti", maintain_order="left"
        ),
        "nova.shadow_instance_actions": shadow_actions,
        "nova.migrations": migrations.join(
            key, on="instance_uuid", how="anti", maintain_order="left"
        ),
        "nova.shadow_migrations": migrations.join(
            key, on="instance_uuid", how="semi", maintain_order="left"
        ),
        "nova.instance_actions_events": events.join(
            action_key, on="action_id", how="anti", maintain_order="left"
        ),
        "nova.shadow_instance_actions_events": events.join(
            action_key, on="action_id", how="semi", maintain_order="left"
        ),
    }
