"""Independent steps side by side: Polars leaves the interpreter to others while it computes."""

import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")


def side_by_side(calls: Iterable[Callable[[], T]]) -> list[T]:
    """Make calls that do not depend on each other, a few at a time.

    Args:
        calls: functions without arguments.

    Returns:
        what each gave, in the order of the calls; what the first to fail raised is raised.
    """
    with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
        return [call.result() for call in [pool.submit(call) for call in calls]]
