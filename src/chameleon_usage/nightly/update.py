"""What a run takes over from the run before, and what it keeps for the next one."""

import hashlib
import json
import platform
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from importlib.metadata import version
from pathlib import Path

import numpy as np
import polars as pl

from chameleon_usage.intervals.sorting import Flags, Numbers
from chameleon_usage.models.metrics import UNCOUNTED
from chameleon_usage.nightly.fingerprints import fingerprints
from chameleon_usage.usage.buckets import Availability, Window
from chameleon_usage.usage.long import Label, LongTable, Make, Times, Values
from chameleon_usage.usage.tally import Tally

FOLDER, TOLD = Path("stages", "update"), "kept.json"
PACKAGES = ("polars", "numpy")
"""On which the bytes of a table depend."""

MOST = 0.5
"""The share of the buckets above which little is gained."""

LEAST = 0.01
"""Buckets between two that are touched, if they are a smaller share of all, are made anew, too: to
cut each series there takes longer."""

AT_ONCE = 4_000_000
"""Rows of an earlier table that are held at once."""

Series = dict[Label, tuple[Times, Values]]


@dataclass
class Update:
    """What a run takes from the run before (``usage.long.Earlier``).

    Attributes:
        window: of this run.
        known: of what its tables can tell.
        now: of ``fingerprints``.
        folder: the site's directory, with the earlier tables.
        before: of the earlier run's ``fingerprints``; None where it is of no use.
        series: by table, those of the earlier run.
        why: it is of no use.
        made: by table, the series of this run, kept for the next one.
    """

    window: Window
    known: str
    now: pl.DataFrame
    folder: Path
    before: pl.DataFrame | None = None
    series: dict[str, pl.DataFrame] = field(default_factory=dict)
    why: str = ""
    made: dict[str, pl.DataFrame] = field(default_factory=dict)

    @classmethod
    def since(
        cls, folder: Path, sums: Tally, availability: Availability, window: Window
    ) -> "Update":
        """See what the run before left in a site's directory."""
        now, known = fingerprints(sums, availability, window), _known(availability, sums)
        update = cls(window, known, now, folder)
        update._load()
        return update

    @cached_property
    def _stays(self) -> Flags:
        """Tell of each bucket of the window whether it is as it was."""
        if self.before is None:
            return np.zeros(len(self.window.edges) - 1, np.bool_)
        same = self.now.join(self.before, on=self.now.columns, how="semi").select("timestamp")
        every = self.window.timestamps["timestamp"]
        stays = every.is_in(same["timestamp"].implode()).to_numpy().copy()
        for begin, end in _turns(stays).reshape(-1, 2):
            if end - begin < LEAST * len(stays):
                stays[begin:end] = False
        return stays if stays.mean() >= 1 - MOST else np.zeros_like(stays)

    @property
    def said(self) -> str:
        """How much is made anew, and why."""
        touched, every = int((~self._stays).sum()), len(self._stays)
        if self.why:
            return f"all buckets: {self.why}"
        if touched == every:
            return "all buckets: most are touched"
        return f"{touched:,} of {every:,} buckets"

    def fill(self, name: str, table: LongTable, sums: pl.DataFrame, thing: str, make: Make) -> None:
        """Add to a table what ``make`` would add of all the sums."""
        cached, table.series = table.series, {}
        old = _places(self.series[name], table) if name in self.series else {}
        if not old or not self._stays.any():
            make(table, sums)
        else:
            table.ever = frozenset(old)
            make(table, sums.filter(pl.Series(~self._stays)[sums["bucket"]]))
            # What has a new series has rows of it in all its buckets.
            if again := {label[-1] for label in table.series if label not in old}:
                anew = LongTable(table.kinds)
                make(anew, sums.filter(pl.col(thing).to_physical().is_in(again)))
                old = {label: at for label, at in old.items() if label[-1] not in again}
                table.series = {
                    label: own for label, own in table.series.items() if label[-1] not in again
                } | anew.series
            self._take_over(self.folder / f"{name}.parquet", old, table.series)
        table.series |= cached
        self.made[name] = table.listed()

    def _take_over(self, path: Path, old: dict[Label, slice], series: Series) -> None:
        """Put the rows of buckets that stay between those of buckets that are made anew."""
        borders = self._borders
        scan = pl.scan_parquet(path).select(pl.col("timestamp").to_physical(), "value")
        none = np.empty(0, np.int64), np.empty(0)
        for stretch in _stretches(old):
            first = old[stretch[0]].start
            rows = scan.slice(first, old[stretch[-1]].stop - first).collect().rechunk()
            times, values = (rows[name].to_numpy() for name in rows.columns)
            for label in stretch:
                own = slice(old[label].start - first, old[label].stop - first)
                series[label] = _merged((times[own], values[own]), series.get(label, none), borders)
                if not series[label][1].any():
                    del series[label]

    @cached_property
    def _borders(self) -> Numbers:
        """List the times at which buckets that stay begin and end, in turn."""
        return self.window.edges.to_physical().to_numpy()[_turns(self._stays)]

    def save(self, target: Path) -> None:
        """Write what is kept below a site's new directory, when its tables are there."""
        folder = target / FOLDER
        folder.mkdir(parents=True)
        self.now.write_ipc(folder / "buckets.arrow", compression="lz4")
        for name, listed in self.made.items():
            listed.write_ipc(folder / f"{name}.arrow", compression="lz4")
        files = [*folder.glob("*.arrow"), *(target / f"{name}.parquet" for name in self.made)]
        told = {"program": _of_program(), "known": self.known, "files": _sums(target, files)}
        (folder / TOLD).write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")

    def _load(self) -> None:
        """Read what the run before kept, or say why it is of no use."""
        path = self.folder / FOLDER / TOLD
        if not path.exists():
            kept = "no run before it kept anything"
            self.why = kept if self.folder.exists() else "there is no run before it"
            return
        try:
            told = json.loads(path.read_text(encoding="utf-8"))
            if told["program"] != _of_program():
                self.why = "the run before it was of another version"
            elif told["known"] != self.known:
                self.why = "the tables tell of other quantities, or of more hours"
            elif _sums(self.folder, map(self.folder.joinpath, told["files"])) != told["files"]:
                self.why = "what the run before it wrote has been changed since"
            else:
                tables = [Path(name).stem for name in told["files"] if name.endswith(".parquet")]
                read = {
                    name: pl.read_ipc(path.parent / f"{name}.arrow")
                    for name in ("buckets", *tables)
                }
                self.before, self.series = read.pop("buckets"), read
        except (OSError, ValueError, KeyError, TypeError, pl.exceptions.PolarsError):
            self.why = "what the run before it kept is damaged"


def _turns(flags: Flags) -> Numbers:
    """Give the first place of each stretch that is flagged, and the one after its last, in turn."""
    return np.flatnonzero(np.diff(flags, prepend=False, append=False))


def _places(series: pl.DataFrame, table: LongTable) -> dict[Label, slice]:
    """Tell where in an earlier table the series of things are that there are still."""
    ends = series["rows"].cum_sum()
    codes = series.select(
        *(
            pl.col(name).cast(kind, strict=False).to_physical()
            for name, kind in table.kinds.items()
        ),
        _begin=ends - series["rows"],
        _end=ends,
    ).drop_nulls()
    legacy = table.code("collector_type", "legacy")  # the caches' own, which are read every time
    return {
        tuple(label): slice(begin, end)
        for *label, begin, end in codes.iter_rows()
        if label[0] != legacy
    }


def _stretches(old: dict[Label, slice]) -> Iterable[list[Label]]:
    """Divide series, in the order of their rows, so that few rows are held at once."""
    stretch: list[Label] = []
    for label, rows in old.items():
        if stretch and rows.stop - old[stretch[0]].start > AT_ONCE:
            yield stretch
            stretch = []
        stretch.append(label)
    if stretch:
        yield stretch


def _merged(
    old: tuple[Times, Values], new: tuple[Times, Values], borders: Numbers
) -> tuple[Times, Values]:
    """Put together the times and values of a series, in order of time.

    Args:
        old: the rows of the earlier table.
        new: those of buckets that are made anew.
        borders: the times at which buckets that stay begin and end, in turn.
    """
    stay, fresh = (times.searchsorted(borders).tolist() for times, _ in (old, new))
    bounds = [0, *fresh, len(new[0])]
    pieces = [(new, 0, bounds[1])]
    for at in range(0, len(borders), 2):
        pieces += [(old, stay[at], stay[at + 1]), (new, bounds[at + 2], bounds[at + 3])]
    some = [(of, slice(begin, end)) for of, begin, end in pieces if begin < end]
    if len(some) < 2:  # nothing to copy
        of, rows = some[0] if some else (new, slice(0))
        return of[0][rows], of[1][rows]
    return (
        np.concatenate([times[rows] for (times, _), rows in some]),
        np.concatenate([values[rows] for (_, values), rows in some]),
    )


def _known(availability: Availability, sums: Tally) -> str:
    """Tell, as text, of which quantities the tables tell, and of which enough.

    Where any nodes are not counted, whenever that was, node types are known where their site is.
    """
    told = sorted(availability.quantities)
    shares = sorted(availability.completeness.items())
    enough = [(name, share >= availability.known_share) for name, share in shares]
    uncounted = sorted(set(UNCOUNTED) & set(sums["usage"].columns))
    return repr((told, enough, availability.known_share, uncounted))


def _of_program() -> str:
    """Give a number that differs between versions of the program and its packages."""
    packages = [(name, version(name)) for name in PACKAGES]
    found = hashlib.sha256(repr((packages, platform.python_version())).encode())
    source = Path(__file__).parents[1]
    for path in sorted(source.rglob("*.py")):
        found.update(f"\n{path.relative_to(source)}\n".encode())
        found.update(path.read_bytes())
    return found.hexdigest()


def _sums(target: Path, files: Iterable[Path]) -> dict[str, str]:
    """Give the SHA-256 sum of each file."""
    sums = {}
    for path in sorted(files):
        with path.open("rb") as file:
            name = path.relative_to(target).as_posix()
            sums[name] = hashlib.file_digest(file, "sha256").hexdigest()
    return sums
