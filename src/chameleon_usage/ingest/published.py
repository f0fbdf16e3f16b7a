"""Published lease files -> committed, without hosts, and requested lead times."""

import polars as pl

from chameleon_usage.ingest.base import present, refuse, speaks_of
from chameleon_usage.models.frames import conform
from chameleon_usage.models.raw_inputs import RawInputs
from chameleon_usage.models.stages import Ingested, Leases
from chameleon_usage.models.vocabulary import BARE_METAL, Reason

PUBLISHED_LEASES = "published.leases"


def leases(inputs: RawInputs) -> Ingested:
    """Published lease files -> committed (node_cnt nodes, no host named) and requested lead time.

    Source: CHISim (github.com/VUZhuangweiKang/CHISim), datasets/lease_info. Its makers dropped
    leases in error; instances are not published, so there is no effective lead time.
    """
    rows = inputs.get(PUBLISHED_LEASES).with_columns(
        entity_id="lease_id",
        nodes=pl.col("node_cnt"),
        host_class=pl.lit(BARE_METAL),
        start=pl.max_horizontal("start_on", "created_at"),
        end=pl.min_horizontal("end_on", "deleted_at"),
    )
    withdrawn = (pl.col("deleted_at") <= pl.col("start_on")).fill_null(value=False)
    lead = rows.filter(pl.col("created_at").is_not_null()).with_columns(
        requested_h=(pl.col("start_on") - pl.col("created_at")).dt.total_seconds() / 3600,
        outcome=pl.when(withdrawn).then(pl.lit("cancelled")).otherwise(pl.lit("started")),
    )
    nodeless = ~(pl.col("nodes") > 0).fill_null(value=False)
    reason = (
        pl.when(withdrawn)
        .then(pl.lit(Reason.WITHDRAWN))
        .when(nodeless)
        .then(pl.lit(Reason.NO_NODES))
    )
    good, bad = refuse(rows, PUBLISHED_LEASES, "lease_id", reason)
    return Ingested(
        completeness=speaks_of(PUBLISHED_LEASES, "committed"),
        intervals=present(good, PUBLISHED_LEASES, "committed"),
        leases=conform(lead, Leases),
        rejects=bad,
    )
