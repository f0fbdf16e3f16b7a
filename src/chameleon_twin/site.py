"""One site from seed to Parquet: simulate, write the tables and the truth, let history decay."""

import json
import os
import shutil
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

import polars as pl

from . import decay, legacy, tables_blazar, tables_nova, tables_site, truth
from .calibration import Profile, load
from .world import World, simulate

Tables = dict[str, pl.DataFrame]

# Tables that only some sites have are empty, with their columns, at those where nobody uses them.
NOVA_SHADOWS = ("instances", "instance_actions", "instance_actions_events", "migrations")


def tables(world: World) -> Tables:
    """All tables as the services would have written them, `<schema>.<table>` to frame."""
    out: Tables = {**tables_blazar.reservations(world), **tables_blazar.pool(world)}
    if world.kind != "device":
        out["nova.compute_nodes"] = tables_nova.compute_nodes(world)
        out["nova.services"] = tables_nova.services(world)
        out["nova.instances"] = tables_nova.instances(world)
        out |= tables_nova.actions(world)
        out["nova.migrations"] = tables_nova.migrations(world)
        out["nova_api.request_specs"] = tables_nova.request_specs(world)
        out["nova_api.flavors"] = tables_nova.flavors(world)
    else:
        out |= tables_site.containers(world)
    if world.kind == "kvm":
        out |= {f"nova.shadow_{name}": out[f"nova.{name}"].clear() for name in NOVA_SHADOWS}
    else:
        out |= tables_site.doni(world)
    if world.kind == "baremetal":
        out |= legacy.caches(world)
        out["chameleon_usage.node_maintenance"] = tables_site.maintenance(world)
        out["ironic.nodes"] = tables_site.ironic_nodes(world)
        out["inventory.node_intervals"] = tables_site.inventory(world)
    return out


def truths(world: World) -> Tables:
    """The truth files by name."""
    return {
        "intervals": truth.intervals(world),
        "knowledge": truth.knowledge(world),
        "pool": truth.pool(world),
        "leases": truth.leases(world),
    }


def options(
    seed: int, profile: Profile, with_decay: bool, factors: Mapping[str, float]
) -> dict[str, object]:
    """What a manifest says of how its twin was made."""
    return {
        "seed": seed,
        "scale": profile.scale,
        "profile": profile.name,
        "decay": with_decay,
        "damage": dict(factors),
    }


def make(
    site: str,
    data_dir: Path,
    seed: int,
    profile: Profile,
    with_decay: bool,
    *,
    factors: Mapping[str, float],
    years: str | None = None,
) -> dict[str, int]:
    """Write one site's directory, whole or not at all; returns the row counts of its tables.

    `factors` multiply the rates of the kinds of damage that they name. `years`, "even" or "odd":
    only the real curves of these steer the twin.
    """
    cal = load(site, profile, factors, years)
    world = simulate(cal, seed)
    data_dir.mkdir(parents=True, exist_ok=True)
    temporary = data_dir / f".{site}.{os.getpid()}.tmp"
    shutil.rmtree(temporary, ignore_errors=True)
    try:
        (temporary / "truth").mkdir(parents=True)
        # The truth goes out first, so that it does not sit in memory beside the tables.
        for name, frame in truths(world).items():
            frame.write_parquet(temporary / "truth" / f"{name}.parquet", compression_level=1)
        frames = tables(world)
        if with_decay:
            frames = decay.decay(world, frames)
        counts = {name: len(frame) for name, frame in sorted(frames.items())}
        for name in counts:
            frames.pop(name).write_parquet(temporary / f"{name}.parquet", compression_level=1)
        manifest = {
            "site": site,
            "name": cal.facts["name"],
            "kind": "twin",
            "as_of": datetime.fromtimestamp(cal.as_of, UTC).replace(tzinfo=None).isoformat(),
            **options(seed, profile, with_decay, factors),
            "tables": counts,
        }
        (temporary / "manifest.json").write_text(json.dumps(manifest, indent=2) + "\n")
        final = data_dir / site
        old = data_dir / f".{site}.{os.getpid()}.old"
        if final.exists():
            final.rename(old)
        temporary.rename(final)
        shutil.rmtree(old, ignore_errors=True)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return counts
