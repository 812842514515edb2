"""Layer 1, power: what some PDUs and UPSs tell beside `power`: parts, ratings, batteries."""

from collector.entity import Kind
from collector.metric import COUNTER, GAUGE, Metric

INLET_APPARENT_POWER_LIMIT = Metric(
    "inlet.apparent_power.limit.voltamperes",
    GAUGE,
    "{VA}",
    Kind.INLET,
    "Apparent power for which the inlet is rated, in volt-amperes.",
)
INLET_LOAD_STATE = Metric(
    "inlet.load_state",
    GAUGE,
    "",
    Kind.INLET,
    "1 for the load state that the PDU reports by its thresholds, 0 for its other states.",
    ("state",),
)
INLET_ENERGY_START = Metric(
    "inlet.energy.start",
    GAUGE,
    "s",
    Kind.INLET,
    "Unix time of the last reset of the inlet's energy counter.",
)
PHASE_ENERGY = Metric(
    "phase.energy", COUNTER, "J", Kind.PHASE, "Energy since the phase's counter was last reset."
)
BREAKER_POWER = Metric(
    "breaker.power", GAUGE, "W", Kind.BREAKER, "Active power through one bank or breaker."
)
BREAKER_APPARENT_POWER = Metric(
    "breaker.apparent_power.voltamperes",
    GAUGE,
    "{VA}",
    Kind.BREAKER,
    "Apparent power through one bank or breaker, in volt-amperes.",
)
BREAKER_VOLTAGE = Metric(
    "breaker.voltage", GAUGE, "V", Kind.BREAKER, "RMS voltage of one bank or breaker."
)
BREAKER_POWER_FACTOR = Metric(
    "breaker.power_factor", GAUGE, "1", Kind.BREAKER, "Power factor of one bank or breaker."
)
BREAKER_ENERGY = Metric(
    "breaker.energy",
    COUNTER,
    "J",
    Kind.BREAKER,
    "Energy since the counter of the bank or breaker was last reset.",
)
OUTLET_CURRENT_LIMIT = Metric(
    "outlet.current.limit", GAUGE, "A", Kind.OUTLET, "Current for which the outlet is rated."
)
OUTLET_LOAD_STATE = Metric(
    "outlet.load_state",
    GAUGE,
    "",
    Kind.OUTLET,
    "1 for the load state that the PDU reports by its thresholds, 0 for its other states.",
    ("state",),
)

ENVIRONMENT_POWER = Metric(
    "environment.power",
    GAUGE,
    "W",
    Kind.ENVIRONMENT,
    "Power at a sensor of which the device tells only a name; such sensors can contain one "
    "another: do not add them.",
)
ENVIRONMENT_CURRENT = Metric(
    "environment.current",
    GAUGE,
    "A",
    Kind.ENVIRONMENT,
    "Current at a sensor of which the device tells only a name.",
)
ENVIRONMENT_VOLTAGE = Metric(
    "environment.voltage",
    GAUGE,
    "V",
    Kind.ENVIRONMENT,
    "Voltage at a sensor of which the device tells only a name.",
)

UPS_BATTERY_CHARGE = Metric(
    "ups.battery.charge", GAUGE, "1", Kind.PDU, "Charge left in a UPS's battery, as it estimates."
)
UPS_BATTERY_RUNTIME = Metric(
    "ups.battery.runtime",
    GAUGE,
    "s",
    Kind.PDU,
    "Time for which the battery can carry the present load, as the UPS estimates.",
)
UPS_BATTERY_TEMPERATURE = Metric(
    "ups.battery.temperature", GAUGE, "Cel", Kind.PDU, "Temperature at or near a UPS's battery."
)
UPS_BATTERY_STATE = Metric(
    "ups.battery.state",
    GAUGE,
    "",
    Kind.PDU,
    "1 for the battery's state, 0 for its other states; low is that little runtime is left.",
    ("state",),
)
UPS_OUTPUT_SOURCE = Metric(
    "ups.output.source",
    GAUGE,
    "",
    Kind.PDU,
    "1 for what feeds a UPS's output, 0 for the other sources: battery is that the mains failed.",
    ("state",),
)
UPS_OUTPUT_LOAD = Metric(
    "ups.output.load", GAUGE, "1", Kind.PDU, "Highest share of its rated power that a UPS carries."
)
