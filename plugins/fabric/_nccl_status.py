"""What NCCL's RAS network knows of a job, whatever format it was told in."""

from __future__ import annotations

from collections import Counter as Tally
from dataclasses import dataclass, field
from typing import NamedTuple

# nccl.h, ncclResult_t: success is 0.
RESULTS = (
    "success",
    "unhandled_cuda_error",
    "system_error",
    "internal_error",
    "invalid_argument",
    "invalid_usage",
    "remote_error",
    "in_progress",
)
OTHER = "other"  # a result of later releases
STATES = ("init", "running", "finalize", "abort")  # src/ras/client_support.cc, rising in severity
MISSING = ("unresponsive", "dead", "left")
ALL = "all"  # before 2.28 there was one count for all types of collectives


@dataclass
class Rank:
    """One rank; what is not known of it is None or not in `counts`.

    Attributes:
        number: Its rank in the communicator.
        host: The IP address of its host, as its RAS thread bound it.
        pid: Of its process, in the namespace of that process.
        state: One of `STATES`.
        init: The result of its initialisation, of `RESULTS`.
        asynchronous: The result of its asynchronous work, of `RESULTS`.
        counts: Operations launched by type of collective.
    """

    number: int
    host: str
    pid: int
    state: str | None = None
    init: str | None = None
    asynchronous: str | None = None
    counts: dict[str, int] = field(default_factory=dict)


class Spread(NamedTuple):
    """Counts of operations over all ranks."""

    least: int
    most_common: int
    greatest: int


def spread(counts: Tally[int]) -> Spread:
    """Sum up how many ranks have which count; of two equally common counts the greater is taken."""
    common = max(counts, key=lambda count: (counts[count], count))
    return Spread(min(counts), common, max(counts))


@dataclass
class Communicator:
    """One communicator.

    Attributes:
        id: Its hash as `0x…`, which NCCL Inspector gives too.
        size: Ranks it was made with; None where the text does not say.
        ranks: Those of which something is known, by number.
        missing: Ranks without data, by `MISSING`.
        operations: By type of collective.
    """

    id: str
    size: int | None = None
    ranks: dict[int, Rank] = field(default_factory=dict)
    missing: Tally[str] = field(default_factory=Tally)
    operations: dict[str, Spread] = field(default_factory=dict)


@dataclass
class Status:
    """One answer.

    Attributes:
        communicators: Those that are named: all in JSON, those with errors in text.
        groups: Communicators by state and errors, as in the text's summary.
        lost: Processes that are unresponsive or dead.
        timeouts: That the answer met on its way through the RAS network.
    """

    communicators: list[Communicator] = field(default_factory=list)
    groups: Tally[tuple[str, str]] = field(default_factory=Tally)
    lost: Tally[str] = field(default_factory=Tally)
    timeouts: int = 0


class StatusError(ValueError):
    """An answer cannot be read."""


def identity(digits: str) -> str:
    """Write a communicator's hash as JSON and NCCL Inspector do, without leading zeros.

    Raises:
        ValueError: It is no hexadecimal number.
    """
    return f"{int(digits, 16):#x}"
