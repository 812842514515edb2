"""The JSON of NCCL's RAS, of 2.28.7 and later (src/ras/client_support.cc)."""

from __future__ import annotations

from collections import Counter as Tally
from collections import defaultdict
from typing import Any

import orjson

from plugins.fabric._nccl_status import (
    OTHER,
    RESULTS,
    STATES,
    Communicator,
    Rank,
    Status,
    StatusError,
    identity,
    spread,
)

_GOOD = ("success", "in_progress")


def parse(body: bytes) -> Status:
    """Read an answer.

    Raises:
        StatusError: It is no such JSON, and not by the missing comma of 2.28.9 alone.
    """
    try:
        document = orjson.loads(body)
    except ValueError:
        try:
            document = orjson.loads(_with_commas(body))
        except ValueError as error:
            raise StatusError(f"the JSON cannot be read: {error}") from error
    try:
        return _status(document)
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        raise StatusError(f"the JSON is not of NCCL's RAS: {error!r}") from error


def _with_commas(body: bytes) -> bytes:
    """Add the commas that are missing at the ends of lines.

    2.28.9 leaves one out after `nvml_dev` of a missing rank. NCCL writes one member in a line, so
    a line that ends with a value and is followed by one that begins with a name lacks it.
    """
    lines = body.split(b"\n")
    for number, following in enumerate(lines[1:]):
        line = lines[number].rstrip()
        if following.lstrip().startswith(b'"') and line and line[-1:] not in b",{[:":
            lines[number] = line + b","
    return b"\n".join(lines)


def _status(document: Any) -> Status:  # noqa: ANN401 - what is in it is found out by reading
    status = Status(timeouts=int(document["ras"]["timeouts_count"]))
    found = document["communicators"]
    hashes = Tally(one["hash"] for one in found)
    lost: dict[str, set[tuple[str, int]]] = defaultdict(set)
    for one in found:
        communicator = Communicator(identity(one["hash"]), int(one["size"]))
        if hashes[one["hash"]] > 1:  # the first part alone does not tell these apart
            communicator.id += f"/{one['secondary_hash']}"
        for entry in one["ranks"]:
            rank = _rank(entry)
            communicator.ranks[rank.number] = rank
        for entry in one["missing_ranks"]:
            state = _missing(entry["status"])
            communicator.missing[state] += 1
            if state != "left":
                lost[state].add((entry["host"], entry["pid"]))
        for collective in dict.fromkeys(
            name for rank in communicator.ranks.values() for name in rank.counts
        ):
            communicator.operations[collective] = spread(
                Tally(
                    rank.counts[collective]
                    for rank in communicator.ranks.values()
                    if collective in rank.counts
                )
            )
        status.communicators.append(communicator)
        status.groups[_group(communicator)] += 1
    status.lost.update({state: len(processes) for state, processes in lost.items()})
    return status


def _rank(entry: dict[str, Any]) -> Rank:
    flags = entry["status"]
    if flags["abort_flag"]:
        state = "abort"
    elif flags["finalize_called"] or flags["destroy_flag"]:
        state = "finalize"
    else:
        state = "running" if flags["init_state"] == 0 else "init"
    return Rank(
        int(entry["rank"]),
        str(entry["host"]),
        int(entry["pid"]),
        state,
        _result(flags["init_state"]),
        _result(flags["async_error"]),
        {str(name): int(count) for name, count in entry["collective_counts"].items()},
    )


def _result(number: int) -> str:
    return RESULTS[number] if 0 <= number < len(RESULTS) else OTHER


def _missing(status: dict[str, bool]) -> str:
    if status["considered_dead"]:
        return "dead"
    return "unresponsive" if status["unresponsive"] else "left"


def _group(communicator: Communicator) -> tuple[str, str]:
    """State and errors of a communicator by the rules of the text's summary."""
    ranks = communicator.ranks.values()
    states = {rank.state for rank in ranks if rank.state is not None}
    left = communicator.missing["left"] > 0
    errors = []
    if communicator.missing["unresponsive"] or communicator.missing["dead"]:
        errors.append("incomplete")
    if any(not {rank.init, rank.asynchronous} <= set(_GOOD) for rank in ranks):
        errors.append("error")
    uneven = any(one.least != one.greatest for one in communicator.operations.values())
    if uneven or left or len(states) > 1:
        errors.append("mismatch")
    state = max(states, key=STATES.index) if states else "nocomm"
    return state, ",".join(errors) or "ok"
