"""How a command ended."""

from dataclasses import dataclass


@dataclass
class Said:
    """How a command ended, and what it said."""

    status: int
    out: str
    err: str
