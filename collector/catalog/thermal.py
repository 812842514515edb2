"""Layer 2, thermal: cooling units, coolant, fans, leaks."""

from collector.entity import Kind
from collector.metric import COUNTER, GAUGE, Metric

COOLING_UNIT_INFO = Metric(
    "cooling_unit.info",
    GAUGE,
    "",
    Kind.COOLING_UNIT,
    "Always 1; says what the cooling unit is.",
    ("vendor", "model", "serial", "firmware", "profile"),
)
COOLING_UNIT_POWER = Metric(
    "cooling_unit.power", GAUGE, "W", Kind.COOLING_UNIT, "Active power that the unit draws."
)
COOLING_UNIT_ENERGY = Metric(
    "cooling_unit.energy", COUNTER, "J", Kind.COOLING_UNIT, "Energy that the unit drew."
)
COOLING_UNIT_HEAT = Metric(
    "cooling_unit.heat",
    GAUGE,
    "W",
    Kind.COOLING_UNIT,
    "Heat that the unit removes, as it says itself.",
)
COOLING_UNIT_HEAT_LIMIT = Metric(
    "cooling_unit.heat.limit", GAUGE, "W", Kind.COOLING_UNIT, "Heat that the unit can remove."
)
COOLING_UNIT_TEMPERATURE = Metric(
    "cooling_unit.air.temperature",
    GAUGE,
    "Cel",
    Kind.COOLING_UNIT,
    "Air temperature at a position of the unit: intake, exhaust, ambient, or a probe's name.",
    ("position",),
)
COOLING_UNIT_DEW_POINT = Metric(
    "cooling_unit.dew_point", GAUGE, "Cel", Kind.COOLING_UNIT, "Dew point of the ambient air."
)
COOLING_UNIT_HUMIDITY = Metric(
    "cooling_unit.humidity", GAUGE, "1", Kind.COOLING_UNIT, "Relative humidity at the unit."
)
COOLING_UNIT_STATE = Metric(
    "cooling_unit.state",
    GAUGE,
    "",
    Kind.COOLING_UNIT,
    "1 for the state that the unit reports, 0 for its other states.",
    ("state",),
)

COOLANT_SUPPLY_TEMPERATURE = Metric(
    "coolant_loop.supply.temperature",
    GAUGE,
    "Cel",
    Kind.COOLANT_LOOP,
    "Coolant where it flows in to take up heat.",
)
COOLANT_RETURN_TEMPERATURE = Metric(
    "coolant_loop.return.temperature",
    GAUGE,
    "Cel",
    Kind.COOLANT_LOOP,
    "Coolant where it comes back with the heat.",
)
COOLANT_TEMPERATURE_RISE = Metric(
    "coolant_loop.temperature.rise",
    GAUGE,
    "Cel",
    Kind.COOLANT_LOOP,
    "Return less supply, as the unit says itself.",
)
COOLANT_FLOW = Metric("coolant_loop.flow", GAUGE, "m3/s", Kind.COOLANT_LOOP, "Flow of the coolant.")
COOLANT_SUPPLY_PRESSURE = Metric(
    "coolant_loop.supply.pressure.pascals",
    GAUGE,
    "{Pa}",
    Kind.COOLANT_LOOP,
    "Pressure of the supply, in pascals.",
)
COOLANT_RETURN_PRESSURE = Metric(
    "coolant_loop.return.pressure.pascals",
    GAUGE,
    "{Pa}",
    Kind.COOLANT_LOOP,
    "Pressure of the return, in pascals.",
)
COOLANT_PRESSURE_DROP = Metric(
    "coolant_loop.pressure.drop.pascals",
    GAUGE,
    "{Pa}",
    Kind.COOLANT_LOOP,
    "Supply less return, as the unit says itself, in pascals.",
)
COOLANT_HEAT_CLAIMED = Metric(
    "coolant_loop.heat.claimed",
    GAUGE,
    "W",
    Kind.COOLANT_LOOP,
    "Heat that the loop carries away, as the unit says itself.",
)
COOLANT_HEAT = Metric(
    "coolant_loop.heat",
    GAUGE,
    "W",
    Kind.COOLANT_LOOP,
    "Heat that the loop carries away, computed from flow and rise for the coolant configured.",
)
COOLANT_VALVE = Metric(
    "coolant_loop.valve", GAUGE, "1", Kind.COOLANT_LOOP, "How far the control valve is open."
)

PUMP_SPEED = Metric("pump.speed", GAUGE, "{rpm}", Kind.PUMP, "Turns per minute of the pump.")
PUMP_DUTY = Metric("pump.duty", GAUGE, "1", Kind.PUMP, "Pump speed as a share of its highest.")
PUMP_SERVICE_TIME = Metric(
    "pump.service_time", COUNTER, "s", Kind.PUMP, "Time for which the pump has run."
)
RESERVOIR_LEVEL = Metric(
    "cooling_unit.reservoir.level",
    GAUGE,
    "1",
    Kind.COOLING_UNIT,
    "Fill level of a reservoir.",
    ("reservoir",),
)
FILTER_PRESSURE_DROP = Metric(
    "cooling_unit.filter.pressure_drop.pascals",
    GAUGE,
    "{Pa}",
    Kind.COOLING_UNIT,
    "Pressure lost in a filter, in pascals; it rises as the filter clogs.",
    ("filter",),
)
FAN_SPEED = Metric("fan.speed", GAUGE, "{rpm}", Kind.FAN, "Turns per minute of the fan.")
FAN_DUTY = Metric("fan.duty", GAUGE, "1", Kind.FAN, "Fan speed as a share of its highest.")
LEAK = Metric(
    "leak_detector.state",
    GAUGE,
    "",
    Kind.LEAK_DETECTOR,
    "1 for the detector's state, 0 for its other states: ok, warning, critical.",
    ("state",),
)
PUMP_STATE = Metric(
    "pump.state",
    GAUGE,
    "",
    Kind.PUMP,
    "1 for the pump's health, 0 for the others: ok, warning, critical.",
    ("state",),
)
RESERVOIR_STATE = Metric(
    "cooling_unit.reservoir.state",
    GAUGE,
    "",
    Kind.COOLING_UNIT,
    "1 for the state of a reservoir's level, 0 for its other states: ok, low, high.",
    ("reservoir", "state"),
)
HOST_INLET_TEMPERATURE = Metric(
    "host.inlet.temperature",
    GAUGE,
    "Cel",
    Kind.HOST,
    "Air where it enters the chassis, by a sensor there.",
    ("sensor",),
)
HOST_OUTLET_TEMPERATURE = Metric(
    "host.outlet.temperature",
    GAUGE,
    "Cel",
    Kind.HOST,
    "Air where it leaves the chassis, by a sensor there.",
    ("sensor",),
)
HOST_TEMPERATURE_RISE = Metric(
    "host.temperature.rise",
    GAUGE,
    "Cel",
    Kind.HOST,
    "Mean of the outlet sensors less mean of the inlet sensors.",
)
TEMPERATURE_HEADROOM = Metric(
    "sensor.temperature.headroom",
    GAUGE,
    "Cel",
    Kind.SENSOR,
    "Degrees that are left to the first limit, where the source gives that in place of a "
    "temperature.",
)
