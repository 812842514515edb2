"""Finds what a service has, by links from its root, a few documents at a time.

Only what leads to readings is followed: no inventories, logs, accounts or certificates, which take
a BMC minutes. The most telling comes first, so that a walk that is not yet over is of use.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable, Mapping
from enum import IntEnum
from typing import NamedTuple

from collector.batch import SeriesKey
from collector.entity import Entity, Kind
from collector.read.coolant import Coolant
from collector.read.snmp.energy import Energy
from plugins.power.redfish.binding import Bindings
from plugins.power.redfish.document import Value, members, part, path_of, text, values
from plugins.power.redfish.transport import Document

TRIES = 3
MAX_DOCUMENTS = 3000  # of one walk; an NVL72 tray has about 500 that count, without $expand
MAX_MEMBERS = 1000  # of one collection, so that none keeps all the others from being read
_NO_READING = ("CoreUtil", "EDPViolation", "ThermalLimit")  # hundreds of sensors that are no watts


class Role(IntEnum):
    """What a resource is read for; the lower is read first."""

    ROOT = 0
    SYSTEM = 1
    EQUIPMENT = 2
    PDU = 3
    COOLING_UNIT = 4
    PDU_METRICS = 5
    MAINS = 6
    BRANCH = 7
    OUTLET = 8
    LOOP = 9
    PUMP = 10
    RESERVOIR = 11
    FILTER = 12
    UNIT_ENVIRONMENT = 13
    CHASSIS = 20
    CHASSIS_ENVIRONMENT = 21
    SENSOR = 22
    POWER_SUBSYSTEM = 23
    POWER_SUPPLY = 24
    POWER_SUPPLY_METRICS = 25
    THERMAL_SUBSYSTEM = 26
    THERMAL_METRICS = 27
    FAN = 28
    LEAK_DETECTION = 29
    LEAK_DETECTOR = 30
    POWER = 31
    THERMAL = 32
    TELEMETRY = 40
    REPORT = 41


class Owner(NamedTuple):
    """What the resources below a link belong to.

    Attributes:
        entity: A host, PDU or cooling unit.
        path: The resource that stands for it: a chassis or a piece of equipment.
        id: What the service calls that.
        outermost: The chassis is in no other one.
        detail: More, for one role: the side of a loop.
    """

    entity: Entity
    path: str = ""
    id: str = ""
    outermost: bool = False
    detail: str = ""


class Step(NamedTuple):
    """One request of the walk, ordered by role; what failed comes after all the rest."""

    late: int  # times that it was put off
    role: Role
    turn: int
    path: str
    owner: Owner
    expand: bool  # ask for the members, too
    tries: int = 0  # that failed


Reader = Callable[["Walk", Document, str, Owner], None]


class Walk:
    """One discovery.

    Args:
        readers: What to do with a resource, by role.
        target: Names the host and the equipment unless something better is known.
        host: Names the host, whatever the service says; empty for the service's word.
        name: Names the equipment; empty for `target`.
        coolant: What flows in the loops.
        energies: Counters of the walk before.

    Attributes:
        lost: Why a part could not be read that may be there.
        cut: There is more than is ever read.
    """

    def __init__(
        self,
        readers: Mapping[Role, Reader],
        target: str,
        host: str,
        name: str,
        coolant: Coolant = "water",
        energies: dict[SeriesKey, Energy] | None = None,
    ) -> None:
        self.bindings = Bindings(energies if energies is not None else {})
        self.supplies: dict[str, frozenset[str]] = {}
        self.reports: set[str] = set()
        self.owned: dict[str, Owner] = {}
        self.units: list[Entity] = []
        self.host_name = host or target
        self.coolant: Coolant = coolant
        self.named = bool(host)
        self._name = name or target
        self._readers = readers
        self.lost: Exception | None = None
        self.cut = False
        self._late = 0
        self._queue: list[Step] = []
        self._turns = itertools.count()
        self._asked: set[str] = set()
        self._expand = ""

    def start(self, root: Document) -> None:
        """Begin with the service root."""
        query = part(root, "ProtocolFeaturesSupported", "ExpandQuery")
        levels = part(query, "Levels") is True
        sign = "." if part(query, "NoLinks") is True else "*"
        known = part(query, "NoLinks") is True or part(query, "ExpandAll") is True
        self._expand = f"?$expand={sign}($levels=1)" if levels and known else ""
        self.follow(root, ROOT_LINKS, self.host)

    @property
    def host(self) -> Owner:
        """The host that the service manages."""
        return Owner(Kind.HOST(self.host_name))

    def unit(self, kind: Kind, id_: str) -> Entity:
        """Name a piece of equipment: the first by the config, further ones by their id as well."""
        first = not any(unit.kind is kind for unit in self.units)
        entity = kind(self._name if first else f"{self._name}/{id_}")
        self.units.append(entity)
        return entity

    def follow(self, document: Document, links: Mapping[str, Role], owner: Owner) -> None:
        """Note what to read next of the links that a resource has."""
        for name, role in links.items():
            self.ask(path_of(document.get(name)), role, owner, expand=name in EXPANDED)

    def ask(self, path: str, role: Role, owner: Owner, *, expand: bool = False) -> None:
        """Note one resource or collection, once."""
        if not path or path in self._asked:
            return
        if len(self._asked) >= MAX_DOCUMENTS:
            self.cut = True
            return
        self._asked.add(path)
        self._push(path, role, owner, expand=expand)

    @property
    def over(self) -> bool:
        """Nothing is left to ask for."""
        return not self._queue

    def next(self, count: int) -> list[Step]:
        """Take up to `count` steps of one role that are not put off, if there are any for now."""
        steps: list[Step] = []
        while self._queue and len(steps) < count and self._queue[0].late <= self._late:
            if steps and self._queue[0][:2] != steps[0][:2]:
                break
            steps.append(heapq.heappop(self._queue))
        return steps

    def put_back(self, step: Step) -> None:
        """Note a step again that could not be taken for now."""
        heapq.heappush(self._queue, step)

    def request(self, step: Step) -> str:
        """What to ask for: with $expand where that may save requests."""
        return step.path + self._expand if step.expand else step.path

    def take(self, step: Step, document: Document) -> list[Value]:
        """Read an answer, note what follows from it and return the values in it."""
        found = list(values(document, step.path))
        self.supplies[self.request(step)] = frozenset(value.address for value in found)
        if "Members" not in document:
            self._read(step.role, document, step.path, step.owner)
            return found
        there = members(document)
        self.cut |= len(there) > MAX_MEMBERS
        for member in there[:MAX_MEMBERS]:
            path = path_of(member)
            if len(member) > 1 and path not in self._asked:
                self._asked.add(path)
                self._read(step.role, member, path, step.owner)
            elif not (step.role is Role.SENSOR and any(one in path for one in _NO_READING)):
                self.ask(path, step.role, step.owner)
        return found

    def try_again(self) -> None:
        """Let `next` give what failed, too, once all else is done."""
        if self._queue:
            self._late = max(self._late, self._queue[0].late)

    def failed(self, step: Step, error: Exception) -> None:
        """Note a request that failed.

        It is asked for without $expand, then again after all the rest, see `try_again`.
        """
        if self.request(step) != step.path:
            self.put_back(step._replace(expand=False))
        elif step.tries + 1 < TRIES:
            # Whatever is found takes its name from the system.
            late = 0 if step.role is Role.SYSTEM else step.late + 1
            self.put_back(step._replace(late=late, tries=step.tries + 1))
        else:
            self.lost = error

    def _push(self, path: str, role: Role, owner: Owner, *, expand: bool) -> None:
        heapq.heappush(self._queue, Step(0, role, next(self._turns), path, owner, expand))

    def _read(self, role: Role, document: Document, path: str, owner: Owner) -> None:
        if role is Role.REPORT:
            self.reports.add(path)
        elif role is Role.TELEMETRY:
            self.follow(document, {"MetricReports": Role.REPORT}, owner)
        elif role is Role.EQUIPMENT:
            self.follow(document, EQUIPMENT_LINKS, owner)
        elif role is Role.SYSTEM:
            name = text(document, "HostName")
            if name and not self.named:
                self.host_name, self.named = name, True
        elif role in self._readers:
            self._readers[role](self, document, path, owner)


ROOT_LINKS = {
    "Systems": Role.SYSTEM,
    "PowerEquipment": Role.EQUIPMENT,
    "ThermalEquipment": Role.EQUIPMENT,
    "Chassis": Role.CHASSIS,
    "TelemetryService": Role.TELEMETRY,
}
# DMTF DSP2046, PowerEquipment and ThermalEquipment. A busbar is no meter of its own: its mains are
# the outlets of shelves.
EQUIPMENT_LINKS = {
    "RackPDUs": Role.PDU,
    "FloorPDUs": Role.PDU,
    "PowerShelves": Role.PDU,
    "TransferSwitches": Role.PDU,
    "Switchgear": Role.PDU,
    "CDUs": Role.COOLING_UNIT,
    "HeatExchangers": Role.COOLING_UNIT,
    "ImmersionUnits": Role.COOLING_UNIT,
    "RPUs": Role.COOLING_UNIT,
}
# Links to collections whose members are asked for together where the service can do that.
EXPANDED = frozenset(
    (
        "Branches",
        "Fans",
        "Filters",
        "LeakDetectors",
        "Mains",
        "Outlets",
        "PowerSupplies",
        "PrimaryCoolantConnectors",
        "Pumps",
        "Reservoirs",
        "SecondaryCoolantConnectors",
        "Sensors",
    )
)
