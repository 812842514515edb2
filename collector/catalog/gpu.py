"""Layer 3, GPU."""

from collector.entity import Kind
from collector.metric import COUNTER, GAUGE, Metric

INFO = Metric(
    "gpu.info",
    GAUGE,
    "",
    Kind.GPU,
    "Always 1; says what the GPU is and where it sits.",
    ("index", "model", "serial", "pci.bus_id", "driver", "vbios"),
)
COUNT = Metric("host.gpus", GAUGE, "{gpu}", Kind.HOST, "GPUs that the driver lists.")
POWER = Metric("gpu.power", GAUGE, "W", Kind.GPU, "Board power draw at this instant.")
POWER_AVERAGE = Metric(
    "gpu.power.average", GAUGE, "W", Kind.GPU, "Board power draw, averaged over 1 s by the driver."
)
POWER_LIMIT = Metric("gpu.power.limit", GAUGE, "W", Kind.GPU, "Enforced power limit.")
POWER_LIMIT_SETTING = Metric(
    "gpu.power.limit.setting",
    GAUGE,
    "W",
    Kind.GPU,
    "Power limits that are not in force: min and max that can be set, default, requested.",
    ("setting",),
)
MEMORY_POWER = Metric(
    "gpu.memory.power",
    GAUGE,
    "W",
    Kind.GPU,
    "Power of the GPU's memory, averaged by the driver; contained in w2t.gpu.power.",
)
MODULE_POWER = Metric(
    "gpu.module.power",
    GAUGE,
    "W",
    Kind.GPU,
    "Power of the module that carries the GPU; the GPUs of one board report the same module.",
)
ENERGY = Metric(
    "gpu.energy", COUNTER, "J", Kind.GPU, "Board energy; driver reloads are bridged over."
)
TEMPERATURE = Metric("gpu.temperature", GAUGE, "Cel", Kind.GPU, "Temperature of the GPU die.")
MEMORY_TEMPERATURE = Metric(
    "gpu.memory.temperature", GAUGE, "Cel", Kind.GPU, "Temperature of the GPU's memory."
)
TEMPERATURE_MARGIN = Metric(
    "gpu.temperature.margin",
    GAUGE,
    "Cel",
    Kind.GPU,
    "Degrees below the highest temperature of operation (T.Limit); headroom, not a temperature.",
)
TEMPERATURE_LIMIT = Metric(
    "gpu.temperature.limit",
    GAUGE,
    "Cel",
    Kind.GPU,
    "Temperature of a threshold: shutdown, slowdown, memory or gpu (highest in operation).",
    ("threshold",),
)
TEMPERATURE_MARGIN_LIMIT = Metric(
    "gpu.temperature.margin.limit",
    GAUGE,
    "Cel",
    Kind.GPU,
    "Value of w2t.gpu.temperature.margin at which a threshold is reached; zero or below.",
    ("threshold",),
)
CLOCK = Metric("gpu.clock", GAUGE, "Hz", Kind.GPU, "Clock now.", ("domain",))
CLOCK_LIMIT = Metric("gpu.clock.limit", GAUGE, "Hz", Kind.GPU, "Highest clock.", ("domain",))
THROTTLE_ACTIVE = Metric(
    "gpu.throttle.active",
    GAUGE,
    "",
    Kind.GPU,
    "1 while this reason (NVML clocks event reason) holds the clocks down, else 0.",
    ("reason",),
)
THROTTLE_TIME = Metric(
    "gpu.throttle.time", COUNTER, "s", Kind.GPU, "Time throttled, by reason.", ("reason",)
)
UTILIZATION = Metric(
    "gpu.utilization", GAUGE, "1", Kind.GPU, "Share of time in which a kernel ran on the GPU."
)
MEMORY_UTILIZATION = Metric(
    "gpu.memory.utilization",
    GAUGE,
    "1",
    Kind.GPU,
    "Share of time in which the GPU's memory was read or written.",
)
MEMORY_USED = Metric(
    "gpu.memory.used", GAUGE, "By", Kind.GPU, "Memory in use, what the driver reserves left out."
)
MEMORY_RESERVED = Metric(
    "gpu.memory.reserved", GAUGE, "By", Kind.GPU, "Memory that driver and firmware keep."
)
MEMORY_LIMIT = Metric("gpu.memory.limit", GAUGE, "By", Kind.GPU, "Memory of the GPU.")
PROCESSES = Metric(
    "gpu.processes", GAUGE, "{process}", Kind.GPU, "Processes with a compute context."
)
PROCESS_MEMORY = Metric(
    "gpu.process.memory", GAUGE, "By", Kind.GPU, "GPU memory of one process.", ("process.pid",)
)
PROCESS_UTILIZATION = Metric(
    "gpu.process.utilization",
    GAUGE,
    "1",
    Kind.GPU,
    "Share of time in which kernels of one process ran on the GPU.",
    ("process.pid",),
)
