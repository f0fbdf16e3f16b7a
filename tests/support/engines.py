"""An engine whose tasks are done here: as in other processes, without the time that these take."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING

from chameleon_usage.engines.tasks import Tasks, do_task

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from chameleon_usage.engines.engine import Tables


class Here(Tasks):
    """All that is done and given back travels through files, as to other processes."""

    def launch(self, job: Path, of: Sequence[Path]) -> None:
        """Do one task after another, the last one first."""
        for number in reversed(range(len(of))):
            do_task(job, number)


def killed(_: Path) -> Tables:
    """Do what is killed in the middle, as for want of memory."""
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError
