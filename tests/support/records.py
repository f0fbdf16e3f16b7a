"""What each row of a tiny site's tables says of hosts, allocations and instances, in plain Python.

Slow and plain: lists of dictionaries, no data frames, nothing of the pipeline's. Times are whole
seconds from the first day of the window.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable

    from support.sites import TinySite

Span = tuple[int, int]
Row = dict[str, Any]

DONE = "Success"
CREATE = "compute__do_build_and_run_instance"
OFFLOAD, SHELVE, UNSHELVE = (
    "compute_shelve_offload_instance",
    "compute_shelve_instance",
    "compute_unshelve_instance",
)
STARTS = {
    CREATE,
    UNSHELVE,
    *(f"compute_{name}_instance" for name in ("start", "unpause", "resume", "reboot")),
}
STOPS = {
    SHELVE,
    OFFLOAD,
    *(f"compute_{name}_instance" for name in ("stop", "pause", "suspend")),
}
ARRIVALS = {
    CREATE,
    UNSHELVE,
    "compute_finish_resize",
    "compute_post_live_migration_at_destination",
    "compute_rebuild_instance",
}
BEFORE_1971 = -17897
"""In days from the window's first; none of the services is so old."""
CONTAINER_STARTS, CONTAINER_STOPS = {"start", "reboot", "unpause"}, {"stop", "kill", "pause"}


def covers(spans: Iterable[Span], t: int) -> bool:
    """Tell whether one of the half-open spans holds at t."""
    return any(start <= t < end for start, end in spans)


def earliest(*times: int | None) -> int | None:
    """Give the first of the times that are known."""
    return min((time for time in times if time is not None), default=None)


def first_known(*values: Any) -> Any:
    """Give the first value that is not null."""
    return next((value for value in values if value is not None), None)


@dataclass
class Hold:
    """An allocation: its reservation holds a host (or a slice of it) for a time."""

    reservation: str
    project: str | None
    host_id: str | None
    host: str | None
    span: Span
    open: bool
    vcpus: int | None
    listed: str | None  # the name in its host's row, if that is still there
    made: int | None
    end: int | None = None  # even after as_of


@dataclass
class Guest:
    """An instance or container: where it sat and when, and when it ran."""

    name: str
    reservation: str | None
    project: str | None
    span: Span
    vcpus: int | None
    node: str | None  # what its row names
    seats: list[tuple[str | None, int, int, bool]]  # host, start, end, still so at as_of
    runs: list[Span]
    launched: list[Span]  # what its row alone says


class Records:
    """The tables of a tiny site, row by row, as what they say of holds, enrolments and guests."""

    def __init__(self, site: TinySite) -> None:
        self.as_of = round(site.as_of * 86400)
        self.kvm = site.site.key == "kvm_tacc"
        self.edge = site.site.key == "chi_edge"
        self.times = {self.as_of}
        self.tables = {
            name: [self._timed(row) for row in rows] for name, rows in site.tables.items()
        }
        self.hypervisors = {row["hypervisor_hostname"] for row in self.rows("nova.compute_nodes")}
        self.unreserved: set[str] = set()
        self.holds = self._holds()
        self.pool = self._pool()
        self.guests = [*self._instances(), *self._containers()]

    def _timed(self, row: Row) -> Row:
        """Bring numbers of days to seconds; a zero date, or one before 1971, is no date."""
        told = dict(row)
        for name in row:
            if re.search(r"_(at|date|time|from|to)$", name):
                days = row[name]
                dated = isinstance(days, int | float) and days > BEFORE_1971
                told[name] = round(days * 86400) if dated else None
                self.times |= {told[name]} - {None}
        return told

    def rows(self, table: str) -> list[Row]:
        """Give a table's rows."""
        return self.tables.get(table, [])

    def life(self, start: int | None, end: int | None) -> Span | None:
        """Give the part of [start, end) that was known at as_of; None if it is none."""
        if start is None or start >= self.as_of or (end is not None and end <= start):
            return None
        return start, self.as_of if end is None else min(end, self.as_of)

    def instants(self) -> list[int]:
        """Every instant at which anything can change."""
        return sorted(self.times)

    # --- who holds what ---------------------------------------------------------------------------

    def _holds(self) -> list[Hold]:
        table, owner, hosts, name = (
            ("blazar.device_allocations", "device_id", "blazar.devices", "name")
            if self.edge
            else (
                "blazar.computehost_allocations",
                "compute_host_id",
                "blazar.computehosts",
                "hypervisor_hostname",
            )
        )
        reservations = {row["id"]: row for row in self.rows("blazar.reservations")}
        leases = {row["id"]: row for row in self.rows("blazar.leases")}
        slices = {
            row["reservation_id"]: row["vcpus"] for row in self.rows("blazar.instance_reservations")
        }
        names = {row["id"]: row[name] for row in self.rows(hosts)}
        holds = []
        for row in self.rows(table):
            reservation = reservations.get(row["reservation_id"])
            lease = leases.get(reservation["lease_id"]) if reservation else None
            if lease is None or lease.get("start_date") is None or row[owner] is None:
                continue
            size = slices.get(row["reservation_id"])
            if reservation["resource_type"] == "flavor:instance" and not 0 < (size or 0) < 2**30:
                continue  # a slice of unknown size
            made = row.get("created_at")
            start = max(
                time
                for time in (lease["start_date"], lease.get("created_at"), made)
                if time is not None
            )
            end = earliest(lease.get("end_date"), lease.get("deleted_at"), row.get("deleted_at"))
            span = self.life(start, end)
            if span:
                holds.append(
                    Hold(
                        row["reservation_id"],
                        lease.get("project_id"),
                        row[owner],
                        names.get(row[owner]),
                        span,
                        end is None,
                        size,
                        names.get(row[owner]),
                        made,
                        end,
                    )
                )
        return holds

    def _pool(self) -> list[dict[str, Any]]:
        """One Blazar host or device id is one contiguous enrolment."""
        table, name = (
            ("blazar.devices", "name")
            if self.edge
            else ("blazar.computehosts", "hypervisor_hostname")
        )
        enrolments = []
        ids = set()
        for row in self.rows(table):
            ids.add(row["id"])
            mine = [hold for hold in self.holds if hold.host_id == row["id"]]
            first = earliest(*(first_known(hold.made, hold.span[0]) for hold in mine))
            withdrawn = None
            if row["reservable"] == 0:  # by Blazar, or by hand: what leases held later was there
                held = [] if any(hold.open for hold in mine) else [hold.end for hold in mine]
                times = [time for time in (row.get("updated_at"), *held) if time is not None]
                withdrawn = max(times, default=row.get("created_at"))
            end = first_known(row.get("deleted_at"), withdrawn)
            span = self.life(first_known(row.get("created_at"), first), end)
            if span:
                word = withdrawn and first_known(row.get("updated_at"))
                told = self.life(row.get("created_at"), first_known(row.get("deleted_at"), word))
                undated = withdrawn is not None and first_known(row.get("deleted_at"), word) is None
                enrolments.append(
                    {
                        "id": row["id"],
                        "host": row[name],
                        "named": row[name],
                        "span": span,
                        "told": None if undated else told,
                        "row": row,
                        "open": end is None,
                    }
                )
        for gone in sorted({hold.host_id for hold in self.holds} - ids):
            holds = [hold for hold in self.holds if hold.host_id == gone]
            made = earliest(*(first_known(hold.made, hold.span[0]) for hold in holds))
            last = max(hold.span[1] for hold in holds)
            still = any(hold.open for hold in holds)
            span = self.life(made, None if still else last)
            if span:
                enrolments.append(
                    {
                        "id": gone,
                        "host": None,
                        "named": None,
                        "span": span,
                        "told": None,
                        "row": None,
                        "open": still,
                    }
                )
        return enrolments

    # --- instances --------------------------------------------------------------------------------

    def _instances(self) -> list[Guest]:
        specs = {row["instance_uuid"]: row["spec"] for row in self.rows("nova_api.request_specs")}
        actions = {row["id"]: row for row in self.rows("nova.instance_actions")}
        events: dict[str, list[Row]] = {}
        for row in self.rows("nova.instance_actions_events"):
            action = actions.get(row["action_id"])
            finish = first_known(
                row.get("finish_time"),
                action and action.get("finish_time"),
                row.get("start_time"),
            )
            if row["result"] == DONE and action and finish is not None:
                events.setdefault(action["instance_uuid"], []).append(
                    row | {"finish": finish, "begin": first_known(row["start_time"], finish)}
                )
        guests = []
        for row in self.rows("nova.instances"):
            own = sorted(events.get(row["uuid"], []), key=lambda e: (e["finish"], e["id"]))
            creates = [event for event in own if event["event"] == CREATE]
            ends = [e["finish"] for e in own if e["event"] == "compute_terminate_instance"]
            start = first_known(
                row.get("created_at"),
                earliest(*(event["begin"] for event in creates)),
                row.get("launched_at"),
            )
            end = first_known(
                row.get("deleted_at"), row.get("terminated_at"), max(ends, default=None)
            )
            never_ran = row.get("launched_at") is None  # whatever the event of its build says
            span = self.life(start, end)
            if span is None or (never_ran and (row["vm_state"] == "error" or end is not None)):
                continue
            spec = re.search(r'reservation": \["([0-9a-f-]{36})|reservation:([0-9a-f-]{36})',
                             specs.get(row["uuid"], ""))  # fmt: skip
            vcpus = row["vcpus"] if 0 < (row["vcpus"] or 0) < 2**30 else None
            stays = self._stays(row["node"], span, own)
            seats = [
                (host, max(a, c), min(b, d), end is None and min(b, d) == span[1])
                for host, a, b in stays
                for c, d in self._seated(span, own, row)
                if max(a, c) < min(b, d)
            ]
            if row["uuid"] in specs and spec is None:
                self.unreserved.add(row["uuid"])
            launched = row.get("launched_at")
            begin = launched if not creates else None
            if begin is not None and any(event["begin"] <= begin for event in own):
                begin = span[0]  # launched again: it ran before
            guests.append(
                Guest(
                    row["uuid"],
                    (spec.group(1) or spec.group(2)) if spec else None,
                    row.get("project_id"),
                    span,
                    vcpus,
                    row["node"],
                    seats,
                    self._running(span, begin, own),
                    [told] if (told := self.life(launched, end)) else [],
                )
            )
        return guests

    def _seated(self, span: Span, events: list[Row], row: Row) -> list[Span]:
        """The instance's life without the time it was shelved and offloaded."""
        steps = [e for e in events if e["event"] in {SHELVE, OFFLOAD, UNSHELVE}]
        changes = []
        given_up = row["node"] is None or row.get("vm_state") == "shelved_offloaded"
        for number, event in enumerate(steps):
            following = steps[number + 1]["event"] if number + 1 < len(steps) else None
            if event["event"] == UNSHELVE:
                changes.append((event["begin"], event["id"], True))
            elif (
                event["event"] == OFFLOAD
                or following == UNSHELVE
                or (following is None and given_up)
            ):
                changes.append((event["finish"], event["id"], False))
        return self._holding(span, [(span[0], -1, True), *changes])

    def _running(self, span: Span, launched: int | None, events: list[Row]) -> list[Span]:
        """The time it really ran, from its first start on."""
        changes = [
            (event["finish"], event["id"], event["event"] in STARTS)
            for event in events
            if event["event"] in STARTS | STOPS
        ]
        if launched is not None:
            changes.append((launched, -1, True))
        return self._holding(span, changes)

    @staticmethod
    def _holding(span: Span, changes: list[tuple[int, int, bool]]) -> list[Span]:
        """The stretches of a life in which the last change says yes."""
        ordered = sorted((max(time, span[0]), order, on) for time, order, on in changes)
        stretches = []
        for number, (time, _, on) in enumerate(ordered):
            until = ordered[number + 1][0] if number + 1 < len(ordered) else span[1]
            if on and time < min(until, span[1]):
                stretches.append((time, min(until, span[1])))
        return stretches

    def _stays(
        self, node: str | None, span: Span, events: list[Row]
    ) -> list[tuple[str | None, int, int]]:
        """A migrated VM is on its first host until the migration, then on the second."""
        if not self.kvm:
            return [(node, *span)]
        hosts = {row["host"]: row["hypervisor_hostname"] for row in self.rows("nova.compute_nodes")}
        moves: list[tuple[int, str]] = []
        for event in events:
            host = hosts.get(event.get("host"))
            if event["event"] in ARRIVALS and host and (not moves or moves[-1][1] != host):
                moves.append((event["finish"], host))
        if not moves:
            return [(node, *span)]
        stays = []
        for number, (time, host) in enumerate(moves):
            last = number + 1 == len(moves)
            begin = span[0] if number == 0 else time
            stays.append(
                (first_known(node, host) if last else host, begin,
                 span[1] if last else moves[number + 1][0])
            )  # fmt: skip
        return stays

    def _containers(self) -> list[Guest]:
        actions = {row["id"]: row for row in self.rows("zun.container_actions")}
        guests = []
        for row in self.rows("zun.container"):
            own = []
            for event in self.rows("zun.container_actions_events"):
                action = actions.get(event["action_id"])
                if action and action["container_uuid"] == row["uuid"] and event["result"] == DONE:
                    own.append((event["finish_time"], event["id"], action["action"]))
            gone = {"Deleted", "Deleting", "Error"}
            end = row.get("updated_at") if row["status"] in gone else None
            deleted = [time for time, _, action in own if action == "delete"]
            end = first_known(max(deleted, default=None), end)
            span = self.life(first_known(row.get("created_at"), row.get("started_at")), end)
            if span is None:
                continue
            changes = [
                (time, order, action in CONTAINER_STARTS)
                for time, order, action in own
                if action in CONTAINER_STARTS | CONTAINER_STOPS
            ]
            if row.get("started_at") is not None:
                changes.append((row["started_at"], -1, True))
            seats = [(row["host"], *span, end is None)]
            runs = self._holding(span, changes)
            guests.append(
                Guest(
                    row["uuid"], None, row["project_id"], span, None, row["host"], seats, runs, []
                )
            )
        return guests
