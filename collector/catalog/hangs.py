"""Layer 3, fabric: what is derived of collectives that stand still."""

from collector.entity import Kind
from collector.metric import GAUGE, Metric

HUNG = Metric(
    "communicator.hung",
    GAUGE,
    "",
    Kind.COMMUNICATOR,
    "1 while no rank on this host makes progress although a GPU of one is busy waiting, else 0; "
    "unknown, and absent, where no count of operations or no GPU can be read.",
)
STALLED = Metric(
    "communicator.stalled",
    GAUGE,
    "s",
    Kind.COMMUNICATOR,
    "Time from the last operation on this host to the newest reading; an idle communicator has it, "
    "too.",
)
LAGGING = Metric(
    "rank.lagging",
    GAUGE,
    "",
    Kind.RANK,
    "1 for a rank of a hung communicator that launched fewer operations than most ranks did.",
)
