"""The ranges of a site as the tasks of Slurm's job arrays, which see the folder, too.

Run as a module, it does one task: that of SLURM_ARRAY_TASK_ID, of the job whose folder is given.
"""

import os
import pickle
import subprocess
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import polars as pl

from chameleon_usage.errors import UsageError
from chameleon_usage.io.files import load_table, save_tables, whole_directory
from chameleon_usage.ranges import AtHome, Tables, Work, places, plain

JOB, DONE = "job.pickle", "done"
NOTE = "said-%a"
"""What a task says, by its number."""


class JobArray(AtHome):
    """Each range is a task; partition, memory and time are those of Slurm's SBATCH variables."""

    apart = True

    def ask(self, folder: Path, work: Work, names: Sequence[str]) -> Iterable[Tables]:
        """Give what the work makes of each range's rows."""
        done = _array(folder / "asked", places(folder / "rows"), (), work, names)
        return (_tables_of(place, names) for place in places(done))

    def keep(self, folder: Path, work: Work, names: Sequence[str]) -> None:
        """Keep what the work makes of each range's rows."""
        done = _array(folder / "read", places(folder / "rows"), (), work, names)
        done.rename(folder / "readings")

    def kept(self, folder: Path, names: Sequence[str]) -> Iterable[Tables]:
        """Give tables that were kept of each range."""
        return (_tables_of(place, names) for place in places(folder / "readings"))

    def ask_kept(
        self,
        folder: Path,
        of: Sequence[str],
        work: Callable[[Tables], Tables],
        names: Sequence[str],
    ) -> Iterable[Tables]:
        """Give what the work makes of tables that were kept of each range."""
        done = _array(folder / f"of-{'-'.join(of)}", places(folder / "readings"), of, work, names)
        return (_tables_of(place, names) for place in places(done))


def _array(
    job: Path,
    of: Sequence[Path],
    given: Sequence[str],
    work: Work | Callable[[Tables], Tables],
    names: Sequence[str],
) -> Path:
    """Do the work on each place, and give the folder of what it made.

    Raises:
        UsageError: there is no Slurm, or a task failed.
    """
    job.mkdir()
    (job / JOB).write_bytes(pickle.dumps((list(of), tuple(given), work, tuple(names))))
    call = ["sbatch", "--wait", "--requeue", f"--array=0-{len(of) - 1}", f"--output={job / NOTE}"]
    task = f"{sys.executable} -m chameleon_usage.slurm {job}"
    try:
        ended = subprocess.run([*call, f"--wrap={task}"], stdout=subprocess.DEVNULL, check=False)  # noqa: S603
    except FileNotFoundError as error:
        raise UsageError("--engine slurm: there is no command sbatch here") from error
    lacking = [number for number, place in enumerate(of) if not (job / DONE / place.name).is_dir()]
    if ended.returncode or lacking:
        notes = [job / NOTE.replace("%a", str(number)) for number in lacking]
        said = next((note.read_text() for note in notes if note.exists()), "").strip()
        raise UsageError(
            f"--engine slurm: {len(lacking)} of {len(of)} tasks failed "
            f"({said.rpartition(chr(10))[2] or f'sbatch ended with {ended.returncode}'}); "
            "give more memory or time (SBATCH_MEM_PER_NODE, SBATCH_TIMELIMIT), or more --ranges"
        )
    return job / DONE


def _rows_of(place: Path) -> pl.DataFrame:
    """Read the rows of a range from its directory."""
    return pl.concat(load_table(path) for path in sorted(place.glob("*.parquet")))


def _tables_of(place: Path, names: Sequence[str]) -> dict[str, pl.DataFrame]:
    """Read tables that were kept of a range from its directory."""
    return {name: load_table(place / f"{name}.parquet") for name in names}


def do_task(job: Path, number: int) -> None:
    """Do one task; what it makes appears whole or not at all, so it can be done again."""
    of, given, work, names = pickle.loads((job / JOB).read_bytes())  # noqa: S301 - the run's own
    place = of[number]
    made = work(_tables_of(place, given) if given else _rows_of(place))
    with whole_directory(job / DONE / place.name) as scratch:
        save_tables(scratch, plain({name: made[name] for name in names}))


if __name__ == "__main__":
    do_task(Path(sys.argv[1]), int(os.environ["SLURM_ARRAY_TASK_ID"]))
