"""Layer 1, power: rack PDUs and UPSs and what hangs on them, power meters inside hosts."""

from collector.entity import Kind
from collector.metric import COUNTER, GAUGE, Metric

PDU_INFO = Metric(
    "pdu.info",
    GAUGE,
    "",
    Kind.PDU,
    "Always 1; says what the PDU is.",
    ("vendor", "model", "serial", "firmware", "profile"),
)
PDU_POWER = Metric(
    "pdu.power",
    GAUGE,
    "W",
    Kind.PDU,
    "Active power of all inlets together; estimated says current times nominal voltage.",
    ("basis",),
)
PDU_POWER_LIMIT = Metric(
    "pdu.power.limit", GAUGE, "W", Kind.PDU, "Active power for which the PDU is rated."
)
PDU_APPARENT_POWER = Metric(
    "pdu.apparent_power.voltamperes",
    GAUGE,
    "{VA}",
    Kind.PDU,
    "Apparent power of all inlets together, in volt-amperes.",
)
PDU_POWER_FACTOR = Metric("pdu.power_factor", GAUGE, "1", Kind.PDU, "Power factor of the PDU.")
PDU_ENERGY = Metric(
    "pdu.energy", COUNTER, "J", Kind.PDU, "Energy since the PDU's counter was last reset."
)
PDU_LOAD_STATE = Metric(
    "pdu.load_state",
    GAUGE,
    "",
    Kind.PDU,
    "1 for the load state that the PDU reports by its thresholds, 0 for its other states.",
    ("state",),
)

INLET_POWER = Metric("inlet.power", GAUGE, "W", Kind.INLET, "Active power of one inlet.")
INLET_APPARENT_POWER = Metric(
    "inlet.apparent_power.voltamperes",
    GAUGE,
    "{VA}",
    Kind.INLET,
    "Apparent power of one inlet, in volt-amperes.",
)
INLET_CURRENT = Metric("inlet.current", GAUGE, "A", Kind.INLET, "RMS current of one inlet.")
INLET_CURRENT_LIMIT = Metric(
    "inlet.current.limit", GAUGE, "A", Kind.INLET, "Current for which the inlet is rated."
)
INLET_VOLTAGE = Metric("inlet.voltage", GAUGE, "V", Kind.INLET, "RMS voltage of one inlet.")
INLET_POWER_FACTOR = Metric(
    "inlet.power_factor", GAUGE, "1", Kind.INLET, "Power factor of one inlet."
)
INLET_FREQUENCY = Metric("inlet.frequency", GAUGE, "Hz", Kind.INLET, "Line frequency.")
INLET_ENERGY = Metric(
    "inlet.energy", COUNTER, "J", Kind.INLET, "Energy since the inlet's counter was last reset."
)

PHASE_POWER = Metric("phase.power", GAUGE, "W", Kind.PHASE, "Active power of one phase.")
PHASE_APPARENT_POWER = Metric(
    "phase.apparent_power.voltamperes",
    GAUGE,
    "{VA}",
    Kind.PHASE,
    "Apparent power of one phase, in volt-amperes.",
)
PHASE_CURRENT = Metric(
    "phase.current",
    GAUGE,
    "A",
    Kind.PHASE,
    "RMS current of one phase, or of one line where the phase's name begins with L.",
)
PHASE_CURRENT_LIMIT = Metric(
    "phase.current.limit", GAUGE, "A", Kind.PHASE, "Current for which the phase is rated."
)
PHASE_VOLTAGE = Metric("phase.voltage", GAUGE, "V", Kind.PHASE, "RMS voltage of one phase.")
PHASE_POWER_FACTOR = Metric(
    "phase.power_factor", GAUGE, "1", Kind.PHASE, "Power factor of one phase."
)
PHASE_LOAD_STATE = Metric(
    "phase.load_state",
    GAUGE,
    "",
    Kind.PHASE,
    "1 for the load state that the PDU reports by its thresholds, 0 for its other states.",
    ("state",),
)

BREAKER_CURRENT = Metric(
    "breaker.current", GAUGE, "A", Kind.BREAKER, "RMS current through one bank or breaker."
)
BREAKER_CURRENT_LIMIT = Metric(
    "breaker.current.limit", GAUGE, "A", Kind.BREAKER, "Current for which the breaker is rated."
)
BREAKER_LOAD_STATE = Metric(
    "breaker.load_state",
    GAUGE,
    "",
    Kind.BREAKER,
    "1 for the load state that the PDU reports by its thresholds, 0 for its other states.",
    ("state",),
)

OUTLET_POWER = Metric("outlet.power", GAUGE, "W", Kind.OUTLET, "Active power of one outlet.")
OUTLET_APPARENT_POWER = Metric(
    "outlet.apparent_power.voltamperes",
    GAUGE,
    "{VA}",
    Kind.OUTLET,
    "Apparent power of one outlet, in volt-amperes.",
)
OUTLET_CURRENT = Metric("outlet.current", GAUGE, "A", Kind.OUTLET, "RMS current of one outlet.")
OUTLET_VOLTAGE = Metric("outlet.voltage", GAUGE, "V", Kind.OUTLET, "RMS voltage of one outlet.")
OUTLET_POWER_FACTOR = Metric(
    "outlet.power_factor", GAUGE, "1", Kind.OUTLET, "Power factor of one outlet."
)
OUTLET_FREQUENCY = Metric("outlet.frequency", GAUGE, "Hz", Kind.OUTLET, "Line frequency.")
OUTLET_ENERGY = Metric(
    "outlet.energy", COUNTER, "J", Kind.OUTLET, "Energy since the outlet's counter was last reset."
)
OUTLET_INFO = Metric(
    "outlet.info", GAUGE, "", Kind.OUTLET, "Always 1; the outlet's name in the PDU.", ("name",)
)

ENVIRONMENT_TEMPERATURE = Metric(
    "environment.temperature",
    GAUGE,
    "Cel",
    Kind.ENVIRONMENT,
    "Air temperature at a probe that is attached to a PDU.",
)
ENVIRONMENT_HUMIDITY = Metric(
    "environment.humidity",
    GAUGE,
    "1",
    Kind.ENVIRONMENT,
    "Relative humidity at a probe that is attached to a PDU.",
)
ENVIRONMENT_INFO = Metric(
    "environment.info",
    GAUGE,
    "",
    Kind.ENVIRONMENT,
    "Always 1; the probe's name in the PDU.",
    ("name",),
)

CPU_ENERGY = Metric(
    "cpu.energy",
    COUNTER,
    "J",
    Kind.CPU,
    "Energy by RAPL; hw.id is the zone. A package contains its core and uncore: do not add them.",
    ("domain",),
)
CPU_POWER = Metric(
    "cpu.power",
    GAUGE,
    "W",
    Kind.CPU,
    "Power by the meters of NVIDIA Grace: grace contains cpu and sysio, and module contains grace "
    "and the GPUs on the module: do not add them.",
    ("domain",),
)
SENSOR_POWER = Metric(
    "sensor.power",
    GAUGE,
    "W",
    Kind.SENSOR,
    "Power by a sensor of the host or its BMC; one can contain another: do not add them.",
)
SENSOR_ENERGY = Metric(
    "sensor.energy",
    COUNTER,
    "J",
    Kind.SENSOR,
    "Energy by a sensor of the host or its BMC; see w2t.sensor.power.",
)

HOST_INPUT_POWER = Metric(
    "host.input_power",
    GAUGE,
    "W",
    Kind.HOST,
    "Power that the host takes in by its own meter: redfish, dcmi, hwmon.",
    ("meter",),
)

POWER_SUPPLY_INFO = Metric(
    "power_supply.info",
    GAUGE,
    "",
    Kind.POWER_SUPPLY,
    "Always 1; says what the power supply is.",
    ("vendor", "model", "serial", "firmware"),
)
POWER_SUPPLY_INPUT_POWER = Metric(
    "power_supply.input.power", GAUGE, "W", Kind.POWER_SUPPLY, "Power that the supply takes in."
)
POWER_SUPPLY_INPUT_VOLTAGE = Metric(
    "power_supply.input.voltage", GAUGE, "V", Kind.POWER_SUPPLY, "RMS voltage at the input."
)
POWER_SUPPLY_INPUT_CURRENT = Metric(
    "power_supply.input.current", GAUGE, "A", Kind.POWER_SUPPLY, "RMS current at the input."
)
POWER_SUPPLY_OUTPUT_POWER = Metric(
    "power_supply.output.power",
    GAUGE,
    "W",
    Kind.POWER_SUPPLY,
    "Power that the supply gives; its loss is what the input has more.",
)
POWER_SUPPLY_OUTPUT_VOLTAGE = Metric(
    "power_supply.output.voltage", GAUGE, "V", Kind.POWER_SUPPLY, "Voltage of the main output."
)
POWER_SUPPLY_OUTPUT_CURRENT = Metric(
    "power_supply.output.current", GAUGE, "A", Kind.POWER_SUPPLY, "Current of the main output."
)
POWER_SUPPLY_ENERGY = Metric(
    "power_supply.energy",
    COUNTER,
    "J",
    Kind.POWER_SUPPLY,
    "Energy that the supply took in since its counter was last reset.",
)
POWER_SUPPLY_POWER_LIMIT = Metric(
    "power_supply.power.limit", GAUGE, "W", Kind.POWER_SUPPLY, "Power that the supply can give."
)
POWER_SUPPLY_TEMPERATURE = Metric(
    "power_supply.temperature",
    GAUGE,
    "Cel",
    Kind.POWER_SUPPLY,
    "Temperature at a position of the supply: intake, exhaust, hotspot; empty where it says none.",
    ("position",),
)
POWER_SUPPLY_STATE = Metric(
    "power_supply.state",
    GAUGE,
    "",
    Kind.POWER_SUPPLY,
    "1 for the supply's state, 0 for its other states: enabled, standby, disabled, absent, "
    "unavailable.",
    ("state",),
)
POWER_SUPPLY_HEALTH = Metric(
    "power_supply.health",
    GAUGE,
    "",
    Kind.POWER_SUPPLY,
    "1 for the supply's health, 0 for the others: ok, warning, critical.",
    ("state",),
)
PDU_OUTPUT_POWER = Metric(
    "pdu.output.power",
    GAUGE,
    "W",
    Kind.PDU,
    "Power that a power shelf gives to its busbar; pdu.power is what it takes in.",
)
PDU_EFFICIENCY = Metric(
    "pdu.efficiency", GAUGE, "1", Kind.PDU, "Output by input of a power shelf, as it says itself."
)
SOURCE_CLOCK_OFFSET = Metric(
    "source.clock.offset",
    GAUGE,
    "s",
    Kind.SOURCE,
    "By how much this host's clock is ahead of the source's; 0 while less than can be told.",
)

SNMP_TRAPS = Metric(
    "snmp.traps",
    COUNTER,
    "{trap}",
    Kind.SOURCE,
    "SNMP traps and informs by their name in the MIB; unknown are those that no table here names.",
    ("trap",),
)
SNMP_TRAPS_DROPPED = Metric(
    "snmp.traps.dropped",
    COUNTER,
    "{datagram}",
    Kind.SOURCE,
    "Datagrams that gave no event: community or user not accepted, stale, malformed, full queue.",
    ("reason",),
)
