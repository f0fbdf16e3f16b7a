"""Blazar: leases -> lead times."""

import polars as pl

from chameleon_usage.ingest.base import (
    Joins,
    among,
    join_one,
    least,
    set_aside,
)
from chameleon_usage.ingest.blazar import (
    ALLOCATIONS,
    DEVICE_ALLOCATIONS,
    DEVICE_RESERVATION,
    HOST_RESERVATION,
    LEASES,
    RESERVATIONS,
    SLICE_RESERVATIONS,
    requests,
)
from chameleon_usage.ingest.blazar_hosts import DEVICE_PROPERTIES, HOST_PROPERTIES, capabilities
from chameleon_usage.models.frames import conform
from chameleon_usage.models.raw import LEASE_STARTED
from chameleon_usage.models.raw_inputs import RawInputs
from chameleon_usage.models.stages import (
    Ingested,
    Leases,
    rejects,
)
from chameleon_usage.models.vocabulary import INGEST, Reason


def leases(inputs: RawInputs) -> Ingested:
    """blazar.leases -> lead times of every lease that asks for nodes.

    Requested: start_date - created_at. Effective: the first successful create among the lease's
    instances - created_at, else the completed start_lease event's updated_at - created_at. A lease
    withdrawn before its start, or never given a node, has no effective lead time unless an
    instance was launched in it or its start event is done.
    """
    asks = requests(inputs)
    joins = Joins()
    reservations = inputs.get(RESERVATIONS).rename({"id": "reservation_id"})
    reservations = reservations.filter(
        pl.col("resource_type").is_in([HOST_RESERVATION, *SLICE_RESERVATIONS, DEVICE_RESERVATION])
    )
    given = _nodes_given(inputs, asks.filter(pl.col("asked_type").is_not_null()))
    asked = joins.left("reservations -> what they ask", reservations, asks, "reservation_id")
    asked = joins.left("reservations -> nodes given", asked, given, "reservation_id")
    asked = joins.left(
        "reservations -> first create", asked, _first_creates(inputs), "reservation_id"
    )
    # A replaced host has two rows; no more are held at once than were asked for.
    asked = asked.with_columns(
        given=pl.when(pl.col("given").is_not_null()).then(pl.min_horizontal("given", "most"))
    )
    asked_type, given_type = pl.col("asked_type"), pl.col("given_type")
    several = pl.col("lease_id").is_duplicated()
    by_lease = pl.concat(
        [
            asked.filter(~several).select(
                "lease_id",
                node_type=pl.coalesce(asked_type, given_type),
                asked=pl.col("asked").fill_null(0),
                given=pl.col("given").fill_null(0),
                launched="launched",
            ),
            asked.filter(several)
            .sort("lease_id", "reservation_id")
            .group_by("lease_id")
            .agg(
                node_type=pl.coalesce(
                    asked_type.drop_nulls().first(), given_type.drop_nulls().first()
                ),
                asked=pl.col("asked").sum(),
                given=pl.col("given").sum(),
                launched=pl.col("launched").min(),
            ),
        ]
    )
    started = (
        inputs.get("blazar.events")
        .filter(LEASE_STARTED)
        .select("lease_id", started=pl.coalesce("updated_at", "time"), planned="time")
    )
    every = inputs.get(LEASES).select(
        "created_at", "start_date", "end_date", "deleted_at", "status", lease_id="id"
    )
    every, _ = join_one(every, by_lease, "lease_id")
    of_nodes = pl.col("asked").is_not_null()
    rows = joins.left(
        "leases -> start events", every.filter(of_nodes), least(started, "lease_id"), "lease_id"
    )
    rows, _ = join_one(rows, _extended(inputs), "lease_id")
    undated = rows.filter(pl.col("created_at").is_null())
    dated = rows.filter(pl.col("created_at").is_not_null())
    cancelled = (pl.col("deleted_at") <= pl.col("start_date")).fill_null(value=False)
    # Who deletes a lease touches its events, too: then the event began when it was planned.
    touched = pl.col("started") >= pl.col("deleted_at")
    planned = pl.when(touched.fill_null(value=False)).then(
        pl.max_horizontal("planned", "created_at")
    )
    # Blazar itself keeps no allocation of a lease that ended.
    had_nodes = (pl.col("given") > 0) | (pl.col("status") == "TERMINATED")
    first_start = pl.coalesce(
        "launched",
        pl.when(~cancelled & had_nodes.fill_null(value=False)).then(
            pl.coalesce(planned, "started")
        ),
    )
    lead = dated.with_columns(first_start=first_start).with_columns(
        nodes=pl.when(pl.col("given") > 0).then("given").otherwise("asked"),
        requested_h=(pl.col("start_date") - pl.col("created_at")).dt.total_seconds() / 3600,
        effective_h=(pl.col("first_start") - pl.col("created_at")).dt.total_seconds() / 3600,
        outcome=pl.when(pl.col("first_start").is_not_null())
        .then(pl.lit("started"))
        .when(cancelled)
        .then(pl.lit("cancelled"))
        .when(pl.col("status") == "ERROR")
        .then(pl.lit("error"))
        .when(pl.col("start_date") > inputs.as_of)
        .then(pl.lit("pending"))
        .otherwise(pl.lit("never started")),
    )
    return Ingested(
        leases=conform(lead, Leases),
        aside=set_aside(every.filter(~of_nodes), LEASES, "lease_id"),
        rejects=rejects(
            undated, stage=INGEST, source=LEASES, reason=Reason.NO_CREATED_AT, row_id="lease_id"
        ),
        join_log=joins.log(),
    )


def _extended(inputs: RawInputs) -> pl.DataFrame:
    """Tell of leases with earlier versions whether their end was moved later: lease_id, extended.

    Blazar writes a new end over the old one, so that only earlier snapshots and audit tables tell.
    """
    versions = inputs.versions(LEASES, told=True).filter(pl.len().over("id") > 1)
    later = pl.col("end_date").diff().over("id") > pl.duration(seconds=0)
    return (
        versions.with_columns(later=later)
        .group_by(lease_id="id")
        .agg(extended=pl.col("later").any())
    )


def _nodes_given(inputs: RawInputs, typed: pl.DataFrame) -> pl.DataFrame:
    """Count the hosts, slots or devices of each reservation, and name one's type.

    Args:
        inputs: the raw tables.
        typed: reservations that ask for a type themselves, and need none.
    """
    hosts_types = capabilities(inputs, HOST_PROPERTIES, "computehost_id")
    device_types = capabilities(inputs, DEVICE_PROPERTIES, "device_id")
    given = pl.concat(
        [
            inputs.get(ALLOCATIONS).select("reservation_id", owner="compute_host_id"),
            inputs.get(DEVICE_ALLOCATIONS).select("reservation_id", owner="device_id"),
        ]
    )
    types = (
        given.filter(~among(given, typed, "reservation_id"))
        .join(pl.concat([hosts_types, device_types]), on="owner")
        .group_by("reservation_id")
        .agg(given_type=pl.col("node_type").min())
    )
    counts = given.group_by("reservation_id").agg(given=pl.len().cast(pl.Int64))
    return join_one(counts, types, "reservation_id")[0]


def _first_creates(inputs: RawInputs) -> pl.DataFrame:
    """Find when the first instance or container of each reservation was created with success.

    The event of a build that failed says Success, too; the row then has no launched_at.
    """
    specs = inputs.get("nova_api.request_specs").select(
        "instance_uuid", reservation_id=pl.coalesce("flavor", "hint")
    )
    specs = specs.filter(pl.col("reservation_id").is_not_null())
    rows = inputs.get("nova.instances").select(instance_uuid="uuid", launched="launched_at")
    unlaunched = rows.filter(pl.col("launched").is_null())
    specs = specs.filter(~among(specs, unlaunched, "instance_uuid"))
    created = inputs.get("nova.instance_actions_events").filter(
        (pl.col("event") == "compute__do_build_and_run_instance") & (pl.col("result") == "Success")
    )
    created = created.select("action_id", created=pl.coalesce("finish_time", "start_time"))
    actions = inputs.get("nova.instance_actions").select("instance_uuid", action_id="id")
    created = join_one(created, actions, "action_id")[0].drop("action_id")
    specs, _ = join_one(specs, least(created, "instance_uuid"), "instance_uuid")
    specs, _ = join_one(specs, rows, "instance_uuid")
    instances = specs.select("reservation_id", launched=pl.coalesce("created", "launched"))
    containers = inputs.get("zun.container").select("reservation_id", launched="started_at")
    return least(pl.concat([instances, containers.drop_nulls("reservation_id")]), "reservation_id")
