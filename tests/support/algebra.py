"""The algebra of count types by hand: the independent oracle of the registry's formulas."""

from __future__ import annotations

from polars import col, when

PARTITION = (
    "maintenance", "available", "idle", "stopped", "active", "available_ondemand", "unknown",
)  # fmt: skip

OF_SUMS = {
    "occupied": col("occupied_reservation") + col("occupied_ondemand"),
    "active": col("active_reservation") + col("active_ondemand"),
    "idle": col("committed") - col("occupied_reservation"),
    "stopped": (col("occupied_reservation") - col("active_reservation"))
    + (col("occupied_ondemand") - col("active_ondemand")),
}
"""Count types that are algebra over other count types."""

BY_HAND = OF_SUMS | {
    "maintenance": col("maintenance_in_pool")
    + col("maintenance_out_of_pool")
    + col("maintenance_ondemand"),
    "available": col("reservable")
    - col("committed")
    - col("maintenance_in_pool")
    - col("occupied_ondemand_in_pool"),
    "available_ondemand": col("ondemand_capacity")
    - col("occupied_ondemand")
    + col("occupied_ondemand_in_pool")
    - col("maintenance_ondemand"),
    "reservable_unusable": when(col("status_known_in_pool") >= 0.95 * col("reservable")).then(
        col("unusable_in_pool")
    ),
    "reservable_usable": when(col("status_known_in_pool") >= 0.95 * col("reservable")).then(
        col("reservable") - col("unusable_in_pool")
    ),
    **{
        f"out_of_use_{cause}": when(col("status_known") >= 0.95 * col("total")).then(col(cause))
        for cause in ("broken", "planned", "disabled", "unexplained")
    },
}
"""Every derived count type, of what records tell alone."""

WITHIN = {
    "reservable": "total",
    "committed": "reservable",
    "occupied_reservation": "committed",
    "active_reservation": "occupied_reservation",
    "active_ondemand": "occupied_ondemand",
    "occupied": "total",
    "reservable_unusable": "reservable",
    "reservable_usable": "reservable",
    "out_of_use_broken": "total",
    "out_of_use_planned": "total",
    "out_of_use_disabled": "total",
    "out_of_use_unexplained": "total",
}
"""Count type to the one of which it is a part."""

OF_STATUS = {name for name in BY_HAND if name.startswith(("reservable_", "out_of_use_"))}
"""Count types that only a site with records of status has."""

CORRECTED_ALONE = {"maintenance", "unknown", "ondemand_capacity", "available_ondemand", *OF_STATUS}
"""Count types that take a reading host by host, which the other collectors do not have."""
