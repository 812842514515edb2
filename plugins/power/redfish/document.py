"""Takes Redfish documents apart: where each value stands, whatever document carries it.

A value's address is the URI of its resource, `#` and a JSON pointer, as MetricProperty of a metric
report has it (DMTF DSP2046, MetricReport). An excerpt (DSP0266, 9.10) stands for its sensor: its
values have the sensor's address, too.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any, NamedTuple

from plugins.power.redfish.clock import MIN_TIME
from plugins.power.redfish.transport import Document

MAX_VALUES = 50_000  # of one document
MAX_DEPTH = 12
MAX_PATH = 512  # characters
_SKIP = frozenset(("Actions", "Links", "Location", "Oem", "RelatedItem", "Thresholds"))
# Status.State (DSP2046, Resource.State) of what is not there or does not measure.
ABSENT = frozenset(("Absent", "Disabled"))
SILENT = ABSENT | {"UnavailableOffline"}


class Value(NamedTuple):
    """One scalar of a document: its address, what stands there, and when it was true.

    `at` is in seconds since the epoch by the service's clock; None if the document does not say.
    """

    address: str
    raw: Any
    at: float | None


def number(raw: object) -> float | None:
    """Read a number that may be a string; `nan`, infinities and everything else are None."""
    if isinstance(raw, bool) or not isinstance(raw, int | float | str):
        return None
    if isinstance(raw, str) and len(raw) > 64:
        return None
    try:
        value = float(raw)
    except (ValueError, OverflowError):
        return None
    return value if math.isfinite(value) else None


def moment(raw: object) -> float | None:
    """Read a date-time (DSP0266, 9.7) as seconds since the epoch; None before 2000."""
    if not isinstance(raw, str):
        return None
    try:
        parsed = datetime.fromisoformat(raw)
        if parsed.tzinfo is None:
            parsed = parsed.replace(tzinfo=UTC)
        at = parsed.timestamp()
    except (ValueError, OverflowError):
        return None
    return at if at >= MIN_TIME else None


def path_of(link: object) -> str:
    """Return the path that a link leads to, on the same service; empty if it leads nowhere."""
    raw = link.get("@odata.id") if isinstance(link, dict) else link
    if not isinstance(raw, str) or not raw.startswith("/") or raw.startswith("//"):
        return ""
    path = raw.partition("#")[0].partition("?")[0].rstrip("/")
    return path if len(path) <= MAX_PATH and path.isascii() and path.isprintable() else ""


def part(document: object, *names: str) -> Any:  # noqa: ANN401 - JSON
    """Return what stands below the names, None where something is missing or no object."""
    for name in names:
        document = document.get(name) if isinstance(document, dict) else None
    return document


def text(document: object, *names: str) -> str:
    """Return a string below the names, empty if there is none; it is cut where it is long."""
    found = part(document, *names)
    return found.strip()[:200] if isinstance(found, str) else ""


def members(document: Document) -> list[Document]:
    """Members of a collection, be they links or resources."""
    found = document.get("Members")
    return [one for one in found if isinstance(one, dict)] if isinstance(found, list) else []


def elements(document: Document, name: str) -> Iterator[tuple[int, Document]]:
    """Objects of an array that is a property, with their places."""
    found = document.get(name)
    for place, one in enumerate(found if isinstance(found, list) else ()):
        if isinstance(one, dict):
            yield place, one


def values(document: Document, path: str) -> Iterator[Value]:
    """Yield all scalars of a resource, those of resources within it and of excerpts."""
    if isinstance(document.get("MetricValues"), list):
        yield from _report(document)
        return
    left = MAX_VALUES
    stack: list[tuple[Any, str, str, int]] = [(document, path, "", 0)]
    while stack and left > 0:
        node, base, pointer, depth = stack.pop()
        if isinstance(node, list):
            items = [(str(place), one) for place, one in enumerate(node)]
            absent = False
            source = ""
        else:
            own = part(node, "@odata.id")
            if isinstance(own, str) and "#" not in own and path_of(own) and pointer:
                base, pointer = path_of(own), ""
            items = [pair for pair in node.items() if "@" not in pair[0] and pair[0] not in _SKIP]
            state = part(node, "Status", "State")
            absent = state in (SILENT if "Reading" in node else ABSENT) if _word(state) else False
            source = path_of(node.get("DataSourceUri"))
        at = None if isinstance(node, list) else moment(node.get("ReadingTime"))
        for name, one in items:
            left -= 1
            if isinstance(one, dict | list):
                if depth < MAX_DEPTH:
                    stack.append((one, base, f"{pointer}/{name}", depth + 1))
                continue
            raw = None if absent else one
            yield Value(f"{base}#{pointer}/{name}", raw, at)
            if source:
                yield Value(f"{source}#/{name}", raw, at)


def _word(raw: object) -> bool:
    return isinstance(raw, str)


def _report(document: Document) -> Iterator[Value]:
    """Values of a metric report. Of several of one property, which a log has, the newest counts."""
    newest: dict[str, Value] = {}
    common = moment(document.get("Timestamp"))
    for count, (_, one) in enumerate(elements(document, "MetricValues")):
        if count >= MAX_VALUES:
            break
        uri, _, pointer = str(one.get("MetricProperty", ""))[: 2 * MAX_PATH].partition("#")
        path = path_of(uri)
        if not path:
            continue
        address = f"{path}#{pointer or '/Reading'}"
        at = moment(one.get("Timestamp")) or common
        raw = None if _stale(one.get("Oem")) else one.get("MetricValue")
        before = newest.get(address)
        if before is None or (at or 0.0) >= (before.at or 0.0):
            newest[address] = Value(address, raw, at)
    yield from newest.values()


def _stale(oem: object) -> bool:
    """NVIDIA's mark of a value that is not from the last sensing interval."""
    return isinstance(oem, dict) and any(
        part(vendor, "MetricValueStale") is True for vendor in oem.values()
    )
