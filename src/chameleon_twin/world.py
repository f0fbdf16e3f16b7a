"""One simulated site: everything that happened there, before any table is written."""

from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from . import demand, fleet, lifecycle, scheduler, vms
from .calibration import PROJECTS, USERS_PER_PROJECT, Calibration
from .ids import hexes, source, uuids
from .lifecycle import Instances
from .scheduler import Schedule


@dataclass(frozen=True)
class World:
    """The simulated history of a site and the identifiers of what took part in it.

    `project` is the project of each lease; `flavor` the flavor of each lease on KVM.
    """

    cal: Calibration
    seed: int
    fleet: fleet.Fleet
    plan: Schedule
    instances: Instances
    project: NDArray[np.int64]
    flavor: NDArray[np.int64]
    projects: pl.Series
    users: pl.Series
    lease_id: pl.Series
    reservation_id: pl.Series
    instance_id: pl.Series

    @property
    def kind(self) -> str:
        """baremetal, kvm or device."""
        return str(self.cal.facts["cloud_class"])

    def rng(self, purpose: str) -> np.random.Generator:
        """A random source of its own for each purpose."""
        return source(self.seed, self.cal.site, purpose)

    def user_of(self, project: NDArray[np.int64], rng: np.random.Generator) -> pl.Series:
        """A user of each project."""
        return self.users.gather(
            project * USERS_PER_PROJECT + rng.integers(0, USERS_PER_PROJECT, len(project))
        )


def simulate(cal: Calibration, seed: int) -> World:
    """Play the whole history of a site."""
    machines = fleet.build(cal, seed)
    rng = source(seed, cal.site, "identifiers")
    if cal.facts["cloud_class"] == "kvm":
        machines, enrolments, closed = vms.pool_plan(cal, machines, seed)
        plan, flavor, instances = vms.run(cal, machines, closed, enrolments, seed)
        project = np.arange(len(plan.leases)) % PROJECTS
    else:
        level = demand.target_level(cal, "committed", demand.per_hour(cal, machines.pool))
        table = "device_allocations" if cal.facts["cloud_class"] == "device" else None
        n = cal.rows(f"blazar.{table or 'computehost_reservations'}")
        wishes = demand.requests(cal, machines, level, int(n * 0.94) if table else n, seed)
        plan = scheduler.run(cal, machines, wishes, level, seed)
        flavor = np.zeros(len(plan.leases), dtype=np.int64)
        project = np.minimum(rng.zipf(1.25, len(plan.leases)) - 1, PROJECTS - 3)
        # The two robots have a project each.
        project[plan.leases.robot] = PROJECTS - 1 - rng.integers(0, 2, plan.leases.robot.sum())
        instances = lifecycle.on_nodes(cal, plan, project, seed)
    return World(
        cal, seed, machines, plan, instances, project, flavor,
        projects=hexes(rng, PROJECTS),
        users=hexes(rng, PROJECTS * USERS_PER_PROJECT),
        lease_id=uuids(rng, len(plan.leases)),
        reservation_id=uuids(rng, len(plan.leases)),
        instance_id=uuids(rng, len(instances)),
    )  # fmt: skip
