"""Tiny sites in a few readable lines: raw tables in, daily values out.

Times are counted in days from DAY0, the window's first day; fractions of a day are allowed. The
window is ten days long and the tables were read at its end, unless a test says otherwise.
"""

# ruff: noqa: DTZ001 - times inside the pipeline are naive UTC
from __future__ import annotations

import json
import tempfile
from collections import Counter
from collections.abc import Mapping
from copy import copy
from dataclasses import replace
from datetime import datetime, timedelta
from functools import cache, cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import NAMESPACE_DNS, uuid5

import polars as pl

from chameleon_usage import pipeline, stages
from chameleon_usage.engines.home import AtHome
from chameleon_usage.ingest.registry import ADAPTERS
from chameleon_usage.models.outputs import PROJECT_TABLES
from chameleon_usage.models.raw import RAW_TABLES
from chameleon_usage.models.site import Site, load_sites
from chameleon_usage.ranges import cut
from chameleon_usage.usage import projected
from chameleon_usage.usage.buckets import Window
from chameleon_usage.usage.tables import leadtime_tables
from chameleon_usage.usage.tally import tally
from support import PROJECT

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Sequence

    from chameleon_usage.engines.engine import Engine
    from chameleon_usage.models.frames import Table

SITES = load_sites(PROJECT / "data" / "sites.yaml", frozenset(ADAPTERS))
DAY0 = datetime(2020, 1, 1)
DAYS = 10
TEN_DAYS = ("--start", "2020-01-01", "--end", "2020-01-11")
"""The window, as the command takes it."""
HOUR = 1 / 24
MINUTE = HOUR / 60

type_of_event = {
    "create": "compute__do_build_and_run_instance",
    "delete": "compute_terminate_instance",
    "migrate": "compute_finish_resize",
    "live-migration": "compute_post_live_migration_at_destination",
}
"""Nova's event name for an action, where it is not compute_<action>_instance."""


UPSTREAM = {
    f"blazar.{table}.{column}"
    for table in ("leases", "computehosts", "computehost_allocations")
    for column in ("deleted", "deleted_at")
}
"""The columns that Chameleon added to Blazar."""


def day(number: float) -> datetime:
    """Give the moment so many days after DAY0, in whole seconds."""
    return DAY0 + timedelta(seconds=round(number * 86400))


def uid(name: str) -> str:
    """Give a readable name its UUID: reservations are found by theirs in request specs."""
    return str(uuid5(NAMESPACE_DNS, name))


def write_table(
    folder: Path,
    name: str,
    rows: Sequence[Mapping[str, Any]],
    *,
    without: Collection[str] = (),
    file: str = "",
) -> Path:
    """Write one raw table; a number in a time column counts days, a string stays as it is.

    Args:
        folder: where to.
        name: of the table.
        rows: column to value; what is not given is null.
        without: columns, as "<table>.<column>", that this release does not have.
        file: how the file is called, if not after the table.
    """
    columns = RAW_TABLES[name].columns
    frames = {}
    for column, kind in columns.items():
        if f"{name}.{column}" in without:
            continue
        values = [row.get(column) for row in rows]
        if kind == pl.Datetime("us"):
            values = [day(v) if isinstance(v, int | float) else v for v in values]
        if any(isinstance(v, str) for v in values):
            values = [None if v is None else str(v) for v in values]
        as_text = pl.String() if any(isinstance(v, str) for v in values) else kind
        frames[column] = pl.Series(column, values, dtype=as_text)
    path = folder / f"{file or name}.parquet"
    pl.DataFrame(frames).write_parquet(path)
    return path


class TinySite:
    """The raw tables of a site that is small enough to count by hand.

    Args:
        key: an entry of data/sites.yaml, whose adapters and source priority hold here, too.
        days: length of the window.
        as_of: when the tables were read; None leaves the manifest out.
        adapters: other adapters than the entry's.

    No table is empty: one node, its lease and its instance came and went before the window.
    """

    ranges = 1
    """Ranges of hosts that its outputs are made in (the option --ranges)."""

    def __init__(
        self,
        key: str = "chi_tacc",
        *,
        days: float = DAYS,
        as_of: float | None = DAYS,
        adapters: Sequence[str] = (),
    ) -> None:
        site = SITES[key]
        self.site: Site = replace(site, adapters=tuple(adapters)) if adapters else site
        self.window = Window(DAY0, day(days))
        self.as_of = as_of
        self.tables: dict[str, list[dict[str, Any]]] = {
            table: [] for name in self.site.adapters for table in ADAPTERS[name].tables
        }
        self.numbers: Counter[str] = Counter()
        self.without: set[str] = set()
        self._before()

    def _before(self) -> None:
        """Fill in what was over before the window began."""
        start, end = -20, -19
        kvm = self.site.key == "kvm_tacc"
        kind = "QEMU" if kvm else "ironic"
        for name in self.site.adapters:
            if name == "nova_hosts":
                self.hypervisor("h0", start, end, id=1000, hypervisor_type=kind)
            elif name == "blazar_hosts":
                self.pool_host("h0", start, end, hypervisor_type=kind)
            elif name == "blazar_allocations" and kvm:
                self.slices("L0", start, end, ["b-h0"], vcpus=1)
            elif name == "blazar_allocations":
                self.lease("L0", start, end, ["b-h0"])
            elif name == "nova_instances":
                self.instance("I0", "h0", start, end, lease="L0", vcpus=1, created_event=False)
            elif name == "edge_devices":
                self.device("h0", start, end)
            elif name == "edge_allocations":
                self.lease("L0", start, end, ["d-h0"], resource_type="device")
            elif name == "edge_containers":
                self.container("c0", "h0", start, status="Deleted", updated_at=end)

    # --- what is in the tables ------------------------------------------------------------------

    def add(self, table: str, **row: Any) -> dict[str, Any]:
        """Add a row; columns not given are null, a missing integer ``id`` counts up."""
        rows = self.tables.setdefault(table, [])
        if "id" in RAW_TABLES[table].columns and "id" not in row:
            self.numbers[table] += 1
            numbered = RAW_TABLES[table].columns["id"] == pl.Int64
            row["id"] = self.numbers[table] if numbered else f"{table}-{self.numbers[table]}"
        rows.append(row)
        return row

    def hypervisor(self, name: str, start: float | None, end: float | None = None, **row: Any):
        """nova.compute_nodes: a bare-metal node unless ``hypervisor_type`` says otherwise."""
        sizes = {"vcpus": 48, "memory_mb": 1000, "local_gb": 10, "hypervisor_type": "ironic"}
        times = {"created_at": start, "deleted_at": end}
        return self.add(
            "nova.compute_nodes",
            **sizes | {"hypervisor_hostname": name, "host": name} | times | row,
        )

    def pool_host(
        self,
        name: str,
        start: float | None,
        end: float | None = None,
        *,
        host_id: str | None = None,
        node_type: str | None = None,
        gpus: int | None = None,
        **row: Any,
    ):
        """blazar.computehosts, with the capabilities that are given; its id is "b-<name>"."""
        host_id = host_id or f"b-{name}"
        sizes = {"vcpus": 48, "memory_mb": 1000, "local_gb": 10, "hypervisor_type": "ironic"}
        times = {"created_at": start, "deleted_at": end, "reservable": 1}
        if end is not None:
            times["updated_at"] = end
        for label, value in (("node_type", node_type), ("gpu.gpu_count", gpus)):
            if value is not None:
                self._capability(label, str(value), "computehost", host_id)
        return self.add(
            "blazar.computehosts",
            **sizes | {"id": host_id, "hypervisor_hostname": name} | times | row,
        )

    def _capability(self, label: str, value: str, kind: str, owner: str) -> None:
        known = self.tables.setdefault("blazar.resource_properties", [])
        if label not in [row["property_name"] for row in known]:
            self.add("blazar.resource_properties", id=f"p-{label}", property_name=label)
        table = (
            "blazar.computehost_extra_capabilities"
            if kind == "computehost"
            else "blazar.device_extra_capabilities"
        )
        self.add(
            table, **{f"{kind}_id": owner, "capability_value": value, "property_id": f"p-{label}"}
        )

    def host(
        self, name: str = "h1", start: float = 0, end: float | None = None, **row: Any
    ) -> None:
        """Enrol a node with Nova and with Blazar for the same time."""
        shared = {key: row[key] for key in ("vcpus", "memory_mb", "local_gb") if key in row}
        kind = {"hypervisor_type": row.pop("hypervisor_type", "ironic")}
        self.hypervisor(name, start, end, **shared | kind)
        self.pool_host(name, start, end, **row | kind)

    def lease(
        self,
        name: str,
        start: float | None,
        end: float | None,
        hosts: Sequence[str] = ("b-h1",),
        *,
        node_type: str | None = None,
        resource_type: str = "physical:host",
        allocated: float | None = None,
        **row: Any,
    ) -> str:
        """blazar.leases with one reservation and an allocation for each host id.

        The lease is made at its start, for immediate use, and the allocations with it.

        Returns:
            the reservation's id.
        """
        reservation = uid(name)
        lease = {"project_id": "p", "status": "ACTIVE", "created_at": start}
        lease |= {"start_date": start, "end_date": end} | row
        self.add("blazar.leases", id=name, **lease)
        self.add("blazar.reservations", id=reservation, lease_id=name, resource_type=resource_type)
        wants = f'["==", "$node_type", "{node_type}"]' if node_type else None
        amount = max(len(hosts), 1)
        if resource_type == "physical:host":
            self.add(
                "blazar.computehost_reservations",
                reservation_id=reservation,
                resource_properties=wants,
                count_range=f"{amount}-{amount}",
            )
        if resource_type == "device":
            self.add(
                "blazar.device_reservations",
                reservation_id=reservation,
                resource_properties=wants,
                count_range=f"{amount}-{amount}",
            )
        for host in hosts:
            made = lease["created_at"] if allocated is None else allocated
            self.allocation(name, host, made, device=resource_type == "device")
        return reservation

    def slices(
        self, name: str, start: float, end: float, hosts: Sequence[str], *, vcpus: int, **row: Any
    ) -> str:
        """Lease slots of a flavor on KVM hosts: an allocation for each slot."""
        reservation = self.lease(name, start, end, hosts, resource_type="flavor:instance", **row)
        size = {"vcpus": vcpus, "memory_mb": 100 * vcpus, "disk_gb": vcpus}
        self.add(
            "blazar.instance_reservations", reservation_id=reservation, amount=len(hosts), **size
        )
        return reservation

    def allocation(
        self,
        lease: str,
        host: str | None,
        created: float | None,
        deleted: float | None = None,
        *,
        device: bool = False,
        **row: Any,
    ):
        """blazar.computehost_allocations (or device_allocations): this host serves that lease."""
        table = "blazar.device_allocations" if device else "blazar.computehost_allocations"
        owner = {"device_id" if device else "compute_host_id": host}
        times = {"created_at": created, "deleted_at": deleted}
        return self.add(table, **{"reservation_id": uid(lease)} | owner | times | row)

    def instance(
        self,
        name: str,
        node: str | None,
        start: float | None,
        end: float | None = None,
        *,
        lease: str | None = None,
        active: float | None = None,
        created_event: bool = True,
        flavor: bool = False,
        **row: Any,
    ):
        """nova.instances, its request spec if a lease is named, and its create event.

        It runs from ``active`` (its start if not given) on.
        """
        active = start if active is None else active
        given = {"project_id": "p", "vcpus": 48, "memory_mb": 1000, "root_gb": 10}
        given |= {"created_at": start, "launched_at": active, "deleted_at": end}
        given |= {"terminated_at": end, "vm_state": "active" if end is None else "deleted"}
        self.add("nova.instances", uuid=name, node=node, **given | row)
        if lease is not None:
            self.spec(name, uid(lease), flavor=flavor)
        if created_event and active is not None:
            self.action(name, "create", active, start=start, host=node)

    def spec(self, instance: str, reservation: str, *, flavor: bool = False) -> None:
        """nova_api.request_specs: the reservation as scheduler hint, or in the flavor's name."""
        name = f"reservation:{reservation}" if flavor else "baremetal"
        hints = {} if flavor else {"scheduler_hints": {"reservation": [reservation]}}
        data = {"flavor": {"nova_object.data": {"name": name}}, "instance_uuid": instance} | hints
        spec = json.dumps({"nova_object.name": "RequestSpec", "nova_object.data": data})
        self.add("nova_api.request_specs", instance_uuid=instance, spec=spec)

    def action(
        self,
        instance: str,
        action: str,
        finish: float | None,
        *,
        start: float | None = None,
        result: str | None = "Success",
        host: str | None = None,
        event: str | None = None,
    ) -> None:
        """nova.instance_actions with its one event."""
        begin = finish if start is None else start
        name = event or type_of_event.get(action, f"compute_{action}_instance")
        done = self.add(
            "nova.instance_actions",
            instance_uuid=instance,
            action=action,
            start_time=begin,
            finish_time=finish,
        )
        self.add(
            "nova.instance_actions_events",
            action_id=done["id"],
            event=name,
            result=result,
            start_time=begin,
            finish_time=finish,
            host=host,
        )

    def device(self, label: str, start: float | None, end: float | None = None, **row: Any):
        """blazar.devices: an Edge device; its id is "d-<label>", its name the label."""
        times = {"created_at": start, "deleted_at": end, "reservable": 1}
        return self.add("blazar.devices", **{"id": f"d-{label}", "name": label} | times | row)

    def container(self, name: str, host: str, start: float, **row: Any):
        """zun.container: a container that runs on a device since its creation."""
        times = {"created_at": start, "started_at": start, "status": "Running"}
        return self.add(
            "zun.container", **{"uuid": name, "host": host, "project_id": "p"} | times | row
        )

    def ironic(self, name: str, updated: float | None = None, **row: Any):
        """ironic.nodes: a node on offer since day 0, its row last changed at ``updated``."""
        usual = {"provision_state": "available", "power_state": "power off", "maintenance": 0}
        times = {"created_at": 0, "updated_at": updated}
        return self.add("ironic.nodes", **{"uuid": name, "retired": 0} | usual | times | row)

    def service(self, host: str, heartbeat: float | None = DAYS, **row: Any):
        """nova.services: a compute service, enabled and alive at ``heartbeat``."""
        usual = {"binary": "nova-compute", "disabled": 0, "forced_down": 0, "created_at": 0}
        return self.add("nova.services", **{"host": host, "updated_at": heartbeat} | usual | row)

    def cached_day(self, number: float, node_type: str = "compute", **hours: float) -> None:
        """chameleon_usage.node_usage_report_cache: one day of one node type, hours by kind."""
        kinds = ("maint_hours", "reserved_hours", "used_hours", "idle_hours", "total_hours")
        self.add(
            "chameleon_usage.node_usage_report_cache",
            date=number,
            node_type=node_type,
            **dict.fromkeys(kinds, 0.0) | hours,
        )

    # --- what comes out -------------------------------------------------------------------------

    def write(self, data_dir: Path, *, shuffle: int | None = None) -> Path:
        """Write the raw tables below ``data_dir``; ``shuffle`` seeds another order of the rows.

        Returns:
            the site's directory.
        """
        folder = data_dir / self.site.key
        folder.mkdir(parents=True, exist_ok=True)
        for name, rows in self.tables.items():
            path = write_table(folder, name, rows, without=self.without)
            if shuffle is not None:
                pl.read_parquet(path).sample(fraction=1, shuffle=True, seed=shuffle).write_parquet(
                    path
                )
        if self.as_of is not None:
            moment = f"{day(self.as_of):%FT%TZ}"
            (folder / "manifest.json").write_text(json.dumps({"as_of": moment}))
        return folder

    @cached_property
    def facts(self) -> stages.FactsStage:
        """The facts stage; the tables can no longer change."""
        with tempfile.TemporaryDirectory() as folder:
            self.write(Path(folder))
            return pipeline.facts(self.site, Path(folder))[0]

    @cached_property
    def stage(self) -> stages.SegmentsStage:
        """The segments stage, which does not tell projects apart."""
        return pipeline.segments(self.facts, self.site)

    @cached_property
    def stage_by_project(self) -> stages.SegmentsStage:
        """The segments stage, which tells projects apart."""
        return pipeline.segments(self.facts, self.site, by_project=True)

    @cached_property
    def outputs(self) -> Mapping[str, pl.DataFrame]:
        """Every output table, those included that are made on request."""
        return self.outputs_in(self.ranges) if self.ranges > 1 else WhenRead(self)

    def over(self, window: Window) -> TinySite:
        """Give the site as it is counted over another time; its tables are not read again."""
        other = copy(self)
        other.stage = self.stage
        other.window = window
        other.__dict__.pop("outputs", None)
        return other

    def outputs_in(self, count: int, engine: Engine | None = None) -> dict[str, pl.DataFrame]:
        """Give the same, made in so many ranges of hosts."""
        engine = engine or AtHome()
        with tempfile.TemporaryDirectory() as folder:
            late, observed = pipeline.observed_of(self.facts, keep=False)
            parts = cut(
                observed, self.site, Path(folder), count, by_project=True, apart=engine.apart
            )
            late, window, sums = pipeline.in_ranges(late, parts, engine, self.window, by_host=True)
            return pipeline.outputs(
                late, self.site, window, by_host=True, by_project=pl.DataFrame.clone, sums=sums
            )

    def daily(
        self,
        collector: str,
        count_type: str,
        *,
        resource: str = "nodes",
        host: str | None = None,
        node_type: str | None = None,
    ) -> list[float | None]:
        """Values of one series of usage_by_resource, a bucket each; [] if it is not emitted.

        Of a host or a node type, whose tables hold rows with a value only, a missing row is 0.
        """
        table = "usage_by_host" if host else "usage_by_node_type" if node_type else None
        frame = self.outputs[table or "usage_by_resource"].filter(
            (pl.col("collector_type") == collector) & (pl.col("count_type") == count_type)
        )
        if not host:
            frame = frame.filter(pl.col("resource") == resource)
        if host:
            frame = frame.filter(pl.col("hypervisor_hostname") == host)
        if node_type:
            frame = frame.filter(pl.col("node_type") == node_type)
        if frame.is_empty():
            return []
        if table:
            frame = (
                self.window.timestamps.select("timestamp")
                .join(frame, on="timestamp", how="left")
                .with_columns(pl.col("value").fill_null(0.0))
            )
        return frame.sort("timestamp")["value"].to_list()

    def corrected(self, count_type: str, **of: Any) -> list[float | None]:
        """Values of the corrected collector."""
        return self.daily("corrected", count_type, **of)

    def uncorrected(self, count_type: str, **of: Any) -> list[float | None]:
        """Values of the uncorrected collector."""
        return self.daily("uncorrected", count_type, **of)

    def inferred(self, quantity_type: str) -> list[tuple[datetime, datetime]]:
        """Stretches of a quantity that the corrected collector marks as inferred."""
        rows = self.stage.segments.filter(
            (pl.col("collector_type") == "corrected")
            & (pl.col("quantity_type") == quantity_type)
            & pl.col("inferred")
        ).sort("start", "end")
        return list(rows.select("start", "end").iter_rows())

    def rejected(self, source: str, stage: str = "") -> dict[str, str]:
        """Reason by row of a source's rejects, of stages that start with ``stage``."""
        rows = self.outputs["rejects"].filter(
            (pl.col("source") == source) & pl.col("stage").cast(pl.String).str.starts_with(stage)
        )
        return dict(rows.select("source_row_id", "reason").iter_rows())

    def hours(self, source: str, row: str, stage: str) -> float:
        """Hours that a stage rejects of one row."""
        rows = self.outputs["rejects"].filter(
            (pl.col("source") == source)
            & (pl.col("source_row_id") == row)
            & pl.col("stage").cast(pl.String).str.starts_with(stage)
        )
        return rows["hours"].sum()


class WhenRead(Mapping[str, pl.DataFrame]):
    """The output tables of a site; what the pipeline makes after the last one read, waits."""

    def __init__(self, site: TinySite) -> None:
        self.site = site
        self.tables: dict[str, pl.DataFrame] = {}
        self.rest: dict[bool, Iterator[tuple[str, Table]]] = {}

    def _each(self, *, by_project: bool) -> Iterator[tuple[str, Table]]:
        site = self.site
        stage = site.stage_by_project if by_project else site.stage
        sums = tally(stage.segments, stage.support, site.window, by_host=True)
        naming = pl.DataFrame.clone if by_project else None
        yield from pipeline.each_output(stage, site.site, site.window, sums, by_project=naming)

    def _make(self, last: str | None) -> None:
        """Make the tables up to this one, or all."""
        by_project = last is None or last in PROJECT_TABLES or True in self.rest
        for name, table in self.rest.setdefault(by_project, self._each(by_project=by_project)):
            whole = table if isinstance(table, pl.DataFrame) else pl.concat(table, rechunk=True)
            self.tables.setdefault(name, whole)
            if name == last:
                break

    def __getitem__(self, name: str) -> pl.DataFrame:
        if name not in self.tables and name in ALONE:
            self.tables[name] = pipeline._held(name, ALONE[name](self.site))
        if name not in self.tables:
            self._make(name)
        return self.tables[name]

    def __iter__(self) -> Iterator[str]:
        self._make(None)
        return iter(self.tables)

    def __len__(self) -> int:
        return len(list(iter(self)))


def _projected(site: TinySite) -> pl.DataFrame:
    stage, known = site.stage, pipeline.availability_of(site.stage)
    return projected.leadtime_projected(
        projected.whole_hosts(stage.segments), stage.schedule, known, site.window, site.site
    )


ALONE: dict[str, Callable[[TinySite], pl.DataFrame]] = {
    "rejects": lambda site: pipeline._in_order(site.stage.rejects),
    "leadtime_leases": lambda site: leadtime_tables(site.stage.leases, site.site.key)[
        "leadtime_leases"
    ],
    "leadtime_projected": _projected,
}
"""Tables for which no other need be made."""


def lively_site(**options: Any) -> TinySite:
    """A bare-metal site with a bit of everything; bad rows, too."""
    site = TinySite("chi_tacc", **options)
    site.host("h1", node_type="compute_skylake")
    site.host("h2", 0, 8, node_type="compute_skylake")
    site.host("h3", node_type="gpu_p100", gpus=2)
    site.hypervisor("h4", 0)  # Blazar never knew it
    site.hypervisor("h5", 0)
    site.pool_host("h5", 0, 5)  # taken out of the pool
    site.hypervisor("h2", 3, 9)
    site.hypervisor("h6", 5, 4)
    site.lease("L1", 1, 6, ["b-h1", "b-h2"], node_type="compute_skylake")
    site.lease("L2", 2.25, 4.5, ["b-h3"], node_type="gpu_p100")
    site.lease("L3", 6, 8, created_at=1, node_type="compute_skylake")
    site.lease("L4", 8, 9, created_at=1, deleted_at=2, node_type="compute_skylake")
    site.lease("L5", 7, 6, ["b-h3"])
    site.lease("L6", 3, 3 + HOUR, ["b-gone"], created_at=2)
    site.instance("I1", "h1", 1.25, 5, lease="L1", active=1.5)
    site.action("I1", "stop", 3)
    site.action("I1", "start", 4)
    site.instance("I2", "h2", 2, 7, lease="L1")
    site.instance("I3", None, 2.5, 4, lease="L2")
    site.instance("I4", "h3", 8, 9, project_id="q")
    site.instance("I5", None, 3, None, launched_at=None, vm_state="error", created_event=False)
    for number in (*range(DAYS), 4):  # day 4 twice
        for kind in ("compute_skylake", "gpu_p100"):
            used = 12.0 * (number % 3)
            site.cached_day(
                number,
                kind,
                maint_hours=6,
                used_hours=used,
                reserved_hours=6,
                idle_hours=36 - used,
                total_hours=48,
            )
    for host, start, end in (("h3", 6, 7), ("h1", 3, 4), ("h1", 9, 8)):
        site.add(
            "chameleon_usage.node_maintenance",
            hypervisor_hostname=host,
            start_time=start,
            end_time=end,
        )
    return site


def lively_kvm_site(**options: Any) -> TinySite:
    """Virtual machines inside and outside reservations."""
    site = TinySite("kvm_tacc", **options)
    site.host("k1", hypervisor_type="QEMU")
    site.host("k2", 2, 8, hypervisor_type="QEMU", vcpus=24)
    site.hypervisor("k3", 0, hypervisor_type="QEMU", vcpus=96)
    site.slices("L1", 1, 6, ["b-k1", "b-k1", "b-k2"], vcpus=12)
    site.instance("V1", "k1", 1.5, 5, lease="L1", flavor=True, vcpus=12, memory_mb=1200, root_gb=12)
    site.instance("V2", "k3", 2, 9, vcpus=32, memory_mb=64, root_gb=8, project_id="q")
    site.action("V2", "pause", 4)
    site.action("V2", "unpause", 5)
    site.instance("V3", "k3", 3, None, vcpus=16, memory_mb=64, root_gb=8, project_id="q")
    return site


def lively_edge_site(**options: Any) -> TinySite:
    """Devices and containers."""
    site = TinySite("chi_edge", **options)
    site.device("pi", 0)
    site.device("nano", 1, reservable=0, updated_at=7)
    site.lease("L1", 2, 5, ["d-pi"], resource_type="device", node_type="raspberrypi4-64")
    site.lease("L2", 3, 6, ["d-nano"], resource_type="device")
    site.container("c1", "pi", 2.5, started_at=3)
    return site


LIVELY: dict[str, Callable[..., TinySite]] = {
    "chi_tacc": lively_site,
    "kvm_tacc": lively_kvm_site,
    "chi_edge": lively_edge_site,
}


@cache
def lively(key: str) -> TinySite:
    """The lively site of a key, computed once: for tests that read it and change nothing."""
    return LIVELY[key]()


def on(*stretches: tuple[float, float], days: int = DAYS, height: float = 1.0) -> list[float]:
    """Daily means of something that holds during disjoint stretches, given in days."""
    return [
        height * sum(max(0.0, min(end, d + 1) - max(start, d)) for start, end in stretches)
        for d in range(days)
    ]


def full_site() -> TinySite:
    """A bare-metal site with rows in every table that an adapter answers for."""
    site = lively_site()
    site.add("doni.hardware", uuid="h1", hardware_type="baremetal", created_at=0)
    site.add("doni.hardware", uuid="rack", hardware_type="switch", created_at=0)
    site.add("inventory.node_intervals", uid="h1", node_type="compute_skylake", valid_from=0)
    site.ironic("h1", 3, provision_state="active")
    site.ironic("h3", 5, maintenance=1, fault="power failure")
    site.add("nova.services", host="conductor", binary="nova-conductor", created_at=0)
    site.add("chameleon_usage.node_count_cache", date=4, node_type="gpu_p100", cnt=2)
    site.add("chameleon_usage.node_count_cache", date=12, node_type="gpu_p100", cnt=2)
    site.lease("addresses", 2, 3, [], resource_type="virtual:floatingip")
    return site


def full_kvm_site() -> TinySite:
    """A KVM site of which the services tell, too."""
    site = lively_kvm_site()
    site.add("nova.services", id=77, host="k1", binary="nova-compute", created_at=0)
    return site


MAKERS = LIVELY | {"chi_tacc": full_site, "kvm_tacc": full_kvm_site}
