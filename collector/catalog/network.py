"""Layer 4, network: interfaces of the host."""

from collector.entity import Kind
from collector.metric import COUNTER, GAUGE, Metric

_DIRECTION = ("network.io.direction",)
_PRIORITY = ("network.io.direction", "priority")

INFO = Metric(
    "interface.info",
    GAUGE,
    "",
    Kind.INTERFACE,
    "Always 1; says what drives the interface and where it sits.",
    ("driver", "pci.bus_id"),
)
STATE = Metric(
    "interface.state",
    GAUGE,
    "",
    Kind.INTERFACE,
    "1 for the operational state of the interface (RFC 2863), 0 for the others; drivers that do "
    "not follow it say unknown.",
    ("state",),
)
RATE = Metric("interface.rate", GAUGE, "By/s", Kind.INTERFACE, "Rate at which the link runs.")
MTU = Metric("interface.mtu", GAUGE, "By", Kind.INTERFACE, "Longest packet that is sent.")
CARRIER_CHANGES = Metric(
    "interface.carrier_changes",
    COUNTER,
    "{change}",
    Kind.INTERFACE,
    "Times that the carrier came or went: one flap is two.",
)
IO = Metric(
    "interface.io",
    COUNTER,
    "By",
    Kind.INTERFACE,
    "Data that went through the kernel's network stack; RDMA does not: see w2t.interface.phy.io.",
    _DIRECTION,
)
PACKETS = Metric(
    "interface.packets",
    COUNTER,
    "{packet}",
    Kind.INTERFACE,
    "Packets that went through the kernel's network stack; those of RDMA do not.",
    _DIRECTION,
)
ERRORS = Metric(
    "interface.errors",
    COUNTER,
    "{packet}",
    Kind.INTERFACE,
    "Packets that the interface found bad, or could not send.",
    _DIRECTION,
)
DROPS = Metric(
    "interface.drops",
    COUNTER,
    "{packet}",
    Kind.INTERFACE,
    "Good packets that the kernel or its driver dropped.",
    _DIRECTION,
)

PHY_IO = Metric(
    "interface.phy.io",
    COUNTER,
    "By",
    Kind.INTERFACE,
    "Data at the MAC: of all functions of the port, RDMA included.",
    _DIRECTION,
)
PHY_PACKETS = Metric(
    "interface.phy.packets",
    COUNTER,
    "{packet}",
    Kind.INTERFACE,
    "Packets at the MAC: of all functions of the port, RDMA included.",
    _DIRECTION,
)
PHY_ERRORS = Metric(
    "interface.phy.errors",
    COUNTER,
    "{error}",
    Kind.INTERFACE,
    "Errors at the MAC or below it by kind; one bad frame can count under several.",
    ("error.type",),
)
LINE_IO = Metric(
    "interface.line.io",
    COUNTER,
    "By",
    Kind.INTERFACE,
    "Bytes that the port received or could have received, idle line included: what bit errors are "
    "a share of.",
)
FEC_BITS_CORRECTED = Metric(
    "interface.fec.corrections",
    COUNTER,
    "{bit}",
    Kind.INTERFACE,
    "Bits that forward error correction mended; a healthy link of 100 Gb/s or more has some.",
)
FEC_BLOCKS = Metric(
    "interface.fec.blocks",
    COUNTER,
    "{block}",
    Kind.INTERFACE,
    "Blocks of forward error correction with errors by outcome: corrected, or uncorrectable "
    "(data was lost).",
    ("outcome",),
)
BIT_ERROR_RATE = Metric(
    "interface.bit_error_rate",
    GAUGE,
    "1",
    Kind.INTERFACE,
    "Corrected bits per received bit between the last two polls: the link's quality before "
    "correction.",
)
LINK_DOWN_EVENTS = Metric(
    "interface.link_down_events",
    COUNTER,
    "{event}",
    Kind.INTERFACE,
    "Times that the physical link went down, by the NIC's own count.",
)
RDMA_IO = Metric(
    "interface.rdma.io",
    COUNTER,
    "By",
    Kind.INTERFACE,
    "RDMA data of this function.",
    (*_DIRECTION, "cast"),
)
RDMA_PACKETS = Metric(
    "interface.rdma.packets",
    COUNTER,
    "{packet}",
    Kind.INTERFACE,
    "RDMA packets of this function.",
    (*_DIRECTION, "cast"),
)
PRIORITY_IO = Metric(
    "interface.priority.io",
    COUNTER,
    "By",
    Kind.INTERFACE,
    "The data of w2t.interface.phy.io by priority; RoCE has one to itself.",
    _PRIORITY,
)
PRIORITY_PACKETS = Metric(
    "interface.priority.packets",
    COUNTER,
    "{packet}",
    Kind.INTERFACE,
    "The packets of w2t.interface.phy.packets by priority.",
    _PRIORITY,
)
PAUSE_PACKETS = Metric(
    "interface.pause.packets",
    COUNTER,
    "{packet}",
    Kind.INTERFACE,
    "Pause frames (IEEE 802.3x where priority is empty, else PFC); received ones stop this host, "
    "sent ones stop its peer.",
    _PRIORITY,
)
PAUSE_TIME = Metric(
    "interface.pause.time",
    COUNTER,
    "s",
    Kind.INTERFACE,
    "Time for which pause frames stopped the traffic of a priority.",
    _PRIORITY,
)
PAUSE_STORMS = Metric(
    "interface.pause.storms",
    COUNTER,
    "{event}",
    Kind.INTERFACE,
    "Times that the NIC sent pauses for long (warning), and so long that it gave up (error).",
    ("severity",),
)
DISCARDS = Metric(
    "interface.discards",
    COUNTER,
    "{packet}",
    Kind.INTERFACE,
    "Good packets that the NIC discarded, by cause and, where the NIC tells them apart, priority; "
    "causes can contain one another.",
    (*_DIRECTION, "cause", "priority"),
)
ECN_MARKED = Metric(
    "interface.ecn_marked",
    COUNTER,
    "{packet}",
    Kind.INTERFACE,
    "Packets marked for congestion: by the network (received), or by this NIC (host).",
    ("point", "priority"),
)
ALLOWANCE_EXCEEDED = Metric(
    "interface.allowance_exceeded",
    COUNTER,
    "{packet}",
    Kind.INTERFACE,
    "Packets that a cloud queued or dropped because the instance exceeded an allowance.",
    ("allowance",),
)
TRANSMIT_TIMEOUTS = Metric(
    "interface.transmit_timeouts",
    COUNTER,
    "{event}",
    Kind.INTERFACE,
    "Times that a transmit queue hung and the driver reset the NIC.",
)
PCI_STALLED = Metric(
    "interface.pci.stalled",
    GAUGE,
    "1",
    Kind.INTERFACE,
    "Share of the last second in which the NIC waited for PCIe credits: the host is too slow.",
    ("operation",),
)
PCI_STALL_TIME = Metric(
    "interface.pci.stall_time",
    COUNTER,
    "s",
    Kind.INTERFACE,
    "Seconds in which w2t.interface.pci.stalled was above 0.3.",
    ("operation",),
)
PCI_ERRORS = Metric(
    "interface.pci.errors",
    COUNTER,
    "{error}",
    Kind.INTERFACE,
    "Recoveries of the NIC's PCIe link, by what was wrong.",
    ("error.type",),
)
MODULE_EVENTS = Metric(
    "interface.module.events",
    COUNTER,
    "{event}",
    Kind.INTERFACE,
    "What happened to the transceiver: high_temperature, unplugged, bus_stuck, shorted.",
    ("event",),
)
CONTROL_PACKETS = Metric(
    "interface.control.packets",
    COUNTER,
    "{packet}",
    Kind.INTERFACE,
    "MAC control frames, pauses included.",
    _DIRECTION,
)
DRIVER_STATISTIC = Metric(
    "interface.driver.statistic",
    GAUGE,
    "",
    Kind.INTERFACE,
    "A statistic of the driver that has no metric of its own, as the driver counts it; only where "
    "the config says all.",
    ("name",),
)
