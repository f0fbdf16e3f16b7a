"""The Grafana dashboards: from the registry, valid for Grafana, right on a real MariaDB."""

from __future__ import annotations

import importlib.util
import json
import re
from contextlib import closing
from datetime import UTC, datetime, timedelta

import duckdb
import polars as pl
import pymysql
import pytest
import yaml
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.cog.plugins import register_default_plugins
from grafana_foundation_sdk.models.dashboard import Dashboard

from chameleon_usage.io.export.sql import write_sql
from chameleon_usage.io.export.target import DASHBOARD_TABLES
from chameleon_usage.models.metrics import METRICS, PARTITION, RESOURCES
from chameleon_usage.stages import each_combined
from chameleon_usage.viz import palette
from support.sites import PROJECT, SITES

GRAFANA = PROJECT / "dashboards" / "grafana"
NAMES = ("overview.json", "sites.json", "projects.json")
CHOSEN = ["chi_edge", "chi_tacc", "kvm_tacc"]
FROM, TO = datetime(2019, 12, 1, tzinfo=UTC), datetime(2020, 1, 31, tzinfo=UTC)


def board(name: str) -> dict:
    return json.loads((GRAFANA / "dashboards" / name).read_text())


def panels() -> list:
    return [
        pytest.param(panel, id=f"{name}: {panel['title']}")
        for name in NAMES
        for panel in board(name)["panels"]
        if panel["type"] != "row"
    ]


def titled(title: str) -> dict:
    (found,) = [panel for (panel,) in (p.values for p in panels()) if panel["title"] == title]
    return found


@pytest.fixture(scope="module")
def generate():
    spec = importlib.util.spec_from_file_location("generate", GRAFANA / "generate.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class TestGenerated:
    def test_the_files_are_what_the_generator_makes(self, generate):
        there = {path.name: path.read_text() for path in (GRAFANA / "dashboards").iterdir()}
        made = generate.texts()
        stale = sorted(n for n in there.keys() | made.keys() if there.get(n) != made.get(n))
        assert stale == [], "run: python dashboards/grafana/generate.py"

    def test_states_have_the_colours_and_names_of_the_book(self):
        shown = {
            o["matcher"]["options"]: o for o in titled("Nodes by state")["fieldConfig"]["overrides"]
        }
        for name in PARTITION:
            (property_,) = shown[METRICS[name].label]["properties"]
            assert property_["value"]["fixedColor"] == palette.STATES[name]

    def test_every_site_with_a_database_has_its_shades(self):
        overrides = titled("Nodes across sites")["fieldConfig"]["overrides"]
        named = {p["value"] for o in overrides for p in o["properties"] if p["id"] == "displayName"}
        for site in SITES.values():
            assert (f"{site.name} used" in named) == bool(site.db_uri)


class TestSchema:
    """Grafana's own types, as the Foundation SDK publishes them."""

    @pytest.mark.parametrize("name", NAMES)
    def test_nothing_is_unknown_to_grafana(self, name):
        register_default_plugins()
        read = Dashboard.from_json(board(name))
        assert json.loads(JSONEncoder().encode(read)) == board(name)

    @pytest.mark.parametrize("name", NAMES)
    def test_panels_have_numbers_and_do_not_overlap(self, name):
        found = board(name)["panels"]
        assert len({panel["id"] for panel in found}) == len(found)
        cells = [
            (x, y)
            for panel in found
            for at in (panel["gridPos"],)
            for x in range(at["x"], at["x"] + at["w"])
            for y in range(at["y"], at["y"] + at["h"])
        ]
        assert len(cells) == len(set(cells))
        assert max(x for x, _ in cells) < 24

    @pytest.mark.parametrize("name", NAMES)
    def test_every_query_goes_to_the_provisioned_source(self, name):
        path = GRAFANA / "provisioning/datasources/chameleon-usage.yaml"
        (source,) = yaml.safe_load(path.read_text())["datasources"]
        here = {"type": source["type"], "uid": source["uid"]}
        made = board(name)
        asked = [v["datasource"] for v in made["templating"]["list"] if v["type"] == "query"]
        for panel in made["panels"]:
            if panel["type"] != "row":
                asked += [panel["datasource"], *(t["datasource"] for t in panel["targets"])]
        assert asked
        assert all(one == here for one in asked)
        assert source["jsonData"]["timezone"] == "+00:00"

    def test_no_secret_and_no_address_stands_in_a_file(self):
        path = GRAFANA / "provisioning/datasources/chameleon-usage.yaml"
        (source,) = yaml.safe_load(path.read_text())["datasources"]
        for value in (*source["secureJsonData"].values(), source["url"], source["user"]):
            assert re.fullmatch(r"\$\{\w+\}(:\$\{\w+\})?", value)

    @pytest.mark.parametrize("panel", panels())
    def test_every_panel_asks_for_the_shown_time_and_the_chosen_sites(self, panel):
        for target in panel["targets"]:
            assert "$__timeFilter(" in target["rawSql"]
            assert "$__timeGroup" in target["rawSql"]
            assert "site IN ($site)" in target["rawSql"]


# --- the queries, run -----------------------------------------------------------------------------


def seconds(interval: str) -> int:
    number, unit = re.fullmatch(r"'?(\d+)([smhdw])'?", interval.strip()).groups()
    return int(number) * {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}[unit]


def expand(sql: str, *, interval: str = "1d", sites=CHOSEN, **variables: str) -> str:
    """Do what Grafana does before MySQL sees a query.

    First the browser puts in the variables: one of many values as a quoted list, another as it
    is. Then the data source expands its macros, as its documentation lists them.
    """
    variables = {"site": ", ".join(f"'{site}'" for site in sites), **variables}
    sql = sql.replace("$__interval", interval)
    sql = re.sub(r"\$(?!__)(\w+)", lambda found: variables[found[1]], sql)
    macros = {
        "__timeFilter": lambda column: (
            f"{column} BETWEEN FROM_UNIXTIME({FROM.timestamp():.0f})"
            f" AND FROM_UNIXTIME({TO.timestamp():.0f})"
        ),
        "__timeGroup": lambda column, every: (
            f"UNIX_TIMESTAMP({column}) DIV {seconds(every)} * {seconds(every)}"
        ),
        "__timeGroupAlias": lambda column, every: (
            f'UNIX_TIMESTAMP({column}) DIV {seconds(every)} * {seconds(every)} AS "time"'
        ),
    }
    return re.sub(
        r"\$(\w+)\(([^)]*)\)",
        lambda found: macros[found[1]](*(part.strip() for part in found[2].split(","))),
        sql,
    )


@pytest.fixture(scope="module")
def tables(lively_outputs) -> dict[str, pl.DataFrame]:
    return dict(each_combined(lively_outputs("--by-project"), CHOSEN))


class TestTopProjects:
    """In DuckDB, which is taught the three functions of MySQL that the query takes."""

    @pytest.mark.parametrize("interval", ["1d", "7d"])
    def test_ten_are_named_and_all_together_are_what_is_held(self, interval):
        stamps = [FROM + timedelta(days=number) for number in range(14)]
        rows = [  # project n holds n nodes on every n-th day, and what it runs is no more
            (site, stamp, count_type, "nodes", f"p{n:02}", "one", float(n))
            for site in CHOSEN
            for number, stamp in enumerate(stamps)
            for n in range(1, 13)
            for count_type in ("committed", "occupied")
            if number % n == 0
        ]
        database = duckdb.connect()
        database.sql("SET TimeZone = 'UTC'")
        database.sql("CREATE MACRO unix_timestamp(t) AS epoch(t)::BIGINT")
        database.sql("CREATE MACRO from_unixtime(s) AS to_timestamp(s)")
        names = ["site", "timestamp", "count_type", "resource", "project_id", "node_type", "value"]
        held = pl.DataFrame(rows, schema=names, orient="row")
        database.register("usage_by_project", held)
        database.register("usage_timeline", pl.DataFrame({"site": "chi_tacc", "timestamp": stamps}))
        sql = titled("Top projects")["targets"][0]["rawSql"]
        found = database.sql(expand(sql, interval=interval).replace(" DIV ", " // ")).pl()
        assert found["metric"].n_unique() == 11
        assert "all others" in found["metric"]
        length = seconds(interval)
        bucket = pl.col("timestamp").dt.epoch("s") // length * length
        days = pl.DataFrame({"timestamp": stamps}).group_by(time=bucket).len("days")
        expected = (
            held.filter(pl.col("count_type") == "committed")
            .group_by(time=bucket)
            .agg(pl.col("value").sum())
            .join(days, on="time")
            .select("time", pl.col("value") / pl.col("days"))
            .sort("time")
        )
        sums = found.group_by("time").agg(pl.col("value").sum()).sort("time")
        assert sums["time"].to_list() == expected["time"].to_list()
        assert sums["value"].to_list() == pytest.approx(expected["value"].to_list())


@pytest.mark.slow
class TestQueries:
    @pytest.fixture
    def ask(self, mariadb, tables, monkeypatch):
        """Fill a database, and ask it as a user who may only read."""
        mariadb.sql(
            "CREATE DATABASE usage_history",
            "CREATE USER reader_writer@'%' IDENTIFIED BY 'w'",
            "GRANT ALL ON usage_history.* TO reader_writer@'%'",
            "CREATE USER reader@'%' IDENTIFIED BY 'r'",
            "GRANT SELECT ON usage_history.* TO reader@'%'",
        )
        monkeypatch.setenv("URI", mariadb.uri("reader_writer", "w") + "/usage_history")
        asked = (*DASHBOARD_TABLES, "usage_by_project")
        write_sql({name: tables[name] for name in asked}, CHOSEN, "${URI}")
        session = pymysql.connect(
            host="127.0.0.1",
            port=mariadb.port,
            user="reader",
            password="r",
            database="usage_history",
            init_command="SET time_zone = '+00:00'",  # jsonData.timezone
        )

        def run(sql: str, **variables) -> pl.DataFrame:
            with session.cursor() as cursor:
                cursor.execute(expand(sql, **variables))
                names = [column[0] for column in cursor.description]
                return pl.DataFrame(list(cursor.fetchall()), schema=names, orient="row")

        with closing(session):
            yield run

    @pytest.mark.parametrize("panel", panels())
    def test_every_panel_gives_a_series_that_grafana_can_draw(self, ask, panel):
        for target in panel["targets"]:
            for interval in ("1d", "7d"):
                found = ask(
                    target["rawSql"], interval=interval, resource="nodes", count_type="committed"
                )
                assert found.height > 0
                assert found.columns[0] == "time"
                assert found["time"].is_sorted()
                times = set(found["time"].to_list())
                assert all(moment % seconds(interval) == 0 for moment in times)
                assert min(times) >= FROM.timestamp() - seconds(interval)
                kinds = set(found.schema.items()) - {("time", pl.Int64()), ("metric", pl.String())}
                for name, kind in kinds:
                    assert kind in (pl.Float64(), pl.Null()), (name, kind)
                keys = ["time"] + ["metric"] * ("metric" in found.columns)
                assert not found.select(keys).is_duplicated().any()

    def test_the_list_of_sites(self, ask):
        (variable,) = [v for v in board("sites.json")["templating"]["list"] if v["name"] == "site"]
        assert ask(variable["query"])["site"].to_list() == CHOSEN

    @pytest.mark.parametrize("site", CHOSEN)
    def test_states_are_the_corrected_timeline(self, ask, tables, site):
        sql = titled("Nodes by state")["targets"][0]["rawSql"]
        found = ask(sql, sites=[site])
        expected = tables["usage_timeline"].filter(
            pl.col("site") == site, pl.col("collector_type") == "corrected"
        )
        for name in (*PARTITION, "total"):
            series = expected.filter(pl.col("count_type") == name).sort("timestamp")
            assert found["time"].to_list() == series["timestamp"].dt.epoch("s").to_list()
            assert found[METRICS[name].label].to_list() == pytest.approx(series["value"].to_list())

    @pytest.mark.parametrize("interval", ["1d", "7d"])
    def test_shares_of_the_states_add_up_to_one(self, ask, interval):
        found = ask(titled("Share of nodes by state")["targets"][0]["rawSql"], interval=interval)
        shares = found.select(pl.sum_horizontal(pl.exclude("time"), ignore_nulls=False)).to_series()
        assert shares.drop_nulls().len() > 0
        assert shares.drop_nulls().to_list() == pytest.approx([1.0] * shares.drop_nulls().len())

    def test_a_site_that_knows_no_use_is_leased_not_used(self, ask, tables):
        found = ask(titled("Nodes across sites")["targets"][0]["rawSql"])
        wide = tables["usage_timeline"].filter(pl.col("collector_type") == "corrected")
        for site in CHOSEN:
            occupied = wide.filter(pl.col("site") == site, pl.col("count_type") == "occupied")
            used = found.filter(pl.col("metric") == f"{site} used")
            assert used["value"].sum() == pytest.approx(occupied["value"].sum())
        total = ask(titled("Nodes across sites")["targets"][1]["rawSql"])
        nodes = (
            wide.filter(pl.col("count_type") == "total").group_by("timestamp").agg(pl.sum("value"))
        )
        assert total["Total"].to_list() == pytest.approx(nodes.sort("timestamp")["value"].to_list())

    def test_what_is_available_is_neither_used_nor_in_a_maintenance_window(self, ask, tables):
        found = ask(titled("Nodes across sites")["targets"][0]["rawSql"])
        wide = (
            tables["usage_timeline"]
            .filter(pl.col("collector_type") == "corrected")
            .with_columns(pl.col("count_type").cast(pl.String))
            .pivot(on="count_type", index=["site", "timestamp"], values="value")
            .sort("timestamp")
        )
        col = pl.col
        windows = wide.filter(
            col("total") - col("unknown") - col("reservable") - col("ondemand_capacity")
            < col("maintenance") - 0.1
        )
        assert set(windows["site"]) == {"chi_tacc"}
        free = (col("idle") + col("available") + col("available_ondemand")).fill_null(
            col("available")
        )
        for site in CHOSEN:
            expected = wide.filter(col("site") == site).select(free).to_series().drop_nulls()
            shown = found.filter(pl.col("metric") == f"{site} available")
            assert shown["value"].to_list() == pytest.approx(expected.to_list(), abs=1e-9)

    def test_projects_add_up_to_what_is_held(self, ask, tables):
        found = ask(titled("Top projects")["targets"][0]["rawSql"])
        held = tables["usage_timeline"].filter(
            pl.col("collector_type") == "corrected",
            pl.col("count_type").is_in(["committed", "occupied_ondemand"]),
        )
        assert found["value"].sum() == pytest.approx(held["value"].sum())

    @pytest.mark.parametrize("interval", ["1d", "7d"])
    def test_lead_times_are_medians(self, ask, tables, interval):
        found = ask(titled("Lead time")["targets"][0]["rawSql"], interval=interval)
        length = seconds(interval)
        lead = tables["leadtime_timeline"].filter(pl.col("timestamp").is_between(FROM, TO))
        expected = (
            lead.group_by(
                time=pl.col("timestamp").dt.epoch("s") // length * length,
                metric=pl.format("{} {}", "site", pl.col("leadtime_type").cast(pl.String)),
            )
            .agg(pl.col("value").median())
            .sort("time", "metric")
        )
        assert found.select("time", "metric").rows() == expected.select("time", "metric").rows()
        assert found["value"].to_list() == pytest.approx(expected["value"].to_list())

    def test_all_resources_and_counts_can_be_chosen(self, ask):
        made = {v["name"]: v for v in board("sites.json")["templating"]["list"]}
        assert [o["value"] for o in made["resource"]["options"]] == list(RESOURCES)
        assert [o["value"] for o in made["count_type"]["options"]] == list(METRICS)
        for resource in RESOURCES:
            sql = titled("Quantities of $resource")["targets"][0]["rawSql"]
            assert "Total" in ask(sql, resource=resource).columns

    def test_a_day_is_one_of_utc(self, ask, tables):
        """The server's own zone is another; the data source sets the session's."""
        found = ask(titled("Nodes by state")["targets"][0]["rawSql"])
        first = datetime.fromtimestamp(found["time"][0], UTC)
        assert first == tables["usage_timeline"]["timestamp"].min()
        assert timedelta(hours=first.hour) == timedelta()
