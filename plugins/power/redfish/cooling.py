"""Thermal equipment: CDUs, heat exchangers, immersion units, rear-door units (DMTF DSP2046).

CoolingUnit, CoolantConnector, Pump, Reservoir, Filter. Litres per minute, kilopascals, kilowatts,
hours and percent there; m3/s, Pa, W, s and ratios here.
"""

from __future__ import annotations

from collector.batch import SeriesKey
from collector.catalog import thermal
from collector.entity import Kind
from plugins.power.redfish.binding import Derived, Need, excerpt
from plugins.power.redfish.document import text
from plugins.power.redfish.equipment import HEALTH, KWH, PERCENT, Rows, bind, described, equipment
from plugins.power.redfish.transport import Document
from plugins.power.redfish.walk import Owner, Role, Walk

LITRE_PER_MINUTE = 1e-3 / 60  # m3/s
KILOPASCAL = 1e3
KILOWATT = 1e3
HOUR = 3600.0
LEVELS = {"OK": "ok", "Low": "low", "High": "high"}  # Reservoir.FluidLevelStatus

_LOOP: Rows = (
    (thermal.COOLANT_FLOW, "FlowLitersPerMinute", "Reading", LITRE_PER_MINUTE),
    (thermal.COOLANT_SUPPLY_TEMPERATURE, "SupplyTemperatureCelsius", "Reading", 1.0),
    (thermal.COOLANT_RETURN_TEMPERATURE, "ReturnTemperatureCelsius", "Reading", 1.0),
    (thermal.COOLANT_TEMPERATURE_RISE, "DeltaTemperatureCelsius", "Reading", 1.0),
    (thermal.COOLANT_SUPPLY_PRESSURE, "SupplyPressurekPa", "Reading", KILOPASCAL),
    (thermal.COOLANT_RETURN_PRESSURE, "ReturnPressurekPa", "Reading", KILOPASCAL),
    (thermal.COOLANT_PRESSURE_DROP, "DeltaPressurekPa", "Reading", KILOPASCAL),
    (thermal.COOLANT_HEAT_CLAIMED, "HeatRemovedkW", "Reading", KILOWATT),
    (thermal.COOLANT_VALVE, "ValvePositionPercent", "Reading", PERCENT),
)
_PUMP: Rows = (
    (thermal.PUMP_DUTY, "PumpSpeedPercent", "Reading", PERCENT),
    (thermal.PUMP_SPEED, "PumpSpeedPercent", "SpeedRPM", 1.0),
)
_ENVIRONMENT: Rows = (
    (thermal.COOLING_UNIT_HUMIDITY, "HumidityPercent", "Reading", PERCENT),
    (thermal.COOLING_UNIT_DEW_POINT, "DewPointCelsius", "Reading", 1.0),
    (thermal.COOLING_UNIT_POWER, "PowerWatts", "Reading", 1.0),
    (thermal.COOLING_UNIT_ENERGY, "EnergykWh", "Reading", KWH),
)


def unit(walk: Walk, document: Document, path: str, owner: Owner) -> None:
    """Read one cooling unit."""
    owner = equipment(walk, document, path, Kind.COOLING_UNIT)
    entity, bindings = owner.entity, walk.bindings
    bindings.infos[entity] = SeriesKey(
        thermal.COOLING_UNIT_INFO, entity, described(document, "redfish")
    )
    bindings.state(thermal.COOLING_UNIT_STATE, entity, (f"{path}#/Status/Health",), HEALTH)
    if "CoolingCapacityWatts" in document:
        places = (f"{path}#/CoolingCapacityWatts",)
        bindings.number(thermal.COOLING_UNIT_HEAT_LIMIT, entity, places, need=Need.SLOW)
    for side in ("Primary", "Secondary"):
        links = {f"{side}CoolantConnectors": Role.LOOP}
        walk.follow(document, links, owner._replace(detail=side.lower()))
    links = {
        "Pumps": Role.PUMP,
        "Reservoirs": Role.RESERVOIR,
        "Filters": Role.FILTER,
        "EnvironmentMetrics": Role.UNIT_ENVIRONMENT,
        "LeakDetection": Role.LEAK_DETECTION,
        "PowerSupplies": Role.POWER_SUPPLY,
        "Fans": Role.FAN,
    }
    walk.follow(document, links, owner)


def loop(walk: Walk, document: Document, path: str, owner: Owner) -> None:
    """Read one coolant connector, which is a pair of supply and return."""
    entity = Kind.COOLANT_LOOP(owner.entity.key[0], f"{owner.detail}/{_id(document, path)}")
    if not walk.bindings.own(entity, path, owner.entity):
        return
    bind(walk, document, path, entity, _LOOP)
    flow = SeriesKey(thermal.COOLANT_FLOW, entity, ())
    rise = SeriesKey(thermal.COOLANT_TEMPERATURE_RISE, entity, ())
    ends = tuple(
        SeriesKey(metric, entity, ())
        for metric in (thermal.COOLANT_RETURN_TEMPERATURE, thermal.COOLANT_SUPPLY_TEMPERATURE)
    )
    key = SeriesKey(thermal.COOLANT_HEAT, entity, ())
    # The difference of two readings is what was measured; the unit's own rise may be rounded.
    of = ends if all(end in walk.bindings.bound for end in ends) else (rise,)
    if flow in walk.bindings.bound and all(one in walk.bindings.bound for one in of):
        walk.bindings.derived[key] = Derived(key, (flow, *of), "heat")


def pump(walk: Walk, document: Document, path: str, owner: Owner) -> None:
    """Read one pump."""
    entity = Kind.PUMP(owner.entity.key[0], _id(document, path))
    if not walk.bindings.own(entity, path, owner.entity):
        return
    bind(walk, document, path, entity, _PUMP)
    walk.bindings.state(thermal.PUMP_STATE, entity, (f"{path}#/Status/Health",), HEALTH)
    if "ServiceHours" in document:
        places = (f"{path}#/ServiceHours",)
        walk.bindings.number(thermal.PUMP_SERVICE_TIME, entity, places, factor=HOUR, need=Need.SLOW)


def reservoir(walk: Walk, document: Document, path: str, owner: Owner) -> None:
    """Read one reservoir."""
    name = _id(document, path)
    if places := excerpt(path, document, "FluidLevelPercent"):
        walk.bindings.number(thermal.RESERVOIR_LEVEL, owner.entity, places, name, factor=PERCENT)
    if text(document, "FluidLevelStatus"):
        places = (f"{path}#/FluidLevelStatus",)
        walk.bindings.state(thermal.RESERVOIR_STATE, owner.entity, places, LEVELS, name)


def filter_(walk: Walk, document: Document, path: str, owner: Owner) -> None:
    """Read one filter."""
    for name in ("DeltaLiquidPressurekPa", "DeltaPressurekPa"):
        if places := excerpt(path, document, name):
            walk.bindings.number(
                thermal.FILTER_PRESSURE_DROP,
                owner.entity,
                places,
                _id(document, path),
                factor=KILOPASCAL,
            )


def environment(walk: Walk, document: Document, path: str, owner: Owner) -> None:
    """Read the air around a cooling unit, and what the unit draws."""
    bind(walk, document, path, owner.entity, _ENVIRONMENT)
    if places := excerpt(path, document, "TemperatureCelsius"):
        walk.bindings.number(thermal.COOLING_UNIT_TEMPERATURE, owner.entity, places, "ambient")


def _id(document: Document, path: str) -> str:
    return text(document, "Id") or path.rpartition("/")[2]
