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
    ("error.type",),
)
PORT_ERRORS_SATURATED = Metric(
    "port.errors.saturated",
    GAUGE,
    "",
    Kind.PORT,
    "1 while a counter of the port stands at the maximum of its width and hides what happens now; "
    "a reset (perfquery -R) frees it.",
    ("error.type",),
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
    ("error.type",),
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
COMMUNICATORS = Metric(
    "host.communicators",
    GAUGE,
    "{communicator}",
    Kind.HOST,
    "NCCL communicators of a job as its RAS network sees them, on all its hosts, by state and "
    "errors; a state of running was also reported during real hangs.",
    ("nccl.ras.address", "state", "errors"),
)
JOB_PROCESSES = Metric(
    "host.job.processes.lost",
    GAUGE,
    "{process}",
    Kind.HOST,
    "Processes of a NCCL job, on all its hosts, that do not answer its RAS network or that it "
    "considers dead.",
    ("nccl.ras.address", "state"),
)
RAS_TIMEOUTS = Metric(
    "host.job.ras.timeouts",
    GAUGE,
    "{timeout}",
    Kind.HOST,
    "Timeouts on the way of the last answer of a job's RAS network.",
    ("nccl.ras.address",),
)
COMMUNICATOR_INFO = Metric(
    "communicator.info",
    GAUGE,
    "",
    Kind.COMMUNICATOR,
    "Always 1; the name that the program gave the communicator, as NCCL Inspector says.",
    ("name",),
)
COMMUNICATOR_RANKS = Metric(
    "communicator.ranks",
    GAUGE,
    "{rank}",
    Kind.COMMUNICATOR,
    "Ranks that the communicator was made with, on all hosts.",
)
COMMUNICATOR_RANKS_MISSING = Metric(
    "communicator.ranks.missing",
    GAUGE,
    "{rank}",
    Kind.COMMUNICATOR,
    "Ranks that NCCL RAS has no data of: unresponsive, dead, or left (the process answers, but has "
    "no such communicator).",
    ("state",),
)
COMMUNICATOR_OPERATIONS = Metric(
    "communicator.operations",
    GAUGE,
    "{operation}",
    Kind.COMMUNICATOR,
    "Collective operations launched, over the ranks of all hosts: the least, the most_common and "
    "the greatest count; before NCCL 2.28 there is one count for all types, called all.",
    ("collective", "statistic"),
)
RANK_STATE = Metric(
    "rank.state",
    GAUGE,
    "",
    Kind.RANK,
    "1 for the state that NCCL RAS reports of the rank; running is no sign of progress.",
    ("state",),
)
RANK_RESULT = Metric(
    "rank.result",
    GAUGE,
    "",
    Kind.RANK,
    "1 for the result that NCCL has for the rank's initialisation (phase init) or for its "
    "asynchronous work (phase async).",
    ("phase", "state"),
)
RANK_LAUNCHED = Metric(
    "rank.collectives.launched",
    COUNTER,
    "{operation}",
    Kind.RANK,
    "Collective operations that the rank launched, by NCCL RAS; a launched one may never complete, "
    "and replays of CUDA graphs are not counted.",
    ("collective",),
)
RANK_COMPLETED = Metric(
    "rank.collectives.completed",
    COUNTER,
    "{operation}",
    Kind.RANK,
    "Operations that NCCL Inspector recorded as completed since the daemon began to follow its "
    "file; small messages are not recorded.",
    ("collective",),
)
RANK_TIME = Metric(
    "rank.collectives.time",
    COUNTER,
    "s",
    Kind.RANK,
    "Time that the operations in w2t.rank.collectives.completed took, waiting for others included.",
    ("collective",),
)
RANK_DATA = Metric(
    "rank.collectives.data",
    COUNTER,
    "By",
    Kind.RANK,
    "Message sizes of the operations in w2t.rank.collectives.completed; of an all-gather or "
    "reduce-scatter that is one rank's share.",
    ("collective",),
)
RANK_BUS_BANDWIDTH = Metric(
    "rank.collectives.bus_bandwidth",
    GAUGE,
    "By/s",
    Kind.RANK,
    "Bus bandwidth of the newest operations, weighted by their time: comparable with the speed of "
    "the links whatever the number of ranks.",
    ("collective",),
)
RANK_DROPPED = Metric(
    "rank.collectives.dropped",
    COUNTER,
    "{operation}",
    Kind.RANK,
    "Operations that NCCL Inspector overwrote before it could write them down.",
    ("type",),
)
RANK_SEQUENCE = Metric(
    "rank.sequence",
    GAUGE,
    "{operation}",
    Kind.RANK,
    "Sequence number of the last collective that was enqueued, started or completed, in the rank's "
    "last dump of PyTorch's Flight Recorder; absent where there was none.",
    ("stage",),
)
GPU_COLLECTIVE_TIME = Metric(
    "gpu.collectives.duration",
    GAUGE,
    "s",
    Kind.GPU,
    "Time of one operation lately, as NCCL Inspector's textfile averages it.",
    ("communicator.name", "collective", "message.size", "algorithm", "peer"),
)
GPU_BUS_BANDWIDTH = Metric(
    "gpu.collectives.bus_bandwidth",
    GAUGE,
    "By/s",
    Kind.GPU,
    "Bus bandwidth of operations lately, as NCCL Inspector's textfile averages it.",
    ("communicator.name", "collective", "message.size", "algorithm", "peer"),
)
