"""Blazar: allocations -> committed, and what was booked."""

import polars as pl

from chameleon_usage.ingest import schedule
from chameleon_usage.ingest.base import (
    Joins,
    amount,
    deleted_at,
    deletion_is_inferred,
    flagged_undated,
    join_one,
    present,
    refuse,
    speaks_of,
)
from chameleon_usage.models.metrics import SCHEDULE
from chameleon_usage.models.raw_inputs import RawInputs
from chameleon_usage.models.raw_table import NAME
from chameleon_usage.models.stages import (
    MISSING,
    MORE,
    REPLACED,
    Ingested,
)
from chameleon_usage.models.vocabulary import KVM, Reason

COMPUTEHOSTS, ALLOCATIONS = "blazar.computehosts", "blazar.computehost_allocations"
DEVICES, DEVICE_ALLOCATIONS = "blazar.devices", "blazar.device_allocations"
LEASES, RESERVATIONS = "blazar.leases", "blazar.reservations"
SLICES = "blazar.instance_reservations"

HOST_RESERVATION, DEVICE_RESERVATION = "physical:host", "device"
SLICE_RESERVATIONS = ("flavor:instance", "virtual:instance")
"""Of a slice of a KVM host, as Chameleon's Blazar calls it and as Blazar itself does."""
_ASKED_TYPE = r'"=+",\s*"\$node_type",\s*"([^"]+)"'


def allocation_intervals(
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


def keeps_deleted(inputs: RawInputs, source: str) -> bool:
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
    asks = requests(inputs)
    rows = allocation_intervals(inputs, _given_back(inputs, rows, asks), joins, source)
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
    keeps = keeps_deleted(inputs, source)
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


def requests(inputs: RawInputs) -> pl.DataFrame:
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
        pl.lit(value=not keeps_deleted(inputs, source)) & (pl.col("_from") <= inputs.as_of)
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
