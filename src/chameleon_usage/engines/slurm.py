"""Ranges as the tasks of Slurm's job arrays, whose nodes see the folder, too.

Run as a module, it does one task: that of SLURM_ARRAY_TASK_ID, of the job whose folder is given.
"""

import os
import shlex
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from chameleon_usage.engines.tasks import DONE, Tasks, do_task
from chameleon_usage.errors import UsageError

NOTE = "said-%a"
"""What a task says, by its number."""


class JobArray(Tasks):
    """Partition, memory and time of the tasks are those of Slurm's SBATCH variables."""

    def launch(self, job: Path, of: Sequence[Path]) -> None:
        """Have the task of each place done.

        Raises:
            UsageError: there is no Slurm, or a task failed.
        """
        last = len(of) - 1
        call = ["sbatch", "--wait", "--parsable", "--requeue", f"--array=0-{last}"]
        task = shlex.join([sys.executable, "-m", "chameleon_usage.engines.slurm", str(job)])
        ended = _submitted([*call, f"--output={job / NOTE}", f"--wrap={task}"])
        lacking = [n for n, place in enumerate(of) if not (job / DONE / place.name).is_dir()]
        if not ended and not lacking:
            return
        notes = [job / NOTE.replace("%a", str(number)) for number in lacking]
        notes = [note for note in notes if note.exists()]
        if not notes and len(lacking) == len(of):
            raise UsageError(
                f"--engine slurm: no task began, and sbatch ended with {ended}: it says why above; "
                "see its variables (SBATCH_PARTITION, SBATCH_ACCOUNT and the like)"
            )
        said = notes[0].read_text().strip().rpartition("\n")[2] if notes else ""
        raise UsageError(
            f"--engine slurm: {len(lacking)} of {len(of)} tasks failed "
            f"({said or f'sbatch ended with {ended}'}); give more memory or time "
            "(SBATCH_MEM_PER_NODE, SBATCH_TIMELIMIT), or more --ranges"
        )


def _submitted(call: Sequence[str]) -> int:
    """Submit a job and wait for its end; if the wait is ended, so is the job.

    Returns:
        what sbatch ends with.

    Raises:
        UsageError: there is no Slurm.
    """
    try:
        sbatch = subprocess.Popen(call, stdout=subprocess.PIPE, text=True)  # noqa: S603
    except FileNotFoundError as error:
        raise UsageError("--engine slurm: there is no command sbatch here") from error
    number = ""
    with sbatch:
        try:
            number = sbatch.stdout.readline().partition(";")[0].strip() if sbatch.stdout else ""
            # A signal may reach another thread, and then ends no wait of this one.
            while sbatch.poll() is None:
                time.sleep(0.2)
        except BaseException:
            sbatch.kill()
            if number:
                subprocess.run(["scancel", number], check=False)  # noqa: S603, S607
            raise
    return sbatch.returncode


if __name__ == "__main__":
    do_task(Path(sys.argv[1]), int(os.environ["SLURM_ARRAY_TASK_ID"]))
