"""How like the real testbed the twin is: `python -m chameleon_twin.calibrate [DATA_DIR]`.

Prints, for every made site, row counts against the real ones, and yearly means of the truth, of the
legacy caches and of today's tables read naively (each row at its word) against the real curves.
"""

import json
import sys
from pathlib import Path

import click
import numpy as np
import polars as pl

from .calibration import Calibration, Profile, load
from .clock import year_start
from .fleet import FAR

YEARS = range(2015, 2026)


def _seconds(frame: pl.DataFrame, column: str, otherwise: int) -> np.ndarray:
    return (
        frame[column].dt.epoch("s").fill_null(otherwise).to_numpy().astype(np.int64)
        if len(frame)
        else np.empty(0, np.int64)
    )


def yearly_means(
    start: np.ndarray,
    end: np.ndarray,
    nodes: np.ndarray | None = None,
    *,
    begin: int = 0,
    stop: int = FAR,
) -> dict[int, float]:
    """Mean number of nodes per year, within [begin, stop), of intervals in seconds."""
    means = {}
    for year in YEARS:
        low, high = max(year_start(year), begin), min(year_start(year + 1), stop)
        if low >= high:
            means[year] = 0.0
            continue
        held = np.maximum(np.minimum(end, high) - np.maximum(start, low), 0)
        means[year] = float((held * (1 if nodes is None else nodes)).sum() / (high - low))
    return means


def uncorrected(folder: Path, as_of: int, cal: Calibration) -> dict[str, dict[int, float]]:
    """Yearly means of today's tables, each row at its word, over the time of the real curves."""

    def means(
        name: str, start: np.ndarray, end: np.ndarray, nodes: np.ndarray | None = None
    ) -> dict[int, float]:
        begin = cal.curve_begin(f"current_{name}")
        return yearly_means(start, end, nodes, begin=begin, stop=cal.curves_end)

    def read(name: str) -> pl.DataFrame:
        return pl.read_parquet(folder / f"{name}.parquet")

    out = {}
    if (folder / "nova.compute_nodes.parquet").exists():
        rows = read("nova.compute_nodes").filter(pl.col("created_at").is_not_null())
        out["total"] = means(
            "total", _seconds(rows, "created_at", 0), _seconds(rows, "deleted_at", as_of)
        )
    hosts = read("blazar.computehosts")
    end = np.where(
        (hosts["deleted_at"].is_null() & (hosts["reservable"] == 0)).to_numpy(),
        _seconds(hosts, "updated_at", as_of), _seconds(hosts, "deleted_at", as_of),
    )  # fmt: skip
    out["reservable"] = means("reservable", _seconds(hosts, "created_at", 0), end)
    held = (
        read("blazar.computehost_allocations")
        .join(hosts.select(compute_host_id="id"), on="compute_host_id", how="semi")
        .join(read("blazar.reservations").select("lease_id", reservation_id="id"),
              on="reservation_id")
        .join(read("blazar.leases").select(
            "start_date", "end_date", lease_id="id", lease_deleted="deleted_at",
            lease_created="created_at"), on="lease_id")
        .select(
            start=pl.max_horizontal("start_date", "lease_created"),
            end=pl.min_horizontal("end_date", "lease_deleted", "deleted_at"),
        )
    )  # fmt: skip
    out["committed"] = means("committed", _seconds(held, "start", 0), _seconds(held, "end", as_of))
    if (folder / "nova.instances.parquet").exists():
        rows = pl.concat(
            read(name)
            for name in ("nova.instances", "nova.shadow_instances")
            if (folder / f"{name}.parquet").exists()
        ).filter(pl.col("node").is_not_null() & pl.col("created_at").is_not_null())
        share = None
        if "QEMU" in hosts["hypervisor_type"]:
            size = (
                read("nova.compute_nodes")
                .group_by(node="hypervisor_hostname")
                .agg(pl.col("vcpus").max())
                .filter(pl.col("vcpus") > 0)
            )
            rows = rows.join(size, on="node", suffix="_physical")
            share = (rows["vcpus"] / rows["vcpus_physical"]).to_numpy()
        out["occupied"] = means(
            "occupied", _seconds(rows, "created_at", 0), _seconds(rows, "deleted_at", as_of), share
        )
    return out


def legacy(folder: Path) -> dict[str, dict[int, float]]:
    """Yearly means of the legacy caches over the days that were cached."""
    rows = pl.read_parquet(folder / "chameleon_usage.node_usage_report_cache.parquet").unique()
    day = rows.group_by("date").agg(
        total=pl.col("total_hours").sum() / 24,
        reservable=(pl.col("total_hours") - pl.col("maint_hours")).sum() / 24,
        committed=(pl.col("reserved_hours") + pl.col("used_hours")).sum() / 24,
        occupied=pl.col("used_hours").sum() / 24,
    )
    year = day.group_by(pl.col("date").dt.year()).mean().sort("date")
    return {q: dict(year.select(pl.col("date").cast(pl.Int64), q).rows()) for q in
            ("total", "reservable", "committed", "occupied")}  # fmt: skip


def truths(folder: Path, opened: int) -> dict[str, dict[int, float]]:
    """Yearly means of the truth."""
    rows = pl.read_parquet(folder / "truth" / "intervals.parquet")
    out = {}
    for (name,), part in rows.group_by("quantity_type", maintain_order=True):
        out[str(name)] = yearly_means(
            _seconds(part, "start", 0), _seconds(part, "end", 0), part["nodes"].to_numpy(),
            begin=opened,
        )  # fmt: skip
    pieces = [out[q] for q in ("occupied_reservation", "occupied_ondemand") if q in out]
    out["occupied"] = {y: sum(p[y] for p in pieces) for y in YEARS}
    return out


def main(data_dir: Path) -> None:
    """Print the report for every site under `data_dir`."""
    for folder in sorted(p for p in data_dir.iterdir() if (p / "manifest.json").exists()):
        manifest = json.loads((folder / "manifest.json").read_text())
        cal = load(manifest["site"], Profile("full", 1.0))
        click.echo(f"== {manifest['name']}")
        for table, real in cal.facts["row_counts"].items():
            got = manifest["tables"].get(table)
            off = (got - real) / real if real and got is not None else 0.0
            mark = "  <<<" if abs(off) > 0.1 or got is None else ""
            click.echo(f"  {table:45s} {real:>9,} {got or 0:>9,} {off:+7.1%}{mark}")
        series = {"truth": truths(folder, cal.opened)}
        as_of = int(np.datetime64(manifest["as_of"], "s").astype(np.int64))
        series["current"] = uncorrected(folder, as_of, cal)
        if (folder / "chameleon_usage.node_usage_report_cache.parquet").exists():
            series["legacy"] = legacy(folder)
        click.echo("  " + " " * 20 + "".join(f"{y:>12}" for y in YEARS))
        for collector, values in series.items():
            for quantity in ("total", "reservable", "committed", "occupied"):
                ours = values.get(quantity, {})
                real_ = cal.real_curves.get(f"{collector}_{quantity}", {})
                if collector == "truth":
                    real_ = {y: [v, 0] for y, v in cal.facts["targets"].get(quantity, {}).items()}
                line = ""
                for y in YEARS:
                    r = real_.get(y)
                    flag = "!" if r and abs(ours.get(y, 0) / r[0] - 1) > 0.15 else " "
                    line += f"{ours.get(y, 0):6.0f}/{r[0]:4.0f}{flag}" if r else (
                        f"{ours.get(y, 0):6.0f}      ")  # fmt: skip
                click.echo(f"  {collector:8s}{quantity:12s}{line}")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "data/twin"))
