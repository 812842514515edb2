"""Layer 3, fabric: NVLink, InfiniBand and RoCE ports, collectives."""

from collector.entity import Kind
from collector.metric import COUNTER, GAUGE, Metric

PORT_INFO = Metric(
    "port.info",
    GAUGE,
    "",
    Kind.PORT,
    "Always 1; says what the port of an RDMA device (InfiniBand, RoCE, EFA) is.",
    ("driver", "firmware", "board", "hca_type", "node_guid", "link_layer", "lid", "netdev"),
)
PORT_STATE = Metric(
    "port.state",
    GAUGE,
    "",
    Kind.PORT,
    "1 for the logical state of the port's link, 0 for the others; only active carries data.",
    ("state",),
)
PORT_PHYS_STATE = Metric(
    "port.phys_state",
    GAUGE,
    "",
    Kind.PORT,
    "1 for the state of the port's physical link, 0 for the others.",
    ("state",),
)
PORT_RATE = Metric(
    "port.rate",
    GAUGE,
    "By/s",
    Kind.PORT,
    "Rate at which the link runs now; below w2t.port.rate.expected it is degraded.",
)
PORT_RATE_EXPECTED = Metric(
    "port.rate.expected",
    GAUGE,
    "By/s",
    Kind.PORT,
    "Rate that the config expects, else the highest seen on ports of this kind of HCA here.",
)
PORT_IO = Metric(
    "port.io",
    COUNTER,
    "By",
    Kind.PORT,
    "Data that went through the port, RDMA included; interfaces of the host do not count that.",
    ("network.io.direction",),
)
PORT_PACKETS = Metric(
    "port.packets",
    COUNTER,
    "{packet}",
    Kind.PORT,
    "Packets that went through the port, those with errors included.",
    ("network.io.direction",),
)
PORT_CAST_PACKETS = Metric(
    "port.cast.packets",
    COUNTER,
    "{packet}",
    Kind.PORT,
    "The packets of w2t.port.packets by how they were addressed: unicast, multicast.",
    ("network.io.direction", "cast"),
)
PORT_ERRORS = Metric(
    "port.errors",
    COUNTER,
    "{error}",
    Kind.PORT,
    "Errors of the link by the kernel's name for them; these counters stop at their maximum: see "
    "w2t.port.errors.saturated.",
    ("error",),
)
PORT_ERRORS_SATURATED = Metric(
    "port.errors.saturated",
    GAUGE,
    "",
    Kind.PORT,
    "1 while a counter of the port stands at the maximum of its width and hides what happens now; "
    "a reset (perfquery -R) frees it.",
    ("error",),
)
PORT_TRANSMIT_WAIT = Metric(
    "port.transmit_wait",
    COUNTER,
    "{tick}",
    Kind.PORT,
    "Ticks in which the port had data and could not send; how long a tick is, the HCA decides.",
)
PORT_FLAPS = Metric(
    "port.flaps",
    COUNTER,
    "{flap}",
    Kind.PORT,
    "Times that the link went down since the daemon started, by its state and by link_downed: "
    "counted on where link_downed is saturated.",
)
PORT_RDMA_ERRORS = Metric(
    "port.rdma.errors",
    COUNTER,
    "{error}",
    Kind.PORT,
    "Errors, retransmissions and slow-downs of the RDMA transport, whatever the driver calls "
    "them, by the names that mlx5 has; one lost packet can count under several.",
    ("error",),
)
PORT_CONGESTION_PACKETS = Metric(
    "port.congestion.packets",
    COUNTER,
    "{packet}",
    Kind.PORT,
    "Packets of RoCE's congestion control: ecn_marked (data that came in marked), cnp_sent, "
    "cnp_handled, cnp_ignored (congestion notifications).",
    ("event",),
)
PORT_RDMA_REQUESTS = Metric(
    "port.rdma.requests",
    COUNTER,
    "{request}",
    Kind.PORT,
    "RDMA requests that came in, by operation.",
    ("operation",),
)
