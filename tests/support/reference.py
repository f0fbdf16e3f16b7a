"""What every quantity is at one instant on one host, said as the design says it.

Slow and plain: one host and one instant at a time, no data frames, nothing of the pipeline's.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from fractions import Fraction
from typing import TYPE_CHECKING

from support.records import Guest, Hold, Records, Span, covers, earliest, first_known

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from support.sites import TinySite

TOLERANCE = 15 * 60


def present(spans: Sequence[Span], t: int, tolerance: int = TOLERANCE) -> bool:
    """Tell whether rows that lie less than the tolerance apart are one presence at t."""
    if covers(spans, t):
        return True
    before = [end for _, end in spans if end <= t]
    after = [start for start, _ in spans if start > t]
    return bool(before and after) and min(after) - max(before) < tolerance


class Reference(Records):
    """The values that the design gives a tiny site, instant by instant."""

    def __init__(self, site: TinySite) -> None:
        super().__init__(site)
        self._evidence: dict[str, list[Span]] = {}
        self._words: dict[str, tuple[list[Span], list[Span]]] = {}
        self._name_gone_hosts()
        self.described = (
            self.hypervisors
            | {enrolment["named"] for enrolment in self.pool if enrolment["row"]}
            | {row["uid"] for row in self.rows("inventory.node_intervals")}
        )
        self.recorded = list(self.holds)
        self.holds += self._lost_holds()
        self.holds = [hold for hold in self._take_turns() if hold.span[0] < hold.span[1]]
        # A host that is found for an instance below is no evidence of itself.
        self.sightings = [
            (host, span)
            for guest in self.guests
            for host, start, end, still in guest.seats
            if host is not None
            for span in [self._own_word(host, (start, end), still)]
            if span and (guest.reservation is not None or host in self.described)
            if not self.edge
        ]
        self.stays = [
            (guest.reservation, host, end)
            for guest in self.guests
            for host, _, end, _ in guest.seats
            if guest.reservation is not None
        ]
        self._place_guests()
        self._reserve_guests()

    # --- what is told by others -------------------------------------------------------------------

    def _name_gone_hosts(self) -> None:
        """A gone id takes the hostname that its reservations' instances name; a tie names none.

        What one id took is out for the others of its reservations, who may then be clear.
        """
        while clear := self._clear_names():
            for hold in self.holds:
                hold.host = hold.host or clear.get(hold.host_id)
            for enrolment in self.pool:
                enrolment["host"] = enrolment["host"] or clear.get(enrolment["id"])

    def _clear_names(self) -> dict[str | None, str]:
        names = {}
        for host_id in {hold.host_id for hold in self.holds if hold.host is None}:
            votes: Counter[str] = Counter()
            for reservation in {h.reservation for h in self.holds if h.host_id == host_id}:
                taken = {h.host for h in self.holds if h.reservation == reservation}
                votes.update(
                    {
                        host
                        for guest in self.guests
                        if guest.reservation == reservation
                        for host, *_ in guest.seats
                        if host is not None and host not in taken
                    }
                )
            best = [host for host, count in votes.items() if count == max(votes.values())]
            if len(best) == 1:
                names[host_id] = best[0]
        return names

    def _lost_holds(self) -> list[Hold]:
        """An instance on a host that its reservation does not list tells of a lost allocation."""
        found = []
        for reservation in sorted({hold.reservation for hold in self.holds}):
            holds = [hold for hold in self.holds if hold.reservation == reservation]
            listed = {hold.host for hold in holds}
            seats: dict[str, int] = {}
            for guest in self.guests:
                if guest.reservation == reservation:
                    for host, _, end, _ in guest.seats:
                        if host is not None and host not in listed:
                            seats[host] = max(end, seats.get(host, end))
            start = min(hold.span[0] for hold in holds)
            last = max(hold.span[1] for hold in holds)
            for host, end in seats.items():
                if start < min(end, last):
                    span = (start, min(end, last))
                    hold = holds[0]
                    found.append(
                        Hold(
                            reservation, hold.project, None, host, span, False, hold.vcpus,
                            None, None,
                        )
                    )  # fmt: skip
        # Of a lease that is gone with all its rows, its instances are left.
        known = {hold.reservation for hold in self.holds}
        for guest in self.guests:
            if guest.reservation is not None and guest.reservation not in known:
                found += [
                    Hold(
                        guest.reservation, guest.project, None, host, (start, end), still,
                        guest.vcpus, None, None,
                    )
                    for host, start, end, still in guest.seats
                    if host is not None
                ]  # fmt: skip
        return found

    def _take_turns(self) -> list[Hold]:
        """A reservation with more hosts than it asks for held the one used last after a lost one.

        Its hosts in turn: the lost ones, then those that its rows name, each by its first use.
        """
        asked = {
            row["reservation_id"]: int(row["count_range"].split("-")[1])
            for table in ("computehost_reservations", "device_reservations")
            for row in self.rows(f"blazar.{table}")
            if row.get("count_range")
        }
        recorded = [replace(hold) for hold in self.recorded]
        found = self.holds[len(recorded) :]
        for reservation in {hold.reservation for hold in recorded} & asked.keys():
            own, more = (
                [h for h in holds if h.reservation == reservation and h.host]
                for holds in (recorded, found)
            )
            mine = own + more
            kept, lost = {h.host for h in own if h.vcpus is None}, {h.host for h in more}
            used = {
                host: min(a for _, who, a, _ in self._seats_of(reservation) if who == host)
                for host in kept | lost
                if any(who == host for _, who, _, _ in self._seats_of(reservation))
            }
            ends = {host: max(h.span[1] for h in mine if h.host == host) for host in kept | lost}
            turns = [
                *sorted(lost, key=lambda host: (used[host], host)),
                *sorted(kept, key=lambda host: (used.get(host, 2**62), host)),
            ]
            for host, after in zip(turns[: len(lost)], turns[asked[reservation] :], strict=False):
                given_up = min(ends[host], used.get(after, 2**62))
                for hold in mine:
                    start, end = hold.span
                    if hold.host == host:
                        hold.span = start, min(end, given_up)
                    if hold.host == after:
                        hold.span = min(max(start, given_up), end), end
        self.told = recorded
        return recorded + found

    def _seats_of(self, reservation: str) -> list[tuple[str, str | None, int, int]]:
        return [
            (guest.name, host, a, b)
            for guest in self.guests
            if guest.reservation == reservation
            for host, a, b, _ in guest.seats
        ]

    def _last_word(self, host: str) -> int | None:
        """Until when the host's own rows tell of it, of whatever source."""
        spans = self._own(host) + self._other(host)
        return max((end for _, end in spans), default=None)

    def _own_word(self, host: str, span: Span, still: bool) -> Span | None:
        """What has no end of its own tells nothing after the host's last row."""
        if not still:
            return span
        last = self._last_word(host)
        if last is None or last <= span[0]:
            return None
        return span[0], min(span[1], last)

    def _place_guests(self) -> None:
        """A reserved instance without a node sits on the one host its reservation leaves free."""
        placed = {}
        for guest in self.guests:
            if guest.reservation is None or all(host for host, *_ in guest.seats):
                continue
            hosts = {
                hold.host
                for hold in self.holds
                if hold.reservation == guest.reservation and hold.host and self._ever_held(hold)
            }
            start = min(seat[1] for seat in guest.seats)
            end = max(seat[2] for seat in guest.seats)
            busy = {
                host
                for other in self.guests
                if other.reservation == guest.reservation
                for host, a, b, _ in other.seats
                if a < end and start < b
            }
            if len(hosts - busy) == 1:
                placed[guest.name] = (hosts - busy).pop()
        for guest in self.guests:
            if guest.name in placed:
                guest.seats = [
                    (host or placed[guest.name], a, b, still) for host, a, b, still in guest.seats
                ]

    def _ever_held(self, hold: Hold) -> bool:
        times = [t for t in self.instants() if hold.span[0] <= t < hold.span[1]]
        return any(self.reservable(hold.host, t) for t in times)

    def _reserve_guests(self) -> None:
        """Spec purged: a host committed at its birth to a lease of its project holds it."""
        self.found = {}
        for guest in self.guests:
            if guest.reservation is not None or guest.project is None or not guest.seats:
                continue
            if guest.name in self.unreserved:
                continue
            host, birth, *_ = min(guest.seats, key=lambda seat: seat[1])
            holds = [
                (self._held_since(hold, birth), hold.reservation)
                for hold in self.told
                if hold.host == host
                and hold.project == guest.project
                and covers([hold.span], birth)
                and self.reservable(host, birth)
            ]
            if host is not None and holds:
                self.found[guest.name] = max(holds)[1]

    def _held_since(self, hold: Hold, t: int) -> int:
        """When the stretch of the pool in which the hold was at t began."""
        begin = hold.span[0]
        for time in self.instants():
            if hold.span[0] <= time <= t and not self.reservable(hold.host, time):
                after = (s for s in self.instants() if time < s <= t)
                begin = max(begin, min(after, default=t))
        return begin

    # --- the quantities at an instant -------------------------------------------------------------

    def _told(self, table: str, name: str, start: str, end: str, host: str) -> list[Span]:
        spans = [
            self.life(row.get(start), row.get(end))
            for row in self.rows(table)
            if row.get(name) == host
        ]
        return [span for span in spans if span]

    def _hypervisors(self, host: str) -> list[Span]:
        """A row without a created_at began after the host's rows before it, and the id before."""
        spans = []
        made, ended = None, None
        for row in sorted(self.rows("nova.compute_nodes"), key=lambda row: row["id"]):
            mine = row["hypervisor_hostname"] == host
            start, end = row.get("created_at"), row.get("deleted_at")
            if mine and start is None:
                after = max(ended, made) if None not in {ended, made} else ended
                start = first_known(after, self._first_named(host))
                if start is not None and end is not None and end <= start:
                    start = None
            if mine and (span := self.life(start, end)):
                spans.append(span)
            made = first_known(row.get("created_at"), made)
            if mine and end is not None:
                ended = end if ended is None else max(ended, end)
        return spans

    def _first_named(self, host: str) -> int | None:
        named = [
            row.get("created_at")
            for table, name in (
                ("nova.services", "host"),
                ("nova.instances", "node"),
                ("blazar.computehosts", "hypervisor_hostname"),
            )
            for row in self.rows(table)
            if row.get(name) == host
        ]
        return earliest(*named)

    def _enrolled(self, host: str) -> list[Span]:
        return [enrolment["span"] for enrolment in self.pool if enrolment["host"] == host]

    def _enrolled_by_its_word(self, host: str) -> list[Span]:
        """Enrolments as evidence of the host: of one that has no other rows, the whole."""
        mine = [enrolment for enrolment in self.pool if enrolment["host"] == host]
        if self._last_word(host) is None:
            return [enrolment["span"] for enrolment in mine]
        spans = [self._own_word(host, one["span"], one["open"]) for one in mine]
        return [span for span in spans if span]

    def _allocated_by_its_word(self, host: str) -> list[Span]:
        """Allocations as evidence of the host."""
        mine = [hold for hold in self.holds if hold.host == host]
        spans = [self._own_word(host, hold.span, hold.open) for hold in mine]
        return [span for span in spans if span]

    def _own(self, host: str) -> list[Span]:
        return self._enrolled(host) if self.edge else self._hypervisors(host)

    def _other(self, host: str) -> list[Span]:
        if self.edge or (self.kvm and host not in self.hypervisors):
            return []  # nothing tells a service's host from a hypervisor
        if self.kvm:
            return self._told("nova.services", "host", "created_at", "deleted_at", host)
        return self._told("inventory.node_intervals", "uid", "valid_from", "valid_to", host)

    def total(self, host: str, t: int) -> bool:
        """The first source that knows the host; where it has no row, any indirect evidence."""
        if host not in self._words:
            self._words[host] = self._own(host), self._other(host)
        own, other = self._words[host]
        if present(own, t):
            return True
        if (not own or t < min(own)[0]) and present(other, t):
            return True
        if host not in self._evidence:
            seen = [span for where, span in self.sightings if where == host]
            held = self._allocated_by_its_word(host)
            self._evidence[host] = self._enrolled_by_its_word(host) + held + seen
        return present(self._evidence[host], t)

    def reservable(self, host: str, t: int) -> bool:
        """One of the host's enrolments; elsewhere, an allocation is evidence."""
        if not self.total(host, t):
            return False
        own = self._enrolled(host)
        return covers(own, t) or covers(self._borne_out(host, own), t)

    def _borne_out(self, host: str, own: list[Span]) -> list[Span]:
        """Allocations, of those that outlast the enrolment as far as an instance was there."""
        left = max((end for _, end in own), default=None)
        spans = []
        for hold in self.holds:
            if hold.host == host and not hold.open:
                (start, end), reservation = hold.span, hold.reservation
                if left is not None and start < left:
                    used = [to for *pair, to in self.stays if pair == [reservation, host]]
                    end = min(end, max([left, *used]))
                spans.append((start, end))
        return spans

    def nameless(self, t: int) -> bool:
        """Whether an allocation may hold a host that nobody names."""
        return any(hold.host is None and covers([hold.span], t) for hold in self.holds)

    def held(self, host: str, t: int) -> list[Hold]:
        """The allocations that hold the host at t."""
        if not self.reservable(host, t):
            return []
        return [hold for hold in self.holds if hold.host == host and covers([hold.span], t)]

    def seated(self, host: str, t: int) -> list[tuple[Guest, bool]]:
        """The instances that sit on the host at t, and whether inside a reservation."""
        holding = {hold.reservation for hold in self.held(host, t)}
        found = []
        for guest in self.guests:
            if not any(where == host and a <= t < b for where, a, b, _ in guest.seats):
                continue
            reservation = guest.reservation or self.found.get(guest.name)
            if reservation is not None:
                if reservation in holding:
                    found.append((guest, True))
            elif self.edge:
                if holding:
                    found.append((guest, True))
            elif self.is_kvm(host) and self.total(host, t):
                found.append((guest, False))
        return found

    def is_kvm(self, host: str) -> bool:
        """A host's own row tells its kind; one of which no row tells it counts as a whole node."""
        told = {enrolment["named"] for enrolment in self.pool} | {
            row["hypervisor_hostname"] for row in self.rows("nova.compute_nodes")
        }
        return self.kvm and host in told

    def size(self, host: str, t: int) -> int | None:
        """The host's physical vcpus as last told before t, else as first told, or without date."""
        told = [
            (first_known(row.get("created_at"), row.get("deleted_at")), 1, row["vcpus"])
            for row in self.rows("nova.compute_nodes")
            if row["hypervisor_hostname"] == host
        ] + [
            (enrolment["span"][0], 0, enrolment["row"]["vcpus"])
            for enrolment in self.pool
            if enrolment["host"] == host and enrolment["row"]
        ]
        good = [one for one in told if one[2] is not None and 0 < one[2] < 2**30]
        dated = [one for one in good if one[0] is not None]
        known = sorted(dated) or good
        if not dated:
            return known[0][2] if known else None
        before = [vcpus for time, _, vcpus in known if time <= t]
        return before[-1] if before else known[0][2]

    def corrected(self, host: str, t: int) -> dict[str, Fraction]:
        """Give every quantity of the corrected collector, in nodes."""
        total, reservable = self.total(host, t), self.reservable(host, t)
        seated = self.seated(host, t)
        running = [(guest, inside) for guest, inside in seated if covers(guest.runs, t)]
        zero = Fraction(0)
        if self.is_kvm(host):
            size = self.size(host, t)

            def units(vcpus: Iterable[int | None]) -> Fraction:
                if size is None:
                    return zero
                return Fraction(sum(n for n in vcpus if n is not None), size)

            committed = min(units(hold.vcpus for hold in self.held(host, t)), Fraction(1))
            room = Fraction(total) - committed
            occupied = min(units(guest.vcpus for guest, inside in seated if inside), committed)
            beside = min(units(guest.vcpus for guest, inside in seated if not inside), room)
            active = min(units(guest.vcpus for guest, inside in running if inside), occupied)
            active_beside = min(
                units(guest.vcpus for guest, inside in running if not inside), beside
            )
        else:
            committed = Fraction(bool(self.held(host, t)))
            occupied, active = Fraction(bool(seated)), Fraction(bool(running))
            beside = active_beside = zero
        window = covers(
            self._told(
                "chameleon_usage.node_maintenance",
                "hypervisor_hostname", "start_time", "end_time", host,
            ),
            t,
        )  # fmt: skip
        free = Fraction(reservable) - committed - (beside if reservable else zero)
        outside = Fraction(total and not reservable)
        capacity = outside if self.is_kvm(host) else zero
        spare = capacity - (beside if not reservable else zero)
        enrolled = self._enrolled(host)
        knows = bool(enrolled) and t >= min(enrolled)[0]
        masked = (free if reservable and window else zero) + (spare if window else zero)
        return {
            "total": Fraction(total),
            "reservable": Fraction(reservable),
            "committed": committed,
            "occupied_reservation": occupied,
            "occupied_ondemand": beside,
            "active_reservation": active,
            "active_ondemand": active_beside,
            "ondemand_capacity": capacity,
            "unknown": zero if self.is_kvm(host) or knows else outside,
            "maintenance": masked + (outside if knows and not self.is_kvm(host) else zero),
            "available": zero if window else free,
            "available_ondemand": zero if window else spare,
            "idle": committed - occupied,
            "stopped": occupied + beside - active - active_beside,
        }

    def uncorrected(self, host: str, t: int) -> dict[str, Fraction]:
        """Give the quantities as each row of today's tables says at its word, in nodes."""
        size = self.size(host, t) if self.is_kvm(host) else 1

        def share(vcpus: int | None) -> Fraction:
            if not self.is_kvm(host):
                return Fraction(1)
            return Fraction(vcpus, size) if vcpus and size else Fraction(0)

        rows = (
            [e["told"] for e in self.pool if e["named"] == host and e["told"]]
            if self.edge
            else self._told(
                "nova.compute_nodes", "hypervisor_hostname", "created_at", "deleted_at", host
            )
        )
        pool = [e["told"] for e in self.pool if e["named"] == host and e["told"]]
        holds = [hold for hold in self.recorded if hold.listed == host and covers([hold.span], t)]
        values = {
            "total": Fraction(sum(covers([span], t) for span in rows)),
            "reservable": Fraction(sum(covers([span], t) for span in pool)),
            "committed": sum((share(hold.vcpus) for hold in holds), Fraction(0)),
        }
        for origin in ("reservation", "ondemand"):
            guests = [
                guest
                for guest in self.guests
                if guest.node == host
                and (origin == "ondemand") == (self.is_kvm(host) and guest.reservation is None)
            ]
            for quantity, spans in (
                ("occupied", lambda guest: [guest.span]),
                ("active", lambda guest: guest.runs if self.edge else guest.launched),
            ):
                values[f"{quantity}_{origin}"] = sum(
                    (share(guest.vcpus) for guest in guests if covers(spans(guest), t)),
                    Fraction(0),
                )
        return values

    def hosts(self) -> set[str]:
        """Name every host of which any record speaks."""
        named = {row["hypervisor_hostname"] for row in self.rows("nova.compute_nodes")}
        named |= {row["host"] for row in self.rows("nova.services")} if self.kvm else set()
        named |= {row["uid"] for row in self.rows("inventory.node_intervals")}
        named |= {enrolment["host"] for enrolment in self.pool}
        named |= {hold.host for hold in self.holds}
        named |= {host for guest in self.guests for host, *_ in guest.seats}
        return named - {None}
