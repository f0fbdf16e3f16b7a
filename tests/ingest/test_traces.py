"""Public cloud traces of every version of the format, as others write them."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import polars as pl
import pytest

from chameleon_usage import pipeline
from support.sites import SITES, TinySite, day, on

if TYPE_CHECKING:
    from pathlib import Path

CREATE, TERMINATE = "compute__do_build_and_run_instance", "compute_terminate_instance"
NAMES = ("machine_events", "instance_events", "lease_events")
NEWEST = (
    "INSTANCE_UUID,EVENT,START_TIME,START_SEC,FINISH_TIME,FINISH_SEC,EVENT_DURATION,RESULT,"
    "INSTANCE_NAME,USER_ID,PROJECT_ID,HOST_NAME (PHYSICAL),PROPERTIES"
)
MACHINES = "EVENT_TIME,EVENT_TIME_SEC,HOST_NAME (PHYSICAL),EVENT,PROPERTIES"


class Trace:
    """What a trace makes of ten days."""

    def __init__(self, folder: Path, **files: str) -> None:
        for name, text in files.items():
            (folder / f"chi_tacc_{name}.csv").write_bytes(text.encode())
        (folder / "manifest.json").write_text('{"as_of": "2020-01-11T00:00:00Z"}')
        kept = [a for a in SITES["chi_tacc_trace"].adapters if a in files or a not in NAMES]
        self.site = TinySite("chi_tacc_trace", adapters=kept)
        self.site.facts = pipeline.facts(self.site.site, folder)[0]
        self.tables = self.site.outputs

    def daily(self, count_type: str, resource: str = "nodes") -> list[float | None]:
        return self.site.corrected(count_type, resource=resource)

    @property
    def reasons(self) -> dict[str, str]:
        return dict(self.tables["rejects"].select("source_row_id", "reason").rows())


@pytest.fixture
def trace(tmp_path):
    return lambda **files: Trace(tmp_path, **files)


def at(number: float) -> str:
    return f"{day(number):%FT%T}"


def event(instance: str, name: str, start: object, finish: float, host: str, **more: str) -> str:
    """Write a line of format 0.3; ``start`` may be a word."""
    begin = at(start) if isinstance(start, int | float) else start
    result, properties = more.get("result", "Success"), more.get("properties", "{}")
    project = more.get("project", "p")
    return (
        f"{instance},{name},{begin},0.0,{at(finish)},0.0,0.0,{result},n,u,{project},{host},"
        f'"{properties.replace(chr(34), chr(34) * 2)}"'
    )


def lines(*rows: str, head: str = NEWEST, end: str = "\n") -> str:
    return end.join((head, *rows, ""))


BARE = lines(
    f"{at(0)},0.0,h1,CREATE,\"{{'node_type': 'compute_skylake', 'architecture.smt_size': '48'}}\"",
    f"{at(0)},0.0,h2,CREATE,\"{{'node_type': 'compute_skylake', 'architecture.smt_size': '48'}}\"",
    head=MACHINES,
)


class TestBareMetal:
    """A whole node, from the build's start to the termination's finish."""

    def test_occupied_and_active(self, trace):
        found = trace(
            machine_events=BARE,
            instance_events=lines(
                event("a", CREATE, 1, 1.5, "h1"),
                event("a", "compute_stop_instance", 3, 3, "h1"),
                event("a", "compute_start_instance", 4, 4, "h1"),
                event("a", TERMINATE, 6, 6.25, "h1"),
            ),
        )
        assert found.daily("total") == [2.0] * 10
        assert found.daily("occupied_ondemand") == on((1, 6.25))
        assert found.daily("active_ondemand") == on((1.5, 3), (4, 6.25))
        assert found.daily("occupied_ondemand", "vcpus") == on((1, 6.25), height=48)

    def test_what_failed_changes_nothing(self, trace):
        found = trace(
            machine_events=BARE,
            instance_events=lines(
                event("a", CREATE, 1, 1, "h1"),
                event("a", "compute_stop_instance", 2, 2, "h1", result="Error"),
                event("a", TERMINATE, 3, 3, "h1", result="None"),
                event("a", TERMINATE, 4, 4, "h1"),
                event("b", CREATE, 5, 5.5, "h2", result="Error"),
                event("b", TERMINATE, 6, 6, "h2"),
            ),
        )
        assert found.daily("active_ondemand") == found.daily("occupied_ondemand") == on((1, 4))
        assert found.reasons == {"b": "launch failed or never happened"}

    def test_a_lost_build_and_a_lost_end(self, trace):
        """Of one the first event stands for its begin; another instance on the node ends one."""
        found = trace(
            machine_events=BARE,
            instance_events=lines(
                event("a", "compute_reboot_instance", 1, 1, "h1"),
                event("b", CREATE, 4, 4, "h1"),
                event("b", TERMINATE, 5, 5, "h1"),
                event("c", CREATE, 8, 8, "h2"),
                event("d", TERMINATE, 8, 9, "h1"),
            ),
        )
        held = [a + b for a, b in zip(on((1, 5)), on((8, 10)), strict=True)]
        assert found.daily("occupied_ondemand") == found.daily("active_ondemand") == held
        assert found.reasons == {"d": "no start"}

    def test_where_the_host_is_a_compute_service_each_instance_holds_some_node(self, trace):
        rows = [
            row
            for name in "abcd"
            for row in (
                event(name, CREATE, 2, 2, "service", project=""),
                event(name, TERMINATE, 5, 5, "service"),
            )
        ]
        found = trace(instance_events=lines(*rows, event("e", CREATE, 6, 6, "service")))
        four = on((2, 5), height=4)
        assert found.daily("occupied_ondemand") == [
            a + b for a, b in zip(four, on((6, 10)), strict=True)
        ]

    def test_a_host_that_no_machine_event_names_is_shown_by_its_instances(self, trace):
        found = trace(
            machine_events=BARE,
            instance_events=lines(
                event("a", CREATE, 2, 2, "h9"), event("a", TERMINATE, 7, 7, "h9")
            ),
        )
        assert found.daily("total") == [a + 2 for a in on((2, 7))]
        assert found.daily("occupied_ondemand") == on((2, 7))


OLD_MACHINES = (
    "EVENT_TIME,EVENT_TIME_SEC,HOST_NAME (PHYSICAL),RACK,EVENT,VCPU_CAPACITY,MEMORY_CAPACITY_MB,"
    "DISK_CAPACITY_GB"
)
OLD = (
    "INSTANCE_UUID,EVENT,START_TIME,START_SEC,FINISH_TIME,FINISH_SEC,EVENT_DURATION,RESULT,"
    "MEMORY_MB,DISK_GB,VCPUS,INSTANCE_NAME,USER_ID,PROJECT_ID,HOST_NAME (PHYSICAL)"
)


def old(instance: str, name: str, start: float, finish: float, host: str) -> str:
    """Write a line of formats 0.1 and 0.2: 12 vCPUs, 4096 MB, 40 GB."""
    return f"{instance},{name},{at(start)},0.0,{at(finish)},0.0,0.0,Success,4096,40,12,n,u,p,{host}"


def of_vm(vcpus: int) -> str:
    return f"{{'memory_mb': {vcpus * 10}, 'root_gb': {vcpus}, 'vcpus': {vcpus}}}"


class TestVirtualMachines:
    """A share of a host: its vcpus of the host's."""

    def test_sizes_in_columns_as_formats_before_0_3_have_them(self, trace):
        found = trace(
            machine_events=lines(
                f"{at(0)},0.0,k1,1,CREATE,48,128536,156336",
                f"{at(8)},0.0,k1,0,DELETE,,,",
                head=OLD_MACHINES,
            ),
            instance_events=lines(
                old("a", CREATE, 1, 1, "k1"), old("a", TERMINATE, 5, 5, "k1"), head=OLD
            ),
        )
        assert found.daily("total") == on((0, 8))
        assert found.daily("total", "memory_mb") == on((0, 8), height=128536)
        assert found.daily("occupied_ondemand") == on((1, 5), height=0.25)
        assert found.daily("occupied_ondemand", "disk_gb") == on((1, 5), height=40)

    def test_format_0_1_has_no_machines_so_a_host_has_no_size(self, trace):
        found = trace(instance_events=lines(old("a", CREATE, 1, 1, "k1"), head=OLD))
        assert found.reasons == {"a": "size unknown"}

    def test_sizes_in_properties_and_a_move(self, trace):
        hosts = [
            f"{at(0)},0.0,{name},CREATE,\"{{'rack': 1, 'vcpu_capability': {size}, "
            f"'memory_capability_mb': 1000.0, 'disk_capability_gb': None}}\""
            for name, size in (("k1", 48), ("k2", 24))
        ]
        found = trace(
            machine_events=lines(*hosts, head=MACHINES),
            instance_events=lines(
                event("a", CREATE, 1, 1, "k1", properties=of_vm(12)),
                event("a", "compute_live_migration", 4, 4, "k1", properties=of_vm(12)),
                event(
                    *("a", "compute_post_live_migration_at_destination", 4, 4, "k2"),
                    properties=of_vm(12),
                ),
                event("a", TERMINATE, 6, 6, "k2", properties=of_vm(12)),
            ),
        )
        halves = zip(on((1, 4), height=0.25), on((4, 6), height=0.5), strict=True)
        assert found.daily("occupied_ondemand") == [a + b for a, b in halves]
        assert found.daily("active_ondemand", "vcpus") == on((1, 6), height=12)
        assert found.daily("total", "memory_mb") == [2000.0] * 10


class TestAsOthersWriteThem:
    """The same trace, written otherwise, says the same."""

    PLAIN = (
        event("a", CREATE, 1, 1.5, "h1"),
        event("a", TERMINATE, 6, 6, "h1"),
    )

    @pytest.fixture
    def told(self, trace):
        found = trace(machine_events=BARE, instance_events=lines(*self.PLAIN))
        return found.daily("occupied"), found.daily("active"), found.daily("total")

    @pytest.fixture
    def said(self, trace):
        def say(machines: str, instances: str):
            found = trace(machine_events=machines, instance_events=instances)
            return found.daily("occupied"), found.daily("active"), found.daily("total")

        return say

    def test_lines_that_end_as_elsewhere_and_empty_lines(self, told, said):
        rows = (self.PLAIN[0], "", self.PLAIN[1], "")
        assert said(BARE.replace("\n", "\r\n"), lines(*rows, end="\r\n")) == told

    def test_a_mark_of_the_byte_order(self, told, said):
        assert said("\ufeff" + BARE, "\ufeff" + lines(*self.PLAIN)) == told

    def test_properties_as_json(self, told, said):
        machines = BARE.replace("'", '""').replace("{", "{ ")
        assert said(machines, lines(*self.PLAIN)) == told

    def test_columns_in_another_order_and_without_those_not_needed(self, told, said):
        head = "RESULT,HOST_NAME (PHYSICAL),FINISH_TIME,START_TIME,EVENT,INSTANCE_UUID"
        rows = [
            f"Success,h1,{at(finish)},{at(start)},{name},a"
            for name, start, finish in ((CREATE, 1, 1.5), (TERMINATE, 6, 6))
        ]
        bare = [f"CREATE,h{n},{at(0)}" for n in (1, 2)]
        machines = lines(*bare, head="EVENT,HOST_NAME (PHYSICAL),EVENT_TIME")
        assert said(machines, lines(*rows, head=head)) == told

    def test_rows_in_another_order(self, told, said):
        assert said(BARE, lines(*reversed(self.PLAIN))) == told

    def test_times_with_a_blank_and_fractions(self, told, said):
        rows = [row.replace("T00:00:00", " 00:00:00.250000") for row in self.PLAIN]
        assert said(BARE, lines(*rows)) == told

    def test_a_start_that_is_not_known(self, trace):
        found = trace(
            machine_events=BARE,
            instance_events=lines(
                event("a", CREATE, "None", 1.5, "h1"), event("a", TERMINATE, "None", 6, "h1")
            ),
        )
        assert found.daily("occupied") == found.daily("active") == on((1.5, 6))


class TestBadRows:
    def test_each_has_its_reason(self, trace):
        found = trace(
            machine_events=BARE,
            instance_events=lines(
                event("a", CREATE, 1, 1, "h1"),
                event("a", CREATE, 1, 1, "h1"),
                event("b", CREATE, "yesterday", 2, "h1"),
                event("", CREATE, 3, 3, "h1"),
                event("c", CREATE, 3, 3, "h1").replace(at(3), "None"),
            ),
        )
        refused = found.tables["rejects"].select("source_row_id", "reason").rows()
        assert sorted(refused) == [
            ("(no key)", "missing key"),
            (f"a|{CREATE}|2020-01-02 00:00:00.000000", "duplicate row"),
            (f"b|{CREATE}|2020-01-03 00:00:00.000000", "unreadable START_TIME"),
            (f"c|{CREATE}|None", "missing key"),
        ]


LEASES = "EVENT_TIME,EVENT_TIME_SEC,LEASE_UUID,EVENT,PROJECT_ID,HOST_NAME (PHYSICAL),PROPERTIES"


def of_lease(name: str, moment: float, **more: str) -> str:
    properties = more.get("properties", "{'allocation': 'A1', 'reservation': 'R1'}")
    return f'{at(moment)},0.0,L1,{name},p,{more.get("host", "h1")},"{properties}"'


class TestLeases:
    ASKED = of_lease(
        *("CREATE", 0.5),
        host="",
        properties=f"{{'start_date': '{at(1)}', 'nodes': 1, 'node_type': 'x'}}",
    )

    def test_committed_and_what_lies_inside(self, trace):
        inside = "{'reservation': 'R1'}"
        found = trace(
            machine_events=BARE,
            instance_events=lines(
                event("a", CREATE, 2, 2, "h1", properties=inside),
                event("a", TERMINATE, 9, 9, "h1", properties=inside),
                event("b", CREATE, 3, 3, "h2", properties="{'reservation': None}"),
            ),
            lease_events=lines(
                self.ASKED,
                of_lease("ALLOCATE", 1),
                of_lease("START", 2, host="", properties="{}"),
                of_lease("RELEASE", 7),
                head=LEASES,
            ),
        )
        assert found.daily("committed") == on((1, 7))
        assert found.daily("occupied_reservation") == on((2, 7))
        assert found.reasons == {"a": "outside its reservation", "b": "no reservation covers it"}
        lease = found.tables["leadtime_leases"].row(0, named=True)
        assert (lease["requested_h"], lease["effective_h"]) == (12, 36)
        assert (lease["lease_id"], lease["node_type"], lease["nodes"]) == ("L1", "x", 1)

    def test_a_host_without_a_release_is_held_to_the_last(self, trace):
        found = trace(machine_events=BARE, lease_events=lines(of_lease("ALLOCATE", 4), head=LEASES))
        assert found.daily("committed") == on((4, 10))

    def test_a_release_alone_has_no_start(self, trace):
        found = trace(
            machine_events=BARE,
            lease_events=lines(self.ASKED, of_lease("RELEASE", 4), head=LEASES),
        )
        assert found.reasons == {"A1": "no start"}


@pytest.mark.real
def test_the_real_machine_events_are_those_of_the_published_record(real_data, tmp_path):
    """Read as a trace, in a folder of the trace's names, they say what the record says."""
    file = real_data / "chameleon_machine_events" / "tacc_machine_events.csv"
    (tmp_path / "2020").mkdir()
    (tmp_path / "2020" / "chi_tacc_machine_events.csv").write_bytes(file.read_bytes())
    site = replace(SITES["chi_tacc_trace"], adapters=("machine_events",))
    facts = pipeline.facts(site, tmp_path)[0]
    events = pl.read_csv(file)
    hosts = facts.ingested.intervals
    assert hosts.height == events["HOST_NAME (PHYSICAL)"].n_unique() == 398
    assert set(facts.ingested.profiles["host_class"]) == {"bare_metal"}
    kinds = facts.ingested.profiles["node_type"].drop_nulls()
    told = events["PROPERTIES"].str.contains("'node_type'").sum()
    assert kinds.len() == told > 1000
    assert facts.ingested.rejects.is_empty()
