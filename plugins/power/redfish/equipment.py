"""Power equipment: rack and floor PDUs, power shelves, power supplies (DMTF DSP2046).

PowerDistribution, PowerDistributionMetrics, Circuit, Outlet, PowerSupply, PowerSupplyMetrics.
Energy is in kWh there, everything else in base units.
"""

from __future__ import annotations

from collector.batch import SeriesKey
from collector.catalog import power, thermal
from collector.entity import Entity, Kind
from collector.metric import Metric
from plugins.power.redfish.binding import Need, excerpt
from plugins.power.redfish.document import part, path_of, text
from plugins.power.redfish.transport import Document
from plugins.power.redfish.walk import Owner, Role, Walk

KWH = 3.6e6  # joules
PERCENT = 0.01

HEALTH = {"OK": "ok", "Warning": "warning", "Critical": "critical"}
# Resource.State; Standby is Lite-On's own.
SUPPLY_STATES = {
    "Enabled": "enabled",
    "Degraded": "enabled",
    "Quiesced": "enabled",
    "InTest": "enabled",
    "Updating": "enabled",
    "Standby": "standby",
    "StandbyOffline": "standby",
    "StandbySpare": "standby",
    "Disabled": "disabled",
    "Absent": "absent",
    "UnavailableOffline": "unavailable",
}

# Property, value within the excerpt, factor.
Rows = tuple[tuple[Metric, str, str, float], ...]
_SUMMARY: Rows = (
    (power.PDU_APPARENT_POWER, "PowerWatts", "ApparentVA", 1.0),
    (power.PDU_POWER_FACTOR, "PowerWatts", "PowerFactor", 1.0),
    (power.PDU_ENERGY, "EnergykWh", "Reading", KWH),
)
_INLET: Rows = (
    (power.INLET_POWER, "PowerWatts", "Reading", 1.0),
    (power.INLET_APPARENT_POWER, "PowerWatts", "ApparentVA", 1.0),
    (power.INLET_POWER_FACTOR, "PowerWatts", "PowerFactor", 1.0),
    (power.INLET_CURRENT, "CurrentAmps", "Reading", 1.0),
    (power.INLET_VOLTAGE, "Voltage", "Reading", 1.0),
    (power.INLET_FREQUENCY, "FrequencyHz", "Reading", 1.0),
    (power.INLET_ENERGY, "EnergykWh", "Reading", KWH),
)
_OUTLET: Rows = (
    (power.OUTLET_POWER, "PowerWatts", "Reading", 1.0),
    (power.OUTLET_APPARENT_POWER, "PowerWatts", "ApparentVA", 1.0),
    (power.OUTLET_POWER_FACTOR, "PowerWatts", "PowerFactor", 1.0),
    (power.OUTLET_CURRENT, "CurrentAmps", "Reading", 1.0),
    (power.OUTLET_VOLTAGE, "Voltage", "Reading", 1.0),
    (power.OUTLET_FREQUENCY, "FrequencyHz", "Reading", 1.0),
    (power.OUTLET_ENERGY, "EnergykWh", "Reading", KWH),
)
_PHASE: Rows = (
    (power.PHASE_POWER, "PolyPhasePowerWatts", "Reading", 1.0),
    (power.PHASE_APPARENT_POWER, "PolyPhasePowerWatts", "ApparentVA", 1.0),
    (power.PHASE_POWER_FACTOR, "PolyPhasePowerWatts", "PowerFactor", 1.0),
    (power.PHASE_VOLTAGE, "PolyPhaseVoltage", "Reading", 1.0),
)
_SUPPLY: Rows = (
    (power.POWER_SUPPLY_INPUT_POWER, "InputPowerWatts", "Reading", 1.0),
    (power.POWER_SUPPLY_INPUT_VOLTAGE, "InputVoltage", "Reading", 1.0),
    (power.POWER_SUPPLY_INPUT_CURRENT, "InputCurrentAmps", "Reading", 1.0),
    (power.POWER_SUPPLY_OUTPUT_POWER, "OutputPowerWatts", "Reading", 1.0),
    (power.POWER_SUPPLY_ENERGY, "EnergykWh", "Reading", KWH),
)


def bind(walk: Walk, document: Document, path: str, entity: Entity, rows: Rows) -> None:
    """Bind what a resource has of these rows."""
    for metric, name, field, factor in rows:
        if places := excerpt(path, document, name, field):
            walk.bindings.number(metric, entity, places, factor=factor)


def described(document: Document, *more: str) -> tuple[str, ...]:
    """Give vendor, model, serial number and firmware of a resource, as info series have them."""
    names = ("Manufacturer", "Model", "SerialNumber", "FirmwareVersion")
    return (*(text(document, name) for name in names), *more)


def equipment(walk: Walk, document: Document, path: str, kind: Kind) -> Owner:
    """Name a piece of equipment and note which chassis are its own."""
    id_ = text(document, "Id") or path.rpartition("/")[2]
    entity = walk.unit(kind, "/".join(path.split("/")[-2:]))
    owner = Owner(entity, path, id_)
    chassis = part(document, "Links", "Chassis")
    for link in chassis if isinstance(chassis, list) else ():
        walk.owned.setdefault(path_of(link), owner)
    return owner


def pdu(walk: Walk, document: Document, path: str, owner: Owner) -> None:
    """Read a PDU or a power shelf."""
    owner = equipment(walk, document, path, Kind.PDU)
    key = SeriesKey(power.PDU_INFO, owner.entity, described(document, "redfish"))
    walk.bindings.infos[owner.entity] = key
    links = {
        "Metrics": Role.PDU_METRICS,
        "Mains": Role.MAINS,
        "Branches": Role.BRANCH,
        "Outlets": Role.OUTLET,
        "PowerSupplies": Role.POWER_SUPPLY,
        "Sensors": Role.SENSOR,
    }
    walk.follow(document, links, owner)


def pdu_metrics(walk: Walk, document: Document, path: str, owner: Owner) -> None:
    """Read the totals of a PDU."""
    entity = owner.entity
    if places := excerpt(path, document, "PowerWatts"):
        walk.bindings.number(power.PDU_POWER, entity, places, "measured")
    bind(walk, document, path, entity, _SUMMARY)
    for name, metric, factor in (
        ("TemperatureCelsius", power.ENVIRONMENT_TEMPERATURE, 1.0),
        ("HumidityPercent", power.ENVIRONMENT_HUMIDITY, PERCENT),
    ):
        places = excerpt(path, document, name)
        source = path_of(part(document, name, "DataSourceUri"))
        probe = Kind.ENVIRONMENT(entity.key[0], source.rpartition("/")[2] or "pdu")
        if places and walk.bindings.own(probe, source or path, entity):
            walk.bindings.number(metric, probe, places, factor=factor)


def mains(walk: Walk, document: Document, path: str, owner: Owner) -> None:
    """Read one input circuit and its phases."""
    name = text(document, "Id") or path.rpartition("/")[2]
    unit = owner.entity.key[0]
    inlet = Kind.INLET(unit, name)
    if walk.bindings.own(inlet, path, owner.entity):
        bind(walk, document, path, inlet, _INLET)
        _rated(walk, power.INLET_CURRENT_LIMIT, inlet, document, path)
    for line in ("Line1", "Line2", "Line3"):
        phase = Kind.PHASE(unit, f"{name}.L{line[-1]}")
        before = len(walk.bindings.bound)
        for metric, group, field, factor in _PHASE:
            # Power and voltage of a line are those to neutral: from line to line is no phase's.
            below = part(document, group)
            if places := excerpt(f"{path}#/{group}", below, f"{line}ToNeutral", field):
                walk.bindings.number(metric, phase, _joined(places), factor=factor)
        below = part(document, "PolyPhaseCurrentAmps")
        if places := excerpt(f"{path}#/PolyPhaseCurrentAmps", below, line):
            walk.bindings.number(power.PHASE_CURRENT, phase, _joined(places))
        if len(walk.bindings.bound) > before:
            walk.bindings.own(phase, path, owner.entity)


def branch(walk: Walk, document: Document, path: str, owner: Owner) -> None:
    """Read one breaker."""
    breaker = Kind.BREAKER(owner.entity.key[0], text(document, "Id") or path.rpartition("/")[2])
    places = excerpt(path, document, "CurrentAmps")
    if places and walk.bindings.own(breaker, path, owner.entity):
        walk.bindings.number(power.BREAKER_CURRENT, breaker, places)
        _rated(walk, power.BREAKER_CURRENT_LIMIT, breaker, document, path)


def outlet(walk: Walk, document: Document, path: str, owner: Owner) -> None:
    """Read one outlet."""
    entity = Kind.OUTLET(owner.entity.key[0], text(document, "Id") or path.rpartition("/")[2])
    if walk.bindings.own(entity, path, owner.entity):
        bind(walk, document, path, entity, _OUTLET)
        if name := text(document, "UserLabel") or text(document, "Name"):
            walk.bindings.infos[entity] = SeriesKey(power.OUTLET_INFO, entity, (name,))


def supply(walk: Walk, document: Document, path: str, owner: Owner) -> None:
    """Read one power supply; what it measures stands in its metrics."""
    parent = walk.owned.get(owner.path, owner)
    name = text(document, "Id") or path.rpartition("/")[2]
    entity = Kind.POWER_SUPPLY(parent.entity.key[0], name)
    if not walk.bindings.own(entity, path, parent.entity):
        entity = Kind.POWER_SUPPLY(parent.entity.key[0], f"{owner.id}/{name}")
        if not walk.bindings.own(entity, path, parent.entity):
            return
    bindings = walk.bindings
    bindings.infos[entity] = SeriesKey(power.POWER_SUPPLY_INFO, entity, described(document))
    states = power.POWER_SUPPLY_STATE
    bindings.state(states, entity, (f"{path}#/Status/State",), SUPPLY_STATES)
    bindings.state(power.POWER_SUPPLY_HEALTH, entity, (f"{path}#/Status/Health",), HEALTH)
    if "PowerCapacityWatts" in document:
        places = (f"{path}#/PowerCapacityWatts",)
        bindings.number(power.POWER_SUPPLY_POWER_LIMIT, entity, places, need=Need.SLOW)
    below = Owner(entity, path, name)
    walk.follow(document, {"Metrics": Role.POWER_SUPPLY_METRICS}, below)


def supply_metrics(walk: Walk, document: Document, path: str, owner: Owner) -> None:
    """Read what one power supply measures."""
    bind(walk, document, path, owner.entity, _SUPPLY)
    if places := excerpt(path, document, "TemperatureCelsius"):
        walk.bindings.number(power.POWER_SUPPLY_TEMPERATURE, owner.entity, places, "")
    parent, name = owner.entity.key
    fan = Kind.FAN(parent, f"{name}/fan")
    speed = excerpt(path, document, "FanSpeedPercent", "SpeedRPM")
    duty = excerpt(path, document, "FanSpeedPercent")
    if (speed or duty) and walk.bindings.own(fan, path, owner.entity):
        walk.bindings.number(thermal.FAN_SPEED, fan, speed[:1])
        walk.bindings.number(thermal.FAN_DUTY, fan, duty, factor=PERCENT)


def _joined(places: tuple[str, ...]) -> tuple[str, ...]:
    """Addresses of an excerpt within a property: one `#` each."""
    own, *others = places
    resource, _, pointer = own.partition("#")
    return (f"{resource}#{pointer.replace('#', '')}", *others)


def _rated(walk: Walk, metric: Metric, entity: Entity, document: Document, path: str) -> None:
    if "RatedCurrentAmps" in document:
        walk.bindings.number(metric, entity, (f"{path}#/RatedCurrentAmps",), need=Need.SLOW)
