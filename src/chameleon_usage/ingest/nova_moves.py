"""Nova: where instances were that moved from host to host, and how large they were."""

from datetime import timedelta

import polars as pl

from chameleon_usage.ingest.base import (
    amount,
    host_class,
    positive,
)
from chameleon_usage.models.raw_inputs import RawInputs
from chameleon_usage.models.raw_table import NAME
from chameleon_usage.models.vocabulary import KVM

COMPUTE_NODES, MIGRATIONS = "nova.compute_nodes", "nova.migrations"
INSTANCES, EVENTS = "nova.instances", "nova.instance_actions_events"

FIRST = pl.lit(-1, pl.Int64)
"""Of changes at one instant, that of the row itself comes before those of events."""

CREATE = "compute__do_build_and_run_instance"

ARRIVALS = (
    CREATE,
    "compute_finish_resize",
    "compute_finish_revert_resize",
    "compute_finish_snapshot_based_resize_at_dest",
    "compute_finish_revert_snapshot_based_resize_at_source",
    "compute_post_live_migration_at_destination",
    "compute_rebuild_instance",
    "compute_unshelve_instance",
)
"""Events whose host is where the instance is from their finish on."""

_MOVED, _REVERTED = ("completed", "confirmed", "finished", "done"), "reverted"
"""Statuses of migrations that took place; the last was taken back."""
_LATE = timedelta(minutes=10)
"""An event can end so long after the migration was changed last."""


def moves_of(events: pl.DataFrame, inputs: RawInputs) -> pl.DataFrame:
    """Find the KVM hosts at which instances arrived, in order, and where their size changed.

    On Ironic an event's host is the compute service's, not the node: those are left out. Where an
    event names no host, the migration that it ended does; a migration without an event took place
    when it was changed last. An audit table dates a change of the row itself.

    Returns:
        entity_id, finish (null: from the first), hostname, order; ``old``, the flavor until then,
        of a resize. A row differs from the one before in host or size.
    """
    names = (
        inputs.get(COMPUTE_NODES)
        .filter((host_class() == KVM) & pl.col("host").is_not_null())
        .group_by(pl.col("host").cast(NAME))
        .agg(hostname=pl.col("hypervisor_hostname").unique())
        .filter(pl.col("hostname").list.len() == 1)
        .explode("hostname")
        .cast({"hostname": NAME})
    )
    if names.is_empty():
        return events.select(
            "entity_id", "finish", "order", hostname="host", old=pl.lit(None, pl.Int64)
        ).clear()
    arrivals = (
        events.filter(pl.col("event").is_in(ARRIVALS))
        .join(_built(inputs), on="order", how="left", maintain_order="left")
        .with_columns(host=pl.coalesce("_built", "host"))
        .join(names, on="host", how="left", maintain_order="left")
        .select("entity_id", "event", "finish", "hostname", "order", old=pl.lit(None, pl.Int64))
    )
    migrations = _migrations(inputs, names)
    if migrations.height:
        arrivals = _with_migrations(arrivals, migrations)
    arrivals = pl.concat([arrivals, _audited_moves(inputs, names)], how="diagonal")
    arrivals = arrivals.drop_nulls("hostname").sort("entity_id", "finish", "order")
    elsewhere = pl.col("hostname").ne_missing(pl.col("hostname").shift(1).over("entity_id"))
    return arrivals.filter(elsewhere | pl.col("old").is_not_null())


def _built(inputs: RawInputs) -> pl.DataFrame:
    """Name the last host of builds that went from host to host: order (of the event), _built.

    Nova can write Success to the first one's event.
    """
    builds = inputs.get(EVENTS).filter(pl.col("event") == CREATE)
    several = builds.filter(pl.col("action_id").is_duplicated()).sort("start_time", "id")
    return several.select(order="id", _built=pl.col("host").last().over("action_id"))


def _migrations(inputs: RawInputs, names: pl.DataFrame) -> pl.DataFrame:
    """Give the migrations of KVM instances that took place: from where to where, and when."""
    rows = inputs.get(MIGRATIONS).filter(pl.col("status").is_in([*_MOVED, _REVERTED]))
    kvm = names["hostname"].unique().implode()
    for side in ("source", "dest"):
        of_service = names.select(pl.col("host").alias(f"{side}_compute"), _node="hostname")
        rows = rows.join(of_service, on=f"{side}_compute", how="left", maintain_order="left")
        node = pl.coalesce(f"{side}_node", "_node")
        rows = rows.with_columns(pl.when(node.is_in(kvm)).then(node).alias(side)).drop("_node")
    resize = pl.col("old_instance_type_id") != pl.col("new_instance_type_id")
    return rows.filter(pl.any_horizontal(pl.col("source", "dest").is_not_null())).select(
        "source",
        "dest",
        entity_id="instance_uuid",
        begin="created_at",
        until=pl.coalesce("updated_at", "created_at"),
        reverted=pl.col("status") == _REVERTED,
        before=pl.when(resize).then("old_instance_type_id"),
        after=pl.when(resize).then("new_instance_type_id"),
        migration="id",
    )


def _audited_moves(inputs: RawInputs, names: pl.DataFrame) -> pl.DataFrame:
    """Find the moves between KVM hosts that an audit table dates: entity_id, finish, hostname."""
    kvm = names["hostname"].unique().implode()
    moved = (
        inputs.versions(INSTANCES, told=True)
        .drop_nulls("node")
        .with_columns(_before=pl.col("node").shift(1).over("uuid"))
        .filter(
            (pl.col("node") != pl.col("_before"))
            & pl.all_horizontal(pl.col("node", "_before").is_in(kvm))
            & (pl.col("known") == pl.col("since"))
        )
        .sort("uuid", "since")
    )
    begun = moved.unique("uuid", keep="first", maintain_order=True)
    return pl.concat(
        [
            moved.select(entity_id="uuid", finish="since", hostname="node", order=FIRST),
            begun.select(entity_id="uuid", hostname="_before", order=FIRST),
        ],
        how="diagonal",
    )


def _with_migrations(arrivals: pl.DataFrame, migrations: pl.DataFrame) -> pl.DataFrame:
    """Let migrations tell what arrivals do not: hosts, sizes, and moves without any event."""
    ended = (
        arrivals.filter(pl.col("event").is_in([CREATE, "compute_unshelve_instance"]).not_())
        .select("entity_id", "event", "finish", arrival="order")
        .sort("finish", "arrival")
        .join_asof(
            migrations.sort("begin", "migration"),
            left_on="finish",
            right_on="begin",
            by="entity_id",
            strategy="backward",
            check_sortedness=False,
        )
        .filter(pl.col("finish") <= pl.col("until") + _LATE)
    )
    back = pl.col("event").cast(pl.String).str.contains("_revert_")
    resized = pl.col("event").cast(pl.String).str.contains("_resize")
    told = ended.select(
        order="arrival",
        _there=pl.when(back).then("source").otherwise("dest"),
        _old=pl.when(resized).then(pl.when(back).then("after").otherwise("before")),
    )
    arrivals = arrivals.join(told, on="order", how="left", maintain_order="left").with_columns(
        hostname=pl.coalesce("hostname", "_there"), old="_old"
    )
    untold = migrations.filter(~pl.col("reverted")).join(ended, on="migration", how="anti")
    first = migrations.sort("begin", "migration").unique("entity_id", maintain_order=True)
    placed = arrivals.drop_nulls("hostname").group_by("entity_id").agg(pl.col("finish").min())
    # Where the instance was before its first move, if no event tells.
    begun = first.join(placed, on="entity_id", how="left").filter(
        (pl.col("finish") >= pl.col("begin")).fill_null(value=True)
    )
    columns = ("entity_id", "event", "finish", "hostname", "order", "old")
    return pl.concat(
        [
            arrivals.select(columns),
            untold.select("entity_id", finish="until", hostname="dest", order=FIRST, old="before"),
            begun.select("entity_id", hostname="source", order=FIRST),
        ],
        how="diagonal",
    )


def stays_of(moves: pl.DataFrame) -> pl.DataFrame:
    """Tell where VMs that were moved or resized were, and when.

    An instance's row names its last node and size only; the events by which it arrived tell the
    others. The last stay is the row's own and keeps its key; the n-th before is "<uuid>/<n>".

    Returns:
        instance, entity_id, hostname, start, end, flavor_id (null: as in the row)
    """
    number, last = pl.int_range(pl.len()).over("entity_id"), pl.len().over("entity_id") - 1
    earlier = pl.concat_str(pl.col("entity_id").cast(pl.String), pl.lit("/"), number + 1)
    return moves.filter(pl.len().over("entity_id") > 1).select(
        "hostname",
        instance="entity_id",
        entity_id=pl.when(number == last).then("entity_id").otherwise(earlier.cast(NAME)),
        # Before its first arrival was done, it was already being built there.
        start=pl.when(number > 0).then("finish"),
        end=pl.col("finish").shift(-1).over("entity_id"),
        flavor_id=pl.col("old").shift(-1).backward_fill().over("entity_id"),
    )


def known_of_stays(
    rows: pl.DataFrame, moves: pl.DataFrame, stays: pl.DataFrame, flavors: pl.DataFrame
) -> pl.DataFrame:
    """Give every stay what is known of its instance, with the stay's own host and size.

    A machine that is shelved and offloaded has no node any more; its events tell where it was.
    """
    seat = moves.group_by("entity_id", maintain_order=True).agg(_seat=pl.col("hostname").last())
    seated = rows.join(seat, on="entity_id", how="left").with_columns(
        hostname=pl.coalesce("hostname", "_seat"),
        inferred=pl.col("inferred") | (pl.col("node").is_null() & pl.col("_seat").is_not_null()),
    )
    sizes = flavors.select(
        flavor_id="id",
        _vcpus=positive("vcpus"),
        _memory_mb=positive("memory_mb"),
        _disk_gb=amount(pl.col("root_gb") + pl.col("ephemeral_gb").fill_null(0)),
    )
    earlier = stays.filter(pl.col("instance") != pl.col("entity_id"))
    guests = (
        earlier.select("instance", "flavor_id", _id="entity_id", _host="hostname")
        .join(rows, left_on="instance", right_on="entity_id", how="inner")
        .join(sizes, on="flavor_id", how="left", maintain_order="left")
        .with_columns(
            pl.coalesce(f"_{name}", name).alias(name) for name in ("vcpus", "memory_mb", "disk_gb")
        )
        .with_columns(entity_id="_id", hostname="_host")
    )
    return pl.concat([seated, guests.select(rows.columns)], how="diagonal")


def by_stay(intervals: pl.DataFrame, stays: pl.DataFrame) -> pl.DataFrame:
    """Cut the intervals of migrated VMs at their moves; stays have no gap between them."""
    there = stays.select(entity_id="instance", _id="entity_id", _start="start", _end="end")
    return (
        intervals.join(there, on="entity_id", how="left")
        .select(
            entity_id=pl.coalesce("_id", "entity_id"),
            start=pl.max_horizontal("start", "_start"),
            end=pl.min_horizontal("end", "_end"),
        )
        .filter((pl.col("start") < pl.col("end")).fill_null(value=True))
    )
