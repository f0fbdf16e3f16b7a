"""The words that the columns of stages and outputs hold, each with one meaning."""

from enum import StrEnum, unique

from chameleon_usage.models.metrics import CAUSES, HOST_BY_HOST, MEASURED, UNCOUNTED
from chameleon_usage.models.raw import (
    AUDIT_COLUMNS,
    AUDIT_OPTIONAL,
    AUDIT_TABLES,
    QUANTITIES,
    RAW_TABLES,
)

PRESENT, ABSENT = STATES = ("present", "absent")
"""What facts say of an entity."""
BARE_METAL, KVM, DEVICE = "bare_metal", "kvm", "device"
"""What a node is, host by host: an Ironic node, a hypervisor, an Edge device."""
INDIRECT_EVIDENCE = "witnesses"
"""Stands in a source priority for every row that names a host and is not of the quantity's own
sources."""
HOLDINGS = (*MEASURED, *HOST_BY_HOST, *UNCOUNTED)
"""What segments speak of: the measured quantity types, what derived states are made of, and what
nobody can count."""
SOURCES = (*sorted(RAW_TABLES), INDIRECT_EVIDENCE, *sorted(AUDIT_TABLES.values()))
"""Who can tell: every input table, in an order that settles ties; audit tables, of rejects only."""
UNKNOWN_PROJECT, ALL_PROJECTS = "unknown", "all"
"""Stand for the project of what no row gives one, and for any where names are left out."""
BROKEN, PLANNED, DISABLED = CAUSES
"""Why a host is out of use."""
POLICIES = ("authoritative", "gap-fill", "supplement")
"""How several sources of one quantity make one history; see hosts.resolve_source_priority."""


@unique
class Reason(StrEnum):
    """Why a row, or a stretch of it, was rejected.

    ``unreadable <column>`` names the first column of the row whose value cannot be read.
    """

    # input validation
    MISSING_KEY = "missing key"
    DUPLICATE_ROW = "duplicate row"
    # ingest
    NO_HYPERVISOR_HOSTNAME = "no hypervisor_hostname"
    NO_START = "no start"
    END_BEFORE_START = "end before start"
    EMPTY_INTERVAL = "empty interval"
    FAILED_LAUNCH = "launch failed or never happened"
    NO_HOST = "no host"
    NO_RESERVATION = "reservation is gone"
    NO_LEASE = "lease is gone"
    WITHDRAWN = "withdrawn before its start"
    NO_SLICE_SIZE = "size of the slice unknown"
    NO_CREATED_AT = "no created_at"
    IMPOSSIBLE_HOURS = "hours missing or impossible"
    CACHED_AGAIN = "day cached again"
    NO_NODES = "no nodes"
    # as of
    BEGINS_LATER = "begins later"
    # the collectors
    HOST_ROW_GONE = "host row is gone"
    SIZE_UNKNOWN = "size unknown"
    NOT_IN_PRIORITY = "source not in the site's priority"
    HIGHER_PRIORITY = "a source of higher priority speaks"
    HOST_NOT_NAMED = "no instance names the host"
    DUPLICATE_OF_HOST = "duplicate of another row of the host"
    ALREADY_HELD = "the host is already held"
    OUTSIDE_TOTAL = "outside total"
    OUTSIDE_RESERVABLE = "outside reservable"
    OUTSIDE_RESERVATION = "outside its reservation"
    OUTSIDE_OCCUPIED = "outside occupied"
    HELD_ANOTHER_HOST = "the lease held another host then"
    NODES_NOT_KNOWN = "nobody tells how many nodes it held"
    NO_HOST_INFERRED = "no host named and none inferred"
    NOT_RESERVED = "no reservation covers it"
    BEYOND_PARENT = "more than its parent holds of the host"


UNREADABLE = "unreadable {}"
REASONS = tuple(
    sorted(
        {
            *(reason.value for reason in Reason),
            *(UNREADABLE.format(name) for table in RAW_TABLES.values() for name in table.columns),
            *(UNREADABLE.format(name) for name in (*AUDIT_COLUMNS, *AUDIT_OPTIONAL)),
        }
    )
)
"""Every reason that rejects can have."""

SUPERSEDED = (Reason.HIGHER_PRIORITY, Reason.NOT_IN_PRIORITY)
"""Reasons for which nothing is lost: another source tells the same hours."""
TOLD_TWICE = (Reason.DUPLICATE_OF_HOST, Reason.ALREADY_HELD, Reason.DUPLICATE_ROW)
"""Reasons for which nothing is lost: another row of the source tells the same hours."""

INPUT_VALIDATION, INGEST, AS_OF = "input validation", "ingest", "as_of"
"""The stages at which rows are rejected before a collector reads them."""


def stage_of(collector: str, quantity: str) -> str:
    """Name the stage at which a collector rejects what does not count for a quantity type."""
    return f"{collector} {quantity}"


COLLECTOR_STAGES = {
    stage_of(collector, quantity): (collector, quantity)
    for collector in ("uncorrected", "corrected")
    for quantity in dict.fromkeys((*QUANTITIES, *MEASURED))
}
"""Stage of a collector to the collector and the quantity type."""
REJECT_STAGES = tuple(sorted((INPUT_VALIDATION, INGEST, AS_OF, *COLLECTOR_STAGES)))
"""Every stage that rejects can name."""
