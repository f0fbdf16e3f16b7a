"""Hold the data behind every figure, and the README's figure, to what was recorded.

    python notebooks/checksums.py            check (exit status 1 and the names of what differs)
    python notebooks/checksums.py --record   keep the sums of what is there now

Only the default build, the twin's four sites, is recorded. A figure's numbers are summed, not its
pixels.
"""

import hashlib
import sys

import polars as pl

from chameleon_usage.viz.paper import ROOT

RECORD = ROOT / "data" / "checksums.csv"
PLOTS = ROOT / "output" / "plots"
README_FIGURE = ROOT / "book" / "assets" / "collectors.svg"
DRAWN = PLOTS / "chi_tacc_facet.svg"


def sums() -> dict[str, str]:
    """Give the checksum of the data of every figure that was drawn, by file name."""
    return {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(PLOTS.glob("*.csv"))
    }


def main() -> int:
    """Check or record; return the exit status."""
    found = sums()
    if not found:
        print(f"{PLOTS}: no figure's data; run 'make notebooks' first", file=sys.stderr)
        return 1
    if sys.argv[1:] == ["--record"]:
        pl.DataFrame({"file": list(found), "sha256": list(found.values())}).write_csv(RECORD)
        README_FIGURE.write_bytes(DRAWN.read_bytes())
        return 0
    recorded = dict(pl.read_csv(RECORD).iter_rows())
    wrong = sorted(
        name for name in recorded.keys() | found.keys() if recorded.get(name) != found.get(name)
    )
    if README_FIGURE.read_bytes() != DRAWN.read_bytes():
        wrong.append(README_FIGURE.name)
    for name in wrong:
        print(f"{name}: not as recorded in {RECORD.relative_to(ROOT)}", file=sys.stderr)
    if wrong:
        print("If the change is meant, look at the figures and run 'make record'.", file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
