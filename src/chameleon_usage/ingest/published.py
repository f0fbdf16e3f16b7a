"""The published record of the testbed: machine events -> total, lease files -> committed."""

import polars as pl

from chameleon_usage.ingest.base import present, refuse, speaks_of
from chameleon_usage.intervals.arithmetic import state_intervals
from chameleon_usage.models.frames import conform
from chameleon_usage.models.raw import TIME, RawInputs
from chameleon_usage.models.stages import Ingested, Leases, Profiles
from chameleon_usage.models.vocabulary import BARE_METAL, Reason

MACHINE_EVENTS, PUBLISHED_LEASES = "trace.machine_events", "published.leases"


def _property(name: str) -> pl.Expr:
    """Read one value of the PROPERTIES column, a Python dictionary or a JSON object in text."""
    pattern = rf"""['"]{name.replace(".", "[.]")}['"]: *['"]?([^'",}}]+)"""
    value = pl.col("PROPERTIES").str.extract(pattern)
    return pl.when(~value.is_in(["None", "null"])).then(value)


def machine_events(inputs: RawInputs) -> Ingested:
    """Cloud trace format 0.3 -> total: a host exists from CREATE to DELETE, as often as they come.

    A host whose first CREATE is lost existed at least from its first other event on. ENABLE and
    DISABLE say whether it took leases, UPDATE what it was. Source: the Chameleon cloud
    traces, format of ChameleonCloud/starcompactor.
    """
    events = inputs.get(MACHINE_EVENTS).with_columns(
        pl.col("EVENT").str.strip_chars().str.to_uppercase(),
        entity_id="HOST_NAME (PHYSICAL)",
        hostname="HOST_NAME (PHYSICAL)",
    )
    seen = events.filter(pl.col("EVENT") != "DELETE").group_by("entity_id", "hostname")
    hosts = seen.agg(
        start=pl.col("EVENT_TIME").min(),
        inferred=(pl.col("EVENT") == "CREATE").not_().all(),
        end=pl.lit(None, TIME),
    )
    deletes = events.filter(pl.col("EVENT") == "DELETE")
    never = deletes.join(hosts, on="entity_id", how="anti").select(
        "entity_id", start=None, end="EVENT_TIME"
    )
    good, bad = refuse(pl.concat([hosts, never], how="diagonal"), MACHINE_EVENTS, "entity_id")
    turns = pl.concat(
        [
            good.select("entity_id", timestamp="start", on=pl.lit(value=True)),
            events.filter(pl.col("EVENT").is_in(["CREATE", "DELETE"])).select(
                "entity_id", timestamp="EVENT_TIME", on=pl.col("EVENT") == "CREATE"
            ),
        ]
    ).with_columns(order=pl.col("on").cast(pl.Int64))
    lives = state_intervals(turns, good.select("entity_id", "start", "end"))
    good = lives.join(good.drop("start", "end"), on="entity_id", maintain_order="left")
    gib = 1024**3
    profile = events.with_columns(
        start="EVENT_TIME",
        source=pl.lit(MACHINE_EVENTS),
        host_class=pl.lit(BARE_METAL),
        node_type=_property("node_type"),
        vcpus=_property("architecture.smt_size").cast(pl.Int64, strict=False),
        memory_mb=_property("main_memory.ram_size").cast(pl.Int64, strict=False) // 1024**2,
        disk_gb=_property("storage_devices.0.size").cast(pl.Int64, strict=False) // gib,
    ).unique(["hostname", "start"], keep="first", maintain_order=True)
    return Ingested(
        completeness=speaks_of(MACHINE_EVENTS, "total"),
        intervals=present(
            good.with_columns(host_class=pl.lit(BARE_METAL)), MACHINE_EVENTS, "total"
        ),
        profiles=conform(profile, Profiles),
        rejects=bad,
    )


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
