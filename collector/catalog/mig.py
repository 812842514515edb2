"""Layer 3, slices of GPUs (MIG). Power, energy, clocks and temperature are of the whole GPU."""

from collector.entity import Kind
from collector.metric import COUNTER, GAUGE, Metric

INFO = Metric(
    "mig.info",
    GAUGE,
    "",
    Kind.MIG,
    "Always 1; says what the slice is: its profile and NVML's ids of its instances.",
    ("profile", "gpu_instance", "compute_instance"),
)
MULTIPROCESSORS = Metric(
    "mig.multiprocessors", GAUGE, "{multiprocessor}", Kind.MIG, "SMs that the slice has."
)
MEMORY_USED = Metric("mig.memory.used", GAUGE, "By", Kind.MIG, "Memory in use in the slice.")
MEMORY_RESERVED = Metric(
    "mig.memory.reserved", GAUGE, "By", Kind.MIG, "Memory of the slice that the driver keeps."
)
MEMORY_LIMIT = Metric(
    "mig.memory.limit",
    GAUGE,
    "By",
    Kind.MIG,
    "Memory of the slice; compute instances of one GPU instance share it.",
)
PROCESSES = Metric(
    "mig.processes", GAUGE, "{process}", Kind.MIG, "Processes with a compute context in the slice."
)
PROCESS_MEMORY = Metric(
    "mig.process.memory",
    GAUGE,
    "By",
    Kind.MIG,
    "Memory that one process has in the slice.",
    ("process.pid",),
)
ECC_ERRORS = Metric(
    "mig.ecc.errors",
    COUNTER,
    "{error}",
    Kind.MIG,
    "Memory errors since the driver was loaded; labels as in w2t.gpu.ecc.errors.",
    ("memory", "error.type"),
)
GRAPHICS_UTILIZATION = Metric(
    "mig.graphics.utilization", GAUGE, "1", Kind.MIG, "As w2t.gpu.graphics.utilization."
)
SM_UTILIZATION = Metric(
    "mig.sm.utilization", GAUGE, "1", Kind.MIG, "Share of the slice's SMs that were busy."
)
SM_OCCUPANCY = Metric("mig.sm.occupancy", GAUGE, "1", Kind.MIG, "As w2t.gpu.sm.occupancy.")
TENSOR_UTILIZATION = Metric(
    "mig.tensor.utilization", GAUGE, "1", Kind.MIG, "As w2t.gpu.tensor.utilization."
)
PIPE_UTILIZATION = Metric(
    "mig.pipe.utilization", GAUGE, "1", Kind.MIG, "As w2t.gpu.pipe.utilization.", ("pipe",)
)
DRAM_UTILIZATION = Metric(
    "mig.dram.utilization", GAUGE, "1", Kind.MIG, "As w2t.gpu.dram.utilization, of the slice."
)
