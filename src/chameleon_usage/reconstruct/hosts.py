"""When a host existed and when it was in the pool: what the site's source priority decides."""

from collections.abc import Iterable, Sequence

import polars as pl

from chameleon_usage.intervals import arithmetic
from chameleon_usage.intervals.arithmetic import check_conservation
from chameleon_usage.intervals.cutting import parted
from chameleon_usage.models.site import Priority, Site
from chameleon_usage.models.vocabulary import INDIRECT_EVIDENCE, POLICIES, Reason, stage_of
from chameleon_usage.reconstruct.observed import HOST
from chameleon_usage.reconstruct.reading import Collected


def resolve_total(
    rows: dict[str, pl.DataFrame], history: pl.DataFrame, site: Site, collected: Collected
) -> pl.DataFrame:
    """Tell when each host existed; pool, allocations and instances are indirect evidence of it.

    An instance without an end of its own shows that its host was there before the host's own rows
    and between them; it never prolongs the life of a host.

    Args:
        rows: quantity to rows of ``Observed.intervals``: total, reservable, committed, occupied.
        history: of ``observed.profile_history``: the hosts that a row describes, dated or not.
        site: source priority and merge tolerance.
        collected: takes what is refused and how far each source's own rows reach.

    Returns:
        hostname, source, start, end, inferred: one row of a host at a time.

    Raises:
        ConservationError: an hour of the rows is neither kept nor refused.
    """
    known = history.select(pl.col("hostname").unique(), _known=pl.lit(value=True)).join(
        rows["total"].group_by("hostname").agg(_last=pl.col("end").max()),
        on="hostname",
        how="full",
        coalesce=True,
    )
    # A container, or an instance on a host that no row describes, may name anything.
    described = pl.col("_known") & (pl.col("source") != "zun.container")
    guests = (
        rows["occupied"]
        .join(known, on="hostname", how="left", maintain_order="left")
        .filter(pl.col("reservation_id").is_not_null() | described)
    )
    # What has no end of its own tells nothing after the host's last row; of a host that has none,
    # the pool still does.
    last = pl.col("_last")
    indirect = _indirect_evidence(
        frame.join(known.select("hostname", "_last"), on="hostname", how="left")
        .with_columns(
            end=pl.when("open").then(pl.min_horizontal("end", last)).otherwise("end"),
            open=pl.col("open") & last.is_null() & pl.lit(value=frame is not rows["reservable"]),
        )
        .filter(pl.col("start") < pl.col("end"))
        for frame in (rows["reservable"], rows["committed"], guests.drop("_last"))
    )
    resolved, own = _resolve(rows["total"], indirect, "total", site, collected)
    collected.record_support("total", own, resolved)
    return resolved


def resolve_reservable(
    rows: dict[str, pl.DataFrame], total: pl.DataFrame, site: Site, collected: Collected
) -> pl.DataFrame:
    """Tell when each host was in the pool, within its life; allocations are evidence of it.

    Args:
        rows: quantity to rows of ``Observed.intervals``: reservable, committed.
        total: of ``resolve_total``.
        site: source priority.
        collected: takes what is refused and how far each source's own rows reach.

    Returns:
        hostname, source, start, end, inferred: one row of a host at a time.

    Raises:
        ConservationError: an hour of the rows is neither kept nor refused.
    """
    indirect = _indirect_evidence([_borne_out(rows)])
    resolved, own = _resolve(rows["reservable"], indirect, "reservable", site, collected)
    inside, outside = arithmetic.intersect(resolved, total.select("hostname", "start", "end"), HOST)
    check_conservation("corrected reservable: clamp", resolved, inside, outside)
    inside = collected.part(
        inside.with_columns(entity_id="hostname"),
        outside.with_columns(entity_id="hostname"),
        stage_of("corrected", "reservable"),
        Reason.OUTSIDE_TOTAL,
        on=collected.corrections.clamp,
    ).drop("entity_id")
    collected.record_support("reservable", own, inside)
    return inside


def _borne_out(rows: dict[str, pl.DataFrame]) -> pl.DataFrame:
    """Cut allocations where they are no evidence that their host was in the pool.

    Of one that began before the host's last row there ended, the rest is, as far as an instance of
    its reservation was on the host: then the row was lost, and the lease went on.

    Args:
        rows: quantity to rows of ``Observed.intervals``: reservable, committed, occupied.

    Returns:
        the allocations.
    """
    left = rows["reservable"].group_by("hostname").agg(_left=pl.col("end").max())
    beyond, within = parted(
        rows["committed"].join(left, on="hostname", how="left"),
        pl.col("_left").is_between("start", "end", closed="none"),
    )
    pair = ["reservation_id", "hostname"]
    used = rows["occupied"].join(beyond, on=pair, how="semi")
    used = used.group_by(pair).agg(_used=pl.col("end").max())
    cut = beyond.join(used, on=pair, how="left").with_columns(
        end=pl.min_horizontal("end", pl.max_horizontal("_left", "_used"))
    )
    return pl.concat([within, cut.drop("_used")]).drop("_left")


def _resolve(
    hosts: pl.DataFrame,
    indirect: pl.DataFrame,
    quantity: str,
    site: Site,
    collected: Collected,
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Merge each source's rows, then let the site's source priority decide.

    Returns:
        (the resolved presences, what each source says without inference)
    """
    # Rebalancing leaves short gaps between a hypervisor's rows; Blazar's enrolments have none.
    tolerance = site.merge_tolerance if quantity == "total" else "0s"
    own = pl.concat(
        [
            _per_source(hosts, pl.col("source"), tolerance),
            _per_source(
                indirect, pl.lit(INDIRECT_EVIDENCE, dtype=hosts["source"].dtype), tolerance
            ),
        ]
    )
    rule = site.sources[quantity]
    resolved = resolve_source_priority(
        own, policy=rule.policy, order=rule.order, on=HOST, fillers=(INDIRECT_EVIDENCE,)
    )
    _account(hosts, resolved, quantity, rule, collected)
    seen = _per_source(hosts.filter(~pl.col("inferred")), pl.col("source"), tolerance)
    support = pl.concat([seen, own.filter(pl.col("source") == INDIRECT_EVIDENCE)])
    return resolved, support.filter(pl.col("source").is_in(rule.order))


def _indirect_evidence(of: Iterable[pl.DataFrame]) -> pl.DataFrame:
    """Collect rows that name a host; one without an end of its own never extends its life."""
    return pl.concat(
        [
            frame.filter(pl.col("hostname").is_not_null() & ~pl.col("open")).select(
                "hostname", "start", "end", inferred=pl.lit(value=True)
            )
            for frame in of
        ]
    )


def _per_source(rows: pl.DataFrame, source: pl.Expr, tolerance: str) -> pl.DataFrame:
    """Merge rows of one host and source to presences; inferred where no row of its own tells it."""
    named = rows.filter(pl.col("hostname").is_not_null()).with_columns(source=source)
    on = ["hostname", "source"]
    whole = arithmetic.union(named, on, tolerance=tolerance)
    certain = arithmetic.union(named.filter(~pl.col("inferred")), on, tolerance=tolerance)
    _, rest = arithmetic.intersect(whole, certain, on)
    return pl.concat(
        [
            certain.with_columns(inferred=pl.lit(value=False)),
            rest.with_columns(inferred=pl.lit(value=True)),
        ]
    )


def _account(
    hosts: pl.DataFrame, resolved: pl.DataFrame, quantity: str, rule: Priority, collected: Collected
) -> None:
    """Account for the hours of host rows that are not what was resolved from them."""
    stage = stage_of("corrected", quantity)
    nameless = hosts.filter(pl.col("hostname").is_null())
    collected.refuse(nameless, stage, Reason.HOST_NOT_NAMED)
    named = hosts.filter(pl.col("hostname").is_not_null())
    single, twice = arithmetic.split_overlaps(named, ["hostname", "source"], ["entity_id"])
    if collected.corrections.merge:
        collected.refuse(twice, stage, Reason.DUPLICATE_OF_HOST)
    else:
        collected.doubles[quantity] = twice
    kept, rest = arithmetic.intersect(
        single, resolved.select("hostname", "source", "start", "end"), ["hostname", "source"]
    )
    listed = pl.col("source").is_in(rule.order)
    collected.refuse(rest.filter(listed), stage, Reason.HIGHER_PRIORITY)
    collected.refuse(rest.filter(~listed), stage, Reason.NOT_IN_PRIORITY)
    check_conservation(stage, hosts, nameless, twice, kept, rest)


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
        segments: columns ``on``, ``source``, ``start``, ``end``, ``inferred`` (the row's own
            bounds were missing), disjoint per key and source.
        policy: ``authoritative``: the first source that knows the entity wins throughout;
            ``gap-fill``: at each instant the highest source that knows. A source knows an entity
            from its first row on; a filler is believed wherever it has no row;
            ``supplement``: any source that says yes.
        order: sources, highest first; a segment of any other source is ignored.
        on: the entity's key.
        fillers: the sources that may fill in what a higher source's rows leave out.

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
            if policy == "gap-fill" and source not in fillers:
                known = resolved.group_by(on).agg(pl.col("start").min(), end=arithmetic.MAX_TIME)
            _, new = arithmetic.intersect(candidates, arithmetic.union(known, on), on)
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
