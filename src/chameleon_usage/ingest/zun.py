"""Zun: containers on edge devices -> occupied and active."""

import polars as pl

from chameleon_usage.ingest.base import (
    Ingested,
    Joins,
    entities,
    facts,
    refuse_bad_bounds,
    speaks_of,
)
from chameleon_usage.models.raw import RawInputs

CONTAINERS = "zun.container"
_RUNNING = "Running"
_GONE = ("Deleted", "Deleting", "Error")


def containers(inputs: RawInputs) -> Ingested:
    """zun.container -> occupied (it sits on the device) and active (it runs).

    Zun deletes rows for good, and with them their actions: what the table holds is the present.
    A container runs from its started_at; one that no longer runs stopped when it was last updated.
    """
    joins = Joins()
    deleted = (
        joins.left(
            "zun.container_actions -> zun.container_actions_events",
            inputs.get("zun.container_actions").filter(
                pl.col("action").is_in(["delete", "kill", "stop"])
            ),
            inputs.get("zun.container_actions_events")
            .filter(pl.col("result") == "Success")
            .group_by(id="action_id")
            .agg(done=pl.col("finish_time").max()),
            "id",
        )
        .with_columns(done=pl.coalesce("done", "finish_time"))
        .group_by("container_uuid")
        .agg(
            deleted=pl.col("done").filter(pl.col("action") == "delete").max(),
            stopped=pl.col("done").filter(pl.col("action") != "delete").max(),
        )
    )
    rows = (
        inputs.get(CONTAINERS)
        .join(deleted, left_on="uuid", right_on="container_uuid", how="left")
        .with_columns(
            entity_id="uuid",
            hostname="host",
            start="created_at",
            end=pl.coalesce("deleted", pl.when(pl.col("status").is_in(_GONE)).then("updated_at")),
        )
    )
    good, bad = refuse_bad_bounds(rows, stage="ingest", source=CONTAINERS, row_id="uuid")
    halted = pl.when(pl.col("status") != _RUNNING).then(pl.coalesce("stopped", "updated_at"))
    runs = good.with_columns(start="started_at", end=pl.min_horizontal("end", halted)).filter(
        pl.col("start").is_not_null() & (pl.col("start") < pl.col("end")).fill_null(value=True)
    )
    # Ids count up, so the ids that are missing tell how many rows were deleted for good.
    ever = inputs.get(CONTAINERS)["id"].max()
    share = inputs.get(CONTAINERS).height / ever if isinstance(ever, int) and ever > 0 else 0.0
    return Ingested(
        completeness=pl.concat(
            [
                speaks_of(
                    CONTAINERS,
                    "occupied_reservation",
                    "active_reservation",
                    share=min(share, 1.0),
                ),
                speaks_of(CONTAINERS, "occupied_ondemand", "active_ondemand"),
            ]
        ),
        facts=pl.concat([facts(good, CONTAINERS, "occupied"), facts(runs, CONTAINERS, "active")]),
        entities=pl.concat(
            [entities(good, CONTAINERS, "occupied"), entities(runs, CONTAINERS, "active")]
        ),
        rejects=bad,
        join_log=joins.log(),
    )
