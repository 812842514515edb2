"""The page that Prometheus scrapes: text format 0.0.4 and OpenMetrics 1.0."""

from __future__ import annotations

import re
from functools import cache, lru_cache
from itertools import chain

import numpy as np
import orjson
from isal import igzip

from collector.batch import SeriesKey
from collector.layout import Layout
from collector.metric import COUNTER, Metric, prometheus_label
from collector.store import Store

# https://prometheus.io/docs/instrumenting/exposition_formats/ and
# https://github.com/prometheus/OpenMetrics/blob/v1.0.0/specification/OpenMetrics.md
TEXT = "text/plain; version=0.0.4; charset=utf-8"
OPENMETRICS = "application/openmetrics-text; version=1.0.0; charset=utf-8"
_VERSIONS = {"text/plain": ("0.0.4",), "application/openmetrics-text": ("1.0.0", "0.0.1")}


class Page:
    """Renders the store's live series; keeps all text but the values from scrape to scrape.

    Args:
        store: Only read.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._layout = Layout(store, _prefix)
        self._version = -1
        self._parts: dict[bool, list[bytes]] = {}
        self._bodies: dict[tuple[bool, bool], bytes] = {}

    def render(self, now: float, *, openmetrics: bool = False, gzip: bool = False) -> bytes:
        """Return the page.

        Args:
            now: Seconds since the epoch, to tell which series are stale.
            openmetrics: OpenMetrics 1.0 instead of text 0.0.4.
            gzip: Compressed.
        """
        if self._layout.refresh(now):
            self._parts.clear()
            self._bodies.clear()
        elif self._store.version != self._version:
            self._bodies.clear()
        self._version = self._store.version
        body = self._bodies.get((openmetrics, gzip))
        if body is None:
            if gzip:
                plain = self.render(now, openmetrics=openmetrics)
                body = igzip.compress(plain, 1, mtime=0)
            else:
                body = self._render(openmetrics)
            self._bodies[openmetrics, gzip] = body
        return body

    def _render(self, openmetrics: bool) -> bytes:
        parts = self._parts.get(openmetrics)
        if parts is None:
            parts = self._parts[openmetrics] = self._build(openmetrics)
        values = self._store.value[self._layout.rows]
        if values.size:
            # One call formats all values, shortest text that reads back as the same double.
            texts = orjson.dumps(values, option=orjson.OPT_SERIALIZE_NUMPY)[1:-1].split(b",")
            for index in np.flatnonzero(np.isinf(values)).tolist():
                texts[index] = b"+Inf" if values[index] > 0 else b"-Inf"
            parts[1::2] = texts
        return b"".join(parts)

    def _build(self, openmetrics: bool) -> list[bytes]:
        """Text before each value, each followed by room for the value, and the end of the page."""
        prefixes = self._layout.pieces()
        for metric, first, _ in self._layout.families:
            prefixes[first] = b"\n" + _head(metric, openmetrics) + prefixes[first]
        parts = list(chain.from_iterable((prefix, b"") for prefix in prefixes))
        parts.append(b"\n# EOF\n" if openmetrics else b"\n")
        parts[0] = parts[0][1:]
        return parts


def _prefix(key: SeriesKey) -> bytes:
    r"""Make `\nname{labels} `; a label with an empty value is the same as none, so left out."""
    metric, entity, labels = key
    values = (*entity.key, *entity.kind.constants.values(), *labels)
    text = ",".join(
        [
            f'{name}="{_escape(value)}"'
            for name, value in zip(_label_names(metric), values, strict=True)
            if value
        ]
    )
    if text:
        text = f"{{{text}}}"
    # Names of processes and files may hold bytes that are no UTF-8.
    return f"\n{metric.prometheus}{text} ".encode(errors="replace")


@cache
def _label_names(metric: Metric) -> tuple[str, ...]:
    return tuple(map(prometheus_label, metric.label_names))


def _escape(text: str, quote: str = r"\"") -> str:
    return text.replace("\\", r"\\").replace("\n", r"\n").replace('"', quote)


def _head(metric: Metric, openmetrics: bool) -> bytes:
    """Make what stands before a family's first sample."""
    name = metric.prometheus
    kind = metric.instrument.value
    if not openmetrics:
        text = _escape(metric.help, '"')
        return f"# HELP {name} {text}\n# TYPE {name} {kind}".encode()
    if metric.instrument is COUNTER:
        name = name.removesuffix("_total")
    lines = [f"# HELP {name} {_escape(metric.help)}", f"# TYPE {name} {kind}"]
    # A unit must be the end of the name; it is what the name has beyond the dotted one.
    unit = name.removeprefix(re.sub("[^A-Za-z0-9:]+", "_", metric.otlp) + "_")
    if unit != name:
        lines.append(f"# UNIT {name} {unit}")
    return "\n".join(lines).encode()


@lru_cache(maxsize=64)
def wants_openmetrics(accept: str) -> bool:
    """Say whether an `Accept` header prefers OpenMetrics 1.0 to text 0.0.4."""
    offered: dict[str, float] = {}
    for media, parameters, quality in _preferences(accept):
        version = parameters.get("version")
        if version is None or version in _VERSIONS.get(media, ()):
            offered[media] = max(quality, offered.get(media, 0.0))
    text = [offered[media] for media in ("text/plain", "text/*", "*/*") if media in offered]
    return offered.get("application/openmetrics-text", 0.0) > max(text[:1], default=0.0)


@lru_cache(maxsize=64)
def wants_gzip(accept_encoding: str) -> bool:
    """Say whether an `Accept-Encoding` header allows gzip."""
    qualities = {coding: quality for coding, _, quality in _preferences(accept_encoding)}
    return qualities.get("gzip", qualities.get("*", 0.0)) > 0


def _preferences(header: str) -> list[tuple[str, dict[str, str], float]]:
    """Parse the items of a header of preferences (RFC 9110, 12.4): value, parameters, quality."""
    found = []
    for item in header.split(","):
        value, *pairs = (part.strip().lower() for part in item.split(";"))
        parameters = {
            name.strip(): setting.strip().strip('"')
            for name, _, setting in (pair.partition("=") for pair in pairs)
        }
        try:
            quality = float(parameters.pop("q", "1"))
        except ValueError:
            quality = 0.0
        found.append((value, parameters, quality))
    return found
