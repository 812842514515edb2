"""Reads pages in Prometheus's text format 0.0.4 and in OpenMetrics 1.0, again and again.

A page is read every few seconds and most of its lines stay as they were. So the lines of the page
before are kept: a line that is the same at the same place has the same value. Of a line that
changed, the part before the value is compared, and the value alone is parsed. Where lines came or
went, all lines are looked up by that part, and only those never seen are parsed in full.

Formats: github.com/prometheus/docs, content/docs/instrumenting/exposition_formats.md, and
github.com/prometheus/OpenMetrics, specification/OpenMetrics.md.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Collection
from dataclasses import dataclass, field
from itertools import compress, count
from operator import ne

OPENMETRICS = "application/openmetrics-text"
TEXT = "text/plain"

_NAME = re.compile(rb"[ \t]*([a-zA-Z_:][a-zA-Z0-9_:]*)")
_LABEL = rb"[ \t]*([a-zA-Z_][a-zA-Z0-9_]*)[ \t]*=[ \t]*\"((?:[^\"\\]|\\.)*+)\"[ \t]*"
_LABELS = re.compile(rb"[ \t]*\{((?:" + _LABEL + rb"(?:,|(?=\})))*+)[ \t]*\}[ \t]*")
_EACH_LABEL = re.compile(_LABEL)
_BLANK = re.compile(rb"[ \t]+")
_SKIPPED = b"#"
_SPACE, _UNDERSCORE = b" _"  # as numbers, which are found faster
_ESCAPE = re.compile(r"\\([\\n\"])")
_ESCAPED = {"\\": "\\", "n": "\n", '"': '"'}
_SHOWN = 120  # bytes of a bad line that a message repeats
_PER_SECOND = 1000.0  # times of the text format are in milliseconds


class ExpositionError(ValueError):
    """A page, or a part of one, cannot be read."""


class Series:
    """One series of a page. The same object stands for it as long as it is on the page.

    Attributes:
        name: The sample's name as on the page: `x_total`, `x_bucket`.
        labels: Its labels.
        value: The value on the page that was read last.
        time: Seconds since the epoch, where the page gives the sample a time.
    """

    __slots__ = ("key", "labels", "name", "time", "turn", "value")

    def __init__(self, name: str, labels: dict[str, str]) -> None:
        self.name = name
        self.labels = labels
        self.value = float("nan")
        self.time: float | None = None
        self.key = (name, frozenset(labels.items()))
        self.turn = 0  # the rebuilding of the page in which it was last seen

    def __repr__(self) -> str:
        labels = ",".join(f"{name}={value!r}" for name, value in self.labels.items())
        return f"{self.name}{{{labels}}} {self.value}"


@dataclass(slots=True)
class Change:
    """What one reading of a page found.

    Attributes:
        series: The wanted series whose line is new or not as it was, in the page's order.
        rebuilt: Series may have come or gone: look at `Page.series` again.
        malformed: Lines that could not be read; they are skipped.
        duplicates: Lines of a series that was on the page before; the first is kept, as
            Prometheus does.
        cut: The page's end is missing; a last line without its end is skipped.
        first_bad: The first malformed line or duplicate, for a message.
    """

    series: list[Series] = field(default_factory=list)
    rebuilt: bool = False
    malformed: int = 0
    duplicates: int = 0
    cut: bool = False
    first_bad: str = ""

    @property
    def error(self) -> ExpositionError | None:
        """What was wrong with the page, or None."""
        found = []
        if self.cut:
            found.append("the page is cut off before its end")
        if self.malformed:
            found.append(f"{self.malformed} malformed lines")
        if self.duplicates:
            found.append(f"{self.duplicates} lines repeat a series")
        if self.first_bad:
            found.append(f"the first is {self.first_bad}")
        return ExpositionError(", ".join(found)) if found else None


class Page:
    """A page that is read again and again.

    Args:
        wanted: Names of the samples to read, as they stand on the page: `x_total`, `x_bucket`.
            Lines of others are neither parsed nor checked. None reads all.
    """

    def __init__(self, wanted: Collection[str] | None = None) -> None:
        self._wanted = None if wanted is None else {name.encode() for name in wanted}
        self._lines: list[bytes] = []
        # For each line what it must begin with for `_targets` to hold; None: look closely.
        self._prefixes: list[bytes | None] = []
        self._targets: list[Series | None] = []
        self._by_prefix: dict[bytes, Series] = {}
        self._openmetrics = False
        self._turn = 0
        self._last = Change()
        self.series: list[Series] = []
        """The wanted series on the page that was read last, in the page's order."""

    def update(self, body: bytes, content_type: str = TEXT) -> Change:
        """Read the page anew and say what changed.

        Args:
            body: The page.
            content_type: As the server said; OpenMetrics has times in seconds and ends with
                `# EOF`, else it is the text format, with times in milliseconds.
        """
        openmetrics = content_type.startswith(OPENMETRICS)
        lines = body.split(b"\n")
        last = lines.pop()
        if openmetrics:
            # Here the line end after the last line may be missing.
            cut = (last or (lines[-1] if lines else b"")).rstrip(b"\r") != b"# EOF"
        else:
            cut = bool(last) or not lines
        change = None
        if len(lines) == len(self._lines) and openmetrics == self._openmetrics:
            change = self._patch(lines)
        self._openmetrics = openmetrics
        if change is None:
            change = self._rebuild(lines)
        self._lines = lines
        change.cut = cut
        return change

    def _patch(self, lines: list[bytes]) -> Change | None:
        """Read what changed on a page of the same build; None if the build changed."""
        prefixes, targets = self._prefixes, self._targets
        found: list[tuple[Series, float, float | None]] = []
        for i in compress(count(), map(ne, lines, self._lines)):
            line, prefix = lines[i], prefixes[i]
            if prefix is None:
                return None
            rest = line.removeprefix(prefix)
            if len(rest) == len(line):
                return None
            series = targets[i]
            if series is not None:
                try:
                    if _UNDERSCORE in rest or _SPACE in rest:
                        found.append((series, *_value(rest, self._openmetrics)))
                    else:
                        found.append((series, float(rest), None))
                except ValueError:
                    return None
        for series, value, time in found:
            series.value = value
            series.time = time
        last = self._last
        return Change(
            [series for series, _, _ in found],
            malformed=last.malformed,
            duplicates=last.duplicates,
            first_bad=last.first_bad,
        )

    def _rebuild(self, lines: list[bytes]) -> Change:
        """Read every line, by what stands before the value where that was seen before."""
        change = Change(rebuilt=True)
        known, by_key = self._by_prefix, {series.key: series for series in self.series}
        self._by_prefix, self._prefixes, self._targets, self.series = {}, [], [], []
        self._turn += 1
        for number, line in enumerate(lines, 1):
            prefix: bytes | None = None
            series = None
            try:
                prefix, series, value, time = self._read(line, known, by_key)
            except ValueError as error:
                change.malformed += 1
                change.first_bad = change.first_bad or _shown(number, line, error)
            if prefix is not None and series is not None:
                self._by_prefix[prefix] = series
                if series.turn == self._turn:
                    change.duplicates += 1
                    change.first_bad = change.first_bad or _shown(number, line, "seen before")
                    series = None
                else:
                    if series.turn == 0 or series.value != value or series.time != time:
                        change.series.append(series)
                    series.value, series.time, series.turn = value, time, self._turn
                    self.series.append(series)
            self._prefixes.append(prefix)
            self._targets.append(series)
        self._last = change
        return change

    def _read(
        self,
        line: bytes,
        known: dict[bytes, Series],
        by_key: dict[tuple[str, frozenset[tuple[str, str]]], Series],
    ) -> tuple[bytes | None, Series | None, float, float | None]:
        """Take a line apart: what stands before the value, whose it is, the value, its time.

        Raises:
            ValueError: The line is malformed.
        """
        end = line.rfind(b" ") + 1
        series = known.get(line[:end])
        if series is not None:
            return line[:end], series, *_value(line[end:], self._openmetrics)
        if line[:1] == _SKIPPED:
            return _SKIPPED, None, 0.0, None
        named = _NAME.match(line)
        if named is None:
            if line.strip():
                raise ValueError("no name of a metric")
            return None, None, 0.0, None
        if self._wanted is not None and named[1] not in self._wanted:
            return line[: named.end() + 1], None, 0.0, None
        labels: dict[str, str] = {}
        braces = _LABELS.match(line, named.end())
        if braces is not None:
            for name, value in _EACH_LABEL.findall(braces[1]):
                label = sys.intern(name.decode())
                if label in labels:
                    raise ValueError(f"label {label} given twice")
                labels[label] = _ESCAPE.sub(_unescape, value.decode())
        blank = braces or _BLANK.match(line, named.end())
        if blank is None:
            raise ValueError("neither labels nor a value after the name")
        prefix = line[: blank.end()]
        series = Series(sys.intern(named[1].decode()), labels)
        series = by_key.setdefault(series.key, series)
        return prefix, series, *_value(line[blank.end() :], self._openmetrics)


def _value(text: bytes, openmetrics: bool) -> tuple[float, float | None]:
    """Read a value, the time after it if there is one; an exemplar is left out.

    Raises:
        ValueError: It is neither.
    """
    if openmetrics:
        text = text.partition(b" # ")[0]
    if _UNDERSCORE in text:  # Python reads 1_000, the formats do not
        raise ValueError("not a number")
    parts = text.split()
    if len(parts) == 1:
        return float(parts[0]), None
    if len(parts) != 2:
        raise ValueError("not one value, with or without a time")
    return float(parts[0]), float(parts[1]) / (1.0 if openmetrics else _PER_SECOND)


def _unescape(found: re.Match[str]) -> str:
    return _ESCAPED[found[1]]


def _shown(number: int, line: bytes, what: object) -> str:
    return f"line {number}, {what}: {line[:_SHOWN].decode(errors='replace')!r}"
