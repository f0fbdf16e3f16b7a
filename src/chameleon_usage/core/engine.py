"""Exact interval arithmetic on data frames; it knows no table, no site and no cloud.

An interval is a row with ``start`` and ``end``, half-open [start, end), ``Datetime("us")`` in whole
seconds. All sums are of integers (units times seconds), so neither row order nor parallelism can
change a digit; a value is divided once, at the very end.
"""

from collections.abc import Sequence

import polars as pl

from chameleon_usage.models.domain import POLICIES

START, END = pl.col("start"), pl.col("end")
SECONDS = (END - START).dt.total_seconds()
"""Length of an interval in whole seconds (Int64)."""

MIN_TIME = pl.datetime(1, 1, 1, time_unit="us")
MAX_TIME = pl.datetime(9999, 1, 1, time_unit="us")


def seconds(intervals: pl.DataFrame) -> int:
    """Sum the lengths of all intervals, in seconds."""
    return int(intervals.select(SECONDS.sum()).item() or 0)


def clip(intervals: pl.DataFrame, start: object, end: object) -> pl.DataFrame:
    """Cut every interval to the window [start, end) and drop what lies outside it."""
    window_start = pl.lit(start, dtype=pl.Datetime("us"))
    window_end = pl.lit(end, dtype=pl.Datetime("us"))
    return intervals.with_columns(
        start=pl.max_horizontal(START, window_start), end=pl.min_horizontal(END, window_end)
    ).filter(START < END)


def separate(
    intervals: pl.DataFrame, on: Sequence[str], order: Sequence[str]
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Make the intervals of each key disjoint, without losing a second.

    Each row keeps the part that no row before it (by ``start``, then ``order``) covers; the rest
    of the row is returned as superseded.

    Args:
        intervals: rows with ``start``, ``end`` and the columns of ``on`` and ``order``.
        on: the key within which overlaps are merged (nulls are a key of their own).
        order: the tie-break that makes the result independent of row order.

    Returns:
        (kept, superseded), both with the columns of ``intervals``;
        seconds(kept) + seconds(superseded) == seconds(intervals).
    """
    covered = intervals.sort(*on, "start", *order).with_columns(
        _covered=END.cum_max().shift(1).over(on)
    )
    kept = covered.with_columns(start=pl.max_horizontal(START, "_covered")).filter(START < END)
    superseded = covered.with_columns(end=pl.min_horizontal(END, "_covered")).filter(
        pl.col("_covered").is_not_null() & (START < END)
    )
    return kept.drop("_covered"), superseded.drop("_covered")


def union(intervals: pl.DataFrame, on: Sequence[str], *, tolerance: str = "0s") -> pl.DataFrame:
    """Merge the intervals of each key that overlap, touch, or lie less than ``tolerance`` apart.

    Args:
        intervals: rows with ``start``, ``end`` and the columns of ``on``.
        on: the key.
        tolerance: gaps shorter than this are closed (a Polars duration, as "15m").

    Returns:
        columns ``on``, ``start`` and ``end``, sorted by key and start, disjoint per key.
    """
    reach = END.cum_max().shift(1).over(on)
    gap = (reach < START) & (reach.dt.offset_by(tolerance) <= START)
    return (
        intervals.sort(*on, "start", "end")
        .with_columns(_run=gap.fill_null(value=True).cum_sum())
        .group_by(*on, "_run", maintain_order=True)
        .agg(START.min(), END.max())
        .drop("_run")
    )


def partition(intervals: pl.DataFrame, on: Sequence[str]) -> pl.DataFrame:
    """Complete the disjoint intervals of each key to a partition of all time.

    Returns:
        ``on``, ``start``, ``end`` and ``row``: the number of the interval that holds there, null
        in the gaps between, before and after; sorted by key and start.
    """
    ordered = intervals.select(*on, "start", "end").with_row_index("row").sort(*on, "start")
    same = pl.all_horizontal(pl.col(name).eq_missing(pl.col(name).shift(1)) for name in on)
    nothing = pl.lit(None, pl.UInt32).alias("row")
    before = ordered.select(
        *on,
        pl.when(same).then(END.shift(1)).otherwise(MIN_TIME).alias("start"),
        START.alias("end"),
        nothing,
    ).filter(START < END)
    last = pl.all_horizontal(pl.col(name).eq_missing(pl.col(name).shift(-1)) for name in on)
    after = ordered.filter(~last.fill_null(value=False)).select(
        *on, END.alias("start"), MAX_TIME.alias("end"), nothing
    )
    return pl.concat([ordered.select(*on, "start", "end", "row"), before, after]).sort(*on, "start")


def cut(
    children: pl.DataFrame, parents: pl.DataFrame, on: Sequence[str]
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Cut children at the borders of their parents, joined by key and time.

    A child over several parents is cut, never multiplied: parents of one key must be disjoint.

    Args:
        children: rows with ``start``, ``end`` and the columns of ``on``.
        parents: disjoint intervals per key; their further columns are handed to the pieces.
        on: the key; a null key has no parent.

    Returns:
        (inside, outside): the pieces of the children within a parent, with the parent's further
        columns, and the pieces without one, with the children's columns;
        seconds(inside) + seconds(outside) == seconds(children).
    """
    relevant = parents.join(children.select(on).unique(), on=on, how="semi")
    parts = partition(relevant, on).with_row_index("_part")
    begins = parts.select(*on, "start", "_part")
    # A partition leaves no gap, so the parts of a child are all those from the one that holds its
    # start to the one that holds its last second: found by search, not by pairing.
    slim = children.select(*on, "start", "end").with_row_index("_row")
    first = slim.sort("start").join_asof(begins, on="start", by=on, check_sortedness=False)
    last = slim.sort("end").join_asof(
        begins.rename({"start": "_start"}),
        left_on="end",
        right_on="_start",
        by=on,
        allow_exact_matches=False,
        check_sortedness=False,
    )
    reach = slim.select("_row").with_columns(
        _first=first.sort("_row")["_part"], _last=last.sort("_row")["_part"]
    )
    orphans = children.filter(reach["_first"].is_null())
    pieces = (
        reach.drop_nulls()
        .select("_row", _part=pl.int_ranges("_first", pl.col("_last") + 1))
        .explode("_part")
    )
    found = parts[pieces["_part"]].select(_start="start", _end="end", _parent="row")
    cut_up = (
        children[pieces["_row"]]
        .hstack(found)
        .with_columns(start=pl.max_horizontal(START, "_start"), end=pl.min_horizontal(END, "_end"))
        .drop("_start", "_end")
    )
    inside = cut_up.filter(pl.col("_parent").is_not_null())
    attributes = relevant.drop("start", "end", *on)[inside["_parent"]]
    outside = cut_up.filter(pl.col("_parent").is_null()).drop("_parent")
    return inside.drop("_parent").hstack(attributes), pl.concat([outside, orphans])


def stack(
    intervals: pl.DataFrame, on: Sequence[str], sums: Sequence[str], caps: Sequence[str] = ()
) -> pl.DataFrame:
    """Add up overlapping intervals of each key: the step function of their sums.

    Args:
        intervals: rows with ``start``, ``end``, ``on`` and the integer columns of ``sums``.
        on: the key; other columns are dropped, so put attributes of the key into it.
        sums: integer columns to add up while intervals overlap.
        caps: one key column for each of ``sums`` that bounds it (as a host's size), or none.

    Returns:
        disjoint intervals per key with the sums, rows where all sums are zero left out.
    """
    steps = pl.concat(
        [
            intervals.select(*on, START.alias("at"), *sums),
            intervals.select(*on, END.alias("at"), *(-pl.col(name) for name in sums)),
        ]
    )
    levels = (
        steps.group_by(*on, "at")
        .agg(pl.col(sums).sum())
        .sort(*on, "at")
        # The steps of a key add up to nothing, so one running sum serves all keys in turn.
        .with_columns(pl.col(sums).cum_sum(), end=pl.col("at").shift(-1))
        .rename({"at": "start"})
        .filter(pl.any_horizontal(pl.col(name) != 0 for name in sums))
    )
    return levels.with_columns(
        pl.min_horizontal(name, cap) for name, cap in zip(sums, caps, strict=bool(caps))
    )


def resolve_source_priority(
    segments: pl.DataFrame,
    *,
    policy: str,
    order: Sequence[str],
    on: Sequence[str],
    fillers: Sequence[str] = (),
) -> pl.DataFrame:
    """Let several sources that speak of the same entities make one history.

    Args:
        segments: columns ``on``, ``source``, ``start``, ``end``, ``inferred`` (the record's own
            bounds were missing), disjoint per key and source.
        policy: ``authoritative``: the first source that knows the entity wins throughout;
            ``gap-fill``: at each instant the highest source that knows. A source knows an entity
            from its first row on; between its rows a filler is believed, after its last none;
            ``supplement``: any source that says yes.
        order: sources, highest first; a segment of any other source is ignored.
        on: the entity's key.
        fillers: the sources that may fill a gap between a higher source's rows.

    Returns:
        columns ``on``, ``source``, ``start``, ``end``, ``inferred``; disjoint per key. A stretch
        that is not the first source's own word is marked inferred.

    Raises:
        ValueError: the policy is not one of the three.
    """
    if policy not in POLICIES:
        msg = f"source priority: unknown policy {policy!r}; choose one of {', '.join(POLICIES)}"
        raise ValueError(msg)
    columns = [*on, "source", "start", "end", "inferred"]
    ranked = ranked_by_source(segments.select(columns), order)
    resolved = ranked.filter(pl.col("_rank") == 0)
    if policy == "authoritative":
        best = pl.col("_rank").min().over(on)
        resolved = ranked.filter(pl.col("_rank") == best)
    else:
        for position, source in enumerate(order[1:], start=1):
            candidates = ranked.filter(pl.col("_rank") == position).drop("_rank")
            known = resolved
            if policy == "gap-fill":
                known = _known(resolved, on, may_fill=source in fillers)
            _, new = cut(candidates, union(known, on), on)
            new = new.with_columns(inferred=pl.lit(value=True), _rank=pl.lit(position, pl.Int64))
            resolved = pl.concat([resolved, new.select(resolved.columns)])
    return resolved.select(columns).sort(*on, "start")


def ranked_by_source(rows: pl.DataFrame, order: Sequence[str]) -> pl.DataFrame:
    """Keep the rows of the listed sources, with the source's place in the list (``_rank``)."""
    places = pl.DataFrame(
        {"source": list(order), "_rank": range(len(order))},
        schema={"source": pl.String, "_rank": pl.Int64},
    )
    return rows.join(places, on="source", how="inner")


def _known(resolved: pl.DataFrame, on: Sequence[str], *, may_fill: bool) -> pl.DataFrame:
    """Give the times at which the sources so far leave nothing to be said by a lower one."""
    if not may_fill:
        return resolved.group_by(on).agg(START.min(), end=MAX_TIME)
    after = resolved.group_by(on).agg(start=END.max()).with_columns(end=MAX_TIME)
    return pl.concat([resolved.select(*on, "start", "end"), after.select(*on, "start", "end")])


def bucket_edges(start: object, end: object, every: str) -> pl.Series:
    """List the borders of the buckets that cover [start, end), both ends included.

    Args:
        start: first border.
        end: last border; the last bucket is shorter where the length does not divide the window.
        every: a Polars duration, as "1h", "1d", "1mo".
    """
    edges = pl.datetime_range(start, end, every, time_unit="us", eager=True)  # type: ignore[call-overload]
    last = pl.Series([end], dtype=pl.Datetime("us"))
    if edges.is_empty() or edges[-1] != last[0]:
        edges = pl.concat([edges, last])
    return edges.alias("edge")


def integrate(
    segments: pl.DataFrame, edges: pl.Series, by: Sequence[str], units: Sequence[str]
) -> pl.DataFrame:
    """Integrate step functions over buckets, exactly: the unit-seconds of every group and bucket.

    The sum of each group's steps within a bucket, weighted with the time left in it, gives the
    bucket in which a step happens; a running sum of the steps gives every later one. No sort of
    the intervals, and memory goes with groups times buckets.

    Args:
        segments: rows with ``start``, ``end``, ``by`` and the integer columns of ``units``,
            clipped to [edges[0], edges[-1]).
        edges: n + 1 ascending bucket borders.
        by: group columns.
        units: integer columns to integrate.

    Returns:
        columns ``by``, ``bucket`` (Int64, 0..n-1) and ``units`` in unit-seconds (Int64): every
        bucket of every group that occurs, sorted.
    """
    count = len(edges) - 1
    epoch = edges.dt.epoch("s")
    # Groups by number: what follows sorts and joins integers only.
    groups = segments.select(by).unique().sort(by).with_row_index("_group")
    numbered = (
        segments.join(groups, on=by, how="left", nulls_equal=True, maintain_order="left")
        if by
        else segments.with_columns(_group=pl.lit(0, pl.UInt32))
    )
    steps = pl.concat(
        [
            numbered.select("_group", START.dt.epoch("s").alias("t"), *units),
            numbered.select("_group", END.dt.epoch("s").alias("t"), *(-pl.col(u) for u in units)),
        ]
    )
    bucket = epoch.search_sorted(steps["t"], side="right").cast(pl.Int64) - 1
    steps = steps.with_columns(bucket=bucket).filter(pl.col("bucket") < count)
    left = epoch.gather(steps["bucket"] + 1) - steps["t"]
    sums = (
        steps.with_columns(_left=left)
        .group_by("_group", "bucket")
        .agg(
            *(pl.col(name).sum().alias(f"_step_{name}") for name in units),
            *((pl.col(name) * pl.col("_left")).sum() for name in units),
        )
    )
    lengths = pl.DataFrame(
        {"bucket": pl.int_range(count, eager=True), "_length": epoch.diff().drop_nulls()}
    )
    grid = sums.select("_group").unique().sort("_group").join(lengths, how="cross")
    running = pl.col([f"_step_{name}" for name in units]).fill_null(0).cum_sum()
    full = grid.join(sums, on=["_group", "bucket"], how="left", maintain_order="left").with_columns(
        running.shift(1, fill_value=0).over("_group")
    )
    within = [
        pl.col(name).fill_null(0) + pl.col(f"_step_{name}") * pl.col("_length") for name in units
    ]
    if not by:
        return full.select("bucket", *within)
    return full.join(groups, on="_group", maintain_order="left").select(*by, "bucket", *within)
