"""Make the Grafana dashboards: names from the metric registry, colours from the book's palette.

``python dashboards/grafana/generate.py`` writes ``dashboards/grafana/dashboards/*.json``. The
queries are MySQL's, for MySQL 8 and MariaDB 10.2 or newer, over the tables that
``chameleon-usage export`` writes into a database.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from grafana_foundation_sdk.builders import common as looks
from grafana_foundation_sdk.builders.dashboard import (
    CustomVariable,
    Dashboard,
    DashboardLink,
    QueryVariable,
    Row,
)
from grafana_foundation_sdk.builders.timeseries import Panel
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.cog.variants import Dataquery
from grafana_foundation_sdk.models import common
from grafana_foundation_sdk.models.dashboard import (
    DashboardLinkType,
    DataSourceRef,
    DynamicConfigValue,
    VariableOption,
    VariableRefresh,
)

from chameleon_usage.ingest.registry import ADAPTERS
from chameleon_usage.models.metrics import (
    COLLECTORS,
    HOLD,
    LEADTIMES,
    METRICS,
    RESOURCES,
    USE,
    USE_IS_KNOWN,
    WIDE_NAMES,
    names_in,
    renamed,
)
from chameleon_usage.models.site import load_sites
from chameleon_usage.viz import palette

if TYPE_CHECKING:
    from collections.abc import Iterable

HERE = Path(__file__).resolve().parent
SITES = {
    key: site
    for key, site in load_sites(HERE.parents[1] / "data/sites.yaml", frozenset(ADAPTERS)).items()
    if site.db_uri
}
SOURCE = DataSourceRef(type_val="mysql", uid="chameleon-usage")
FULL_WIDTH, HALF_WIDTH, HEIGHT = 24, 12, 9
DAY = "1d"

TOP_PROJECTS = 10

PARTS = tuple(name for name in palette.STATES if name in METRICS)
"""The disjoint states that the database tells, in the order of stacking, from the bottom."""

MEASURED_COLOURS = {
    "total": palette.TOTAL,
    "reservable": palette.STATES["available"],
    "committed": palette.STATES["idle"],
    "occupied": palette.STATES["stopped"],
    "active": palette.STATES["active"],
}
"""Quantity, from the most to the least comprehensive, to the colour of the state that it alone
contains."""


class Query(Dataquery):
    """A panel's SQL, as Grafana's MySQL data source takes it; the SDK has no type of its own."""

    def __init__(self, sql: str, ref: str = "A") -> None:
        self.sql, self.ref = sql, ref

    def to_json(self) -> dict[str, object]:
        """Give the query's JSON."""
        return {
            "datasource": SOURCE,
            "editorMode": "code",
            "format": "time_series",
            "rawQuery": True,
            "rawSql": self.sql,
            "refId": self.ref,
        }


class Built(Builder[Dataquery]):
    """What ``with_target`` asks for its ``build``."""

    def __init__(self, query: Query) -> None:
        self.query = query

    def build(self) -> Query:
        """Give the query."""
        return self.query


# --- queries --------------------------------------------------------------------------------------

BY_SITE = "$__timeFilter(timestamp) AND site IN ($site)"
CORRECTED = f"{BY_SITE} AND collector_type = 'corrected'"


def over_time(
    columns: Iterable[str],
    tables: str,
    condition: str,
    *,
    time: str = "timestamp",
    metric: str | None = None,
) -> str:
    """Ask for columns in each bucket of time; with a metric, a row for each of its values."""
    told = [f"$__timeGroupAlias({time}, $__interval)"]
    told += [f"{metric} AS metric"] if metric else []
    keys = ", ".join(str(number) for number in range(1, len(told) + 1))
    selected = ",\n".join(f"  {column}" for column in (*told, *columns))
    return f"""\
SELECT
{selected}
FROM {tables}
WHERE {condition}
GROUP BY {keys}
ORDER BY {keys}"""


def beside_the_total(part: str) -> str:
    """Join the known totals of the same site, time and collector as `whole`."""
    return f"""\
usage_timeline AS {part}
JOIN usage_timeline AS whole
  ON whole.site = {part}.site AND whole.timestamp = {part}.timestamp
  AND whole.collector_type = {part}.collector_type
  AND whole.count_type = 'total' AND whole.value IS NOT NULL"""


def corrected(part: str) -> str:
    """Keep the corrected rows of the shown time and the chosen sites."""
    return (
        f"$__timeFilter({part}.timestamp) AND {part}.site IN ($site)\n"
        f"  AND {part}.collector_type = 'corrected'"
    )


def states_query() -> str:
    """Give the mean nodes of each state."""
    columns = (
        f"AVG(CASE WHEN count_type = '{name}' THEN value END) AS \"{METRICS[name].label}\""
        for name in (*PARTS, "total")
    )
    return over_time(columns, "usage_timeline", CORRECTED)


def shares_query() -> str:
    """Give each state's share of all nodes: sums divided, over the days that know both."""
    columns = (
        f"SUM(CASE WHEN part.count_type = '{name}' THEN part.value END)\n"
        f"    / NULLIF(SUM(CASE WHEN part.count_type = '{name}' AND part.value IS NOT NULL "
        f'THEN whole.value END), 0) AS "{METRICS[name].label}"'
        for name in PARTS
    )
    tables = beside_the_total("part")
    return over_time(columns, tables, corrected("part"), time="part.timestamp")


def resource_query() -> str:
    """Give the quantities of the chosen resource, from the most to the least comprehensive."""
    columns = (
        f'AVG({renamed(METRICS[name].formula or name, WIDE_NAMES)}) AS "{METRICS[name].label}"'
        for name in MEASURED_COLOURS
    )
    condition = "$__timeFilter(time) AND site IN ($site) AND resource = '$resource'"
    return over_time(columns, "usage_wide", condition, time="time")


def collectors_query() -> str:
    """Give one count as each collector has it."""
    columns = (f'AVG({name}) AS "{name}"' for name in COLLECTORS)
    return over_time(columns, "comparison", f"{BY_SITE} AND count_type = '$count_type'")


def coverage_query() -> str:
    """Give the share of the published host time that each source supports."""
    metric = "CONCAT(quantity_type, ': ', source)"
    return over_time(["AVG(known_share) AS value"], "coverage", BY_SITE, metric=metric)


def cross_site_query() -> str:
    """Give used and available nodes of every site, and those leased of which no use is known."""
    columns = ",\n".join(
        f"    MAX(CASE WHEN count_type = '{name}' THEN value END) AS {name}"
        for name in sorted(names_in(USE_IS_KNOWN, *USE.values()))
    )
    parts = "\n  UNION ALL\n".join(
        f"  SELECT site, day, '{part}' AS part,\n    {formula} AS value\n  FROM daily"
        for part, formula in USE.items()
    )
    tables = f"""\
WITH daily AS (
  SELECT
    site,
    timestamp AS day,
{columns}
  FROM usage_timeline
  WHERE {CORRECTED}
  GROUP BY site, timestamp
  HAVING {USE_IS_KNOWN}
), parts AS (
{parts}
)
"""
    value, metric = "AVG(value) AS value", "CONCAT(site, ' ', part)"
    return tables + over_time([value], "parts", "TRUE", time="day", metric=metric)


def cross_site_total_query() -> str:
    """Give the nodes of all chosen sites together."""
    column = f'SUM(value) / COUNT(DISTINCT timestamp) AS "{METRICS["total"].label}"'
    return over_time([column], "usage_timeline", f"{CORRECTED} AND count_type = 'total'")


def used_share_query() -> str:
    """Give the used share of each site's nodes: sums divided, over the days that know both."""
    return over_time(
        ["SUM(used.value) / NULLIF(SUM(whole.value), 0) AS value"],
        beside_the_total("used"),
        f"{corrected('used')} AND used.count_type = 'occupied'\n  AND used.value IS NOT NULL",
        time="used.timestamp",
        metric="used.site",
    )


def top_projects_query() -> str:
    """Give the nodes that each of the greatest projects held, and all others together.

    The greatest are those of the shown time. A project has no row where it held nothing: the days
    are counted by the timeline, which has them all.
    """
    held = f"{BY_SITE} AND resource = 'nodes'\n    AND count_type IN {HOLD}"
    return f"""\
WITH held AS (
  SELECT timestamp, project_id, SUM(value) AS nodes
  FROM usage_by_project
  WHERE {held}
  GROUP BY timestamp, project_id
), ranked AS (
  SELECT project_id, ROW_NUMBER() OVER (ORDER BY SUM(nodes) DESC, project_id) AS place
  FROM held
  GROUP BY project_id
), days AS (
  SELECT $__timeGroup(timestamp, $__interval) AS bucket, COUNT(DISTINCT timestamp) AS number
  FROM usage_timeline
  WHERE {BY_SITE}
  GROUP BY 1
), spent AS (
  SELECT
    $__timeGroup(held.timestamp, $__interval) AS bucket,
    CASE WHEN ranked.place <= {TOP_PROJECTS} THEN held.project_id ELSE 'all others' END AS project,
    SUM(held.nodes) AS nodes
  FROM held JOIN ranked ON ranked.project_id = held.project_id
  GROUP BY 1, 2
)
SELECT spent.bucket AS time, spent.project AS metric, spent.nodes / days.number AS value
FROM spent JOIN days ON days.bucket = spent.bucket
ORDER BY 1, 2"""


def leadtime_query() -> str:
    """Give the median lead time of each site and type. MySQL has no median, but can count."""
    return f"""\
SELECT time, metric, AVG(hours) AS value
FROM (
  SELECT
    bucket AS time, metric, hours,
    ROW_NUMBER() OVER (PARTITION BY bucket, metric ORDER BY hours) AS place,
    COUNT(*) OVER (PARTITION BY bucket, metric) AS places
  FROM (
    SELECT
      $__timeGroup(timestamp, $__interval) AS bucket,
      CONCAT(site, ' ', leadtime_type) AS metric,
      value AS hours
    FROM leadtime_timeline
    WHERE {BY_SITE}
  ) AS bucketed
) AS ranked
WHERE place IN (FLOOR((places + 1) / 2), CEIL((places + 1) / 2))
GROUP BY time, metric
ORDER BY time, metric"""


# --- panels ---------------------------------------------------------------------------------------


def panel(title: str, description: str, *queries: str, unit: str) -> Panel:
    """Lay out a panel of half the width, with the queries A, B, ... and no bucket below a day."""
    built = (
        Panel()
        .title(title)
        .description(description)
        .datasource(SOURCE)
        .span(HALF_WIDTH)
        .height(HEIGHT)
        .interval(DAY)
        .unit(unit)
        .min(0)
        .show_points(common.VisibilityMode.NEVER)
        .span_nulls(False)
        .legend(
            looks.VizLegendOptions()
            .show_legend(True)
            .display_mode(common.LegendDisplayMode.LIST)
            .placement(common.LegendPlacement.BOTTOM)
        )
        .tooltip(looks.VizTooltipOptions().mode(common.TooltipDisplayMode.MULTI))
    )
    if unit == "percentunit":
        built.max(1)
    for at, sql in enumerate(queries):
        built.with_target(Built(Query(sql, "ABC"[at])))
    return built


def stacked(built: Panel) -> Panel:
    """Stack the series, filled."""
    return (
        built.fill_opacity(85)
        .line_width(0)
        .stacking(looks.StackingConfig().mode(common.StackingMode.NORMAL).group("A"))
    )


def over_the_stack(built: Panel, label: str) -> Panel:
    """Draw a series as a line over the stack. White stands for black: Grafana's ground is dark."""
    return built.override_by_name(
        label,
        [
            DynamicConfigValue("color", {"mode": "fixed", "fixedColor": "text"}),
            DynamicConfigValue("custom.stacking", {"mode": "none", "group": "B"}),
            DynamicConfigValue("custom.fillOpacity", 0),
            DynamicConfigValue("custom.lineWidth", 2),
        ],
    )


def in_state_colours(built: Panel) -> Panel:
    """Colour the states as the book does."""
    for name in PARTS:
        built.override_by_name(METRICS[name].label, fixed(palette.STATES[name]))
    return built


def fixed(value: str) -> list[DynamicConfigValue]:
    """Give a series its colour."""
    return [DynamicConfigValue("color", {"mode": "fixed", "fixedColor": value})]


def site_panels() -> list[Panel]:
    """Make the panels of one site."""
    states = over_the_stack(
        in_state_colours(
            stacked(
                panel(
                    "Nodes by state",
                    "Every node is in exactly one state; together they are the total.",
                    states_query(),
                    unit="short",
                )
            )
        ),
        METRICS["total"].label,
    )
    shares = in_state_colours(
        stacked(
            panel(
                "Share of nodes by state",
                "Sums divided, over the days that know both.",
                shares_query(),
                unit="percentunit",
            )
        )
    )
    resource = panel(
        "Quantities of $resource",
        "Total, and what of it could be reserved, was leased, was occupied and ran.",
        resource_query(),
        unit="short",
    )
    for name, shade in MEASURED_COLOURS.items():
        shown = fixed("text" if shade == palette.TOTAL else shade)
        resource.override_by_name(METRICS[name].label, shown)
    collectors = panel(
        "$count_type as each collector has it",
        " ".join(f"{name}: {definition}" for name, definition in COLLECTORS.items()),
        collectors_query(),
        unit="short",
    )
    for name in COLLECTORS:
        shade, dash, width, _ = palette.COLLECTORS[name]
        style = {"fill": "solid"} if dash[1] == 0 else {"fill": "dash", "dash": dash}
        collectors.override_by_name(
            name,
            [
                *fixed(shade),
                DynamicConfigValue("custom.lineStyle", style),
                DynamicConfigValue("custom.lineWidth", round(width)),
            ],
        )
    coverage = panel(
        "Coverage",
        "Share of the published host time that a source's own rows support.",
        coverage_query(),
        unit="percentunit",
    )
    return [states, shares, resource, collectors, coverage.span(FULL_WIDTH)]


def overview_panels() -> list[Panel]:
    """Make the panels across sites."""
    nodes = over_the_stack(
        stacked(
            panel(
                "Nodes across sites",
                "Dark: used. Middle: leased, and nobody knows whether used. Light: available. "
                "Line: total.",
                cross_site_query(),
                cross_site_total_query(),
                unit="short",
            )
        ),
        METRICS["total"].label,
    )
    share = panel(
        "Share of nodes used",
        "Occupied over total nodes of each site.",
        used_share_query(),
        unit="percentunit",
    )
    lead = (
        panel(
            "Lead time",
            "Median by time of the request. "
            + " ".join(f"{name}: {text}." for name, text in LEADTIMES.items()),
            leadtime_query(),
            unit="h",
        )
        .draw_style(common.GraphDrawStyle.POINTS)
        .show_points(common.VisibilityMode.ALWAYS)
        .point_size(4)
        .scale_distribution(
            looks.ScaleDistributionConfig().type(common.ScaleDistribution.SYMLOG).log(10)
        )
    )
    colours = {key: site.colours for key, site in SITES.items()}
    for site, name in ((key, site.name) for key, site in SITES.items()):
        dark, middle, light = palette.site_shades(site, colours)
        for part, shade in (("used", dark), ("leased", middle), ("available", light)):
            nodes.override_by_name(f"{site} {part}", named(f"{name} {part}", shade))
        share.override_by_name(site, named(name, dark))
        for kind, shade in zip(LEADTIMES, (light, dark, middle), strict=True):
            lead.override_by_name(f"{site} {kind}", named(f"{name} {kind}", shade))
    return [nodes.span(FULL_WIDTH), share, lead]


def named(label: str, shade: str) -> list[DynamicConfigValue]:
    """Give a series its name and colour."""
    return [DynamicConfigValue("displayName", label), *fixed(shade)]


# --- dashboards -----------------------------------------------------------------------------------


def dashboard(title: str, uid: str, description: str) -> Dashboard:
    """Begin a dashboard with the choice of sites and a link to its siblings."""
    sites = (
        QueryVariable("site")
        .label("Site")
        .datasource(SOURCE)
        .query("SELECT DISTINCT site FROM usage_wide ORDER BY site")
        .refresh(VariableRefresh.ON_TIME_RANGE_CHANGED)
        .multi(True)
        .include_all(True)
        .current(VariableOption(selected=True, text="All", value="$__all"))
    )
    return (
        Dashboard(title)
        .uid(uid)
        .description(description)
        .tags(["chameleon-usage"])
        .readonly()
        .timezone("utc")
        .time("now-3y", "now")
        .link(
            DashboardLink("Usage")
            .type(DashboardLinkType.DASHBOARDS)
            .tags(["chameleon-usage"])
            .keep_time(True)
            .include_vars(True)
        )
        .with_variable(sites)
    )


def choice(name: str, label: str, options: dict[str, str]) -> CustomVariable:
    """Let the reader choose one value; the first is the default."""
    first = next(iter(options))
    return (
        CustomVariable(name)
        .label(label)
        .values(", ".join(f"{text} : {value}" for value, text in options.items()))
        .options([VariableOption(value == first, text, value) for value, text in options.items()])
        .current(VariableOption(selected=True, text=options[first], value=first))
    )


def filled(built: Dashboard, panels: list[Panel], start: int) -> Dashboard:
    """Put panels into a dashboard, numbered from a start on."""
    for number, one in enumerate(panels, start):
        built.with_panel(one.id(number))
    return built


def overview() -> Dashboard:
    """Compare the sites."""
    built = dashboard(
        "Usage: all sites",
        "chameleon-usage-overview",
        "How full each site is, and how long its users wait.",
    )
    return filled(built, overview_panels(), start=1)


def sites() -> Dashboard:
    """Show each chosen site in a row of its own."""
    built = dashboard(
        "Usage: by site",
        "chameleon-usage-sites",
        "Where the nodes of a site were, who says so, and how well the records bear it out.",
    )
    built.with_variable(choice("resource", "Resource", RESOURCES))
    built.with_variable(choice("count_type", "Count", {n: m.label for n, m in METRICS.items()}))
    built.with_row(Row("$site").repeat("site").id(1))
    return filled(built, site_panels(), start=2)


def projects() -> Dashboard:
    """Show who held most; apart from the others, for those who may see projects named."""
    built = dashboard(
        "Usage: by project",
        "chameleon-usage-projects",
        "Who held most of the nodes. It needs usage_by_project, which is in a database only where "
        "the operator ran --by-project and exported that table by name.",
    )
    top = stacked(
        panel(
            "Top projects",
            f"Nodes held, by leases and outside of them, by each of the {TOP_PROJECTS} projects "
            "with the most node-hours in the shown time, and by all others.",
            top_projects_query(),
            unit="short",
        )
    ).override_by_name("all others", fixed(palette.PALE))
    return filled(built, [top.span(FULL_WIDTH)], start=1)


def texts() -> dict[str, str]:
    """Give the file name and the JSON of every dashboard."""
    made: dict[str, Any] = {
        "overview.json": overview(),
        "sites.json": sites(),
        "projects.json": projects(),
    }
    encoder = JSONEncoder(sort_keys=True, indent=2)
    return {name: encoder.encode(built.build()) + "\n" for name, built in made.items()}


if __name__ == "__main__":
    for name, text in texts().items():
        (HERE / "dashboards" / name).write_text(text)
