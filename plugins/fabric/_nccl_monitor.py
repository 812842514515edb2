"""Events that NCCL's RAS tells as they happen, of 2.29 and later (src/ras/client_support.cc)."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import NamedTuple

# Times are the host's local ones without a zone, so they are left out.
_LINE = re.compile(
    r"\[[^\]]*\] ([A-Z_]+): Process (\d+) on node (\S+) managing GPUs? ([\d,]+)(?: .*)?"
)
_LONGEST = 1 << 16


class Happened(NamedTuple):
    """Something that happened to a process of the job.

    Attributes:
        name: In NCCL's words: PEER_DEAD, PEER_CONNECTING, ...
        pid: Of the process, in its own namespace.
        host: The IP address of its host.
        gpus: Its GPUs by CUDA's number, as text.
    """

    name: str
    pid: int
    host: str
    gpus: str


class Monitor:
    """Takes the stream apart, in whatever pieces it comes; what it does not know it skips."""

    def __init__(self) -> None:
        self._rest = ""

    def feed(self, data: bytes) -> list[Happened]:
        """Take the next piece and return what it completes."""
        self._rest += data.decode(errors="replace")
        found = []
        for text in self._pieces():
            happened = _json(text) if text.startswith("{") else _text(text)
            if happened is not None:
                found.append(happened)
        if len(self._rest) > _LONGEST:
            self._rest = ""
        return found

    def _pieces(self) -> Iterator[str]:
        while True:
            self._rest = self._rest.lstrip()
            if self._rest.startswith("{"):
                # A document ends with a brace at the beginning of a line, or at the end of one.
                end = re.search(r"\n\}|^\{[^\n]*\}(?=\n)", self._rest)
                cut = end.end() if end else -1
            else:
                cut = self._rest.find("\n")
            if cut < 0:
                return
            piece, self._rest = self._rest[:cut], self._rest[cut:]
            yield piece.strip()


def _json(text: str) -> Happened | None:
    try:
        event = json.loads(text)
        peer = event["peer"]
        gpus = ",".join(str(int(gpu)) for gpu in peer["cuda_devs"])
        return Happened(str(event["event"]), int(peer["pid"]), str(peer["host"]), gpus)
    except (ValueError, LookupError, TypeError):
        return None


def _text(text: str) -> Happened | None:
    found = _LINE.fullmatch(text)
    return Happened(found[1], int(found[2]), found[3], found[4]) if found else None
