"""Zun: containers on edge devices -> occupied and active."""

import polars as pl

from chameleon_usage.ingest.base import Joins, present, refuse, speaks_of
from chameleon_usage.intervals.arithmetic import state_intervals
from chameleon_usage.models.raw import CONTAINER_OVER
from chameleon_usage.models.raw_inputs import RawInputs
from chameleon_usage.models.stages import Ingested

CONTAINERS, ACTIONS, EVENTS = (
    "zun.container",
    "zun.container_actions",
    "zun.container_actions_events",
)
_RUNS = pl.DataFrame(
    {
        "action": ["start", "reboot", "unpause", "stop", "kill", "pause"],
        "on": [True, True, True, False, False, False],
    }
)
"""What a successful action makes of a container: whether it runs from its finish on."""


def containers(inputs: RawInputs) -> Ingested:
    """zun.container and its actions -> occupied (it sits on the device) and active (it runs).

    Zun deletes rows for good, and with them their actions: what the table holds is the present.
    A container runs from its started_at, or its create event's finish, on; its successful events
    tell when it stopped and started again.
    """
    joins = Joins()
    events = joins.left(
        "zun.container_actions_events -> zun.container_actions",
        inputs.get(EVENTS).filter(pl.col("result") == "Success"),
        inputs.get(ACTIONS).select("container_uuid", "action", action_id="id"),
        "action_id",
    ).select(
        "action",
        entity_id="container_uuid",
        timestamp=pl.coalesce("finish_time", "start_time"),
        order="id",
    )
    by_events = events.group_by("entity_id").agg(
        deleted=pl.col("timestamp").filter(pl.col("action") == "delete").max(),
        created=pl.col("timestamp").filter(pl.col("action") == "create").min(),
    )
    over = CONTAINER_OVER
    gone = pl.when(pl.col(over.column).is_in(over.values)).then(over.at)
    rows = (
        inputs.get(CONTAINERS)
        .rename({"uuid": "entity_id"})
        .join(by_events, on="entity_id", how="left")
        .with_columns(
            hostname="host",
            start=pl.coalesce("created_at", "created", "started_at"),
            end=pl.coalesce("deleted", gone),
            inferred=pl.col("created_at").is_null(),
        )
    )
    good, bad = refuse(rows, CONTAINERS, "entity_id")
    begins = good.select(
        "entity_id",
        timestamp=pl.coalesce("created", "started_at"),
        on=pl.lit(value=True),
        order=pl.lit(-1, pl.Int64),
    ).drop_nulls("timestamp")
    turns = events.join(_RUNS, on="action", how="inner")
    runs = state_intervals(
        pl.concat([begins, turns.select(begins.columns)]), good.select("entity_id", "start", "end")
    )
    # Ids count up, so the ids that are missing tell how many rows were deleted for good.
    last = inputs.get(CONTAINERS)["id"].max()
    return Ingested(
        completeness=pl.concat(
            [
                speaks_of(
                    CONTAINERS,
                    "occupied_reservation",
                    "active_reservation",
                    held=inputs.get(CONTAINERS).height,
                    ever=max(last, 0) if isinstance(last, int) else 0,
                ),
                speaks_of(CONTAINERS, "occupied_ondemand", "active_ondemand"),
            ]
        ),
        intervals=pl.concat(
            [
                present(good, CONTAINERS, "occupied"),
                present(runs.join(good.drop("start", "end"), on="entity_id"), CONTAINERS, "active"),
            ]
        ),
        rejects=bad,
        join_log=joins.log(),
    )
