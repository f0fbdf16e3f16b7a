"""Flags of Ironic, Nova and Blazar -> whether a host could be used, and since when that is known.

A flag is a state without a date. What dates it is its row: a row stands as it is since it was last
changed, by its audit table or earlier snapshots if there are any, else by its updated_at (or, if it
tells no cause and was never changed, its created_at), until it was changed again, or deleted, or
read. What it said before, nobody knows. nova.services' updated_at is a heartbeat: of a service that
is alive, one dump tells today's flag and nothing else.

Ironic speaks for its nodes and a compute service for its KVM hosts: where they tell no cause, a
host can be used. Of the others only a cause counts. Blazar does not know why a host in its pool
should not be used, and a compute service that stands for many Ironic nodes does not know theirs.
"""

from collections.abc import Mapping

import polars as pl

from chameleon_usage.ingest.base import concat, deleted_at, host_class, speaks_of
from chameleon_usage.intervals import arithmetic
from chameleon_usage.models.frames import conform
from chameleon_usage.models.metrics import STATUS
from chameleon_usage.models.raw import NODE_GONE
from chameleon_usage.models.raw_inputs import RawInputs
from chameleon_usage.models.stages import Ingested, StatusIntervals
from chameleon_usage.models.vocabulary import BROKEN, DISABLED, KVM, PLANNED

NODES, SERVICES = "ironic.nodes", "nova.services"
COMPUTE_NODES, COMPUTEHOSTS = "nova.compute_nodes", "blazar.computehosts"

FAILED = (
    *(f"{step} failed" for step in ("adopt", "clean", "deploy", "inspect", "rescue", "service")),
    "unrescue failed",
    "error",
)
"""Provision states in which Ironic leaves a node when a step fails, until somebody sees to it."""

NOT_OFFERED = ("enroll", "verifying", "manageable", "inspecting", "inspect wait", "adopting")
"""Provision states of a node that its operator does not offer, or not yet."""

OF_STATUS_TEXT = {
    "maintenance": PLANNED,
    "disabled": DISABLED,
    **dict.fromkeys(("down", "error", "failed"), BROKEN),
}
"""What an operator may write into blazar.computehosts.status: Blazar itself leaves it empty."""


def flags(inputs: RawInputs) -> Ingested:
    """ironic.nodes, nova.services and blazar.computehosts -> status."""
    return concat([_ironic(inputs), _nova(inputs), _blazar(inputs)])


def _ironic(inputs: RawInputs) -> Ingested:
    """Read what Ironic says of its nodes, whose uuid is their hypervisor_hostname.

    Ironic sets ``fault`` together with ``maintenance`` when it gives a node up; without it, the
    flag is its operator's. The provision state has a date of its own.
    """
    gone = pl.col(NODE_GONE.column).is_in(NODE_GONE.values)
    rows = _versions(inputs, NODES, pl.when(gone).then(NODE_GONE.at)).with_columns(
        hostname="uuid", _state=pl.coalesce("provision_updated_at", "_since")
    )
    state, fault = pl.col("provision_state"), pl.col("fault").is_not_null()
    status = _told(
        rows,
        NODES,
        speaks=pl.lit(value=True),
        causes={
            (BROKEN, "_since"): fault | (pl.col("power_state") == "error"),
            (BROKEN, "_state"): state.is_in(FAILED),
            (PLANNED, "_since"): (pl.col("maintenance") == 1) & ~fault,
            (DISABLED, "_since"): pl.col("retired") == 1,
            (DISABLED, "_state"): state.is_in(NOT_OFFERED),
        },
    )
    return _ingested(status, NODES, speaks=rows.height > 0)


def _nova(inputs: RawInputs) -> Ingested:
    """Read what compute services say of the hypervisors that they manage at the time."""
    services = _versions(inputs, SERVICES, deleted_at()).filter(pl.col("binary") == "nova-compute")
    told = _told(
        services.rename({"host": "hostname"}),
        SERVICES,
        # A service that never reported has no date, and was not necessarily never changed.
        speaks=pl.all_horizontal(pl.col("disabled", "_since").is_not_null()),
        causes={
            (BROKEN, "_since"): pl.col("forced_down") == 1,
            (DISABLED, "_since"): pl.col("disabled") == 1,
        },
    )
    hypervisors = inputs.get(COMPUTE_NODES).select(
        host=pl.coalesce("host", "hypervisor_hostname"),
        hostname="hypervisor_hostname",
        _class=host_class(),
        _made=pl.col("created_at").fill_null(arithmetic.MIN_TIME),
        _gone=deleted_at().fill_null(arithmetic.MAX_TIME),
    )
    # One service has many nodes, and snapshots know each of its heartbeats: united before joined.
    status = (
        arithmetic.union(told.rename({"hostname": "host"}), ["host", "cause", "source"])
        .join(hypervisors, on="host")
        .filter(pl.col("cause").is_not_null() | (pl.col("_class") == KVM))
        .with_columns(
            start=pl.max_horizontal("start", "_made"), end=pl.min_horizontal("end", "_gone")
        )
        .filter(pl.col("start") < pl.col("end"))
    )
    on_kvm = hypervisors.filter(pl.col("_class") == KVM)
    flagged = services.filter(pl.col("disabled").is_not_null())
    return _ingested(
        status, SERVICES, speaks=flagged.join(on_kvm, on="host", how="semi").height > 0
    )


def _blazar(inputs: RawInputs) -> Ingested:
    """Read why Blazar's hosts are out of use; of the others it tells nothing."""
    rows = _versions(inputs, COMPUTEHOSTS, deleted_at()).with_columns(
        hostname="hypervisor_hostname",
        _text=pl.col("status").str.to_lowercase().replace_strict(OF_STATUS_TEXT, default=None),
    )
    status = _told(
        rows,
        COMPUTEHOSTS,
        speaks=pl.lit(value=False),
        causes={
            (BROKEN, "_since"): pl.col("_text") == BROKEN,
            (PLANNED, "_since"): pl.col("_text") == PLANNED,
            (DISABLED, "_since"): (pl.col("_text") == DISABLED).fill_null(value=False)
            | (pl.col("disabled") == 1),
        },
    )
    return _ingested(status, COMPUTEHOSTS, speaks=False)


def _ingested(status: pl.DataFrame, source: str, *, speaks: bool) -> Ingested:
    """Give the status that a source tells, and whether it can say that hosts are usable."""
    said = {"completeness": speaks_of(source, STATUS)} if speaks else {}
    return Ingested(status=conform(status, StatusIntervals), **said)


def _versions(inputs: RawInputs, table: str, deleted: pl.Expr) -> pl.DataFrame:
    """Give a table's rows with their earlier versions, and when each is known to have stood so.

    Returns:
        the table's columns, ``_since`` (null: only known for the moment of the dump) and ``end``.
    """
    return inputs.versions(table).with_columns(
        _since=pl.coalesce("since", pl.min_horizontal("updated_at", "known")),
        end=pl.min_horizontal("until", deleted).fill_null(inputs.as_of),
    )


def _told(
    rows: pl.DataFrame, source: str, *, speaks: pl.Expr, causes: Mapping[tuple[str, str], pl.Expr]
) -> pl.DataFrame:
    """Say what rows tell of a host, one below the other.

    Args:
        rows: of ``_versions``, with ``hostname``.
        source: the table.
        speaks: whether a row that tells no cause says that its host can be used.
        causes: cause and the column that dates it, to whether a row tells it.

    Returns:
        hostname, start, end, cause (null: nothing against it), source.
    """
    any_cause = pl.any_horizontal(told.fill_null(value=False) for told in causes.values())
    # A row that was never changed and tells no cause told none from the beginning.
    from_birth = pl.when(~any_cause & pl.col("known").is_null()).then("created_at")
    parts = [
        rows.filter(speaks).with_columns(
            start=pl.coalesce("_since", from_birth), cause=pl.lit(None, pl.String)
        ),
        *(
            rows.filter(told).with_columns(start=date, cause=pl.lit(cause))
            for (cause, date), told in causes.items()
        ),
    ]
    return (
        pl.concat(
            part.select("hostname", "start", "end", "cause", source=pl.lit(source))
            for part in parts
        )
        .drop_nulls("hostname")
        .filter(pl.col("start") < pl.col("end"))
    )
