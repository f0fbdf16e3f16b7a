"""Exact interval arithmetic on data frames; it knows no table, no site and no cloud.

An interval is a row with ``start`` and ``end``, half-open [start, end), ``Datetime("us")`` in whole
seconds. All sums are of integers (units times seconds), so neither row order nor parallelism can
change a digit; a value is divided once, at the very end.
"""

from collections.abc import Sequence

import numpy as np
import polars as pl

from chameleon_usage.models.domain import POLICIES

START, END = pl.col("start"), pl.col("end")
SECONDS = (END - START).dt.total_seconds()
"""Length of an interval in whole seconds (Int64)."""

MIN_TIME = pl.datetime(1, 1, 1, time_unit="us")
MAX_TIME = pl.datetime(9999, 1, 1, time_unit="us")

_YEAR_ONE = -62_135_596_800
"""MIN_TIME in seconds of the epoch."""
_SPAN = 2**39
"""More seconds than lie between MIN_TIME and MAX_TIME."""
_MOST_KEYS = 2**63 // _SPAN


def _lift(time: pl.Expr, key: str = "_key") -> pl.Expr:
    """Order by key, then by time, in one integer.

    So one sort, one search or one running maximum serves all keys in turn.
    """
    return pl.col(key).cast(pl.Int64) * _SPAN + time.dt.epoch("s") - _YEAR_ONE


def _lower(lifted: str, key: str = "_key") -> pl.Expr:
    """Give the time of a lifted one; MIN_TIME where it belongs to a key before."""
    since = pl.max_horizontal(pl.col(lifted) - pl.col(key).cast(pl.Int64) * _SPAN, 0)
    return ((since + _YEAR_ONE) * 1_000_000).cast(pl.Datetime("us"))


def _numbered(frame: pl.DataFrame, on: Sequence[str]) -> pl.DataFrame:
    """Number the keys of a frame that is sorted by them (``_key``); nulls are keys of their own."""
    change = pl.any_horizontal(pl.col(name).ne_missing(pl.col(name).shift(1)) for name in on)
    numbered = frame.with_columns(_key=change.cum_sum())
    _check_keys(numbered["_key"].max())
    return numbered


def sort_by_key_and_time(rows: pl.DataFrame, time: str) -> pl.DataFrame:
    """Sort rows by their number (``_key``) and a time."""
    return rows[rows.select(_lift(pl.col(time)).arg_sort()).to_series()]


def _codes(
    frames: Sequence[pl.DataFrame], on: Sequence[str], *, null: int | None
) -> list[pl.Series] | None:
    """Number the keys of frames alike, in order, where each column is a number or has numbers.

    Args:
        frames: all with the columns of ``on``, enumerations and categories shared.
        on: the key.
        null: what a null counts as; without it a key with a null has no number.

    Returns:
        numbers below ``_MOST_KEYS`` for each frame; nothing if a column is of another kind.
    """
    codes, size = [pl.zeros(frame.height, pl.Int64, eager=True) for frame in frames], 1
    for name in on:
        columns = [frame[name].to_physical() for frame in frames]
        if not all(column.dtype.is_unsigned_integer() for column in columns):
            return None
        told = [column.cast(pl.Int64) + 1 for column in columns]
        count = 1 + max(int(part.max() or 0) for part in told)  # type: ignore[arg-type]
        size *= count
        codes = [
            code * count + (part if null is None else part.fill_null(null))
            for code, part in zip(codes, told, strict=True)
        ]
    if size > _MOST_KEYS:
        distinct = pl.concat(codes).drop_nulls().unique().sort()
        _check_keys(distinct.len())
        places = [distinct.search_sorted(code).cast(pl.Int64) for code in codes]
        codes = [place.set(code.is_null(), None) for place, code in zip(places, codes, strict=True)]
    return codes


def _check_keys(most: object) -> None:
    if isinstance(most, int) and most >= _MOST_KEYS:
        raise OverflowError(f"{most} keys are more than {_MOST_KEYS}: split the intervals by key")


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
    covered = (
        _numbered(intervals.sort(*on, "start", *order), on)
        .with_columns(_covered=_lift(END).cum_max().shift(1, fill_value=0))
        .with_columns(_covered=_lower("_covered"))
    )
    kept = covered.with_columns(start=pl.max_horizontal(START, "_covered")).filter(START < END)
    superseded = covered.with_columns(end=pl.min_horizontal(END, "_covered")).filter(START < END)
    return kept.drop("_key", "_covered"), superseded.drop("_key", "_covered")


def union(intervals: pl.DataFrame, on: Sequence[str], *, tolerance: str = "0s") -> pl.DataFrame:
    """Merge the intervals of each key that overlap, touch, or lie less than ``tolerance`` apart.

    Args:
        intervals: rows with ``start``, ``end`` and the columns of ``on``.
        on: the key.
        tolerance: gaps shorter than this are closed (a Polars duration, as "15m").

    Returns:
        columns ``on``, ``start`` and ``end``, sorted by key and start, disjoint per key.
    """
    slim = intervals.select(*on, "start", "end")
    codes = _codes([slim], on, null=0)
    if codes is None:
        ordered = _numbered(slim.sort(*on, "start"), on)
    else:
        ordered = sort_by_key_and_time(slim.with_columns(_key=codes[0] + 1), "start")
    ordered = ordered.with_columns(_reach=_lift(END).cum_max())
    # Nothing yet of the key, or a gap of the tolerance and more.
    before = pl.col("_reach").shift(1, fill_value=0)
    begins = pl.col("_key") != pl.col("_key").shift(1, fill_value=0)
    begins |= (before < _lift(START)) & (before + _seconds(tolerance) <= _lift(START))
    told = ordered.with_columns(_begins=begins)
    # A run reaches as far as its last row does, the one before the next run begins.
    reach = told.filter(pl.col("_begins").shift(-1, fill_value=True))["_reach"]
    return (
        told.filter("_begins").with_columns(_reach=reach).select(*on, "start", end=_lower("_reach"))
    )


def _seconds(duration: str) -> int:
    """Give the whole seconds of a Polars duration of fixed length."""
    start = pl.Series([0]).cast(pl.Datetime("us"))
    return int(start.dt.offset_by(duration).dt.epoch("s").item())


def partition(intervals: pl.DataFrame, on: Sequence[str]) -> pl.DataFrame:
    """Complete the disjoint intervals of each key to a partition of all time.

    Returns:
        ``on``, ``start``, ``end`` and ``row``: the number of the interval that holds there, null
        in the gaps between, before and after; sorted by key and start.
    """
    ordered = intervals.select(*on, "start", "end").with_row_index("row").sort(*on, "start")
    return _partition(_numbered(ordered, on)).drop("_key")


def _partition(ordered: pl.DataFrame) -> pl.DataFrame:
    """As ``partition``, of rows with ``_key`` and ``row`` that are sorted by key and start."""
    same = (pl.col("_key") == pl.col("_key").shift(1)).fill_null(value=False)
    last = (pl.col("_key") != pl.col("_key").shift(-1)).fill_null(value=True)
    nothing = pl.lit(None, pl.UInt32).alias("row")
    before = ordered.with_columns(
        nothing, start=pl.when(same).then(END.shift(1)).otherwise(MIN_TIME), end=START
    ).filter(START < END)
    after = ordered.filter(last).with_columns(nothing, start=END, end=MAX_TIME)
    parts = pl.concat([ordered, before, after])
    return sort_by_key_and_time(parts, "start")


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
    if children.is_empty() or parents.is_empty():
        further = parents.drop("start", "end", *on)
        return children.clear().hstack(further.clear()), children
    numbers, of_parents = _shared_numbers(children, parents, on)
    slim = parents.select("start", "end", _key=of_parents).with_row_index("row")
    parts = _partition(sort_by_key_and_time(slim.drop_nulls("_key"), "start"))
    orphans = children.filter(numbers.is_null())
    known = children.filter(numbers.is_not_null()).with_columns(_key=numbers.drop_nulls())
    # A partition leaves no gap, so the parts of a child are all those from the one that holds its
    # start to the one that holds its last second: found by search, not by pairing.
    begins = parts.select(_lift(START)).to_series()
    borders = known.select(start=_lift(START), end=_lift(END))
    first = begins.search_sorted(borders["start"], side="right") - 1
    last = begins.search_sorted(borders["end"], side="left")
    several = (last - first) > 1
    cut_up = _pieces(known.filter(several), first.filter(several), last.filter(several), parts)
    whole = known.filter(~several).with_columns(_parent=parts["row"].gather(first.filter(~several)))
    cut_up = pl.concat([whole, cut_up]).drop("_key")
    inside = cut_up.filter(pl.col("_parent").is_not_null())
    attributes = parents.drop("start", "end", *on)[inside["_parent"]]
    outside = cut_up.filter(pl.col("_parent").is_null()).drop("_parent")
    return inside.drop("_parent").hstack(attributes), pl.concat([outside, orphans])


def _shared_numbers(
    children: pl.DataFrame, parents: pl.DataFrame, on: Sequence[str]
) -> tuple[pl.Series, pl.Series]:
    """Number the keys that children and parents both have, and null all others."""
    if codes := _codes([children, parents], on, null=None):
        both = codes[1].drop_nulls().unique().sort()
        places = [both.search_sorted(code).cast(pl.Int64) for code in codes]
        both = both.extend_constant(None, 1)
        numbers = [
            place.set((both.gather(place) != code).fill_null(value=True), None)
            for place, code in zip(places, codes, strict=True)
        ]
        return numbers[0], numbers[1]
    keys = (
        parents.select(on).unique().join(children.select(on).unique(), on=on).with_row_index("_key")
    )
    _check_keys(keys.height)
    numbers = [
        frame.select(on).join(keys, on=on, how="left", maintain_order="left")["_key"]
        for frame in (children, parents)
    ]
    return numbers[0], numbers[1]


def _pieces(
    children: pl.DataFrame, first: pl.Series, last: pl.Series, parts: pl.DataFrame
) -> pl.DataFrame:
    """Cut each child at the borders of the parts first..last - 1 that it lies over."""
    pieces = (
        pl.DataFrame({"_first": first, "_last": last})
        .select(_part=pl.int_ranges("_first", "_last"))
        .with_row_index("_row")
        .explode("_part")
    )
    found = parts[pieces["_part"]].select(_start="start", _end="end", _parent="row")
    return (
        children[pieces["_row"]]
        .hstack(found)
        .with_columns(start=pl.max_horizontal(START, "_start"), end=pl.min_horizontal(END, "_end"))
        .drop("_start", "_end")
    )


def stack(intervals: pl.DataFrame, on: Sequence[str], sums: Sequence[str]) -> pl.DataFrame:
    """Add up overlapping intervals of each key: the step function of their sums.

    Args:
        intervals: rows with ``start``, ``end``, ``on`` and the integer columns of ``sums``.
        on: the key; other columns are dropped, so put attributes of the key into it.
        sums: integer columns to add up while intervals overlap.

    Returns:
        disjoint intervals per key with the sums, sorted; each as long as no sum changes, rows
        where all sums are zero left out.
    """
    keys = intervals.select(on).unique().sort(on).with_row_index("_key")
    _check_keys(keys.height)
    numbers = intervals.select(on).join(
        keys, on=on, how="left", nulls_equal=True, maintain_order="left"
    )
    numbered = intervals.select("start", "end", *sums).with_columns(numbers["_key"])
    steps = pl.concat(
        [
            numbered.select(_lift(START).alias("_at"), "_key", *sums),
            numbered.select(_lift(END).alias("_at"), "_key", *(-pl.col(name) for name in sums)),
        ]
    ).sort("_at")
    # The steps of a key add up to nothing, so one running sum serves all keys in turn; it counts
    # where the next step is at another time, and starts a row where it differs from the last.
    levels = steps.with_columns(pl.col(sums).cum_sum()).filter(
        (pl.col("_at") != pl.col("_at").shift(-1)).fill_null(value=True)
    )
    rows = levels.filter(
        pl.any_horizontal(
            pl.col(name) != pl.col(name).shift(1, fill_value=0) for name in ("_key", *sums)
        )
    ).with_columns(_end=pl.col("_at").shift(-1))
    told = rows.filter(pl.any_horizontal(pl.col(name) != 0 for name in sums))
    return (
        told.select("_key", *sums, _lower("_at").alias("start"), _lower("_end").alias("end"))
        .hstack(keys.select(on)[told["_key"]])
        .select(*on, "start", "end", *sums)
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
        schema={"source": rows["source"].dtype, "_rank": pl.Int64},
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


def last_border(borders: pl.Series, at: pl.Series) -> pl.Series:
    """Find the last border at or before each moment.

    Args:
        borders: ascending integers.
        at: integers in the same unit.

    Returns:
        Int64: the border's place, -1 before the first. Borders at equal distances, but for the
        last, as those of days, are found by division, which is much faster than by search.
    """
    steps = borders[:-1].diff().drop_nulls()
    if steps.is_empty() or (steps != (step := steps[0])).any():
        return borders.search_sorted(at, side="right").cast(pl.Int64) - 1
    place = ((at - borders[0]) // step).clip(-1, len(borders) - 2)
    return place + (at >= borders[-1]).cast(pl.Int64)


def integrate(
    segments: pl.DataFrame,
    edges: pl.Series,
    by: Sequence[str],
    units: Sequence[str],
    *,
    groups: pl.DataFrame | None = None,
) -> pl.DataFrame:
    """Integrate step functions over buckets, exactly: the unit-seconds of every group and bucket.

    The sum of each group's steps within a bucket, weighted with the time left in it, gives the
    bucket in which a step happens; a running sum of the steps gives every later one. No sort of
    the intervals, and memory goes with groups times buckets. The sums are scattered by NumPy,
    which adds to a place in an array much faster than a hash table groups.

    Args:
        segments: rows with ``start``, ``end``, ``by`` and the integer columns of ``units``,
            clipped to [edges[0], edges[-1]).
        edges: n + 1 ascending bucket borders.
        by: group columns, at least one.
        units: integer columns to integrate.
        groups: the groups to tell of, in order, each with its ``first`` and ``last`` bucket, which
            hold all its segments. Default: every group that occurs, sorted, all buckets.

    Returns:
        columns ``by``, ``bucket`` (Int64, 0..n-1) and ``units`` in unit-seconds (Int64): the
        buckets of every group in turn.
    """
    count = len(edges) - 1
    if groups is None:
        groups = segments.select(by).unique().sort(by)
        groups = groups.with_columns(first=pl.lit(0, pl.Int64), last=pl.lit(count - 1, pl.Int64))
    # Each group has a slot for every bucket, and one more in which what is still held ends: so the
    # steps of a group add up to nothing, and one running sum serves all groups in turn.
    slots = pl.col("last") - pl.col("first") + 2
    placed = groups.with_columns(_base=slots.cum_sum() - slots - pl.col("first"))
    size = int(placed.select(slots.sum()).item() or 0)
    place = segments.select(by).join(
        placed.select(*by, "last", "_base"),
        on=by,
        how="left",
        nulls_equal=True,
        maintain_order="left",
    )
    epoch = edges.dt.epoch("s")
    last, base = (place[name].to_numpy() for name in ("last", "_base"))
    levels = {name: np.zeros(size, np.int64) for name in units}
    within = {name: np.zeros(size, np.int64) for name in units}
    for bound, sign in (("start", 1), ("end", -1)):
        at = segments[bound].dt.epoch("s")
        bucket = last_border(epoch, at)
        # What ends with the window does so in the slot beyond, where no time is left.
        left = (epoch.gather((bucket + 1).clip(upper_bound=count)) - at).to_numpy()
        slot = base + np.minimum(bucket.to_numpy(), last + 1)
        for name in units:
            step = sign * segments[name].to_numpy()
            np.add.at(levels[name], slot, step)
            np.add.at(within[name], slot, step * left)
    lengths = epoch.diff().drop_nulls().extend_constant(0, 1)
    every = placed.select(
        _group=pl.int_range(pl.len()),
        bucket=pl.int_ranges("first", pl.col("last") + 2),
        _last="last",
    ).explode("bucket")
    length = lengths.gather(every["bucket"]).to_numpy()
    for name in units:
        # What was held before the bucket, all of it; what changed within, as long as was left.
        held = np.cumsum(levels[name]) - levels[name]
        within[name] += held * length
    whole = every.with_columns(pl.Series(name, within[name]) for name in units)
    told = whole.filter(pl.col("bucket") <= pl.col("_last"))
    return groups.select(by)[told["_group"]].hstack(told.drop("_group", "_last"))
