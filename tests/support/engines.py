"""An engine whose tasks are done here: as in other processes, without the time that these take."""

from __future__ import annotations

from typing import TYPE_CHECKING

from chameleon_usage.engines.tasks import Tasks, do_task

if TYPE_CHECKING:
    from pathlib import Path


class Here(Tasks):
    """All that is done and given back travels through files, as to other processes."""

    def launch(self, job: Path, tasks: int) -> None:
        """Do one task after another, the last one first."""
        for number in reversed(range(tasks)):
            do_task(job, number)
