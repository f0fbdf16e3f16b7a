"""A Nova cloud in one process, on a real database and a virtual clock.

Runs in an environment that has Nova and Placement (``nova-<release>.lock``), not in the project's.
Nova's own functional fixtures start API, conductor, scheduler and compute services; only the
hypervisor is replaced, by a driver that takes virtual time for what it does and tells a listener
what it really did. Nothing here reads the databases.
"""

from __future__ import annotations

import collections
import concurrent.futures
import contextlib
import datetime as dt
import logging
import random
import sys
import threading
import time
import types
import uuid
from pathlib import Path
from typing import TYPE_CHECKING
from unittest import mock

import fixtures
import nova.conf as nova_conf
import oslo_messaging
from nova import context as nova_context
from nova import objects
from nova import test as nova_test  # noqa: F401 - makes threads green, before others use them
from nova import utils as nova_utils
from nova.compute import power_state
from nova.db import migration
from nova.db.api import api as api_db
from nova.db.main import api as main_db
from nova.tests import fixtures as nova_fixtures
from nova.tests.functional import integrated_helpers
from nova.tests.functional.api import client as api_client
from nova.virt import driver as virt_driver
from nova.virt import fake, hardware
from nova.virt.ironic import driver as ironic_driver
from oslo_messaging._drivers import impl_fake
from oslo_utils import timeutils

try:
    from nova import thread_pool_factory
except ImportError:  # before 2026
    thread_pool_factory = None

START = dt.datetime(2024, 1, 1, microsecond=1)  # noqa: DTZ001 - the services keep naive UTC
"""With a microsecond: without any, Nova writes times in a form that it does not read."""
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

RESOURCE_CLASS = "CUSTOM_BAREMETAL"


class Clock:
    """The time that all services read."""

    def __init__(self) -> None:
        self.now = START

    def utcnow(self, with_timezone: bool = False) -> dt.datetime:
        return self.now.replace(tzinfo=dt.UTC) if with_timezone else self.now

    def utcnow_ts(self, microsecond: bool = False) -> float:
        seconds = self.utcnow(with_timezone=True).timestamp()
        return seconds if microsecond else int(seconds)

    def advance(self, **delta: float) -> dt.datetime:
        """Let time pass."""
        self.now += dt.timedelta(**delta)
        return self.now

    def until(self, moment: dt.datetime) -> None:
        """Let time pass until a moment."""
        if moment < self.now:
            raise ValueError(f"it is {self.now} already, later than {moment}")
        self.advance(seconds=(moment - self.now).total_seconds())


class Physical:
    """What the machines do, told by the drivers. ``Listener`` methods are the truth's sources."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.nodes: dict[str, list[str]] = {}
        """Names of the nodes of a compute service."""
        self.size: dict[str, tuple[int, int, int]] = {}
        """vcpus, memory_mb and local_gb of a node."""
        self.ironic: set[str] = set()
        """The nodes that Ironic has a record of."""
        self.faults: dict[str, list[str]] = collections.defaultdict(list)
        """Driver methods that are to fail next, by service or node ("" for any)."""
        self.listeners: list[Callable[[str, str, str, int], None]] = []
        self.duration = {"spawn": 120, "power": 10, "move": 240, "destroy": 20}

    def tell(self, what: str, node: str, instance: str, vcpus: int) -> None:
        for listener in self.listeners:
            listener(what, node, instance, vcpus)

    def take(self, what: str, *, ironic: bool) -> None:
        self.clock.advance(seconds=self.duration[what] * (5 if ironic else 1))

    def fails(self, what: str, *places: str) -> None:
        for place in (*places, ""):
            if what in self.faults[place]:
                self.faults[place].remove(what)
                raise RuntimeError(f"{what} failed on {places}")


PHYSICAL: Physical


class Hypervisor(fake.FakeDriver):
    """A hypervisor of 'QEMU' type, or many nodes of 'ironic' type."""

    def __init__(self, virtapi: object, read_only: bool = False) -> None:
        super().__init__(virtapi, read_only)
        self.ironic = False
        self.rebalances_nodes = False

    def init_host(self, host: str) -> None:
        self._host = host
        self._set_nodes(PHYSICAL.nodes[host])
        self.ironic = self._nodes[0] in PHYSICAL.ironic if self._nodes else True
        self.rebalances_nodes = self.ironic
        # Its guests survived the service.
        self.instances = GUESTS[host]

    @property
    def _only(self) -> str:
        return self._nodes[0]

    def _node(self, instance: object) -> str:
        return (instance.node or self._only) if self.ironic else self._only

    def _tell(self, what: str, instance: object, vcpus: int | None = None) -> None:
        size = instance.flavor.vcpus if vcpus is None else vcpus
        PHYSICAL.tell(what, self._node(instance), instance.uuid, size)

    # --- what it has
    def get_available_nodes(self, refresh: bool = False) -> list[str]:
        return PHYSICAL.nodes[self._host]

    def get_nodenames_by_uuid(self, refresh: bool = False) -> dict[str, str]:
        return {node_uuid(name): name for name in self.get_available_nodes()}

    def is_node_deleted(self, nodename: str) -> bool:
        return nodename not in PHYSICAL.ironic

    def node_is_available(self, nodename: str) -> bool:
        return nodename in self.get_available_nodes()

    def get_available_resource(self, nodename: str) -> dict[str, object]:
        told = super().get_available_resource(nodename)
        if not told:
            return told
        vcpus, memory_mb, local_gb = (0, 0, 0) if self.ironic else PHYSICAL.size[nodename]
        told |= {
            "vcpus": vcpus,
            "memory_mb": memory_mb,
            "local_gb": local_gb,
            "vcpus_used": 0,
            "memory_mb_used": 0,
            "local_gb_used": 0,
            "hypervisor_type": "ironic" if self.ironic else "QEMU",
            "uuid": node_uuid(nodename),
        }
        return told

    def update_provider_tree(self, provider_tree, nodename, allocations=None) -> None:
        if self.ironic:
            unit = {"total": 1, "reserved": 0, "min_unit": 1, "max_unit": 1, "step_size": 1}
            unit["allocation_ratio"] = 1.0
            provider_tree.update_inventory(nodename, {RESOURCE_CLASS: unit})
            return
        self.vcpus, self.memory_mb, self.local_gb = PHYSICAL.size[nodename]
        super().update_provider_tree(provider_tree, nodename, allocations)

    # --- what it does
    def spawn(self, context, instance, *args, power_on: bool = True, **more) -> None:
        self._tell("building", instance)
        PHYSICAL.take("spawn", ironic=self.ironic)
        PHYSICAL.fails("spawn", self._host, self._node(instance))
        super().spawn(context, instance, *args, power_on=power_on, **more)
        self._tell("running" if power_on else "off", instance)

    def destroy(self, context, instance, *args, **more) -> None:
        PHYSICAL.take("destroy", ironic=self.ironic)
        super().destroy(context, instance, *args, **more)
        self._tell("gone", instance)

    def _power(self, method: str, state: int, instance: object) -> None:
        PHYSICAL.fails(method, self._host, self._node(instance))
        PHYSICAL.take("power", ironic=self.ironic)
        self.instances[instance.uuid].state = state
        self._tell("running" if state == power_state.RUNNING else "off", instance)

    def power_off(self, instance, *args, **more) -> None:
        self._power("power_off", power_state.SHUTDOWN, instance)

    def power_on(self, context, instance, *args, **more) -> None:
        self._power("power_on", power_state.RUNNING, instance)

    def reboot(self, context, instance, *args, **more) -> None:
        self._power("reboot", power_state.RUNNING, instance)

    def pause(self, instance) -> None:
        self._power("pause", power_state.PAUSED, instance)

    def unpause(self, instance) -> None:
        self._power("unpause", power_state.RUNNING, instance)

    def suspend(self, context, instance) -> None:
        self._power("suspend", power_state.SUSPENDED, instance)

    def resume(self, context, instance, *args, **more) -> None:
        self._power("resume", power_state.RUNNING, instance)

    def rescue(self, context, instance, *args, **more) -> None:
        self._power("rescue", power_state.RUNNING, instance)
        self._tell("off", instance)  # another system runs on it, to mend it

    def unrescue(self, *args) -> None:
        instance = next(one for one in args if hasattr(one, "uuid"))
        self._power("unrescue", power_state.RUNNING, instance)

    def soft_delete(self, instance) -> None:
        self._power("soft_delete", power_state.SHUTDOWN, instance)

    def restore(self, instance) -> None:
        self._power("restore", power_state.RUNNING, instance)

    def power_update_event(self, instance, target_power_state) -> None:
        # The machine changed before Nova heard of it; see Cloud.power_outside.
        ironic_driver.IronicDriver.power_update_event(self, instance, target_power_state)

    # --- moves
    def migrate_disk_and_power_off(self, context, instance, *args, **more) -> str:
        PHYSICAL.fails("migrate_disk_and_power_off", self._host)
        self.instances[instance.uuid].state = power_state.SHUTDOWN
        old = instance.old_flavor.vcpus if instance.old_flavor else None
        PHYSICAL.tell("off", self._only, instance.uuid, old or instance.flavor.vcpus)
        PHYSICAL.take("move", ironic=self.ironic)
        return "{}"

    def finish_migration(self, context, migration, instance, *args, **more) -> None:
        PHYSICAL.fails("finish_migration", self._host)
        PHYSICAL.take("power", ironic=self.ironic)
        self._arrived(instance, args[6] if len(args) > 6 else more.get("power_on", True))

    def finish_revert_migration(self, context, instance, *args, **more) -> None:
        PHYSICAL.take("power", ironic=self.ironic)
        self._arrived(instance, args[3] if len(args) > 3 else more.get("power_on", True))

    def _arrived(self, instance: object, power_on: bool) -> None:
        state = power_state.RUNNING if power_on else power_state.SHUTDOWN
        self.instances[instance.uuid] = fake.FakeInstance(instance.name, state, instance.uuid)
        self._tell("moved", instance)
        self._tell("running" if power_on else "off", instance)

    def confirm_migration(self, context, migration, instance, network_info) -> None:
        if migration.source_compute != migration.dest_compute:
            self.instances.pop(instance.uuid, None)

    def live_migration(self, context, instance, dest, post_method, recover_method, *args, **more):
        PHYSICAL.take("move", ironic=self.ironic)
        if "live_migration" in PHYSICAL.faults[self._host]:
            PHYSICAL.faults[self._host].remove("live_migration")
            recover_method(context, instance, dest, migrate_data=more.get("migrate_data", args[-1]))
            return
        super().live_migration(context, instance, dest, post_method, recover_method, *args, **more)

    def post_live_migration(self, context, instance, *args, **more) -> None:
        state = self.instances.pop(instance.uuid).state
        IN_FLIGHT[instance.uuid] = state

    def post_live_migration_at_destination(self, context, instance, *args, **more) -> None:
        state = IN_FLIGHT.pop(instance.uuid, power_state.RUNNING)
        self.instances[instance.uuid] = fake.FakeInstance(instance.name, state, instance.uuid)
        PHYSICAL.tell("moved", self._only, instance.uuid, instance.flavor.vcpus)

    def get_info(self, instance, use_cache: bool = True):
        if self.ironic and instance.uuid in self.instances:
            return hardware.InstanceInfo(state=self.instances[instance.uuid].state)
        return super().get_info(instance, use_cache)


GUESTS: dict[str, dict[str, fake.FakeInstance]] = collections.defaultdict(dict)
IN_FLIGHT: dict[str, int] = {}


GENERATION: dict[str, int] = collections.defaultdict(int)
"""How often a node was recorded anew, under the same name."""


def node_uuid(name: str) -> str:
    """Give the uuid of a node: it stays while the node's record (Ironic's, or its own) does."""
    return str(uuid.uuid5(uuid.NAMESPACE_DNS, f"{name}/{GENERATION[name]}"))


class Task(concurrent.futures.Future):
    """A task whose turn is to come or was; in the form of a future or a green thread."""

    def run(self, task: Callable[..., object], *args: object, **more: object) -> None:
        try:
            self.set_result(task(*args, **more))
        except Exception as error:  # noqa: BLE001
            self.set_exception(error)

    wait = concurrent.futures.Future.result
    kill = concurrent.futures.Future.cancel


LATER = {"LIVE_MIGRATION", "LONG_TASK", "SYNC_POWER"}
"""Executors whose tasks nobody waits for."""
MANAGERS = ("nova.compute.manager", "nova.utils")
"""Modules that put such tasks into pools, in releases without those executors."""


FIRST_CELL = "nova_cell0"


class Databases(nova_fixtures.CellDatabases):
    """Cells in databases of a server rather than in memory."""

    def add_cell_database(self, connection_str: str, default: bool = False) -> None:
        schema = f"nova_cell{len(self._ctxt_mgrs)}"
        manager = main_db.create_context_manager(connection=f"{Cloud.server}/{schema}")
        self._ctxt_mgrs[connection_str] = manager
        self._last_ctxt_mgr = manager
        if self._default_ctxt_mgr is None or default:
            self._default_ctxt_mgr = manager
        if schema != FIRST_CELL:
            # As the migrations left the first one, in a tenth of their time.
            with manager.writer.get_engine().begin() as database:
                sql = database.exec_driver_sql
                sql("SET foreign_key_checks = 0")
                for (name,) in sql(f"SHOW TABLES FROM {FIRST_CELL}").fetchall():
                    sql(sql(f"SHOW CREATE TABLE {FIRST_CELL}.{name}").fetchone()[1])
            return
        with mock.patch("nova.db.main.api.get_context_manager", return_value=manager):
            migration.db_sync(database="main")


class Cloud(integrated_helpers._IntegratedTestBase):
    """The services, and what operators and users can ask of them.

    Attributes:
        server: ``mysql+pymysql://user:password@host:port`` of the databases nova_api, nova_cell0,
            nova_cell1 and nova_cell2, which exist and are empty.
        story: what happens; called with the cloud.
    """

    NUMBER_OF_CELLS = 2
    ADMIN_API = True
    server: str
    story: Callable[[Cloud], None]
    seed = 1

    # --- start
    def setUp(self) -> None:
        global PHYSICAL  # noqa: PLW0603 - drivers are made by the services
        self.clock = Clock()
        self.physical = PHYSICAL = Physical(self.clock)
        self._beaten = START
        logging.disable(logging.ERROR)  # Nova's fixture formats every line, to test that it can
        self._turns: collections.deque[Callable[[], object]] = collections.deque()
        self._stub_uuids()
        self._stub_spawns()
        self._stub_casts()
        self._stub_queues()
        # A service that is taken down here would delete its own record.
        self.useFixture(fixtures.MonkeyPatch("nova.service.Service.kill", lambda _: None))
        configure = api_db.configure

        def configured(conf) -> None:
            conf.set_override("connection", f"{self.server}/nova_api", "api_database")
            configure(conf)

        sync = lambda it: migration.db_sync(database=it.database)  # noqa: E731
        for target, name, new in (
            (timeutils, "utcnow", self.clock.utcnow),
            (timeutils, "utcnow_ts", self.clock.utcnow_ts),
            (api_db, "configure", configured),
            (nova_fixtures.Database, "_apply_schema", sync),
            (nova_fixtures, "CellDatabases", Databases),
            (nova_fixtures, "CastAsCallFixture", lambda _: fixtures.Fixture()),
            (nova_fixtures, "StandardLogging", fixtures.Fixture),
            (virt_driver, "load_compute_driver", lambda virtapi, *_: Hypervisor(virtapi)),
        ):
            self.useFixture(fixtures.MockPatchObject(target, name, new))
        super().setUp()

    def _setup_services(self) -> None:
        paste = Path(sys.prefix) / "etc" / "nova" / "api-paste.ini"
        self.flags(api_paste_config=str(paste), group="wsgi")
        self.flags(driver="nova.quota.NoopQuotaDriver", group="quota")
        self.flags(host="controller")
        # Who is down is told by an operator (forced_down).
        self.flags(report_interval=0, service_down_time=10**9)
        if hasattr(nova_conf.CONF.api, "response_validation"):
            self.flags(response_validation="ignore", group="api")
        self.flags(cpu_allocation_ratio=4.0, ram_allocation_ratio=4.0, disk_allocation_ratio=4.0)
        super()._setup_services()
        self.api.microversion = self.admin_api.microversion = "2.90"

    def _setup_compute_service(self) -> None:
        return None

    def _stub_uuids(self) -> None:
        """Make uuids repeatable: those of the services' own records from a seeded generator."""
        of_records = random.Random(self.seed)  # noqa: S311
        self.useFixture(
            fixtures.MonkeyPatch(
                "oslo_utils.uuidutils.generate_uuid",
                lambda dashed=True: (str if dashed else lambda it: it.hex)(
                    uuid.UUID(int=of_records.getrandbits(128), version=4)
                ),
            )
        )
        random.seed(self.seed)

    def _stub_queues(self) -> None:
        """Let queues in memory wait for messages, rather than look for them all the time."""
        arrival = [threading.Event()]
        deliver = impl_fake.FakeExchange.deliver_message

        def delivered(*message: object, **more: object) -> None:
            deliver(*message, **more)
            arrived, arrival[0] = arrival[0], threading.Event()
            arrived.set()

        clock = types.SimpleNamespace(time=time.time, sleep=lambda _: arrival[0].wait(0.5))
        for owner, name, stub in (
            (impl_fake.FakeExchange, "deliver_message", delivered),
            (impl_fake, "time", clock),
        ):
            self.useFixture(fixtures.MockPatchObject(owner, name, stub))

    def _stub_spawns(self) -> None:
        """Do one thing after the other: what is to be waited for at once, the rest in its turn."""

        def later(task: Callable[..., object], *args: object, **more: object) -> Task:
            future = Task()
            self._turns.append(lambda: future.run(task, *args, **more))
            return future

        def at_once(task: Callable[..., object], *args: object, **more: object) -> Task:
            future = Task()
            future.run(task, *args, **more)
            return future

        def on(executor: object, *of_task: object, **more: object) -> Task:
            return (later if executor.name in LATER else at_once)(*of_task, **more)

        if thread_pool_factory:
            stubs = [(thread_pool_factory, "spawn", at_once), (thread_pool_factory, "spawn_on", on)]
        else:
            import eventlet
            import futurist

            def of_nova(
                original: Callable[..., object], what: Callable[..., object], *callers: str
            ):
                def stub(*args: object, **more: object) -> object:
                    if sys._getframe(1).f_globals["__name__"] not in callers:
                        return original(*args, **more)
                    of_task = args if callable(args[0]) else args[1:]  # without the pool
                    return what(*of_task, **more)

                return stub

            pools = (eventlet.GreenPool, "spawn_n"), (futurist.GreenThreadPoolExecutor, "submit")
            stubs = [
                # Asking all cells must not be done at once: each may want the others' lock.
                (nova_utils, "spawn", of_nova(nova_utils.spawn, at_once, "nova.network.model")),
                (nova_utils, "spawn_n", later),
                # The services' own queues have such pools, too.
                *(
                    (pool, name, of_nova(getattr(pool, name), later, *MANAGERS))
                    for pool, name in pools
                ),
            ]
        for owner, name, stub in stubs:
            self.useFixture(fixtures.MockPatchObject(owner, name, stub))

    def runTest(self) -> None:  # noqa: N802 - unittest's name
        type(self).story(self)

    # --- waiting
    def _stub_casts(self) -> None:
        """Keep messages that nobody waits for, to deliver them one by one and in order.

        The result is one of those that a message bus can give, and the same each time.
        """
        send = oslo_messaging.transport.Transport._send

        def deferred(transport, target, ctxt, message, wait_for_reply=None, **more):
            if wait_for_reply or target.fanout:
                return send(transport, target, ctxt, message, wait_for_reply, **more)
            self._turns.append(lambda: send(transport, target, ctxt, message, True, timeout=60))
            return None

        patch = fixtures.MockPatchObject(oslo_messaging.transport.Transport, "_send", deferred)
        self.useFixture(patch)

    def settle(self) -> None:
        """Deliver what is to be delivered and do what was put off, until there is nothing left."""
        while self._turns:
            # Whoever sent it does not hear of its failure either.
            with contextlib.suppress(Exception):
                self._turns.popleft()()

    def beat(self, *, anyway: bool = False) -> None:
        """Let every service that runs report that it does, once a day."""
        if anyway or self.clock.now - self._beaten >= dt.timedelta(days=1):
            self._beaten = self.clock.now
            for service in [self.conductor, self.scheduler, *self.computes.values()]:
                service.servicegroup_api._driver._report_state(service)

    # --- operators
    def enrol(self, host: str, *, cell: str = "cell1") -> None:
        """Start a compute service; its nodes are those that ``physical`` has."""
        if host not in self.host_mappings:
            mapping = objects.HostMapping(
                context=nova_context.get_context(), host=host, cell_mapping=self.cell_mappings[cell]
            )
            mapping.create()
            self.host_mappings[host] = mapping
        self._start_compute(host, cell_name=cell)
        self.settle()

    def stop_service(self, host: str) -> None:
        """Stop a compute service, as a crash would."""
        self.computes.pop(host).stop()

    def periodic(self, name: str = "update_available_resource") -> None:
        """Run a periodic task of every compute service."""
        admin = nova_context.get_admin_context()
        for host, service in self.computes.items():
            cell = self.host_mappings[host].cell_mapping
            with nova_context.target_cell(admin, cell) as inside:
                getattr(service.manager, name)(inside)
            self.settle()

    def service_id(self, host: str) -> str:
        services = self.admin_api.get_services(host=host, binary="nova-compute")
        return services[0]["id"]

    def set_service(self, host: str, **state: object) -> None:
        self.admin_api.put_service(self.service_id(host), state)

    def takes_machines(self, host: str) -> bool:
        """Tell whether an operator left a service enabled."""
        services = self.admin_api.get_services(host=host, binary="nova-compute")
        return services[0]["status"] == "enabled"

    def remove_service(self, host: str) -> None:
        self.admin_api.api_delete(f"/os-services/{self.service_id(host)}")
        self.host_mappings.pop(host, None)

    def project(self, project_id: str) -> api_client.TestOpenStackClient:
        """A client of a project, with the rights of an administrator."""
        client = api_client.TestOpenStackClient(
            "admin",
            self.admin_api.base_url,
            project_id=project_id,
            roles=["reader", "member", "admin"],
        )
        client.microversion = "2.90"
        return client

    def act(self, server: str, action: str, body: object = None) -> None:
        """Ask for an action on a server, and wait for its end."""
        self.api.post_server_action(server, {action: body})
        self.settle()

    def find(self, server: str) -> bool:
        """Tell whether a server can still be seen."""
        try:
            self.api.get_server(server)
        except api_client.OpenStackApiNotFoundException:
            return False
        return True

    def power_changed(self, server: str, target: str) -> None:
        """Tell Nova that a machine's power changed, as Ironic does."""
        event = {"name": "power-update", "server_uuid": server, "tag": target}
        self.api.api_post("/os-server-external-events", {"events": [event]})
        self.settle()

    # --- housekeeping
    def _each_cell(self) -> Iterator[object]:
        admin = nova_context.get_admin_context()
        for name in sorted(self.cell_mappings):
            with nova_context.target_cell(admin, self.cell_mappings[name]) as inside:
                yield inside

    def archive(self, before: dt.datetime) -> None:
        """Move rows of what was deleted before a time to the shadow tables."""
        for inside in self._each_cell():
            moved = 1
            while moved:
                _, uuids, moved = main_db.archive_deleted_rows(inside, max_rows=1000, before=before)
                if uuids:
                    objects.InstanceMappingList.destroy_bulk(inside, uuids)
                    objects.RequestSpec.destroy_bulk(inside, uuids)

    def purge(self, before: dt.datetime) -> None:
        """Delete archived rows of what was deleted before a time."""
        for inside in self._each_cell():
            main_db.purge_shadow_tables(inside, before)

    @contextlib.contextmanager
    def options(self, **values: object) -> Iterator[None]:
        """Set options of all services for a while."""
        before = {name: nova_conf.CONF[name] for name in values}
        self.flags(**values)
        yield
        self.flags(**before)
