"""Blazar: hosts and devices -> reservable, allocations -> committed, leases -> lead times."""

from collections.abc import Sequence

import polars as pl

from chameleon_usage.ingest import schedule
from chameleon_usage.ingest.base import (
    Joins,
    among,
    amount,
    deleted_at,
    deletion_is_inferred,
    flagged_undated,
    host_class,
    join_one,
    least,
    positive,
    present,
    refuse,
    set_aside,
    speaks_of,
)
from chameleon_usage.models.frames import conform
from chameleon_usage.models.metrics import SCHEDULE
from chameleon_usage.models.raw import LEASE_STARTED, NAME, TIME, RawInputs
from chameleon_usage.models.stages import (
    MISSING,
    MORE,
    REPLACED,
    Ingested,
    Leases,
    Profiles,
    rejects,
)
from chameleon_usage.models.vocabulary import DEVICE, INGEST, KVM, Reason

COMPUTEHOSTS, ALLOCATIONS = "blazar.computehosts", "blazar.computehost_allocations"
DEVICES, DEVICE_ALLOCATIONS = "blazar.devices", "blazar.device_allocations"
LEASES, RESERVATIONS = "blazar.leases", "blazar.reservations"
SLICES = "blazar.instance_reservations"
HOST_PROPERTIES, DEVICE_PROPERTIES = (
    "blazar.computehost_extra_capabilities",
    "blazar.device_extra_capabilities",
)

HOST_RESERVATION, DEVICE_RESERVATION = "physical:host", "device"
SLICE_RESERVATIONS = ("flavor:instance", "virtual:instance")
"""Of a slice of a KVM host, as Chameleon's Blazar calls it and as Blazar itself does."""
NODE_TYPE, GPU_COUNT = "node_type", "gpu.gpu_count"
_ASKED_TYPE = r'"=+",\s*"\$node_type",\s*"([^"]+)"'


def hosts(inputs: RawInputs) -> Ingested:
    """blazar.computehosts -> reservable: one id is one contiguous enrolment.

    From created_at to deleted_at. A row that is not reservable today, or flagged as deleted without
    a date, ended when it was last updated, or when its last allocation did: what is later. A row
    without a created_at, and ids whose row is gone, are told by their allocations.
    """
    rows = inputs.get(COMPUTEHOSTS).with_columns(
        hostname="hypervisor_hostname",
        host_class=host_class(),
        vcpus=positive("vcpus"),
        memory_mb=positive("memory_mb"),
        disk_gb=positive("local_gb"),
    )
    return _pool(inputs, rows, COMPUTEHOSTS, ("reservable",))


def devices(inputs: RawInputs) -> Ingested:
    """blazar.devices -> total and reservable: at the Edge a device is a node."""
    rows = inputs.get(DEVICES).with_columns(hostname="name", host_class=pl.lit(DEVICE))
    return _pool(inputs, rows, DEVICES, ("reservable", "total"))


_OF_POOL = {
    COMPUTEHOSTS: (ALLOCATIONS, "compute_host_id", HOST_PROPERTIES, "computehost_id"),
    DEVICES: (DEVICE_ALLOCATIONS, "device_id", DEVICE_PROPERTIES, "device_id"),
}
"""Table of hosts or devices to their allocations and their properties, table and column each."""


def _pool(
    inputs: RawInputs, rows: pl.DataFrame, source: str, quantities: tuple[str, ...]
) -> Ingested:
    """Make the enrolments of hosts or devices, those whose row is gone or undated included."""
    table, holder, properties, owner = _OF_POOL[source]
    spans = _allocation_intervals(
        inputs, inputs.get(table).rename({holder: "host_id"}), Joins(), source
    )
    still = pl.col("end").is_null()
    by_allocations = (
        spans.filter((pl.col("start") < pl.col("end")) | (pl.col("start").is_not_null() & still))
        .group_by("host_id")
        .agg(
            first=pl.coalesce("created_at", "start").min(),
            last=pl.when(~still.any()).then(pl.col("end").max()),
        )
    )
    # An enrolment ends where its row was deleted, else where its reservable flag was taken away:
    # by Blazar, which dates it, or by hand, which does not; what leases held later was there.
    withdrawn = ((pl.col("reservable") == 0) | flagged_undated()).fill_null(value=False)
    later = withdrawn & pl.col("deleted_at").is_null() & (pl.col("last") > pl.col("updated_at"))
    undated = withdrawn & pl.col("updated_at").is_null() & pl.col("deleted_at").is_null()
    end = pl.when(withdrawn).then(pl.coalesce("updated_at", "last", "created_at"))
    described = (
        rows.join(
            _capabilities(inputs, properties, owner), left_on="id", right_on="owner", how="left"
        )
        .rename({"id": "host_id"})
        .join(by_allocations, on="host_id", how="left")
        .with_columns(
            entity_id="host_id",
            start=pl.coalesce("created_at", "first"),
            end=pl.coalesce("deleted_at", end),
            inferred=pl.col("created_at").is_null() | undated,
        )
    )
    good, bad = refuse(described, source, "entity_id")
    held = described.filter(later).with_columns(
        entity_id=pl.concat_str(pl.col("host_id").cast(pl.String), pl.lit("/held")),
        start=pl.max_horizontal("start", "updated_at"),
        end="last",
        inferred=pl.lit(value=True),
    )
    gone = (
        by_allocations.join(described, on="host_id", how="anti")
        .filter(pl.col("host_id").is_not_null())
        .with_columns(
            entity_id="host_id",
            start=pl.min_horizontal("first", "last"),
            end="last",
            inferred=pl.lit(value=True),
        )
    )
    gone, gone_bad = refuse(gone, source, "entity_id")
    earlier = _earlier(inputs, properties, owner)
    profile = good.filter(pl.col("hostname").is_not_null()).with_columns(source=pl.lit(source))
    profile = pl.concat(
        [
            profile.join(earlier, left_on="host_id", right_on="owner", how="anti"),
            profile.drop("node_type", "gpus")
            .join(earlier, left_on="host_id", right_on="owner", how="inner")
            .with_columns(start=pl.max_horizontal("start", "since")),
        ],
        how="diagonal",
    )
    return Ingested(
        completeness=speaks_of(source, *quantities, keeps=_keeps(inputs, source)),
        intervals=pl.concat([present(rows, source, *quantities) for rows in (good, held, gone)]),
        profiles=conform(profile, Profiles),
        rejects=pl.concat([bad, gone_bad]),
    )


def _capabilities(inputs: RawInputs, table: str, owner: str) -> pl.DataFrame:
    """Read node type and GPU count of each host or device: owner, node_type, gpus."""
    return _told(inputs, inputs.get(table).with_columns(owner=owner), ["owner"])


def _earlier(inputs: RawInputs, table: str, owner: str) -> pl.DataFrame:
    """Read what hosts were before their capabilities were changed: owner, since, node_type, gpus.

    Only of those of which earlier snapshots tell something else; ``since`` is null at first.
    """
    slot = [owner, "property_id", "capability_id", "capability_name"]
    versions = inputs.versions(table, slot).with_columns(owner=owner)
    changed = versions.filter(pl.col("until").is_not_null())
    moments = pl.concat(
        [changed.select("owner", at="until"), changed.select("owner", at=pl.lit(None, TIME))]
    ).unique()
    valid = (pl.col("since") <= pl.col("at")).fill_null(pl.col("since").is_null()) & (
        pl.col("at") < pl.col("until")
    ).fill_null(value=True)
    then = moments.join(versions, on="owner").filter(valid)
    return _told(inputs, then, ["owner", "at"]).rename({"at": "since"})


def _told(inputs: RawInputs, rows: pl.DataFrame, by: Sequence[str]) -> pl.DataFrame:
    """Find node type and GPU count among capabilities: ``by``, node_type, gpus.

    The property's name stands in ``resource_properties`` (property_id), before 2024-01 in
    ``extra_capabilities`` (capability_id), in old dumps in the row itself. Of a property's rows
    those that are not deleted count; of an owner that is gone with all its rows, those deleted
    last.
    """
    names = pl.concat(
        [
            inputs.get("blazar.resource_properties").select("id", "property_name"),
            inputs.get("blazar.extra_capabilities").select("id", property_name="capability_name"),
        ]
    ).unique("id", keep="first", maintain_order=True)
    rows = (
        rows.with_columns(id=pl.coalesce("property_id", "capability_id"))
        .join(names, on="id", how="left")
        .with_columns(
            name=pl.coalesce("property_name", "capability_name"),
            _until=pl.col("deleted_at").fill_null(pl.datetime(9999, 1, 1, time_unit="us")),
        )
        .filter(pl.col("_until") == pl.col("_until").max().over(*by, "name"))
    )

    def values(name: str) -> pl.Expr:
        return pl.col("capability_value").filter(pl.col("name") == name)

    number = values(GPU_COUNT).str.strip_chars().cast(pl.Float64, strict=False)
    counted = number.filter(number.is_between(0, 1024)).max().cast(pl.Int64)
    # A host without the property has no GPU; one whose count cannot be read has an unknown number.
    counted_at_all = values(GPU_COUNT).len() > 0
    return rows.group_by(by).agg(
        node_type=values(NODE_TYPE).max(), gpus=pl.when(counted_at_all).then(counted).otherwise(0)
    )


def _allocation_intervals(
    inputs: RawInputs, allocations: pl.DataFrame, joins: Joins, source: str
) -> pl.DataFrame:
    """Join allocations with their reservation and lease, and tell when each held its host.

    Returns:
        the allocations with lease and reservation columns, ``start`` and ``end``, and whether that
        is ``undated``.
    """
    reservations = inputs.get(RESERVATIONS).select("lease_id", "resource_type", reservation_id="id")
    leases = inputs.get(LEASES).select(
        "start_date",
        "end_date",
        "project_id",
        lease_id="id",
        lease_created="created_at",
        lease_deleted=_deleted(inputs, "start_date", "end_date"),
        lease_undated=deletion_is_inferred(),
    )
    joined = joins.left(f"{source} -> {RESERVATIONS}", allocations, reservations, "reservation_id")
    joined = joins.left(f"{source} -> {LEASES}", joined, leases, "lease_id")
    lease_over = pl.min_horizontal("end_date", "lease_deleted")
    return (
        joined.with_columns(
            start=pl.when(pl.col("start_date").is_not_null()).then(
                pl.max_horizontal("start_date", "lease_created", "created_at")
            ),
            _over=lease_over,
        )
        .with_columns(
            end=pl.min_horizontal("_over", _deleted(inputs, "start", "_over")),
            undated=deletion_is_inferred() | pl.col("lease_undated").fill_null(value=False),
        )
        .drop("_over", "deleted", "deleted_at", "lease_deleted", "lease_undated")
    )


def _keeps(inputs: RawInputs, source: str) -> bool:
    """Tell whether Blazar keeps the rows of a table that it deletes, as Chameleon's does."""
    return source in inputs.tables and f"{source}.deleted_at" not in inputs.absent


def _deleted(inputs: RawInputs, begins: str, ends: str) -> pl.Expr:
    """Tell when a row that holds from ``begins`` to ``ends`` was deleted, null if it was not.

    One that is flagged as deleted, without a date, was changed last when it was deleted, if it held
    then; if it did not hold any more, it ended as planned.
    """
    over = (pl.col(ends) <= inputs.as_of).fill_null(value=False)
    held = (pl.col("updated_at") > pl.col(begins)).fill_null(value=False)
    return pl.when(flagged_undated() & over & ~held).then(None).otherwise(deleted_at())


def allocations(inputs: RawInputs) -> Ingested:
    """blazar.computehost_allocations -> committed, for whole hosts and for slices of KVM hosts.

    An allocation holds its host from the latest of the lease's start and creation and its own
    creation to the earliest of the lease's end and deletion and its own deletion. One that was
    changed meanwhile was given its host then; before, it held another one (``_replaced``).
    """
    rows = inputs.get(ALLOCATIONS).rename({"compute_host_id": "host_id"})
    names = inputs.get(COMPUTEHOSTS).select(host_id="id", hostname="hypervisor_hostname")
    return _committed(inputs, rows, ALLOCATIONS, names, COMPUTEHOSTS)


def device_allocations(inputs: RawInputs) -> Ingested:
    """blazar.device_allocations -> committed."""
    rows = inputs.get(DEVICE_ALLOCATIONS).rename({"device_id": "host_id"})
    names = inputs.get(DEVICES).select(host_id="id", hostname="name")
    return _committed(inputs, rows, DEVICE_ALLOCATIONS, names, DEVICES)


def _committed(
    inputs: RawInputs, rows: pl.DataFrame, source: str, names: pl.DataFrame, host_table: str
) -> Ingested:
    """Say when each allocation held its host, and refuse those that held none."""
    slices = inputs.get(SLICES).select(
        "reservation_id",
        **{name: amount(pl.col(name)) for name in ("vcpus", "memory_mb", "disk_gb")},
    )
    slices = slices.unique("reservation_id", keep="first", maintain_order=True)
    joins = Joins()
    asks = _asks(inputs)
    rows = _allocation_intervals(inputs, _given_back(inputs, rows, asks), joins, source)
    rows = joins.left(f"{source} -> {host_table}", rows, names, "host_id")
    rows = joins.left(f"{source} -> {SLICES}", rows, slices, "reservation_id")
    asked = asks.select("reservation_id", asked="most")
    rows = joins.left(f"{source} -> what is asked", rows, asked, "reservation_id")
    orphan = pl.col("lease_created").is_null() & pl.col("start_date").is_null()
    withdrawn = pl.col("end") <= pl.col("start_date")
    unsized = ~(pl.col("vcpus") > 0).fill_null(value=False)
    reason = (
        pl.when(pl.col("host_id").is_null())
        .then(pl.lit(Reason.NO_HOST))
        .when(pl.col("lease_id").is_null())
        .then(pl.lit(Reason.NO_RESERVATION))
        .when(orphan)
        .then(pl.lit(Reason.NO_LEASE))
        .when(pl.col("end_date") < pl.col("start_date"))
        .then(pl.lit(Reason.END_BEFORE_START))
        .when(withdrawn)
        .then(pl.lit(Reason.WITHDRAWN))
        .when(pl.col("resource_type").is_in(SLICE_RESERVATIONS) & unsized)
        .then(pl.lit(Reason.NO_SLICE_SIZE))
    )
    good, bad = refuse(rows, source, "id", reason)
    held = good.rename({"id": "entity_id"}).with_columns(
        inferred=pl.col("end_date").is_null() | pl.col("undated")
    )
    moved = (pl.col("start") < pl.col("updated_at")) & (
        (pl.col("updated_at") < pl.col("end")).fill_null(value=True)
    )
    moved = moved.fill_null(value=False)
    keeps = _keeps(inputs, source)
    whole = pl.col("resource_type").is_in([HOST_RESERVATION, DEVICE_RESERVATION])
    booked = rows.filter(whole).select(
        *("id", "host_id", "hostname", "lease_id", "created_at", "lease_created"),
        *("start_date", "end_date", "start", "end"),
        moved_at=pl.when(moved).then("updated_at"),
    )
    before = _replaced(held.filter(moved))
    held = held.with_columns(start=pl.when(moved).then("updated_at").otherwise("start"))
    return Ingested(
        completeness=speaks_of(source, "committed", *([SCHEDULE] if keeps else []), keeps=keeps),
        schedule=schedule.bookings(inputs, booked),
        intervals=pl.concat(
            [
                present(held, source, "committed"),
                present(before, LEASES, "committed"),
                present(_unallocated(inputs, source, asks), LEASES, "committed"),
            ]
        ),
        rejects=bad,
        join_log=joins.log(),
    )


def _asks(inputs: RawInputs) -> pl.DataFrame:
    """Read what each reservation asks for: reservation_id, asked_type, asked and most, vcpus."""
    asks = pl.concat(
        [
            inputs.get("blazar.computehost_reservations").select(
                "reservation_id", "resource_properties", "count_range"
            ),
            inputs.get("blazar.device_reservations").select(
                "reservation_id", "resource_properties", "count_range"
            ),
            inputs.get(SLICES).select(
                "reservation_id",
                "vcpus",
                resource_properties=pl.lit(None, NAME),
                count_range=pl.col("amount").cast(pl.String).cast(NAME),
            ),
        ],
        how="diagonal",
    )
    # A few wishes are made again and again: each is read once.
    count = pl.col("count_range").cast(pl.String)
    wish = ["resource_properties", "count_range"]
    wishes = (
        asks.select(wish)
        .unique()
        .with_columns(
            asked_type=pl.col("resource_properties").cast(pl.String).str.extract(_ASKED_TYPE),
            asked=count.str.extract(r"^(\d+)").cast(pl.Int64, strict=False),
            most=count.str.extract(r"(\d+)$").cast(pl.Int64, strict=False),
        )
    )
    asks = asks.join(wishes, on=wish, how="left", nulls_equal=True, maintain_order="left")
    twice = pl.col("reservation_id").is_duplicated()
    last = asks.filter(twice).sort(pl.all()).unique("reservation_id", keep="last")
    return pl.concat([asks.filter(~twice), last])


def _given_back(inputs: RawInputs, rows: pl.DataFrame, asks: pl.DataFrame) -> pl.DataFrame:
    """End allocations that were given back before their lease was deleted.

    Chameleon's Blazar writes the deletion of a lease over that of all its allocations, also of
    those given back long before. A reservation holds no more nodes at once than it asks for at
    most: the one that was made first went when one more was made; of those made at once, nobody
    knows which.
    """
    made = rows.select("id", "reservation_id", "created_at", "deleted_at")
    made, _ = join_one(made, asks.select("reservation_id", "most"), "reservation_id")
    more = made.filter(pl.len().over("reservation_id") > pl.col("most"))
    reservations = inputs.get(RESERVATIONS).select("lease_id", reservation_id="id")
    leases = inputs.get(LEASES).select(lease_id="id", _ended="deleted_at")
    more, _ = join_one(more, reservations, "reservation_id")
    swept = (
        join_one(more, leases, "lease_id")[0]
        .filter(pl.col("deleted_at") == pl.col("_ended"))
        .sort("reservation_id", "created_at", "id")
        .with_columns(_place=pl.int_range(pl.len()).over("reservation_id"))
    )
    later = swept.select(
        "reservation_id", _place=pl.col("_place") - pl.col("most"), _next="created_at"
    )
    ends = swept.join(later, on=["reservation_id", "_place"]).select("id", "_next")
    return (
        join_one(rows, ends, "id")[0]
        .with_columns(deleted_at=pl.coalesce("_next", "deleted_at"))
        .drop("_next")
    )


def _replaced(moved: pl.DataFrame) -> pl.DataFrame:
    """Give what the healer wrote over: until it was changed, an allocation held another host."""
    sliced = pl.col("resource_type").is_in(SLICE_RESERVATIONS)
    return moved.with_columns(
        entity_id=pl.concat_str(pl.col("entity_id").cast(pl.String), pl.lit(REPLACED)).cast(NAME),
        end="updated_at",
        hostname=None,
        host_id=None,
        host_class=pl.when(sliced).then(pl.lit(KVM)),
        inferred=pl.lit(value=True),
    )


_ALLOCATED_BY = {
    ALLOCATIONS: (HOST_RESERVATION, *SLICE_RESERVATIONS),
    DEVICE_ALLOCATIONS: (DEVICE_RESERVATION,),
}
"""Table of allocations to the types of reservations that it serves."""


def _unallocated(inputs: RawInputs, source: str, asks: pl.DataFrame) -> pl.DataFrame:
    """Find the reservations of leases that ran, and of which no allocation is left.

    Blazar deletes them for good when a lease ends (Chameleon's does not, since 2018-07); that the
    lease was ended shows that it had them. How many nodes they were is known where as many were
    asked for at least as at most; which nodes, only their instances can tell.

    Returns:
        entity_id (reservation_id, with ``MORE`` or ``MISSING`` of the nodes that may have been
        held), nodes, vcpus of each slice, host_class of slices, start, end, inferred.
    """
    reservations = inputs.get(RESERVATIONS).filter(
        pl.col("resource_type").is_in(_ALLOCATED_BY[source])
    )
    leases = inputs.get(LEASES).with_columns(
        _until=pl.min_horizontal("end_date", _deleted(inputs, "start_date", "end_date")),
    )
    # Blazar itself gives every lease its hosts when it is made, and keeps no deleted allocation.
    ran = (pl.col("lease_status") == "TERMINATED") | (
        pl.lit(value=not _keeps(inputs, source)) & (pl.col("_from") <= inputs.as_of)
    )
    found = (
        reservations.join(inputs.get(source), left_on="id", right_on="reservation_id", how="anti")
        .join(
            leases.select(
                "project_id",
                "_until",
                lease_id="id",
                lease_status="status",
                _from=pl.max_horizontal("start_date", "created_at"),
            ),
            on="lease_id",
        )
        .filter(ran & (pl.col("_from") < pl.col("_until")))
        .join(
            asks,
            left_on="id",
            right_on="reservation_id",
            how="left",
            maintain_order="left",
        )
        .with_columns(
            start="_from",
            end="_until",
            reservation_id="id",
            host_class=pl.when(pl.col("resource_type").is_in(SLICE_RESERVATIONS)).then(pl.lit(KVM)),
            inferred=pl.lit(value=True),
        )
    )
    # Of a reservation that lost a host, and got none instead, fewer were held than asked for.
    short = (pl.col("missing_resources") == 1).fill_null(value=False)
    least = pl.when(~short).then(pl.min_horizontal("asked", "most")).fill_null(0)
    ending = pl.when(short).then(pl.lit(MISSING)).otherwise(pl.lit(MORE))
    more = pl.concat_str(pl.col("id").cast(pl.String), ending).cast(NAME)
    return pl.concat(
        [
            found.with_columns(entity_id="id", nodes=least),
            found.with_columns(entity_id=more, nodes=pl.coalesce("most", 1) - least),
        ]
    ).filter(pl.col("nodes") > 0)


def leases(inputs: RawInputs) -> Ingested:
    """blazar.leases -> lead times of every lease that asks for nodes.

    Requested: start_date - created_at. Effective: the first successful create among the lease's
    instances - created_at, else the completed start_lease event's updated_at - created_at. A lease
    withdrawn before its start, or never given a node, has no effective lead time unless an
    instance was launched in it or its start event is done.
    """
    asks = _asks(inputs)
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
    hosts_types = _capabilities(inputs, HOST_PROPERTIES, "computehost_id")
    device_types = _capabilities(inputs, DEVICE_PROPERTIES, "device_id")
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
