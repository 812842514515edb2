"""Records of the kernel's log, in the forms in which the log is met.

`/dev/kmsg` gives `priority,sequence,microseconds,flags;message` and below it lines ` KEY=value`
(Documentation/ABI/testing/dev-kmsg). Saved logs are dmesg's renderings, those of pstore and of the
journal; not all of them tell priority or time.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import NamedTuple

_KERNEL = 0  # the facility of the kernel; it refuses that to others (kernel/printk/printk.c)
_MICRO = 1_000_000
LEVELS = ("emerg", "alert", "crit", "err", "warn", "notice", "info", "debug")

_RAW = re.compile(rb"(\d{1,9}),(\d{1,20}),(\d{1,20}),[^;\n]*;([^\n]*)")
_ESCAPE = re.compile(rb"\\x([0-9a-f]{2})")
# Renderings, the time of day first or the seconds since boot.
_DECODED = re.compile(r"(\w+) *:(\w+) *: (.*)")  # dmesg --decode
_PRIORITY = re.compile(r"<(\d{1,9})>(.*)")  # dmesg --raw, pstore
_ISO = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d[.,]?\d*(?:[+-]\d\d:?\d\d|Z)) (.*)")
_CTIME = re.compile(r"\[(\w{3} \w{3} [ \d]\d \d\d:\d\d:\d\d \d{4})\] (.*)")  # dmesg -T
_UPTIME = re.compile(r"\[ *(\d{1,12}\.\d{1,9})\] ?(.*)")
_JOURNAL = re.compile(r"(?:\w{3} [ \d]\d \d\d:\d\d:\d\d )?\S+ kernel: (.*)")


class Record(NamedTuple):
    """One message of the kernel.

    Attributes:
        text: The message, which can hold line ends; "" for a record that is not the kernel's.
        level: The priority's word (`warn`), "" where it is not told.
        sequence: The number of the record since boot, None but in `/dev/kmsg`.
        uptime: Seconds since boot by the kernel's clock, None where it is not told.
        at: Seconds since the epoch, where the rendering tells the time of day.
    """

    text: str
    level: str = ""
    sequence: int | None = None
    uptime: float | None = None
    at: float | None = None


def parse(data: bytes) -> Iterator[Record]:
    """Read the records of a log in any of the forms; what is none is passed over.

    Of a record of another facility, which any root process can write, only the number is given.
    """
    for line in data.splitlines():
        if line.startswith(b" "):  # a property of the record before
            continue
        record = _raw(line)
        if record is None:
            record = _rendered(line.decode(errors="replace"))
        if record is not None:
            yield record


def _raw(line: bytes) -> Record | None:
    match = _RAW.match(line)
    if match is None:
        return None
    if int(match[1]) >> 3 != _KERNEL:
        return Record("", sequence=int(match[2]))
    # All but printable ASCII is escaped, ends of lines among it.
    text = _ESCAPE.sub(lambda code: bytes([int(code[1], 16)]), match[4]).decode(errors="replace")
    level = LEVELS[int(match[1]) & 7]
    return Record(text, level, int(match[2]), int(match[3]) / _MICRO)


def _rendered(line: str) -> Record | None:
    level = ""
    if match := _DECODED.fullmatch(line):
        if match[1] != "kern":
            return None
        level, line = match[2], match[3]
    elif match := _PRIORITY.fullmatch(line):
        if int(match[1]) >> 3 != _KERNEL:
            return None
        level, line = LEVELS[int(match[1]) & 7], match[2]
    at = uptime = None
    if match := _ISO.fullmatch(line):
        at, line = _time(match[1].replace(",", ".")), match[2]
    elif match := _CTIME.fullmatch(line):
        line = match[2]  # of the zone of who printed it, which it does not tell
    elif match := _UPTIME.fullmatch(line):
        uptime, line = float(match[1]), match[2]
    if match := _JOURNAL.fullmatch(line):
        line = match[1]
    return Record(line, level, None, uptime, at)


def _time(text: str) -> float | None:
    try:
        return datetime.fromisoformat(text).astimezone(UTC).timestamp()
    except (ValueError, OverflowError):
        return None
