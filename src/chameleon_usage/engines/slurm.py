"""Ranges as the tasks of Slurm's job arrays, whose nodes see the folder, too.

Run as a module, it does one task: that of SLURM_ARRAY_TASK_ID, of the job whose folder is given.
"""

import os
import subprocess
import sys
from pathlib import Path

from chameleon_usage.engines.home import places
from chameleon_usage.engines.tasks import DONE, Tasks, do_task
from chameleon_usage.errors import UsageError

NOTE = "said-%a"
"""What a task says, by its number."""


class JobArray(Tasks):
    """Partition, memory and time of the tasks are those of Slurm's SBATCH variables."""

    def launch(self, job: Path, tasks: int) -> None:
        """Have all tasks of a job done.

        Raises:
            UsageError: there is no Slurm, or a task failed.
        """
        call = ["sbatch", "--wait", "--requeue", f"--array=0-{tasks - 1}", f"--output={job / NOTE}"]
        task = f"{sys.executable} -m chameleon_usage.engines.slurm {job}"
        try:
            ended = subprocess.run(  # noqa: S603
                [*call, f"--wrap={task}"], stdout=subprocess.DEVNULL, check=False
            )
        except FileNotFoundError as error:
            raise UsageError("--engine slurm: there is no command sbatch here") from error
        done = len(places(job / DONE)) if (job / DONE).is_dir() else 0
        if ended.returncode or done < tasks:
            raise UsageError(
                f"--engine slurm: {tasks - done} of {tasks} tasks failed "
                f"({_said(job, tasks) or f'sbatch ended with {ended.returncode}'}); "
                "give more memory or time (SBATCH_MEM_PER_NODE, SBATCH_TIMELIMIT), or more "
                "--ranges"
            )


def _said(job: Path, tasks: int) -> str:
    """Give the last line of what the first task says that said anything: it did not end well."""
    notes = (job / NOTE.replace("%a", str(number)) for number in range(tasks))
    told = (note.read_text().strip() for note in notes if note.exists())
    return next((text for text in told if text), "").rpartition("\n")[2]


if __name__ == "__main__":
    do_task(Path(sys.argv[1]), int(os.environ["SLURM_ARRAY_TASK_ID"]))
