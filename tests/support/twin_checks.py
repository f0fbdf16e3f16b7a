"""Slow, plain readings of the twin's tables, to set beside its truth. Times are epoch seconds."""

from pathlib import Path

import polars as pl

GAP = 15 * 60


def read(folder: Path, name: str) -> pl.DataFrame:
    """One table, its datetimes as epoch seconds."""
    frame = pl.read_parquet(folder / f"{name}.parquet")
    return frame.with_columns(pl.col(pl.Datetime).dt.epoch("s"))


def merge(spans: list[tuple[int, int]], gap: int = 0) -> list[tuple[int, int]]:
    """Union of half-open spans; spans less than `gap` apart are one."""
    merged: list[tuple[int, int]] = []
    for start, end in sorted(s for s in spans if s[1] > s[0]):
        if merged and (start <= merged[-1][1] or start - merged[-1][1] < gap):
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((start, end))
    return merged


def spans_by(rows: list[tuple[str, int, int]], gap: int = 0) -> set[tuple[str, int, int]]:
    """Merged (host, start, end) of many hosts."""
    hosts: dict[str, list[tuple[int, int]]] = {}
    for host, start, end in rows:
        hosts.setdefault(host, []).append((start, end))
    return {(h, s, e) for h, spans in hosts.items() for s, e in merge(spans, gap)}


def truth(folder: Path, quantity: str) -> set[tuple[str, int, int]]:
    """The truth's intervals of a quantity; those of a host before and after a rebuild as one."""
    rows = read(folder / "truth", "intervals").filter(quantity_type=quantity)
    return spans_by(rows.select("host", "start", "end").rows())


def total(folder: Path, as_of: int) -> set[tuple[str, int, int]]:
    """compute_nodes read as presences; at the Edge devices."""
    if (folder / "blazar.devices.parquet").exists() and not (
        folder / "nova.compute_nodes.parquet"
    ).exists():
        rows = read(folder, "blazar.devices").select(
            "name", "created_at", pl.col("deleted_at").fill_null(as_of)
        )
        return spans_by(rows.rows())
    rows = read(folder, "nova.compute_nodes").select(
        "hypervisor_hostname", "created_at", pl.col("deleted_at").fill_null(as_of)
    )
    return spans_by(rows.rows(), GAP)


def reservable(folder: Path, as_of: int) -> set[tuple[str, int, int]]:
    """computehosts read as enrolments; at the Edge devices."""
    rows = read(folder, "blazar.computehosts")
    if not len(rows):
        return total(folder, as_of)
    end = pl.when(pl.col("deleted_at").is_null() & (pl.col("reservable") == 0)).then(
        "updated_at"
    ).otherwise(pl.col("deleted_at").fill_null(as_of))  # fmt: skip
    return spans_by(rows.select("hypervisor_hostname", "created_at", end.alias("end")).rows())


def committed(folder: Path, as_of: int) -> pl.DataFrame:
    """Allocations by the definition of `committed`: host, reservation_id, start, end, unmerged."""
    if len(hosts := read(folder, "blazar.computehosts")):
        rows = read(folder, "blazar.computehost_allocations").join(
            hosts.select(compute_host_id="id", host="hypervisor_hostname"), on="compute_host_id"
        )
    else:
        rows = read(folder, "blazar.device_allocations").join(
            read(folder, "blazar.devices").select(device_id="id", host="name"), on="device_id"
        )
    reservations = read(folder, "blazar.reservations").select("lease_id", reservation_id="id")
    leases = read(folder, "blazar.leases").select(
        "start_date", "end_date", lease_id="id", made="created_at", gone="deleted_at"
    )
    return (
        rows.join(reservations, on="reservation_id")
        .join(leases, on="lease_id")
        .select(
            "host",
            "reservation_id",
            start=pl.max_horizontal("start_date", "made", "created_at"),
            end=pl.min_horizontal("end_date", "gone", "deleted_at", pl.lit(as_of)),
        )
        .filter(pl.col("end") > pl.col("start"))
    )


LIFE = ("quantity", "host", "reservation_id", "start", "end", "vcpus")
ON = {
    "compute_start_instance", "compute_unpause_instance", "compute_resume_instance",
    "compute_unshelve_instance", "compute_container_start", "compute_restore_instance",
    "power start",
}  # fmt: skip
OFF = {
    "compute_stop_instance", "compute_pause_instance", "compute_suspend_instance",
    "compute_shelve_instance", "compute_container_stop", "compute_soft_delete_instance",
    "power stop",
}  # fmt: skip
BUILT = {"compute__do_build_and_run_instance", "compute__do_container_create"}
MOVED = {"compute_post_live_migration_at_destination", "compute_finish_resize", "evacuated",
         "unshelving"}  # fmt: skip


def _stories(folder: Path) -> dict[str, list[tuple[int, str, str | None]]]:
    """Per instance, (time, what, host of the event) of every successful event, in order."""
    edge = (folder / "zun.container.parquet").exists()
    table, key = ("zun.container_actions", "container_uuid") if edge else (
        "nova.instance_actions", "instance_uuid")  # fmt: skip
    actions = read(folder, table)
    events = read(folder, f"{table}_events").filter(pl.col("result") == "Success")
    host = pl.lit("") if edge else pl.col("host")
    both = events.join(actions.select("action", key, action_id="id"), on="action_id")
    # What happened stands in the event's name, but for these two in that of the action.
    name = pl.when(pl.col("event") == "compute_power_update").then(
        pl.format("power {}", "action")
    ).when((pl.col("event") == "compute_rebuild_instance") & (pl.col("action") == "evacuate")).then(
        pl.lit("evacuated")
    ).otherwise("event")  # fmt: skip
    rows = both.select(key, "finish_time", name.alias("event"), host.alias("at"), "id")
    # Occupation comes back, and maybe elsewhere, with the start of an unshelve.
    begun = both.filter(pl.col("event") == "compute_unshelve_instance").select(
        key, finish_time="start_time", event=pl.lit("unshelving"), at=host, id="id"
    )
    told: dict[str, list[tuple[int, str, str | None]]] = {}
    for uuid, when, event, at, _ in pl.concat([rows, begun]).sort("finish_time", "id").rows():
        told.setdefault(uuid, []).append((when, event, at))
    return told


def _moves(folder: Path) -> dict[str, list[tuple[str, str, int, int]]]:
    """Per instance, (source, destination, vcpus before, vcpus after) of what moved, in order.

    An evacuation tells no size.
    """
    if not (folder / "nova.migrations.parquet").exists():
        return {}
    vcpus = read(folder, "nova_api.flavors").select("id", "vcpus")
    rows = read(folder, "nova.migrations").filter(~pl.col("status").is_in(["error", "failed"]))
    for side in ("old", "new"):
        rows = rows.join(
            vcpus.rename({"id": f"{side}_instance_type_id", "vcpus": side}),
            on=f"{side}_instance_type_id",
            how="left",
        )
    told: dict[str, list[tuple[str, str, int, int]]] = {}
    for uuid, *move in rows.sort("id").select(
        "instance_uuid", "source_node", "dest_node", "old", "new"
    ).rows():  # fmt: skip
        told.setdefault(uuid, []).append(tuple(move))
    return told


def lives(folder: Path, as_of: int) -> pl.DataFrame:
    """Every stretch in which an instance or container is there, or runs, by its events.

    Columns: quantity (occupied, active), host, reservation_id (null on demand), start, end, vcpus.
    """
    edge = (folder / "zun.container.parquet").exists()
    told, moved = _stories(folder), _moves(folder)
    if edge:
        rows = read(folder, "zun.container").select(
            "uuid", "created_at", node="host", vcpus=pl.lit(0),
            reservation_id=pl.col("annotations").str.extract(r'"reservation": "([0-9a-f-]+)"'),
        )  # fmt: skip
        ended = {
            uuid: when for uuid, story in told.items()
            for when, event, _ in story if event == "compute_container_delete"
        }  # fmt: skip
        rows = rows.with_columns(
            deleted_at=pl.Series([ended.get(u) for u in rows["uuid"]], dtype=pl.Int64)
        )
    else:
        specs = read(folder, "nova_api.request_specs").select(
            uuid="instance_uuid",
            reservation_id=pl.col("spec").str.extract(
                r'"reservation": \["([0-9a-f-]+)"|"name": "reservation:([0-9a-f-]+)"', 1
            ).fill_null(pl.col("spec").str.extract(r'"name": "reservation:([0-9a-f-]+)"')),
        )  # fmt: skip
        # Nova's own reservation_id is that of a boot request and has nothing to do with Blazar.
        rows = read(folder, "nova.instances").drop("reservation_id").filter(
            pl.col("launched_at").is_not_null()
        ).join(specs, on="uuid", how="left")  # fmt: skip
    only = dict(
        committed(folder, as_of)
        .group_by("reservation_id")
        .agg(pl.col("host").unique())
        .filter(pl.col("host").list.len() == 1)
        .select("reservation_id", pl.col("host").list.first())
        .rows()
    )
    kvm = (folder / "nova.shadow_instances.parquet").exists()
    out: list[tuple[str, str, str | None, int, int, int]] = []
    columns = ("uuid", "created_at", "deleted_at", "node", "reservation_id", "vcpus")
    if not edge:  # deleted softly, a row has a date and is there
        there_still = pl.when(pl.col("deleted") != 0).then("deleted_at")
        rows = rows.with_columns(deleted_at=there_still)
    for uuid, created, deleted, node, reservation, vcpus in rows.select(columns).rows():
        end = as_of if deleted is None else deleted
        story = [s for s in told.get(uuid, []) if s[0] is not None]
        if kvm:
            places = _places(story, moved.get(uuid, []), created, node, vcpus)
        else:
            places = [(created, node or only[reservation], vcpus)]
        there, runs = True, False
        since, running = created, 0
        for finish, event, _ in [*story, (end, "end", "")]:
            when = min(finish, end)
            if there and (event == "end" or _offloads(story, when, event, hostless=node is None)):
                out += [("occupied", h, reservation, s, e, v)
                        for h, s, e, v in _cut(places, since, when)]  # fmt: skip
                there = False
            elif event == "unshelving" and not there:
                there, since = True, when
            if event in BUILT | ON and not runs:
                runs, running = True, when
            elif runs and (event in OFF or event == "end"):
                out += [("active", h, reservation, s, e, v)
                        for h, s, e, v in _cut(places, running, when)]  # fmt: skip
                runs = False
    return pl.DataFrame(
        out, schema=dict(zip(LIFE, [pl.String] * 3 + [pl.Int64] * 3, strict=True)), orient="row"
    ).filter(pl.col("end") > pl.col("start"))


def _places(
    story: list[tuple[int, str, str | None]],
    moved: list[tuple[str, str, int, int]],
    created: int,
    node: str | None,
    vcpus: int,
) -> list[tuple[int, str, int]]:
    """Where a virtual machine was from when on, and of which size.

    Events say when; where, they say or, in their order, the migrations do.
    """
    # The event of the build names the host of the first try.
    shelved = next((at for _, event, at in story if event == "compute_shelve_instance"), None)
    first = moved[0][0] if moved else shelved or node
    places = [(created, first, moved[0][2] if moved and moved[0][2] else vcpus)]
    left = list(moved)
    for when, event, at in story:
        if event == "unshelving":
            places.append((when, at, places[-1][2]))
        elif event in MOVED:
            _, target, _, size = left.pop(0)
            assert at in {target, None}
            places.append((when, target, size or places[-1][2]))
    assert not left
    return places


def _offloads(
    story: list[tuple[int, str, str | None]], when: int, event: str, *, hostless: bool
) -> bool:
    """An offload event, or a shelving without one.

    That is one if an unshelving follows which builds the instance anew, or if nothing follows and
    the row has no host any more.
    """
    if event == "compute_shelve_offload_instance":
        return True
    if event != "compute_shelve_instance":
        return False
    later = [name for at, name, _ in story if at > when]
    following = [name for name in later if name != "compute_terminate_instance"]
    return following[0] == "unshelving" if following else hostless


def _cut(
    places: list[tuple[int, str, int]], start: int, end: int
) -> list[tuple[str, int, int, int]]:
    """A stretch cut at the moves from place to place, with the size there."""
    until = [when for when, _, _ in places[1:]] + [end]
    return [
        (host, max(start, since), min(end, stop), size)
        for (since, host, size), stop in zip(places, until, strict=True)
        if min(end, stop) > max(start, since)
    ]


def in_commitments(stays: pl.DataFrame, held: pl.DataFrame) -> pl.DataFrame:
    """Stays of reserved instances, clipped to what their reservation holds on that host."""
    spans: dict[tuple[str, str], list[tuple[int, int]]] = {}
    for host, reservation, start, end in held.select(
        "host", "reservation_id", "start", "end"
    ).rows():
        spans.setdefault((host, reservation), []).append((start, end))
    out = []
    for quantity, host, reservation, start, end, vcpus in stays.rows():
        for low, high in merge(spans.get((host, reservation), [])):
            if min(end, high) > max(start, low):
                out.append((quantity, host, max(start, low), min(end, high), vcpus))
    return pl.DataFrame(out, schema=["quantity", "host", "start", "end", "vcpus"], orient="row")
