"""Ranges as the tasks of Slurm's job arrays, whose nodes see the folder, too.

Run as a module, it does one task: that of SLURM_ARRAY_TASK_ID, of the job whose folder is given.
"""

import os
import subprocess
import sys
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
        call = ["sbatch", "--wait", "--requeue", f"--array=0-{last}", f"--output={job / NOTE}"]
        task = f"{sys.executable} -m chameleon_usage.engines.slurm {job}"
        try:
            ended = subprocess.run(  # noqa: S603
                [*call, f"--wrap={task}"], stdout=subprocess.DEVNULL, check=False
            )
        except FileNotFoundError as error:
            raise UsageError("--engine slurm: there is no command sbatch here") from error
        lacking = [n for n, place in enumerate(of) if not (job / DONE / place.name).is_dir()]
        if ended.returncode or lacking:
            notes = [job / NOTE.replace("%a", str(number)) for number in lacking]
            said = next((note.read_text() for note in notes if note.exists()), "").strip()
            raise UsageError(
                f"--engine slurm: {len(lacking)} of {len(of)} tasks failed "
                f"({said.rpartition(chr(10))[2] or f'sbatch ended with {ended.returncode}'}); "
                "give more memory or time (SBATCH_MEM_PER_NODE, SBATCH_TIMELIMIT), or more "
                "--ranges"
            )


if __name__ == "__main__":
    do_task(Path(sys.argv[1]), int(os.environ["SLURM_ARRAY_TASK_ID"]))
