"""The algebra of count types by hand: the independent oracle of the registry's formulas."""

from __future__ import annotations

from polars import col

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
}
"""Every derived count type, of what records tell alone."""

WITHIN = {
    "reservable": "total",
    "committed": "reservable",
    "occupied_reservation": "committed",
    "active_reservation": "occupied_reservation",
    "active_ondemand": "occupied_ondemand",
    "occupied": "total",
}
"""Count type to the one of which it is a part."""

CORRECTED_ALONE = {"maintenance", "unknown", "ondemand_capacity", "available_ondemand"}
"""Count types that take a reading host by host, which the other collectors do not have."""
