"""What a dump of PyTorch's Flight Recorder says of one rank, and who held up the others.

Keys: torch/csrc/distributed/c10d/FlightRecorder.hpp, versions 2.4 to 2.10.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

_NONE = -1  # no collective yet
_STATES = ("enqueued", "started", "completed")
_GROUPS = 10_000


class Open(NamedTuple):
    """The first operation that had not completed: its number, its name, milliseconds allowed."""

    number: int
    name: str
    timeout: int | None


@dataclass(frozen=True)
class Group:
    """One process group as one rank saw it.

    Attributes:
        id: Its number, the same on all ranks.
        description: What the program calls it.
        ranks: All its ranks, by their numbers in the whole job.
        sequence: The last collective `enqueued`, `started`, `completed`, where there was one.
        open: What it was waiting for, if the dump has it.
    """

    id: str
    description: str
    ranks: tuple[int, ...]
    sequence: Mapping[str, int]
    open: Open | None


class DumpError(ValueError):
    """It is no dump of the Flight Recorder."""


def groups(dump: Any) -> list[Group]:  # noqa: ANN401 - what is in it is found out by reading
    """Take the process groups out of a dump that was read.

    Raises:
        DumpError: It is none.
    """
    if not isinstance(dump, dict):
        raise DumpError("it is no dump of the Flight Recorder: no dictionary")
    try:
        config, status = dump["pg_config"], dump["pg_status"]
        entries = dump.get("entries") or []
        waiting = _open(entries)
        return [
            _group(str(name), config.get(name, {}), one, waiting)
            for name, one in list(status.items())[:_GROUPS]
        ]
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        raise DumpError(f"it is no dump of the Flight Recorder: {error!r:.200}") from error


def _group(
    name: str, config: dict[str, Any], status: dict[str, Any], waiting: Mapping[str, Open]
) -> Group:
    sequence = {state: int(status[f"last_{state}_collective"]) for state in _STATES}
    ranks = config.get("ranks", "[]")
    return Group(
        name,
        str(config.get("desc") or name),
        tuple(sorted(int(rank) for rank in json.loads(ranks))),
        {state: number for state, number in sequence.items() if number != _NONE},
        waiting.get(name),
    )


def _open(entries: list[dict[str, Any]]) -> dict[str, Open]:
    """Find for each group its first collective that had not completed."""
    found: dict[str, Open] = {}
    for entry in entries:
        if entry.get("is_p2p") or entry.get("state") == "completed" or entry.get("retired"):
            continue
        number, group = int(entry["collective_seq_id"]), str(entry["process_group"][0])
        if group not in found or number < found[group].number:
            timeout = entry.get("timeout_ms")
            name = str(entry.get("profiling_name", ""))[:200]
            found[group] = Open(number, name, timeout if isinstance(timeout, int) else None)
    return found


def culprits(sequences: Mapping[int, Mapping[str, int]]) -> list[int]:
    """Name the ranks that held up the others, by what the ranks of one group had done.

    Those whose last completed collective lags; where all completed the same, those that did not
    enqueue, or else start, what others did. None where all are alike.
    """
    for state in ("completed", "enqueued", "started"):
        numbers = {rank: done.get(state, _NONE) for rank, done in sequences.items()}
        if state == "started" and any(state not in done for done in sequences.values()):
            continue  # starts are recorded only where timing is switched on
        greatest = max(numbers.values(), default=_NONE)
        if lagging := sorted(rank for rank, number in numbers.items() if number < greatest):
            return lagging
    return []
