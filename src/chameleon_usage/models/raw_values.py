"""Values as databases, drivers and dumps write them, made those of a raw table's types."""

from collections.abc import Iterator, Mapping

import polars as pl

from chameleon_usage.models.raw_table import NAME, TIME

ZERO_DATES, LAST_ZERO_YEAR = ("0000-00-00", "0001-01-01", "1970-01-01"), 1970
"""How databases and drivers write that there is no date: none of the services is so old."""
NO_VALUES = ("", "\\N", "NULL", "None", "nan", "NaN", "NaT", "<NA>")
"""How dumps in text write that there is no value."""
YES, NO = ("true", "t", "yes", "y", "on", "\x01"), ("false", "f", "no", "n", "off", "\x00")
UUID = 36
"""Characters of a UUID."""


def blanks_as_null(frame: pl.DataFrame, kinds: Mapping[str, pl.DataType]) -> Iterator[pl.Expr]:
    """Make null what stands for no value: an empty text, a blank name, a zero date, no number."""
    yield from _texts_as_null(
        frame, {column: kinds[column] for column in kinds if frame.schema[column] == pl.String}
    )
    for column, kind in kinds.items():
        value, found = pl.col(column), frame.schema[column]
        if found == pl.Binary:
            yield pl.when(value.bin.size() > 0).then(value)
        elif found.is_float():
            yield value.fill_nan(None)
        # A zero date is there if the earliest is one.
        elif (
            kind == TIME
            and found.is_temporal()
            and frame.select(value.min().dt.year() <= LAST_ZERO_YEAR).item()
        ):
            yield pl.when(value.dt.year() > LAST_ZERO_YEAR).then(value)


def _texts_as_null(frame: pl.DataFrame, texts: Mapping[str, pl.DataType]) -> Iterator[pl.Expr]:
    """Make null what stands for no value among texts, of which some are to be of other types."""
    as_text = any(kind != pl.String for kind in texts.values())
    # No word for nothing and no time is as long as a UUID: few texts need more than this look.
    short = frame.select((pl.col(list(texts)).str.len_bytes().min() < UUID).fill_null(value=False))
    for column, kind in texts.items():
        value = pl.col(column)
        if as_text and kind in (pl.String, NAME) and not short[column].item():
            continue
        if kind != pl.String:
            zero = value.str.slice(0, 10).is_in(ZERO_DATES)
            yield pl.when(~value.is_in(NO_VALUES) & ~zero).then(value)
        elif as_text:
            none = value.str.strip_chars().is_in(NO_VALUES)
            # Few of such texts differ.
            if frame.select(value.unique()).select(none.any()).item():
                yield pl.when(~none).then(value)
        # To trim all would cost more than to see that none begins as a blank one might.
        elif frame.select(((value < "!") | (value > "~")).any()).item():
            yield pl.when(value.str.strip_chars() != "").then(value)


def whole_seconds(frame: pl.DataFrame, kinds: Mapping[str, pl.DataType]) -> set[str]:
    """Name the columns of times that need no cast, as most: to see so is quicker than to cut."""
    times = [column for column, kind in kinds.items() if kind == frame.schema[column] == TIME]
    cut = frame.select((pl.col(times).to_physical() % 1_000_000 != 0).any())
    return {column for column in times if not cut[column].item()}


def as_kind(column: pl.Expr, found: pl.DataType, wanted: pl.DataType) -> pl.Expr:
    """Cast a column to the type wanted; what cannot be read as that is null.

    Args:
        column: the column.
        found: the type in which it is stored.
        wanted: a type of ``RawTable``; times are cut to whole seconds, in UTC.
    """
    if wanted == pl.Datetime("us"):
        if found == pl.String:
            column = _moments(column)
        elif isinstance(found, pl.Datetime) and found.time_zone:
            column = column.dt.convert_time_zone("UTC").dt.replace_time_zone(None)
        elif not found.is_temporal():
            column = pl.lit(None, dtype=wanted).alias(column.meta.output_name())
        # The services write whole seconds; the arithmetic is exact in whole seconds.
        return column.cast(wanted, strict=False).dt.truncate("1s")
    if found == wanted:
        return column
    if found == pl.Binary:
        column = column.map_elements(_utf8, return_dtype=pl.String)
    elif wanted == pl.Categorical and found != pl.String:
        column = column.cast(pl.String, strict=False)
    elif wanted.is_integer() and found == pl.String:
        # "48.0" is what is left of a number that shared its column with a missing one.
        column = column.str.replace(r"^\s*(-?\d+)\.0*\s*$", "$1")
    elif wanted.is_integer() and found.is_float():
        column = pl.when(column == column.floor()).then(column)  # half a number is none
    return column.cast(wanted, strict=False)


def as_flag(column: pl.Expr, found: pl.DataType) -> pl.Expr:
    """Cast a column to 0 and 1, which other databases and formats write as words, or as a bit.

    Args:
        column: the column.
        found: the type in which it is stored.
    """
    if found == pl.Binary:
        column, found = column.map_elements(_utf8, return_dtype=pl.String), pl.String()
    if found == pl.String:
        word = column.str.strip_chars(" ").str.to_lowercase()
        column = word.replace({**dict.fromkeys(YES, "1"), **dict.fromkeys(NO, "0")})
    return as_kind(column, found, pl.Int64())


def _moments(text: pl.Expr) -> pl.Expr:
    """Read times in the forms of ISO 8601, as UTC unless they name a zone."""
    forms = ("%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%d")
    plain = [text.str.to_datetime(form, time_unit="us", strict=False) for form in forms]
    text = text.str.replace("Z$", "+00:00").str.replace(r"(:\d\d(?:\.\d+)?[+-]\d\d)$", "$1:00")
    zoned = [
        text.str.to_datetime(f"{form}%:z", time_unit="us", time_zone="UTC", strict=False)
        for form in forms[:2]
    ]
    return pl.coalesce(*plain, *(moment.dt.replace_time_zone(None) for moment in zoned))


def _utf8(octets: bytes) -> str | None:
    """Give bytes as text; none if they are no UTF-8, or blank."""
    try:
        return text if (text := octets.decode()).strip() else None
    except UnicodeDecodeError:
        return None
