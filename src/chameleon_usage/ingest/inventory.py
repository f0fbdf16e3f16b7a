"""Inventories: Doni's hardware and the public reference repository -> total."""

import polars as pl

from chameleon_usage.ingest.base import present, refuse, set_aside
from chameleon_usage.models.frames import conform
from chameleon_usage.models.raw_inputs import RawInputs
from chameleon_usage.models.stages import Ingested, Profiles
from chameleon_usage.models.vocabulary import BARE_METAL

HARDWARE, NODE_INTERVALS = "doni.hardware", "inventory.node_intervals"


def hardware(inputs: RawInputs) -> Ingested:
    """doni.hardware -> total, and inventory.node_intervals -> total and node type over time.

    Doni's hardware uuid and the repository's uid are the Ironic node's uuid, which Nova shows as
    hypervisor_hostname. The repository's dates are commit dates: they can lag by days.
    """
    rows = inputs.get(HARDWARE)
    nodes = (pl.col("hardware_type") == "baremetal").fill_null(value=False)
    enrolled = rows.filter(nodes).with_columns(
        entity_id="uuid", hostname="uuid", start="created_at", end="deleted_at"
    )
    listed = inputs.get(NODE_INTERVALS).with_columns(
        entity_id=pl.concat_str("uid", pl.col("valid_from").cast(pl.String), separator="|"),
        hostname="uid",
        start="valid_from",
        end="valid_to",
        host_class=pl.lit(BARE_METAL),
        source=pl.lit(NODE_INTERVALS),
    )
    known, bad = refuse(enrolled, HARDWARE, "entity_id")
    named, worse = refuse(listed, NODE_INTERVALS, "entity_id")
    return Ingested(
        intervals=pl.concat(
            [present(known, HARDWARE, "total"), present(named, NODE_INTERVALS, "total")]
        ),
        profiles=conform(named, Profiles),
        aside=set_aside(rows.filter(~nodes), HARDWARE, "uuid"),
        rejects=pl.concat([bad, worse]),
    )
