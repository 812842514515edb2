"""What the daemon says of itself and of its sources."""

from collector.entity import Kind
from collector.metric import COUNTER, GAUGE, Metric

BUILD_INFO = Metric(
    "build.info", GAUGE, "", Kind.DAEMON, "Always 1; says what runs.", ("version", "python")
)
SOURCE_UP = Metric(
    "source.up", GAUGE, "", Kind.SOURCE, "1 if the last poll read all it should, else 0."
)
SOURCE_POLL = Metric("source.poll", GAUGE, "s", Kind.SOURCE, "Duration of the last poll.")
SOURCE_LAST_SUCCESS = Metric(
    "source.last_success.timestamp",
    GAUGE,
    "s",
    Kind.SOURCE,
    "When a poll last read all it should, since the epoch.",
)
SOURCE_FAILURES = Metric(
    "source.failures", COUNTER, "{poll}", Kind.SOURCE, "Failed polls by reason.", ("reason",)
)
SOURCE_REFUSED = Metric(
    "source.samples.refused",
    COUNTER,
    "{sample}",
    Kind.SOURCE,
    "Samples refused because the source has more series than max_series allows.",
)
SERIES = Metric("store.series", GAUGE, "{series}", Kind.DAEMON, "Series in the store.")
STORE_BYTES = Metric("store.size", GAUGE, "By", Kind.DAEMON, "Memory of the stored history.")
CONFIG_RELOAD_OK = Metric(
    "config.last_reload.successful",
    GAUGE,
    "",
    Kind.DAEMON,
    "1 if the config that was last read is the one in use, else 0.",
)
CONFIG_RELOAD_TIME = Metric(
    "config.last_reload.success.timestamp",
    GAUGE,
    "s",
    Kind.DAEMON,
    "When a config was last taken into use, since the epoch.",
)
EXPORTER_POINTS = Metric(
    "exporter.points",
    COUNTER,
    "{point}",
    Kind.EXPORTER,
    "Data points pushed, by outcome: sent, rejected (by the receiver), failed.",
    ("outcome",),
)
EXPORTER_LAST_SUCCESS = Metric(
    "exporter.last_success.timestamp",
    GAUGE,
    "s",
    Kind.EXPORTER,
    "When a push last went well, since the epoch.",
)
EVENTS = Metric(
    "events",
    COUNTER,
    "{event}",
    Kind.DAEMON,
    "Events that sources told since the daemon started: traps, Xids, lines of the kernel's log.",
    ("event.name", "severity"),
)
LOOP_LAG = Metric(
    "loop.lag", GAUGE, "s", Kind.DAEMON, "How late the daemon's event loop ran its last timer."
)
CPU_TIME = Metric("daemon.cpu.time", COUNTER, "s", Kind.DAEMON, "Processor time of the daemon.")
MEMORY = Metric("daemon.memory", GAUGE, "By", Kind.DAEMON, "Resident memory of the daemon.")
