"""Layer 3, NVLink: links of GPUs, the fabric that they join, the link to a Grace CPU."""

from collector.entity import Kind
from collector.metric import COUNTER, GAUGE, Metric

STATE = Metric(
    "nvlink.state",
    GAUGE,
    "",
    Kind.NVLINK,
    "1 for the link's state, 0 for the others; some boards leave links inactive by design.",
    ("state",),
)
SPEED = Metric("nvlink.speed", GAUGE, "By/s", Kind.NVLINK, "Speed of the link in one direction.")
TRAFFIC = Metric(
    "nvlink.traffic",
    COUNTER,
    "By",
    Kind.NVLINK,
    "Bytes over the link: payload where the driver tells it apart, else all.",
    ("network.io.direction",),
)
PACKETS = Metric(
    "nvlink.packets",
    COUNTER,
    "{packet}",
    Kind.NVLINK,
    "Packets over the link.",
    ("network.io.direction",),
)
ERRORS = Metric(
    "nvlink.errors",
    COUNTER,
    "{error}",
    Kind.NVLINK,
    "Errors by type; effective and symbol are those that forward error correction left over.",
    ("error.type",),
)
RECOVERIES = Metric(
    "nvlink.recoveries",
    COUNTER,
    "{recovery}",
    Kind.NVLINK,
    "Times that the link was brought up again in service: successful or failed.",
    ("outcome",),
)
BIT_ERROR_RATIO = Metric(
    "nvlink.bit_errors",
    GAUGE,
    "1",
    Kind.NVLINK,
    "Wrong bits over all bits after error correction, by type: effective or symbol.",
    ("error.type",),
)
C2C_THROUGHPUT = Metric(
    "gpu.c2c.throughput",
    GAUGE,
    "By/s",
    Kind.GPU,
    "Rate over the link between the GPU and its Grace CPU.",
    ("network.io.direction",),
)
FABRIC_INFO = Metric(
    "gpu.fabric.info",
    GAUGE,
    "",
    Kind.GPU,
    "Always 1; NVLink fabric in which the GPU is: GPUs of one cluster and clique reach each other.",
    ("cluster", "clique"),
)
FABRIC_STATE = Metric(
    "gpu.fabric.state",
    GAUGE,
    "",
    Kind.GPU,
    "1 for the state of joining the NVLink fabric, 0 for the others; absent without a fabric.",
    ("state",),
)
FABRIC_HEALTH = Metric(
    "gpu.fabric.health",
    GAUGE,
    "",
    Kind.GPU,
    "1 for the health of the NVLink fabric as this GPU sees it, 0 for the others.",
    ("state",),
)
FABRIC_FAULT = Metric(
    "gpu.fabric.fault",
    GAUGE,
    "",
    Kind.GPU,
    "1 while the fabric has this fault, else 0; absent where it is not watched for.",
    ("fault",),
)
