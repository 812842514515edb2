"""Batched GETs that get what can be got from agents that are slow, lossy, small or broken."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from typing import NamedTuple

from collector.read.snmp.session import Session, SnmpError, Value

TRIES = 3  # for objects asked one by one, and for a whole agent that says nothing


class Reply(NamedTuple):
    """What was answered, what was not, and the most objects that one GET should ask for."""

    values: dict[str, Value]
    unanswered: set[str]
    batch: int


async def fetch(session: Session, oids: Sequence[str], batch: int, deadline: float) -> Reply:
    """Read objects by GETs of at most `batch`.

    A GET without an answer is sent again, then halved: replies get lost, and old agents drop what
    is too big for them. A GET that is answered by an error-status (tooBig, or genErr for one bad
    object) gives nothing and is halved too.

    Args:
        session: With the agent.
        oids: What to read.
        batch: Objects in one GET.
        deadline: When to stop asking, on the loop's clock.

    Raises:
        TimeoutError: Not one reply came.
        SnmpError: Not one reply could be understood.
    """
    clock = asyncio.get_running_loop().time
    waiting = deque((tuple(oids[at : at + batch]), 0) for at in range(0, len(oids), batch))
    values: dict[str, Value] = {}
    unanswered: set[str] = set()
    refused, largest, silent = False, 0, 0
    while waiting:
        asked, tries = waiting.popleft()
        if clock() >= deadline:
            unanswered.update(asked)
            continue
        try:
            found = await session.get(asked)
        except (TimeoutError, SnmpError):
            silent += 1
            if silent >= TRIES and not values:
                raise
            if tries == 0 or (len(asked) == 1 and tries < TRIES):
                waiting.append((asked, tries + 1))
            elif len(asked) == 1:
                unanswered.update(asked)
            else:
                waiting.extend(_halves(asked))
            continue
        silent = 0
        if found or len(asked) == 1:
            values.update(found)
            largest = max(largest, len(asked))
        else:
            refused = True
            waiting.extend(_halves(asked))
    if not values and unanswered:
        raise TimeoutError("no reply")
    # Objects that the agent refuses one by one are gone; if none is, the GETs were too big.
    too_big = refused and all(oid in values for oid in oids)
    return Reply(values, unanswered, largest if too_big else batch)


def _halves(asked: tuple[str, ...]) -> list[tuple[tuple[str, ...], int]]:
    middle = (len(asked) + 1) // 2
    return [(asked[:middle], 1), (asked[middle:], 1)]
