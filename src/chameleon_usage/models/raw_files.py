"""Input tables that no service has: inventories, published records and traces."""

from chameleon_usage.models.raw_table import RawTable, ints, names, texts, times

MACHINE_EVENTS, INSTANCE_EVENTS = "trace.machine_events", "trace.instance_events"
LEASE_EVENTS = "trace.lease_events"

FILES: dict[str, RawTable] = {
    "inventory.node_intervals": RawTable(
        label="the inventory",
        key=("uid", "valid_from"),
        required=texts("uid", "node_type") | times("valid_from", "valid_to"),
        begin="valid_from",
        end="valid_to",
        tells=("total",),
        remade=True,
    ),
    MACHINE_EVENTS: RawTable(
        label="published machine events",
        key=("HOST_NAME (PHYSICAL)", "EVENT_TIME", "EVENT"),
        required=texts("HOST_NAME (PHYSICAL)", "EVENT") | times("EVENT_TIME"),
        # Sizes have columns in format 0.2, and stand in PROPERTIES in 0.3.
        optional=texts("PROPERTIES")
        | ints("VCPU_CAPACITY", "MEMORY_CAPACITY_MB", "DISK_CAPACITY_GB"),
        begin="EVENT_TIME",
        end=None,
        tells=("total",),
        at_its_word=True,
        entity=("HOST_NAME (PHYSICAL)",),
        remade=True,
    ),
    INSTANCE_EVENTS: RawTable(
        label="published instance events",
        key=("INSTANCE_UUID", "EVENT", "FINISH_TIME"),
        required=names("INSTANCE_UUID")
        | texts("EVENT", "RESULT", "HOST_NAME (PHYSICAL)")
        | times("START_TIME", "FINISH_TIME"),
        # Sizes have columns in formats 0.1 and 0.2.
        optional=texts("PROJECT_ID", "PROPERTIES") | ints("VCPUS", "MEMORY_MB", "DISK_GB"),
        begin="START_TIME",
        end=None,
        tells=("occupied", "active"),
        at_its_word=True,
        entity=("INSTANCE_UUID",),
        names_hosts=False,  # not which, where it names Nova's compute service
        remade=True,
    ),
    LEASE_EVENTS: RawTable(
        label="lease events",
        key=("LEASE_UUID", "EVENT", "EVENT_TIME", "PROPERTIES"),
        required=texts("LEASE_UUID", "EVENT", "HOST_NAME (PHYSICAL)", "PROPERTIES")
        | times("EVENT_TIME"),
        optional=texts("PROJECT_ID"),
        begin="EVENT_TIME",
        end=None,
        tells=("committed",),
        at_its_word=True,
        entity=("LEASE_UUID",),
        names_hosts=False,  # a lost allocation's host is not known
        remade=True,
    ),
    "published.leases": RawTable(
        label="published leases",
        key=("lease_id",),
        required=texts("lease_id") | ints("node_cnt") | times("start_on", "end_on"),
        optional=texts("project_id", "node_type") | times("created_at", "deleted_at"),
        begin="start_on",
        end="end_on",
        tells=("committed",),
        at_its_word=True,
        names_hosts=False,
        remade=True,
    ),
}
"""Those of ``RAW_TABLES`` that are files of other makers."""
