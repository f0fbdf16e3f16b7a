"""Colours as readers with a colour deficiency see them, and on grey paper.

The matrices are those of Machado, Oliveira and Fernandes (A Physiologically-based Model for
Simulation of Color Vision Deficiency, 2009) for a full deficiency, on linear RGB. A distance is
that of CIE 1976 in L*a*b* under D65: 2.3 is what can just be noticed, side by side.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

SEEN_BY: dict[str, Array] = {
    "all cones": np.eye(3),
    "protanopia": np.array(
        [
            [0.152286, 1.052583, -0.204868],
            [0.114503, 0.786281, 0.099216],
            [-0.003882, -0.048116, 1.051998],
        ]
    ),
    "deuteranopia": np.array(
        [
            [0.367322, 0.860646, -0.227968],
            [0.280085, 0.672501, 0.047413],
            [-0.011820, 0.042940, 0.968881],
        ]
    ),
    "tritanopia": np.array(
        [
            [1.255528, -0.076749, -0.178779],
            [-0.078411, 0.930809, 0.147602],
            [0.004733, 0.691367, 0.303900],
        ]
    ),
}
_TO_XYZ = np.array(
    [
        [0.4124564, 0.3575761, 0.1804375],
        [0.2126729, 0.7151522, 0.0721750],
        [0.0193339, 0.1191920, 0.9503041],
    ]
)
_WHITE = _TO_XYZ.sum(axis=1)


def lab(colour: str, reader: str = "all cones") -> Array:
    """Give L*, a*, b* of a colour (#RRGGBB) as a reader sees it."""
    coded = np.array([int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)])
    linear = np.where(coded <= 0.04045, coded / 12.92, ((coded + 0.055) / 1.055) ** 2.4)
    seen = (SEEN_BY[reader] @ linear).clip(0, 1)
    ratio = _TO_XYZ @ seen / _WHITE
    x, y, z = np.where(ratio > (6 / 29) ** 3, np.cbrt(ratio), ratio / (3 * (6 / 29) ** 2) + 4 / 29)
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


def distance(one: str, other: str, reader: str = "all cones") -> float:
    """Say how far apart a reader sees two colours."""
    return math.dist(lab(one, reader), lab(other, reader))


def lightness_apart(one: str, other: str) -> float:
    """Say how far apart two colours are on grey paper, in L*."""
    return float(abs(lab(one)[0] - lab(other)[0]))
