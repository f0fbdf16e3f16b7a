"""What Blazar had planned, and when it knew it: allocations as bookings of whole nodes."""

import polars as pl

from chameleon_usage.models.frames import conform
from chameleon_usage.models.raw_inputs import RawInputs
from chameleon_usage.models.stages import Schedule

LEASES = "blazar.leases"


def bookings(inputs: RawInputs, rows: pl.DataFrame) -> pl.DataFrame:
    """Give the bookings of whole nodes, as far as today's rows and earlier snapshots tell.

    A booking is known from the creation of its allocation (of one whose host was written over,
    from then on) until the allocation or its lease was deleted; cancelled leases were booked, too.
    Its end is the lease's ``end_date``. An extension writes over it, so today's value may be later
    than the one of the time: ``overwritten`` says that only a snapshot or an audit table could
    tell, and none does.

    Args:
        inputs: the raw tables.
        rows: allocations of whole hosts or devices with the columns of their lease: id, host_id,
            hostname, lease_id, created_at, lease_created, start_date, end_date, and ``start`` and
            ``end``, when each held its host.

    Returns:
        models.stages.Schedule.
    """
    versions = _versions(inputs)
    planned = rows.with_columns(
        _known_from=pl.max_horizontal("created_at", "lease_created", "moved_at"),
        # What was over before its planned end was deleted then.
        _deleted=pl.when(pl.col("end") < pl.col("end_date")).then("end"),
    )
    told, alone = (planned.join(versions, on="lease_id", how=how) for how in ("inner", "anti"))
    told = told.with_columns(start_date="start_then", end_date="end_then")
    alone = alone.with_columns(overwritten=pl.lit(value=True))
    return conform(
        pl.concat([told, alone], how="diagonal")
        .with_columns(
            entity_id="id",
            known_from=pl.max_horizontal("_known_from", "since"),
            known_to=pl.min_horizontal("_deleted", "until"),
            start="start_date",
            end="end_date",
        )
        .filter(
            pl.col("host_id").is_not_null()
            & (pl.col("start") < pl.col("end"))
            & pl.col("known_from").is_not_null()
            & (pl.col("known_from") < pl.col("known_to")).fill_null(value=True)
        ),
        Schedule,
    )


def _versions(inputs: RawInputs) -> pl.DataFrame:
    """Give the leases of which snapshots or audit tables knew other dates, version by version.

    Returns:
        lease_id, start_then, end_then, since (null: from the first), until (null: to this day),
        overwritten.
    """
    versions = inputs.versions(LEASES, told=True).rename({"id": "lease_id"})
    from_the_first = pl.col("known") <= pl.col("created_at")
    seen = pl.col("since").is_not_null() | from_the_first.fill_null(value=False)
    several = (pl.col("until").is_not_null() | seen).any().over("lease_id")
    return versions.filter(several).select(
        "lease_id",
        "since",
        "until",
        start_then="start_date",
        end_then="end_date",
        overwritten=~seen,
    )
