"""What accidents and operators did to rows that are still there, or no longer.

Each function is one kind of damage of the calibration file, or a few that come together; it returns
the tables after it. Nothing here touches the truth.
"""

from datetime import datetime, timedelta

import numpy as np
import polars as pl

from .clock import DAY, HOUR, datetimes, seconds
from .ids import uuids
from .world import World

Tables = dict[str, pl.DataFrame]

NO_DATE = pl.lit(None, pl.Datetime("us"))
# What a soft delete marks and dates.
DATED = ("nova.compute_nodes", "nova.instances", "blazar.leases", "blazar.computehosts",
         "blazar.computehost_allocations", "blazar.device_allocations")  # fmt: skip
UNDELETED_SINCE = seconds("2023-03-01")  # the sites' move to Nova 2023.1 (assumption)
AWAY_DAYS, NEVER_AGAIN_SHARE = 4.0, 0.1  # of hypervisors that a rebalance lost (assumption)


def _chosen(world: World, kind: str, rows: pl.DataFrame, able: pl.Expr) -> pl.Expr:
    """Whether a row is among those of the able that a kind of damage takes."""
    at = np.flatnonzero(rows.select(able.fill_null(value=False)).to_series().to_numpy())
    hit = np.zeros(len(rows), dtype=bool)
    hit[at[world.cal.some(kind, len(at), world.rng(f"damage: {kind}"))]] = True
    return pl.lit(pl.Series(hit))


def flag_by_sql(world: World, t: Tables) -> Tables:
    """A host was taken out of the pool by plain SQL: its row does not say when."""
    rows = t["blazar.computehosts"]
    taken_out = (pl.col("reservable") == 0) & pl.col("deleted_at").is_null()
    hit = _chosen(world, "flag_by_sql", rows, taken_out)
    old = pl.when(pl.col("id").cast(pl.Int64) % 4 == 1).then(
        pl.col("created_at") + pl.duration(days=1)
    )  # fmt: skip
    changed = pl.when(hit).then(old).otherwise("updated_at")
    rows = rows.with_columns(updated_at=changed, _hit=hit)
    # Every row of that host, earlier ones that are deleted as well.
    all_rows = pl.col("_hit").any().over("hypervisor_hostname")
    flag = pl.when(all_rows).then(0).otherwise("reservable")
    return t | {"blazar.computehosts": rows.with_columns(reservable=flag).drop("_hit")}


def rebalance_lost(world: World, t: Tables) -> Tables:
    """A rebalance deleted a hypervisor's row, and days later or never it was made again."""
    if world.kind != "baremetal":
        return t
    name = "hypervisor_hostname"
    rows = t["nova.compute_nodes"].sort(name, "created_at", "id", nulls_last=True)
    rng = world.rng("damage: hypervisors lost")
    before = pl.col("deleted_at").shift(1).over(name)
    until = pl.coalesce("deleted_at", pl.lit(_as_of(world)))
    soon = pl.col("created_at") - before
    # What a rebalance made anew at once, and what stayed for a while.
    follows = soon.is_between(pl.duration(), pl.duration(minutes=15))
    hit = _chosen(world, "rebalance_lost", rows,
                  follows & (until - pl.col("created_at") > pl.duration(days=2)))  # fmt: skip
    away = pl.lit(pl.Series(rng.exponential(AWAY_DAYS * DAY, len(rows)).astype(np.int64) + HOUR))
    late = pl.min_horizontal(
        pl.col("created_at") + pl.duration(seconds=away), until - pl.duration(hours=1)
    )
    newest = pl.col("id") == pl.col("id").max().over(name)
    never = pl.Series(rng.random(len(rows)) < NEVER_AGAIN_SHARE)
    rows = rows.with_columns(created_at=pl.when(hit).then(late).otherwise("created_at"))
    gone = hit & newest & pl.lit(never) & pl.col("deleted_at").is_null()
    return t | {"nova.compute_nodes": rows.filter(~gone).sort("id")}


def row_undeleted(world: World, t: Tables) -> Tables:
    """A hypervisor that came back got its old row again: nothing tells of the time between."""
    if "nova.compute_nodes" not in t:
        return t
    name = "hypervisor_hostname"
    rows = t["nova.compute_nodes"].sort(name, "created_at", "id", nulls_last=True)
    back = pl.col("created_at") > pl.col("deleted_at").shift(1).over(name) + pl.duration(hours=1)
    back &= pl.col("created_at") > datetimes(np.array([UNDELETED_SINCE]))[0]
    rows = rows.with_columns(_back=_chosen(world, "row_undeleted", rows, back))
    goes_on = pl.col("_back").shift(-1, fill_value=False).over(name)
    taken = {c: pl.when(goes_on).then(pl.col(c).shift(-1).over(name)).otherwise(c)
             for c in ("deleted_at", "updated_at")}  # fmt: skip
    rows = rows.with_columns(**taken).filter(~pl.col("_back")).drop("_back")
    flag = pl.when(pl.col("deleted_at").is_null()).then(0).otherwise("id")
    return t | {"nova.compute_nodes": rows.with_columns(deleted=flag).sort("id")}


def host_row_purged(world: World, t: Tables) -> Tables:
    """A hypervisor was enrolled anew while machines ran on it, and its earlier row purged."""
    if world.kind != "kvm":
        return t
    rows = t["nova.compute_nodes"]
    first = pl.col("id") == pl.col("id").min().over("hypervisor_hostname")
    until = pl.coalesce("deleted_at", pl.lit(_as_of(world)))
    hit = _chosen(world, "host_row_purged", rows, first & pl.col("created_at").is_not_null())
    share = pl.lit(pl.Series(world.rng("damage: purges").uniform(0.1, 0.6, len(rows))))
    later = pl.col("created_at") + pl.duration(
        seconds=((until - pl.col("created_at")).dt.total_seconds() * share).cast(pl.Int64)
    )
    made = rows.with_columns(created_at=pl.when(hit).then(later).otherwise("created_at"))
    anew = made.filter(hit).select(host="hypervisor_hostname", _at="created_at")
    # The service's own row was made anew with it, for every second one.
    anew = anew.with_row_index().filter(pl.col("index") % 2 == 0).drop("index")
    services = t["nova.services"].join(anew, on="host", how="left", maintain_order="left")
    services = services.with_columns(created_at=pl.max_horizontal("created_at", "_at")).drop("_at")
    return t | {"nova.compute_nodes": made, "nova.services": services}


def renamed(world: World, t: Tables) -> Tables:
    """A hypervisor answers under another name: its old row and service live on, without heartbeat.

    What was over by then names it by the old name, and what went on or came later by the new.
    """
    if world.kind != "kvm":
        return t
    out, rng = dict(t), world.rng("damage: new names")
    rows, name = t["nova.compute_nodes"], "hypervisor_hostname"
    once = (pl.len().over(name) == 1) & pl.col("deleted_at").is_null()
    once &= pl.col("created_at") < _as_of(world) - timedelta(days=400)
    reports = t["nova.services"].filter(pl.col("deleted_at").is_null())["host"]
    once &= pl.col(name).is_in(reports.implode())
    chosen = rows.filter(_chosen(world, "renamed", rows, once))
    for host, made in chosen.select(name, "created_at").rows():
        was = host.split(".")[0]
        at = (made + (_as_of(world) - made) * rng.uniform(0.2, 0.8)).replace(microsecond=0)
        over = (pl.col("deleted_at") < at).fill_null(value=False)
        for table, columns, then in (
            ("nova.instances", ("node", "host"), over),
            ("nova.instance_actions_events", ("host",), pl.col("start_time") < at),
            ("nova.migrations", ("source_compute", "source_node"), pl.col("created_at") < at),
            ("nova.migrations", ("dest_compute", "dest_node"), pl.col("created_at") < at),
        ):
            out[table] = out[table].with_columns(
                pl.when((pl.col(c) == host) & then).then(pl.lit(was)).otherwise(c).alias(c)
                for c in columns
            )
        for table, column in (("nova.compute_nodes", name), ("nova.services", "host")):
            rows = out[table]
            mine = (pl.col(column) == host) & pl.col("deleted_at").is_null()
            stale = dict.fromkeys({"host", column}, was)
            stale |= {c: at for c in ("updated_at", "last_seen_up") if c in rows.columns}
            old = rows.filter(mine).with_columns(
                **{c: pl.lit(v) for c, v in stale.items()},
                id=pl.col("id") + rows["id"].max(), uuid=uuids(rng, 1),
            )  # fmt: skip
            begun = pl.when(mine).then(pl.lit(at)).otherwise("created_at")
            out[table] = pl.concat([rows.with_columns(created_at=begun), old])
    return out


def deleted_without_date(world: World, t: Tables) -> Tables:
    """A row says that it is deleted, and not when."""
    out = dict(t)
    for table in DATED:
        if table in t and len(t[table]):
            rows = t[table]
            gone = pl.col("deleted_at").is_not_null() & pl.col("deleted").is_not_null()
            at = np.flatnonzero(rows.select(gone).to_series().to_numpy())
            rng = world.rng(f"damage: no date in {table}")
            hit = np.zeros(len(rows), dtype=bool)
            hit[at[world.cal.some("deleted_without_date", len(at), rng)]] = True
            dated = pl.when(~pl.lit(pl.Series(hit))).then("deleted_at")
            out[table] = rows.with_columns(deleted_at=dated)
    return out


def clock_ahead(world: World, t: Tables) -> Tables:
    """Some rows were last changed, and a few instances asked for in vain, in days to come."""
    out, n = dict(t), round(world.cal.share("clock_ahead"))
    for table in ("nova.compute_nodes", "nova.services", "nova.instances"):
        if table in t and n:
            rows, rng = t[table], world.rng(f"damage: {table} of the future")
            live = np.flatnonzero(rows["deleted_at"].is_null().to_numpy())
            hit = np.zeros(len(rows), dtype=bool)
            hit[rng.permutation(live)[:n]] = True
            ahead = pl.lit(_as_of(world) + timedelta(days=400))
            out[table] = rows.with_columns(
                updated_at=pl.when(pl.lit(pl.Series(hit))).then(ahead).otherwise("updated_at")
            )
    if "nova.instances" in t and n:
        rows, rng = out["nova.instances"], world.rng("damage: instances of the future")
        failed = rows.filter(pl.col("launched_at").is_null()).head(n)
        top = int(rows["id"].max())  # type: ignore[arg-type]
        later = pl.lit(_as_of(world) + timedelta(days=3))
        odd = failed.with_columns(
            id=pl.Series(np.arange(len(failed)) + top + 1), uuid=uuids(rng, len(failed)),
            created_at=later, updated_at=later, deleted_at=NO_DATE, terminated_at=NO_DATE,
            deleted=pl.lit(0, pl.Int64), vm_state=pl.lit("error"),
        )  # fmt: skip
        out["nova.instances"] = pl.concat([rows, odd])
    return out


def interrupt(world: World, t: Tables) -> Tables:
    """An archiving was broken off: some archived rows are in the live table as well.

    Every second of them is there as it was before it was deleted, as a restored backup has it.
    """
    if not len(t.get("nova.shadow_instances", pl.DataFrame())):
        return t
    gone = t["nova.shadow_instances"]
    at = world.cal.some("archive_interrupted", len(gone), world.rng("damage: archive"))
    both = gone[at.tolist()].with_row_index()
    earlier = pl.col("index") % 2 == 1
    was = pl.coalesce("launched_at", "created_at")
    both = both.with_columns(
        deleted_at=pl.when(~earlier).then("deleted_at"),
        terminated_at=pl.when(~earlier).then("terminated_at"),
        updated_at=pl.when(earlier).then(was).otherwise("updated_at"),
        deleted=pl.when(earlier).then(0).otherwise("deleted"),
        cleaned=pl.when(earlier).then(0).otherwise("cleaned"),
        vm_state=pl.when(earlier).then(pl.lit("active")).otherwise("vm_state"),
    ).drop("index")
    return t | {"nova.instances": pl.concat([t["nova.instances"], both]).sort("id")}


def _as_of(world: World) -> datetime:
    now: datetime = datetimes(np.array([world.cal.as_of]))[0]
    return now


STEPS = (
    flag_by_sql,
    row_undeleted,
    rebalance_lost,
    host_row_purged,
    clock_ahead,
    renamed,
    deleted_without_date,
)
