"""The databases of a simulated site as they stood at any moment, while services forget.

The twin without decay keeps all that happened with its times; from these the player makes what the
tables held at a moment: rows made by then, what was not yet known unknown, and rows deleted for
good gone, as services of every age do it: hosts, containers, allocations taken from a running
lease and leases withdrawn before their start at once, instances and all that belongs to them four
weeks after their end, their request specs after one.
"""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from functools import cached_property
from typing import TYPE_CHECKING

import polars as pl

if TYPE_CHECKING:
    from pathlib import Path

SPECS_KEPT, INSTANCES_KEPT = timedelta(weeks=1), timedelta(weeks=4)
HARD_DELETED = (
    "nova.compute_nodes",
    "blazar.computehosts",
    "blazar.computehost_extra_capabilities",
    "blazar.devices",
    "blazar.device_extra_capabilities",
)
CREATE, OFFLOAD = "compute__do_build_and_run_instance", "compute_shelve_offload_instance"
LATER = (
    "deleted_at", "updated_at", "launched_at", "terminated_at", "started_at", "finish_time",
    "end_time", "valid_to",
)  # fmt: skip
"""Columns that tell of something that has happened, once it has."""


class Player:
    """A site of the twin without decay.

    Args:
        folder: its directory, with the truth.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.tables = {path.stem: pl.read_parquet(path) for path in folder.glob("*.parquet")}

    def truth(self, name: str) -> pl.DataFrame:
        return pl.read_parquet(self.folder / "truth" / f"{name}.parquet")

    # --- what happens to rows ---------------------------------------------------------------------

    @cached_property
    def over(self) -> pl.DataFrame:
        """When each reservation's lease was over: reservation_id, over, cancelled."""
        leases = self.tables["blazar.leases"].select(
            lease_id="id",
            over=pl.min_horizontal("end_date", "deleted_at"),
            withdrawn=pl.when(pl.col("deleted_at") <= pl.col("start_date")).then("deleted_at"),
        )
        return (
            self.tables["blazar.reservations"]
            .select("lease_id", reservation_id="id")
            .join(leases, on="lease_id")
        )

    @cached_property
    def taken(self) -> pl.DataFrame:
        """Allocations taken from a running lease: id, taken, and of half of those that another
        took the place of at that second, its row (``heir`` and its columns): they are edited."""
        rows = self.tables["blazar.computehost_allocations"]
        early = rows.join(self.over, on="reservation_id").filter(
            pl.col("deleted_at") < pl.col("over") - pl.duration(seconds=1)
        )
        heirs = rows.select(
            "reservation_id",
            heir="id",
            at="created_at",
            host="compute_host_id",
            heir_deleted="deleted_at",
        )
        found = early.select("id", "reservation_id", taken="deleted_at").join(
            heirs,
            left_on=["reservation_id", "taken"],
            right_on=["reservation_id", "at"],
            how="left",
        )
        once = found.sort("id").unique("id", keep="first", maintain_order=True)
        edited = (
            pl.col("heir").is_not_null()
            & ~pl.col("heir").is_in(once["id"].implode())
            & pl.col("heir").is_first_distinct()
            & (pl.int_range(pl.len()) % 2 == 0)
        ).fill_null(value=False)
        return once.with_columns(heir=pl.when(edited).then("heir"))

    @cached_property
    def plans(self) -> pl.DataFrame:
        """The end of each lease as it was planned from ``known_from`` on."""
        known = self.truth("knowledge").filter(pl.col("end") > pl.col("known_from"))
        return known.group_by("known_from", id="lease_id").agg(planned=pl.col("end").max())

    # --- the tables at a moment -------------------------------------------------------------------

    def at(self, moment: datetime) -> dict[str, pl.DataFrame]:
        now = pl.lit(moment, pl.Datetime("us"))
        out = {}
        for name, rows in self.tables.items():
            begins = next(
                (c for c in ("created_at", "valid_from", "start_time") if c in rows.columns), None
            )
            if begins:
                there = rows.filter((pl.col(begins) <= now).fill_null(value=True))
            elif "date" in rows.columns:  # a day is cached the next morning
                there = rows.filter(pl.col("date").dt.offset_by("33h") <= now)
            else:
                there = rows
            shown = [c for c in LATER if c in rows.columns]
            out[name] = there.with_columns(pl.when(pl.col(shown) <= now).then(pl.col(shown)))
        self._blazar(out, now)
        if "nova.instances" in out:
            self._nova(out, now)
        else:
            self._zun(out, now)
        return {name: _not_yet_deleted(rows) for name, rows in out.items()}

    def _blazar(self, out: dict[str, pl.DataFrame], now: pl.Expr) -> None:
        gone = self.over.filter(pl.col("withdrawn") <= now)
        for name in [name for name in out if name.startswith("blazar.")]:
            if "reservation_id" in out[name].columns:
                out[name] = out[name].join(gone, on="reservation_id", how="anti")
            if "lease_id" in out[name].columns:
                out[name] = out[name].join(gone, on="lease_id", how="anti")
        leases = out["blazar.leases"].join(gone, left_on="id", right_on="lease_id", how="anti")
        plan = self.plans.filter(pl.col("known_from") <= now).sort("known_from")
        plan = plan.unique("id", keep="last", maintain_order=True)
        out["blazar.leases"] = (
            leases.join(plan, on="id", how="left")
            .with_columns(
                end_date=pl.when(pl.col("end_date") > now)
                .then(pl.coalesce("planned", "end_date"))
                .otherwise("end_date"),
                status=pl.when(pl.col("status") == "ERROR")
                .then("status")
                .when(pl.min_horizontal("end_date", "deleted_at") <= now)
                .then(pl.lit("TERMINATED"))
                .when(pl.col("start_date") <= now)
                .then(pl.lit("ACTIVE"))
                .otherwise(pl.lit("PENDING")),
            )
            .drop("planned", "known_from")
        )
        out["blazar.events"] = out["blazar.events"].with_columns(
            status=pl.when(pl.col("updated_at").is_null())
            .then(pl.lit("UNDONE"))
            .otherwise("status"),
        )
        for name in ("computehosts", "devices"):
            out[f"blazar.{name}"] = out[f"blazar.{name}"].with_columns(
                reservable=pl.when(pl.col("updated_at").is_null()).then(1).otherwise("reservable")
            )
        for name in HARD_DELETED:
            if name in out:
                out[name] = out[name].filter(pl.col("deleted_at").is_null())
        self._allocations(out, now)

    def _allocations(self, out: dict[str, pl.DataFrame], now: pl.Expr) -> None:
        done = self.taken.filter(pl.col("taken") <= now)
        edited, removed = (done.filter(pl.col("heir").is_not_null() == e) for e in (True, False))
        rows = out["blazar.computehost_allocations"]
        rows = rows.join(removed, on="id", how="anti").join(
            edited, left_on="id", right_on="heir", how="anti"
        )
        rows = rows.join(edited.select("id", "taken", "host", "heir_deleted"), on="id", how="left")
        is_edited = pl.col("taken").is_not_null()
        died = pl.when(pl.col("heir_deleted") <= now).then("heir_deleted")
        out["blazar.computehost_allocations"] = rows.with_columns(
            compute_host_id=pl.coalesce("host", "compute_host_id"),
            deleted_at=pl.when(is_edited).then(died).otherwise("deleted_at"),
            updated_at=pl.when(is_edited).then(pl.coalesce(died, "taken")).otherwise("updated_at"),
        ).select(out["blazar.computehost_allocations"].columns)

    def _nova(self, out: dict[str, pl.DataFrame], now: pl.Expr) -> None:
        for name in ("nova.compute_nodes", "nova.services"):  # they report every minute
            alive = pl.col("deleted_at").is_null()
            report = now - pl.duration(seconds=pl.col("id") % 60)
            out[name] = out[name].with_columns(
                updated_at=pl.when(alive).then(report).otherwise("updated_at")
            )
        rows, events = out["nova.instances"], out["nova.instance_actions_events"]
        steps = (
            events.filter((pl.col("result") == "Success") & pl.col("finish_time").is_not_null())
            .join(
                out["nova.instance_actions"].select("action", "instance_uuid", action_id="id"),
                on="action_id",
            )
            .sort("finish_time")
            .group_by(uuid="instance_uuid")
            .agg(
                built=pl.col("finish_time").filter(pl.col("event") == CREATE).min(),
                offloaded=pl.col("finish_time").filter(pl.col("event") == OFFLOAD).max(),
                back=pl.col("start_time").filter(pl.col("action") == "unshelve").max(),
            )
        )
        away = pl.col("offloaded") >= pl.max_horizontal("back", "offloaded")
        rows = rows.join(steps, on="uuid", how="left").with_columns(
            launched_at=pl.coalesce("launched_at", "built"),
            vm_state=pl.when((pl.col("vm_state") == "deleted") & pl.col("deleted_at").is_null())
            .then(pl.lit("active"))
            .otherwise("vm_state"),
            node=pl.when(~away.fill_null(value=False)).then("node"),
        )
        purged = rows.filter(pl.col("deleted_at") <= now - INSTANCES_KEPT)
        specless = rows.filter(pl.col("deleted_at") <= now - SPECS_KEPT)
        key = purged.select(instance_uuid="uuid")
        actions = out["nova.instance_actions"].join(key, on="instance_uuid", how="anti")
        out["nova.instances"] = rows.join(purged, on="uuid", how="anti").drop(
            "built", "offloaded", "back"
        )
        out["nova.instance_actions"] = actions
        out["nova.instance_actions_events"] = events.join(
            actions.select(action_id="id"), on="action_id", how="semi"
        )
        out["nova_api.request_specs"] = out["nova_api.request_specs"].join(
            specless.select(instance_uuid="uuid"), on="instance_uuid", how="anti"
        )

    def _zun(self, out: dict[str, pl.DataFrame], now: pl.Expr) -> None:
        rows = out["zun.container"]
        gone = (pl.col("status") == "Deleted") & pl.col("updated_at").is_not_null()
        rows = rows.filter(~gone).with_columns(status=pl.lit("Running"))
        actions = out["zun.container_actions"].join(
            rows.select(container_uuid="uuid"), on="container_uuid", how="semi"
        )
        out["zun.container"] = rows
        out["zun.container_actions"] = actions
        out["zun.container_actions_events"] = out["zun.container_actions_events"].join(
            actions.select(action_id="id"), on="action_id", how="semi"
        )

    def write(self, folder: Path, moment: datetime) -> Path:
        """Write the dump of a moment."""
        folder.mkdir(parents=True)
        for name, frame in self.at(moment).items():
            frame.write_parquet(folder / f"{name}.parquet", compression_level=1)
        (folder / "manifest.json").write_text(json.dumps({"as_of": moment.isoformat()}))
        return folder


def _not_yet_deleted(rows: pl.DataFrame) -> pl.DataFrame:
    """Take back the mark of a row that is deleted only later: services set it with the time."""
    if not {"deleted", "deleted_at"} <= set(rows.columns):
        return rows
    kind = rows.schema["deleted"]
    alive = pl.lit(0 if kind.is_integer() else None).cast(kind)
    marked = pl.when(pl.col("deleted_at").is_null()).then(alive).otherwise("deleted")
    return rows.with_columns(deleted=marked)
