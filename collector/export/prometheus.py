"""The page that Prometheus scrapes: text format 0.0.4 and OpenMetrics 1.0."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache, lru_cache
from itertools import chain, zip_longest

import numpy as np
import orjson
from isal import isal_zlib

from collector.batch import SeriesKey
from collector.export.layout import Layout
from collector.history import Floats
from collector.metric import COUNTER, Metric, prometheus_label
from collector.store import Store

# https://prometheus.io/docs/instrumenting/exposition_formats/ and
# https://github.com/prometheus/OpenMetrics/blob/v1.0.0/specification/OpenMetrics.md
TEXT = "text/plain; version=0.0.4; charset=utf-8"
OPENMETRICS = "application/openmetrics-text; version=1.0.0; charset=utf-8"
_VERSIONS = {"text/plain": ("0.0.4",), "application/openmetrics-text": ("1.0.0", "0.0.1")}

_BLOCK = 700  # series; about 100 kB
_GZIP = 31  # window bits, as zlib has them: 15, and 16 for a gzip header


class _Frame:
    """All of a page but the values, in blocks: text, room for a value, text, room, …, text."""

    def __init__(self, layout: Layout, openmetrics: bool) -> None:
        prefixes = layout.pieces()
        for metric, first, _ in layout.families:
            prefixes[first] = b"\n" + head(metric, openmetrics) + prefixes[first]
        self.blocks = [
            list(chain.from_iterable((prefix, b"") for prefix in prefixes[first : first + _BLOCK]))
            for first in range(0, len(prefixes), _BLOCK)
        ] or [[b"\n"]]
        self.blocks[0][0] = self.blocks[0][0][1:]
        if prefixes:
            self.blocks[-1].append(b"\n")
        if openmetrics:
            self.blocks[-1][-1] += b"# EOF\n"
        self.length = sum(map(len, chain.from_iterable(self.blocks)))


class Page:
    """Renders the store's live series; keeps all text but the values from scrape to scrape.

    It works by blocks of series, so that what is put together stays in the processor's cache and
    a page of megabytes never is in memory as a whole; one piece takes twice the time at 100,000
    series.

    Args:
        store: Only read.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._layout = Layout(store, prefix)
        self._version = -1
        self._frames: dict[bool, _Frame] = {}
        self._texts: list[bytes] = []
        self._packed: dict[bool, bytes] = {}

    def render(self, now: float, *, openmetrics: bool = False, gzip: bool = False) -> bytes:
        """Return the page; `stream` says what the arguments are."""
        return b"".join(self.stream(now, openmetrics=openmetrics, gzip=gzip)[1])

    def stream(
        self, now: float, *, openmetrics: bool = False, gzip: bool = False
    ) -> tuple[int, Iterator[bytes]]:
        """Return the page's length in bytes, and its bytes in blocks.

        The values are those of this call, however late the blocks are taken.

        Args:
            now: Seconds since the epoch, to tell which series are stale.
            openmetrics: OpenMetrics 1.0 instead of text 0.0.4.
            gzip: Compressed.
        """
        moved = self._layout.refresh(now)
        if moved:
            self._frames.clear()
        if moved or self._version != self._store.version:
            self._version = self._store.version
            self._texts = _format(self._store.value[self._layout.rows])
            self._packed.clear()
        if openmetrics not in self._frames:
            self._frames[openmetrics] = _Frame(self._layout, openmetrics)
        frame, texts = self._frames[openmetrics], self._texts
        if not gzip:
            commas = len(self._layout.rows) - len(texts)
            return frame.length + sum(map(len, texts)) - commas, _fill(frame.blocks, texts)
        packed = self._packed.get(openmetrics)
        if packed is None:
            packer = isal_zlib.compressobj(1, isal_zlib.DEFLATED, _GZIP)
            blocks = [packer.compress(block) for block in _fill(frame.blocks, texts)]
            packed = self._packed[openmetrics] = b"".join([*blocks, packer.flush()])
        return len(packed), iter((packed,))


def _format(values: Floats) -> list[bytes]:
    """Write each block's values, the shortest text that reads back as the same double."""
    infinite = np.isinf(values)
    texts = []
    for first in range(0, len(values), _BLOCK):
        block = slice(first, first + _BLOCK)
        text = orjson.dumps(values[block], option=orjson.OPT_SERIALIZE_NUMPY)[1:-1]
        for value in values[block][infinite[block]]:  # null in JSON
            text = text.replace(b"null", b"+Inf" if value > 0 else b"-Inf", 1)
        texts.append(text)
    return texts


def _fill(blocks: list[list[bytes]], texts: list[bytes]) -> Iterator[bytes]:
    """Put the values in."""
    for block, text in zip_longest(blocks, texts):
        if text is not None:
            block[1::2] = text.split(b",")
        yield b"".join(block)


def prefix(key: SeriesKey) -> bytes:
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


def head(metric: Metric, openmetrics: bool) -> bytes:
    """Make what stands before a family's first sample: help, type, unit."""
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
