"""Sixty days of two sites, told to Nova's own services; and beside them, what is true.

Runs in Nova's environment (``nova_cloud``). Machines' lives are generators that wait and act; an
agenda lets them act in the order of time. The truth is what drivers did and what was asked for,
never what a database says.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import datetime as dt
import heapq
import itertools
import json
import random
import sys
import traceback
import unittest
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import nova_cloud
from nova_cloud import RESOURCE_CLASS, START, Cloud

Life = Iterator[float]
"""Yields how many days to wait before it acts again."""
DAYS = 60
IMAGE, OTHER_IMAGE = (
    "155d900f-4e14-4e4c-a73d-069cbf4541e6",
    "a2459075-d96c-40d5-893e-577ff92e721c",
)
"""Images that Nova's fixture of Glance has."""
MINUTE, HOUR = 1 / 1440, 1 / 24


@dataclass
class Machine:
    """What is true of an instance now.

    Attributes:
        reservation: the one in which it was launched, if any.
        until: when the reservation gives the host back.
        launching: it was never there yet: a failed attempt leaves nothing.
        keeps: when its guest goes it does not give its host up: it is made anew, or put back.
    """

    requested: dt.datetime
    reservation: str | None = None
    until: dt.datetime | None = None
    launching: bool = True
    keeps: bool = False
    node: str | None = None
    vcpus: int = 0
    since: dt.datetime | None = None
    runs: dt.datetime | None = None
    spans: list[tuple[str, str, dt.datetime, dt.datetime, int]] = field(default_factory=list)


class Ledger:
    """What really happened: when hosts were there, and what was on them."""

    def __init__(self, clock: nova_cloud.Clock) -> None:
        self.clock = clock
        self.machines: dict[str, Machine] = {}
        self.hosts: dict[str, tuple[dt.datetime, int]] = {}
        self.presences: list[tuple[str, dt.datetime, dt.datetime, int]] = []

    # --- hosts
    def appears(self, host: str, vcpus: int) -> None:
        self.hosts[host] = (self.clock.now, vcpus)

    def disappears(self, host: str) -> None:
        since, vcpus = self.hosts.pop(host)
        self.presences.append((host, since, self.clock.now, vcpus))

    # --- instances
    def request(self, uuid: str, reservation: str | None, until: dt.datetime | None) -> None:
        self.machines[uuid] = Machine(self.clock.now, reservation, until)

    def hear(self, what: str, node: str, uuid: str, vcpus: int) -> None:
        """Take down what a driver did."""
        machine, now = self.machines[uuid], self.clock.now
        if what == "building" and machine.node is None:
            first = machine.launching and not machine.spans
            machine.node, machine.vcpus = node, vcpus
            machine.since = machine.requested if first else now
        elif what == "moved" or (what == "building" and machine.node != node):
            ran = machine.runs is not None and what == "moved"
            self.stops(machine)
            self.leaves(machine)
            machine.node, machine.vcpus, machine.since = node, vcpus, now
            machine.runs = now if ran else None
        elif what == "running":
            machine.runs = machine.runs or now
        elif what == "off":
            self.stops(machine)
        elif what == "gone" and node == machine.node:
            self.stops(machine)
            if not machine.keeps:
                self.leaves(machine)

    def stops(self, machine: Machine) -> None:
        if machine.runs:
            self._span(machine, "active", machine.runs)
        machine.runs = None

    def leaves(self, machine: Machine) -> None:
        if machine.node and machine.since:
            self._span(machine, "occupied", machine.since)
        machine.node = machine.since = None

    def _span(self, machine: Machine, kind: str, since: dt.datetime) -> None:
        machine.spans.append((kind, machine.node, since, self.clock.now, machine.vcpus))

    def launched(self, uuid: str) -> None:
        self.machines[uuid].launching = False

    def failed(self, uuid: str) -> None:
        """A launch that failed occupied nothing."""
        self.machines[uuid].spans.clear()
        self.machines[uuid].node = self.machines[uuid].since = None

    def deleted(self, uuid: str) -> None:
        """Nobody was there to take its guest away, or it is gone already."""
        self.stops(self.machines[uuid])
        self.leaves(self.machines[uuid])

    def rows(self) -> Iterator[tuple[str, str, str, str, str, int]]:
        """Give what is true until now."""
        for host in list(self.hosts):
            self.disappears(host)
        for host, start, end, vcpus in self.presences:
            yield ("total", host, host, *_seconds(start, end), vcpus)
        for uuid, machine in self.machines.items():
            self.deleted(uuid)
            where = "reservation" if machine.reservation else "ondemand"
            for kind, node, start, end, vcpus in machine.spans:
                last = min(end, machine.until or end)
                if _seconds(start, last)[0] < _seconds(start, last)[1]:
                    yield (f"{kind}_{where}", node, uuid, *_seconds(start, last), vcpus)


def _seconds(*moments: dt.datetime) -> tuple[str, ...]:
    """Give times as the databases keep them."""
    return tuple(moment.replace(microsecond=0).isoformat() for moment in moments)


class Story:
    """The agenda, and what lives can do."""

    def __init__(self, cloud: Cloud, seed: int) -> None:
        self.cloud, self.clock, self.machines = cloud, cloud.clock, cloud.physical
        self.ledger = Ledger(self.clock)
        self.machines.listeners.append(self.ledger.hear)
        self.random = random.Random(seed)  # noqa: S311
        self.flavors: dict[str, str] = {}
        self.names = itertools.count(1)
        self._agenda: list[tuple[dt.datetime, int, Life]] = []
        self._order = itertools.count()

    def at(self, day: float, life: Life) -> None:
        when = START + dt.timedelta(seconds=round(day * 86400))
        heapq.heappush(self._agenda, (when, next(self._order), life))

    def once(self, day: float, act: Callable[[], object]) -> None:
        def life() -> Life:
            act()
            yield from ()

        self.at(day, life())

    def tell(self, last: float = DAYS) -> None:
        """Let the agenda happen, and time pass to the last day."""
        end = START + dt.timedelta(days=last)
        wrong: list[str] = []
        while self._agenda:
            when, _, life = heapq.heappop(self._agenda)
            if when >= end:
                break
            self.clock.until(max(when, self.clock.now))
            self.cloud.beat()
            try:
                wait = next(life)
            except StopIteration:
                continue
            except Exception:  # noqa: BLE001 - the others' lives go on, and all is told at the end
                wrong.append(f"{self.clock.now}:\n{traceback.format_exc(limit=-6)}")
                continue
            later = self.clock.now + dt.timedelta(seconds=round(wait * 86400))
            heapq.heappush(self._agenda, (later, next(self._order), life))
        self.clock.until(end)
        self.cloud.beat(anyway=True)
        if wrong:
            raise AssertionError("\n".join(wrong))

    # --- hosts
    def host(
        self, service: str, *nodes: str, vcpus: int = 48, cell: str = "cell1", ironic: bool = False
    ) -> None:
        """Enrol a compute service with its nodes."""
        self.machines.nodes[service] = list(nodes or (service,))
        for node in self.machines.nodes[service]:
            self.machines.size[node] = (vcpus, 196_608, 2_000)
            if ironic:
                self.machines.ironic.add(node)
        self.cloud.enrol(service, cell=cell)
        for node in self.machines.nodes[service]:
            self.ledger.appears(node, vcpus)

    def remove(self, service: str) -> None:
        """Take a compute service out for good, as an operator does."""
        self.cloud.stop_service(service)
        self.cloud.remove_service(service)
        for node in self.machines.nodes[service]:
            self.ledger.disappears(node)

    # --- instances
    def flavor(self, name: str, vcpus: int, *, ironic: bool = False) -> str:
        if name not in self.flavors:
            extra = dict.fromkeys(("VCPU", "MEMORY_MB", "DISK_GB"), "0") | {RESOURCE_CLASS: "1"}
            self.flavors[name] = self.cloud._create_flavor(
                id=f"flavor-{len(self.flavors) + 1}",
                name=name,
                vcpu=vcpus,
                memory_mb=vcpus * 1024,
                disk=10 * vcpus // 2,
                ephemeral=0,
                extra_spec={f"resources:{k}": v for k, v in extra.items()} if ironic else None,
            )
        return self.flavors[name]

    def boot(
        self,
        flavor: str,
        host: str | None = None,
        node: str | None = None,
        *,
        works: bool = True,
        reservation: dict[str, Any] | None = None,
        until: float | None = None,
    ) -> str:
        """Launch an instance, and see that it came to what it should."""
        project = reservation["project_id"] if reservation else f"p{self.random.randint(1, 3)}"
        body = {
            "name": f"machine-{next(self.names)}",
            "imageRef": IMAGE,
            "flavorRef": flavor,
            "networks": "none",
        }
        body |= {"host": host} if host else {}
        body |= {"hypervisor_hostname": node} if node else {}
        asked: dict[str, object] = {"server": body}
        if reservation:
            asked["os:scheduler_hints"] = {"reservation": reservation["reservation_id"]}
        uuid = self.cloud.project(project).post_server(asked)["id"]
        end = START + dt.timedelta(seconds=round(until * 86400)) if until else None
        self.ledger.request(uuid, reservation and reservation["reservation_id"], end)
        self.cloud.settle()
        status = self.status(uuid)
        if (status == "ACTIVE") is not works:
            raise AssertionError(f"{uuid} on {host} {node}: {status}")
        (self.ledger.launched if works else self.ledger.failed)(uuid)
        return uuid

    def status(self, uuid: str) -> str:
        return self.cloud.api.get_server(uuid)["status"]

    def see(self, uuid: str, status: str) -> None:
        if self.status(uuid) != status:
            raise AssertionError(f"{uuid} is {self.status(uuid)}, not {status}")

    def act(self, uuid: str, action: str, body: object = None, status: str | None = None) -> None:
        """Ask for an action, and see what became of the instance."""
        # Periodic tasks take guests away unasked: whoever goes is gone, but for these.
        machine = self.ledger.machines[uuid]
        machine.keeps = action in {"rebuild", "revertResize"}
        self.cloud.act(uuid, action, body)
        machine.keeps = False
        if status:
            self.see(uuid, status)

    def delete(self, uuid: str, *, softly: bool = False) -> None:
        """Delete an instance, and see that it is gone."""
        self.cloud.api.delete_server(uuid)
        self.cloud.settle()
        if not softly:
            if self.cloud.find(uuid):
                raise AssertionError(f"{uuid} is still there")
            self.ledger.deleted(uuid)

    def between(self, low: float, high: float) -> float:
        return self.random.uniform(low, high)


# --- lives of virtual machines, by what is done to them
class Lives:
    """Lives of virtual machines, on hosts of one cell."""

    def __init__(self, story: Story, hosts: list[str]) -> None:
        self.story, self.hosts = story, hosts
        self.small, self.medium = story.flavor("vm.small", 2), story.flavor("vm.medium", 4)
        self.large = story.flavor("vm.large", 8)

    def _boot(self, flavor: str | None = None, **more: Any) -> tuple[str, str]:
        host = more.pop("host", None) or self.story.random.choice(self.hosts)
        flavor = flavor or self.story.random.choice([self.small, self.medium])
        return self.story.boot(flavor, host, **more), host

    def _other(self, host: str) -> str:
        return self.story.random.choice([one for one in self.hosts if one != host])

    def _wait(self) -> float:
        return self.story.between(0.3, 4)

    @contextlib.contextmanager
    def among_ours(self) -> Iterator[None]:
        """Let the scheduler choose among these hosts alone: the others are Blazar's, or too far."""
        cloud = self.story.cloud
        others = [
            host for host in cloud.computes if host not in self.hosts and cloud.takes_machines(host)
        ]
        for host in others:
            cloud.set_service(host, status="disabled")
        yield
        for host in others:
            cloud.set_service(host, status="enabled")

    def plain(self, days: float) -> Life:
        uuid, _ = self._boot(self.large)
        yield days
        self.story.delete(uuid)

    def halted(self, by: str, back: str, halted: str, body: object = None) -> Life:
        uuid, _ = self._boot()
        yield self._wait()
        self.story.act(uuid, by, body, halted)
        yield self._wait()
        self.story.act(uuid, back, None, "ACTIVE")
        yield self._wait()
        self.story.act(uuid, "reboot", {"type": "HARD"}, "ACTIVE")
        yield self._wait()
        self.story.delete(uuid)

    def halted_for_good(self, *, deleted: bool) -> Life:
        uuid, _ = self._boot()
        yield self._wait()
        self.story.act(uuid, "os-stop", None, "SHUTOFF")
        yield self._wait()
        if deleted:
            self.story.delete(uuid)

    def in_vain(self) -> Life:
        """Actions that fail, and change nothing; and a state that is only said."""
        uuid, host = self._boot()
        yield self._wait()
        self.story.machines.faults[host].append("power_off")
        self.story.act(uuid, "os-stop", None, "ACTIVE")
        yield self._wait()
        self.story.machines.faults[host].append("reboot")
        self.story.act(uuid, "reboot", {"type": "HARD"})
        yield self._wait()
        self.story.act(uuid, "os-resetState", {"state": "error"}, "ERROR")
        yield self._wait()
        self.story.act(uuid, "os-resetState", {"state": "active"}, "ACTIVE")
        yield self._wait()
        self.story.delete(uuid)

    def shelved(
        self, grace: int, *, offload: bool = False, unshelve: bool = True, delete: bool = True
    ) -> Life:
        uuid, _ = self._boot()
        yield self._wait()
        with self.story.cloud.options(shelved_offload_time=grace):
            self.story.act(uuid, "shelve", None, "SHELVED" if grace else "SHELVED_OFFLOADED")
        yield self._wait()
        if grace > 0:
            with self.story.cloud.options(shelved_offload_time=grace):
                self.story.cloud.periodic("_poll_shelved_instances")
            yield self._wait()
        if offload:
            self.story.act(uuid, "shelveOffload", None, "SHELVED_OFFLOADED")
            yield self._wait()
        if unshelve:
            with self.among_ours():
                self.story.act(uuid, "unshelve", None, "ACTIVE")
            yield self._wait()
        if delete:
            self.story.delete(uuid)

    def resized(self, then: str, *, fails: bool = False) -> Life:
        uuid, host = self._boot(self.small)
        yield self._wait()
        if fails:
            self.story.machines.faults[host].append("migrate_disk_and_power_off")
        to = {"flavorRef": self.large}
        with self.among_ours():
            self.story.act(uuid, "resize", to, "ERROR" if fails else "VERIFY_RESIZE")
        yield self._wait() / 4
        if then in {"confirmResize", "revertResize"}:
            self.story.act(uuid, then, None, "ACTIVE")
            yield self._wait()
        if then != "stays":
            self.story.delete(uuid)

    def migrated(self, then: str, *, stopped: bool = False) -> Life:
        uuid, host = self._boot()
        yield self._wait()
        if stopped:
            self.story.act(uuid, "os-stop", None, "SHUTOFF")
            yield self._wait() / 4
        self.story.act(uuid, "migrate", {"host": self._other(host)}, "VERIFY_RESIZE")
        yield self._wait() / 8
        self.story.act(uuid, then, None, "SHUTOFF" if stopped else "ACTIVE")
        yield self._wait()
        self.story.delete(uuid)

    def migrated_alive(self, *, fails: bool = False) -> Life:
        uuid, host = self._boot(self.medium)
        for _ in range(2):
            yield self._wait()
            to = self._other(host)
            if fails:
                self.story.machines.faults[host].append("live_migration")
            self.story.act(uuid, "os-migrateLive", {"host": to, "block_migration": "auto"})
            host = host if fails else to
            found = self.story.cloud.api.get_server(uuid)
            if (found["status"], found["OS-EXT-SRV-ATTR:host"]) != ("ACTIVE", host):
                raise AssertionError(f"{uuid}: {found['status']} on {host}?")
        yield self._wait()
        self.story.delete(uuid)

    def rebuilt(self, *, fails: bool = False) -> Life:
        uuid, host = self._boot()
        yield self._wait()
        if fails:
            self.story.machines.faults[host].append("spawn")
        self.story.act(uuid, "rebuild", {"imageRef": OTHER_IMAGE}, "ERROR" if fails else "ACTIVE")
        yield self._wait()
        self.story.delete(uuid)

    def softly_deleted(self, then: str) -> Life:
        uuid, _ = self._boot()
        yield self._wait()
        with self.story.cloud.options(reclaim_instance_interval=86400):
            self.story.delete(uuid, softly=True)
        yield self.story.between(0.4, 0.9)
        if then == "restore":
            with self.story.cloud.options(reclaim_instance_interval=86400):
                self.story.act(uuid, "restore", None, "ACTIVE")
            yield self._wait()
            self.story.delete(uuid)
        elif then == "force":
            self.story.act(uuid, "forceDelete")
            self.story.ledger.deleted(uuid)
        elif then == "reclaim":
            yield 1
            with self.story.cloud.options(reclaim_instance_interval=86400):
                self.story.cloud.periodic("_reclaim_queued_deletes")

    def failed(self, *, deleted: bool, nowhere: bool = False) -> Life:
        if nowhere:
            uuid = self.story.boot(self.story.flavor("vm.impossible", 4000), works=False)
        else:
            host = self.story.random.choice(self.hosts)
            self.story.machines.faults[host].append("spawn")
            uuid, _ = self._boot(host=host, works=False)
        yield self._wait()
        if deleted:
            self.story.delete(uuid)

    def switched_off_outside(self) -> Life:
        uuid, host = self._boot()
        yield self._wait()
        nova_cloud.GUESTS[host][uuid].state = nova_cloud.power_state.SHUTDOWN
        node = self.story.machines.nodes[host][0]
        self.story.ledger.hear("off", node, uuid, 0)
        yield 8 * MINUTE
        self.story.cloud.periodic("_sync_power_states")
        self.story.see(uuid, "SHUTOFF")
        yield self._wait()
        self.story.act(uuid, "os-start", None, "ACTIVE")
        yield self._wait()
        self.story.delete(uuid)


def kvm(story: Story, reservations: list[dict[str, Any]], hosts: list[str]) -> None:
    """Virtual machines: in slots that Blazar reserved, and on demand, in two cells."""
    cloud = story.cloud
    for number in range(1, 6):
        story.host(f"k{number:02}")
    story.host("k06", vcpus=64)
    for number in (7, 8):
        story.host(f"k{number:02}")
    story.host("k09", "k09.cloud.example")
    for number in (10, 11, 14):
        story.host(f"k{number:02}", cell="cell2")
    story.host("k12", "k12.cloud.example", cell="cell2", vcpus=64)
    if unknown := sorted(set(hosts) - story.ledger.hosts.keys()):
        raise ValueError(f"Blazar enrols hosts that are not there: {', '.join(unknown)}")
    story.clock.advance(minutes=1)

    for one in reservations:
        _reserved_machines(story, one)
    first, second = Lives(story, ["k07", "k08", "k09"]), Lives(story, ["k10", "k11", "k12"])
    for lives in (first, second):
        for life in _every_kind(lives):
            story.at(story.between(2, 46), life)
    for life in (first.failed(deleted=True), first.failed(deleted=True, nowhere=True)):
        story.at(story.between(0.1, 0.5), life)
    for _ in range(2):
        story.at(story.between(3, 50), _rescheduled(story, first))
    story.at(22, _a_host_is_lost(story, first, "k08"))

    _hosts_come_and_go(story)
    story.once(31.0, lambda: cloud.archive(START + dt.timedelta(days=12)))
    story.once(40.0, lambda: cloud.purge(START + dt.timedelta(days=1.9)))
    story.once(50.0, lambda: cloud.archive(START + dt.timedelta(days=18)))
    story.tell()


def _hosts_come_and_go(story: Story) -> None:
    """Take hosts out of use, remove them, enrol them anew, and under another name."""

    def set_service(host: str, **state: object) -> Callable[[], None]:
        return lambda: story.cloud.set_service(host, **state)

    closed = {"status": "disabled", "disabled_reason": "to be taken out"}
    story.once(30.0, set_service("k05", status="disabled", disabled_reason="memory errors"))
    story.once(32.9, set_service("k05", status="enabled"))
    story.once(0.02, set_service("k04", **closed))
    story.once(31.2, lambda: story.remove("k04"))
    story.once(35.2, lambda: story.host("k04"))
    story.once(53.1, lambda: story.host("k13"))
    story.once(53.1, set_service("k13", **closed))
    story.once(57.6, lambda: story.remove("k13"))
    story.once(0.02, set_service("k14", **closed))
    story.at(54.0, _renamed(story, "k14", "k15", "cell2"))


def _every_kind(lives: Lives) -> Iterator[Life]:
    """Give a life of each kind, and more of the frequent ones."""
    for days in (1.3, 3.7, 8.1, 12.6):
        yield lives.plain(days)
    yield lives.halted("os-stop", "os-start", "SHUTOFF")
    yield lives.halted("os-stop", "os-start", "SHUTOFF")
    yield lives.halted("pause", "unpause", "PAUSED")
    yield lives.halted("suspend", "resume", "SUSPENDED")
    yield lives.halted("rescue", "unrescue", "RESCUE", {})
    yield lives.halted_for_good(deleted=True)
    yield lives.halted_for_good(deleted=False)
    yield lives.in_vain()
    yield lives.shelved(0)
    yield lives.shelved(0, unshelve=False)
    yield lives.shelved(0, unshelve=False, delete=False)
    yield lives.shelved(-1)
    yield lives.shelved(-1, offload=True)
    yield lives.shelved(-1, unshelve=False, delete=False)
    yield lives.shelved(3600)
    yield lives.resized("confirmResize")
    yield lives.resized("revertResize")
    yield lives.resized("delete")
    yield lives.resized("stays")
    yield lives.resized("delete", fails=True)
    yield lives.migrated("confirmResize")
    yield lives.migrated("revertResize")
    yield lives.migrated("confirmResize", stopped=True)
    yield lives.migrated_alive()
    yield lives.migrated_alive(fails=True)
    yield lives.rebuilt()
    yield lives.rebuilt(fails=True)
    yield lives.softly_deleted("restore")
    yield lives.softly_deleted("reclaim")
    yield lives.softly_deleted("force")
    yield lives.softly_deleted("stay")
    yield lives.failed(deleted=True)
    yield lives.failed(deleted=False)
    yield lives.failed(deleted=False, nowhere=True)
    yield lives.switched_off_outside()


def _rescheduled(story: Story, lives: Lives) -> Life:
    """A launch fails on the first host that is chosen, and works on the second."""
    story.machines.faults[""].append("spawn")
    with lives.among_ours():
        uuid = story.boot(lives.medium)
    yield story.between(1, 4)
    story.delete(uuid)


def _a_host_is_lost(story: Story, lives: Lives, host: str) -> Life:
    """A host goes down: some of its machines are evacuated, one is deleted; then it is back."""
    moved, stopped, deleted, stays = (story.boot(lives.medium, host) for _ in range(4))
    yield 0.2
    story.act(stopped, "os-stop", None, "SHUTOFF")
    yield 0.5
    story.cloud.stop_service(host)
    yield 10 * MINUTE
    story.cloud.set_service(host, forced_down=True)
    yield 10 * MINUTE
    story.act(moved, "evacuate", {"host": "k09"}, "ACTIVE")
    yield 10 * MINUTE
    story.act(stopped, "evacuate", {"host": "k09"}, "SHUTOFF")
    yield 1 * HOUR
    story.delete(deleted)
    yield 3 * HOUR
    story.cloud.enrol(host)
    story.cloud.set_service(host, forced_down=False)
    story.cloud.periodic()
    yield 3
    story.delete(moved)
    yield 1
    story.act(stopped, "os-start", None, "ACTIVE")
    yield 2
    story.delete(stopped)
    story.delete(stays)


def _renamed(story: Story, host: str, name: str, cell: str) -> Life:
    """A host without machines is taken out and comes back under another name."""
    story.remove(host)
    yield 20 * MINUTE
    story.host(name, cell=cell)


def _reserved_machines(story: Story, reservation: dict[str, Any]) -> None:
    """Launch a machine in each slot of a reservation, sooner or later, and for most of the time."""
    whole = reservation["kind"] == "physical:host"
    vcpus = reservation["vcpus"] or 48
    name = "vm.whole" if whole else f"reservation:{reservation['reservation_id']}"
    for number, (host, start, end) in enumerate(reservation["held"]):
        begin = max(start, 0) + story.between(0.01, 0.2) * (end - start)
        finish = end if end >= DAYS else begin + story.between(0.5, 0.98) * (end - begin)

        def life(
            host: str = host, end: float = end, number: int = number, stay: float = finish - begin
        ) -> Life:
            flavor = story.flavor(name, vcpus)
            uuid = story.boot(flavor, host, reservation=reservation, until=end)
            if number % 3 == 1:
                yield 0.3 * stay
                story.act(uuid, "os-stop", None, "SHUTOFF")
                yield 0.3 * stay
                story.act(uuid, "os-start", None, "ACTIVE")
                stay *= 0.4
            elif number % 3 == 2 and not whole:
                yield 0.2 * stay
                story.act(uuid, "suspend", None, "SUSPENDED")
                yield 0.1 * stay
                story.act(uuid, "resume", None, "ACTIVE")
                stay *= 0.7
            yield stay - 20 * MINUTE
            story.delete(uuid)

        story.at(begin, life())


def baremetal(story: Story, reservations: list[dict[str, Any]], hosts: list[str]) -> None:
    """Whole nodes, in Blazar's leases, under two compute services, or three."""
    cloud, machines, ledger = story.cloud, story.machines, story.ledger
    story.host("ironic-1", *(f"bm{n:02}" for n in range(1, 6)), ironic=True)
    story.host("ironic-2", *(f"bm{n:02}" for n in range(6, 11)), ironic=True)
    if others := sorted(set(hosts) - ledger.hosts.keys()):
        story.host("ironic-3", *others, ironic=True)
    story.clock.advance(minutes=1)
    flavor = story.flavor("baremetal", 48, ironic=True)
    kinds = itertools.cycle(TENANCIES)
    for one in reservations:
        for host, start, end in one["held"]:
            begin = start + story.between(0.01, 0.1) * (end - start)
            story.at(begin, next(kinds)(Tenancy(story, flavor, one, host, end)))

    # Enrolled anew: another machine record in Ironic (bm07), or the same one (bm08).
    def out(node: str) -> Callable[[], None]:
        def act() -> None:
            service = next(name for name, nodes in machines.nodes.items() if node in nodes)
            machines.nodes[service].remove(node)
            machines.ironic.remove(node)
            cloud.periodic()
            ledger.disappears(node)

        return act

    def back(node: str, service: str, *, anew: bool) -> Callable[[], None]:
        def act() -> None:
            if anew:
                nova_cloud.GENERATION[node] += 1
            machines.nodes[service].append(node)
            machines.ironic.add(node)
            cloud.periodic()
            ledger.appears(node, 48)

        return act

    story.once(12.5, out("bm07"))
    story.once(32.9, back("bm07", "ironic-2", anew=True))
    story.once(13.7, out("bm08"))
    story.once(14.0, back("bm08", "ironic-2", anew=False))
    story.once(41.0, out("bm04"))

    # Another compute service takes a node over.
    def rebalance() -> Life:
        machines.nodes["ironic-1"].remove("bm03")
        cloud.periodic()
        yield 4 * MINUTE
        machines.nodes["ironic-2"].append("bm03")
        cloud.periodic()

    story.at(30.0, rebalance())
    story.once(25.0, lambda: cloud.archive(START + dt.timedelta(days=12)))
    story.tell()


@dataclass
class Tenancy:
    """A node that a lease holds: what its user does with it until shortly before the end."""

    story: Story
    flavor: str
    reservation: dict[str, Any]
    host: str
    end: float

    @property
    def service(self) -> str:
        nodes = self.story.machines.nodes
        return next(name for name, held in nodes.items() if self.host in held)

    def left(self, share: float = 1) -> float:
        """Give a share of the days that are left."""
        return share * (self.end - (self.story.clock.now - START).total_seconds() / 86_400)

    def launch(self, *, works: bool = True) -> str:
        return self.story.boot(
            self.flavor,
            self.service,
            self.host,
            works=works,
            reservation=self.reservation,
            until=self.end,
        )

    def switched(self, uuid: str, what: str) -> None:
        """Switch the machine off or on at its own button."""
        state = nova_cloud.power_state
        guest = nova_cloud.GUESTS[self.service][uuid]
        guest.state = state.RUNNING if what == "running" else state.SHUTDOWN
        self.story.ledger.hear(what, self.host, uuid, 48)

    def ends(self, uuid: str) -> Life:
        if self.end < DAYS:
            yield max(self.left() - 30 * MINUTE, 0)
            self.story.delete(uuid)

    def plain(self) -> Life:
        yield from self.ends(self.launch())

    def halted(self) -> Life:
        uuid = self.launch()
        yield self.left(0.3)
        self.story.act(uuid, "os-stop", None, "SHUTOFF")
        yield self.left(0.3)
        self.story.act(uuid, "os-start", None, "ACTIVE")
        yield from self.ends(uuid)

    def told_by_ironic(self) -> Life:
        uuid = self.launch()
        for what, target, status in (
            ("off", "POWER_OFF", "SHUTOFF"),
            ("running", "POWER_ON", "ACTIVE"),
        ):
            yield self.left(0.3)
            self.switched(uuid, what)
            self.story.cloud.power_changed(uuid, target)
            self.story.see(uuid, status)
        yield from self.ends(uuid)

    def found_by_a_periodic_task(self) -> Life:
        uuid = self.launch()
        yield self.left(0.4)
        self.switched(uuid, "off")
        yield 9 * MINUTE
        self.story.cloud.periodic("_sync_power_states")
        self.story.see(uuid, "SHUTOFF")
        yield from self.ends(uuid)

    def rebuilt(self) -> Life:
        uuid = self.launch()
        yield self.left(0.5)
        self.story.act(uuid, "rebuild", {"imageRef": OTHER_IMAGE}, "ACTIVE")
        yield from self.ends(uuid)

    def failed_first(self) -> Life:
        self.story.machines.faults[self.host].append("spawn")
        self.launch(works=False)
        yield 15 * MINUTE
        yield from self.ends(self.launch())

    def left_early(self) -> Life:
        uuid = self.launch()
        yield self.left(0.4)
        self.story.delete(uuid)
        yield self.left(0.3)
        yield from self.ends(self.launch())


TENANCIES = (
    Tenancy.plain,
    Tenancy.halted,
    Tenancy.told_by_ironic,
    Tenancy.rebuilt,
    Tenancy.failed_first,
    Tenancy.left_early,
    Tenancy.found_by_a_periodic_task,
)

SITES = {"kvm": kvm, "baremetal": baremetal}


def main() -> None:
    """Tell a site's story; write the truth."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("site", choices=SITES)
    parser.add_argument("--server", required=True, help="mysql+pymysql://user:password@host:port")
    parser.add_argument("--reservations", type=Path, required=True, help="a JSON file of Blazar's")
    parser.add_argument("--hosts", nargs="*", default=[], help="those that Blazar enrols")
    parser.add_argument("--truth", type=Path, required=True, help="the CSV file to write")
    asked = parser.parse_args()
    reservations = json.loads(asked.reservations.read_text())

    def story(cloud: Cloud) -> None:
        told = Story(cloud, seed=len(asked.site))
        SITES[asked.site](told, reservations, asked.hosts)
        with asked.truth.open("w", newline="") as file:
            rows = csv.writer(file)
            rows.writerow(["kind", "hypervisor_hostname", "entity", "start", "end", "vcpus"])
            rows.writerows(sorted(told.ledger.rows()))

    Cloud.server, Cloud.story = asked.server, staticmethod(story)
    Cloud.NUMBER_OF_CELLS = 2 if asked.site == "kvm" else 1
    result = unittest.TextTestRunner(stream=sys.stderr).run(Cloud())
    sys.exit(not result.wasSuccessful())


if __name__ == "__main__":
    main()
