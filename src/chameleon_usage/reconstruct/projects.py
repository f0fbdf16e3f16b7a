"""What each project held of the corrected count, and its sessions; made on request only.

Whole nodes and devices are held by one project at a time: of pieces that overlap, the one that
began first has the node (``holders.merge_held``), and what sits in a lease of a whole node is that
of the lease's project. On KVM the sum of a host's slices is divided among the slices that made it;
where they claim more than their parent holds, those that began first have theirs first. So what
projects held adds up to the segments at every instant, which ``check_division`` asserts.
"""

from dataclasses import dataclass, field

import polars as pl

from chameleon_usage.intervals import arithmetic
from chameleon_usage.intervals.arithmetic import REPORT, ConservationError
from chameleon_usage.models.frames import conform, empty
from chameleon_usage.models.metrics import HELD
from chameleon_usage.models.stages import Holdings, Sessions
from chameleon_usage.reconstruct.observed import HOST, SIZES, UNITS, instances

_FIRST = ("_came", "source", "entity_id")
"""The order in which slices that claim a host get their share of it."""


@dataclass
class Projects:
    """What projects hold, in the making.

    Attributes:
        whole: quantity type to the pieces of whole nodes and devices, disjoint per host.
        slices: quantity type to the shares of sums of KVM hosts.
    """

    whole: dict[str, pl.DataFrame] = field(default_factory=dict)
    slices: dict[str, pl.DataFrame] = field(default_factory=dict)

    def holdings(self, segments: pl.DataFrame) -> pl.DataFrame:
        """Give what projects held (Holdings).

        Args:
            segments: of the corrected collector (Segments), which are divided.

        Raises:
            ConservationError: projects do not hold what the segments say.
        """
        leases = self.whole["committed"].drop_nulls("hostname")
        leases = leases.select("hostname", "start", "end", "project_id")
        parts = []
        for quantity, pieces in self.whole.items():
            whole = pieces
            if quantity.endswith("_reservation"):
                seats = pieces.rename({"project_id": "_own"})
                inside, outside = arithmetic.intersect(seats, leases, HOST)
                whole = pl.concat([inside, outside.with_columns(project_id="_own")], how="diagonal")
            parts += [
                conform(
                    frame.with_columns(pl.col(SIZES).fill_null(0), quantity_type=pl.lit(quantity)),
                    Holdings,
                )
                for frame in (whole, self.slices[quantity])
            ]
        held = pl.concat([empty(Holdings), *parts])
        check_division(segments, held)
        return held


def sessions(pieces: pl.DataFrame) -> pl.DataFrame:
    """Give the instances and containers that are counted (Sessions).

    Args:
        pieces: HeldPieces of instances and containers, of the whole site.
    """
    kind = pl.col("quantity_type").cast(pl.String)
    named = pieces.with_columns(instance=instances(pieces["entity_id"]))
    stays, runs = (named.filter(kind.str.starts_with(of)) for of in ("occupied_", "active_"))
    began = stays.sort("instance", "start", "end", "node_type", "project_id").group_by(
        "instance", maintain_order=True
    )
    ran = runs.group_by("instance").agg(launched_at=pl.col("start").min())
    lives = began.agg(pl.col("project_id", "node_type", "start").first(), pl.col("end").max()).join(
        ran, on="instance", how="left", maintain_order="left"
    )
    return conform(lives, Sessions)


def divide(slots: pl.DataFrame, sums: pl.DataFrame) -> pl.DataFrame:
    """Divide the sums of KVM hosts among the slices that made them.

    Args:
        slots: slices: hostname, node_type, node_size, source, entity_id, start, end and ``UNITS``;
            project_id and further columns are handed on.
        sums: what is counted of them: hostname, node_type, node_size, start, end and ``UNITS``,
            one row at a time for each of the first three; less: not all that the slices claim is
            counted.

    Returns:
        pieces of the slots with their shares of ``UNITS``: at each instant those of a host add up
        to its sum, where what is unknown counts as none.
    """
    key = ["hostname", "_type", "node_size"]
    typed = pl.col("node_type").cast(pl.String).fill_null("").alias("_type")
    claims, sums = slots.with_columns(typed, pl.col(UNITS).fill_null(0)), sums.with_columns(typed)
    whole, _ = arithmetic.intersect(
        claims, arithmetic.union(sums.filter(~pl.col("less")), key), key
    )
    limits = sums.filter("less").select(
        *key,
        "start",
        "end",
        *(pl.col(name).fill_null(0).alias(f"_sum_{name}") for name in UNITS),
        _row=pl.int_range(pl.len()),
    )
    cut, _ = arithmetic.intersect(claims.with_columns(_came="start"), limits, key)
    return pl.concat([whole, _in_turn(cut).select(whole.columns)])


def _in_turn(claims: pl.DataFrame) -> pl.DataFrame:
    """Give the slices that began first their share, and the later ones what is left."""
    borders = pl.concat(claims.select("_row", start=bound) for bound in ("start", "end"))
    steps = (
        borders.unique()
        .sort("_row", "start")
        .with_columns(end=pl.col("start").shift(-1).over("_row"))
        .drop_nulls("end")
    )
    cut, _ = arithmetic.intersect(claims, steps, ["_row"])
    return cut.sort("_row", "start", *_FIRST).with_columns(
        _share(pl.col(name), pl.col(f"_sum_{name}")).alias(name) for name in UNITS
    )


def _share(claim: pl.Expr, limit: pl.Expr) -> pl.Expr:
    """Give what is left of a limit for each claim, once those before it have theirs."""
    upto = claim.cum_sum().over("_row", "start")
    return pl.min_horizontal(upto, limit) - pl.min_horizontal(upto - claim, limit)


def check_division(segments: pl.DataFrame, holdings: pl.DataFrame) -> None:
    """Assert that at every instant projects hold what is counted, in every unit.

    Args:
        segments: Segments of the corrected collector.
        holdings: Holdings.

    Raises:
        ConservationError: they do not; names the quantity type and the time.
    """
    key = ["quantity_type", "node_size"]
    kind = holdings.schema["quantity_type"]
    counted = segments.filter(pl.col("quantity_type").is_in(HELD))
    before, after = (
        arithmetic.sum_overlaps(
            frame.with_columns(pl.col("quantity_type").cast(kind), pl.col(UNITS).fill_null(0)),
            key,
            UNITS,
        )
        for frame in (counted, holdings)
    )
    if not before.equals(after):
        rows = pl.concat([before.with_row_index(), after.with_row_index()])
        first = rows.filter(~rows.is_duplicated()).sort("start").row(0, named=True)
        raise ConservationError(
            f"projects hold other than what is counted as {first['quantity_type']}, "
            f"first at {first['start']:%F %T}; {REPORT}"
        )
