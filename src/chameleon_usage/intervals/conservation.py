"""The law of conservation, asserted in every run: no hour is lost or invented."""

import polars as pl

from chameleon_usage.intervals import arithmetic

REPORT = "the pipeline itself is wrong: please report it with the site's manifest"


class ConservationError(AssertionError):
    """A stage lost or invented rows or hours: a bug, never the user's fault."""


def check_conservation(stage: str, before: pl.DataFrame | int, *after: pl.DataFrame) -> None:
    """Assert that the entity-seconds of a stage are all accounted for.

    Args:
        stage: what is asserted.
        before: intervals that went in, or their seconds.
        after: intervals that came out, as kept or as rejected.

    Raises:
        ConservationError: names the stage, the difference in hours and, where the intervals tell
            it, the tables it lies in.
    """
    went_in = before if isinstance(before, int) else arithmetic.seconds(before)
    difference = sum(arithmetic.seconds(frame) for frame in after) - went_in
    if difference:
        raise ConservationError(
            f"stage {stage}: {difference / 3600:+.4f} entity-hours after against before"
            f"{_by_table(before, *after)}; {REPORT}"
        )


def _by_table(before: pl.DataFrame | int, *after: pl.DataFrame) -> str:
    """Name the tables in which hours were lost or invented, if the intervals tell theirs."""
    if isinstance(before, int) or not all("source" in frame.columns for frame in (before, *after)):
        return ""
    signed = [
        frame.select("source", seconds=arithmetic.SECONDS * sign)
        for frame, sign in [(before, -1), *((frame, 1) for frame in after)]
    ]
    sums = pl.concat(signed).group_by("source").agg(pl.col("seconds").sum()).sort("source")
    differences = [f"{name} {value / 3600:+.4f}" for name, value in sums.iter_rows() if value]
    return f" ({', '.join(differences)})" if differences else ""
