"""Whole little sites, generated: several small worlds beside each other, each with its own decay.

The worlds of a site share nothing but the moment at which the tables were read, so that one run of
the pipeline tries many; a failure shrinks to the one world that shows it. Times are quarters of a
day, but for a few that lie minutes off.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hypothesis import strategies as st

from support.sites import MINUTE, TinySite, uid

if TYPE_CHECKING:
    from collections.abc import Callable

    Draw = Callable[[st.SearchStrategy[Any]], Any]

ZERO_DATE = "0000-00-00 00:00:00"


def quarters(first: float, last: float) -> st.SearchStrategy[float]:
    """Draw a moment or a length in days, a multiple of a quarter."""
    return st.integers(round(first * 4), round(last * 4)).map(lambda number: number / 4)


def is_kvm(site: TinySite) -> bool:
    """Tell a site of virtual machines."""
    return site.site.key == "kvm_tacc"


def now_and_then(draw: Draw) -> bool:
    """Draw yes once in ten times."""
    return draw(st.integers(0, 9)) == 9


def missing(draw: Draw, moment: float) -> float | str | None:
    """Lose a moment now and then: null, or a zero date."""
    return draw(st.sampled_from([None, ZERO_DATE])) if now_and_then(draw) else moment


def ending(draw: Draw, start: float, end: float) -> float | None:
    """Lose an end now and then, or let it come before the start."""
    if now_and_then(draw):
        return draw(st.sampled_from([None, start - 1, start]))
    return end


def hypervisors(draw: Draw, site: TinySite, name: str, **kind: Any) -> None:
    """Rows of one host with Nova: one after another, minutes or days apart, or overlapping."""
    start = draw(quarters(-2, 3))
    for number in range(draw(st.sampled_from([1, 1, 2, 2, 3, 3 if is_kvm(site) else 0]))):
        end = start + draw(quarters(1, 9))
        # Of a virtual machines' host something must tell what it is.
        created = start if number == 0 and is_kvm(site) else missing(draw, start)
        last = end if number == 0 and draw(st.booleans()) else ending(draw, start, end)
        site.hypervisor(name, created, last, **kind)
        minutes = draw(st.sampled_from([0, 5, 14, 15, 16]))
        start = end + draw(st.sampled_from([-1.0, minutes * MINUTE, minutes * MINUTE, 0.5, 2.0]))


def pool_rows(draw: Draw, name: str) -> list[dict[str, Any]]:
    """Enrolments of one host or device: an id each, its row perhaps purged."""
    rows = []
    for number in range(draw(st.sampled_from([1, 1, 1, 2, 2, 0]))):
        start = draw(quarters(-1, 4))
        end = start + draw(quarters(1, 9))
        told = draw(st.sampled_from(["deleted", "deleted", "withdrawn", "open", "open", "purged"]))
        row: dict[str, Any] = {"id": f"{name}-{number}", "created_at": missing(draw, start)}
        row["reservable"] = 0 if told == "withdrawn" else 1
        row["updated_at"] = end if told == "withdrawn" else None
        row["deleted_at"] = ending(draw, start, end) if told == "deleted" else None
        rows.append(row | {"purged": told == "purged"})
    return rows


def enrol(draw: Draw, site: TinySite, name: str, **kind: Any) -> list[str]:
    """Enrol a host with Blazar and give the ids of its enrolments."""
    rows = pool_rows(draw, name)
    for row in rows:
        if not row.pop("purged"):
            site.pool_host(name, row.pop("created_at"), host_id=row["id"], **row | kind)
    return [row["id"] for row in rows]


def lease(
    draw: Draw, site: TinySite, name: str, ids: list[str], **options: Any
) -> tuple[str, float, float]:
    """Lease some hosts; hosts come late, leave early or leave no trace, ends are missing."""
    start = draw(quarters(0, 6))
    end = start + draw(quarters(0.5, 6))
    created = start - draw(st.sampled_from([0, 0, 1, -0.5]))
    facts = {"created_at": missing(draw, created), "project_id": f"p-{name[0]}"}
    if draw(st.integers(0, 4)) == 4:
        facts["deleted_at"] = draw(st.sampled_from([end - 0.25, start, start - 0.5, end + 1]))
    if now_and_then(draw):
        facts["project_id"] = draw(st.sampled_from(["q", None]))
    site.lease(name, start, ending(draw, start, end), [], **facts, **options)
    if now_and_then(draw):
        table = draw(st.sampled_from(["blazar.leases", "blazar.reservations"]))
        site.tables[table].pop()
    device = options.get("resource_type") == "device"
    some = st.lists(st.sampled_from(ids or [None]), min_size=1, max_size=3, unique=not is_kvm(site))
    for host_id in draw(some):
        made = draw(st.sampled_from([created, created, created, start + 0.25]))
        gone = draw(st.sampled_from([None, None, None, start + 1]))
        held = None if now_and_then(draw) else host_id
        site.allocation(name, held, missing(draw, made), gone, device=device)
    return name, start, end


def events(draw: Draw, site: TinySite, name: str, span: tuple[float, float], host: str) -> None:
    """Things that were done to an instance, in order of time; some failed."""
    moment, end = span
    steps = ["stop", "start", "pause", "unpause", "reboot", "rebuild", "shelve", "shelve_offload"]
    for step in draw(st.lists(st.sampled_from([*steps, "unshelve", "unshelve"]), max_size=4)):
        begin = moment
        moment += draw(st.sampled_from([0.0, 0.25, 0.5, 1.0]))
        if moment > end:
            return
        if step == "shelve_offload" and moment == span[0]:
            continue  # nothing is given up before it is held
        finish = None if now_and_then(draw) else moment
        site.action(
            name,
            step,
            finish,
            start=moment if finish is None else draw(st.sampled_from([begin, moment])),
            result="Error" if now_and_then(draw) else "Success",
            host=host,
        )


def instance(
    draw: Draw,
    site: TinySite,
    name: str,
    nodes: list[str],
    leases: list[tuple[str, float, float]],
    **row: Any,
) -> None:
    """An instance on one of the hosts, in one of the leases or in none."""
    lease_, start, end = None, draw(quarters(0, 6)), 9.0
    if leases and not now_and_then(draw):
        lease_, start, end = draw(st.sampled_from(leases))
        start += draw(st.sampled_from([0, 0, 0.25, 1, -0.5]))
    end = max(start + 0.25, end - draw(st.sampled_from([0, 0, 0.25, 1, -0.5])))
    node = None if draw(st.integers(0, 5)) == 5 else draw(st.sampled_from(nodes))
    build = draw(st.sampled_from([0.0, 0.25, 0.5]))
    born = draw(st.sampled_from(["create event"] * 4 + ["launched_at", "failed"]))
    ended = ending(draw, start, end)
    purged = draw(st.integers(0, 3)) == 3
    site.instance(
        name,
        node,
        missing(draw, start),
        ended,
        lease=None if purged else lease_,
        created_event=False,
        launched_at=None if born == "failed" else start + build,
        project_id=f"p-{name[0]}" if not now_and_then(draw) else "q",
        vm_state="error" if born == "failed" else "active" if ended is None else "deleted",
        **row,
    )
    host = node or nodes[0]
    if born == "create event":
        site.action(name, "create", start + build, start=start, host=host)
    elif born == "failed":
        site.action(name, "create", start + build, start=start, host=host, result="Error")
    if born != "failed":
        events(draw, site, name, (start + build, end), host)


def maintenance(draw: Draw, site: TinySite, name: str) -> None:
    """A window now and then; it may be open, or end before it starts."""
    if draw(st.integers(0, 3)) == 3:
        start = draw(quarters(0, 7))
        site.add(
            "chameleon_usage.node_maintenance",
            hypervisor_hostname=name,
            start_time=start,
            end_time=ending(draw, start, start + draw(quarters(0.25, 4))),
        )


def bare_metal_world(draw: Draw, site: TinySite, key: str) -> None:
    """Up to three nodes, their enrolments, leases, instances, inventory and maintenance."""
    nodes = [f"{key}h{number}" for number in range(draw(st.integers(1, 3)))]
    ids = []
    for name in nodes:
        hypervisors(draw, site, name, vcpus=draw(st.sampled_from([48, 0, None, -1])))
        ids += enrol(draw, site, name, vcpus=draw(st.sampled_from([48, 0])))
        if now_and_then(draw):
            start = draw(quarters(-2, 6))
            end = ending(draw, start, start + draw(quarters(1, 6)))
            site.add("inventory.node_intervals", uid=name, valid_from=start, valid_to=end)
        maintenance(draw, site, name)
    leases = [
        lease(draw, site, f"{key}L{number}", ids) for number in range(draw(st.integers(1, 3)))
    ]
    for number in range(draw(st.integers(0, 3))):
        instance(draw, site, f"{key}I{number}", nodes, leases)


def kvm_world(draw: Draw, site: TinySite, key: str) -> None:
    """Up to two hosts, slices of them leased, and machines inside and outside reservations."""
    nodes = [f"{key}h{number}" for number in range(draw(st.integers(1, 2)))]
    ids = []
    kind = {"hypervisor_type": "QEMU"}
    for name in nodes:
        vcpus = draw(st.sampled_from([48, 24]))
        hypervisors(draw, site, name, vcpus=draw(st.sampled_from([vcpus, vcpus, 0])), **kind)
        ids += enrol(draw, site, name, vcpus=draw(st.sampled_from([vcpus, vcpus, 0])), **kind)
        if now_and_then(draw):
            start = draw(quarters(-2, 6))
            end = ending(draw, start, start + draw(quarters(1, 6)))
            times = {"created_at": missing(draw, start), "deleted_at": end}
            site.add("nova.services", host=name, binary="nova-compute", **times)
        maintenance(draw, site, name)
    leases = []
    for number in range(draw(st.integers(0, 2))):
        name = f"{key}L{number}"
        leases.append(lease(draw, site, name, ids, resource_type="flavor:instance"))
        vcpus = draw(st.sampled_from([12, 24, 36]))
        site.add("blazar.instance_reservations", reservation_id=uid(name), vcpus=vcpus)
    for number in range(draw(st.integers(0, 4))):
        name = f"{key}I{number}"
        vcpus = None if now_and_then(draw) else draw(st.sampled_from([6, 12, 36]))
        if len(nodes) == 1 or draw(st.booleans()):
            instance(draw, site, name, nodes, leases, vcpus=vcpus, flavor=True)
        else:
            migrant(draw, site, name, nodes, vcpus=vcpus)


def migrant(draw: Draw, site: TinySite, name: str, nodes: list[str], **row: Any) -> None:
    """A machine that moves from the first host to the second; its row names the second only."""
    start = draw(quarters(0, 4))
    moved, end = start + draw(quarters(0.5, 3)), start + 4
    node = None if now_and_then(draw) else nodes[1]
    site.instance(name, node, start, end, created_event=False, **row)
    site.action(name, "create", start, host=nodes[0])
    if draw(st.booleans()):
        site.action(name, "stop", start + (moved - start) / 2, host=nodes[0])
    how = draw(st.sampled_from(["migrate", "live-migration"]))
    result = "Error" if now_and_then(draw) else "Success"
    site.action(name, how, moved, host=nodes[1], result=result)


def edge_world(draw: Draw, site: TinySite, key: str) -> None:
    """Up to two devices, leases of them, and containers."""
    names = [f"{key}d{number}" for number in range(draw(st.integers(1, 2)))]
    ids = []
    for name in names:
        rows = pool_rows(draw, name)
        ids += [row["id"] for row in rows]
        for row in rows:
            if not row.pop("purged"):
                site.device(name, row.pop("created_at"), **row)
    leases = [
        lease(draw, site, f"{key}L{number}", ids, resource_type="device")
        for number in range(draw(st.integers(1, 3)))
    ]
    for number in range(draw(st.integers(0, 2))):
        name = f"{key}c{number}"
        _, start, end = draw(st.sampled_from(leases))
        start += draw(st.sampled_from([0, 0.25, -0.5]))
        gone = draw(st.booleans())
        site.container(
            name,
            draw(st.sampled_from(names)),
            missing(draw, start),
            started_at=None if now_and_then(draw) else start + 0.25,
            status="Deleted" if gone else "Running",
            updated_at=end if gone else None,
            project_id=f"p-{key[0]}" if not now_and_then(draw) else "q",
        )
        for step in draw(st.lists(st.sampled_from(["stop", "start", "pause"]), max_size=3)):
            start += 0.5
            done = site.add(
                "zun.container_actions", action=step, container_uuid=name, start_time=start
            )
            site.add(
                "zun.container_actions_events",
                action_id=done["id"],
                result="Error" if now_and_then(draw) else "Success",
                finish_time=start,
            )


WORLDS = {"chi_tacc": bare_metal_world, "kvm_tacc": kvm_world, "chi_edge": edge_world}


@st.composite
def little_sites(draw: Draw, key: str, *, most: int = 16) -> TinySite:
    """Draw a site of up to ``most`` worlds."""
    site = TinySite(key, as_of=draw(st.sampled_from([8.0, 9.5, 10.0, 12.0])))
    letters = "abcdefghijklmnopqrstuvwxyz"
    for number in range(draw(st.integers(1, most))):
        WORLDS[key](draw, site, f"{letters[number]}-")
    return site
