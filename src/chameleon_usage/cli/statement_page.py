"""A project's statement as one page of HTML: no script, and nothing fetched."""

from collections.abc import Iterable, Sequence
from html import escape

import polars as pl

from chameleon_usage.models.metrics import METRICS, RESOURCES
from chameleon_usage.usage.statement import ALL_TYPES, LEASED, STATES, Statement

COLOURS = {"active": "#0072B2", "stopped": "#CC79A7", "idle": "#E8A713", LEASED: "#3B4763"}
"""State to its colour, that of viz.palette, which draws by libraries that operators do not have."""
_LABELS = {name: METRICS[name].label for name in STATES} | {LEASED: "Leased, use unknown"}
_WIDTH, _HEIGHT, _LEFT, _BELOW = 720, 200, 56, 24
_STYLE = """\
body{font:16px/1.5 sans-serif;max-width:48rem;margin:2rem auto;padding:0 1rem;color:#222}
table{border-collapse:collapse;margin:1rem 0;width:100%}
caption{text-align:left;font-weight:bold;padding:.3rem 0}
td,th{padding:.2rem .6rem;border-bottom:1px solid #ddd;text-align:right}
td:first-child,th:first-child{text-align:left}
figure{margin:1rem 0}svg{width:100%;height:auto}"""


def page(told: Statement) -> str:
    """Give the page of a statement."""
    title = f"Use of {told.site} by project {told.project}, {told.start:%B %Y}"
    use = told.use.filter(pl.col("hours").abs() > 0)
    whole = use.filter(pl.col("node_type") == ALL_TYPES)
    typed = use.filter(pl.col("node_type") != ALL_TYPES, pl.col("resource") == "nodes")
    parts = [
        f"<h1>{escape(title)}</h1>",
        f"<p>From {told.start:%F} to {told.end:%F}, the last day excluded, UTC. The project held "
        f"{_number(told.held)} node-hours, by leases and outside of them.</p>",
        f"<figure>{chart(told.days)}<figcaption>Node-hours of each day of the month, by what the "
        "project did with the nodes that it held.</figcaption></figure>",
        _table(
            "By resource, of all node types",
            ("count", "unit × hours", "amount", "share of the site", "known of the month"),
            (
                (
                    METRICS[row["count_type"]].label,
                    RESOURCES[row["resource"]],
                    _number(row["hours"]),
                    _percent(row["share"]),
                    _percent(row["known_share"]),
                )
                for row in whole.iter_rows(named=True)
            ),
        ),
        _table(
            "By node type",
            ("node type", "count", "node-hours"),
            (
                (row["node_type"], METRICS[row["count_type"]].label, _number(row["hours"]))
                for row in typed.sort("node_type", maintain_order=True).iter_rows(named=True)
            ),
        ),
        _table(
            "Sessions: instances and containers",
            ("node type", "started", "ended", "present in the month", "hours of building, mean"),
            (
                (
                    row["node_type"],
                    *(f"{row[name]:,}" for name in ("started", "ended", "present")),
                    "none" if row["build_hours"] is None else f"{row['build_hours']:.2f}",
                )
                for row in told.sessions.iter_rows(named=True)
            ),
        ),
        _table(
            "Node-hours by day",
            ("day", *_LABELS.values()),
            (
                (f"{row['timestamp']:%F}", *(_number(row[name]) for name in _LABELS))
                for row in _by_day(told.days).iter_rows(named=True)
            ),
        ),
        "<p>"
        + " ".join(f"{METRICS[name].label}: {escape(METRICS[name].definition)}" for name in STATES)
        + "</p>",
    ]
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{escape(title)}'
        f"</title><style>\n{_STYLE}\n</style></head><body>\n"
        + "\n".join(parts)
        + "\n</body></html>\n"
    )


def chart(days: pl.DataFrame) -> str:
    """Draw the node-hours of each day, stacked by state, as SVG.

    Args:
        days: of a ``Statement``.
    """
    daily = _by_day(days).with_columns(pl.col(*_LABELS).clip(0))
    most = float(max(1.0, *daily.select(pl.sum_horizontal(*_LABELS)).to_series()))
    shown = [name for name in _LABELS if daily[name].sum() > 0]
    step = (_WIDTH - _LEFT) / daily.height
    scale = (_HEIGHT - 2 * _BELOW) / most
    ground = _HEIGHT - _BELOW
    drawn = [
        f'<text x="{_LEFT - 6}" y="{ground - value * scale + 4:.1f}" text-anchor="end">'
        f"{_number(value)}</text>"
        f'<line x1="{_LEFT}" x2="{_WIDTH}" y1="{ground - value * scale:.1f}" '
        f'y2="{ground - value * scale:.1f}" stroke="#ccc"/>'
        for value in (0.0, most / 2, most)
    ]
    for number, row in enumerate(daily.iter_rows(named=True)):
        x, y = _LEFT + number * step, float(ground)
        for name in _LABELS:
            height = row[name] * scale
            y -= height
            if height > 0:
                drawn.append(
                    f'<rect x="{x + 0.1 * step:.1f}" y="{y:.1f}" width="{0.8 * step:.1f}" '
                    f'height="{height:.1f}" fill="{COLOURS[name]}"/>'
                )
        if number % 5 == 0:
            drawn.append(
                f'<text x="{x + step / 2:.1f}" y="{_HEIGHT - 6}" text-anchor="middle">'
                f"{row['timestamp'].day}</text>"
            )
    for number, name in enumerate(shown):
        x = _LEFT + 120 * number
        drawn.append(
            f'<rect x="{x}" y="2" width="12" height="12" fill="{COLOURS[name]}"/>'
            f'<text x="{x + 18}" y="13">{_LABELS[name]}</text>'
        )
    label = (
        f"Node-hours of each day, at most {_number(most)}, stacked: "
        + ", ".join(f"{_LABELS[name]} {_number(float(daily[name].sum()))}" for name in shown)
        + " in all."
    )
    return (
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{label}" '
        f'font-family="sans-serif" font-size="12">'
        f"<title>{label}</title>{''.join(drawn)}</svg>"
    )


def _by_day(days: pl.DataFrame) -> pl.DataFrame:
    return days.group_by("timestamp", maintain_order=True).agg(pl.col(*_LABELS).sum())


def _table(caption: str, heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    head = "".join(f'<th scope="col">{escape(name)}</th>' for name in heads)
    body = "\n".join(
        f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>" for row in rows
    )
    return (
        f"<table><caption>{escape(caption)}</caption><thead><tr>{head}</tr></thead>"
        f"<tbody>\n{body}\n</tbody></table>"
    )


def _number(value: float) -> str:
    return f"{value:,.1f}"


def _percent(share: float | None) -> str:
    return "unknown" if share is None else f"{100 * share:.1f} %"
