"""Chassis: what a host draws, its fans, its leak detectors (DMTF DSP2046).

PowerSubsystem, ThermalSubsystem and EnvironmentMetrics, else Power and Thermal, which they replaced
in 2020. What a supply gives is never taken for what the host draws.
"""

from __future__ import annotations

from collector.batch import SeriesKey
from collector.catalog import host, power, thermal
from collector.entity import Kind
from collector.metric import Metric
from plugins.power.redfish.binding import Derived, Need, excerpt
from plugins.power.redfish.document import elements, number, part, path_of, text
from plugins.power.redfish.equipment import (
    HEALTH,
    PERCENT,
    SUPPLY_STATES,
    described,
    equipment,
)
from plugins.power.redfish.sensor import SHELF, air
from plugins.power.redfish.transport import Document
from plugins.power.redfish.walk import Owner, Role, Walk

_METER = "redfish"
# LeakDetector.DetectorState; LeakDetected is NVIDIA's.
LEAKS = {
    "OK": "ok",
    "Warning": "warning",
    "Critical": "critical",
    "LeakDetected": "critical",
}
# Chassis.ChassisType of what is a part of another chassis or of none of them in particular.
_INNER = ("Card", "Cartridge", "Component", "Expansion", "Module", "StorageEnclosure", "Zone")
_LINKS = {
    "EnvironmentMetrics": Role.CHASSIS_ENVIRONMENT,
    "Sensors": Role.SENSOR,
    "PowerSubsystem": Role.POWER_SUBSYSTEM,
    "ThermalSubsystem": Role.THERMAL_SUBSYSTEM,
    "LeakDetectors": Role.LEAK_DETECTOR,
    "Power": Role.POWER,
    "Thermal": Role.THERMAL,
}


def chassis(walk: Walk, document: Document, path: str, owner: Owner) -> None:
    """Read one chassis, which is a host's unless it is that of a piece of equipment."""
    name = text(document, "Id") or path.rpartition("/")[2]
    outermost = not path_of(part(document, "Links", "ContainedBy"))
    outermost &= text(document, "ChassisType") not in _INNER
    here = Owner(Kind.HOST(walk.host_name), path, name, outermost)
    if path not in walk.owned and SHELF.search(f"{name} {text(document, 'Name')}"):
        owned = equipment(walk, document, path, Kind.PDU)
        walk.owned[path] = owned
        infos = walk.bindings.infos
        key = SeriesKey(power.PDU_INFO, owned.entity, described(document, "redfish"))
        infos[owned.entity] = key
    walk.follow(document, _LINKS, here)


def chassis_environment(walk: Walk, document: Document, path: str, owner: Owner) -> None:
    """Read what the outermost chassis draws; those within it are a part of that."""
    if owner.outermost and owner.path not in walk.owned:
        _draw(walk, excerpt(path, document, "PowerWatts"), part(document, "PowerWatts"))


def power_subsystem(walk: Walk, document: Document, path: str, owner: Owner) -> None:
    """Go on to the power supplies."""
    walk.follow(document, {"PowerSupplies": Role.POWER_SUPPLY}, owner)


def thermal_subsystem(walk: Walk, document: Document, path: str, owner: Owner) -> None:
    """Go on to fans, leak detectors and summaries."""
    links = {
        "Fans": Role.FAN,
        "ThermalMetrics": Role.THERMAL_METRICS,
        "LeakDetection": Role.LEAK_DETECTION,
    }
    walk.follow(document, links, owner)


def thermal_metrics(walk: Walk, document: Document, path: str, owner: Owner) -> None:
    """Read the summary of the air; the temperatures are those of sensors, which have their own."""
    summary = part(document, "TemperatureSummaryCelsius")
    if owner.path in walk.owned:
        return
    for name in ("Intake", "Exhaust"):
        places = excerpt(f"{path}#/TemperatureSummaryCelsius", summary, name)
        source = path_of(part(summary, name, "DataSourceUri")).rpartition("/")[2]
        if places:
            own, *others = places
            where, _, pointer = own.partition("#")
            joined = (f"{where}#{pointer.replace('#', '')}", *others)
            air(walk, owner, name, source or name.lower(), "", joined)


def fan(walk: Walk, document: Document, path: str, owner: Owner) -> None:
    """Read one fan."""
    whose = walk.owned.get(owner.path, owner)
    name = text(document, "Id") or path.rpartition("/")[2]
    entity = Kind.FAN(whose.entity.key[0], f"{owner.id}/{name}")
    speed = excerpt(path, document, "SpeedPercent", "SpeedRPM")[:1]
    duty = excerpt(path, document, "SpeedPercent")
    bound = bool(speed) and walk.bindings.number(thermal.FAN_SPEED, entity, speed)
    if duty:
        bound |= walk.bindings.number(thermal.FAN_DUTY, entity, duty, factor=PERCENT)
    if bound:
        walk.bindings.belongs(entity, whose.entity)


def leak_detection(walk: Walk, document: Document, path: str, owner: Owner) -> None:
    """Go on to the detectors."""
    walk.follow(document, {"LeakDetectors": Role.LEAK_DETECTOR}, owner)


def leak_detector(walk: Walk, document: Document, path: str, owner: Owner) -> None:
    """Read one leak detector."""
    whose = walk.owned.get(owner.path, owner)
    name = text(document, "Id") or path.rpartition("/")[2]
    entity = Kind.LEAK_DETECTOR(whose.entity.key[0], name)
    if "DetectorState" in document and walk.bindings.own(entity, path, whose.entity):
        places = (f"{path}#/DetectorState",)
        walk.bindings.state(thermal.LEAK, entity, places, LEAKS, need=Need.FAST)


def legacy_power(walk: Walk, document: Document, path: str, owner: Owner) -> None:
    """Read Power: what the host draws, its supplies, its voltages."""
    if owner.path in walk.owned:
        return
    for place, control in elements(document, "PowerControl"):
        if place == 0 and owner.outermost:  # the others are parts of it
            where = (f"{path}#/PowerControl/0/PowerConsumedWatts",)
            _draw(walk, where, control.get("PowerConsumedWatts"))
    if not walk.bindings.of(power.POWER_SUPPLY_STATE):
        for place, supply in elements(document, "PowerSupplies"):
            _legacy_supply(walk, supply, f"{path}#/PowerSupplies/{place}", owner, place)
    for place, voltage in elements(document, "Voltages"):
        name = text(voltage, "Name")
        where = (f"{path}#/Voltages/{place}/ReadingVolts",)
        _legacy_sensor(walk, host.SENSOR_VOLTAGE, owner, name, where, Need.FREE)


def _legacy_supply(walk: Walk, supply: Document, at: str, owner: Owner, place: int) -> None:
    entity = Kind.POWER_SUPPLY(walk.host_name, text(supply, "MemberId") or str(place))
    bindings = walk.bindings
    if not bindings.own(entity, at, owner.entity):
        return
    bindings.infos[entity] = SeriesKey(power.POWER_SUPPLY_INFO, entity, described(supply))
    bindings.state(power.POWER_SUPPLY_STATE, entity, (f"{at}/Status/State",), SUPPLY_STATES)
    bindings.state(power.POWER_SUPPLY_HEALTH, entity, (f"{at}/Status/Health",), HEALTH)
    for name, metric, need in (
        ("PowerInputWatts", power.POWER_SUPPLY_INPUT_POWER, Need.FAST),
        ("PowerOutputWatts", power.POWER_SUPPLY_OUTPUT_POWER, Need.FAST),
        ("LastPowerOutputWatts", power.POWER_SUPPLY_OUTPUT_POWER, Need.FAST),
        ("LineInputVoltage", power.POWER_SUPPLY_INPUT_VOLTAGE, Need.FREE),
        ("PowerCapacityWatts", power.POWER_SUPPLY_POWER_LIMIT, Need.SLOW),
    ):
        if name in supply:
            bindings.number(metric, entity, (f"{at}/{name}",), need=need)


def legacy_thermal(walk: Walk, document: Document, path: str, owner: Owner) -> None:
    """Read Thermal: temperatures and fans, each where the sensors told of none."""
    if owner.path in walk.owned:
        return
    below = f"{owner.id}/"
    fans = any(
        key.entity.key[1].startswith(below)
        for metric in (thermal.FAN_SPEED, thermal.FAN_DUTY)
        for key in walk.bindings.of(metric)
    )
    temperatures = any(
        key.entity.key[1].startswith(below) for key in walk.bindings.of(host.TEMPERATURE)
    )
    for place, one in elements(document, "Temperatures"):
        name = text(one, "Name") or text(one, "MemberId") or str(place)
        where = (f"{path}#/Temperatures/{place}/ReadingCelsius",)
        if not temperatures:
            _legacy_sensor(walk, host.TEMPERATURE, owner, name, where)
        air(walk, owner, text(one, "PhysicalContext"), name, name, where)
    for place, one in elements(document, "Fans") if not fans else ():
        name = text(one, "Name") or text(one, "FanName") or text(one, "MemberId") or str(place)
        entity = Kind.FAN(walk.host_name, f"{owner.id}/{name}")
        reading = "Reading" if "Reading" in one else "ReadingRPM"
        where = (f"{path}#/Fans/{place}/{reading}",)
        percent = text(one, "ReadingUnits") == "Percent"
        metric = thermal.FAN_DUTY if percent else thermal.FAN_SPEED
        if walk.bindings.number(metric, entity, where, factor=PERCENT if percent else 1.0):
            walk.bindings.belongs(entity, owner.entity)


def _legacy_sensor(
    walk: Walk,
    metric: Metric,
    owner: Owner,
    name: str,
    where: tuple[str, ...],
    need: Need = Need.FAST,
) -> None:
    entity = Kind.SENSOR(walk.host_name, f"{owner.id}/{name}")
    if name and walk.bindings.number(metric, entity, where, need=need):
        walk.bindings.belongs(entity, owner.entity)
        info = SeriesKey(host.SENSOR_INFO, entity, ("redfish", name, name))
        walk.bindings.infos[entity] = info


def _draw(walk: Walk, places: tuple[str, ...], told: object) -> None:
    """Bind what the host draws; a meter that says 0 W while it answers is none."""
    reading = number(told.get("Reading") if isinstance(told, dict) else told)
    if places and reading:
        entity = Kind.HOST(walk.host_name)
        walk.bindings.number(power.HOST_INPUT_POWER, entity, places, _METER)


def finish(walk: Walk) -> None:
    """Add what is computed of all that was found."""
    bindings, here = walk.bindings, Kind.HOST(walk.host_name)
    inlets = tuple(bindings.of(thermal.HOST_INLET_TEMPERATURE))
    outlets = tuple(bindings.of(thermal.HOST_OUTLET_TEMPERATURE))
    if inlets and outlets:
        key = SeriesKey(thermal.HOST_TEMPERATURE_RISE, here, ())
        bindings.derived[key] = Derived(key, outlets + inlets, "rise")
    drawn = tuple(
        key
        for key in bindings.of(power.POWER_SUPPLY_INPUT_POWER)
        if key.entity.key[0] == here.key[0]
    )
    supplies = [
        e for e in bindings.infos if e.kind is Kind.POWER_SUPPLY and e.key[0] == here.key[0]
    ]
    if drawn and len(drawn) == len(supplies) and not bindings.of(power.HOST_INPUT_POWER):
        key = SeriesKey(power.HOST_INPUT_POWER, here, (_METER,))
        bindings.derived[key] = Derived(key, drawn, "sum")
    for unit in walk.units:
        of = tuple(k for k in bindings.of(power.INLET_POWER) if k.entity.key[0] == unit.key[0])
        if unit.kind is Kind.PDU and of and not bindings.of(power.PDU_POWER, unit):
            key = SeriesKey(power.PDU_POWER, unit, ("sum",))
            bindings.derived[key] = Derived(key, of, "sum")
