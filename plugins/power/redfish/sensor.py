"""Sensors of the chassis of a host, a power shelf or a PDU (DMTF DSP2046, Sensor).

What a sensor measures is told by ReadingType, else by ReadingUnits; where both are given and do not
fit, nothing is. A distance from a limit is no temperature, and a limit in watts is no power.
"""

from __future__ import annotations

import re

from collector.batch import SeriesKey
from collector.catalog import host, power, thermal
from collector.entity import Entity, Kind
from collector.metric import Metric
from plugins.power.redfish.binding import Need
from plugins.power.redfish.document import number, part, text
from plugins.power.redfish.equipment import KWH, PERCENT
from plugins.power.redfish.transport import Document
from plugins.power.redfish.walk import Owner, Walk

# By ReadingType, the units that it comes in and their factor to ours.
TYPES: dict[str, dict[str, float]] = {
    "Temperature": {"Cel": 1.0, "C": 1.0, "": 1.0},
    "Power": {"W": 1.0, "kW": 1e3, "": 1.0},
    "EnergyJoules": {"J": 1.0, "kJ": 1e3, "": 1.0},
    "EnergykWh": {"kWh": KWH, "kW.h": KWH, "": KWH},
    "Voltage": {"V": 1.0, "": 1.0},
    "Current": {"A": 1.0, "": 1.0},
    "Rotational": {"RPM": 1.0, "{rev}/min": 1.0, "": 1.0},
    "Humidity": {"%": PERCENT, "": PERCENT},
    "Percent": {"%": PERCENT, "": PERCENT},
}
_BY_UNIT = {
    unit: type_ for type_, units in TYPES.items() for unit in units if unit not in ("", "%")
}
_HEADROOM = re.compile(r"t-?limit|temp_?limit|headroom|margin|distance", re.IGNORECASE)
_NO_DRAW = re.compile(r"EDP|limit|cap\b|capacity|budget|setpoint|rated|max", re.IGNORECASE)
_FAN = re.compile(r"fan|pwm|duty", re.IGNORECASE)
_INLET = re.compile(r"\b(inlet|intake)\b", re.IGNORECASE)
_OUTLET = re.compile(r"\b(outlet|exhaust)\b", re.IGNORECASE)
_PLAIN_CONTEXTS = ("", "Chassis", "SystemBoard")

# Names of the sensors of ORv3 power shelves: Delta's and Lite-On's. Delta's energy_in is a gauge in
# joules, and the scale of its total_energy_in is not known for sure: neither is a counter to trust.
_DELTA = re.compile(r"ps(\d+)_(\w+)")
_LITEON = re.compile(r"(voltage|current|power|temperature|fantach)_p(\d+)_(\w+)")
_SUPPLY: dict[str, tuple[str, Metric, tuple[str, ...]]] = {
    name: (type_, metric, labels)
    for names, type_, metric, labels in (
        (("input_power", "power_pin"), "Power", power.POWER_SUPPLY_INPUT_POWER, ()),
        (("input_voltage", "voltage_vin"), "Voltage", power.POWER_SUPPLY_INPUT_VOLTAGE, ()),
        (("input_current", "current_iin"), "Current", power.POWER_SUPPLY_INPUT_CURRENT, ()),
        (("output_power", "power_pout"), "Power", power.POWER_SUPPLY_OUTPUT_POWER, ()),
        (("output_voltage", "voltage_vout"), "Voltage", power.POWER_SUPPLY_OUTPUT_VOLTAGE, ()),
        (("output_current", "current_iout"), "Current", power.POWER_SUPPLY_OUTPUT_CURRENT, ()),
        (
            ("temp_input", "temperature_ambient"),
            "Temperature",
            power.POWER_SUPPLY_TEMPERATURE,
            ("intake",),
        ),
        (
            ("temp_output", "temperature_exhaust"),
            "Temperature",
            power.POWER_SUPPLY_TEMPERATURE,
            ("exhaust",),
        ),
        (
            ("temp_hotspot", "temperature_hotspot"),
            "Temperature",
            power.POWER_SUPPLY_TEMPERATURE,
            ("hotspot",),
        ),
    )
    for name in names
}
_SHELF: dict[str, tuple[str, Metric, tuple[str, ...]]] = {
    "total_power_in": ("Power", power.PDU_POWER, ("measured",)),
    "power_chassis_input_power": ("Power", power.PDU_POWER, ("measured",)),
    "total_power_out": ("Power", power.PDU_OUTPUT_POWER, ()),
    "power_chassis_output_power": ("Power", power.PDU_OUTPUT_POWER, ()),
    "total_efficiency": ("Percent", power.PDU_EFFICIENCY, ()),
    "utilization_chassis_efficiency": ("Percent", power.PDU_EFFICIENCY, ()),
}
_FEED = re.compile(r"(voltage|current)_in_([A-Z])_([ABC])")
SHELF = re.compile(r"power.?shelf", re.IGNORECASE)


def kind_of(document: Document) -> tuple[str, float] | None:
    """Tell what a sensor measures, as a ReadingType, and the factor to our unit."""
    units = text(document, "ReadingUnits")
    type_ = text(document, "ReadingType") or _BY_UNIT.get(units, "")
    if text(document, "ReadingBasis") == "Delta" or units not in TYPES.get(type_, ()):
        return None
    return type_, TYPES[type_][units]


def is_headroom(document: Document) -> bool:
    """Whether a temperature is the distance from a limit.

    Newer services say so in ReadingBasis. Others only by a name, or by thresholds that are all
    lower ones at or below zero: a distance is bad when it is used up.
    """
    if "ReadingBasis" in document:
        return text(document, "ReadingBasis") == "Headroom"
    if any(_HEADROOM.search(text(document, name)) for name in ("Id", "Name", "Description")):
        return True
    thresholds = part(document, "Thresholds")
    if not isinstance(thresholds, dict):
        return False
    told = {name: number(part(one, "Reading")) for name, one in thresholds.items()}
    known = {name: value for name, value in told.items() if value is not None}
    return bool(known) and all(name[:5] == "Lower" and v <= 0 for name, v in known.items())


def sensor(walk: Walk, document: Document, path: str, owner: Owner) -> None:
    """Read what a sensor is; its reading is taken wherever it stands."""
    if "/Sensors" not in path and "ReadingType" not in document:
        return
    owned = walk.owned.get(owner.path)
    whose = owned or owner
    told = kind_of(document)
    if told is None:
        return
    absent = number(document.get("Reading")) is None
    name = text(document, "Id") or path.rpartition("/")[2]
    if whose.entity.kind is Kind.PDU:
        if not _shelf(walk, whose.entity, name, path, *told):
            _probe(walk, whose.entity, name, path, *told)
    elif whose.entity.kind is Kind.HOST:
        _host(walk, document, path, owner, Need.FREE if absent else Need.FAST)


def _host(walk: Walk, document: Document, path: str, owner: Owner, need: Need) -> None:
    type_, factor = kind_of(document) or ("", 1.0)
    name = text(document, "Id") or path.rpartition("/")[2]
    label = text(document, "Name")
    key = f"{owner.id}/{name}"
    here, bindings = (f"{path}#/Reading",), walk.bindings
    entity = Kind.SENSOR(walk.host_name, key)
    bound = False
    if type_ == "Temperature" and is_headroom(document):
        bound = bindings.number(thermal.TEMPERATURE_HEADROOM, entity, here, need=need)
    elif type_ == "Temperature":
        bound = bindings.number(host.TEMPERATURE, entity, here, need=need)
        air(walk, owner, text(document, "PhysicalContext"), name, label, here, need)
    elif type_ == "Power" and not _NO_DRAW.search(name):
        bound = bindings.number(power.SENSOR_POWER, entity, here, factor=factor, need=need)
    elif type_ in ("EnergyJoules", "EnergykWh"):
        bound = bindings.number(power.SENSOR_ENERGY, entity, here, factor=factor, need=need)
    elif type_ == "Voltage":
        bound = bindings.number(host.SENSOR_VOLTAGE, entity, here, need=Need.FREE)
    elif type_ == "Current":
        bound = bindings.number(host.SENSOR_CURRENT, entity, here, need=Need.FREE)
    elif type_ == "Rotational" or (type_ == "Percent" and _FAN.search(name + label)):
        fan = Kind.FAN(walk.host_name, key)
        metric = thermal.FAN_SPEED if type_ == "Rotational" else thermal.FAN_DUTY
        need = need if type_ == "Rotational" else min(need, Need.SLOW)
        if bindings.number(metric, fan, here, factor=factor, need=need):
            bindings.belongs(fan, owner.entity)
    if bound:
        bindings.belongs(entity, owner.entity)
        bindings.infos[entity] = SeriesKey(host.SENSOR_INFO, entity, ("redfish", name, label))


def air(
    walk: Walk,
    owner: Owner,
    context: str,
    name: str,
    label: str,
    places: tuple[str, ...],
    need: Need = Need.FAST,
) -> None:
    """Bind a temperature as that of the chassis' inlet or outlet, if it is one.

    PhysicalContext says so. Where it says nothing, names do: Dell's are `System Board Inlet Temp`.
    """
    if not owner.outermost:
        return
    by_name = context in _PLAIN_CONTEXTS
    for metric, told, pattern in (
        (thermal.HOST_INLET_TEMPERATURE, "Intake", _INLET),
        (thermal.HOST_OUTLET_TEMPERATURE, "Exhaust", _OUTLET),
    ):
        if context == told or (by_name and pattern.search(label)):
            entity = Kind.HOST(walk.host_name)
            walk.bindings.number(metric, entity, places, name, need=need)


def _shelf(walk: Walk, unit: Entity, name: str, path: str, type_: str, factor: float) -> bool:
    """Bind a sensor of a power shelf by its name, if that is one of those known."""
    here, bindings = (f"{path}#/Reading",), walk.bindings
    wanted = _SHELF.get(name)
    entity = unit
    match_delta, match_liteon = _DELTA.fullmatch(name), _LITEON.fullmatch(name)
    feed = _FEED.fullmatch(name)
    if match_delta or match_liteon:
        if match_delta:
            number_, what = match_delta[1], match_delta[2]
        else:
            assert match_liteon is not None
            number_, what = match_liteon[2], f"{match_liteon[1]}_{match_liteon[3]}"
        if type_ == "Rotational":
            fan = Kind.FAN(unit.key[0], f"{number_}/{what.removeprefix('fantach_')}")
            if bindings.number(thermal.FAN_SPEED, fan, here, factor=factor):
                bindings.belongs(fan, unit)
            return True
        wanted = _SUPPLY.get(what)
        if wanted is None:
            return True
        entity = Kind.POWER_SUPPLY(unit.key[0], number_)
    elif feed:
        metric = power.PHASE_VOLTAGE if feed[1] == "voltage" else power.PHASE_CURRENT
        wanted = (feed[1].capitalize(), metric, ())
        entity = Kind.PHASE(unit.key[0], f"{feed[2]}.{feed[3]}")
    elif name.startswith("total_power_in_") and name[-1:].isupper():
        wanted = ("Power", power.INLET_POWER, ())
        entity = Kind.INLET(unit.key[0], name[-1])
    if wanted is None:
        return False
    expected, metric, labels = wanted
    if type_ == expected and bindings.number(metric, entity, here, *labels, factor=factor):
        bindings.belongs(entity, unit)
    return True


def _probe(walk: Walk, unit: Entity, name: str, path: str, type_: str, factor: float) -> None:
    """Bind a temperature or humidity in the chassis of a PDU."""
    metric = {
        "Temperature": power.ENVIRONMENT_TEMPERATURE,
        "Humidity": power.ENVIRONMENT_HUMIDITY,
    }.get(type_)
    if metric is not None:
        probe = Kind.ENVIRONMENT(unit.key[0], name)
        if walk.bindings.number(metric, probe, (f"{path}#/Reading",), factor=factor):
            walk.bindings.belongs(probe, unit)
