"""What is derived of racks and sites: power against capacity, cooling against heat."""

from collector.entity import Kind
from collector.metric import GAUGE, Metric

SITE_POWER = Metric(
    "site.power",
    GAUGE,
    "W",
    Kind.SITE,
    "Sum over the PDUs of the site's racks; absent while one of them cannot be read.",
)
SITE_POWER_LIMIT = Metric(
    "site.power.limit", GAUGE, "W", Kind.SITE, "Capacity of the site's supply, by the config."
)
SITE_POWER_HEADROOM = Metric(
    "site.power.headroom", GAUGE, "W", Kind.SITE, "What is left of the site's capacity."
)
RACK_POWER = Metric(
    "rack.power",
    GAUGE,
    "W",
    Kind.RACK,
    "Sum over the rack's PDUs; absent while one of them cannot be read.",
)
RACK_POWER_LIMIT = Metric(
    "rack.power.limit", GAUGE, "W", Kind.RACK, "Capacity of the rack, by the config."
)
RACK_POWER_HEADROOM = Metric(
    "rack.power.headroom", GAUGE, "W", Kind.RACK, "What is left of the rack's capacity."
)
PDU_POWER_HEADROOM = Metric(
    "pdu.power.headroom",
    GAUGE,
    "W",
    Kind.PDU,
    "What is left of the PDU's power, of the config's limit or else of its rating.",
)
BREAKER_CURRENT_HEADROOM = Metric(
    "breaker.current.headroom",
    GAUGE,
    "A",
    Kind.BREAKER,
    "What is left of the current that the breaker may carry all the time.",
)
PHASE_CURRENT_HEADROOM = Metric(
    "phase.current.headroom",
    GAUGE,
    "A",
    Kind.PHASE,
    "What is left of the current that the phase may carry all the time.",
)
INLET_CURRENT_HEADROOM = Metric(
    "inlet.current.headroom",
    GAUGE,
    "A",
    Kind.INLET,
    "What is left of the current that the inlet may carry all the time.",
)
COOLING_POWER_PER_HEAT = Metric(
    "cooling_unit.power.per_heat",
    GAUGE,
    "1",
    Kind.COOLING_UNIT,
    "Watts that the unit draws for each watt of heat that it removes.",
)
COOLING_HEAT_SHARE = Metric(
    "cooling_unit.heat.share",
    GAUGE,
    "1",
    Kind.COOLING_UNIT,
    "Heat that the unit's coolant carries away, of the power of the racks that it cools; the rest "
    "goes into the air.",
)
SITE_LIQUID_HEAT_SHARE = Metric(
    "site.liquid_heat.share",
    GAUGE,
    "1",
    Kind.SITE,
    "Heat that coolant carries away, of the power of the site's racks.",
)
