"""Layer 5, kernel and host."""

from collector.entity import Kind
from collector.metric import COUNTER, GAUGE, Metric

INFO = Metric(
    "host.info",
    GAUGE,
    "",
    Kind.HOST,
    "Always 1; says what the host runs.",
    ("os.description", "kernel", "arch", "boot_id"),
)
UPTIME = Metric("host.uptime", GAUGE, "s", Kind.HOST, "Seconds since the kernel started.")
CPU_COUNT = Metric("host.cpus", GAUGE, "{cpu}", Kind.HOST, "Processors on line.")
CPU_TIME = Metric(
    "host.cpu.time",
    COUNTER,
    "s",
    Kind.HOST,
    "Seconds that all processors spent, by mode; user contains guest, nice contains guest_nice.",
    ("cpu.mode",),
)
LOAD = Metric(
    "host.load", GAUGE, "{task}", Kind.HOST, "Tasks running or in D state, averaged.", ("window",)
)
PROCESSES_RUNNING = Metric(
    "host.processes.running", GAUGE, "{process}", Kind.HOST, "Tasks that can run now."
)
PROCESSES_BLOCKED = Metric(
    "host.processes.blocked", GAUGE, "{process}", Kind.HOST, "Tasks that wait for I/O now."
)
MEMORY_LIMIT = Metric("host.memory.limit", GAUGE, "By", Kind.HOST, "Memory of the host.")
MEMORY_AVAILABLE = Metric(
    "host.memory.available", GAUGE, "By", Kind.HOST, "Memory to be had without swapping."
)
MEMORY_USAGE = Metric(
    "host.memory.usage",
    GAUGE,
    "By",
    Kind.HOST,
    "Memory by state: free, buffers, cached, slab_reclaimable.",
    ("state",),
)
SWAP_LIMIT = Metric("host.swap.limit", GAUGE, "By", Kind.HOST, "Swap space.")
SWAP_FREE = Metric("host.swap.free", GAUGE, "By", Kind.HOST, "Swap space that is free.")
PRESSURE_TIME = Metric(
    "host.pressure.time",
    COUNTER,
    "s",
    Kind.HOST,
    "Time in which some or all (full) tasks waited for the resource: cpu, memory, io, irq.",
    ("resource", "stall"),
)
PAGE_FAULTS = Metric(
    "host.page_faults",
    COUNTER,
    "{fault}",
    Kind.HOST,
    "Page faults; minor and major are disjoint, and major ones read a disk.",
    ("fault",),
)
OOM_KILLS = Metric(
    "host.oom_kills", COUNTER, "{process}", Kind.HOST, "Processes killed for want of memory."
)
CONTEXT_SWITCHES = Metric(
    "host.context_switches", COUNTER, "{switch}", Kind.HOST, "Context switches of all processors."
)
CPU_THROTTLES = Metric(
    "host.cpu.throttles",
    COUNTER,
    "{event}",
    Kind.HOST,
    "Times that heat slowed processors down, summed over the cores or packages of the host.",
    ("scope",),
)
MEMORY_ERRORS = Metric(
    "host.memory.errors",
    COUNTER,
    "{error}",
    Kind.HOST,
    "Memory errors that a memory controller corrected, or could not, since boot.",
    ("edac.controller", "error.type"),
)
HUNG_TASKS = Metric(
    "host.hung_tasks", COUNTER, "{task}", Kind.HOST, "Tasks that the kernel found hung."
)
CPU_THROTTLE_TIME = Metric(
    "host.cpu.throttle.time",
    COUNTER,
    "s",
    Kind.HOST,
    "Time for which heat slowed processors down, summed over the cores or packages of the host.",
    ("scope",),
)
DIMM_ERRORS = Metric(
    "host.dimm.errors",
    COUNTER,
    "{error}",
    Kind.HOST,
    "Memory errors by slot since boot; contained in w2t.host.memory.errors, which has those of "
    "unknown slot, too.",
    ("edac.controller", "edac.slot", "error.type"),
)
DIMM_INFO = Metric(
    "host.dimm.info",
    GAUGE,
    "",
    Kind.HOST,
    "Always 1; how the board names a slot, and where the controller has it.",
    ("edac.controller", "edac.slot", "label", "location"),
)

KERNEL_MESSAGES = Metric(
    "host.kernel.messages",
    COUNTER,
    "{message}",
    Kind.HOST,
    "Messages of the kernel's log since this daemon started, those of user space left out.",
    ("level",),
)
KERNEL_MESSAGES_LOST = Metric(
    "host.kernel.messages.lost",
    COUNTER,
    "{message}",
    Kind.HOST,
    "Messages that the kernel overwrote before they were read.",
)
KERNEL_EVENTS = Metric(
    "host.kernel.events",
    COUNTER,
    "{event}",
    Kind.HOST,
    "Messages of the kernel's log that mean trouble, since this daemon started; all are counted, "
    "also those that are too many to be told as events.",
    ("event",),
)
XIDS = Metric(
    "host.xids",
    COUNTER,
    "{event}",
    Kind.HOST,
    "Xids in the kernel's log since this daemon started; w2t.gpu.xids has what NVML delivers.",
    ("pci.bus_id", "xid"),
)
SXIDS = Metric(
    "host.sxids",
    COUNTER,
    "{event}",
    Kind.HOST,
    "SXids of NVSwitches in the kernel's log since this daemon started.",
    ("pci.bus_id", "sxid"),
)

NUMA_MEMORY_LIMIT = Metric("numa.memory.limit", GAUGE, "By", Kind.NUMA_NODE, "Memory of the node.")
NUMA_MEMORY_FREE = Metric(
    "numa.memory.free", GAUGE, "By", Kind.NUMA_NODE, "Memory of the node that is free."
)
NUMA_ALLOCATIONS = Metric(
    "numa.allocations",
    COUNTER,
    "{page}",
    Kind.NUMA_NODE,
    "Pages by how their allocation went: numa_hit, numa_miss, numa_foreign, interleave_hit, "
    "local_node, other_node.",
    ("outcome",),
)

SENSOR_INFO = Metric(
    "sensor.info",
    GAUGE,
    "",
    Kind.SENSOR,
    "Always 1; the driver or service that a sensor is read by, its name there and its label.",
    ("driver", "sensor", "label"),
)
TEMPERATURE = Metric(
    "sensor.temperature", GAUGE, "Cel", Kind.SENSOR, "Temperature by a sensor of the host."
)
FAN_SPEED = Metric(
    "sensor.fan.speed", GAUGE, "{rpm}", Kind.SENSOR, "Turns per minute of a fan of the host."
)
SENSOR_VOLTAGE = Metric(
    "sensor.voltage", GAUGE, "V", Kind.SENSOR, "Voltage by a sensor of the host."
)
SENSOR_CURRENT = Metric(
    "sensor.current", GAUGE, "A", Kind.SENSOR, "Current by a sensor of the host."
)

TASKS_UNINTERRUPTIBLE = Metric(
    "host.tasks.uninterruptible",
    GAUGE,
    "{task}",
    Kind.HOST,
    "Tasks in uninterruptible sleep (D) by what they wait for: nvidia, io, other, or unknown "
    "where the kernel does not tell; of processes without a GPU the main threads alone.",
    ("cause",),
)
TASKS_STUCK = Metric(
    "host.tasks.stuck",
    GAUGE,
    "{task}",
    Kind.HOST,
    "Those of w2t.host.tasks.uninterruptible that have not run at all for a minute, or as set.",
    ("cause",),
)
PROCESS_INFO = Metric(
    "process.info",
    GAUGE,
    "",
    Kind.PROCESS,
    "Always 1; a process that has a GPU open, and what it belongs to.",
    (
        "process.executable.name",
        "process.command",
        "process.user.id",
        "container.id",
        "k8s.pod.uid",
        "slurm.job.id",
        "slurm.step.id",
        "slurm.task.id",
    ),
)
PROCESS_FAULTS = Metric(
    "process.page_faults",
    COUNTER,
    "{fault}",
    Kind.PROCESS,
    "Page faults of a process that has a GPU open; minor and major are disjoint.",
    ("fault",),
)
PROCESS_NUMA_MEMORY = Metric(
    "process.numa.memory",
    GAUGE,
    "By",
    Kind.PROCESS,
    "Memory of a process that has a GPU open, by the NUMA node where it lies.",
    ("numa.node",),
)
GPU_LOCALITY = Metric(
    "gpu.locality.info",
    GAUGE,
    "",
    Kind.GPU,
    "Always 1; NUMA node and processors that the firmware says are near to the GPU.",
    ("numa.node", "cpus"),
)
GPU_PROCESS_CPUS = Metric(
    "gpu.process.cpus.local",
    GAUGE,
    "1",
    Kind.GPU,
    "Share of the processors that a process of the GPU may run on which are near to the GPU; 0 is "
    "the case that ruins transfers.",
    ("process.pid",),
)
GPU_PROCESS_NODES = Metric(
    "gpu.process.memory_nodes.local",
    GAUGE,
    "1",
    Kind.GPU,
    "Share of the NUMA nodes from which a process of the GPU may take memory that are the GPU's.",
    ("process.pid",),
)
CONTAINER_INFO = Metric(
    "container.info",
    GAUGE,
    "",
    Kind.CONTAINER,
    "Always 1; a container with a process that has a GPU open; names are empty outside Kubernetes.",
    ("container.runtime", "k8s.namespace.name", "k8s.pod.name", "k8s.container.name"),
)
POD_INFO = Metric(
    "pod.info",
    GAUGE,
    "",
    Kind.POD,
    "Always 1; a pod with a process that has a GPU open.",
    ("k8s.namespace.name", "k8s.pod.name", "k8s.pod.qos"),
)
DEVICE_ALLOCATION = Metric(
    "host.device.allocation",
    GAUGE,
    "",
    Kind.HOST,
    "Always 1; a device that kubelet gave to a container, which may leave it idle; hw.id is that "
    "of the GPU or MIG slice, or empty where the device's id does not tell it.",
    (
        "k8s.resource",
        "device.id",
        "hw.id",
        "k8s.namespace.name",
        "k8s.pod.name",
        "k8s.container.name",
    ),
)
