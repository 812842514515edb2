"""The text of NCCL's RAS, of 2.24 and later (src/ras/client_support.cc).

It names a communicator only where something is wrong with it, and a rank only where few differ
from the rest. What it does not name is not known.
"""

from __future__ import annotations

import re
from collections import Counter as Tally
from collections import defaultdict
from dataclasses import dataclass, field

from plugins.fabric._nccl_status import (
    ALL,
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

_KNOWN = re.compile(r"^(?:NCCL version |Job summary|Communicators\.\.\.|Group +Comms|#\d+-\d+ \()")
_GROUP = re.compile(r"(\d+) +(\d+) +\d+ +[\d-]+ +(\d+) +\d+ +([A-Z]+) +([A-Z,]+)")
_HEADING = re.compile(r"#(\d+)-\d+ \(([0-9a-f]{1,16})\) (INCOMPLETE|ERROR|MISMATCH)")
_NO_DATA = re.compile(r"Missing communicator data from (\d+) (rank|job process)")
_DEAD = re.compile(r"(\d+) job process(?: is|es are) considered dead")
_TIMEOUTS = re.compile(r"Encountered (\d+) communication timeout")
_COUNTS = re.compile(
    r"Communicator ranks have different (?:(\w+) )?(?:collective )?operation counts"
)
_ERRORS = re.compile(r"(Initialization|Asynchronous) errors? on \d+ rank")
_MANY = re.compile(r"(\d+) ranks (.+)")
_ONE = re.compile(
    r"Rank (\d+)(?: (.+?))? -- (?:GPU .+? managed by process (\d+) on node (\S+)|\[.*\])"
)
_LAUNCHED = re.compile(r"ha(?:ve|s) launched up to operation (\d+)|ha(?:ve|s) not launched any op")
_STATUS = re.compile(r"ha(?:ve|s) status ([A-Z]+)")
_REPORTED = re.compile(r"reported (.+)")
_LEFT = ("NOCOMM", "UNKNOWN")  # the second is what 2.24 called it
_RESULTS = {name.replace("_", " "): name for name in RESULTS} | {
    "remote process error": "remote_error",
    "nccl operation in progress": "in_progress",
}


@dataclass
class _Reader:
    """Reads line by line; what a line says of ranks holds for the ranks listed below it."""

    status: Status = field(default_factory=Status)
    sizes: dict[int, int] = field(default_factory=dict)
    named: dict[str, Communicator] = field(default_factory=dict)
    counts: dict[tuple[str, str], Tally[int]] = field(default_factory=lambda: defaultdict(Tally))
    communicator: Communicator | None = None
    about: str = ""  # operations of a type, or a phase with errors
    said: str = ""

    def line(self, text: str) -> None:
        """Take one line without the blanks around it."""
        if not text:
            return
        if found := _HEADING.fullmatch(text):
            self._begin(int(found[1]), found[2])
        elif found := _GROUP.fullmatch(text):
            self.sizes[int(found[1])] = int(found[3])
            self.status.groups[found[4].lower(), found[5].lower()] += int(found[2])
        elif found := _NO_DATA.match(text):
            if found[2] != "rank":
                self.status.lost["unresponsive"] += int(found[1])
            elif self.communicator is not None:
                self.communicator.missing["unresponsive"] += int(found[1])
        elif found := _DEAD.match(text):
            self.status.lost["dead"] += int(found[1])
        elif found := _TIMEOUTS.match(text):
            self.status.timeouts = int(found[1])
        elif self.communicator is not None:
            self._detail(self.communicator, text)

    def _begin(self, group: int, digits: str) -> None:
        name = identity(digits)
        if name not in self.named:
            self.named[name] = Communicator(name, self.sizes.get(group))
            self.status.communicators.append(self.named[name])
        self.communicator, self.about, self.said = self.named[name], "", ""

    def _detail(self, communicator: Communicator, text: str) -> None:
        if found := _COUNTS.match(text):
            self.about, self.said = found[1] if found[1] != "collective" else ALL, ""
            self.about = self.about or ALL
        elif found := _ERRORS.match(text):
            self.about, self.said = found[1], ""
        elif found := _MANY.match(text):
            self.said = found[2]
            self._many(communicator, int(found[1]))
        elif found := _ONE.match(text):
            if found[2]:
                self.said = found[2]
                self._many(communicator, 1)
            if found[3]:
                self._one(communicator, Rank(int(found[1]), found[4], int(found[3])))

    def _many(self, communicator: Communicator, ranks: int) -> None:
        if found := _LAUNCHED.match(self.said):
            self.counts[communicator.id, self.about][int(found[1] or 0)] += ranks
        elif (found := _STATUS.match(self.said)) and found[1] in _LEFT:
            communicator.missing["left"] += ranks

    def _one(self, communicator: Communicator, rank: Rank) -> None:
        rank = communicator.ranks.setdefault(rank.number, rank)
        if found := _LAUNCHED.match(self.said):
            rank.counts[self.about] = int(found[1] or 0)
        elif found := _STATUS.match(self.said):
            rank.state = found[1].lower() if found[1].lower() in STATES else None
        elif found := _REPORTED.match(self.said):
            result = _RESULTS.get(found[1].lower(), OTHER)
            if self.about == "Asynchronous":
                rank.asynchronous = result
            else:
                rank.init = result


def parse(body: bytes) -> Status:
    """Read an answer, or a part of one.

    Raises:
        StatusError: Nothing in it is of NCCL's RAS.
    """
    reader = _Reader()
    lines = body.decode(errors="replace").splitlines()
    if not any(map(_KNOWN.match, lines)):
        raise StatusError(f"no status of NCCL's RAS: {body[:80]!r}")
    for line in lines:
        reader.line(line.strip())
    for (name, collective), counts in reader.counts.items():
        reader.named[name].operations[collective] = spread(counts)
    return reader.status
