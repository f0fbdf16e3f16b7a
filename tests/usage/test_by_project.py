"""Use by project: who holds what, that it adds up to the site's, and how it is named."""

# ruff: noqa: DTZ001 - times inside the pipeline are naive UTC; the SQL is the tests' own
from __future__ import annotations

from datetime import datetime, timedelta

import duckdb
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chameleon_usage import pipeline
from chameleon_usage.intervals.arithmetic import ConservationError
from chameleon_usage.io import project_laws
from chameleon_usage.io.privacy import Privacy, project_names
from chameleon_usage.models.metrics import METRICS, OF_PROJECTS, PARTITION
from chameleon_usage.models.vocabulary import ALL_PROJECTS, UNKNOWN_PROJECT
from chameleon_usage.reconstruct.holders import merge_held
from chameleon_usage.reconstruct.observed import UNITS
from chameleon_usage.reconstruct.projects import Projects, check_division
from chameleon_usage.reconstruct.reading import Collected
from chameleon_usage.usage.buckets import Window
from support.sites import DAYS, HOUR, LIVELY, PROJECT, TinySite, day, lively

USE, SESSIONS = "usage_by_project", "sessions_by_project"
KEY = ["timestamp", "count_type", "resource"]


def series(site: TinySite, project: str, count_type: str, resource: str = "nodes") -> list[float]:
    """Give the daily values of a project, over all node types; 0 where there is no row."""
    rows = site.outputs[USE].filter(
        pl.col("project_id") == project,
        pl.col("count_type") == count_type,
        pl.col("resource") == resource,
    )
    days = site.window.timestamps.select("timestamp")
    sums = rows.group_by("timestamp").agg(pl.col("value").sum())
    return (
        days.join(sums, on="timestamp", how="left")
        .sort("timestamp")["value"]
        .fill_null(0)
        .to_list()
    )


def sessions(site: TinySite, column: str, project: str = "p") -> list[int]:
    rows = site.outputs[SESSIONS].filter(pl.col("project_id") == project)
    days = site.window.timestamps.select("timestamp")
    sums = rows.group_by("timestamp").agg(pl.col(column).sum())
    return (
        days.join(sums, on="timestamp", how="left").sort("timestamp")[column].fill_null(0).to_list()
    )


class TestWhoHolds:
    def test_count_types_of_projects_are_what_somebody_holds(self):
        assert set(OF_PROJECTS) == {
            *("committed", "occupied_reservation", "occupied_ondemand", "active_reservation"),
            *("active_ondemand", "occupied", "active", "idle", "stopped"),
        }
        assert set(OF_PROJECTS) < set(METRICS)
        assert {"total", "reservable", "available"}.isdisjoint(OF_PROJECTS)
        assert {"idle", "stopped", "active"} == set(PARTITION) & set(OF_PROJECTS)

    def test_of_two_leases_of_a_node_the_one_that_came_first_holds_it(self):
        site = TinySite()
        site.host()
        site.lease("L1", 1, 4)
        site.lease("L2", 3, 6, project_id="q")
        assert series(site, "p", "committed") == [0, 1, 1, 1, 0, 0, 0, 0, 0, 0]
        assert series(site, "q", "committed") == [0, 0, 0, 0, 1, 1, 0, 0, 0, 0]

    def test_what_sits_in_a_lease_is_that_of_the_leases_project(self):
        site = TinySite()
        site.host()
        site.lease("L1", 1, 5)
        site.instance("I1", "h1", 2, 4, lease="L1", project_id="q")
        assert series(site, "p", "occupied") == [0, 0, 1, 1, 0, 0, 0, 0, 0, 0]
        assert series(site, "p", "idle") == [0, 1, 0, 0, 1, 0, 0, 0, 0, 0]
        assert series(site, "q", "occupied") == [0] * DAYS
        assert sessions(site, "started", "q") == [0, 0, 1, 0, 0, 0, 0, 0, 0, 0]

    def test_a_project_that_no_row_names_is_unknown(self):
        site = TinySite()
        site.host()
        site.lease("L1", 1, 2, project_id=None)
        assert series(site, UNKNOWN_PROJECT, "committed") == [0, 1, 0, 0, 0, 0, 0, 0, 0, 0]

    def test_slices_of_a_host_by_project(self):
        site = TinySite("kvm_tacc")
        site.hypervisor("k1", 0, hypervisor_type="QEMU", vcpus=96)
        site.instance("V1", "k1", 1, 3, vcpus=24, memory_mb=64)
        site.instance("V2", "k1", 2, 4, vcpus=48, memory_mb=32, project_id="q")
        assert series(site, "p", "occupied_ondemand") == [0, 0.25, 0.25, 0, 0, 0, 0, 0, 0, 0]
        assert series(site, "q", "occupied_ondemand") == [0, 0, 0.5, 0.5, 0, 0, 0, 0, 0, 0]
        assert series(site, "q", "active", "memory_mb") == [0, 0, 32, 32, 0, 0, 0, 0, 0, 0]

    def test_of_slices_that_claim_more_than_the_host_the_first_has_its_own(self):
        site = TinySite("kvm_tacc")
        site.hypervisor("k1", 0, hypervisor_type="QEMU", vcpus=96)
        site.instance("V1", "k1", 1, 4, vcpus=72)
        site.instance("V2", "k1", 2, 5, vcpus=48, project_id="q")
        assert series(site, "p", "occupied") == [0, 0.75, 0.75, 0.75, 0, 0, 0, 0, 0, 0]
        assert series(site, "q", "occupied") == [0, 0, 0.25, 0.25, 0.5, 0, 0, 0, 0, 0]

    def test_a_project_has_a_row_for_each_node_type(self):
        site = TinySite()
        site.host("h1", node_type="one")
        site.host("h2", node_type="two")
        site.lease("L1", 1, 2, ["b-h1", "b-h2"])
        rows = site.outputs[USE].filter(
            pl.col("count_type") == "committed", pl.col("resource") == "nodes"
        )
        assert rows.select("project_id", "node_type", "value").rows() == [
            ("p", "one", 1.0),
            ("p", "two", 1.0),
        ]


class TestSessions:
    @pytest.fixture
    def site(self) -> TinySite:
        site = TinySite()
        site.host("h1")
        site.host("h2")
        site.lease("L1", 0, 9, ["b-h1", "b-h2"])
        site.instance("I1", "h1", 1, 3, lease="L1", active=1 + HOUR)
        site.instance("I2", "h2", 1.5, 4.25, lease="L1", active=2.5)
        site.instance("I3", "h1", 8.5, None, lease="L1", active=None)
        return site

    def test_started_ended_and_present(self, site):
        assert sessions(site, "started") == [0, 2, 0, 0, 0, 0, 0, 0, 1, 0]
        assert sessions(site, "ended") == [0, 0, 1, 0, 1, 0, 0, 0, 1, 0]
        assert sessions(site, "present") == [0, 2, 2, 1, 1, 0, 0, 0, 1, 0]

    def test_build_time_counts_where_the_session_first_ran(self, site):
        assert sessions(site, "launched") == [0, 1, 1, 0, 0, 0, 0, 0, 1, 0]
        assert sessions(site, "build_seconds") == [0, 3600, 86400, 0, 0, 0, 0, 0, 0, 0]

    def test_what_lasts_till_the_tables_were_read_has_not_ended(self):
        site = TinySite()
        site.host()
        site.lease("L1", 1, 20)
        site.instance("I1", "h1", 7, None, lease="L1")
        assert sessions(site, "ended") == [0] * DAYS
        assert sessions(site, "present") == [0] * 7 + [1] * 3

    def test_a_machine_that_moves_is_one_session(self):
        site = TinySite("kvm_tacc")
        site.hypervisor("k1", 0, hypervisor_type="QEMU", host="k1")
        site.hypervisor("k2", 0, hypervisor_type="QEMU", host="k2")
        site.instance("V1", "k2", 1, 5, vcpus=12)
        site.tables["nova.instance_actions_events"][-1]["host"] = "k1"
        site.action("V1", "live-migration", 3, host="k2")
        assert sum(sessions(site, "started")) == sum(sessions(site, "ended")) == 1


@pytest.mark.parametrize("key", LIVELY)
@pytest.mark.parametrize("bucket", ["1h", "1d", "1mo"])
def test_projects_add_up_to_the_site_to_the_last_unit_second(key, bucket):
    """By DuckDB, in whole unit-seconds; nodes of KVM, which are fractions, per 48, 24 or 96."""
    site = lively(key)
    window = Window(day(0), day(DAYS), bucket)
    tables = pipeline.outputs(
        site.stage_by_project, site.site, window, by_project=project_names("keep")
    )
    length = {"1h": 3600, "1d": 86400, "1mo": DAYS * 86400}[bucket]
    units, projects = 96 * length, tables[USE]
    by_resource = tables["usage_by_resource"].filter(
        pl.col("count_type").is_in(OF_PROJECTS),
        pl.col("collector_type") == "corrected",
        pl.col("value").is_not_null(),
    )
    found = duckdb.sql(
        f"""
        WITH shares AS (
            SELECT timestamp, count_type::TEXT AS c, resource::TEXT AS r,
                sum(round(value * {units})::HUGEINT) AS share
            FROM projects GROUP BY ALL
        )
        SELECT count(share), count(*) FILTER (coalesce(share, 0) <> round(value * {units}))
        FROM by_resource LEFT JOIN shares
            ON shares.timestamp = by_resource.timestamp AND c = count_type::TEXT
            AND r = resource::TEXT
        """
    ).fetchall()
    cells = projects.select(KEY).n_unique()
    assert by_resource.height >= cells > 0
    assert found == [(cells, 0)]


# --- two oracles in SQL ---------------------------------------------------------------------------

CLAIM = st.tuples(
    st.sampled_from(["h1", "h2"]),
    st.integers(0, 200),
    st.integers(1, 60),
    st.sampled_from(["p", "q", "r"]),
)


WORLDS = 5


@pytest.mark.parametrize("most", [3, pytest.param(6, marks=pytest.mark.slow)])
def test_duckdb_finds_the_same_holders_of_nodes(most):
    world = st.lists(CLAIM, min_size=1, max_size=8)
    law = given(st.lists(world, min_size=WORLDS, max_size=WORLDS))(assert_holders_as_duckdb_finds)
    settings(max_examples=most)(law)()


def assert_holders_as_duckdb_finds(worlds):
    """Hour by hour, the lease that began first holds the node.

    A run takes the same time for one world as for some; these share neither hosts nor projects.
    """
    site = TinySite()
    rows, claims = [], []
    for world, told in enumerate(worlds):
        site.host(f"h1w{world}")
        site.host(f"h2w{world}")
        claims += [(f"{host}w{world}", *times, f"{p}{world}") for host, *times, p in told]
    for number, (host, start, length, project) in enumerate(claims):
        name = f"L{number}x"
        site.lease(name, start * HOUR, (start + length) * HOUR, [f"b-{host}"], project_id=project)
        allocation = site.tables["blazar.computehost_allocations"][-1]["id"]
        rows.append((host, start, start + length, project, allocation))
    asked = pl.DataFrame(rows, schema=["host", "first", "past", "project", "id"], orient="row")
    expected = duckdb.sql(
        """
        SELECT project, hour // 24 AS day, count(*) / 24 AS value FROM (
            SELECT host, hour, arg_min(project, (first, id)) AS project
            FROM asked, range(240) AS hours(hour)
            WHERE first <= hour AND hour < past GROUP BY host, hour
        ) GROUP BY ALL ORDER BY ALL
        """
    ).fetchall()
    assert asked.height == len(claims)
    found = [
        (project, number, pytest.approx(value))
        for project in sorted({project for *_, project in claims})
        for number, value in enumerate(series(site, project, "committed"))
        if value
    ]
    assert expected == found


SLICE = st.tuples(
    st.integers(0, 20), st.integers(1, 10), st.integers(1, 40), st.sampled_from(["p", "q", "r"])
)
LIMIT = st.lists(st.integers(0, 64), min_size=31, max_size=31)
SIZES = {"vcpus": 64, "memory_mb": 64, "disk_gb": 64, "gpus": 0}


def moment(hour: int) -> datetime:
    return datetime(2020, 1, 1) + timedelta(hours=hour)


@pytest.mark.parametrize("most", [25, pytest.param(100, marks=pytest.mark.slow)])
def test_duckdb_finds_the_same_shares_of_a_kvm_host(most):
    law = given(st.lists(SLICE, min_size=1, max_size=9), LIMIT)(assert_shares_as_duckdb_finds)
    settings(max_examples=most)(law)()


def assert_shares_as_duckdb_finds(slices, limits):
    """Hour by hour, those that began first have what they claim, as far as the parent goes."""
    times = {"start": pl.Datetime("us"), "end": pl.Datetime("us")}
    told = pl.DataFrame(
        [(f"V{number}", *one) for number, one in enumerate(slices)],
        schema=["entity_id", "hour", "length", "vcpus", "project_id"],
        orient="row",
    )
    pieces = told.select(
        "entity_id",
        "project_id",
        pl.lit("k1").alias("hostname"),
        pl.lit("nova.instances").alias("source"),
        pl.lit(None, pl.String).alias("host_class"),
        pl.lit(None, pl.String).alias("node_type"),
        "vcpus",
        pl.col("vcpus").alias("memory_mb"),
        pl.lit(None, pl.Int64).alias("disk_gb"),
        pl.lit(None, pl.Int64).alias("gpus"),
        nodes=pl.lit(1, pl.Int64),
        inferred=False,
        start=pl.col("hour").map_elements(moment, return_dtype=times["start"]),
        end=(pl.col("hour") + pl.col("length")).map_elements(moment, return_dtype=times["end"]),
    )
    always = {"start": datetime(1, 1, 1), "end": datetime(9999, 1, 1)}
    host = {"hostname": "k1", "host_class": "kvm", "node_type": "kvm", **SIZES, **always}
    history = pl.DataFrame([host], schema_overrides=times)
    ceiling = pl.DataFrame(
        [
            {"hostname": "k1", "host_class": "kvm", "start": moment(hour), "end": moment(hour + 1)}
            | dict.fromkeys(UNITS, limit)
            for hour, limit in enumerate(limits)
            if limit
        ],
        schema={"hostname": pl.String, "host_class": pl.String}
        | times
        | dict.fromkeys(UNITS, pl.Int64),
    )
    collected = Collected("corrected", projects=Projects())
    merge_held(pieces, history, ceiling, "occupied_ondemand", collected)
    shares = collected.projects.slices["occupied_ondemand"]
    steps = pl.DataFrame({"hour": range(31), "most": limits})
    expected = duckdb.sql(
        """
        SELECT entity_id, hour, share FROM (
            SELECT entity_id, steps.hour,
                sum(vcpus) OVER (PARTITION BY steps.hour ORDER BY told.hour, entity_id) AS upto,
                least(upto, most) - least(upto - vcpus, most) AS share
            FROM told JOIN steps ON steps.hour BETWEEN told.hour AND told.hour + length - 1
        ) WHERE share > 0 ORDER BY ALL
        """
    ).fetchall()
    found = duckdb.sql(
        """
        SELECT entity_id, hour, sum(node_units) AS share
        FROM shares JOIN steps
            ON TIMESTAMP '2020-01-01' + to_hours(hour) BETWEEN start AND "end" - INTERVAL 1 second
        WHERE node_units > 0 GROUP BY ALL ORDER BY ALL
        """
    ).fetchall()
    assert steps.height == len(limits)
    assert found == expected
    assert shares["node_units"].equals(shares["vcpus"])


class TestNames:
    @pytest.fixture
    def tables(self):
        site = lively("kvm_tacc")

        def named(text: str) -> dict[str, pl.DataFrame]:
            return pipeline.outputs(
                site.stage_by_project, site.site, site.window, by_project=project_names(text)
            )

        return named

    @pytest.fixture
    def key(self, tmp_path) -> str:
        (tmp_path / "key").write_text("a key of the tests, of 32 bytes.")
        return str(tmp_path / "key")

    def test_as_they_are(self, tables):
        for name in (USE, SESSIONS):
            assert set(tables("keep")[name]["project_id"]) == {"p", "q"}

    def test_left_out_all_are_one(self, tables):
        kept, omitted = tables("keep"), tables("omit")
        assert set(omitted[USE]["project_id"]) == {ALL_PROJECTS}
        for name in (USE, SESSIONS):
            other = [one for one in omitted[name].columns if kept[name].schema[one].is_numeric()]
            for column in other:
                assert omitted[name][column].sum() == pytest.approx(kept[name][column].sum())

    def test_pseudonyms_are_those_of_an_extraction_with_the_key(self, tables, key):
        privacy = Privacy(b"a key of the tests, of 32 bytes.")
        names = {name: privacy.pseudonym(name) for name in ("p", "q")}
        for name in (USE, SESSIONS):
            renamed = tables("keep")[name].with_columns(pl.col("project_id").replace_strict(names))
            order = OUTPUT_KEYS[name]
            assert tables(key)[name].sort(order).equals(renamed.sort(order))

    def test_unknown_stays_unknown(self, key):
        frame = pl.DataFrame({"project_id": ["p", None]})
        assert project_names(key)(frame)["project_id"][1] is None


OUTPUT_KEYS = {
    USE: [*KEY, "project_id", "node_type"],
    SESSIONS: ["timestamp", "project_id", "node_type"],
}


class TestLaws:
    @pytest.fixture
    def tables(self) -> dict[str, pl.DataFrame]:
        return lively("chi_tacc").outputs

    def shares(self, projects: pl.DataFrame, tables, tmp_path) -> list[str]:
        return project_laws.shares(tmp_path, projects, tables["usage_by_resource"])

    def test_hold(self, tables, tmp_path):
        assert self.shares(tables[USE], tables, tmp_path) == []
        assert project_laws.sessions(tmp_path, tables[SESSIONS]) == []

    @pytest.mark.parametrize("bucket", [1, 8])
    def test_a_second_more_is_seen(self, tables, tmp_path, bucket):
        at = day(bucket)
        committed = pl.col("count_type") == "committed"
        one = committed & (pl.col("timestamp").dt.replace_time_zone(None) == at)
        if not tables[USE].filter(one).height:
            one = committed & (
                pl.col("timestamp") == tables[USE].filter(committed)["timestamp"].max()
            )
        changed = tables[USE].with_columns(
            value=pl.col("value") + pl.when(one & one.cum_sum().eq(1)).then(1 / 86400).otherwise(0)
        )
        [said] = self.shares(changed, tables, tmp_path)
        assert "committed of projects" in said

    def test_a_row_that_is_missing_or_of_an_unknown_day_is_seen(self, tables, tmp_path):
        assert self.shares(tables[USE].slice(1), tables, tmp_path)
        unknown = tables["usage_by_resource"].with_columns(value=pl.lit(None, pl.Float64))
        assert project_laws.shares(tmp_path, tables[USE], unknown)

    def test_no_session_breaks_no_law(self, tables, tmp_path):
        assert project_laws.sessions(tmp_path, tables[SESSIONS].clear()) == []

    def test_a_session_from_nowhere_is_seen(self, tables, tmp_path):
        table = tables[SESSIONS]
        for column in ("started", "ended", "present"):
            changed = table.with_columns(pl.col(column) + (pl.int_range(pl.len()) == 1).cast(int))
            [said] = project_laws.sessions(tmp_path, changed)
            assert "appear or vanish" in said

    def test_a_division_that_loses_a_second_stops_the_run(self):
        stage = lively("kvm_tacc").stage_by_project
        segments = stage.segments.filter(pl.col("collector_type") == "corrected")
        check_division(segments, stage.holdings)
        late = pl.col("start") + pl.duration(seconds=(pl.int_range(pl.len()) == 0).cast(int))
        with pytest.raises(ConservationError, match="projects hold other than what is counted as"):
            check_division(segments, stage.holdings.with_columns(start=late))


class TestCommand:
    RUN = ("run", "--config", PROJECT / "data/sites.yaml", "--start", "2020-01-01")

    def test_names_need_the_tables(self, usage, lively_raw, tmp_path):
        said = usage(
            *self.RUN, "--data-dir", lively_raw, "--output", tmp_path, "--projects", "omit"
        )
        assert said.status == 1
        assert "--by-project" in said.err

    def test_saved_segments_without_projects_name_the_way_out(self, usage, lively_raw, tmp_path):
        call = (*self.RUN, "--data-dir", lively_raw, "--output", tmp_path, "--site", "kvm_tacc")
        assert usage(*call, "--save-stages").status == 0
        said = usage(*call, "--by-project", "--from", "segments")
        assert said.status == 1
        assert "--from facts" in said.err
        assert usage(*call, "--by-project", "--from", "facts").status == 0
        assert usage(*call, "--by-project", "--from", "segments").status == 0

    def test_check_reads_them(self, usage, lively_raw, tmp_path):
        call = (*self.RUN, "--data-dir", lively_raw, "--output", tmp_path, "--site", "chi_tacc")
        assert usage(*call, "--by-project").status == 0
        check = ("check", "--config", PROJECT / "data/sites.yaml", "--output", tmp_path)
        assert usage(*check).status == 0
        path = tmp_path / "chi_tacc" / f"{USE}.parquet"
        pl.read_parquet(path).with_columns(pl.col("value") * 2).write_parquet(path)
        said = usage(*check)
        assert said.status == 1
        assert "is not that of the site" in said.err
