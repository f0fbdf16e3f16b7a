"""The words that the columns of stages and outputs hold, each with one meaning."""

from chameleon_usage.models.metrics import HOST_BY_HOST, MEASURED
from chameleon_usage.models.raw import RAW_TABLES

PRESENT, ABSENT = STATES = ("present", "absent")
"""What facts say of an entity."""
BARE_METAL, KVM, DEVICE = CLASSES = ("bare_metal", "kvm", "device")
"""What a node is, host by host: an Ironic node, a hypervisor, an Edge device."""
QUANTITIES = ("total", "reservable", "committed", "occupied", "active")
"""What facts speak of; segments tell more kinds of it."""
WITNESSES = "witnesses"
"""Stands for every record that names a host and is not of the quantity's own sources."""
HOLDINGS = (*MEASURED, *HOST_BY_HOST)
"""What segments speak of: the measured quantity types, and what the derived states are made of."""
SOURCES = (*sorted(RAW_TABLES), WITNESSES)
"""Who can bear witness: every input table, in an order that settles ties."""
POLICIES = ("authoritative", "gap-fill", "supplement")
"""How several sources of one quantity make one history; see hosts.resolve_source_priority."""
