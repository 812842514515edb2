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
COUNT = Metric(
    "host.gpus", GAUGE, "{gpu}", Kind.HOST, "GPUs that the driver lists and that answer."
)
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
    "Power of the module that carries the GPU, other GPUs and CPUs included; stated for one GPU "
    "of a board, so that a sum is right.",
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
TEMPERATURE_HIGHEST = Metric(
    "gpu.temperature.highest",
    GAUGE,
    "Cel",
    Kind.GPU,
    "Highest of the GPU's sensors (NVML's GPU_MAX); NVIDIA does not say which ones they are.",
)
COUNT_EXPECTED = Metric(
    "host.gpus.expected",
    GAUGE,
    "{gpu}",
    Kind.HOST,
    "Most GPUs seen at once since this source started; more than w2t.host.gpus if one was lost.",
)
QUERY_TIME = Metric(
    "gpu.query.time",
    GAUGE,
    "s",
    Kind.GPU,
    "Time that the driver took for the field values of the last poll, as it says itself.",
)

ECC_ENABLED = Metric(
    "gpu.ecc.enabled", GAUGE, "", Kind.GPU, "1 if error correction is on, 0 if it is off."
)
ECC_ERRORS = Metric(
    "gpu.ecc.errors",
    COUNTER,
    "{error}",
    Kind.GPU,
    "Memory errors since the driver was loaded; memory is dram or sram, error.type is "
    "corrected or uncorrected.",
    ("memory", "error.type"),
)
ECC_ERRORS_LIFETIME = Metric(
    "gpu.ecc.errors.lifetime",
    COUNTER,
    "{error}",
    Kind.GPU,
    "Memory errors that the board keeps on record over reboots; labels as in w2t.gpu.ecc.errors.",
    ("memory", "error.type"),
)
PAGES_RETIRED = Metric(
    "gpu.pages.retired",
    GAUGE,
    "{page}",
    Kind.GPU,
    "Pages out of use after single_bit or double_bit errors; boards before Ampere.",
    ("cause",),
)
PAGES_PENDING = Metric(
    "gpu.pages.pending", GAUGE, "", Kind.GPU, "1 while pages wait for a reboot to be retired."
)
ROWS_REMAPPED = Metric(
    "gpu.rows.remapped",
    GAUGE,
    "{row}",
    Kind.GPU,
    "Rows replaced by spare ones after corrected or uncorrected errors; Ampere and later.",
    ("cause",),
)
ROWS_PENDING = Metric(
    "gpu.rows.pending", GAUGE, "", Kind.GPU, "1 while a row waits for a GPU reset to be remapped."
)
ROWS_FAILED = Metric(
    "gpu.rows.failed", GAUGE, "", Kind.GPU, "1 if a row could not be remapped: the board is due."
)
ROW_BANKS = Metric(
    "gpu.rows.banks",
    GAUGE,
    "{bank}",
    Kind.GPU,
    "Banks by how many spare rows they have left: max, high, partial, low or none.",
    ("spare",),
)
RECOVERY_ACTION = Metric(
    "gpu.recovery.action",
    GAUGE,
    "",
    Kind.GPU,
    "1 for the action that the driver asks for, 0 for the others; none is the healthy state.",
    ("state",),
)
XIDS = Metric(
    "gpu.xids", COUNTER, "{event}", Kind.GPU, "Xids that the driver reported, by number.", ("xid",)
)

PCIE_REPLAYS = Metric(
    "gpu.pcie.replays", COUNTER, "{replay}", Kind.GPU, "PCIe packets that were sent again."
)
PCIE_ERRORS = Metric(
    "gpu.pcie.errors",
    COUNTER,
    "{error}",
    Kind.GPU,
    "PCIe errors and recoveries by type; correctable, non_fatal and fatal contain others.",
    ("error.type",),
)
PCIE_TRAFFIC = Metric(
    "gpu.pcie.traffic",
    COUNTER,
    "By",
    Kind.GPU,
    "Bytes over PCIe; direction is transmit or receive as the GPU sees it.",
    ("network.io.direction",),
)
PCIE_THROUGHPUT = Metric(
    "gpu.pcie.throughput",
    GAUGE,
    "By/s",
    Kind.GPU,
    "PCIe rate between two samples of the GPU's counters; direction as the GPU sees it.",
    ("network.io.direction",),
)
PCIE_GENERATION = Metric(
    "gpu.pcie.generation",
    GAUGE,
    "{generation}",
    Kind.GPU,
    "PCIe generation now; an idle GPU lowers it.",
)
PCIE_GENERATION_LIMIT = Metric(
    "gpu.pcie.generation.limit", GAUGE, "{generation}", Kind.GPU, "Highest PCIe generation here."
)
PCIE_WIDTH = Metric("gpu.pcie.width", GAUGE, "{lane}", Kind.GPU, "Lanes of the PCIe link now.")
PCIE_WIDTH_LIMIT = Metric(
    "gpu.pcie.width.limit", GAUGE, "{lane}", Kind.GPU, "Most PCIe lanes possible here."
)

GRAPHICS_UTILIZATION = Metric(
    "gpu.graphics.utilization",
    GAUGE,
    "1",
    Kind.GPU,
    "Share of time in which the compute and graphics engine worked.",
)
SM_UTILIZATION = Metric("gpu.sm.utilization", GAUGE, "1", Kind.GPU, "Share of SMs that were busy.")
SM_OCCUPANCY = Metric(
    "gpu.sm.occupancy", GAUGE, "1", Kind.GPU, "Resident warps over those that fit."
)
TENSOR_UTILIZATION = Metric(
    "gpu.tensor.utilization", GAUGE, "1", Kind.GPU, "Share of time in which any tensor pipe worked."
)
PIPE_UTILIZATION = Metric(
    "gpu.pipe.utilization",
    GAUGE,
    "1",
    Kind.GPU,
    "Share of time in which a pipe worked: integer, fp64, fp32, fp16, tensor_dfma, tensor_hmma, "
    "tensor_dmma or tensor_imma.",
    ("pipe",),
)
DRAM_UTILIZATION = Metric(
    "gpu.dram.utilization",
    GAUGE,
    "1",
    Kind.GPU,
    "Memory bandwidth used over the highest possible; w2t.gpu.memory.utilization is of time.",
)
NVLINK_TRAFFIC = Metric(
    "gpu.nvlink.traffic",
    COUNTER,
    "By",
    Kind.GPU,
    "Payload over all NVLinks of the GPU; direction is transmit or receive.",
    ("network.io.direction",),
)
NVLINK_THROUGHPUT = Metric(
    "gpu.nvlink.throughput",
    GAUGE,
    "By/s",
    Kind.GPU,
    "Rate over all NVLinks of the GPU between two samples of its counters.",
    ("network.io.direction",),
)
